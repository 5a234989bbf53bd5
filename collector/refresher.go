// Package collector refreshes the windows of accounts and shows their snapshots as metrics. It decides when to refresh;
// what to read then is decided by [twilio_operations_exporter/collector/window].
package collector

import (
	"cmp"
	"context"
	"math"
	"slices"
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

// API is what a Refresher needs of an account; *twilio.Client is one.
type API interface {
	window.API
	// Skew is the API's clock minus the local one; false before the first answer.
	Skew() (time.Duration, bool)
	// RetryAt is the local time before which no request goes out, zero when requests may.
	RetryAt() time.Time
	// AwaitRetry waits until RetryAt, until d has passed or until ctx ends.
	AwaitRetry(ctx context.Context, d time.Duration)
	// Throttled is the time in which somebody waited because the API said so.
	Throttled() time.Duration
}

// progressEvery is how often a refresh that takes long says how far it is.
const progressEvery = 5 * time.Second

// minNamed is the least number of failing and stuck operations in a snapshot, for the landing page.
const minNamed = 5

// Refresher keeps one account's numbers: it refreshes them on an interval, or when a scrape asks.
type Refresher struct {
	settings Settings
	api      API
	metrics  *AccountMetrics
	logger   log.Logger
	created  time.Time
	asked    chan struct{} // of capacity 1: a caller waits for current
	stopped  chan struct{} // closed at the end of Run

	window   *window.Window // the running goroutine's, as is outcomes
	outcomes outcomes

	mu      sync.Mutex // guards what follows
	current *flight    // the refresh under way or asked for
	state   state
}

// flight is a refresh that any number of callers wait for.
type flight struct {
	done chan struct{}
	err  error
}

// state is what others may know of a refresher.
type state struct {
	ticked    time.Time
	next      time.Time // the loop's next tick
	started   time.Time // the last refresh
	err       error     // of the last refresh to end
	failing   time.Time // end of the first of the failures in a row; zero after a success
	succeeded time.Time
	requests  int64 // while the last refresh to end was under way
	progress  *window.Progress
	snapshot  *window.Snapshot
	samples   samples
}

// NewRefresher returns a refresher that does nothing until Run.
func NewRefresher(s Settings, api API, m *AccountMetrics, logger log.Logger) *Refresher {
	now, o := time.Now(), newOutcomes()
	return &Refresher{
		settings: s,
		api:      api,
		metrics:  m,
		logger:   log.With(logger, "account", s.Account),
		created:  now,
		asked:    make(chan struct{}, 1),
		stopped:  make(chan struct{}),
		window: window.New(window.Options{
			Length: s.Window, Interval: s.Interval, MaxStaleness: s.MaxStaleness,
			PageSize: s.PageSize, Concurrency: s.Concurrency, Named: max(s.Named, minNamed),
		}),
		outcomes: o,
		state: state{
			ticked: now,
			// The counters are there from the start, at 0.
			samples: makeSamples(&window.Snapshot{}, &o, &s, now),
		},
	}
}

// Run refreshes until ctx ends: every Settings.Interval, the first time after delay; or, with an interval of 0,
// whenever Scrape or Refresh asks.
func (r *Refresher) Run(ctx context.Context, delay time.Duration) {
	defer close(r.stopped)
	var tick <-chan time.Time
	var timer *time.Timer
	next := time.Now().Add(delay)
	if r.settings.Interval > 0 {
		timer = time.NewTimer(delay)
		defer timer.Stop()
		tick = timer.C
	}
	for {
		r.ticked(next)
		select {
		case <-ctx.Done():
			return
		case <-tick:
		case <-r.asked:
		}
		if !r.awaitCooldown(ctx) {
			continue
		}
		started := time.Now()
		r.refresh(ctx)
		if r.settings.Interval > 0 {
			next = r.after(next, started)
			timer.Reset(time.Until(next))
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
	r.state.ticked, r.state.next = time.Now(), next
}

// awaitCooldown returns true once the API's cooldown is over and a refresh may start. With an interval it waits for
// that; otherwise the scrape gets the error at once.
func (r *Refresher) awaitCooldown(ctx context.Context) bool {
	for ctx.Err() == nil {
		retryAt := r.api.RetryAt()
		switch {
		case retryAt.IsZero():
			return true
		case r.settings.Interval == 0:
			r.resolve(twilio.ErrThrottled)
			return false
		}
		r.ticked(retryAt)
		r.api.AwaitRetry(ctx, r.settings.Interval)
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

// refresh reads what is due and, when all of it was read, shows it.
func (r *Refresher) refresh(ctx context.Context) {
	r.join()
	select {
	case <-r.asked: // that caller has joined this refresh
	default:
	}
	started, before := time.Now(), r.metrics.requested.Load()
	p := &window.Progress{OnPage: r.metrics.OperationsRead, Warn: func(msg string, err error) {
		_ = level.Warn(r.logger).Log("msg", msg, "err", err)
	}}
	r.mu.Lock()
	r.state.started, r.state.progress = started, p
	first := r.state.snapshot == nil
	r.mu.Unlock()

	err := r.read(ctx, p, first)
	if ctx.Err() != nil {
		r.resolve(ctx.Err()) // the program stops: no failure of the API's
		return
	}
	r.finished(p.Read.Load(), err, time.Since(started), r.metrics.requested.Load()-before)
	r.resolve(err)
}

// read runs a refresh for as long as one may take, and reports how far it is while that lasts.
func (r *Refresher) read(ctx context.Context, p *window.Progress, first bool) error {
	ctx, cancel := context.WithTimeout(ctx, r.settings.RefreshTimeout)
	defer cancel()
	var reporter sync.WaitGroup
	defer reporter.Wait()
	done := make(chan struct{})
	defer close(done)
	logger := level.Debug(r.logger)
	if first {
		logger = level.Info(r.logger)
	}
	reporter.Go(func() {
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				_ = logger.Log("msg", "refresh under way", "pages", p.Read.Load(), "pages_expected", p.Expected.Load())
			}
		}
	})
	return r.window.Refresh(ctx, r.api, p)
}

// finished records the end of a refresh: state, metrics and log.
func (r *Refresher) finished(pages int64, err error, took time.Duration, requests int64) {
	now := time.Now()
	snapshot := r.window.Snapshot() // on an error, that of the last success
	r.metrics.duration.Observe(took.Seconds())
	if err == nil {
		r.outcomes.results["success"]++
	} else {
		r.outcomes.results["error"]++
		r.outcomes.errors[ReasonOf(err).Label]++
	}
	made := makeSamples(cmp.Or(snapshot, &window.Snapshot{}), &r.outcomes, &r.settings, r.created)

	r.mu.Lock()
	s := &r.state
	first, failed := s.snapshot == nil, s.err != nil
	overflows := err == nil && saturated(snapshot) && (first || !saturated(s.snapshot))
	s.err, s.requests, s.progress = err, requests, nil
	s.snapshot, s.samples = snapshot, made
	if err == nil {
		s.failing, s.succeeded = time.Time{}, now
	} else if s.failing.IsZero() {
		s.failing = now
	}
	r.mu.Unlock()

	if overflows {
		_ = level.Warn(r.logger).Log("msg", "stats are too large to add up, their sums stay at the maximum")
	}
	keyvals := []any{"pages", pages, "requests", requests, "duration", took.Round(time.Millisecond)}
	switch {
	case err != nil:
		reason := ReasonOf(err)
		keyvals = append(keyvals, "msg", "refresh failed", "reason", reason.Label, "err", err, "hint", reason.Remedy)
		_ = level.Error(r.logger).Log(keyvals...)
	case first:
		_ = level.Info(r.logger).Log(append(keyvals, "msg", "first refresh succeeded", "operations", snapshot.Operations())...)
	case failed:
		_ = level.Info(r.logger).Log(append(keyvals, "msg", "refresh succeeded again", "operations", snapshot.Operations())...)
	default:
		_ = level.Debug(r.logger).Log(append(keyvals, "msg", "refresh succeeded", "operations", snapshot.Operations())...)
	}
}

// saturated reports whether a sum is too large for its type.
func saturated(s *window.Snapshot) bool {
	return slices.ContainsFunc(s.Statuses, func(sums window.StatusSums) bool {
		return slices.ContainsFunc(stats[:], func(stat Stat) bool { return stat.Of(&sums.Stats) == math.MaxInt64 })
	})
}

// view is the account as a scrape shows it now, but for what a refresh of the scrape's own changes.
func (r *Refresher) view() view {
	v := view{settings: &r.settings, created: r.created}
	v.skew, v.skewKnown = r.api.Skew()
	r.mu.Lock()
	defer r.mu.Unlock()
	v.throttled = r.api.Throttled()
	v.up = r.state.snapshot != nil && r.state.err == nil
	v.succeeded = r.state.succeeded
	v.samples = r.state.samples
	if !r.showable() {
		v.samples.gauges = nil
	}
	return v
}

// showable reports whether gauges with a status are still shown: max(MaxAge, 2 intervals) after the last success, by the
// wall clock or by the monotonic one, which stands still while the machine is suspended. r.mu is held.
func (r *Refresher) showable() bool {
	succeeded := r.state.succeeded
	age := max(time.Since(succeeded), time.Now().Round(0).Sub(succeeded.Round(0)))
	return r.state.snapshot != nil && age <= max(r.settings.MaxAge, 2*r.settings.Interval)
}
