package collector

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"math"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"
	promtest "github.com/prometheus/client_golang/prometheus/testutil"

	"twilio_operations_exporter/collector/window"
	"twilio_operations_exporter/internal/testutil"
	"twilio_operations_exporter/twilio"
	"twilio_operations_exporter/twilio/simulator"
)

func settings() Settings {
	return Settings{
		Account: "test", Interval: time.Minute, Window: 4 * time.Hour, RefreshTimeout: 15 * time.Minute,
		MaxAge: 10 * time.Minute, PageSize: 10, Concurrency: 4, MaxStaleness: 0.1, Named: 3,
	}
}

// completed returns n operations created now.
func completed(n int) []twilio.Operation {
	ops := make([]twilio.Operation, n)
	for i := range ops {
		ops[i] = twilio.Operation{
			ID: fmt.Sprintf("comms_operation_%d", i), Status: twilio.StatusCompleted,
			CreatedAt: time.Now(), UpdatedAt: time.Now(), Stats: twilio.Stats{twilio.Total: 10, twilio.Delivered: 10},
		}
	}
	return ops
}

func status(code int) simulator.Fault {
	return simulator.Fault{Kind: simulator.FaultStatus, Status: code}
}

// slow makes every answer take a while.
func slow(d time.Duration) simulator.Fault {
	return simulator.Fault{Kind: simulator.FaultLatency, Latency: d}
}

var hang = simulator.Fault{Kind: simulator.FaultHang}

// roundTrip is a function that implements http.RoundTripper. It sees requests before the simulator.
type roundTrip func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// source is a list of operations that a test can replace.
type source struct {
	list atomic.Pointer[simulator.Static]
}

func (s *source) set(ops ...twilio.Operation) { s.list.Store(simulator.NewStatic(ops...)) }

// List implements simulator.Source.
func (s *source) List(now time.Time, f simulator.Filter, newestFirst bool) iter.Seq[twilio.Operation] {
	return s.list.Load().List(now, f, newestFirst)
}

// Operation implements simulator.Source.
func (s *source) Operation(now time.Time, id string) (twilio.Operation, bool) {
	return s.list.Load().Operation(now, id)
}

// rig is a refresher with a simulated API, a registry and a log.
type rig struct {
	secret error // of reading the secret
	*Refresher
	t         *testing.T
	list      *source // what the API has
	api       *simulator.Handler
	client    *twilio.Client
	transport http.RoundTripper // the simulator's, unless a test replaces it
	mu        sync.Mutex
	listed    []time.Time // when a list was asked for
	reg       *prometheus.Registry
	own       *Metrics
	log       *testutil.Log
	stop      context.CancelFunc
	done      chan struct{} // closed when Run has returned
}

func newRig(t *testing.T, change func(*Settings), faults ...simulator.Fault) *rig {
	s := settings()
	if change != nil {
		change(&s)
	}
	g := &rig{t: t, list: new(source), reg: prometheus.NewRegistry(), log: new(testutil.Log), done: make(chan struct{})}
	g.list.set()
	g.api = simulator.NewHandler(g.list, simulator.Settings{})
	g.fail(faults...)
	g.transport = testutil.Transport(g.api)
	g.own = NewMetrics(g.reg)
	metrics := g.own.Account(s.Account)
	g.client = twilio.NewClient(twilio.Options{
		BaseURL:   &url.URL{Scheme: "http", Host: "api.test", Path: "/v1"},
		Transport: roundTrip(g.roundTrip),
		Observe:   metrics.Observe,
		Secret:    func(context.Context) (string, error) { return "", g.secret },
	})

	g.Refresher = NewRefresher(s, g.client, metrics, log.NewLogfmtLogger(g.log))
	return g
}

// fail replaces the faults of the API.
func (g *rig) fail(faults ...simulator.Fault) {
	g.api.Faults().Clear()
	for _, f := range faults {
		g.api.Faults().MustAdd(f)
	}
}

// throttle has the API answer a probe that no request may go out for d.
func (g *rig) throttle(d time.Duration) {
	g.t.Helper()
	g.fail(simulator.Fault{Kind: simulator.FaultStatus, Status: http.StatusServiceUnavailable, RetryAfter: d})
	if _, err := g.client.FetchOperation(g.t.Context(), testutil.Operation(1, "", twilio.Stats{}).ID); err == nil {
		g.t.Fatal("the probe succeeded")
	}
	g.fail()
}

func (g *rig) roundTrip(r *http.Request) (*http.Response, error) {
	if strings.HasSuffix(r.URL.Path, "/Operations") {
		g.mu.Lock()
		g.listed = append(g.listed, time.Now())
		g.mu.Unlock()
	}
	return g.transport.RoundTrip(r)
}

// lists returns when lists were asked for.
func (g *rig) lists() []time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.listed)
}

func onScrape(s *Settings) { s.Interval = 0 }

// run starts Run and stops it at the end of the test.
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

// scrape returns the samples of a scrape by series, without histograms.
func (g *rig) scrape(ctx context.Context) map[string]float64 {
	g.t.Helper()
	return g.gather(Await(ctx, []*Refresher{g.Refresher}).Views())
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

// want compares some samples. NaN means that there must be none.
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

// TestLoopTicksFromStartToStart checks that the interval is measured from start to start, even if a refresh takes
// longer than it.
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
				g := newRig(t, func(s *Settings) { s.Interval = interval })
				if tt.took > 0 {
					g.fail(simulator.Fault{Kind: simulator.FaultLatency, Latency: tt.took, Count: 1})
				}
				start := time.Now()
				g.run(tt.delay)
				wait(tt.want[len(tt.want)-1] + interval/2)
				var got []time.Duration
				for _, at := range g.lists() {
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
		g := newRig(t, nil, slow(10*time.Second))
		g.list.set(completed(3)...)
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

		if st := g.Status(); st.Phase != PhaseReading || st.Current || g.Ready() {
			t.Errorf("phase %q, current %t, ready %t", st.Phase, st.Current, g.Ready())
		}
		wait(10 * time.Second)
		for range 100 {
			g.want(g.scrape(t.Context()), map[string]float64{
				"twilio_up": 1, "twilio_operations/COMPLETED": 3, "twilio_operations/SCHEDULED": 0,
				"twilio_operation_messages_delivered/COMPLETED": 30, "twilio_messages_total": 0,
				"twilio_exporter_refreshes_total/success": 1, "twilio_exporter_operations_read_total": 3,
			})
		}

		if n := g.api.Requests(); n != 1 {
			t.Errorf("%d requests, want 1", n)
		}
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("scrapes waited: %v went by", took)
		}
		if st := g.Status(); st.Phase != PhaseFresh || !st.Current || !g.Ready() {
			t.Errorf("phase %q, current %t, ready %t", st.Phase, st.Current, g.Ready())
		}
	})
}

// TestScrapeShowsOneMoment checks that a scrape during which a refresh ends shows either nothing or everything that the
// refresh changes.
func TestScrapeShowsOneMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, nil)
		g.list.set(completed(2)...)
		for _, tt := range []struct {
			fault         []simulator.Fault
			before, after map[string]float64
		}{
			{
				nil,
				map[string]float64{
					"twilio_up": 0, "twilio_exporter_refreshes_total/success": 0, "twilio_exporter_last_success_timestamp_seconds": 0,
				},
				map[string]float64{
					"twilio_up": 1, "twilio_exporter_refreshes_total/success": 1, "twilio_operations/COMPLETED": 2,
					"twilio_exporter_last_success_timestamp_seconds": float64(time.Now().Unix()),
				},
			},
			{
				[]simulator.Fault{status(http.StatusForbidden)},
				map[string]float64{
					"twilio_up": 1, "twilio_exporter_refreshes_total/error": 0, "twilio_exporter_refresh_errors_total/auth": 0,
				},
				map[string]float64{
					"twilio_up": 0, "twilio_exporter_refreshes_total/error": 1, "twilio_exporter_refresh_errors_total/auth": 1,
				},
			},
		} {
			g.fail(tt.fault...)
			before := Await(t.Context(), []*Refresher{g.Refresher}).Views()
			_ = g.RefreshOnce(t.Context())
			g.want(g.gather(before), tt.before)
			g.want(g.scrape(t.Context()), tt.after)
		}
	})
}

func TestScrapesShareOneRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, onScrape, slow(time.Second))
		g.list.set(completed(2)...)
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
			if n := g.api.Requests(); n != round+1 {
				t.Fatalf("%d requests after %d rounds of scrapes", n, round+1)
			}
		}

		wait(24 * time.Hour)
		if n := g.api.Requests(); n != 3 {
			t.Errorf("%d requests, want 3: nobody scrapes", n)
		}
		if !g.Healthy() {
			t.Error("on-scrape mode is always healthy")
		}
	})
}

func TestScrapeThatTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, onScrape)
		g.list.set(completed(2)...)
		g.run(0)
		g.want(g.scrape(t.Context()), map[string]float64{"twilio_up": 1, "twilio_operations/COMPLETED": 2})

		g.list.set(completed(3)...)
		g.fail(slow(25 * time.Second))
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
		if n := g.api.Requests(); n != 2 {
			t.Errorf("%d requests, want 2", n)
		}
	})
}

func TestScrapeOfSeveralAccountsWaitsForAllAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var rs []*Refresher
		for i := range 5 {
			g := newRig(t, func(s *Settings) {
				s.Account = fmt.Sprint("account", i)
				s.Interval = time.Duration(i%2) * time.Minute
			}, slow(time.Second))
			g.run(time.Hour)
			rs = append(rs, g.Refresher)
		}

		start := time.Now()
		reg := prometheus.NewPedanticRegistry()
		reg.MustRegister(Await(t.Context(), rs).Views())
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

		if err := promtest.GatherAndCompare(reg, strings.NewReader(want), "twilio_up"); err != nil {
			t.Error(err)
		}
	})
}

// TestMaxAge checks that old numbers are exported until they are too old, and then dropped instead of zeroed.
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
				g := newRig(t, func(s *Settings) { s.Interval, s.MaxAge = tt.interval, tt.maxAge })
				g.list.set(completed(2)...)
				_ = g.RefreshOnce(t.Context())
				g.list.set(completed(5)...)
				_ = g.RefreshOnce(t.Context())
				succeeded := time.Now()
				g.fail(status(http.StatusInternalServerError))
				g.run(0)
				wait(tt.want)
				always := map[string]float64{
					"twilio_up": 0, "twilio_messages_total": 30, "twilio_messages_delivered_total": 30,
					"twilio_operations_window_seconds":               14400,
					"twilio_exporter_last_success_timestamp_seconds": float64(succeeded.UnixMilli()) / 1e3,
				}

				got := g.scrape(t.Context())
				g.want(got, always)
				g.want(
					got,
					map[string]float64{
						"twilio_operations/COMPLETED":         5,
						"twilio_operations/CANCELED":          0,
						"twilio_operations_failing/COMPLETED": 0,
					},
				)

				if st := g.Status(); !st.Current || st.Phase != PhaseFailing || st.Reason.Label != "server" {
					t.Errorf("current %t, phase %q, reason %q", st.Current, st.Phase, st.Reason.Label)
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
		g := newRig(t, nil)
		g.throttle(50*time.Minute + 30*time.Second)
		g.run(0)
		for range 50 {
			if wait(time.Minute); !g.Healthy() {
				t.Fatal("waiting for Retry-After is healthy")
			}
		}

		g.want(g.scrape(t.Context()), map[string]float64{"twilio_exporter_api_throttled_seconds_total": 50 * 60})
		if st := g.Status(); st.Phase != PhaseThrottled || len(g.lists()) != 0 || g.Ready() {
			t.Fatalf("phase %q, %d requests, ready %t before Retry-After", st.Phase, len(g.lists()), g.Ready())
		}
		if wait(time.Until(g.client.RetryAt())); len(g.lists()) != 1 {
			t.Errorf("%d requests after Retry-After, want 1", len(g.lists()))
		}
		if wait(30 * time.Second); len(g.lists()) != 2 {
			t.Errorf("%d requests at the tick that follows, want 2", len(g.lists()))
		}
		if st := g.Status(); st.Phase != PhaseFresh || !st.RetryAt.IsZero() {
			t.Errorf("phase %q, retry at %v", st.Phase, st.RetryAt)
		}
	})
}

// TestThrottledTimeCountsOnce checks that time counts once in which both the loop and a probe wait.
func TestThrottledTimeCountsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, nil)
		g.throttle(20 * time.Minute)
		g.run(0)
		wait(2 * time.Minute)
		probe, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		go func() { _, _ = g.client.FetchOperation(probe, testutil.Operation(1, "", twilio.Stats{}).ID) }()

		for minutes := 3; minutes <= 15; minutes++ {
			wait(time.Minute)
			g.want(
				g.scrape(t.Context()),
				map[string]float64{"twilio_exporter_api_throttled_seconds_total": float64(60 * minutes)},
			)
		}

		wait(10 * time.Minute)
		if d := g.client.Throttled(); d < 20*time.Minute || d > 20*time.Minute+3*time.Second { // jitter
			t.Errorf("throttled for %v", d)
		}
	})
}

func TestThrottledInOnScrapeMode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, onScrape)
		g.list.set(completed(1)...)
		g.run(0)
		g.scrape(t.Context())
		g.throttle(time.Minute)
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

		if d := time.Since(start); d != 0 || len(g.lists()) != 1 {
			t.Errorf("scrapes waited %v and made %d requests", d, len(g.lists())-1)
		}
		wait(time.Until(g.client.RetryAt()))
		g.want(g.scrape(t.Context()), map[string]float64{"twilio_up": 1})
	})
}

func TestRefreshTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, func(s *Settings) { s.RefreshTimeout = 20 * time.Second }, hang)
		g.run(0)
		wait(20 * time.Second)
		g.want(g.scrape(t.Context()), map[string]float64{
			"twilio_up": 0, "twilio_exporter_refreshes_total/error": 1, "twilio_exporter_refresh_errors_total/timeout": 1,
		})
		st := g.Status()
		if st.Reason.Label != "timeout" || !g.Ready() || st.PagesExpected != 0 {
			t.Errorf("reason %q, ready %t, pages expected %d", st.Reason.Label, g.Ready(), st.PagesExpected)
		}
		const want = "the refresh did not end within 20s (--collector.refresh-timeout): list_operations: "
		if !errors.Is(st.Err, context.DeadlineExceeded) || !strings.HasPrefix(st.Err.Error(), want) {
			t.Errorf("error %v, want %s…", st.Err, want)
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
				g := newRig(t, func(s *Settings) { s.Interval, s.RefreshTimeout = tt.interval, tt.timeout })
				g.transport = roundTrip(func(r *http.Request) (*http.Response, error) {
					<-release // whatever its context says
					return testutil.Transport(g.api).RoundTrip(r)
				})

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
				g := newRig(t, tt.change)
				if tt.throttled > 0 {
					g.throttle(tt.throttled)
				}
				g.fail(hang)
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
				g.want(g.scrape(t.Context()), map[string]float64{
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
	fails := func(err error) roundTrip {
		return func(*http.Request) (*http.Response, error) { return nil, err }
	}
	tests := []struct {
		name      string
		fault     simulator.Fault
		transport http.RoundTripper // nil: the simulator's
		secret    error             // of reading it
		want      string
		err       string // a part of the error
	}{
		{name: "401", fault: status(401), want: "auth", err: "401 Unauthorized"},
		{name: "403", fault: status(403), want: "auth", err: "403 Forbidden"},
		{name: "429", fault: status(429), want: "rate_limited", err: "429 Too Many Requests"},
		{
			name:  "throttled",
			fault: simulator.Fault{Kind: simulator.FaultStatus, Status: 503, RetryAfter: 20 * time.Minute},
			want:  "rate_limited", err: "throttled by the API with 503",
		},
		{name: "500", fault: status(500), want: "server", err: "500 Internal Server Error"},
		{name: "502", fault: status(502), want: "server", err: "502 Bad Gateway"},
		{name: "503", fault: status(503), want: "server", err: "503 Service Unavailable"},
		{name: "599", fault: status(599), want: "server", err: "599"},
		{name: "300", fault: status(300), want: "request", err: "300 Multiple Choices"},
		{name: "302", fault: status(302), want: "request", err: "302 Found"},
		{name: "400", fault: status(400), want: "request", err: "400 Bad Request"},
		{name: "404", fault: status(404), want: "request", err: "404 Not Found"},
		{name: "deadline", fault: hang, want: "timeout", err: context.DeadlineExceeded.Error()},
		{
			name:      "timeout of a dial",
			transport: fails(context.DeadlineExceeded),
			want:      "timeout",
			err:       "context deadline exceeded",
		},
		{name: "request's own timeout", transport: fails(os.ErrDeadlineExceeded), want: "timeout", err: "i/o timeout"},
		{
			name:      "no connection",
			transport: fails(errors.New("connection refused")),
			want:      "network",
			err:       "connection refused",
		},
		{
			name:  "broken connection",
			fault: simulator.Fault{Kind: simulator.FaultReset},
			want:  "network",
			err:   "connection reset",
		},
		{
			name:   "secret's file",
			secret: &fs.PathError{Op: "open", Path: "token", Err: fs.ErrNotExist},
			want:   "secret", err: "cannot read the secret: open token: file does not exist",
		},
		{
			name:      "certificate's file",
			transport: fails(&fs.PathError{Op: "open", Path: "token", Err: fs.ErrNotExist}),
			want:      "other", err: "open token: file does not exist",
		},
		{
			name:      "header too large",
			transport: fails(errors.New("net/http: server response headers exceeded 65536 bytes; aborted")),
			want:      "decode", err: "the header of the answer is longer than 65536 bytes",
		},
		{name: "decode", fault: simulator.Fault{Kind: simulator.FaultHTML}, want: "decode", err: "not JSON"},
		{
			name: "too large",
			transport: roundTrip(func(r *http.Request) (*http.Response, error) {
				long := strings.NewReader(`{"x":[0` + strings.Repeat(`,"`+strings.Repeat("x", 200<<10)+`"`, 82))
				return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(long), Request: r}, nil
			}),
			want: "decode", err: "longer than 16777216 bytes",
		},
		{
			name: "pagination", fault: simulator.Fault{Kind: simulator.FaultRepeatToken}, want: "pagination",
			err: "names a page as the next that was read before",
		},
	}

	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t, nil)
				g.secret = tt.secret
				if tt.fault.Kind != "" {
					g.fail(tt.fault)
				}
				if tt.transport != nil {
					g.transport = tt.transport
				}
				_ = g.RefreshOnce(t.Context())
				want := map[string]float64{
					"twilio_up":                               0,
					"twilio_exporter_refreshes_total/error":   1,
					"twilio_exporter_refreshes_total/success": 0,
				}

				for _, r := range Reasons() {
					want["twilio_exporter_refresh_errors_total/"+r.Label] = 0
				}
				want["twilio_exporter_refresh_errors_total/"+tt.want] = 1
				g.want(g.scrape(t.Context()), want)
				st := g.Status()
				if st.Reason.Label != tt.want || st.FailingSince.IsZero() {
					t.Errorf("reason %q, failing since %v", st.Reason.Label, st.FailingSince)
				}
				if st.Err == nil || !strings.Contains(st.Err.Error(), tt.err) {
					t.Errorf("error %v, want one with %q", st.Err, tt.err)
				}
				if whole := strings.Contains(st.Err.Error(), "--collector.refresh-timeout"); whole != (tt.name == "deadline") {
					t.Errorf("error %v: of the whole refresh: %t", st.Err, whole)
				}
				if line := "reason=" + tt.want; !strings.Contains(g.log.String(), line) {
					t.Errorf("no %s in the log:\n%s", line, g.log)
				}
			})
		})
	}

	endless := fmt.Errorf("account: %w", &window.TooManyError{Most: 7})
	if label := ReasonOf(endless).Label; label != "pagination" {
		t.Errorf("reason %q of a list without end", label)
	}
	if label := ReasonOf(errors.New("nobody knows")).Label; label != "other" {
		t.Errorf("reason %q of an unknown error", label)
	}
}

func TestLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, nil, slow(12*time.Second))
		g.list.set(completed(2)...)
		lines := func() []string {
			g.t.Helper()
			_ = g.RefreshOnce(t.Context())
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
			`level=info account=test pages=1 requests=1 duration=12s msg="first refresh succeeded" operations=2`)

		g.fail()
		check(lines(), `level=debug account=test pages=1 requests=1 duration=0s msg="refresh succeeded" operations=2`)
		g.fail(status(http.StatusUnauthorized))
		check(
			lines(),
			`level=error account=test pages=0 requests=1 duration=0s msg="refresh failed" reason=auth err="list_operations: 401 Unauthorized: 20003 Authenticate (check the account SID and auth token, or the API key and its secret)" hint="`+Reasons()[0].Remedy+`"`,
		)

		g.fail()
		check(lines(), `level=info account=test pages=1 requests=1 duration=0s msg="refresh succeeded again" operations=2`)
	})
}

// TestSkewIsLoggedOnce checks that a clock skew is logged once, and again if it comes back.
func TestSkewIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, nil)
		api := g.transport
		var skew time.Duration
		g.transport = roundTrip(func(r *http.Request) (*http.Response, error) {
			resp, err := api.RoundTrip(r)
			if err == nil {
				resp.Header.Set("Date", time.Now().Add(skew).UTC().Format(http.TimeFormat))
			}
			return resp, err
		})

		const line = `level=warn account=test msg="the API's clock differs from that of this host" skew=1m30s ` +
			`hint="Check the time synchronization of this host."`
		for _, step := range []struct {
			skew  time.Duration
			lines int
		}{{0, 0}, {50 * time.Second, 0}, {90 * time.Second, 1}, {0, 1}, {90 * time.Second, 2}} {
			skew = step.skew
			for range 3 { // one odd answer alone changes nothing
				if err := g.RefreshOnce(t.Context()); err != nil {
					t.Fatal(err)
				}
				wait(time.Minute)
			}
			if got := strings.Count(g.log.String(), line); got != step.lines {
				t.Fatalf("skew %v: logged %d times, want %d: %s", step.skew, got, step.lines, g.log)
			}
		}
	})
}

// TestRequestsOfARefresh checks that a refresh counts its own requests, not those of concurrent probes.
func TestRequestsOfARefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, onScrape, slow(time.Minute))
		g.list.set(completed(25)...) // 3 pages
		g.run(0)
		go func() {
			for range 5 {
				_, _ = g.client.FetchOperation(t.Context(), testutil.Operation(1, "", twilio.Stats{}).ID)
			}
		}()

		if err := g.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		wait(10 * time.Minute)
		if got := promtest.CollectAndCount(g.reg, "twilio_exporter_api_request_duration_seconds"); got != 2 {
			t.Fatalf("%d endpoints were asked", got)
		}
		if got, want := g.Status().Requests, int64(len(g.lists())); got != want || want < 3 {
			t.Errorf("%d requests on the page, want %d", got, want)
		}
		if want := fmt.Sprintf(" requests=%d ", len(g.lists())); !strings.Contains(g.log.String(), want) {
			t.Errorf("the log has not%q: %s", want, g.log)
		}
	})
}

// TestRefreshBetweenTicks checks that a refresh between two ticks does not move the ticks.
func TestRefreshBetweenTicks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, nil)
		start := time.Now()
		g.run(0)
		wait(10 * time.Second)
		if err := g.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		wait(2*time.Minute - 10*time.Second)
		want := []time.Duration{0, 10 * time.Second, time.Minute, 2 * time.Minute}
		var got []time.Duration
		for _, at := range g.lists() {
			got = append(got, at.Sub(start))
		}
		if !slices.Equal(got, want) {
			t.Errorf("refreshes began at %v, want %v", got, want)
		}
	})
}

// TestFailingSince checks that an account is failing since the first of several failures in a row.
func TestFailingSince(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, nil)
		g.fail(status(http.StatusUnauthorized))
		_ = g.RefreshOnce(t.Context())
		since := g.Status().FailingSince
		wait(time.Minute)
		_ = g.RefreshOnce(t.Context())
		if got := g.Status().FailingSince; since.IsZero() || !got.Equal(since) {
			t.Errorf("failing since %v, then since %v", since, got)
		}
		g.fail()
		_ = g.RefreshOnce(t.Context())
		if got := g.Status().FailingSince; !got.IsZero() {
			t.Errorf("failing since %v after a success", got)
		}
	})
}
