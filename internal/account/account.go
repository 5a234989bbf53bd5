package account

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-kit/log"

	"twilio_operations_exporter/collector"
	"twilio_operations_exporter/internal/config"
	"twilio_operations_exporter/twilio"
)

// fetchTimeout limits a fetch, and so the wait of callers without a deadline.
const fetchTimeout = 2 * time.Minute

// decodedPerCore is how many answers are decoded at the same time, per core and for all accounts together.
const decodedPerCore = 4

// decoding is shared by all accounts, so that memory does not grow when the processor cannot keep up.
var decoding = twilio.NewTurns(decodedPerCore * runtime.GOMAXPROCS(0))

// Account is a running account.
type Account struct {
	Refresher *collector.Refresher

	config  config.Account
	client  *twilio.Client
	retired atomic.Bool // a reload has replaced or removed it: it must not write its state any more

	mu      sync.Mutex        // guards what follows
	fetches map[string]*fetch // under way, by operation
	closed  bool              // no new fetches may begin
	running sync.WaitGroup    // fetches

	// ctx ends with the account. It is kept because callers share a fetch, which must not end with the context of one.
	ctx    context.Context
	cancel context.CancelFunc
	ended  chan struct{} // closed when the refresh loop and all fetches have ended
}

// fetch is a fetch that any number of callers wait for.
type fetch struct {
	done    chan struct{}
	op      twilio.Operation
	err     error
	cancel  context.CancelFunc
	callers int // number of them; guarded by Account.mu
}

// newAccount makes an account. Its transport must have been added.
func (m *Manager) newAccount(c *config.Account) *Account {
	a := &Account{config: *c, fetches: map[string]*fetch{}}
	metrics := m.metrics.Account(c.Account)
	t := m.transports[c.HTTP]

	a.client = twilio.NewClient(twilio.Options{
		BaseURL:    &a.config.BaseURL,
		Transport:  t,
		User:       c.User,
		Secret:     c.Password.Fetch,
		Timeout:    c.Timeout,
		MaxRetries: c.MaxRetries,
		RateLimit:  c.RateLimit,
		InFlight:   c.Concurrency,
		Decoding:   decoding,
		Logger:     log.With(m.logger, "account", c.Account),
		Observe:    metrics.Observe,
		Resource:   c.Resource,
		Proxy:      t.proxy,
	})

	a.Refresher = collector.NewRefresher(c.Settings, a.client, metrics, m.logger)
	LookUpReasons(a.Refresher, a.client, metrics, m.logger)
	return a
}

// Name is the value of the account label.
func (a *Account) Name() string { return a.config.Account }

// RateLimit is the most requests a second that the account may make; 0 = no limit.
func (a *Account) RateLimit() float64 { return a.config.RateLimit }

// start runs the refresh loop until ctx ends, the first refresh after delay.
func (a *Account) start(ctx context.Context, delay time.Duration) {
	a.ctx, a.cancel = context.WithCancel(ctx)
	a.ended = make(chan struct{})
	go func() {
		defer close(a.ended)
		a.Refresher.Run(a.ctx, delay)

		a.mu.Lock()
		a.closed = true
		a.mu.Unlock()
		a.running.Wait()
	}()
}

// Fetch reads one operation, within the account's rate limit. Concurrent calls for the same operation share one
// request. It is canceled once nobody waits for it.
func (a *Account) Fetch(ctx context.Context, id string) (twilio.Operation, error) {
	f, err := a.join(id) //nolint:contextcheck // shared: it ends with the account
	if err != nil {
		return twilio.Operation{}, err
	}

	select {
	case <-f.done:
		return f.op, f.err
	case <-ctx.Done():
		a.leave(id, f)
		return twilio.Operation{}, context.Cause(ctx)
	}
}

// leave records that a caller no longer waits for a fetch, and cancels the fetch after the last one.
func (a *Account) leave(id string, f *fetch) {
	a.mu.Lock()
	defer a.mu.Unlock()

	f.callers--
	if f.callers > 0 {
		return
	}
	f.cancel()
	if a.fetches[id] == f { // it has not ended
		delete(a.fetches, id)
	}
}

// join returns the fetch of an operation that is under way, or begins one.
func (a *Account) join(id string) (*fetch, error) {
	a.mu.Lock()
	defer a.mu.Unlock()

	if f := a.fetches[id]; f != nil {
		f.callers++
		return f, nil
	}
	if a.closed {
		return nil, context.Canceled
	}

	ctx, cancel := context.WithTimeout(a.ctx, fetchTimeout)
	f := &fetch{done: make(chan struct{}), cancel: cancel, callers: 1}
	a.fetches[id] = f

	a.running.Go(func() {
		defer cancel()
		f.op, f.err = a.client.FetchOperation(ctx, id)
		a.mu.Lock()
		if a.fetches[id] == f {
			delete(a.fetches, id)
		}
		a.mu.Unlock()
		close(f.done)
	})
	return f, nil
}
