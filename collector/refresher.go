// Package collector refreshes the windows of accounts and shows their snapshots as metrics. It decides when to refresh;
// what to read then is decided by [twilio_operations_exporter/collector/window].
package collector

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"

	"twilio_operations_exporter/collector/window"
	"twilio_operations_exporter/twilio"
)

// Settings say how one account is read. They are not validated here.
type Settings struct {
	Account        string          // value of the account label
	AccountSID     string          // of the account at Twilio
	Resource       twilio.Resource // whose operations are read
	Interval       time.Duration   // between refreshes; 0 = refresh on each scrape
	Window         time.Duration   // operations created in the last this long count
	RefreshTimeout time.Duration   // of one whole refresh
	MaxAge         time.Duration   // gauges with status are shown max(MaxAge, 2 intervals) after the last success
	PageSize       int             // 1 to 1000
	Concurrency    int             // requests in flight, at most
	MaxStaleness   float64         // 0 to 1: how far behind an operation may be, as a fraction of its age
	Named          int             // 0 to 20: how many failing, and how many stuck, operations are exported by id
	Samples        int             // 0 to 20: how many lost messages of a failing operation are looked up
	Tags           OperationTags   // of messages that were looked up, to be exported
}

const (
	maxSkew       = time.Minute     // between this host's clock and the API's, above which it is logged
	progressEvery = 5 * time.Second // how often a refresh that takes long says how far it is
	minNamed      = 5               // failing and stuck operations in a snapshot, at least: for the landing page
)

// Refresher keeps one account's numbers: it refreshes them on an interval, or when a scrape asks.
type Refresher struct {
	settings Settings
	client   *twilio.Client
	metrics  *AccountMetrics
	logger   log.Logger
	created  time.Time          // of the counters, before restarts if that is known
	started  time.Time          // of those that a restart sets to 0
	keep     func(state []byte) // nil: states are not kept
	asked    chan struct{}      // of capacity 1: a caller waits for current
	stopped  chan struct{}      // closed at the end of Run

	lookUps lookUps

	// Of the goroutine that refreshes: nobody else uses them.
	window *window.Window
	skewed bool // that the clocks differ has been logged

	mu      sync.Mutex // guards what follows
	current *flight    // the refresh under way or asked for
	state   state
}

// flight is a refresh that any number of callers wait for.
type flight struct {
	done chan struct{}
	err  error
}

// state is what scrapes and pages are told of a refresher. The goroutine that refreshes writes it, and nobody else: it
// reads it without Refresher.mu.
type state struct {
	ticked      time.Time        // when the loop made its last step
	nextRefresh time.Time        // when the next one is planned
	started     time.Time        // the start of the last refresh to start
	progress    *window.Progress // of the refresh under way, nil where there is none
	refreshed   bool             // a refresh has ended since the start

	// Of the last refresh to end.
	requests int64
	err      error
	reason   Reason // of err

	snapshot     *window.Snapshot // of the last refresh that succeeded, nil before the first
	succeeded    time.Time        // its end
	failingSince time.Time        // the end of the first refresh that has failed since
	results      map[string]int   // refreshes that have ended, by the label result
	errors       map[string]int   // those of them that have failed, by the label reason
	sampled      Sampled          // is shown like the snapshot
	collected    collected
}

// outcome is how a refresh has ended.
type outcome struct {
	err      error
	pages    int64
	requests int64 // retries included
	took     time.Duration
}

// NewRefresher returns a refresher that does nothing until Run.
func NewRefresher(s Settings, client *twilio.Client, m *AccountMetrics, logger log.Logger) *Refresher {
	now := time.Now()
	r := &Refresher{
		settings: s,
		client:   client,
		metrics:  m,
		logger:   log.With(logger, "account", s.Account),
		created:  now,
		started:  now,
		asked:    make(chan struct{}, 1),
		stopped:  make(chan struct{}),
		lookUps:  lookUps{some: make(chan struct{}, 1), ended: make(chan struct{})},
		window:   window.New(s.windowOptions()),
		state:    state{ticked: now, results: map[string]int{"success": 0, "error": 0}, errors: noErrors()},
	}

	close(r.lookUps.ended)
	r.state.collected = collectAll(r.view()) // the counters are there from the start, at 0
	return r
}

func (s *Settings) windowOptions() window.Options {
	return window.Options{
		Length:       s.Window,
		Interval:     s.Interval,
		MaxStaleness: s.MaxStaleness,
		PageSize:     s.PageSize,
		Concurrency:  s.Concurrency,
		Named:        max(s.Named, minNamed),
	}
}

// noErrors returns a counter at 0 for each reason.
func noErrors() map[string]int {
	counts := map[string]int{}
	for i := range reasons {
		counts[reasons[i].Label] = 0
	}
	return counts
}

// Run refreshes until ctx ends: every Settings.Interval, the first time after delay; or, with an interval of 0,
// whenever Scrape or Refresh asks.
func (r *Refresher) Run(ctx context.Context, delay time.Duration) {
	defer close(r.stopped)
	defer r.endLookUps()

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
		case <-r.lookUps.some:
			r.showFound()
			continue
		case <-tick:
		case <-r.asked:
		}

		if r.awaitCooldown(ctx) {
			r.stopLookUp()
			started := time.Now()
			_ = r.refresh(ctx) // it has logged the error
			next = r.after(next, started)
			r.showFound()
			r.startLookUp(ctx)
		}
	}
}

// after returns the tick that follows a refresh. Ticks stay on their grid: the next one is the first after the refresh has
// started. If the refresh took longer than that, it is the last that has passed, so that the next refresh starts at once
// and those before it are skipped.
func (r *Refresher) after(tick, started time.Time) time.Time {
	interval := r.settings.Interval
	behind := started.Sub(tick)
	if behind >= 0 {
		tick = tick.Add(behind.Truncate(interval) + interval)
	}

	late := time.Since(tick)
	if late > interval {
		tick = tick.Add(late.Truncate(interval))
	}
	return tick
}

// ticked notes that the loop is alive, for Healthy.
func (r *Refresher) ticked(next time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state.ticked = time.Now()
	r.state.nextRefresh = next
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

	started := time.Now()
	r.metrics.listed.Store(0)
	progress := &window.Progress{
		OnPage: func(operations int) { r.metrics.operations.Add(float64(operations)) },
		Warn:   func(msg string, err error) { level.Warn(r.logger).Log("msg", msg, "err", err) },
	}
	first := r.begin(started, progress)

	err := r.read(ctx, progress, first)
	if ctx.Err() != nil {
		r.keepState(&r.state)
		r.resolve(ctx.Err()) // the program stops: no failure of the API's
		return ctx.Err()
	}

	r.end(outcome{
		err:      err,
		pages:    progress.Read.Load(),
		requests: r.metrics.listed.Load(),
		took:     time.Since(started),
	})
	r.resolve(err)
	return err
}

// begin records the start of a refresh. It returns true if none has succeeded before.
func (r *Refresher) begin(started time.Time, progress *window.Progress) (first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state.started = started
	r.state.progress = progress
	return r.state.snapshot == nil
}

// read runs a refresh for as long as one may take, and reports its progress while that lasts: of a first one where
// everybody sees it.
func (r *Refresher) read(ctx context.Context, progress *window.Progress, first bool) error {
	ctx, cancel := context.WithTimeout(ctx, r.settings.RefreshTimeout)
	logger := level.Debug(r.logger)
	if first {
		logger = level.Info(r.logger)
	}

	var others sync.WaitGroup
	defer others.Wait()
	defer cancel()
	others.Go(func() { r.keepMeanwhile(ctx, first) })
	others.Go(func() {
		tick := time.Tick(progressEvery)
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick:
				logger.Log(
					"msg", "refresh under way",
					"pages", progress.Read.Load(),
					"pages_expected", progress.Expected.Load(),
				)
			}
		}
	})

	err := r.window.Refresh(ctx, r.client, progress)
	ofRequest := has[*twilio.NetworkError](err) // such as the timeout of a dial
	if errors.Is(err, context.DeadlineExceeded) && !ofRequest {
		return fmt.Errorf("the refresh did not end within %v (--collector.refresh-timeout): %w", r.settings.RefreshTimeout, err)
	}
	return err
}

// end records the end of a refresh: metrics, state and log.
func (r *Refresher) end(o outcome) {
	r.metrics.duration.Observe(o.took.Seconds())
	r.logSkew()

	first := r.state.snapshot == nil || !r.state.refreshed
	again := r.state.err != nil
	next := r.state
	if o.err == nil {
		next.succeed(r.window.Snapshot())
	} else {
		next.fail(o.err)
	}
	next.requests = o.requests
	next.progress = nil
	next.refreshed = true
	r.show(next)

	logger := log.With(r.logger, "pages", o.pages, "requests", o.requests, "duration", o.took.Round(time.Millisecond))
	if o.err != nil {
		reason := ReasonOf(o.err)
		level.Error(logger).Log("msg", "refresh failed", "reason", reason.Label, "err", o.err, "hint", reason.Remedy)
		return
	}

	operations := r.window.Snapshot().Operations()
	switch {
	case first:
		level.Info(logger).Log("msg", "first refresh succeeded", "operations", operations)
	case again:
		level.Info(logger).Log("msg", "refresh succeeded again", "operations", operations)
	default:
		level.Debug(logger).Log("msg", "refresh succeeded", "operations", operations)
	}
}

// show has scrapes see another state, once that is kept.
func (r *Refresher) show(next state) {
	next.collected = collectAll(r.viewOf(&next))
	r.keepState(&next)

	r.mu.Lock()
	defer r.mu.Unlock()
	r.state = next
}

// logSkew warns once when the clocks of this host and of the API differ.
func (r *Refresher) logSkew() {
	skew, isKnown := r.client.Skew()
	isLarge := isKnown && skew.Abs() > maxSkew
	if isLarge && !r.skewed {
		level.Warn(r.logger).Log(
			"msg", "the API's clock differs from that of this host",
			"skew", skew.Round(time.Second),
			"hint", "Check the time synchronization of this host.",
		)
	}
	r.skewed = isLarge
}

// succeed records a refresh that has succeeded.
func (s *state) succeed(snapshot *window.Snapshot) {
	s.snapshot = snapshot
	s.succeeded = time.Now()
	s.failingSince = time.Time{}
	s.err = nil
	s.reason = Reason{}
	s.results = oneMore(s.results, "success")
}

// fail records a refresh that has failed.
func (s *state) fail(err error) {
	if s.err == nil {
		s.failingSince = time.Now()
	}
	s.err = err
	s.reason = ReasonOf(err)
	s.results = oneMore(s.results, "error")
	s.errors = oneMore(s.errors, s.reason.Label)
}

// oneMore returns counts with one more of a label. Those that views already have stay as they are.
func oneMore(counts map[string]int, label string) map[string]int {
	counts = maps.Clone(counts)
	counts[label]++
	return counts
}
