package bench

import (
	"context"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"

	"twilio_operations_exporter/collector"
	"twilio_operations_exporter/internal/account"
	"twilio_operations_exporter/internal/testutil"
	"twilio_operations_exporter/twilio"
	"twilio_operations_exporter/twilio/simulator"
)

const (
	day      = 24 * time.Hour
	pageSize = 1000
	interval = time.Minute
)

// settings are the program's defaults.
func settings(window time.Duration) collector.Settings {
	return collector.Settings{
		Account: "bench", Interval: interval, Window: window, RefreshTimeout: 15 * time.Minute,
		MaxAge: 10 * time.Minute, PageSize: pageSize, Concurrency: 4, MaxStaleness: 0.1,
	}
}

// steadyAfter is how long after the first refresh the times of reading are
// spread as they stay: the oldest minute is read again at a tenth of its age.
func steadyAfter(s *collector.Settings) time.Duration {
	return time.Duration(float64(s.Window) * s.MaxStaleness * 1.5).Truncate(s.Interval)
}

// kind is an account of a kind, and what a steady refresh of it may cost.
type kind struct {
	name      string
	rate      float64 // operations a minute
	window    time.Duration
	lifetime  time.Duration
	scheduled float64 // share, up to a day ahead
	most      float64 // requests as a share of those of reading all; 0: one request
	full      bool    // with -full alone
}

var kinds = []kind{
	{"600 a minute, a day", 600, day, 3 * time.Minute, 0, 0.065, false},
	{"600 a minute, 7 days", 600, 7 * day, 3 * time.Minute, 0, 0.012, true},
	{"60 a minute, a day", 60, day, 3 * time.Minute, 0, 0.10, false},
	{"600 in the whole day", 600.0 / 1440, day, 3 * time.Minute, 0, 0, false},
	{"600 a minute, a day, 10 minutes in progress", 600, day, 10 * time.Minute, 0, 0.085, false},
	{"600 a minute, a day, an hour in progress", 600, day, time.Hour, 0, 0.22, true},
	{"600 a minute, a day, a tenth scheduled a day ahead", 600, day, 3 * time.Minute, 0.1, 0.17, false},
}

// cost is what an account of a kind costs in requests.
type cost struct {
	kind
	whole  int     // to read all
	steady float64 // each refresh
}

// testRequests simulates the kinds of account by the clock, with rates and page
// sizes a hundredth of life's, and counts the requests of a steady refresh
// against those of reading all.
func testRequests(t *testing.T) []cost {
	const (
		scale     = 100
		refreshes = 100
	)

	costs := make([]cost, len(kinds))
	t.Run("kinds", func(t *testing.T) { // ends when all of them have
		for i, k := range kinds {
			if k.full && !*full {
				continue
			}
			t.Run(k.name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					world := simulator.MustWorld(simulator.WorldSettings{
						Rate: k.rate / scale, Lifetime: k.lifetime, LifetimeSpread: 0.5,
						ScheduledShare: k.scheduled, ScheduledAhead: day, MaxRecipients: 100,
					})

					client, handler := connect(world)
					s := settings(k.window)
					s.PageSize /= scale
					e := startExporter(t.Context(), s, client)
					defer e.stop()

					<-time.After(s.Interval / 2) // to be between two refreshes from now on
					c := cost{kind: k}
					<-time.After(steadyAfter(&s))
					before := handler.Requests()
					<-time.After(refreshes * s.Interval)
					c.steady = float64(handler.Requests()-before) / refreshes
					e.check(t)
					everything := twilio.Query{StartDate: time.Now().Add(-s.Window), PageSize: s.PageSize}

					for _, err := range client.Pages(t.Context(), everything) {
						if err != nil {
							t.Fatal(err)
						}
						c.whole++
					}

					share := c.steady / float64(c.whole)
					t.Logf("%.1f requests a refresh, reading all takes %d: %.1f%%", c.steady, c.whole, 100*share)
					if k.most == 0 && c.steady != 1 || k.most > 0 && share > k.most {
						t.Errorf("more than %.1f%%", 100*k.most)
					}
					costs[i] = c
				})
			})
		}
	})
	return costs
}

// connect returns a client of a simulated API, without a socket and compression
// between them.
func connect(world *simulator.World) (*twilio.Client, *simulator.Handler) {
	handler := simulator.NewHandler(world, simulator.Settings{NoGzip: true})
	return twilio.NewClient(twilio.Options{
		BaseURL:   &url.URL{Scheme: "http", Host: "api.test", Path: "/v1"},
		Transport: testutil.Transport(handler),
	}), handler
}

// exporter is the part of the program that refreshes an account and shows it.
type exporter struct {
	*collector.Refresher
	stop func()
}

func startExporter(ctx context.Context, s collector.Settings, client *twilio.Client) *exporter {
	e := newExporter(s, client)
	e.start(ctx)
	return e
}

func newExporter(s collector.Settings, client *twilio.Client) *exporter {
	own := collector.NewMetrics(prometheus.NewRegistry()).Account(s.Account)
	r := collector.NewRefresher(s, client, own, log.NewNopLogger())
	account.LookUpReasons(r, client, own, log.NewNopLogger())
	return &exporter{Refresher: r}
}

func (e *exporter) start(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		e.Run(ctx, 0)
	}()
	e.stop = func() { cancel(); <-ended }
}

// check holds that the last refresh went well.
func (e *exporter) check(t *testing.T) {
	t.Helper()
	if s := e.Status(); s.Snapshot == nil || s.Err != nil {
		t.Fatalf("phase %s: %v", s.Phase, s.Err)
	}
}

// operations is the sum of twilio_operations as a scrape shows it.
func (e *exporter) operations(t *testing.T) int {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(collector.Current([]*collector.Refresher{e.Refresher}))
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0

	for _, f := range families {
		if f.GetName() == "twilio_operations" {
			for _, m := range f.GetMetric() {
				sum += m.GetGauge().GetValue()
			}
		}
	}
	return int(sum)
}
