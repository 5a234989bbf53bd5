// Package collector turns the pages of the list into metrics: operations
// become sums in a window, the window an immutable snapshot, a snapshot
// metrics. Nothing downstream calls back upstream.
package collector

import (
	"context"
	"iter"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"

	"twilio_operations_exporter/twilio"
)

// Settings say how one account is read. They are taken as they are: whoever
// makes them validates them.
type Settings struct {
	Account        string        // value of the account label
	Interval       time.Duration // between refreshes; 0 = refresh on each scrape
	Window         time.Duration // operations created in the last this long count
	RefreshTimeout time.Duration // of one whole refresh
	MaxAge         time.Duration // gauges with status are shown max(MaxAge, 2 intervals) after the last success
	PageSize       int           // 1 to 1000
	Concurrency    int           // requests in flight, at most
	MaxStaleness   float64       // 0 to 1: how far behind an operation may be, as a share of its age
}

// API is what a Refresher needs of an account; *twilio.Client is one.
type API interface {
	Pages(ctx context.Context, q twilio.Query) iter.Seq2[*twilio.Page, error]
	Now() time.Time
	Skew() (time.Duration, bool)
	RetryAt() time.Time
	Throttled() time.Duration
}

// progressEvery is how often a refresh that takes long says how far it is.
const progressEvery = 5 * time.Second

// Refresher keeps one account's numbers: it refreshes them on an interval, or
// when a scrape asks.
type Refresher struct {
	settings Settings
	api      API
	metrics  *AccountMetrics
	logger   log.Logger
	created  time.Time
	asked    chan struct{} // of capacity 1: somebody waits for current
	stopped  chan struct{} // closed at the end of Run

	// Of the goroutine that runs.
	window *window
	number int // of refreshes
	paging paging
	most   int // pages a piece may have

	mu      sync.Mutex
	current *flight // the refresh under way or asked for
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
	ended     int       // refreshes
	err       error     // of the last refresh to end
	failing   time.Time // end of the first of the failures in a row; zero after a success
	succeeded time.Time
	requests  int64 // while the last refresh to end was under way
	progress  *progress
	snapshot  *Snapshot
	samples   samples
}

// NewRefresher returns a refresher that does nothing until Run.
func NewRefresher(s Settings, api API, m *AccountMetrics, logger log.Logger) *Refresher {
	now := time.Now()
	return &Refresher{
		settings: s,
		api:      api,
		metrics:  m,
		logger:   log.With(logger, "account", s.Account),
		created:  now,
		asked:    make(chan struct{}, 1),
		stopped:  make(chan struct{}),
		window:   newWindow(s.Window, now),
		paging:   paging{size: float64(s.PageSize)},
		most:     pieceMost,
		state: state{
			ticked: now,
			// The counters are there from the start, at 0.
			samples: (&Snapshot{}).samples(s.Account, now),
		},
	}
}

// Run refreshes until ctx ends: every Settings.Interval, the first time after
// delay; or, with an interval of 0, whenever Scrape or Refresh asks.
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
		if !r.openGate(ctx) {
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

// after is the tick that follows a refresh: the first after its start, on a
// grid that tick is on, that is not yet over by more than an interval.
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

// openGate returns true when the API lets a refresh start. On an interval it
// waits for that; a scrape is told at once.
func (r *Refresher) openGate(ctx context.Context) bool {
	for {
		wait := time.Until(r.api.RetryAt())
		if wait <= 0 {
			return ctx.Err() == nil
		}
		if r.settings.Interval == 0 {
			r.resolve(twilio.ErrThrottled)
			return false
		}
		r.ticked(time.Now().Add(wait))
		select {
		case <-ctx.Done():
			return false
		case <-time.After(min(wait, r.settings.Interval)):
		}
	}
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

// Refresh joins the refresh under way or asks for one, and waits until it ends
// or ctx does; in the latter case the refresh goes on. It needs Run.
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
	case <-r.asked: // by somebody who has joined now
	default:
	}
	started, before := time.Now(), r.metrics.made.Load()
	r.number++
	f := &refresh{
		api:     r.api,
		s:       &r.settings,
		w:       r.window,
		number:  r.number,
		started: started.Sub(r.window.epoch),
		paging:  r.paging,
		most:    r.most,
		onPage:  r.metrics.OperationsRead,

		progress: new(progress),
	}
	r.mu.Lock()
	r.state.started, r.state.progress = started, f.progress
	first := r.state.snapshot == nil
	r.mu.Unlock()

	err := r.read(ctx, f, first)
	if ctx.Err() != nil {
		r.resolve(ctx.Err()) // the program stops: no failure of the API's
		return
	}
	// One odd page is not to make the next refresh ask for crumbs.
	r.paging.size = max(f.learned().size, r.paging.size/2)
	r.finished(f, err, time.Since(started), before)
	r.resolve(err)
}

// read runs a refresh for as long as one may take, and reports how far it is
// while that lasts.
func (r *Refresher) read(ctx context.Context, f *refresh, first bool) error {
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
				_ = logger.Log("msg", "Refresh under way", "pages", f.progress.read.Load(), "pages_expected", f.progress.expected.Load())
			}
		}
	})
	return f.run(ctx)
}

// finished takes in the end of a refresh, before which so many requests had
// been made.
func (r *Refresher) finished(f *refresh, err error, took time.Duration, before int64) {
	now := time.Now()
	pages, requests := f.progress.read.Load(), r.metrics.made.Load()-before
	r.metrics.duration.Observe(took.Seconds())

	var snapshot *Snapshot
	var made samples
	if err == nil {
		r.most = pieceMost
		r.window.publish()
		snapshot = r.window.snapshot(now)
		made = snapshot.samples(r.settings.Account, r.created)
		r.metrics.success.Inc()
	} else {
		if f.stuck() {
			r.most = max(1, r.most/2)
		}
		r.metrics.failure.Inc()
		r.metrics.errors[reason(err)].Inc()
	}

	r.mu.Lock()
	s := &r.state
	first, failed := s.snapshot == nil, s.err != nil
	s.ended++
	s.err, s.requests, s.progress = err, requests, nil
	if err == nil {
		s.failing, s.succeeded, s.snapshot, s.samples = time.Time{}, now, snapshot, made
	} else if s.failing.IsZero() {
		s.failing = now
	}
	r.mu.Unlock()

	keyvals := []any{"pages", pages, "duration", took.Round(time.Millisecond)}
	switch {
	case err != nil:
		_ = level.Error(r.logger).Log(append(keyvals, "msg", "Refresh failed", "reason", reason(err), "err", err)...)
	case first:
		_ = level.Info(r.logger).Log(append(keyvals, "msg", "First refresh succeeded", "operations", snapshot.operations())...)
	case failed:
		_ = level.Info(r.logger).Log(append(keyvals, "msg", "Refresh succeeded again", "operations", snapshot.operations())...)
	default:
		_ = level.Debug(r.logger).Log(append(keyvals, "msg", "Refresh succeeded", "operations", snapshot.operations())...)
	}
}

// view is the account as a scrape shows it now, but for what a refresh of the
// scrape's own changes.
func (r *Refresher) view() view {
	v := view{settings: &r.settings, created: r.created, throttled: r.api.Throttled()}
	v.skew, v.skewKnown = r.api.Skew()
	r.mu.Lock()
	defer r.mu.Unlock()
	v.up = r.state.ended > 0 && r.state.err == nil
	v.succeeded = r.state.succeeded
	v.samples = r.state.samples
	if time.Since(r.state.succeeded) > r.maxAge() {
		v.samples.gauges = nil
	}
	return v
}

// maxAge is how long gauges with a status are shown after a success.
func (r *Refresher) maxAge() time.Duration {
	return max(r.settings.MaxAge, 2*r.settings.Interval)
}
