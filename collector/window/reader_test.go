package window

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"twilio_operations_exporter/twilio"
	"twilio_operations_exporter/twilio/simulator"
)

// An account whose credentials are refused, or whose API is broken, is asked once a refresh, however many workers there
// are.
func TestRefusalMakesOneRequest(t *testing.T) {
	for _, code := range []int{401, 500} {
		for _, order := range fakeOrders {
			for _, tt := range []struct {
				name      string
				staleness float64
				before    int // refreshes that succeed
			}{
				{"first read", 0.1, 0},
				{"steady", 0.1, 3},
				{"whole window", 0, 3},
			} {
				t.Run(fmt.Sprint(code, order, tt.name), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						var broken bool
						api := &fakeAPI{order: order}
						// Answers take some time: workers that do not wait get on.
						api.between = func(twilio.Query, int) { <-time.After(10 * time.Millisecond) }
						api.fail = func(twilio.Query) error {
							if broken {
								return &twilio.Error{StatusCode: code}
							}
							return nil
						}
						api.fill(5, 4*time.Hour, allCompleted)
						o := testOptions()
						o.Concurrency, o.MaxStaleness = 8, tt.staleness
						w := New(o)
						for range tt.before {
							refreshed(t, w, api)
							<-time.After(time.Minute)
						}
						broken, api.requests = true, 0
						for i := range 3 {
							if err := w.Refresh(t.Context(), api, &Progress{}); err == nil || api.requests != i+1 {
								t.Fatalf("%d requests in %d refreshes, error %v", api.requests, i+1, err)
							}
							<-time.After(time.Minute)
						}
					})
				})
			}
		}
	}
}

// All workers are used, and no more requests than allowed are in flight.
func TestRequestsInFlight(t *testing.T) {
	for _, order := range fakeOrders {
		for _, workers := range []int{1, 3, 8} {
			t.Run(fmt.Sprint(order, workers), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					api := &fakeAPI{order: order}
					api.between = func(twilio.Query, int) { <-time.After(100 * time.Millisecond) }
					api.fill(5, 4*time.Hour, allCompleted)
					o := testOptions()
					o.Concurrency = workers
					w := New(o)
					start := time.Now()
					if n := refreshed(t, w, api).Operations(); n != 1200 {
						t.Fatalf("%d operations", n)
					}
					if api.most != workers {
						t.Errorf("%d requests in flight, want %d", api.most, workers)
					}
					if most := 120 + max(7, 2*workers); api.requests > most {
						t.Errorf("%d requests, want at most %d", api.requests, most)
					}
					// A page after the other takes 12 s.
					if took, most := time.Since(start), 12*time.Second/time.Duration(workers)*5/4+3*time.Second/2; took > most {
						t.Errorf("took %v with %d workers, want at most %v", took, workers, most)
					}
					api.most = 0
					for range 5 {
						<-time.After(time.Minute)
						refreshed(t, w, api)
					}
					if api.most > workers {
						t.Errorf("%d requests in flight in a steady refresh, want at most %d", api.most, workers)
					}
				})
			})
		}
	}
}

// A refresh whose deadline is too short for the whole gets on with each try, and so does one that fails now and then.
func TestFirstReadGetsOnThroughFailures(t *testing.T) {
	for _, order := range fakeOrders {
		for _, tt := range []struct {
			name    string
			timeout time.Duration
			fail    int           // every so manieth request
			quiet   time.Duration // nothing was created lately
		}{
			{name: "too short", timeout: 5 * time.Second},
			{name: "failing", timeout: time.Hour, fail: 30},
			{name: "both", timeout: 5 * time.Second, fail: 40},
			{name: "too short, quiet for an hour", timeout: 5 * time.Second, quiet: time.Hour},
			{name: "failing, quiet for an hour", timeout: time.Hour, fail: 30, quiet: time.Hour},
			{name: "both, quiet for an hour", timeout: 5 * time.Second, fail: 40, quiet: time.Hour},
			{name: "both, quiet for two hours", timeout: 5 * time.Second, fail: 40, quiet: 2 * time.Hour},
			{name: "too short, quiet for three hours", timeout: 5 * time.Second, quiet: 3 * time.Hour},
			{name: "failing, quiet for three hours", timeout: time.Hour, fail: 30, quiet: 3 * time.Hour},
			{name: "both, quiet for three hours", timeout: 5 * time.Second, fail: 40, quiet: 3 * time.Hour},
		} {
			t.Run(fmt.Sprint(order, tt.name), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					api := &fakeAPI{order: order}
					api.between = func(twilio.Query, int) { <-time.After(200 * time.Millisecond) }
					total := 0
					api.fail = func(twilio.Query) error {
						api.mu.Lock()
						defer api.mu.Unlock()
						if total++; tt.fail > 0 && total%tt.fail == 0 {
							return &twilio.Error{StatusCode: 503}
						}
						return nil
					}
					api.fill(10, 4*time.Hour, allCompleted)
					api.byTime = slices.DeleteFunc(api.byTime, func(op *fakeOperation) bool {
						return api.clock().Sub(op.CreatedAt) < tt.quiet
					})
					w := New(testOptions())
					tries := 0
					for w.Snapshot() == nil {
						if tries++; tries > 40 {
							t.Fatalf("no end after %d tries and %d requests for 240 pages", tries, api.requests)
						}
						ctx, cancel := context.WithTimeout(t.Context(), tt.timeout)
						_ = w.Refresh(ctx, api, &Progress{})
						cancel()
						<-time.After(time.Second)
					}
					if n, want := w.Snapshot().Operations(), api.since(w.first); n != want {
						t.Errorf("%d operations, want %d", n, want)
					}
					t.Logf("%d tries, %d requests for 240 pages", tries, api.requests)
					if tries == 1 {
						t.Error("the first try did it: nothing is tested")
					}
				})
			})
		}
	}
}

// A refresh that fails makes the pieces of the next one smaller, down to a few pages, and one that ends well makes them large
// again.
func TestPiecesAfterFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &fakeAPI{}
		api.fill(10, 4*time.Hour, allCompleted)
		var broken bool
		pages := 0
		api.fail = func(twilio.Query) error {
			api.mu.Lock()
			defer api.mu.Unlock()
			pages++
			if broken && pages > 8 {
				return errFake
			}
			return nil
		}
		w := New(testOptions())
		for i, tt := range []struct {
			broken bool
			pages  int // of a piece
		}{{true, 12}, {true, 6}, {true, 4}, {true, 4}, {false, 24}, {false, 24}} {
			broken, pages = tt.broken, 0
			w.options.MaxStaleness = 0
			if err := w.Refresh(t.Context(), api, &Progress{}); (err != nil) != tt.broken {
				t.Fatalf("refresh %d: error %v", i, err)
			}
			if got := w.piecePages; got != tt.pages {
				t.Errorf("refresh %d: pieces of %d pages from now on, want %d", i, got, tt.pages)
			}
			if isDense := w.brokenDensity > 0; isDense != tt.broken {
				t.Errorf("refresh %d: lists that broke off have shown %v operations a minute", i, w.brokenDensity)
			}
			<-time.After(time.Minute)
		}
	})
}

// How dense a list was that broke off in a crowded minute says nothing of minutes that have been read.
func TestCrowdedMinuteBrokeOff(t *testing.T) {
	requests := map[float64]int{}
	for _, lost := range []float64{0, 400} {
		synctest.Test(t, func(t *testing.T) {
			api := &fakeAPI{}
			api.fill(5, 4*time.Hour, func(i int) twilio.Status {
				if i%60 == 0 {
					return twilio.StatusProcessing
				}
				return twilio.StatusCompleted
			})
			w := New(testOptions())
			for n := range 3 {
				<-time.After(time.Minute)
				for i, op := range api.byTime { // some leave minutes all over the window
					if i%180 == 60*n {
						op.Status = twilio.StatusCompleted
					}
				}
				requests[lost] = -api.requests
				if n == 2 {
					w.brokenDensity = lost
				}
				refreshed(t, w, api)
			}
			requests[lost] += api.requests
		})
	}
	if with, without := requests[400], requests[0]; with > without+2 {
		t.Errorf("%d requests after a failure in a crowded minute, %d without", with, without)
	}
}

// Grouped lists look ordered for a long while. One request that fails at any of the first forty makes no difference to
// what is shown in the end. A few seeds have each of the forty fail in one of the orders, more of them in all.
func TestListsOneAfterTheOther(t *testing.T) {
	orders := []fakeOrder{
		grouped(2, simulator.NewestFirst),
		grouped(12, simulator.NewestFirst),
		grouped(2, simulator.OldestFirst),
		grouped(12, simulator.OldestFirst),
	}
	for i, order := range orders {
		for _, workers := range []int{4, 1} {
			if workers == 1 && *seeds <= fewSeeds {
				continue
			}
			for at := range 41 {
				if at%len(orders) != i && *seeds <= fewSeeds {
					continue
				}
				synctest.Test(t, func(t *testing.T) {
					api := &fakeAPI{order: order}
					api.fill(5, 4*time.Hour, allCompleted)
					n := 0
					api.fail = func(twilio.Query) error {
						api.mu.Lock()
						defer api.mu.Unlock()
						if n++; n == at {
							return &twilio.Error{StatusCode: 500}
						}
						return nil
					}
					o := testOptions()
					o.Concurrency = workers
					w := New(o)
					shown := 0
					for range 4 {
						if w.Refresh(t.Context(), api, &Progress{}) == nil {
							shown++
							if n, want := w.Snapshot().Operations(), api.since(w.first); n != want {
								t.Fatalf("%v, %d workers, request %d failed: %d operations, want %d", order, workers, at, n, want)
							}
						}
						<-time.After(time.Minute)
					}
					if shown < 3 {
						t.Fatalf("%d refreshes succeeded", shown)
					}
				})
			}
		}
	}
}

// An account that grows from nothing is read as one whose operations nobody has seen: not page by page.
func TestAccountThatGrowsFromNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &fakeAPI{}
		o := testOptions()
		w := New(o)
		for i := range 3 {
			if s := refreshed(t, w, api); s.Operations() != 0 || len(s.Statuses) != 4 || api.requests != i+1 {
				t.Fatalf("%+v, %d requests", s, api.requests)
			}
			<-time.After(time.Minute)
		}
		api.fill(5, 4*time.Hour, allCompleted)
		api.between = func(twilio.Query, int) { <-time.After(100 * time.Millisecond) }
		if s := refreshed(t, w, api); s.Operations() != 1200 || s.Grown[twilio.Total] != 1200 || api.most != o.Concurrency {
			t.Errorf("%+v, %d requests in flight", s, api.most)
		}
	})
}

// startDate is never before what Twilio keeps, and never after endDate, also when the oldest minutes go out of reach
// while they wait for their turn.
func TestBoundsOfQueries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := testOptions()
		o.Length = retention
		w := New(o)
		w.slide(o.Length, time.Now())
		r := &reader{api: &fakeAPI{}, options: o, now: time.Now(), began: time.Now()}
		oldest := w.first
		for range 200 {
			for _, sp := range []span{{oldest, open}, {oldest, oldest + 1}, {oldest, oldest + 2}} {
				q := r.query(piece{span: sp})
				if age := time.Since(q.StartDate); age > retention {
					t.Fatalf("%v: startDate is %v old", sp, age)
				}
				if !q.EndDate.IsZero() && !q.EndDate.After(q.StartDate) {
					t.Fatalf("%v: startDate %v, endDate %v", sp, q.StartDate, q.EndDate)
				}
				if !q.EndDate.IsZero() && q.EndDate.Before(sp.to.time()) || sp.to == open && !q.EndDate.IsZero() {
					t.Fatalf("%v: endDate %v", sp, q.EndDate)
				}
			}
			<-time.After(time.Second)
		}
	})
}

// Campaigns begin at full minutes: what is created in the first second of a minute is not read by its neighbour, too.
func TestBurstAtTheStartOfAMinute(t *testing.T) {
	for _, staleness := range []float64{0, 0.1} {
		for _, order := range fakeOrders {
			synctest.Test(t, func(t *testing.T) {
				<-time.After(30 * time.Second)
				api := &fakeAPI{order: order, exclusive: true}
				// All answers take the same time: lists of nothing end before that of the burst.
				api.between = func(twilio.Query, int) { <-time.After(100 * time.Millisecond) }
				start := time.Now().Truncate(time.Minute).Add(-2*time.Minute + 200*time.Millisecond)
				for i := range 300 {
					op := &fakeOperation{}
					op.ID = fmt.Sprint("burst", i)
					op.Status = twilio.StatusCompleted
					op.CreatedAt = start.Add(time.Duration(i) * time.Millisecond)
					api.byTime = append(api.byTime, op)
				}
				o := testOptions()
				o.MaxStaleness = staleness
				w := New(o)
				for i := range 4 {
					api.requests, api.status = 0, 0
					if n := refreshed(t, w, api).Operations(); n != 300 {
						t.Fatalf("%d operations", n)
					}
					if most := 30 + 2*o.Concurrency + api.status; api.requests > most {
						t.Errorf("%v: %d requests in refresh %d, want at most %d", order, api.requests, i, most)
					}
					<-time.After(time.Minute)
				}
			})
		}
	}
}

// What lies within a day of the window's end by a clock gone wrong counts where it says, what lies further ahead in one
// last minute; nothing twice.
func TestOperationsOfTheFuture(t *testing.T) {
	for _, order := range fakeOrders {
		t.Run(order.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := &fakeAPI{order: order}
				api.fill(1, 2*time.Hour, func(i int) twilio.Status { return documented[i%4] })
				for i, ahead := range []time.Duration{time.Minute, 50 * time.Minute, 23 * time.Hour, 30 * time.Hour, 1000 * time.Hour} {
					for j, status := range documented {
						op := &fakeOperation{}
						op.ID, op.Status = fmt.Sprint("future", i, j), status
						op.CreatedAt = time.Now().Add(ahead)
						op.UpdatedAt = time.Now()
						op.Stats = twilio.Stats{twilio.Total: 1}
						api.add(op)
					}
				}
				w := New(testOptions())
				for range 5 {
					s := refreshed(t, w, api)
					for _, s := range s.Statuses {
						if s.Operations != 35 || s.Stats[twilio.Total] != 35 {
							t.Fatalf("%d operations are %s, want 35", s.Operations, s.Status)
						}
					}
					if s.Grown != (twilio.Stats{}) {
						t.Fatalf("counted %+v", s.Grown)
					}
					if n := len(w.buckets); n > int(4*60+maxAhead)+2 {
						t.Fatalf("the window has grown to %d minutes", n)
					}
					<-time.After(time.Minute)
				}
			})
		})
	}
}

// What little there is on a page that has a next one says nothing of how much fits on it.
func TestEmptyLastPages(t *testing.T) {
	for _, order := range fakeOrders {
		t.Run(order.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := &fakeAPI{order: order, ragged: true}
				api.fill(1, 4*time.Hour, allCompleted)
				o := testOptions()
				o.PageSize = 100
				w := New(o)
				for i := range 30 {
					api.requests = 0
					if n := refreshed(t, w, api).Operations(); n > 240 || n < 239-int64(i) {
						t.Fatalf("%d operations", n)
					}
					// Three pages of the window, two questions of a page; an empty one after each list; and what is allowed on top.
					if most := 3 + 2 + 3 + 2*o.Concurrency; i > 0 && api.requests > most {
						t.Errorf("%d requests in refresh %d, want at most %d", api.requests, i, most)
					}
					<-time.After(time.Minute)
				}
			})
		})
	}
}

func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &fakeAPI{}
		api.between = func(twilio.Query, int) { <-time.After(time.Second) }
		api.fill(10, 4*time.Hour, allCompleted)
		w, p := New(testOptions()), &Progress{}
		ended := make(chan error)
		go func() { ended <- w.Refresh(t.Context(), api, p) }()
		for i := range 4 {
			<-time.After(5*time.Second + 200*time.Millisecond)
			synctest.Wait()
			// At most four pages a second, but for the first ones.
			seconds := int64(5 * (i + 1))
			read, expected := p.Read.Load(), p.Expected.Load()
			if read < 4*(seconds-1)-4 || read > 4*seconds || expected < 235 || expected > 260 {
				t.Errorf("%d of %d pages read after %d s", read, expected, seconds)
			}
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}

		// The pages of questions are expected, too.
		<-time.After(time.Minute)
		p = &Progress{}
		api.between = func(twilio.Query, int) {
			if read, expected := p.Read.Load(), p.Expected.Load(); read >= expected {
				t.Errorf("one more page than the %d expected", expected)
			}
		}
		if err := w.Refresh(t.Context(), api, p); err != nil {
			t.Error(err)
		}
	})
}

// A refresh ends with its context, and takes its workers with it.
func TestRefreshEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &fakeAPI{}
		ctx, cancel := context.WithCancel(t.Context())
		api.between = func(_ twilio.Query, n int) {
			if n == 3 {
				cancel()
			}
		}
		api.fill(10, 4*time.Hour, allCompleted)
		w := New(testOptions())
		if err := w.Refresh(ctx, api, &Progress{}); err == nil || w.Snapshot() != nil {
			t.Errorf("error %v", err)
		}
		if n := refreshed(t, w, api).Operations(); n != 2400 {
			t.Errorf("%d operations", n)
		}
	})
}

// An API that does not select by status, or refuses to, is read without: the numbers are right, it costs no more than
// reading all, is said once, and tried again after an hour.
func TestStatusFilterThatDoesNotWork(t *testing.T) {
	for _, tt := range []struct {
		name    string
		disable func(*fakeAPI, bool)
	}{
		{"ignored", func(a *fakeAPI, broken bool) { a.unfiltered = broken }},
		{"400", func(a *fakeAPI, broken bool) {
			a.fail = func(q twilio.Query) error {
				if broken && q.Status != "" {
					return fmt.Errorf("list_operations: %w", &twilio.Error{StatusCode: 400})
				}
				return nil
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := testOptions()
				l := newLife(t, 1, o)
				l.rate, l.lifetime, l.ahead = steady(6), 3*time.Minute, time.Hour
				l.pass(o.Length + time.Hour)
				l.lavish = true
				var warnings []string
				refresh := func() {
					l.api.requests, l.api.status = 0, 0
					p := &Progress{Warn: func(msg string, err error) { warnings = append(warnings, fmt.Sprint(msg, ": ", err)) }}
					if err := l.w.Refresh(t.Context(), l.api, p); err != nil {
						t.Fatal(err)
					}
					want := map[twilio.Status]int64{}
					for _, op := range l.api.byTime {
						if m := minuteOf(op.CreatedAt); m >= l.w.first && !op.listed.After(time.Now()) {
							want[op.Status]++
						}
					}
					for _, s := range l.w.Snapshot().Statuses {
						// Nothing becomes live again without a filter to show it before its minute is due.
						if s.Status == twilio.StatusScheduled && s.Operations != want[s.Status] {
							t.Fatalf("%d operations are %s, want %d", s.Operations, s.Status, want[s.Status])
						}
					}
					l.pass(o.Interval)
				}
				refresh()
				tt.disable(l.api, true)
				asked := 0
				for i := range 130 {
					refresh()
					if l.api.status > 0 {
						asked++
					}
					if i > 0 && l.api.requests-l.api.status > 80 { // 147 hold the window
						t.Fatalf("refresh %d made %d requests", i, l.api.requests)
					}
				}
				if asked != 3 || len(warnings) != 3 {
					t.Errorf("asked by status in %d of 130 minutes, want 3; warnings:\n%s", asked, strings.Join(warnings, "\n"))
				}
				tt.disable(l.api, false)
				for range 61 {
					refresh()
				}
				if l.api.status == 0 {
					t.Error("not asked by status again")
				}
			})
		})
	}
}

// Operations that are done by the time that they are shown, in an answer of one page, do not mean that the API does not select
// by status.
func TestAnswersThatLag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &fakeAPI{}
		api.fill(10, 4*time.Hour, func(i int) twilio.Status {
			if i%300 == 0 {
				return twilio.StatusProcessing
			}
			return twilio.StatusCompleted
		})
		w := New(testOptions())
		refreshed(t, w, api)
		<-time.After(time.Minute)
		api.change(func(ops []*fakeOperation) {
			for _, op := range ops {
				op.Status = twilio.StatusCompleted
			}
		})

		refreshed(t, w, laggingAPI{api})
		if !w.asksByStatus(w.clock.now) {
			t.Error("the API is not asked by status any more")
		}
		s := w.Snapshot()
		if got, want := s.Operations(), api.since(w.first); got != want || s.Statuses[1].Operations != 0 {
			t.Errorf("%d operations, want %d; %d are in flight", got, want, s.Statuses[1].Operations)
		}
	})
}

// laggingAPI shows an operation that is done where it is asked for those in flight.
type laggingAPI struct{ *fakeAPI }

func (a laggingAPI) Pages(ctx context.Context, q twilio.Query) iter.Seq2[*twilio.Page, error] {
	if q.Status == "" {
		return a.fakeAPI.Pages(ctx, q)
	}
	return func(yield func(*twilio.Page, error) bool) {
		yield(&twilio.Page{Operations: []twilio.Operation{a.byTime[len(a.byTime)/2].Operation}}, nil)
	}
}

// Where a third of the operations is in flight, asking for them and then reading what they left would take longer than
// reading all.
func TestManyInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := testOptions()
		l := newLife(t, 1, o)
		l.rate, l.lifetime, l.ahead = steady(6), 2*time.Hour, time.Hour
		l.pass(o.Length + time.Hour)
		l.api.between = func(twilio.Query, int) { <-time.After(100 * time.Millisecond) }
		for range 3 {
			l.refresh()
			l.pass(o.Interval)
		}
		began := time.Now()
		l.refresh()
		steady := time.Since(began)
		l.w.options.MaxStaleness = 0
		l.pass(o.Interval)
		began = time.Now()
		l.refresh()
		whole := time.Since(began)
		inFlight := int64(0)
		for _, s := range l.w.Snapshot().Statuses[:2] {
			inFlight += s.Operations
		}
		t.Logf(
			"%d of %d operations in flight: a refresh takes %v, reading all %v",
			inFlight,
			l.w.Snapshot().Operations(),
			steady,
			whole,
		)
		if steady > whole*5/4 {
			t.Errorf("a refresh takes %v, reading all %v", steady, whole)
		}
	})
}

// Where operations of most minutes move on between two refreshes, asking for those in flight and then reading these minutes
// would take longer than reading all: that is done as long as they do.
func TestManyMoveOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const perMinute = 20
		o := testOptions()
		o.PageSize = 2 * perMinute
		o.MaxStaleness = 1
		api := &fakeAPI{}
		api.fill(perMinute, o.Length, func(i int) twilio.Status { return documented[i%4] })
		w := New(o)
		whole := int(o.Length.Minutes()) * perMinute / o.PageSize

		for i, tt := range []struct {
			moves bool // an operation of each minute moves on before
			asked bool
		}{{}, {false, true}, {true, true}, {true, false}, {true, false}, {false, false}, {false, true}} {
			if tt.moves {
				moved := make(map[minute]bool)
				for _, op := range api.byTime {
					if m := minuteOf(op.CreatedAt); op.Status.Live() && !moved[m] {
						op.Status = twilio.StatusCompleted
						moved[m] = true
					}
				}
			}
			api.requests, api.status = 0, 0
			if got, want := refreshed(t, w, api).Operations(), api.since(w.first); got != want {
				t.Fatalf("refresh %d: %d operations, want %d", i, got, want)
			}
			if asked := api.status > 0; asked != tt.asked {
				t.Errorf("refresh %d asked by status: %t, want %t", i, asked, tt.asked)
			}
			if most := whole + api.status + 2*o.Concurrency; api.requests > most {
				t.Errorf("refresh %d: %d requests, want at most %d", i, api.requests, most)
			}
			<-time.After(o.Interval)
		}
	})
}

// Numbers too large to add stay at the largest there is.
func TestSaturation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &fakeAPI{}
		for i := range 3 {
			op := &fakeOperation{}
			op.ID, op.Status, op.CreatedAt = strconv.Itoa(i), documented[i], time.Now()
			op.Stats = twilio.Stats{twilio.Total: math.MaxInt64, twilio.Failed: math.MaxInt64, twilio.Undelivered: math.MaxInt64}
			api.add(op)
		}
		w := New(testOptions())
		for i := range 3 {
			if err := w.Refresh(t.Context(), api, &Progress{}); err != nil {
				t.Fatal(err)
			}
			want := []int64{1, 1, 1}
			if i > 0 {
				want = []int64{0, 0, 3}
			}
			for i, s := range w.Snapshot().Statuses[:3] {
				if s.Operations != want[i] || s.Failing != want[i] || want[i] > 0 && s.Stats[twilio.Total] != math.MaxInt64 {
					t.Errorf("%+v", s)
				}
			}
			api.change(func(ops []*fakeOperation) {
				for _, op := range ops {
					op.Status = twilio.StatusCompleted
				}
			})
			<-time.After(time.Minute)
		}
	})
}

// A snapshot names the worst and the longest untouched operations, and the largest in flight.
func TestNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &fakeAPI{}
		add := func(id string, ago, updated time.Duration, status twilio.Status, total, failed int64) {
			op := &fakeOperation{}
			op.ID, op.Status, op.CreatedAt, op.UpdatedAt = id, status, time.Now().Add(-ago), time.Now().Add(-updated)
			op.Stats = twilio.Stats{twilio.Total: total, twilio.Failed: failed}
			api.add(op)
		}
		add("old and worst", 3*time.Hour, 0, twilio.StatusCompleted, 10000, 9000)
		add("old and bad", 2*time.Hour, 0, twilio.StatusCompleted, 1000, 500)
		add("old and in flight", 3*time.Hour, time.Hour, twilio.StatusProcessing, 1000, 100)
		add("young", 30*time.Minute, 0, twilio.StatusCompleted, 1000, 200)
		add("young too", 30*time.Minute, 0, twilio.StatusCanceled, 1000, 100)
		add("small", time.Minute, 0, twilio.StatusCompleted, 99, 99)
		add("not bad", time.Hour, StuckAfter, twilio.StatusProcessing, 101, 10)
		add("scheduled", 3*time.Hour, 3*time.Hour, twilio.StatusScheduled, 5000, 0)
		for i := range 4 {
			add(fmt.Sprint("fine", i), time.Hour, StuckAfter-time.Duration(i+1)*time.Second, twilio.StatusProcessing, 10, 0)
		}
		for _, tt := range []struct {
			named          int
			failing, stuck []string
		}{
			{0, nil, nil},
			{1, []string{"young"}, []string{"old and in flight"}},
			{2, []string{"young", "old and in flight"}, []string{"old and in flight", "not bad"}},
			{
				5,
				[]string{"young", "old and in flight", "young too", "old and worst", "old and bad"},
				[]string{"old and in flight", "not bad"},
			},
		} {
			o := testOptions()
			o.Named = tt.named
			s := refreshed(t, New(o), api)
			ids := func(ops []*twilio.Operation) (ids []string) {
				for _, op := range ops {
					ids = append(ids, op.ID)
				}
				return ids
			}
			if got := ids(s.Failing); !slices.Equal(got, tt.failing) {
				t.Errorf("%d named: failing %q, want %q", tt.named, got, tt.failing)
			}
			if got := ids(s.Stuck); !slices.Equal(got, tt.stuck) {
				t.Errorf("%d named: stuck %q, want %q", tt.named, got, tt.stuck)
			}
			if got := ids(s.InFlight); len(got) != 7 || got[0] != "scheduled" || got[1] != "old and in flight" {
				t.Errorf("in flight %q", got)
			}
			if s.FailingNow != 3 || s.AllStuck != 2 || s.OldestScheduled.ID != "scheduled" {
				t.Errorf("%d failing now, %d stuck, %s scheduled first", s.FailingNow, s.AllStuck, s.OldestScheduled.ID)
			}
		}
	})
}

// A list of distinct operations that does not end ends the refresh, and what it has shown is not kept: when the API is
// well again, so are the numbers.
func TestListsWithoutEnd(t *testing.T) {
	for _, tt := range []struct {
		name     string
		statuses []twilio.Status
		length   time.Duration // of the window
		spread   time.Duration // of creation
		asked    bool          // the lists without end are those of a status
		before   bool          // there is a refresh that succeeds
		held     bool          // those held are too many first
	}{
		{"in flight", liveStatuses[1:], time.Hour, time.Hour, true, true, false},
		{"in flight, of a day", liveStatuses[1:], 24 * time.Hour, time.Hour, true, true, true},
		{"in flight, first read", liveStatuses[1:], time.Hour, time.Hour, false, false, false},
		{"done", documented[2:], time.Hour, time.Hour, false, true, false},
		{"done, all of an instant", documented[2:], time.Hour, 1, false, false, false},
		{"of before the window", documented[2:], time.Hour, 0, false, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := testOptions()
				o.Length = tt.length
				api := &fakeAPI{}
				api.fill(10, time.Hour, func(i int) twilio.Status {
					if i%20 == 0 {
						return twilio.StatusProcessing
					}
					return twilio.StatusCompleted
				})
				w := New(o)
				if tt.before {
					refreshed(t, w, api)
				}
				before := w.Snapshot()

				endless := &endlessAPI{fakeAPI: api, statuses: tt.statuses, spread: tt.spread, asked: tt.asked}
				tries := 2
				if tt.asked {
					tries = 1 // the next goes without the question, as nothing is known to be in flight
				}
				for range tries {
					<-time.After(o.Interval)
					err := w.Refresh(t.Context(), endless, &Progress{})
					tooMany, ok := errors.AsType[*TooManyError](err)
					if !ok || tooMany.Held != tt.held || w.Snapshot() != before {
						t.Fatalf("error %v, want too many", err)
					}
					checkRoom(t)
					if most := MaxOperations(o.Length) + o.Concurrency*1000; endless.listed > most {
						t.Errorf("%d operations were listed, at most %d", endless.listed, most)
					}
					endless.listed = 0
				}
				<-time.After(o.Interval)
				s := refreshed(t, w, api)
				if got, want := s.Operations(), api.since(w.first); got != want {
					t.Errorf("%d operations in the end, want %d", got, want)
				}
			})
		})
	}
}

// A refresh with more in flight than a window has room of its own for gives back all that it took of the others'.
func TestRoomIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const pages = ownRoom/1000 + 1
		o := testOptions()
		api := &fakeAPI{}
		api.fill(10, o.Length, allCompleted)
		w := New(o)
		refreshed(t, w, api)

		many := &endlessAPI{fakeAPI: api, statuses: liveStatuses[1:], spread: time.Hour, asked: true, pages: pages}
		s := refreshed(t, w, many)
		if got, want := s.Operations(), api.since(w.first)+1000*pages; got != want {
			t.Errorf("%d operations, want %d", got, want)
		}
		checkRoom(t)
	})
}

// checkRoom checks that nobody holds any of the room that windows share.
func checkRoom(t *testing.T) {
	t.Helper()
	if !room.TryAcquire(sharedRoom) {
		t.Fatal("not all of the room is given back")
	}
	room.Release(sharedRoom)
}

// endlessAPI lists operations without end, in pages of 1000.
type endlessAPI struct {
	*fakeAPI
	statuses []twilio.Status
	spread   time.Duration // 0: they were created before the window
	asked    bool          // only where they are asked for by status
	pages    int           // after which there is an end all the same; 0 for none
	listed   int
	next     int
}

func (a *endlessAPI) Pages(ctx context.Context, q twilio.Query) iter.Seq2[*twilio.Page, error] {
	other := q.Status != "" && !slices.Contains(a.statuses, q.Status)
	if other || q.Status == "" && a.asked {
		return a.fakeAPI.Pages(ctx, q)
	}
	return func(yield func(*twilio.Page, error) bool) {
		for n := 1; ctx.Err() == nil; n++ {
			page := a.endlessPage()
			if n == a.pages {
				page.Next = ""
			}
			if !yield(page, nil) || page.Next == "" {
				return
			}
		}
		yield(nil, ctx.Err())
	}
}

func (a *endlessAPI) endlessPage() *twilio.Page {
	a.mu.Lock()
	defer a.mu.Unlock()
	page := &twilio.Page{Next: "another"}
	for range 1000 {
		a.next++
		ago := retention + time.Hour
		if a.spread > 0 {
			ago = time.Duration(a.next) * 7919 * time.Millisecond % a.spread
		}
		created := time.Now().Add(-ago)
		page.Operations = append(page.Operations, twilio.Operation{
			ID: strconv.Itoa(a.next), Status: a.statuses[a.next%len(a.statuses)], CreatedAt: created, UpdatedAt: created,
		})
	}
	a.listed += len(page.Operations)
	return page
}

func TestMaxOperations(t *testing.T) {
	for length, want := range map[time.Duration]int{
		time.Minute: 100_000, 24 * time.Hour: 1_728_000, retention: 12_096_000,
	} {
		if got := MaxOperations(length); got != want {
			t.Errorf("%d in %v, want %d", got, length, want)
		}
	}
}

func TestMostInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &fakeAPI{}
		api.fill(3, 3*time.Hour, func(i int) twilio.Status { return documented[i%2] })
		s := refreshed(t, New(testOptions()), api)
		counts := map[twilio.Status]int{}
		for _, op := range s.InFlight {
			counts[op.Status]++
		}
		if counts[twilio.StatusScheduled] != MaxInFlightShown || counts[twilio.StatusProcessing] != MaxInFlightShown {
			t.Errorf("%v in flight are shown", counts)
		}
	})
}
