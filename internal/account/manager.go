// Package account runs the accounts of a configuration: it starts and stops their refresh loops, replaces them on a
// reload and fetches single operations.
package account

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"twilio_operations_exporter/collector"
	"twilio_operations_exporter/internal/config"
	"twilio_operations_exporter/internal/sanitize"
)

const (
	// staggerStep is the time between the first refreshes of two accounts. Without it, all would refresh at the same time.
	staggerStep = 100 * time.Millisecond
	// stopTimeout is how long to wait for accounts to end. Only what cannot be interrupted takes longer, such as reading a
	// secret from a file system that hangs.
	stopTimeout = 3 * time.Second
)

// Manager owns the running accounts. All methods may be called concurrently.
type Manager struct {
	config  *config.ValidatedConfig
	metrics *collector.Metrics
	logger  log.Logger
	states  *states // nil = states are not kept
	current atomic.Pointer[[]*Account]
	inFile  atomic.Int64 // accounts in the configuration file, those of other shards included
	ready   atomic.Bool  // once every account has finished a refresh

	mu         sync.Mutex // held while the accounts change; guards what follows
	running    bool
	transports map[config.HTTP]transport

	failed           atomic.Pointer[FailedReload] // the last reload, if it failed
	reloadSuccessful prometheus.Gauge
	reloadTimestamp  prometheus.Gauge
}

// transport is shared by accounts with equal settings, as each open connection costs memory and two goroutines.
type transport struct {
	http.RoundTripper
	proxy func(*http.Request) (*url.URL, error)
}

// NewManager prepares the accounts of c and registers the exporter's own metrics with reg. Nothing runs before Start.
func NewManager(c *config.ValidatedConfig, reg prometheus.Registerer, logger log.Logger) (*Manager, error) {
	metrics := promauto.With(reg)
	m := &Manager{
		config:     c,
		metrics:    collector.NewMetrics(reg),
		logger:     logger,
		transports: map[config.HTTP]transport{},
		reloadSuccessful: metrics.NewGauge(prometheus.GaugeOpts{
			Name: "twilio_exporter_config_last_reload_successful",
			Help: "Whether the last configuration load succeeded: 1 or 0.",
		}),
		reloadTimestamp: metrics.NewGauge(prometheus.GaugeOpts{
			Name: "twilio_exporter_config_last_reload_success_timestamp_seconds",
			Help: "Unix time of the last successful configuration load.",
		}),
	}

	shard := c.Flags().Shard
	metrics.NewGauge(prometheus.GaugeOpts{
		Name:        "twilio_exporter_shard_info",
		Help:        "Index of this shard and total number of shards. The value is always 1.",
		ConstLabels: prometheus.Labels{"shard": strconv.Itoa(shard.Index), "shards": strconv.Itoa(shard.Total)},
	}).Set(1)

	configs := c.Accounts()
	err := m.addTransports(configs)
	if err != nil {
		return nil, err
	}
	m.states, err = openStates(c.Flags().StoragePath, reg, logger)
	if err != nil {
		return nil, err
	}
	m.states.retain(configs)

	list := make([]*Account, len(configs))
	for i := range configs {
		list[i] = m.newAccount(&configs[i])
	}
	m.states.resumeAll(list)
	sharePace(list, list)
	m.current.Store(&list)
	m.loaded(c.InFile(), c.Warnings())
	return m, nil
}

// addTransports makes the transports that the accounts need. Nothing else about making an account can fail, so it is
// done for all accounts before any of them is changed.
func (m *Manager) addTransports(configs []config.Account) error {
	for i := range configs {
		c := &configs[i]
		if _, ok := m.transports[c.HTTP]; ok {
			continue
		}
		rt, proxy, err := c.HTTP.NewTransport()
		if err != nil {
			return fmt.Errorf("account %q: %s", c.Account, sanitize.OneLine(err.Error()))
		}
		m.transports[c.HTTP] = transport{rt, proxy}
	}
	return nil
}

// dropTransports removes the transports that no account in list uses, and closes their idle connections.
func (m *Manager) dropTransports(list []*Account) {
	maps.DeleteFunc(m.transports, func(settings config.HTTP, t transport) bool {
		isUsed := slices.ContainsFunc(list, func(a *Account) bool { return a.config.HTTP == settings })
		if isUsed {
			return false
		}
		(&http.Client{Transport: t.RoundTripper}).CloseIdleConnections()
		return true
	})
}

// loaded records that a configuration was loaded, and logs its warnings.
func (m *Manager) loaded(inFile int, warnings []string) {
	for _, w := range warnings {
		level.Warn(m.logger).Log("msg", w)
	}
	m.inFile.Store(int64(inFile))
	m.failed.Store(nil)
	m.reloadSuccessful.Set(1)
	m.reloadTimestamp.SetToCurrentTime()
}

// List returns the current accounts, in the order of the configuration. Callers must not change it.
func (m *Manager) List() []*Account { return *m.current.Load() }

// Shard returns which part of the accounts in the configuration file List is, and how many accounts the file has.
func (m *Manager) Shard() (shard config.Shard, inFile int64) {
	return m.config.Flags().Shard, m.inFile.Load()
}

// Refreshers returns the refreshers of List.
func (m *Manager) Refreshers() (refreshers []*collector.Refresher) {
	for _, a := range m.List() {
		refreshers = append(refreshers, a.Refresher)
	}
	return refreshers
}

// Waiting returns the accounts that have not finished a refresh and keep the program from being ready. Once it is
// ready, it stays so: accounts that a reload adds make it no less useful.
func (m *Manager) Waiting() []*Account {
	if m.ready.Load() {
		return nil
	}
	waiting := slices.DeleteFunc(slices.Clone(m.List()), func(a *Account) bool { return a.Refresher.Ready() })
	if len(waiting) == 0 {
		m.ready.Store(true)
	}
	return waiting
}

// Start runs the accounts until ctx ends or Stop is called. Their first refreshes are spread out, beginning after
// firstDelay.
func (m *Manager) Start(ctx context.Context, firstDelay time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.running = true
	start(ctx, m.List(), firstDelay)
}

func start(ctx context.Context, list []*Account, firstDelay time.Duration) {
	for i, a := range list {
		a.start(ctx, firstDelay+stagger(i, len(list), a.config.Interval))
	}
}

// stagger spreads n accounts over at most half an interval.
func stagger(i, n int, interval time.Duration) time.Duration {
	return time.Duration(i) * min(staggerStep, interval/2/time.Duration(n))
}

// Stop ends all accounts and waits for them, for a few seconds at most. It must be called whether or not Start was.
func (m *Manager) Stop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.running {
		m.end(m.List())
		m.dropTransports(nil)
		m.running = false
	}
	m.states.close()
}

// end ends accounts and waits for them, for stopTimeout at most.
func (m *Manager) end(list []*Account) {
	for _, a := range list {
		a.cancel()
	}

	timeout := time.After(stopTimeout)
	for _, a := range list {
		select {
		case <-a.ended:
		case <-timeout:
			level.Error(m.logger).Log("msg", "account did not stop in time, continuing without it", "account", a.Name())
			return
		}
	}
}

// RefreshOnce refreshes every account once and returns the errors of those that failed. It is used instead of Start.
func (m *Manager) RefreshOnce(ctx context.Context) error {
	list := m.List()
	errs := make([]error, len(list))
	var refreshes sync.WaitGroup
	for i, a := range list {
		refreshes.Go(func() {
			err := a.Refresher.RefreshOnce(ctx)
			if err != nil {
				errs[i] = fmt.Errorf("account %q: %w", a.Name(), err)
			}
		})
	}
	refreshes.Wait()
	m.dropTransports(nil)
	return errors.Join(errs...)
}

// WriteBackfill refreshes every account once and writes the past counters of those that succeeded: see
// collector.WriteBackfill. It returns the errors of the others. It is used instead of Start.
func (m *Manager) WriteBackfill(ctx context.Context, w io.Writer) error {
	refreshErr := m.RefreshOnce(ctx)
	if ctx.Err() != nil {
		return nil //nolint:nilerr // told to stop
	}
	return errors.Join(refreshErr, collector.WriteBackfill(w, m.Refreshers()))
}
