package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/version"

	"twilio_operations_exporter/collector"
)

// never is later than any program lives: a first refresh that comes only when
// asked for.
const never = 100 * 365 * 24 * time.Hour

// A program built without a stamp, as by go run, says so.
func init() {
	if version.Version == "" {
		version.Version = "unstamped"
	}
}

// saveMemory collects garbage more often, unless the environment says how
// often: a hundredth more CPU time for a fifth less memory, as most of what is
// allocated is a page that is gone at the next.
func saveMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
}

// site is the program put together: the accounts and what shows them.
type site struct {
	config   *ValidatedConfig
	accounts *accounts
	scrapes  sync.Pool // of *scrape
	logger   log.Logger
	started  time.Time

	reloading       sync.Mutex
	reloadGood      prometheus.Gauge
	reloadTimestamp prometheus.Gauge
}

// newSite builds everything that the configuration asks for. Nothing runs yet.
func newSite(c *ValidatedConfig, logTo io.Writer) (*site, *slog.Logger, error) {
	logger, libraries := newLogger(logTo, c)
	for _, w := range c.Warnings {
		level.Warn(logger).Log("msg", w)
	}
	level.Info(logger).Log("msg", "starting", "version", version.Info(), "build", version.BuildContext(), "accounts", len(c.Accounts))

	if c.Once {
		// The one refresh is asked for; an account that refreshes on each scrape
		// would do so again when its numbers are printed.
		for i := range c.Accounts {
			c.Accounts[i].Interval = max(c.Accounts[i].Interval, time.Minute)
		}
	}
	s := &site{
		config: c, logger: logger, started: time.Now(),
		reloadGood: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "twilio_exporter_config_last_reload_successful",
			Help: "Whether the last attempt to load the configuration succeeded, 1 or 0.",
		}),
		reloadTimestamp: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "twilio_exporter_config_last_reload_success_timestamp_seconds",
			Help: "Unix time of the last successful load of the configuration.",
		}),
	}
	s.reloadGood.Set(1)
	s.reloadTimestamp.SetToCurrentTime()
	own := collected{
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		versioncollector.NewCollector("twilio_exporter"),
		s.reloadGood, s.reloadTimestamp,
	}
	metrics := collector.NewMetrics(&own)
	s.scrapes.New = func() any { return newScrape(own, logger) }
	s.scrapes.Put(s.scrapes.New()) // and a clash of names shows here
	var err error
	s.accounts, err = newAccounts(c.Accounts, metrics, logger)
	return s, libraries, err
}

// collected takes down what is registered, for every scrape's registry.
type collected []prometheus.Collector

// Register implements prometheus.Registerer.
func (c *collected) Register(m prometheus.Collector) error {
	*c = append(*c, m)
	return nil
}

// MustRegister implements prometheus.Registerer.
func (c *collected) MustRegister(ms ...prometheus.Collector) { *c = append(*c, ms...) }

// Unregister implements prometheus.Registerer: nothing is ever taken back.
func (*collected) Unregister(prometheus.Collector) bool { return false }

// reload goes over to the configuration file as it is now. On error nothing
// has changed but the metric that says so.
func (s *site) reload() error {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	configs, warnings, err := s.config.Reload()
	if err == nil {
		err = s.accounts.replace(configs)
	}
	if err != nil {
		s.reloadGood.Set(0)
		level.Error(s.logger).Log("msg", "reload failed, nothing has changed", "err", err)
		return err
	}
	for _, w := range warnings {
		level.Warn(s.logger).Log("msg", w)
	}
	s.reloadGood.Set(1)
	s.reloadTimestamp.SetToCurrentTime()
	return nil
}

// once refreshes every account once and writes the metrics to w.
func (s *site) once(ctx context.Context, w io.Writer) error {
	s.accounts.start(ctx, never)
	defer s.accounts.stop()
	list := s.accounts.list()
	errs := make([]error, len(list))
	var wg sync.WaitGroup
	for i, a := range list {
		wg.Go(func() {
			if err := a.refresher.Refresh(ctx); err != nil {
				errs[i] = fmt.Errorf("account %q: %w", a.config.Account, err)
			}
		})
	}
	wg.Wait()
	families, err := s.gather(ctx)
	errs = append(errs, err)
	e := expfmt.NewEncoder(w, expfmt.NewFormat(expfmt.TypeTextPlain))
	for _, family := range families {
		errs = append(errs, e.Encode(family))
	}
	return errors.Join(errs...)
}

// gather returns what a scrape shows.
func (s *site) gather(ctx context.Context) (families []*dto.MetricFamily, err error) {
	s.scrape(ctx, func(one *scrape) { families, err = one.registry.Gather() })
	return families, err
}

// report is the answer to --config.check, where there is nothing wrong.
func report(c *ValidatedConfig, w io.Writer) error {
	for _, warning := range c.Warnings {
		if _, err := fmt.Fprintf(w, "warning: %s\n", warning); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "The configuration is good: accounts %d, warnings %d.\n", len(c.Accounts), len(c.Warnings))
	return err
}
