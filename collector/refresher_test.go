package collector

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"twilio_operations_exporter/twilio"
)

func settings() Settings {
	return Settings{
		Account: "test", Interval: time.Minute, Window: 4 * time.Hour, RefreshTimeout: 15 * time.Minute,
		MaxAge: 10 * time.Minute, PageSize: 10, Concurrency: 4, MaxStaleness: 0.1, Named: 3,
	}
}

// stubAPI answers every request with what page says. Its clock is the local
// one.
type stubAPI struct {
	page func(ctx context.Context, q twilio.Query, n int) (*twilio.Page, error)

	mu       sync.Mutex
	requests int
	begun    []time.Time // of each request
	flying   int
	most     int // flying at the same time
	retryAt  time.Time
}

func (a *stubAPI) Now() time.Time              { return time.Now() }
func (a *stubAPI) Skew() (time.Duration, bool) { return 0, a.count() > 0 }
func (a *stubAPI) Throttled() time.Duration    { return 0 }

func (a *stubAPI) RetryAt() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.retryAt
}

func (a *stubAPI) throttle(d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.retryAt = time.Now().Add(d)
}

func (a *stubAPI) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.requests
}

func (a *stubAPI) fly(d int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.flying += d
	a.most = max(a.most, a.flying)
	if d > 0 {
		a.requests++
		a.begun = append(a.begun, time.Now())
	}
}

func (a *stubAPI) Pages(ctx context.Context, q twilio.Query) iter.Seq2[*twilio.Page, error] {
	return func(yield func(*twilio.Page, error) bool) {
		for n := 0; ; n++ {
			a.fly(+1)
			page, err := a.page(ctx, q, n)
			a.fly(-1)
			if err != nil {
				yield(nil, fmt.Errorf("list_operations: %w", err))
				return
			}
			if !yield(page, nil) || page.Next == "" {
				return
			}
		}
	}
}

// after answers with p when some time has passed.
func after(d time.Duration, p func() (*twilio.Page, error)) func(context.Context, twilio.Query, int) (*twilio.Page, error) {
	return func(ctx context.Context, _ twilio.Query, _ int) (*twilio.Page, error) {
		select {
		case <-time.After(d):
			return p()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func empty() (*twilio.Page, error) { return &twilio.Page{}, nil }

// completed is a page with so many operations, created now.
func completed(n int) *twilio.Page {
	p := &twilio.Page{}
	for i := range n {
		p.Operations = append(p.Operations, twilio.Operation{
			ID: fmt.Sprintf("comms_operation_%d", i), Status: twilio.StatusCompleted,
			CreatedAt: time.Now(), UpdatedAt: time.Now(), Stats: twilio.Stats{Total: 10, Delivered: 10},
		})
	}
	return p
}

// logBuffer is a log that is read while it is written.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func (b *logBuffer) Reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.buf.Reset()
}

// rig is a refresher with its registry and log.
type rig struct {
	*Refresher
	t    *testing.T
	api  *stubAPI
	reg  *prometheus.Registry
	own  *Metrics
	log  *logBuffer
	stop context.CancelFunc
	done chan struct{} // closed when Run has returned
}

func newRig(t *testing.T, api *stubAPI, change func(*Settings)) *rig {
	s := settings()
	if change != nil {
		change(&s)
	}
	g := &rig{t: t, api: api, reg: prometheus.NewRegistry(), log: new(logBuffer), done: make(chan struct{})}
	g.own = NewMetrics(g.reg)
	g.Refresher = NewRefresher(s, api, g.own.Account(s.Account), log.NewLogfmtLogger(g.log))
	return g
}

func onScrape(s *Settings) { s.Interval = 0 }

// run starts Run, and stops it at the end of the test.
func (g *rig) run(delay time.Duration) {
	ctx, cancel := context.WithCancel(g.t.Context())
	g.stop = cancel
	go func() {
		defer close(g.done)
		g.Run(ctx, delay)
	}()
	g.t.Cleanup(func() {
		cancel()
		<-g.done
	})
}

// scrape returns the samples of a scrape by series, histograms aside.
func (g *rig) scrape(ctx context.Context) map[string]float64 {
	g.t.Helper()
	return g.gather(Scrape(ctx, []*Refresher{g.Refresher}))
}

func (g *rig) gather(c prometheus.Collector) map[string]float64 {
	g.t.Helper()
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(c)
	samples := make(map[string]float64)
	families, err := prometheus.Gatherers{reg, g.reg}.Gather()
	if err != nil {
		g.t.Error(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			parts := []string{f.GetName()}
			for _, l := range m.GetLabel() {
				if l.GetName() != "account" {
					parts = append(parts, l.GetValue())
				}
			}
			name := strings.Join(parts, "/")
			switch {
			case m.GetGauge() != nil:
				samples[name] = m.GetGauge().GetValue()
			case m.GetCounter() != nil:
				samples[name] = m.GetCounter().GetValue()
			}
		}
	}
	return samples
}

// want compares some samples; NaN wants none.
func (g *rig) want(got, want map[string]float64) {
	g.t.Helper()
	for name, w := range want {
		switch v, ok := got[name]; {
		case math.IsNaN(w) && ok:
			g.t.Errorf("%s is %v, want none", name, v)
		case !math.IsNaN(w) && (!ok || v != w):
			g.t.Errorf("%s is %v (there: %t), want %v", name, v, ok, w)
		}
	}
}

var none = math.NaN()

func wait(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// The loop refreshes from start to start, also when a refresh takes longer
// than the interval.
func TestLoopTicksFromStartToStart(t *testing.T) {
	const interval = time.Minute
	tests := []struct {
		name  string
		took  time.Duration // the first refresh; the others take no time
		delay time.Duration
		want  []time.Duration
	}{
		{"at once", 0, 0, []time.Duration{0, 60 * time.Second, 120 * time.Second, 180 * time.Second}},
		{"delayed", 0, 7 * time.Second, []time.Duration{7 * time.Second, 67 * time.Second, 127 * time.Second}},
		{"slow", 59 * time.Second, 0, []time.Duration{0, 60 * time.Second, 120 * time.Second}},
		{"a tick late", 70 * time.Second, 0, []time.Duration{0, 70 * time.Second, 120 * time.Second, 180 * time.Second}},
		{"ticks late", 250 * time.Second, 0, []time.Duration{0, 250 * time.Second, 300 * time.Second, 360 * time.Second}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := &stubAPI{}
				api.page = func(ctx context.Context, q twilio.Query, n int) (*twilio.Page, error) {
					if api.count() == 1 {
						return after(tt.took, empty)(ctx, q, n)
					}
					return empty()
				}
				g := newRig(t, api, func(s *Settings) { s.Interval = interval })
				start := time.Now()
				g.run(tt.delay)
				wait(tt.want[len(tt.want)-1] + interval/2)
				var got []time.Duration
				for _, at := range api.begun {
					got = append(got, at.Sub(start))
				}
				if !slices.Equal(got, tt.want) {
					t.Errorf("refreshes began at %v, want %v", got, tt.want)
				}
				if next, at := g.Status().NextRefresh, time.Now().Add(interval/2); !next.Equal(at) {
					t.Errorf("next refresh at %v, want %v", next, at)
				}
			})
		})
	}
}

func TestScrapesInBackgroundModeCostNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &stubAPI{page: after(10*time.Second, func() (*twilio.Page, error) { return completed(3), nil })}
		g := newRig(t, api, nil)
		g.run(0)
		wait(time.Second) // the first refresh is under way
		start := time.Now()
		for range 100 {
			g.want(g.scrape(t.Context()), map[string]float64{
				"twilio_up": 0, "twilio_operations_window_seconds": 14400, "twilio_operations/COMPLETED": none,
				"twilio_messages_total": 0, "twilio_exporter_last_success_timestamp_seconds": 0,
				"twilio_exporter_refreshes_total/success": 0, "twilio_exporter_refreshes_total/error": 0,
			})
		}
		if st := g.Status(); st.State != StateReading || st.Current || g.Ready() {
			t.Errorf("state %q, current %t, ready %t", st.State, st.Current, g.Ready())
		}
		wait(10 * time.Second)
		for range 100 {
			g.want(g.scrape(t.Context()), map[string]float64{
				"twilio_up": 1, "twilio_operations/COMPLETED": 3, "twilio_operations/SCHEDULED": 0,
				"twilio_operation_messages_delivered/COMPLETED": 30, "twilio_messages_total": 0,
				"twilio_exporter_refreshes_total/success": 1, "twilio_exporter_operations_read_total": 3,
			})
		}
		if n := api.count(); n != 1 {
			t.Errorf("%d requests, want 1", n)
		}
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("scrapes waited: %v went by", took)
		}
		if st := g.Status(); st.State != StateFresh || !st.Current || !g.Ready() {
			t.Errorf("state %q, current %t, ready %t", st.State, st.Current, g.Ready())
		}
	})
}

func TestScrapesShareOneRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &stubAPI{page: after(time.Second, func() (*twilio.Page, error) { return completed(2), nil })}
		g := newRig(t, api, onScrape)
		if !g.Ready() || !g.Healthy() {
			t.Error("on-scrape mode is ready and healthy at once")
		}
		g.run(0)
		for round := range 3 {
			var wg sync.WaitGroup
			for range 100 {
				wg.Go(func() {
					g.want(g.scrape(t.Context()), map[string]float64{"twilio_up": 1, "twilio_operations/COMPLETED": 2})
				})
			}
			wg.Wait()
			if n := api.count(); n != round+1 {
				t.Fatalf("%d requests after %d rounds of scrapes", n, round+1)
			}
		}
		wait(24 * time.Hour)
		if n := api.count(); n != 3 {
			t.Errorf("%d requests, want 3: nobody scrapes", n)
		}
		if !g.Healthy() {
			t.Error("on-scrape mode is always healthy")
		}
	})
}

func TestScrapeThatTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var size int
		var took time.Duration
		api := &stubAPI{}
		api.page = func(ctx context.Context, q twilio.Query, n int) (*twilio.Page, error) {
			return after(took, func() (*twilio.Page, error) { return completed(size), nil })(ctx, q, n)
		}
		g := newRig(t, api, onScrape)
		g.run(0)
		size = 2
		g.want(g.scrape(t.Context()), map[string]float64{"twilio_up": 1, "twilio_operations/COMPLETED": 2})

		size, took = 3, 25*time.Second
		impatient := func() map[string]float64 {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			return g.scrape(ctx)
		}
		start := time.Now()
		for range 2 {
			g.want(impatient(), map[string]float64{
				"twilio_up": 0, "twilio_operations/COMPLETED": 2, "twilio_exporter_refreshes_total/error": 0,
			})
		}
		if d := time.Since(start); d != 20*time.Second {
			t.Errorf("two scrapes of 10s took %v", d)
		}
		// The third is there when the refresh that the first began ends.
		g.want(impatient(), map[string]float64{"twilio_up": 1, "twilio_operations/COMPLETED": 3})
		if d := time.Since(start); d != 25*time.Second {
			t.Errorf("the refresh ended after %v, want 25s", d)
		}
		if n := api.count(); n != 2 {
			t.Errorf("%d requests, want 2", n)
		}
	})
}

func TestScrapeOfSeveralAccountsWaitsForAllAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		page := after(time.Second, empty)
		var rs []*Refresher
		for i := range 5 {
			g := newRig(t, &stubAPI{page: page}, func(s *Settings) {
				s.Account = fmt.Sprint("account", i)
				s.Interval = time.Duration(i%2) * time.Minute
			})
			g.run(time.Hour)
			rs = append(rs, g.Refresher)
		}
		start := time.Now()
		reg := prometheus.NewPedanticRegistry()
		reg.MustRegister(Scrape(t.Context(), rs))
		if d := time.Since(start); d != time.Second {
			t.Errorf("took %v, want 1s", d)
		}
		const want = `
# HELP twilio_up Whether the last refresh to end succeeded and, when refreshing on each scrape, ended within this scrape.
# TYPE twilio_up gauge
twilio_up{account="account0"} 1
twilio_up{account="account1"} 0
twilio_up{account="account2"} 1
twilio_up{account="account3"} 0
twilio_up{account="account4"} 1
`
		if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "twilio_up"); err != nil {
			t.Error(err)
		}
	})
}

// Old numbers stand until they are too old, and are dropped then, not zeroed.
func TestMaxAge(t *testing.T) {
	tests := []struct {
		name     string
		interval time.Duration
		maxAge   time.Duration
		want     time.Duration
	}{
		{"max age", time.Minute, 10 * time.Minute, 10 * time.Minute},
		{"two intervals", time.Hour, 10 * time.Minute, 2 * time.Hour},
		{"on scrape", 0, 10 * time.Minute, 10 * time.Minute},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var broken bool
				size := 2
				api := &stubAPI{page: func(context.Context, twilio.Query, int) (*twilio.Page, error) {
					if broken {
						return nil, &twilio.Error{StatusCode: 500}
					}
					return completed(size), nil
				}}
				g := newRig(t, api, func(s *Settings) { s.Interval, s.MaxAge = tt.interval, tt.maxAge })
				g.refresh(t.Context())
				size = 5
				g.refresh(t.Context())
				succeeded := time.Now()
				broken = true
				g.run(0)
				wait(tt.want)
				always := map[string]float64{
					"twilio_up": 0, "twilio_messages_total": 30, "twilio_messages_delivered_total": 30,
					"twilio_operations_window_seconds":               14400,
					"twilio_exporter_last_success_timestamp_seconds": float64(succeeded.UnixMilli()) / 1e3,
				}
				got := g.scrape(t.Context())
				g.want(got, always)
				g.want(got, map[string]float64{"twilio_operations/COMPLETED": 5, "twilio_operations/CANCELED": 0, "twilio_operations_failing/COMPLETED": 0})
				if st := g.Status(); !st.Current || st.State != StateFailing || st.Reason.Label != "server" {
					t.Errorf("current %t, state %q, reason %q", st.Current, st.State, st.Reason.Label)
				}
				wait(time.Millisecond)
				got = g.scrape(t.Context())
				g.want(got, always)
				for name := range got {
					if strings.Contains(name, "/COMPLETED") || strings.Contains(name, "/CANCELED") {
						t.Errorf("%s is shown", name)
					}
				}
				if st := g.Status(); st.Current || st.Snapshot == nil {
					t.Errorf("current %t, snapshot %v", st.Current, st.Snapshot)
				}
			})
		})
	}
}

func TestThrottledInBackgroundMode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &stubAPI{page: func(context.Context, twilio.Query, int) (*twilio.Page, error) { return empty() }}
		g := newRig(t, api, nil)
		api.throttle(5*time.Hour + 30*time.Second)
		g.run(0)
		for range 5 * 60 {
			if wait(time.Minute); !g.Healthy() {
				t.Fatal("waiting for Retry-After is healthy")
			}
		}
		g.want(g.scrape(t.Context()), map[string]float64{"twilio_exporter_api_throttled_seconds_total": 5 * 3600})
		if st := g.Status(); st.State != StateThrottled || api.count() != 0 || g.Ready() {
			t.Fatalf("state %q, %d requests, ready %t before Retry-After", st.State, api.count(), g.Ready())
		}
		if wait(30 * time.Second); api.count() != 1 {
			t.Errorf("%d requests after Retry-After, want 1", api.count())
		}
		if wait(30 * time.Second); api.count() != 2 {
			t.Errorf("%d requests at the tick that follows, want 2", api.count())
		}
		if st := g.Status(); st.State != StateFresh || !st.RetryAt.IsZero() {
			t.Errorf("state %q, retry at %v", st.State, st.RetryAt)
		}
	})
}

func TestThrottledInOnScrapeMode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &stubAPI{page: func(context.Context, twilio.Query, int) (*twilio.Page, error) { return completed(1), nil }}
		g := newRig(t, api, onScrape)
		g.run(0)
		g.scrape(t.Context())
		api.throttle(time.Minute)
		start := time.Now()
		for range 3 {
			g.want(g.scrape(t.Context()), map[string]float64{
				"twilio_up": 0, "twilio_operations/COMPLETED": 1,
				"twilio_exporter_refreshes_total/success": 1, "twilio_exporter_refreshes_total/error": 0,
			})
			if err := g.Refresh(t.Context()); !errors.Is(err, twilio.ErrThrottled) {
				t.Errorf("error %v, want ErrThrottled", err)
			}
		}
		if d := time.Since(start); d != 0 || api.count() != 1 {
			t.Errorf("scrapes waited %v and made %d requests", d, api.count()-1)
		}
		wait(time.Minute)
		g.want(g.scrape(t.Context()), map[string]float64{"twilio_up": 1})
	})
}

func TestRefreshTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &stubAPI{page: after(time.Hour, empty)}
		g := newRig(t, api, func(s *Settings) { s.RefreshTimeout = 20 * time.Second })
		g.run(0)
		wait(20 * time.Second)
		g.want(g.scrape(t.Context()), map[string]float64{
			"twilio_up": 0, "twilio_exporter_refreshes_total/error": 1, "twilio_exporter_refresh_errors_total/timeout": 1,
		})
		if st := g.Status(); st.Reason.Label != "timeout" || !g.Ready() || st.PagesExpected != 0 {
			t.Errorf("reason %q, ready %t, pages expected %d", st.Reason.Label, g.Ready(), st.PagesExpected)
		}
	})
}

func TestHealthOfALoopThatHangs(t *testing.T) {
	for _, tt := range []struct {
		name              string
		interval, timeout time.Duration
		want              time.Duration
	}{
		{"three intervals", time.Minute, 30 * time.Second, 3 * time.Minute},
		{"refresh timeout", time.Minute, 15 * time.Minute, 16 * time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				api := &stubAPI{page: func(context.Context, twilio.Query, int) (*twilio.Page, error) {
					<-release // whatever its context says
					return empty()
				}}
				g := newRig(t, api, func(s *Settings) { s.Interval, s.RefreshTimeout = tt.interval, tt.timeout })
				g.run(0)
				if wait(tt.want); !g.Healthy() {
					t.Errorf("unhealthy within %v", tt.want)
				}
				if wait(time.Millisecond); g.Healthy() {
					t.Errorf("healthy after %v", tt.want)
				}
				close(release)
				if wait(tt.interval); !g.Healthy() {
					t.Error("unhealthy although the loop ticks again")
				}
			})
		})
	}
}

func TestStopInTheMiddle(t *testing.T) {
	for _, tt := range []struct {
		name      string
		change    func(*Settings)
		throttled time.Duration
	}{
		{name: "refreshing on an interval"},
		{name: "refreshing on scrape", change: onScrape},
		{name: "waiting for Retry-After", throttled: time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := &stubAPI{page: after(time.Hour, empty)}
				g := newRig(t, api, tt.change)
				if tt.throttled > 0 {
					api.throttle(tt.throttled)
				}
				g.run(0)
				synctest.Wait()
				start := time.Now()
				var wg sync.WaitGroup
				for range 10 {
					wg.Go(func() {
						if err := g.Refresh(t.Context()); !errors.Is(err, context.Canceled) {
							t.Errorf("error %v, want that it was canceled", err)
						}
					})
				}
				synctest.Wait()
				g.stop()
				<-g.done
				wg.Wait()
				if err := g.Refresh(t.Context()); !errors.Is(err, context.Canceled) {
					t.Errorf("error %v after the end, want that it was canceled", err)
				}
				if d := time.Since(start); d != 0 {
					t.Errorf("stopping took %v", d)
				}
				g.want(g.gather(Scrape(t.Context(), nil)), map[string]float64{
					"twilio_exporter_refreshes_total/success": 0, "twilio_exporter_refreshes_total/error": 0,
					"twilio_exporter_refresh_errors_total/other": 0, "twilio_exporter_refresh_errors_total/timeout": 0,
				})
				if out := g.log.String(); strings.Contains(out, "failed") {
					t.Errorf("logged:\n%s", out)
				}
			})
		})
	}
}

func TestReasons(t *testing.T) {
	status := func(code int) error { return &twilio.Error{StatusCode: code} }
	tests := []struct {
		name string
		err  error
		want string
	}{
		{"401", status(401), "auth"},
		{"403", status(403), "auth"},
		{"429", status(429), "rate_limited"},
		{"throttled", &twilio.ThrottledError{RetryAt: time.Now(), StatusCode: 503}, "rate_limited"},
		{"500", status(500), "server"},
		{"502", status(502), "server"},
		{"503", status(503), "server"},
		{"599", status(599), "server"},
		{"302", status(302), "request"},
		{"400", status(400), "request"},
		{"404", status(404), "request"},
		{"deadline", context.DeadlineExceeded, "timeout"},
		{"request's own timeout", &twilio.NetworkError{Err: os.ErrDeadlineExceeded}, "timeout"},
		{"no connection", &twilio.NetworkError{Err: errors.New("connection refused")}, "network"},
		{"broken connection", &twilio.NetworkError{Err: io.ErrUnexpectedEOF}, "network"},
		{"secret's file", &twilio.NetworkError{Err: &fs.PathError{Op: "open", Path: "token", Err: fs.ErrNotExist}}, "other"},
		{"decode", &twilio.DecodeError{Pointer: "/operations/0/id", Problem: "missing"}, "decode"},
		{"too large", &twilio.BodyTooLargeError{Limit: 64 << 20}, "decode"},
		{"pagination", &twilio.PaginationError{Page: 3}, "pagination"},
		{"other", errors.New("nobody knows"), "other"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := &stubAPI{page: func(context.Context, twilio.Query, int) (*twilio.Page, error) { return nil, tt.err }}
				g := newRig(t, api, nil)
				g.refresh(t.Context())
				want := map[string]float64{"twilio_up": 0, "twilio_exporter_refreshes_total/error": 1, "twilio_exporter_refreshes_total/success": 0}
				for _, r := range Reasons() {
					want["twilio_exporter_refresh_errors_total/"+r.Label] = 0
				}
				want["twilio_exporter_refresh_errors_total/"+tt.want] = 1
				g.want(g.scrape(t.Context()), want)
				st := g.Status()
				if st.Reason.Label != tt.want || !errors.Is(st.Err, tt.err) || st.FailingSince.IsZero() {
					t.Errorf("reason %q, error %v, failing since %v", st.Reason.Label, st.Err, st.FailingSince)
				}
				if line := "reason=" + tt.want; !strings.Contains(g.log.String(), line) {
					t.Errorf("no %s in the log:\n%s", line, g.log)
				}
			})
		})
	}
}

func TestLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var broken bool
		huge := int64(0)
		took := 12 * time.Second
		api := &stubAPI{}
		api.page = func(ctx context.Context, q twilio.Query, n int) (*twilio.Page, error) {
			return after(took, func() (*twilio.Page, error) {
				if broken {
					return nil, &twilio.Error{StatusCode: 401}
				}
				p := completed(2)
				p.Operations[0].Stats.Failed = huge
				return p, nil
			})(ctx, q, n)
		}
		g := newRig(t, api, nil)
		lines := func() []string {
			g.t.Helper()
			g.refresh(t.Context())
			defer g.log.Reset()
			return strings.Split(strings.TrimSpace(g.log.String()), "\n")
		}
		check := func(got []string, want ...string) {
			t.Helper()
			if !slices.Equal(got, want) {
				t.Errorf("logged\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
			}
		}
		check(lines(),
			`level=info account=test msg="refresh under way" pages=0 pages_expected=1`,
			`level=info account=test msg="refresh under way" pages=0 pages_expected=1`,
			`level=info account=test pages=1 requests=0 duration=12s msg="first refresh succeeded" operations=2`)
		took = 0
		check(lines(), `level=debug account=test pages=1 requests=0 duration=0s msg="refresh succeeded" operations=2`)
		broken = true
		check(lines(), `level=error account=test pages=0 requests=0 duration=0s msg="refresh failed" reason=auth err="list_operations: 401 Unauthorized (check the account SID and auth token, or the API key and its secret)" hint="`+Reasons()[0].Remedy+`"`)
		broken = false
		huge = math.MaxInt64
		check(lines(), `level=warn account=test msg="stats are too large to add up, their sums stay at the maximum"`,
			`level=info account=test pages=1 requests=0 duration=0s msg="refresh succeeded again" operations=2`)
	})
}

// What asks for a refresh between two ticks does not move the ticks.
func TestRefreshBetweenTicks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &stubAPI{page: func(context.Context, twilio.Query, int) (*twilio.Page, error) { return empty() }}
		g := newRig(t, api, nil)
		start := time.Now()
		g.run(0)
		wait(10 * time.Second)
		if err := g.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		wait(2*time.Minute - 10*time.Second)
		want := []time.Duration{0, 10 * time.Second, time.Minute, 2 * time.Minute}
		var got []time.Duration
		for _, at := range api.begun {
			got = append(got, at.Sub(start))
		}
		if !slices.Equal(got, want) {
			t.Errorf("refreshes began at %v, want %v", got, want)
		}
	})
}
