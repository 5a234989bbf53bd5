// Package collector refreshes the windows of accounts and shows their snapshots as metrics. It decides when to refresh;
// what to read then is decided by [twilio_operations_exporter/collector/window].
package collector

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"

	"twilio_operations_exporter/collector/window"
	"twilio_operations_exporter/twilio"
)

// Settings say how one account is read. They are not validated here.
type Settings struct {
	Account        string        // value of the account label
	Interval       time.Duration // between refreshes; 0 = refresh on each scrape
	Window         time.Duration // operations created in the last this long count
	RefreshTimeout time.Duration // of one whole refresh
	MaxAge         time.Duration // gauges with status are shown max(MaxAge, 2 intervals) after the last success
	PageSize       int           // 1 to 1000
	Concurrency    int           // requests in flight, at most
	MaxStaleness   float64       // 0 to 1: how far behind an operation may be, as a fraction of its age
	Named          int           // 0 to 20: how many failing, and how many stuck, operations are exported by id
}

const (
	progressEvery = 5 * time.Second // how often a refresh that takes long says how far it is
	minNamed      = 5               // failing and stuck operations in a snapshot, at least: for the landing page
)

// Refresher keeps one account's numbers: it refreshes them on an interval, or when a scrape asks.
type Refresher struct {
	settings Settings
	client   *twilio.Client
	metrics  *AccountMetrics
	logger   log.Logger
	created  time.Time
	asked    chan struct{} // of capacity 1: a caller waits for current
	stopped  chan struct{} // closed at the end of Run

	window *window.Window // the running goroutine's

	mu      sync.Mutex // guards what follows
	current *flight    // the refresh under way or asked for
	state   state
}

// flight is a refresh that any number of callers wait for.
type flight struct {
	done chan struct{}
	err  error
}

// state is what others may know of a refresher. Only the running goroutine changes it.
type state struct {
	Status   // but for what Refresher.Status adds
	ticked   time.Time
	progress *window.Progress // of the refresh under way
	results  map[string]int   // refreshes that have ended, by the label result
	errors   map[string]int   // of them those that failed, by the label reason
	samples  samples
}

// NewRefresher returns a refresher that does nothing until Run.
func NewRefresher(s Settings, client *twilio.Client, m *AccountMetrics, logger log.Logger) *Refresher {
	now := time.Now()
	r := &Refresher{
		settings: s, client: client, metrics: m, logger: log.With(logger, "account", s.Account), created: now,
		asked: make(chan struct{}, 1), stopped: make(chan struct{}),
		window: window.New(window.Options{
			Length: s.Window, Interval: s.Interval, MaxStaleness: s.MaxStaleness,
			PageSize: s.PageSize, Concurrency: s.Concurrency, Named: max(s.Named, minNamed),
		}),
		state: state{ticked: now, results: map[string]int{"success": 0, "error": 0}, errors: map[string]int{}},
	}
	for i := range reasons {
		r.state.errors[reasons[i].Label] = 0
	}
	r.state.samples = r.makeSamples() // the counters are there from the start, at 0
	return r
}

// Run refreshes until ctx ends: every Settings.Interval, the first time after delay; or, with an interval of 0,
// whenever Scrape or Refresh asks.
func (r *Refresher) Run(ctx context.Context, delay time.Duration) {
	defer close(r.stopped)
	next := time.Now().Add(delay)
	for {
		var tick <-chan time.Time
		if r.settings.Interval > 0 {
			tick = time.After(time.Until(next))
		}
		r.ticked(next)
		select {
		case <-ctx.Done():
			return
		case <-tick:
		case <-r.asked:
		}
		if r.awaitCooldown(ctx) {
			started := time.Now()
			_ = r.refresh(ctx) // it has logged the error
			next = r.after(next, started)
		}
	}
}

// after is the tick that follows a refresh: the first after its start, on a grid that tick is on, that is not yet over
// by more than an interval.
func (r *Refresher) after(tick, started time.Time) time.Time {
	interval := r.settings.Interval
	if behind := started.Sub(tick); behind >= 0 {
		tick = tick.Add(behind.Truncate(interval) + interval)
	}
	if late := time.Since(tick); late > interval {
		tick = tick.Add(late.Truncate(interval))
	}
	return tick
}

// ticked notes that the loop is alive, for Healthy.
func (r *Refresher) ticked(next time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state.ticked, r.state.NextRefresh = time.Now(), next
}

// awaitCooldown returns true once the API's cooldown is over and a refresh may start. With an interval it waits for
// that; otherwise the scrape gets the error at once.
func (r *Refresher) awaitCooldown(ctx context.Context) bool {
	for ctx.Err() == nil {
		retryAt := r.client.RetryAt()
		switch {
		case retryAt.IsZero():
			return true
		case r.settings.Interval == 0:
			r.resolve(twilio.ErrThrottled)
			return false
		}
		r.ticked(retryAt)
		r.client.AwaitRetry(ctx, r.settings.Interval)
	}
	return false
}

// join joins the refresh under way, or asks for one.
func (r *Refresher) join() *flight {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current == nil {
		r.current = &flight{done: make(chan struct{})}
		select {
		case r.asked <- struct{}{}:
		default:
		}
	}
	return r.current
}

// resolve ends the refresh that is waited for.
func (r *Refresher) resolve(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current != nil {
		r.current.err = err
		close(r.current.done)
		r.current = nil
	}
}

// Refresh joins the refresh under way or asks for one, and waits until it ends or ctx does; in the latter case the
// refresh goes on. It needs Run.
func (r *Refresher) Refresh(ctx context.Context) error {
	f := r.join()
	select {
	case <-f.done:
		return f.err
	case <-r.stopped:
		return context.Canceled
	case <-ctx.Done():
		return ctx.Err()
	}
}

// RefreshOnce refreshes, in the place of Run and whatever the interval.
func (r *Refresher) RefreshOnce(ctx context.Context) error { return r.refresh(ctx) }

// refresh reads what is due and, when all of it was read, shows it.
func (r *Refresher) refresh(ctx context.Context) error {
	r.join()
	select {
	case <-r.asked: // that caller has joined this refresh
	default:
	}
	started, before := time.Now(), r.metrics.requested.Load()
	p := &window.Progress{
		OnPage: func(operations int) { r.metrics.operations.Add(float64(operations)) },
		Warn:   func(msg string, err error) { level.Warn(r.logger).Log("msg", msg, "err", err) },
	}
	r.mu.Lock()
	r.state.Started, r.state.progress = started, p
	r.mu.Unlock()

	err := r.read(ctx, p)
	if ctx.Err() != nil {
		r.resolve(ctx.Err()) // the program stops: no failure of the API's
		return ctx.Err()
	}
	r.finished(p.Read.Load(), err, time.Since(started), r.metrics.requested.Load()-before)
	r.resolve(err)
	return err
}

// read runs a refresh for as long as one may take, and reports how far it is while that lasts.
func (r *Refresher) read(ctx context.Context, p *window.Progress) error {
	ctx, cancel := context.WithTimeout(ctx, r.settings.RefreshTimeout)
	logger := level.Debug(r.logger)
	if r.state.Snapshot == nil {
		logger = level.Info(r.logger)
	}
	var reporter sync.WaitGroup
	defer reporter.Wait()
	defer cancel()
	reporter.Go(func() {
		tick := time.Tick(progressEvery)
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick:
				logger.Log("msg", "refresh under way", "pages", p.Read.Load(), "pages_expected", p.Expected.Load())
			}
		}
	})
	err := r.window.Refresh(ctx, r.client, p)
	if errors.Is(err, context.DeadlineExceeded) && !has[*twilio.NetworkError](err) { // a dial's timeout is one, too
		err = fmt.Errorf("the refresh did not end within %v (--collector.refresh-timeout): %w", r.settings.RefreshTimeout, err)
	}
	return err
}

// finished records the end of a refresh: state, metrics and log.
func (r *Refresher) finished(pages int64, err error, took time.Duration, requests int64) {
	r.metrics.duration.Observe(took.Seconds())
	r.mu.Lock()
	s := &r.state
	before := s.Status
	s.Err, s.Reason, s.Requests, s.progress = err, Reason{}, requests, nil
	if err == nil {
		s.Snapshot, s.Succeeded, s.FailingSince = r.window.Snapshot(), time.Now(), time.Time{}
		s.results["success"]++
	} else {
		s.Reason = ReasonOf(err)
		if before.Err == nil {
			s.FailingSince = time.Now()
		}
		s.results["error"]++
		s.errors[s.Reason.Label]++
	}
	s.samples = r.makeSamples()
	r.mu.Unlock()

	keyvals := []any{"pages", pages, "requests", requests, "duration", took.Round(time.Millisecond)}
	if err != nil {
		keyvals = append(keyvals, "msg", "refresh failed", "reason", s.Reason.Label, "err", err, "hint", s.Reason.Remedy)
		level.Error(r.logger).Log(keyvals...)
		return
	}
	logger, msg := level.Debug(r.logger), "refresh succeeded"
	switch {
	case before.Snapshot == nil:
		logger, msg = level.Info(r.logger), "first refresh succeeded"
	case before.Err != nil:
		logger, msg = level.Info(r.logger), "refresh succeeded again"
	}
	logger.Log(append(keyvals, "msg", msg, "operations", s.Snapshot.Operations())...)
}

// view is the account as a scrape shows it now, but for what a refresh of the scrape's own changes.
func (r *Refresher) view() view {
	v := view{settings: &r.settings, created: r.created, throttled: r.client.Throttled()}
	v.skew, v.skewKnown = r.client.Skew()
	r.mu.Lock()
	defer r.mu.Unlock()
	v.up = r.state.Snapshot != nil && r.state.Err == nil
	v.succeeded = r.state.Succeeded
	v.samples = r.state.samples.lasting
	if r.showable() {
		v.samples = r.state.samples.all
	}
	return v
}

// showable reports whether gauges with a status are still shown: max(MaxAge, 2 intervals) after the last success, by the
// wall clock or by the monotonic one, which stands still while the machine is suspended. r.mu is held.
func (r *Refresher) showable() bool {
	succeeded := r.state.Succeeded
	age := max(time.Since(succeeded), time.Now().Round(0).Sub(succeeded.Round(0)))
	return r.state.Snapshot != nil && age <= max(r.settings.MaxAge, 2*r.settings.Interval)
}
