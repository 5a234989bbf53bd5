package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/common/config"
	"golang.org/x/sync/singleflight"

	"twilio_operations_exporter/collector"
	"twilio_operations_exporter/twilio"
)

// staggerStep is between the first refreshes of two accounts, so that many do
// not begin, and then go on, in the same instant.
const staggerStep = 100 * time.Millisecond

// account is one account as it runs.
type account struct {
	config    Account
	client    *twilio.Client
	refresher *collector.Refresher
	transport http.RoundTripper
	probes    singleflight.Group
	probing   sync.RWMutex // held for reading by each probe's fetch

	ctx    context.Context // ends with the account; set when it starts
	cancel context.CancelFunc
	ended  chan struct{}
}

// accounts owns the accounts that run. What reads them takes the list of that
// moment and needs no lock.
type accounts struct {
	metrics *collector.Metrics
	logger  log.Logger
	current atomic.Pointer[[]*account]

	mu  sync.Mutex      // one change at a time
	ctx context.Context // of all accounts; nil before start
}

// newAccounts prepares accounts that do nothing until start.
func newAccounts(configs []Account, metrics *collector.Metrics, logger log.Logger) (*accounts, error) {
	as := &accounts{metrics: metrics, logger: logger}
	transports, err := newTransports(configs)
	if err != nil {
		return nil, err
	}
	list := make([]*account, len(configs))
	for i := range configs {
		list[i] = as.prepare(&configs[i], transports[i])
	}
	as.current.Store(&list)
	return as, nil
}

// newTransports makes what can fail of all accounts, before anything is changed.
func newTransports(configs []Account) ([]http.RoundTripper, error) {
	transports := make([]http.RoundTripper, len(configs))
	for i := range configs {
		// One name for all: it labels metrics of the library's own, which would
		// otherwise stay behind when an account goes.
		t, err := config.NewRoundTripperFromConfig(configs[i].HTTP, "twilio")
		if err != nil {
			return nil, fmt.Errorf("account %q: %s", configs[i].Account, oneLine(err.Error()))
		}
		transports[i] = t
	}
	return transports, nil
}

func (as *accounts) prepare(c *Account, transport http.RoundTripper) *account {
	logger := log.With(as.logger, "account", c.Account)
	own := as.metrics.Account(c.Account)
	client := twilio.NewClient(twilio.Options{
		BaseURL: c.BaseURL, Transport: transport,
		Timeout: c.Timeout, MaxRetries: c.MaxRetries, RateLimit: c.RateLimit, InFlight: c.Concurrency,
		Logger: logger, Observe: own.Observe,
	})
	return &account{
		config: *c, client: client, transport: transport,
		refresher: collector.NewRefresher(c.Settings, client, own, as.logger),
	}
}

// list returns the accounts of this moment, in the order of the configuration.
// It must not be changed.
func (as *accounts) list() []*account {
	return *as.current.Load()
}

func (as *accounts) refreshers() []*collector.Refresher {
	list := as.list()
	rs := make([]*collector.Refresher, len(list))
	for i, a := range list {
		rs[i] = a.refresher
	}
	return rs
}

// start runs the accounts until ctx ends. firstDelay is added to the staggered
// start of each.
func (as *accounts) start(ctx context.Context, firstDelay time.Duration) {
	as.mu.Lock()
	defer as.mu.Unlock()
	as.ctx = ctx
	for i, a := range as.list() {
		a.start(ctx, firstDelay+stagger(i, len(as.list()), a.config.Interval))
	}
}

// stagger spreads n accounts over at most half an interval.
func stagger(i, n int, interval time.Duration) time.Duration {
	return time.Duration(i) * min(staggerStep, interval/2/time.Duration(n))
}

func (a *account) start(ctx context.Context, delay time.Duration) {
	a.ctx, a.cancel = context.WithCancel(ctx)
	a.ended = make(chan struct{})
	go func() {
		defer close(a.ended)
		a.refresher.Run(a.ctx, delay)
	}()
}

// stop ends the account and waits until nothing of it runs.
func (a *account) stop() {
	a.cancel()
	<-a.ended
	a.probing.Lock() // those under way end with the account's context
	defer a.probing.Unlock()
	if t, ok := a.transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

func stopAll(list []*account) {
	for _, a := range list {
		a.cancel()
	}
	for _, a := range list {
		a.stop()
	}
}

// stop ends all accounts and waits until nothing of them runs.
func (as *accounts) stop() {
	as.mu.Lock()
	defer as.mu.Unlock()
	if as.ctx == nil {
		return
	}
	stopAll(as.list())
	as.ctx = nil
}

// replace goes over to other accounts. Those that did not change go on
// undisturbed. On error, nothing has changed.
func (as *accounts) replace(configs []Account) error {
	as.mu.Lock()
	defer as.mu.Unlock()
	if as.ctx == nil {
		return errors.New("the accounts do not run")
	}

	old := map[string]*account{}
	for _, a := range as.list() {
		old[a.config.Account] = a
	}
	next := make([]*account, len(configs))
	var fresh []Account
	for i := range configs {
		c := &configs[i]
		if a := old[c.Account]; a != nil && reflect.DeepEqual(&a.config, c) {
			next[i] = a
			delete(old, c.Account)
			continue
		}
		fresh = append(fresh, *c)
	}
	transports, err := newTransports(fresh)
	if err != nil {
		return err
	}

	// Accounts that go are out of sight at once; one that comes back with other
	// settings is shown as it was until its successor is there.
	var gone, visible []*account
	for _, a := range as.list() {
		ends := old[a.config.Account] != nil
		if ends {
			gone = append(gone, a)
		}
		if !ends || slices.ContainsFunc(configs, func(c Account) bool { return c.Account == a.config.Account }) {
			visible = append(visible, a)
		}
	}
	as.current.Store(&visible)
	// Only what has ended can be forgotten: a late request of an old account
	// would bring its series back.
	stopAll(gone)
	for _, a := range gone {
		as.metrics.Remove(a.config.Account)
	}

	var started []*account
	for i := range configs {
		if next[i] == nil {
			next[i] = as.prepare(&configs[i], transports[len(started)])
			if before := old[configs[i].Account]; before != nil && *before.config.BaseURL == *configs[i].BaseURL {
				next[i].client.ShareCooldown(before.client) // other settings do not end a Retry-After
			}
			started = append(started, next[i])
		}
	}
	for i, a := range started {
		a.start(as.ctx, stagger(i, len(started), a.config.Interval))
	}
	as.current.Store(&next)
	level.Info(as.logger).Log("msg", "accounts replaced",
		"unchanged", len(next)-len(started), "started", len(started), "stopped", len(gone))
	return nil
}
