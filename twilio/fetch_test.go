package twilio

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/semaphore"
)

func isFetch(req *http.Request) bool { return strings.Contains(req.URL.Path, "comms_operation_") }

// While a list is read, operations are fetched at no more than half the rate,
// by no more than half of the requests in flight.
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
				if n := fetches.Load() - before; n > pages+maxFetches+1 {
					t.Errorf("%d fetches beside %d pages", n, pages)
				}
				if took := time.Since(start); tt.inFlight != 1 && took > pages*200*time.Millisecond+time.Second {
					t.Errorf("the list took %v: less than half the rate", took)
				}
			})
		})
	}
}

// A fetch that nobody waits for any more ends at once, whatever it waits for,
// sends nothing and leaves its place to others.
func TestFetchesEndWithTheirContext(t *testing.T) {
	const wait = time.Second
	for name, block := range map[string]func(c *Client, api *fakeAPI){
		"a fetch's place": func(c *Client, _ *fakeAPI) { c.fetches = semaphore.NewWeighted(0) },
		"the rate of fetches": func(c *Client, _ *fakeAPI) {
			c.lists.Add(1)
			c.fetchLimiter.SetLimit(0.01)
			c.fetchLimiter.Allow()
		},
		"a request's place": func(c *Client, _ *fakeAPI) { c.inFlight = semaphore.NewWeighted(0) },
		"the rate":          func(c *Client, _ *fakeAPI) { c.limiter.SetLimit(0.01); c.limiter.Allow() },
		"the cooldown":      func(c *Client, _ *fakeAPI) { c.cooldown.extend(time.Now().Add(time.Hour), 429) },
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
				fetches, inFlight := c.fetches, c.inFlight
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
				if !fetches.TryAcquire(maxFetches) || !inFlight.TryAcquire(100) {
					t.Error("some places are still taken")
				}
			})
		})
	}
}
