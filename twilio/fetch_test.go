package twilio

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func isFetch(req *http.Request) bool { return strings.Contains(req.URL.Path, "comms_operation_") }

// TestFetchesComeSecond checks that while a list is read, fetches get at most half of the rate and half of the requests
// in flight.
func TestFetchesComeSecond(t *testing.T) {
	for _, tt := range []struct{ inFlight, fetches int }{{0, 4}, {1, 1}, {4, 2}, {16, 4}} {
		t.Run(strconv.Itoa(tt.inFlight), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const pages = 100
				var lists, fetches, flying, most atomic.Int32
				api := newFakeAPI(func(_ int, req *http.Request) (*http.Response, error) {
					if isFetch(req) {
						fetches.Add(1)
						most.Store(max(most.Load(), flying.Add(1)))
						defer flying.Add(-1)
						<-time.After(400 * time.Millisecond)
						return answer(req, 200, one), nil
					}

					<-time.After(10 * time.Millisecond)
					next := ""
					if n := lists.Add(1); n < pages {
						next = fmt.Sprintf(`"next":"%d"`, n)
					}
					return answer(req, 200, pageOf(next, one)), nil
				})

				c := testClient(t, "https://api.test", api, func(o *Options) { o.RateLimit, o.InFlight = 10, tt.inFlight })
				ctx, cancel := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				for range 50 {
					wg.Go(func() {
						for ctx.Err() == nil {
							if _, err := c.FetchOperation(ctx, oneDecoded.ID); err != nil && ctx.Err() == nil {
								t.Error(err)
							}
						}
					})
				}

				<-time.After(10 * time.Second)
				synctest.Wait()
				if n := int(most.Load()); n != tt.fetches {
					t.Errorf("%d fetches at the same time, want %d", n, tt.fetches)
				}
				if alone := fetches.Load(); tt.inFlight == 0 && alone < 80 {
					t.Errorf("%d fetches in 10 s with nothing else to do, want about 10 a second", alone)
				}
				start, before := time.Now(), fetches.Load()
				if ids, err := readAll(t, c); err != nil || len(ids) != pages {
					t.Errorf("%d operations, %v", len(ids), err)
				}
				cancel()
				wg.Wait()
				if n := fetches.Load() - before; n > pages+maxAside+1 {
					t.Errorf("%d fetches beside %d pages", n, pages)
				}
				if took := time.Since(start); tt.inFlight != 1 && took > pages*200*time.Millisecond+time.Second {
					t.Errorf("the list took %v: less than half the rate", took)
				}
			})
		})
	}
}

// TestFetchesEndWithTheirContext checks that an abandoned fetch ends at once, whatever it waits for, sends nothing and
// frees its place.
func TestFetchesEndWithTheirContext(t *testing.T) {
	const wait = time.Second
	for name, block := range map[string]func(c *Client, api *fakeAPI){
		"a fetch's place":     func(c *Client, _ *fakeAPI) { c.gate.aside = 0 },
		"a request's place":   func(c *Client, _ *fakeAPI) { c.gate.places = 0 },
		"the rate":            func(c *Client, _ *fakeAPI) { c.gate.next = time.Now().Add(time.Minute) },
		"the rate of fetches": func(c *Client, _ *fakeAPI) { c.gate.lists, c.gate.nextAside = 1, time.Now().Add(time.Minute) },
		"the cooldown":        func(c *Client, _ *fakeAPI) { c.cooldown.extend(time.Now().Add(time.Hour), 429) },
		"the next attempt": func(_ *Client, api *fakeAPI) {
			api.answer = func(_ int, req *http.Request) (*http.Response, error) { return answer(req, 502, ""), nil }
		},
		"the answer": func(_ *Client, api *fakeAPI) {
			api.answer = func(_ int, req *http.Request) (*http.Response, error) {
				<-req.Context().Done()
				return nil, req.Context().Err()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := newFakeAPI(func(_ int, req *http.Request) (*http.Response, error) { return answer(req, 200, one), nil })
				c := testClient(t, "https://api.test", api, func(o *Options) { o.RateLimit, o.InFlight = 100, 100 })
				c.backoff = func(int) time.Duration { return time.Hour }
				block(c, api)
				var wg sync.WaitGroup
				for range 20 {
					wg.Go(func() {
						ctx, cancel := context.WithCancel(t.Context())
						defer time.AfterFunc(wait, cancel).Stop()
						start := time.Now()
						if _, err := c.FetchOperation(ctx, oneDecoded.ID); !errors.Is(err, context.Canceled) {
							t.Errorf("got %v", err)
						}
						if took := time.Since(start); took != wait {
							t.Errorf("ended after %v", took)
						}
					})
				}

				wg.Wait()
				if c.gate.flying != [priorities]int{} || c.gate.waiting[probing].Len() > 0 {
					t.Errorf("some places are still taken: %v, and %d wait", c.gate.flying, c.gate.waiting[probing].Len())
				}
			})
		})
	}
}

// TestAbandonedFetchesCostNothing checks that any number of fetches abandoned before they were sent take nothing from
// the pace of a list.
func TestAbandonedFetchesCostNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newFakeAPI(func(_ int, req *http.Request) (*http.Response, error) {
			<-time.After(time.Second)
			return answer(req, 200, pageOf("")), req.Context().Err()
		})

		c := testClient(t, "https://api.test", api, func(o *Options) { o.RateLimit, o.InFlight = 10, 4 })
		var probes sync.WaitGroup
		stop := time.Now().Add(time.Minute)
		for range 10 {
			probes.Go(func() {
				for time.Now().Before(stop) {
					ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
					_, _ = c.FetchOperation(ctx, oneDecoded.ID)
					<-ctx.Done()
					cancel()
				}
			})
		}

		<-time.After(30 * time.Second)
		start := time.Now()
		if _, err := readAll(t, c); err != nil {
			t.Error(err)
		}
		// A place in turn with one fetch, and the answer.
		if took, most := time.Since(start), 1300*time.Millisecond; took > most {
			t.Errorf("a list of one request took %v, want at most %v", took, most)
		}
		probes.Wait()
		if c.gate.next.After(time.Now().Add(100 * time.Millisecond)) {
			t.Errorf("the next request may go in %v", time.Until(c.gate.next))
		}
	})
}

// TestPriorities checks that samples wait for refreshes and probes, and that all keep the pace.
func TestPriorities(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(10, 4)
		g.countList(+1)
		var mu sync.Mutex
		var order []priority
		var at []time.Time
		var wg sync.WaitGroup
		enter := func(p priority) {
			wg.Go(func() {
				if _, err := g.enter(t.Context(), p); err != nil {
					t.Error(err)
				}
				mu.Lock()
				order, at = append(order, p), append(at, time.Now())
				mu.Unlock()
				g.leave(p)
			})
			synctest.Wait()
		}

		enter(refreshing) // at once
		for _, p := range []priority{sampling, sampling, probing, probing, refreshing, refreshing, refreshing} {
			enter(p)
		}
		wg.Wait()
		want := []priority{
			refreshing, probing, refreshing, probing, refreshing, refreshing, sampling, sampling,
		}
		if !slices.Equal(order, want) {
			t.Errorf("got %v, want %v", order, want)
		}

		for i := range at[1:] {
			if apart := at[i+1].Sub(at[i]); apart < 100*time.Millisecond {
				t.Errorf("requests %d and %d are %v apart", i, i+1, apart)
			}
		}

		g.countList(-1)
	})
}

// TestSharePace checks that two clients of one account share pace and cooldown.
func TestSharePace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		status := 200
		api := newFakeAPI(func(_ int, req *http.Request) (*http.Response, error) {
			return answer(req, status, pageOf(""), "Retry-After", "60"), nil
		})
		limited := func(o *Options) { o.RateLimit, o.MaxRetries = 1, 0 }
		messages := testClient(t, "https://api.test", api, limited)
		emails := testClient(t, "https://api.test", api, limited)
		emails.SharePace(messages)

		for range 3 {
			_, _ = readAll(t, messages)
			_, _ = readAll(t, emails)
		}

		for i, at := range api.requests() {
			if want := time.Duration(i) * time.Second; at != want {
				t.Errorf("request %d went out after %v, want %v", i, at, want)
			}
		}

		status = 429
		_, _ = readAll(t, emails)
		if messages.RetryAt().IsZero() {
			t.Error("one may send although the other was told to wait")
		}
	})
}
