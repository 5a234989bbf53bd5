package account

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/go-kit/log"
	"golang.org/x/sync/singleflight"

	"twilio_operations_exporter/collector"
	"twilio_operations_exporter/internal/config"
	"twilio_operations_exporter/twilio"
)

// fetchTimeout limits a fetch whose callers have given up, and the wait of
// callers without a deadline.
const fetchTimeout = 2 * time.Minute

// Account is one account as it runs.
type Account struct {
	Refresher *collector.Refresher

	config    config.Account
	client    *twilio.Client
	transport http.RoundTripper
	fetches   singleflight.Group
	fetching  sync.RWMutex // held for reading by each fetch

	// ctx ends with the account. It is kept because several callers share a
	// fetch, which must not end with the context of the first of them.
	ctx    context.Context
	cancel context.CancelFunc
	ended  chan struct{} // closed when the refresh loop has ended
}

func (m *Manager) newAccount(c *config.Account, transport http.RoundTripper) *Account {
	metrics := m.metrics.Account(c.Account)
	client := twilio.NewClient(twilio.Options{
		BaseURL: c.BaseURL, Transport: transport,
		Timeout: c.Timeout, MaxRetries: c.MaxRetries, RateLimit: c.RateLimit, InFlight: c.Concurrency,
		Logger: log.With(m.logger, "account", c.Account), Observe: metrics.Observe,
	})
	return &Account{
		config: *c, client: client, transport: transport,
		Refresher: collector.NewRefresher(c.Settings, client, metrics, m.logger),
	}
}

// Name is the value of the account label.
func (a *Account) Name() string { return a.config.Account }

func (a *Account) start(ctx context.Context, delay time.Duration) {
	a.ctx, a.cancel = context.WithCancel(ctx)
	a.ended = make(chan struct{})
	go func() {
		defer close(a.ended)
		a.Refresher.Run(a.ctx, delay)
	}()
}

// stop ends the account and waits for its refresh loop and its fetches.
func (a *Account) stop() {
	a.cancel()
	<-a.ended
	a.fetching.Lock() // fetches in flight end with the account's context
	defer a.fetching.Unlock()
	if t, ok := a.transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// Fetch reads one operation, within the account's rate limit. Concurrent calls
// for the same operation share one request, which goes on when ctx ends.
func (a *Account) Fetch(ctx context.Context, id string) (twilio.Operation, error) {
	result := a.fetches.DoChan(id, func() (any, error) { //nolint:contextcheck // shared: it ends with the account
		a.fetching.RLock()
		defer a.fetching.RUnlock()
		shared, cancel := context.WithTimeout(a.ctx, fetchTimeout)
		defer cancel()
		return a.client.FetchOperation(shared, id)
	})
	select {
	case r := <-result:
		op, _ := r.Val.(twilio.Operation)
		return op, r.Err
	case <-ctx.Done():
		return twilio.Operation{}, context.Cause(ctx)
	}
}
