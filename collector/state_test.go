package collector

import (
	"context"
	"errors"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"twilio_operations_exporter/collector/window"
	"twilio_operations_exporter/twilio"
)

// disk records the states that a refresher keeps.
type disk struct {
	mu     sync.Mutex
	states [][]byte
	times  []time.Time
}

func (d *disk) keep(state []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.states = append(d.states, state)
	d.times = append(d.times, time.Now())
}

func (d *disk) last() []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.states[len(d.states)-1]
}

func (d *disk) kept() []time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.times)
}

// restarted returns a rig whose refresher resumes from a state.
func restarted(t *testing.T, from *rig, state []byte, change func(*Settings)) *rig {
	t.Helper()
	g := newRig(t, change)
	g.list = from.list
	g.api = from.api
	g.transport = from.transport
	if err := g.Resume(state); err != nil {
		t.Fatal(err)
	}
	return g
}

// grown returns operations with more messages and a new update.
func grown(ops []twilio.Operation, by int64) []twilio.Operation {
	changed := slices.Clone(ops)
	for i := range changed {
		changed[i].Stats[twilio.Total] += by
		changed[i].UpdatedAt = time.Now()
	}
	return changed
}

// TestResume checks that counters and numbers are the same after a restart, and that the account is not up before a
// refresh has ended.
func TestResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d disk
		g := newRig(t, nil)
		g.KeepStates(d.keep)
		ops := completed(3)
		g.list.set(ops...)
		g.run(0)
		synctest.Wait()
		g.list.set(grown(ops, 5)...)
		wait(time.Minute)
		g.fail(status(http.StatusInternalServerError))
		wait(time.Minute)
		g.fail()
		before := g.scrape(t.Context())
		g.want(before, map[string]float64{
			"twilio_up": 0, "twilio_messages_total": 15, "twilio_exporter_refreshes_total/success": 2,
			"twilio_exporter_refreshes_total/error": 1, "twilio_exporter_refresh_errors_total/server": 1,
			"twilio_operation_messages/COMPLETED": 45,
		})

		created := g.created
		g.stop()
		<-g.done

		wait(3 * time.Minute)
		r := restarted(t, g, d.last(), nil)
		after := r.scrape(t.Context())
		for name, value := range before {
			if !strings.HasPrefix(name, "twilio_exporter_api_") && name != "twilio_exporter_operations_read_total" &&
				name != "twilio_exporter_clock_skew_seconds" && after[name] != value {
				t.Errorf("%s is %v, was %v", name, after[name], value)
			}
		}

		if !r.created.Equal(created) {
			t.Errorf("the counters were created at %v, now at %v", created, r.created)
		}
		if s := r.Status(); r.Ready() || s.Phase != PhaseStarting || !s.Current {
			t.Errorf("ready %t, phase %s, current %t", r.Ready(), s.Phase, s.Current)
		}

		r.list.set(append(grown(ops, 7), twilio.Operation{
			ID: "comms_operation_new", Status: twilio.StatusCompleted, CreatedAt: time.Now(), UpdatedAt: time.Now(),
			Stats: twilio.Stats{twilio.Total: 100},
		})...)

		r.run(0)
		synctest.Wait()
		r.want(r.scrape(t.Context()), map[string]float64{
			"twilio_up": 1, "twilio_messages_total": 15 + 6 + 100, "twilio_exporter_refreshes_total/success": 3,
			"twilio_exporter_refreshes_total/error": 1, "twilio_operation_messages/COMPLETED": 151,
		})

		if s := r.Status(); !r.Ready() || s.Phase != PhaseFresh {
			t.Errorf("ready %t, phase %s", r.Ready(), s.Phase)
		}
	})
}

// TestKeptBeforeShown checks that a state is kept before a scrape sees its counters, so that no scrape is ahead of the
// last state.
func TestKeptBeforeShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, nil)
		ops := completed(3)
		n := 0
		g.KeepStates(func(state []byte) {
			n++
			shown := g.scrape(t.Context())
			kept := restarted(t, g, state, nil).scrape(t.Context())
			failed := n%3 == 0
			g.want(shown, map[string]float64{
				"twilio_exporter_refreshes_total/success": float64((n - 1) - (n-1)/3),
				"twilio_exporter_refreshes_total/error":   float64((n - 1) / 3),
			})

			ahead := map[string]float64{"twilio_exporter_refreshes_total/success": 1}
			if failed {
				ahead = map[string]float64{
					"twilio_exporter_refreshes_total/error": 1, "twilio_exporter_refresh_errors_total/auth": 1,
				}
			} else if n > 1 {
				ahead["twilio_messages_total"] = 15
			}

			for name, want := range ahead {
				if got := kept[name] - shown[name]; got != want {
					t.Errorf("state %d is ahead of what is shown by %v of %s, want %v", n, got, name, want)
				}
			}

			if n%3 == 2 {
				g.fail(status(http.StatusUnauthorized))
				return
			}

			g.fail()
			ops = grown(ops, 5)
			g.list.set(ops...)
		})

		g.list.set(ops...)
		g.run(0)
		wait(8*time.Minute + time.Second)
		if n != 9 {
			t.Errorf("kept %d times in 9 refreshes", n)
		}
	})
}

// spread returns n completed operations created over the last hours.
func spread(n int) (ops []twilio.Operation) {
	for i, op := range completed(n) {
		op.CreatedAt = op.CreatedAt.Add(-time.Duration(i) * 3 * time.Hour / time.Duration(n))
		ops = append(ops, op)
	}
	return ops
}

// TestKeptMeanwhile checks that a long refresh keeps what it has read, every now and then and when the program stops.
func TestKeptMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d disk
		g := newRig(t, func(s *Settings) { s.Interval = 5 * time.Minute }, slow(2*time.Second))
		g.KeepStates(d.keep)
		g.list.set(spread(400)...)
		started := time.Now()
		kept := func() (after []time.Duration) {
			for _, at := range d.kept() {
				after = append(after, at.Sub(started).Truncate(time.Second))
			}
			return after
		}

		g.run(0)
		wait(12 * time.Second)
		g.stop()
		<-g.done
		want := []time.Duration{5 * time.Second, 10 * time.Second, 12 * time.Second}
		if after := kept(); !slices.Equal(after, want) {
			t.Errorf("kept after %v of a first refresh, want %v", after, want)
		}

		r := restarted(t, g, d.last(), func(s *Settings) { s.Interval = 5 * time.Minute })
		r.want(r.scrape(t.Context()), map[string]float64{
			"twilio_up": 0, "twilio_operations/COMPLETED": none, "twilio_messages_total": 0,
			"twilio_exporter_refreshes_total/success": 0, "twilio_exporter_refreshes_total/error": 0,
		})

		if s := r.Status(); s.Snapshot != nil || s.Current {
			t.Error("a part of a first read is shown")
		}

		d.states, d.times = nil, nil
		r.KeepStates(d.keep)
		r.run(0)
		wait(2 * time.Minute)
		r.want(r.scrape(t.Context()), map[string]float64{
			"twilio_up": 1, "twilio_operations/COMPLETED": 400, "twilio_messages_total": 0,
		})
		d.states, d.times = nil, nil
		r.fail(slow(70 * time.Second))
		for len(d.kept()) == 0 {
			wait(time.Second)
		}
		if after := d.kept()[0].Sub(r.Status().Started); after != keepEvery {
			t.Errorf("a later refresh is kept after %v", after)
		}
	})
}

// TestKilledAgainAndAgain checks that a program that is killed every 20 seconds completes a first read of 400 pages, at
// 10 a second, within twice the time that it takes undisturbed.
func TestKilledAgainAndAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		change := func(s *Settings) { s.Interval = time.Hour }
		undisturbed := newRig(t, change, slow(400*time.Millisecond)) // for each of 4 workers
		undisturbed.list.set(spread(4000)...)
		started := time.Now()
		undisturbed.run(0)
		undisturbed.awaitRefresh()
		alone := time.Since(started)
		undisturbed.stop()
		<-undisturbed.done

		var state []byte
		g := undisturbed
		started = time.Now()
		for lives := 1; ; lives++ {
			if lives > 10 {
				t.Fatal("it does not get on")
			}
			next := newRig(t, change)
			next.list, next.api, next.transport = g.list, g.api, g.transport
			if state != nil {
				if err := next.Resume(state); err != nil {
					t.Fatal(err)
				}
			}

			g = next
			killed := false
			g.KeepStates(func(b []byte) {
				if !killed {
					state = b
				}
			})

			g.run(0)
			wait(20 * time.Second)
			if g.Ready() {
				break
			}
			killed = true
			g.stop()
			<-g.done
		}

		took := g.state.succeeded.Sub(started)
		t.Logf("%v, undisturbed %v", took, alone)
		if took > 2*alone {
			t.Errorf("it took %v, undisturbed %v", took, alone)
		}
		g.want(g.scrape(t.Context()), map[string]float64{"twilio_operations/COMPLETED": 4000, "twilio_messages_total": 0})
	})
}

func (g *rig) awaitRefresh() {
	for !g.Ready() {
		wait(time.Second)
	}
}

// TestResumedNumbersAge checks that a restart does not affect how long numbers are exported, and that numbers from the
// future are not.
func TestResumedNumbersAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d disk
		g := newRig(t, nil)
		g.KeepStates(d.keep)
		g.list.set(completed(3)...)
		g.run(0)
		synctest.Wait()
		g.stop()
		<-g.done

		wait(9 * time.Minute)
		r := restarted(t, g, d.last(), nil)
		r.want(r.scrape(t.Context()), map[string]float64{"twilio_operations/COMPLETED": 3, "twilio_messages_total": 0})
		wait(time.Minute + time.Second)
		for _, r := range []*rig{r, restarted(t, g, d.last(), nil)} {
			r.want(r.scrape(t.Context()), map[string]float64{
				"twilio_operations/COMPLETED": none, "twilio_messages_total": 0, "twilio_exporter_refreshes_total/success": 1,
			})
		}

		future := altered(t, d.last(), func(k *kept) { k.Succeeded = time.Now().Add(time.Hour) })
		r = restarted(t, g, future, nil)
		r.want(r.scrape(t.Context()), map[string]float64{"twilio_operations/COMPLETED": none, "twilio_messages_total": 0})
		r.run(0)
		synctest.Wait()
		r.want(r.scrape(t.Context()), map[string]float64{"twilio_operations/COMPLETED": 3})
	})
}

// altered returns a state with a change.
func altered(t *testing.T, state []byte, change func(*kept)) []byte {
	t.Helper()
	var k kept
	if err := k.parse(slices.Clone(state)); err != nil {
		t.Fatal(err)
	}
	change(&k)
	changed, err := k.bytes()
	if err != nil {
		t.Fatal(err)
	}
	return changed
}

// TestResumeRefuses checks that a state that is of no use changes nothing.
func TestResumeRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d disk
		g := newRig(t, nil)
		g.KeepStates(d.keep)
		g.list.set(completed(3)...)
		g.run(0)
		synctest.Wait()
		g.stop()
		<-g.done

		sms := ErrorCount{"30007", "SMS", 1, ""}
		sampledErrors := func(counts ...ErrorCount) func(*kept) {
			return func(k *kept) { k.Sampled.Errors = counts }
		}
		for _, tt := range []struct {
			name  string
			after time.Duration
			state []byte
			old   bool
		}{
			{"empty", 0, nil, false},
			{"cut short", 0, d.last()[:100], false},
			{"no window", 0, altered(t, d.last(), func(k *kept) { k.Window = nil }), false},
			{"counts below 0", 0, altered(t, d.last(), func(k *kept) { k.Results["success"] = -1 }), false},
			{"counts beyond all", 0, altered(t, d.last(), func(k *kept) { k.Errors["auth"] = math.MaxInt }), false},
			{"a map of many", 0, slices.Concat([]byte(`{"Results":{`+strings.Repeat(`"a":1,`, 1e5)), d.last()[1:]), false},
			{"counters of no year", 0, altered(t, d.last(), func(k *kept) { k.Created = time.Time{} }), false},
			{"a pair twice", 0, altered(t, d.last(), sampledErrors(sms, sms)), false},
			{"a code with a NUL", 0, altered(t, d.last(), sampledErrors(ErrorCount{"1\x00", "SMS", 1, ""})), false},
			{"a phone number", 0, altered(t, d.last(), sampledErrors(ErrorCount{"15550001234", "SMS", 1, ""})), false},
			{"an odd channel", 0, altered(t, d.last(), sampledErrors(ErrorCount{"1", "sms\n", 1, ""})), false},
			{"errors below 0", 0, altered(t, d.last(), sampledErrors(ErrorCount{"1", "SMS", -1, ""})), false},
			{"many errors", 0, altered(t, d.last(), sampledErrors(make([]ErrorCount, 52)...)), false},
			{"a nameless operation", 0, altered(t, d.last(), func(k *kept) {
				k.Sampled.Operations = []SampledOperation{{ID: "a\nb"}}
			}), false},
			{"a tag with a NUL", 0, altered(t, d.last(), func(k *kept) {
				k.Sampled.Operations = []SampledOperation{{ID: "a", Tags: map[string]string{"team": "\x00"}}}
			}), false},
			{"altered window", 0, altered(t, d.last(), func(k *kept) { k.Window[len(k.Window)-1]++ }), false},
			{"older than the window", 5 * time.Hour, d.last(), true},
		} {
			wait(tt.after)
			r := newRig(t, nil)
			before := r.scrape(t.Context())
			err := r.Resume(tt.state)
			if err == nil || errors.Is(err, window.ErrOld) != tt.old {
				t.Errorf("%s: error %v", tt.name, err)
			}
			if after := r.scrape(t.Context()); !maps.Equal(after, before) {
				t.Errorf("%s: %v, was %v", tt.name, after, before)
			}
		}
	})
}

// TestResumeOtherVersion checks that a program resumes the counts of those results and reasons that it knows.
func TestResumeOtherVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d disk
		g := newRig(t, nil)
		g.KeepStates(d.keep)
		g.run(0)
		synctest.Wait()
		g.stop()
		<-g.done
		older := altered(t, d.last(), func(k *kept) {
			k.Errors = map[string]int{"auth": 4, "of another version": 2}
			k.Results["error"] = 6
		})

		r := restarted(t, g, older, nil)
		r.want(r.scrape(t.Context()), map[string]float64{
			"twilio_exporter_refresh_errors_total/auth": 4, "twilio_exporter_refresh_errors_total/server": 0,
			"twilio_exporter_refreshes_total/error": 6, "twilio_exporter_refresh_errors_total/of another version": none,
		})
	})
}

// TestResumeOnScrape checks that an account that refreshes on each scrape keeps its state before that scrape is
// answered.
func TestResumeOnScrape(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d disk
		g := newRig(t, onScrape)
		g.KeepStates(d.keep)
		ops := completed(3)
		g.list.set(ops...)
		g.run(0)
		g.want(g.scrape(t.Context()), map[string]float64{"twilio_up": 1, "twilio_messages_total": 0})
		g.list.set(grown(ops, 5)...)
		g.want(g.scrape(t.Context()), map[string]float64{"twilio_up": 1, "twilio_messages_total": 15})
		g.stop()
		<-g.done

		r := restarted(t, g, d.last(), onScrape)
		r.fail(status(http.StatusInternalServerError))
		r.run(0)
		r.want(r.scrape(t.Context()), map[string]float64{
			"twilio_up": 0, "twilio_messages_total": 15, "twilio_operations/COMPLETED": 3,
		})
	})
}

// TestResumeSampled checks that results of look-ups are kept before they are shown, too.
func TestResumeSampled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d disk
		g := newRig(t, nil)
		const counted = "twilio_errors_sampled_total/SMS/30007"
		g.KeepStates(func(state []byte) {
			d.keep(state)
			shown, kept := g.scrape(t.Context())[counted], restarted(t, g, state, nil).scrape(t.Context())[counted]
			if kept < shown {
				t.Errorf("%v are shown, %v kept", shown, kept)
			}
		})

		g.LookUpLost(func(_ context.Context, failing []*twilio.Operation) {
			g.Found(failing[0], []SampledMessage{{ID: "comms_message_1", Code: "30007", Channel: "SMS"}})
		})
		ops := completed(1)
		ops[0].Stats = twilio.Stats{twilio.Total: 100, twilio.Failed: 50}
		g.list.set(ops...)
		g.run(0)
		synctest.Wait()
		g.want(g.scrape(t.Context()), map[string]float64{counted: 1})
		if n := len(d.kept()); n != 2 {
			t.Errorf("kept %d times, want once after the refresh and once after the look-up", n)
		}
		g.stop()
		<-g.done
		g.want(restarted(t, g, d.last(), nil).scrape(t.Context()), map[string]float64{
			counted: 1, "twilio_named_operation_messages_sampled/comms_operation_0": 1,
		})
	})
}
