package collector

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"

	"twilio_operations_exporter/twilio"
)

// fill puts so many operations a minute into a fake account, evenly, of the
// last d.
func (a *fakeAPI) fill(perMinute int, d time.Duration, status func(i int) twilio.Status) {
	now := a.clock()
	n := int(d.Minutes()) * perMinute
	for i := range n {
		op := &fakeOperation{}
		op.ID = fmt.Sprintf("%016x", uint64(i+1)*0x9e3779b97f4a7c15) // in no order
		op.Status = status(i)
		op.CreatedAt = now.Add(-d + time.Duration(i)*time.Minute/time.Duration(perMinute))
		op.UpdatedAt = op.CreatedAt
		op.Stats = twilio.Stats{Total: 1}
		a.byTime = append(a.byTime, op)
	}
}

func allCompleted(int) twilio.Status { return twilio.StatusCompleted }

func newTestRefresher(api API, s Settings) *Refresher {
	return NewRefresher(s, api, NewMetrics(prometheus.NewRegistry()).Account(s.Account), log.NewNopLogger())
}

// An account whose credentials are refused, or whose API is broken, is asked
// once a refresh, however many workers there are.
func TestRefusalMakesOneRequest(t *testing.T) {
	for _, code := range []int{401, 500} {
		for _, order := range []fakeOrder{fakeNewestFirst, fakeOldestFirst, fakeShuffled} {
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
						s := settings()
						s.Concurrency, s.MaxStaleness = 8, tt.staleness
						r := newTestRefresher(api, s)
						for range tt.before {
							r.refresh(t.Context())
							if err := r.Status().Err; err != nil {
								t.Fatal(err)
							}
							<-time.After(time.Minute)
						}
						broken, api.requests = true, 0
						for i := range 3 {
							r.refresh(t.Context())
							if r.Status().Err == nil || api.requests != i+1 {
								t.Fatalf("%d requests in %d refreshes, error %v", api.requests, i+1, r.Status().Err)
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
	for _, order := range []fakeOrder{fakeNewestFirst, fakeOldestFirst, fakeShuffled} {
		for _, workers := range []int{1, 3, 8} {
			t.Run(fmt.Sprint(order, workers), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					api := &fakeAPI{order: order}
					api.between = func(twilio.Query, int) { <-time.After(100 * time.Millisecond) }
					api.fill(5, 4*time.Hour, allCompleted)
					s := settings()
					s.Concurrency = workers
					r := newTestRefresher(api, s)
					start := time.Now()
					r.refresh(t.Context())
					st := r.Status()
					if st.Err != nil || st.Snapshot.operations() != 1200 {
						t.Fatalf("%v, error %v", st.Snapshot, st.Err)
					}
					if api.most != workers {
						t.Errorf("%d requests in flight, want %d", api.most, workers)
					}
					if most := 120 + max(6, workers); api.requests > most {
						t.Errorf("%d requests, want at most %d", api.requests, most)
					}
					// A page after the other takes 12 s.
					if took, most := time.Since(start), 12*time.Second/time.Duration(workers)*5/4+3*time.Second/2; took > most {
						t.Errorf("took %v with %d workers, want at most %v", took, workers, most)
					}
					api.most = 0
					for range 5 {
						<-time.After(time.Minute)
						r.refresh(t.Context())
					}
					if api.most > workers {
						t.Errorf("%d requests in flight in a steady refresh, want at most %d", api.most, workers)
					}
				})
			})
		}
	}
}

// A refresh whose deadline is too short for the whole gets on with each try,
// and so does one that fails now and then.
func TestFirstReadGetsOnThroughFailures(t *testing.T) {
	for _, order := range []fakeOrder{fakeNewestFirst, fakeOldestFirst, fakeShuffled} {
		for _, tt := range []struct {
			name    string
			timeout time.Duration
			fail    int // every so manieth request
		}{
			{name: "too short", timeout: 5 * time.Second},
			{name: "failing", timeout: time.Hour, fail: 40},
			{name: "both", timeout: 5 * time.Second, fail: 40},
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
					s := settings()
					s.RefreshTimeout = tt.timeout
					r := newTestRefresher(api, s)
					tries := 0
					for r.Status().Snapshot == nil {
						if tries++; tries > 60 {
							t.Fatalf("no end after %d tries and %d requests for 240 pages: %v", tries, api.requests, r.Status().Err)
						}
						r.refresh(t.Context())
						<-time.After(time.Second)
					}
					want := int64(0)
					for _, op := range api.byTime {
						if minuteOf(op.CreatedAt) >= r.window.first {
							want++
						}
					}
					if n := r.Status().Snapshot.operations(); n != want {
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

// An account that grows from nothing is read as one whose operations nobody
// has seen: not page by page.
func TestAccountThatGrowsFromNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &fakeAPI{}
		s := settings()
		r := newTestRefresher(api, s)
		for i := range 3 {
			r.refresh(t.Context())
			if st := r.Status(); st.Err != nil || st.Snapshot.operations() != 0 || len(st.Snapshot.Statuses) != 4 || api.requests != i+1 {
				t.Fatalf("%+v, error %v, %d requests", st.Snapshot, st.Err, api.requests)
			}
			<-time.After(time.Minute)
		}
		api.fill(5, 4*time.Hour, allCompleted)
		api.between = func(twilio.Query, int) { <-time.After(100 * time.Millisecond) }
		r.refresh(t.Context())
		if st := r.Status(); st.Err != nil || st.Snapshot.operations() != 1200 || st.Snapshot.grown[0] != 1200 || api.most != s.Concurrency {
			t.Errorf("%+v, error %v, %d requests in flight", st.Snapshot, st.Err, api.most)
		}
	})
}

// startDate is never before what Twilio keeps, and never after endDate, also
// when the oldest minutes go out of reach while they wait for their turn.
func TestBoundsOfQueries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := settings()
		s.Window = kept
		now := time.Now()
		f := &refresh{api: &fakeAPI{}, s: &s, w: newWindow(kept, now)}
		f.slide(now)
		oldest := f.w.first
		for range 200 {
			for _, sp := range []span{{from: oldest, to: newest}, {from: oldest, to: oldest + 1}, {from: oldest, to: oldest + 2}} {
				q := f.query(sp)
				if age := time.Since(q.StartDate); age > kept {
					t.Fatalf("%v: startDate is %v old", sp, age)
				}
				if !q.EndDate.IsZero() && !q.EndDate.After(q.StartDate) {
					t.Fatalf("%v: startDate %v, endDate %v", sp, q.StartDate, q.EndDate)
				}
				if !q.EndDate.IsZero() && q.EndDate.Before(sp.to.time()) || sp.to == newest && !q.EndDate.IsZero() {
					t.Fatalf("%v: endDate %v", sp, q.EndDate)
				}
			}
			<-time.After(time.Second)
		}
	})
}

// What lies within an hour of the window's end by a clock gone wrong counts
// where it says, what lies further ahead in one last minute; nothing twice.
func TestOperationsOfTheFuture(t *testing.T) {
	for _, order := range []fakeOrder{fakeNewestFirst, fakeOldestFirst, fakeShuffled} {
		t.Run(fmt.Sprint(order), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := &fakeAPI{order: order}
				api.fill(1, 2*time.Hour, func(i int) twilio.Status { return documentedStatuses[i%4] })
				for i, ahead := range []time.Duration{time.Minute, 50 * time.Minute, 23 * time.Hour, 30 * time.Hour, 1000 * time.Hour} {
					for j, status := range documentedStatuses {
						op := &fakeOperation{}
						op.ID, op.Status = fmt.Sprint("future", i, j), status
						op.CreatedAt = time.Now().Add(ahead)
						op.UpdatedAt = time.Now()
						op.Stats = twilio.Stats{Total: 1}
						api.add(op)
					}
				}
				r := newTestRefresher(api, settings())
				for range 5 {
					r.refresh(t.Context())
					st := r.Status()
					if st.Err != nil {
						t.Fatal(st.Err)
					}
					for _, s := range st.Snapshot.Statuses {
						if s.Operations != 35 || s.Stats.Total != 35 {
							t.Fatalf("%d operations are %s, want 35", s.Operations, s.Status)
						}
					}
					if n := len(r.window.minutes); n > int(4*60+maxAhead)+2 {
						t.Fatalf("the window has grown to %d minutes", n)
					}
					<-time.After(time.Minute)
				}
			})
		})
	}
}

// ragged is an API that ends each list with a page of nothing.
type ragged struct {
	*fakeAPI
	requests int
}

func (a *ragged) Pages(ctx context.Context, q twilio.Query) iter.Seq2[*twilio.Page, error] {
	return func(yield func(*twilio.Page, error) bool) {
		for page, err := range a.fakeAPI.Pages(ctx, q) {
			a.mu.Lock()
			a.requests++
			a.mu.Unlock()
			if err != nil || page.Next != "" {
				if !yield(page, err) {
					return
				}
				continue
			}
			if !yield(&twilio.Page{Operations: page.Operations, Next: "more"}, nil) {
				return
			}
		}
		a.mu.Lock()
		a.requests++
		a.mu.Unlock()
		yield(&twilio.Page{}, nil)
	}
}

// What little there is on a page that has a next one says nothing of how much
// fits on it.
func TestEmptyLastPages(t *testing.T) {
	for _, order := range []fakeOrder{fakeNewestFirst, fakeOldestFirst} {
		t.Run(fmt.Sprint(order), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := &ragged{fakeAPI: &fakeAPI{order: order}}
				api.fill(1, 4*time.Hour, allCompleted)
				s := settings()
				s.PageSize = 100
				r := newTestRefresher(api, s)
				for i := range 30 {
					api.requests = 0
					r.refresh(t.Context())
					if st := r.Status(); st.Err != nil || st.Snapshot.operations() > 240 || st.Snapshot.operations() < 239-int64(i) {
						t.Fatalf("%+v, error %v", st.Snapshot, st.Err)
					}
					// Three pages of the window, two questions of a page; an empty
					// one after each list; and what is allowed on top.
					if most := 3 + 2 + 3 + s.Concurrency; i > 0 && api.requests > most {
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
		g := newRig(t, nil, nil)
		g.Refresher.api = api
		go g.refresh(t.Context())
		for i := range 4 {
			wait(5*time.Second + 200*time.Millisecond)
			// At most four pages a second, but for the first ones.
			seconds := 5 * (i + 1)
			read, expected := g.Progress()
			if read < 4*(seconds-1)-4 || read > 4*seconds || expected < 235 || expected > 260 {
				t.Errorf("%d of %d pages read after %d s", read, expected, seconds)
			}
			if n := strings.Count(g.log.String(), "level=info account=test msg=\"Refresh under way\""); n != i+1 {
				t.Errorf("%d lines about progress after %d s:\n%s", n, seconds, g.log)
			}
		}
		wait(time.Hour)
		if read, expected := g.Progress(); read != 0 || expected != 0 {
			t.Errorf("%d of %d pages read at the end", read, expected)
		}
	})
}

// blocks is an API whose list is sorted in parts, and the parts not.
type blocks struct {
	*fakeAPI
	arrange func(list []twilio.Operation) []twilio.Operation
}

func (a *blocks) Pages(ctx context.Context, q twilio.Query) iter.Seq2[*twilio.Page, error] {
	return func(yield func(*twilio.Page, error) bool) {
		a.mu.Lock()
		list := a.arrange(a.list(&q))
		a.mu.Unlock()
		for at := 0; ; at += q.PageSize {
			<-time.After(100 * time.Millisecond)
			a.mu.Lock()
			a.requests++
			a.mu.Unlock()
			page := &twilio.Page{Operations: list[at:min(len(list), at+q.PageSize)]}
			if at+q.PageSize < len(list) {
				page.Next = "more"
			}
			if ctx.Err() != nil {
				yield(nil, ctx.Err())
				return
			}
			if !yield(page, nil) || page.Next == "" {
				return
			}
		}
	}
}

// Lists that look sorted for a while, and are not, lose nothing.
func TestOrdersThatDoNotHold(t *testing.T) {
	parts := func(list []twilio.Operation, n int) (parts [][]twilio.Operation) {
		for part := range slices.Chunk(list, n) {
			parts = append(parts, part)
		}
		return parts
	}
	rnd := rand.New(rand.NewPCG(1, 1))
	tests := []struct {
		name    string
		arrange func([]twilio.Operation) []twilio.Operation
	}{
		{"two sorted lists, one after the other", func(list []twilio.Operation) []twilio.Operation {
			var even, odd []twilio.Operation
			for i := range list {
				if list[i].ID[15]%2 == 0 {
					even = append(even, list[i])
				} else {
					odd = append(odd, list[i])
				}
			}
			return append(even, odd...)
		}},
		{"sorted pages in no order", func(list []twilio.Operation) []twilio.Operation {
			all := parts(list, 10)
			rnd.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
			return slices.Concat(all...)
		}},
		{"long runs in no order", func(list []twilio.Operation) []twilio.Operation {
			all := parts(list, 70)
			rnd.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
			return slices.Concat(all...)
		}},
		{"almost sorted", func(list []twilio.Operation) []twilio.Operation {
			for _, part := range parts(list, 17) {
				rnd.Shuffle(len(part), func(i, j int) { part[i], part[j] = part[j], part[i] })
			}
			return list
		}},
	}
	for _, tt := range tests {
		for _, order := range []fakeOrder{fakeNewestFirst, fakeOldestFirst} {
			for _, workers := range []int{1, 4} {
				t.Run(fmt.Sprint(tt.name, order, workers), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						api := &blocks{&fakeAPI{order: order}, tt.arrange}
						api.fill(5, 4*time.Hour, allCompleted)
						s := settings()
						s.Concurrency = workers
						r := newTestRefresher(api, s)
						for range 5 {
							r.refresh(t.Context())
							want := int64(0)
							for _, op := range api.byTime {
								if minuteOf(op.CreatedAt) >= r.window.first {
									want++
								}
							}
							if st := r.Status(); st.Err != nil || st.Snapshot.operations() != want {
								t.Fatalf("%d operations, want %d, error %v", st.Snapshot.operations(), want, st.Err)
							}
							<-time.After(10 * time.Minute)
						}
					})
				})
			}
		}
	}
}

// A refresh ends with the program's context, and takes its workers with it.
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
		r := newTestRefresher(api, settings())
		r.refresh(ctx)
		if st := r.Status(); st.Snapshot != nil || st.Err != nil || r.Ready() {
			t.Errorf("%+v", st)
		}
		r.refresh(t.Context())
		if st := r.Status(); st.Err != nil || st.Snapshot.operations() != 2400 {
			t.Errorf("%+v", st)
		}
	})
}
