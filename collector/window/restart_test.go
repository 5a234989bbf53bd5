package window

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"twilio_operations_exporter/twilio"
)

// restarted is the window of a program that starts with what another has left.
func restarted(t *testing.T, o Options, left State) *Window {
	t.Helper()
	w, err := Restore(o, reloaded(t, left))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(left.snapshot, w.Snapshot(), cmpopts.EquateEmpty(), sameStats, sameOperation); diff != "" {
		t.Fatalf("a restart changes what is shown (-before +after):\n%s", diff)
	}
	return w
}

// These compare what a snapshot is full of at once, not number by number.
var (
	sameStats     = cmp.Comparer(func(a, b twilio.Stats) bool { return a == b })
	sameOperation = cmp.Comparer(func(a, b *twilio.Operation) bool {
		if a == nil || b == nil {
			return a == b
		}
		sameTimes := a.CreatedAt.Equal(b.CreatedAt) && a.UpdatedAt.Equal(b.UpdatedAt)
		x, y := *a, *b
		x.CreatedAt, x.UpdatedAt = y.CreatedAt, y.UpdatedAt
		return sameTimes && x == y
	})
)

// reloaded is a state that was written and read.
func reloaded(t testing.TB, s State) (loaded State) {
	t.Helper()
	data, err := s.MarshalBinary()
	if err == nil {
		err = loaded.UnmarshalBinary(data)
	}
	if err != nil {
		t.Fatal(err)
	}
	return loaded
}

// busy is an account with some of everything, and a window of it.
func busy(t *testing.T, o Options) (*fakeAPI, *Window) {
	t.Helper()
	api := &fakeAPI{}
	statuses := []twilio.Status{"PAUSED", twilio.StatusCanceled, twilio.StatusScheduled, twilio.StatusProcessing}
	api.fill(5, o.Length+time.Hour, func(i int) twilio.Status {
		if i%10 < len(statuses) {
			return statuses[i%10]
		}
		return twilio.StatusCompleted
	})
	for i, op := range api.byTime {
		op.Stats = twilio.Stats{twilio.Total: 100, twilio.Delivered: 80, twilio.Failed: int64(i % 20)}
	}
	w := New(o)
	refreshed(t, w, api)
	return api, w
}

// A restart costs what is due by then, not a first read; what has changed meanwhile counts once.
func TestRestart(t *testing.T) {
	for _, down := range []time.Duration{time.Minute, 5 * time.Minute, 3 * time.Hour} {
		t.Run(down.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := testOptions()
				api, w := busy(t, o)
				<-time.After(o.Interval)
				refreshed(t, w, api)
				left := w.Save()
				before := w.Snapshot()

				<-time.After(down)
				w = restarted(t, o, left)
				for i := range 3 {
					op := newOperation(newRand(uint64(i)), time.Now().Add(-down/2), twilio.StatusCompleted)
					op.Stats = twilio.Stats{twilio.Total: 7}
					api.add(op)
				}
				api.requests = 0
				after := refreshed(t, w, api)
				if got := after.Grown[twilio.Total] - before.Grown[twilio.Total]; got != 21 {
					t.Errorf("counted %d messages, want 21", got)
				}
				if got, want := after.Operations(), api.since(w.first); got != want {
					t.Errorf("%d operations, want %d", got, want)
				}
				if all := int(api.since(w.first)) / o.PageSize; down < time.Hour && api.requests > all*2/3 {
					t.Errorf("%d requests, where reading all takes %d", api.requests, all)
				}
			})
		})
	}
}

// Nothing of a state older than the window is taken.
func TestRestartAfterTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := testOptions()
		_, w := busy(t, o)
		left := w.Save()
		<-time.After(o.Length)
		restarted(t, o, left)
		<-time.After(time.Second)
		if _, err := Restore(o, left); !errors.Is(err, ErrOld) {
			t.Errorf("error %v, want ErrOld", err)
		}
		o.Length *= 2
		restarted(t, o, left)
	})
}

// After a clock that ran backwards, everything is due.
func TestRestartBeforeTheSave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := testOptions()
		api, w := busy(t, o)
		left := w.Save()
		left.wall = left.wall.Add(time.Hour)
		w = restarted(t, o, left)
		api.change(func(ops []*fakeOperation) {
			for _, op := range ops {
				op.Stats[twilio.Delivered]++
			}
		})
		s := refreshed(t, w, api)
		if got, want := s.Grown[twilio.Delivered], api.since(w.first); got != want {
			t.Errorf("counted %d, want %d", got, want)
		}
		started := w.clock.now
		<-time.After(o.Interval)
		refreshed(t, w, api)
		if passed := w.clock.now - started; passed != o.Interval {
			t.Errorf("%v have passed by the window's clock, want %v", passed, o.Interval)
		}
	})
}

// A state of a clock that was a year ahead shows what it showed; from then on, what is new counts, and nothing else.
func TestRestartFromTheFuture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := testOptions()
		api, w := busy(t, o)
		const year = 365 * 24 * time.Hour
		left := w.Save()
		left.wall = left.wall.Add(year)
		left.first += minute(year / time.Minute)

		w = restarted(t, o, left)
		counted := w.Snapshot().Grown
		s := refreshed(t, w, api)
		if got, want := s.Operations(), api.since(w.first); got != want || s.Grown != counted {
			t.Errorf("%d operations, want %d; counted %v, was %v", got, want, s.Grown, counted)
		}
		for i := range uint64(5) {
			<-time.After(o.Interval)
			op := newOperation(newRand(i), time.Now(), twilio.StatusCompleted)
			op.Stats = twilio.Stats{twilio.Total: 7}
			api.add(op)
			s = refreshed(t, w, api)
		}
		if got := s.Grown[twilio.Total] - counted[twilio.Total]; got != 35 {
			t.Errorf("counted %d messages, want 35", got)
		}
	})
}

// A restart after the machine was suspended reads what has become due meanwhile, whether the state is of before that or of
// after it.
func TestRestartAfterASuspend(t *testing.T) {
	for name, savedAsleep := range map[string]bool{"saved before": false, "saved after": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := testOptions()
				api, w := busy(t, o)
				counted := w.Snapshot().Grown
				left := w.Save()

				stopped := w.clock.monotonic()
				w.clock.monotonic = func() time.Duration { return stopped }
				<-time.After(o.Length / 2) // the wall clock goes on
				if savedAsleep {
					left = w.Save()
				}
				w = restarted(t, o, left)
				api.change(func(ops []*fakeOperation) {
					for _, op := range ops {
						op.Stats[twilio.Read]++
					}
				})
				s := refreshed(t, w, api)
				if got, want := s.Grown[twilio.Read]-counted[twilio.Read], api.since(w.first); got != want {
					t.Errorf("counted %d, want %d", got, want)
				}
			})
		})
	}
}

// The state of an account of which little or nothing is sent is a few kilobytes.
func TestIdleState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, perMinute := range []int{0, 1} {
			o := testOptions()
			o.Length = 7 * 24 * time.Hour
			o.PageSize = 1000
			api := &fakeAPI{}
			if perMinute > 0 {
				api.fill(perMinute, 24*time.Hour, allCompleted)
			}
			w := New(o)
			refreshed(t, w, api)
			data, err := w.Save().MarshalBinary()
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d bytes", len(data))
			if most := 8_000 * (1 + perMinute); len(data) > most {
				t.Errorf("%d bytes, want at most %d", len(data), most)
			}
		}
	})
}

// As long as no answer tells the API's clock, a restarted window goes by where it was: it drops no minutes that come back
// as old ones.
func TestRestartDuringAnOutage(t *testing.T) {
	for _, failures := range []int{0, 1, 3} {
		t.Run(strconv.Itoa(failures), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := testOptions()
				o.MaxStaleness = 0
				api := &fakeAPI{skew: -30 * time.Minute}
				api.fill(5, o.Length+time.Hour, allCompleted)
				w := New(o)
				refreshed(t, w, api)

				w = restarted(t, o, w.Save())
				api.known = false // a new client has seen no Date
				api.fail = func(twilio.Query) error { return errFake }
				for range failures {
					if err := w.Refresh(t.Context(), api, &Progress{}); !errors.Is(err, errFake) {
						t.Fatalf("error %v", err)
					}
				}
				api.fail = nil
				api.change(func(ops []*fakeOperation) {
					for _, op := range ops {
						op.Stats[twilio.Delivered]++
					}
				})

				grown := refreshed(t, w, api).Grown
				if got, want := grown[twilio.Delivered], api.since(w.first); got != want {
					t.Errorf("counted %d, want %d", got, want)
				}
			})
		})
	}
}

// A restart keeps the state whatever settings have changed, and numbers are those of the new ones.
func TestRestartWithOtherSettings(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*Options)
	}{
		{"longer window", func(o *Options) { o.Length *= 2 }},
		{"shorter window", func(o *Options) { o.Length /= 3 }},
		{"larger pages", func(o *Options) { o.PageSize *= 5 }},
		{"smaller pages", func(o *Options) { o.PageSize = 3 }},
		{"interval", func(o *Options) { o.Interval *= 10 }},
		{"staleness", func(o *Options) { o.MaxStaleness = 0 }},
		{"concurrency", func(o *Options) { o.Concurrency = 1 }},
		{"named", func(o *Options) { o.Named = 20 }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := testOptions()
				api, w := busy(t, o)
				api.fill(5, 9*time.Hour, allCompleted)
				api.byTime = api.byTime[len(api.byTime)-5*9*60:]
				<-time.After(o.Interval)
				counted := refreshed(t, w, api).Grown
				left := w.Save()

				tt.change(&o)
				w = restarted(t, o, left)
				for i := range 3 {
					api.requests, api.status = 0, 0
					s := refreshed(t, w, api)
					if got, want := s.Operations(), api.since(w.first); got != want {
						t.Errorf("%d operations, want %d", got, want)
					}
					if s.Grown != counted {
						t.Errorf("refresh %d counted %v, want %v as before", i, s.Grown, counted)
					}
					if most := int(api.since(w.first))/o.PageSize*106/100 + 2*o.Concurrency + api.status; api.requests > most {
						t.Errorf("%d requests, want at most %d", api.requests, most)
					}
				}
			})
		})
	}
}

// What lists have shown of the size of pages says nothing of pages of another size.
func TestRestartWithLargerPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := testOptions()
		o.MaxStaleness = 0
		api := &fakeAPI{}
		api.fill(50, o.Length, allCompleted)
		w := New(o)
		refreshed(t, w, api)

		o.PageSize *= 100
		w = restarted(t, o, w.Save())
		api.requests, api.status = 0, 0
		refreshed(t, w, api)
		whole := int(api.since(w.first)) / o.PageSize
		if most := whole*106/100 + 2*o.Concurrency + api.status; api.requests > most {
			t.Errorf("%d requests, want at most %d", api.requests, most)
		}
	})
}

// A first read that is killed again and again gets on if its state is saved meanwhile.
func TestFirstReadGetsOnThroughRestarts(t *testing.T) {
	for _, order := range fakeOrders {
		t.Run(order.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := testOptions()
				api := &fakeAPI{order: order}
				api.between = func(twilio.Query, int) { <-time.After(200 * time.Millisecond) }
				api.fill(10, o.Length, allCompleted)
				w := New(o)
				starts := 1
				for {
					ended := make(chan error, 1)
					ctx, kill := context.WithCancel(t.Context())
					go func() { ended <- w.Refresh(ctx, api, &Progress{}) }()
					<-time.After(8*time.Second + time.Millisecond)
					left := w.Save()
					kill()
					if err := <-ended; err == nil {
						break
					}
					if starts++; starts > 20 {
						t.Fatalf("no end after %d starts and %d requests for 240 pages", starts, api.requests)
					}
					w = restarted(t, o, left)
				}
				if got, want := w.Snapshot().Operations(), api.since(w.first); got != want {
					t.Errorf("%d operations, want %d", got, want)
				}
				if starts < 3 || api.requests > 480 {
					t.Errorf("%d starts, %d requests for 240 pages", starts, api.requests)
				}
				if grown := w.Snapshot().Grown; grown != (twilio.Stats{}) {
					t.Errorf("counted %v", grown)
				}
			})
		})
	}
}

// A saved state does not change with the window it is of.
func TestSavedStateStandsStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := testOptions()
		api, w := busy(t, o)
		left := w.Save()
		want := fmt.Sprint(sums(left))
		for range 30 {
			<-time.After(o.Interval)
			api.change(func(ops []*fakeOperation) {
				for _, op := range ops {
					moveStats(newRand(1), op, time.Now())
					op.Status = documented[2]
				}
			})
			refreshed(t, w, api)
		}
		if got := fmt.Sprint(sums(left)); got != want {
			t.Errorf("it is now\n%s, was\n%s", got, want)
		}
	})
}

// sums are those of each minute of a state.
func sums(s State) (all []Totals) {
	for _, b := range s.each(span{s.first, open}) {
		all = append(all, b.totals())
	}
	return all
}

// A state has of the operations that fail those that a snapshot may come to name, as the window moves on.
func TestFailingAfterRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := testOptions()
		o.PageSize = 1000
		o.Named = maxNamed
		api := &fakeAPI{}
		rnd := newRand(7)
		api.fill(20, o.Length, allCompleted)
		for _, op := range api.byTime {
			op.Stats = twilio.Stats{twilio.Total: 100, twilio.Failed: rnd.Int64N(40)}
		}
		whole := New(o)
		refreshed(t, whole, api)
		left := reloaded(t, whole.Save())
		kept := 0
		for _, b := range left.each(span{left.first, open}) {
			kept += len(b.get().failing)
		}
		if kept > 400 {
			t.Errorf("%d operations are kept", kept)
		}

		ids := func(w *Window) (ids []string) {
			for _, op := range w.snapshotAt(time.Now(), o, &highlights{}).Failing {
				ids = append(ids, op.ID)
			}
			return ids
		}
		restored := restarted(t, o, left)
		for range o.Length / (7 * time.Minute) {
			whole.slide(o.Length, time.Now())
			restored.slide(o.Length, time.Now())
			if got, want := ids(restored), ids(whole); !slices.Equal(got, want) {
				t.Fatalf("%v ago: failing %v, want %v", time.Since(left.wall), got, want)
			}
			<-time.After(7 * time.Minute)
		}
	})
}
