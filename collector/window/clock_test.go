package window

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"twilio_operations_exporter/twilio"
)

// The window's clock goes as fast as the faster of the local ones.
func TestClock(t *testing.T) {
	var mono time.Duration
	wall := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	c := clock{monotonic: func() time.Duration { return mono }, wall: func() time.Time { return wall }, lastWall: wall}
	for _, tt := range []struct {
		name             string
		mono, wall, want time.Duration
	}{
		{"both", time.Minute, time.Minute, time.Minute},
		{"suspended", time.Second, 8 * time.Hour, 8 * time.Hour},
		{"set back", time.Minute, -3 * time.Hour, time.Minute},
		{"set ahead again", time.Minute, 3*time.Hour + time.Minute, 3*time.Hour + time.Minute},
		{"slewed", time.Minute, 59 * time.Second, time.Minute},
	} {
		before := c.tell()
		mono, wall = mono+tt.mono, wall.Add(tt.wall)
		if got := c.tell() - before; got != tt.want {
			t.Errorf("%s: went on by %v, want %v", tt.name, got, tt.want)
		}
	}
}

// After a night asleep, everything is as old as the night was long: what arrived and what was delivered meanwhile is
// shown at once.
func TestSuspend(t *testing.T) {
	for _, asleep := range []time.Duration{time.Hour, 8 * time.Hour} {
		t.Run(asleep.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := testOptions()
				o.Length = 24 * time.Hour
				l := newLife(t, 1, o)
				l.rate, l.lifetime, l.ahead = steady(2), 3*time.Minute, time.Hour
				l.pass(o.Length + time.Hour)
				for range 30 {
					l.refresh()
					l.pass(o.Interval)
				}
				awake := l.w.clock.monotonic
				l.pass(asleep)
				l.w.clock.monotonic = func() time.Duration { return awake() - asleep }
				l.lavish = true
				l.refresh() // the brute force looks at how old everything is
			})
		})
	}
}

// While a refresh is under way the API's clock turns out to be elsewhere: it starts over, a few times.
func TestClockThatMovesDuringARefresh(t *testing.T) {
	for _, tt := range []struct {
		name   string
		wrong  func(request int) time.Duration
		passes bool
	}{
		{"never", func(int) time.Duration { return 0 }, true},
		{"by less than a minute", func(n int) time.Duration { return time.Duration(n%2) * 50 * time.Second }, true},
		{"once", func(n int) time.Duration { return time.Duration(min(n, 5)/5) * 30 * time.Minute }, true},
		{"at every request", func(n int) time.Duration { return time.Duration(n%2) * 30 * time.Minute }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := &fakeAPI{}
				api.fill(5, 4*time.Hour, allCompleted)
				w := New(testOptions())
				refreshed(t, w, api)
				before := w.Snapshot()
				n := 0
				api.between = func(twilio.Query, int) {
					api.mu.Lock()
					defer api.mu.Unlock()
					n++
					api.wrong = tt.wrong(n)
				}
				<-time.After(time.Hour)
				err := w.Refresh(t.Context(), api, &Progress{})
				if tt.passes != (err == nil) || !tt.passes && (!errors.Is(err, errClockMoved) || w.Snapshot() != before) {
					t.Fatalf("error %v", err)
				}
				if tt.passes {
					if got, want := w.Snapshot().Operations(), api.since(w.first); got != want {
						t.Errorf("%d operations, want %d", got, want)
					}
				}
			})
		})
	}
}

// Pages that were read before a refresh started over stay read: there are never more of them than are expected.
func TestProgressAcrossAStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, p := &fakeAPI{}, &Progress{}
		api.fill(20, 4*time.Hour, allCompleted)
		requests := 0
		api.between = func(twilio.Query, int) {
			api.mu.Lock()
			defer api.mu.Unlock()
			if requests++; requests == 300 {
				api.wrong = 30 * time.Minute
			}
			if read, expected := p.Read.Load(), p.Expected.Load(); read > expected {
				t.Errorf("%d of %d pages read", read, expected)
			}
		}
		w := New(testOptions())
		if err := w.Refresh(t.Context(), api, p); err != nil {
			t.Fatal(err)
		}
		if moved := minuteOf(api.Now().Add(-4 * time.Hour)); w.first != moved {
			t.Errorf("it did not start over: the window begins %d minutes away", w.first-moved)
		}
	})
}

// TestClocksThatJump lets the idea of what time it is for the API go wrong and right again, between refreshes and in
// the middle of them, while requests fail: nothing is counted that is not new, and when the clock is right, what is
// shown and what is counted is right again.
func TestClocksThatJump(t *testing.T) {
	jumps := []time.Duration{
		30 * time.Minute, -30 * time.Minute, 2 * time.Hour, -2 * time.Hour,
		25 * time.Hour, -25 * time.Hour, 30 * time.Hour, -30 * time.Hour,
	}
	for _, length := range []time.Duration{time.Hour, 24 * time.Hour, 168 * time.Hour} {
		for _, jump := range jumps {
			for seed := range max(1, *seeds/8) {
				t.Run(fmt.Sprint(length, jump, seed), func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) { jumping(t, length, jump, rand.New(rand.NewPCG(seed, 3))) })
				})
			}
		}
	}
}

func jumping(t *testing.T, length, jump time.Duration, rnd *rand.Rand) {
	o := testOptions()
	o.Length = length
	perMinute := 1
	if length > 24*time.Hour {
		o.Interval = 10 * time.Minute
		o.PageSize = 50
	}
	api := &fakeAPI{order: fakeOrders[rnd.IntN(len(fakeOrders))]}
	api.fill(perMinute, length+time.Hour, allCompleted)
	w := New(o)
	requests, jumpAt, failAt := 0, -1, -1
	target := time.Duration(0)
	api.fail = func(twilio.Query) error {
		api.mu.Lock()
		defer api.mu.Unlock()
		requests++
		if requests == jumpAt {
			api.wrong = target
		}
		if requests == failAt {
			return errFake
		}
		return nil
	}
	arrived, id := int64(0), 0
	pass := func() {
		<-time.After(o.Interval)
		api.forget(time.Now().Add(-retention))
		for range int(o.Interval.Minutes()) * perMinute {
			id++
			op := newOperation(rnd, time.Now().Add(-time.Duration(rnd.Int64N(int64(o.Interval)))), twilio.StatusCompleted)
			op.ID, op.Stats = fmt.Sprint("arrived", id), twilio.Stats{twilio.Total: 1}
			api.add(op)
			arrived++
		}
	}
	refresh := func() bool {
		requests, failAt = 0, -1
		if rnd.IntN(4) == 0 {
			failAt = 1 + rnd.IntN(10)
		}
		return w.Refresh(t.Context(), api, &Progress{}) == nil
	}
	for !refresh() {
	}
	arrived = 0
	counted := func() int64 { return w.Snapshot().Grown[twilio.Total] }
	exact := func(when string) {
		t.Helper()
		if got, want := w.Snapshot().Operations(), api.since(w.first); got != want {
			t.Fatalf("%s: %d operations, want %d", when, got, want)
		}
	}
	for range 5 {
		pass()
		if refresh() {
			exact("before")
			if counted() != arrived {
				t.Fatalf("%d counted, %d have arrived", counted(), arrived)
			}
		}
	}
	for _, target = range []time.Duration{jump, 0, -jump / 2, 0} {
		jumpAt = 1 + rnd.IntN(5) // of the next refresh
		for range 3 {
			pass()
			before := counted()
			if refresh() && counted() > arrived || counted() < before {
				t.Fatalf("%d counted, %d have arrived", counted(), arrived)
			}
			jumpAt = -1
		}
		api.mu.Lock()
		api.wrong = target // also if no refresh got as far
		api.mu.Unlock()
	}
	for !refresh() {
		pass()
	}
	first, before := counted(), arrived
	for range 3 {
		pass()
		if !refresh() {
			continue
		}
		exact("after")
		if got, want := counted()-first, arrived-before; got != want {
			t.Fatalf("%d counted, %d have arrived since the clock is right", got, want)
		}
	}
}
