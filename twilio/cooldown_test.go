package twilio

import (
	"bytes"
	"context"
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestRetryAfter(t *testing.T) {
	date := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	const ages = 1e9 * time.Second
	for _, tt := range []struct {
		header string // several are given as lines
		want   time.Duration
		ok     bool
	}{
		{"0", 0, true},
		{"7", 7 * time.Second, true},
		{" 120 ", 2 * time.Minute, true},
		{"2.5", 2500 * time.Millisecond, true},
		{"3.0", 3 * time.Second, true},
		{"+3", 3 * time.Second, true},
		{"1, 60", time.Minute, true},
		{"60,1", time.Minute, true},
		{"1\n60", time.Minute, true},
		{"60\nsoon", time.Minute, true},
		{"20\nSun, 01 Mar 2026 12:00:30 GMT", 30 * time.Second, true},
		{"40\nSun, 01 Mar 2026 12:00:30 GMT", 40 * time.Second, true},
		{"99999999999", ages, true},
		{"18446744073709551616", ages, true},
		{strings.Repeat("9", 500), ages, true},
		{"Sun, 01 Mar 2026 12:00:30 GMT", 30 * time.Second, true},
		{"Sunday, 01-Mar-26 12:00:30 GMT", 30 * time.Second, true},
		{"Sun Mar  1 12:00:30 2026", 30 * time.Second, true},
		{"Sun, 01 Mar 2026 11:00:00 GMT", 0, true},
		{"Fri, 31 Dec 9999 23:59:59 GMT", math.MaxInt64, true},
		{"", 0, false},
		{"\n", 0, false},
		{".", 0, false},
		{"-1", 0, false},
		{"0x10", 0, false},
		{"1e3", 0, false},
		{"Inf", 0, false},
		{"1 2", 0, false},
		{"1.2.3", 0, false},
		{"soon", 0, false},
		{"2026-03-01T12:00:30Z", 0, false},
	} {
		if got, ok := retryAfter(strings.Split(tt.header, "\n"), date); got != tt.want || ok != tt.ok {
			t.Errorf("%.40q: %v %v, want %v %v", tt.header, got, ok, tt.want, tt.ok)
		}
	}

	if got, ok := retryAfter(nil, date); got != 0 || ok {
		t.Errorf("no header: %v %v", got, ok)
	}
}

func FuzzRetryAfter(f *testing.F) {
	f.Add("120", "", int64(0))
	f.Add("Sun, 01 Mar 2026 12:00:30 GMT", "5", int64(1772366400))
	f.Add("-1", "1, 2.5", int64(-62135596800))
	f.Add("99999999999999999999", "+3", int64(math.MaxInt32))
	f.Fuzz(func(t *testing.T, one, two string, unix int64) {
		date := time.Unix(unix%(1<<40), 0)
		first, firstOK := retryAfter([]string{one}, date)
		second, secondOK := retryAfter([]string{two}, date)
		both, ok := retryAfter([]string{one, two}, date)
		if first < 0 || !firstOK && first != 0 {
			t.Errorf("%q: %v %v", one, first, firstOK)
		}
		if both != max(first, second) || ok != (firstOK || secondOK) {
			t.Errorf("%q: %v, %q: %v, both: %v %v", one, first, two, second, both, ok)
		}
		if seconds, err := strconv.ParseUint(one, 10, 16); err == nil && first != time.Duration(seconds)*time.Second {
			t.Errorf("%q: %v", one, first)
		}
	})
}

func TestBackoff(t *testing.T) {
	for attempt, most := range map[int]time.Duration{
		0: 500 * time.Millisecond, 1: time.Second, 3: 4 * time.Second, 6: 30 * time.Second, 1000: 30 * time.Second,
	} {
		for range 100 {
			if d := backoff(attempt); d < most/2 || d >= most {
				t.Errorf("attempt %d: %v, want %v to %v", attempt, d, most/2, most)
			}
		}
	}
}

// TestCooldownStopsAllWorkers checks that one 429 stops all goroutines of a client for as long as it says. Requests in
// flight are finished.
func TestCooldownStopsAllWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const asked = 60 * time.Second
		var log bytes.Buffer
		api := newFakeAPI(nil)
		api.answer = func(n int, req *http.Request) (*http.Response, error) {
			if n == 10 {
				<-time.After(50 * time.Millisecond)
				return answer(req, 429, string(readTestdata(t, "error-429.json")), "Retry-After", "60"), nil
			}
			<-time.After(100 * time.Millisecond)
			return answer(req, 200, pageOf(``, one)), nil
		}

		observed := &records{}
		c := testClient(t, "https://api.test", api, withObserve(observed), withLog(&log))
		if !c.RetryAt().IsZero() {
			t.Error("closed from the start")
		}

		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 4 {
					if err := first(t.Context(), c); err != nil {
						t.Error(err)
					}
				}
			})
		}

		<-time.After(10 * time.Second)
		synctest.Wait()
		waited := c.Throttled() // while it goes on
		wg.Wait()

		// Each sends one at 0 and one at 100 ms; one of the latter is refused.
		const shut = 150 * time.Millisecond
		sent := api.requests()
		if len(sent) != 33 {
			t.Fatalf("%d requests, want 32 and one again", len(sent))
		}
		for i, at := range sent {
			if i < 16 && at >= shut || i >= 16 && (at < shut+asked || at > shut+asked+3*time.Second) {
				t.Errorf("request %d went out %v after the 429", i+1, at-shut)
			}
		}

		if waited != 10*time.Second-shut {
			t.Errorf("throttled for %v while waiting, want %v: goroutines do not add up", waited, 10*time.Second-shut)
		}
		if total := c.Throttled(); total < asked || total > asked+3*time.Second {
			t.Errorf("throttled for %v in the end", total)
		}
		if !c.RetryAt().IsZero() {
			t.Error("still closed")
		}
		if n := strings.Count(log.String(), "API is throttling"); n != 1 {
			t.Errorf("logged %d times:\n%s", n, &log)
		}
		if n := len(observed.codes()); n != 33 {
			t.Errorf("%d requests observed", n)
		}
	})
}

// TestCooldownIsExtended checks that requests in flight when a cooldown starts may extend it but never shorten it, also
// for those already waiting.
func TestCooldownIsExtended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newFakeAPI(func(n int, req *http.Request) (*http.Response, error) {
			switch n {
			case 1:
				<-time.After(1 * time.Second)
				return answer(req, 503, "", "Retry-After", "10"), nil
			case 2:
				<-time.After(5 * time.Second)
				return answer(req, 429, "", "Retry-After", "60"), nil
			case 3:
				<-time.After(6 * time.Second)
				return answer(req, 429, "", "Retry-After", "1"), nil
			}
			return answer(req, 200, one), nil
		})

		c := testClient(t, "https://api.test", api)
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if _, err := c.FetchOperation(t.Context(), oneDecoded.ID); err != nil {
					t.Error(err)
				}
			})
		}

		wg.Wait()
		sent := api.requests()
		if len(sent) != 6 {
			t.Errorf("%d requests", len(sent))
		}
		for _, at := range sent[3:] {
			if at < 65*time.Second {
				t.Errorf("a request after %v, within the cooldown", at)
			}
		}
	})
}

func TestCooldownBeyondTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newFakeAPI(func(_ int, req *http.Request) (*http.Response, error) {
			return answer(req, 429, "", "Retry-After", "3600"), nil
		})
		c := testClient(t, "https://api.test", api)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()

		for range 2 { // the second does not even ask
			err := first(ctx, c)
			var throttled *ThrottledError
			if !errors.Is(err, ErrThrottled) || !errors.As(err, &throttled) {
				t.Fatalf("got %v, want a *ThrottledError", err)
			}
			if throttled.StatusCode != http.StatusTooManyRequests || !throttled.RetryAt.Equal(c.RetryAt()) {
				t.Errorf("%+v", throttled)
			}
		}

		if d := time.Since(api.start); d != 0 {
			t.Errorf("it took %v", d)
		}
		if d := time.Until(c.RetryAt()); d < time.Hour || d > time.Hour+3*time.Second {
			t.Errorf("shut for %v", d)
		}
		if n := len(api.requests()); n != 1 {
			t.Errorf("%d requests", n)
		}
		if d := c.Throttled(); d != 0 {
			t.Errorf("throttled for %v though nobody waited", d)
		}
	})
}

// TestCooldownMovesBeyondTheDeadline checks that waiting ends as soon as the cooldown outlasts the deadline.
func TestCooldownMovesBeyondTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCooldown()
		c.extend(time.Now().Add(10*time.Second), 429)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		got := make(chan error)
		go func() { got <- c.wait(ctx) }()
		<-time.After(3 * time.Second)
		c.extend(time.Now().Add(time.Hour), 503)
		var throttled *ThrottledError
		if err := <-got; !errors.As(err, &throttled) || throttled.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("got %v", err)
		}
		if d := time.Since(start); d != 3*time.Second {
			t.Errorf("ended after %v", d)
		}
		if d := c.throttled(); d != 3*time.Second {
			t.Errorf("throttled for %v", d)
		}
	})
}

func TestCooldownCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newFakeAPI(func(_ int, req *http.Request) (*http.Response, error) {
			return answer(req, 429, "", "Retry-After", "3600"), nil
		})
		c := testClient(t, "https://api.test", api)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(5*time.Second, cancel)
		if err := first(ctx, c); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if d := time.Since(api.start); d != 5*time.Second {
			t.Errorf("ended after %v", d)
		}
		if d := c.Throttled(); d != 5*time.Second {
			t.Errorf("throttled for %v", d)
		}
	})
}

// TestShareCooldown checks that a client waits for a shared cooldown, and does not count time from before it was
// shared.
func TestShareCooldown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newFakeAPI(func(_ int, req *http.Request) (*http.Response, error) {
			return answer(req, 429, "", "Retry-After", "3600"), nil
		})
		before, after := testClient(t, "https://api.test", api), testClient(t, "https://api.test", api)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(5*time.Second, cancel)
		_ = first(ctx, before)
		after.ShareCooldown(before)
		if d := after.Throttled(); d != 0 || after.RetryAt() != before.RetryAt() {
			t.Errorf("throttled for %v, until %v", d, after.RetryAt())
		}
		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(3*time.Second, cancel)
		if err := first(ctx, after); !errors.Is(err, context.Canceled) || len(api.requests()) != 1 {
			t.Errorf("got %v after %d requests", err, len(api.requests()))
		}
		if d := after.Throttled(); d != 3*time.Second {
			t.Errorf("throttled for %v", d)
		}
	})
}

// TestRetryAfterOfAnAnswer checks how long a 429 or 503 holds back the next request.
func TestRetryAfterOfAnAnswer(t *testing.T) {
	server := func(ahead time.Duration) string { return time.Now().Add(ahead).UTC().Format(http.TimeFormat) }
	tests := []struct {
		name   string
		status int
		header func() []string
		least  time.Duration
		most   time.Duration // 0: least, and jitter
	}{
		{"fraction", 429, func() []string { return []string{"Retry-After", "20.5"} }, 20500 * time.Millisecond, 0},
		{"seconds", 429, func() []string { return []string{"Retry-After", "20"} }, 20 * time.Second, 0},
		{"503", 503, func() []string { return []string{"Retry-After", "20"} }, 20 * time.Second, 0},
		{
			"date, clocks agree",
			429,
			func() []string { return []string{"Retry-After", server(20 * time.Second), "Date", server(0)} },
			20 * time.Second,
			0,
		},
		{"date, API an hour ahead", 429, func() []string {
			return []string{"Retry-After", server(time.Hour + 20*time.Second), "Date", server(time.Hour)}
		}, 20 * time.Second, 0},
		{"date, API an hour behind", 503, func() []string {
			return []string{"Retry-After", server(-time.Hour + 20*time.Second), "Date", server(-time.Hour)}
		}, 20 * time.Second, 0},
		{
			"date without Date: the clock of the last 200",
			429,
			func() []string { return []string{"Retry-After", server(-time.Minute + 20*time.Second)} },
			20 * time.Second,
			0,
		},
		{
			"date in the past",
			429,
			func() []string { return []string{"Retry-After", server(-time.Hour), "Date", server(0)} },
			0,
			0,
		},
		{"nothing", 429, func() []string { return nil }, time.Second, time.Second},
		{"negative", 429, func() []string { return []string{"Retry-After", "-20"} }, time.Second, time.Second},
		{"nonsense", 503, func() []string { return []string{"Retry-After", "later"} }, time.Second, time.Second},
	}

	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var refused time.Time
				api := newFakeAPI(func(n int, req *http.Request) (*http.Response, error) {
					switch n {
					case 1:
						return answer(req, 200, one, "Date", server(-time.Minute)), nil
					case 2:
						refused = time.Now()
						return answer(req, tt.status, "", tt.header()...), nil
					}
					return answer(req, 200, one), nil
				})

				c := testClient(t, "https://api.test", api)
				for range 2 {
					if _, err := c.FetchOperation(t.Context(), oneDecoded.ID); err != nil {
						t.Fatal(err)
					}
				}

				most := tt.most
				if most == 0 {
					most = tt.least + 100*time.Millisecond + tt.least/20
				}
				if d := time.Since(refused); d < tt.least || d > most {
					t.Errorf("sent again after %v, want %v to %v", d, tt.least, most)
				}
			})
		})
	}
}

// TestRetryAfterAnHourAtMost checks that no answer stops an account for more than an hour.
func TestRetryAfterAnHourAtMost(t *testing.T) {
	for name, header := range map[string][]string{
		"seconds":             {"Retry-After", "99999999999"},
		"no number for it":    {"Retry-After", strings.Repeat("9", 400)},
		"date":                {"Retry-After", "Fri, 31 Dec 9999 23:59:59 GMT"},
		"date, wrong by ages": {"Retry-After", "Sun, 01 Mar 2026 12:00:00 GMT", "Date", "Thu, 01 Jan 1970 00:00:00 GMT"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				api := newFakeAPI(func(_ int, req *http.Request) (*http.Response, error) {
					return answer(req, 429, "", header...), nil
				})
				c := testClient(t, "https://api.test", api, withLog(&log))
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				if err := first(ctx, c); !errors.Is(err, ErrThrottled) {
					t.Errorf("got %v", err)
				}
				if d := time.Until(c.RetryAt()); d < time.Hour || d > time.Hour+3*time.Second {
					t.Errorf("paused for %v", d)
				}
				if !strings.Contains(log.String(), "waiting an hour") {
					t.Errorf("the log does not say so:\n%s", &log)
				}
			})
		})
	}
}

// TestCooldownIsMonotonic checks that setting the local clock does not affect a cooldown.
func TestCooldownIsMonotonic(t *testing.T) {
	api := newFakeAPI(func(_ int, req *http.Request) (*http.Response, error) {
		return answer(req, 503, "", "Retry-After", "600"), nil
	})
	c := testClient(t, "https://api.test", api, func(o *Options) { o.MaxRetries = 0 })
	if err := first(t.Context(), c); err == nil {
		t.Fatal("no error")
	}
	if at := c.RetryAt(); at == at.Round(0) { //nolint:staticcheck // == sees the monotonic reading
		t.Errorf("%v has no monotonic reading", at)
	}
}

// TestPace checks that rate limit and cooldown both apply.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newFakeAPI(func(n int, req *http.Request) (*http.Response, error) {
			if n == 15 {
				return answer(req, 503, "", "Retry-After", "30"), nil
			}
			return answer(req, 200, pageOf(``, one)), nil
		})

		c := testClient(t, "https://api.test", api, func(o *Options) { o.RateLimit = 10 })
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 5 {
					if err := first(t.Context(), c); err != nil {
						t.Error(err)
					}
				}
			})
		}

		wg.Wait()
		sent := api.requests()
		if len(sent) != 41 {
			t.Fatalf("%d requests", len(sent))
		}
		for i := range sent {
			if i >= 11 && sent[i]-sent[i-11] < time.Second {
				t.Errorf("12 requests in %v", sent[i]-sent[i-11])
			}
		}

		if gap := sent[15] - sent[14]; gap < 30*time.Second {
			t.Errorf("a request %v after the 503", gap)
		}
		if total := sent[40]; total > 38*time.Second {
			t.Errorf("took %v: pace lost", total)
		}
	})
}

func TestPaceBeyondTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newFakeAPI(func(_ int, req *http.Request) (*http.Response, error) { return answer(req, 200, one), nil })
		c := testClient(t, "https://api.test", api, func(o *Options) { o.RateLimit = 0.1 })
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if _, err := c.FetchOperation(ctx, oneDecoded.ID); err != nil {
			t.Fatal(err)
		}
		_, err := c.FetchOperation(ctx, oneDecoded.ID)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if d := time.Since(api.start); d != 0 {
			t.Errorf("it took %v to say so", d)
		}
		if n := len(api.requests()); n != 1 {
			t.Errorf("%d requests", n)
		}
	})
}

// TestInFlight checks that no more than InFlight requests are in flight, and that all get their turn.
func TestInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var flying, most atomic.Int32
		api := newFakeAPI(func(_ int, req *http.Request) (*http.Response, error) {
			most.Store(max(most.Load(), flying.Add(1)))
			defer flying.Add(-1)
			<-time.After(time.Second)
			return answer(req, 200, pageOf(``, one)), nil
		})

		c := testClient(t, "https://api.test", api, func(o *Options) { o.InFlight = 3 })
		start := time.Now()
		var wg sync.WaitGroup
		for range 9 {
			wg.Go(func() {
				if err := first(t.Context(), c); err != nil {
					t.Error(err)
				}
			})
		}

		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		synctest.Wait()
		if err := first(ctx, c); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("without a place: %v", err)
		}
		wg.Wait()
		if took := time.Since(start); most.Load() != 3 || took != 3*time.Second {
			t.Errorf("%d in flight, all after %v", most.Load(), took)
		}
	})
}
