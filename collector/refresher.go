// Package collector refreshes the windows of accounts and exports their snapshots as metrics. It decides when to
// refresh; [twilio_operations_exporter/collector/window] decides what to read.
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
	AccountSID     string          // at Twilio
	Resource       twilio.Resource // what kind of operations is read
	Interval       time.Duration   // between refreshes; 0 = refresh on each scrape
	Window         time.Duration   // how far back operations count, by creation time
	RefreshTimeout time.Duration   // of one whole refresh
	MaxAge         time.Duration   // gauges with status are exported for max(MaxAge, 2 intervals) after the last success
	PageSize       int             // 1 to 1000
	Concurrency    int             // most requests in flight
	MaxStaleness   float64         // 0 to 1: how far behind an operation may be, as a fraction of its age
	Named          int             // 0 to 20: most failing, and most stuck, operations to export by id
	Samples        int             // 0 to 20: most lost messages of a failing operation to look up
	Tags           OperationTags   // tags of the messages looked up to export
}

const (
	maxSkew       = time.Minute     // a clock skew above this is logged
	progressEvery = 5 * time.Second // how often a long refresh logs its progress
	minNamed      = 5               // the landing page lists so many failing and stuck operations, whatever Named is
)

// Refresher keeps the numbers of one account. It refreshes them on an interval, or when a scrape asks.
type Refresher struct {
	settings Settings
	client   *twilio.Client
	metrics  *AccountMetrics
	logger   log.Logger
	created  time.Time          // when the counters began; with a kept state, before the restart
	started  time.Time          // when the live counters began, which every restart resets
	keep     func(state []byte) // nil = states are not kept
	asked    chan struct{}      // has capacity 1: somebody waits for current
	stopped  chan struct{}      // closed at the end of Run

	lookUps lookUps

	// Only the goroutine that refreshes uses these.
	window *window.Window
	skewed bool // the clock skew has been logged

	mu      sync.Mutex // guards what follows
	current *flight    // the refresh under way or asked for
	state   state
}

// flight is a refresh that any number of callers wait for.
type flight struct {
	done chan struct{}
	err  error
}

// state is what scrapes and pages show. Only the goroutine that refreshes writes it, so that goroutine can read it
// without Refresher.mu.
type state struct {
	ticked      time.Time        // when the loop last showed that it is alive
	nextRefresh time.Time        // when the next refresh is planned
	started     time.Time        // start of the last refresh to start
	progress    *window.Progress // of the refresh under way, nil if there is none
	refreshed   bool             // a refresh has ended since the program started

	// About the last refresh to end.
	requests int64
	err      error
	reason   Reason // of err

	snapshot     *window.Snapshot // of the last refresh that succeeded, nil before the first
	succeeded    time.Time        // end of that refresh
	failingSince time.Time        // end of the first refresh that failed since
	results      map[string]int   // refreshes that ended, by the label result
	errors       map[string]int   // refreshes that failed, by the label reason
	sampled      Sampled
	collected    collected
}

// outcome is how a refresh ended.
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
		state: state{
			ticked:  now,
			results: map[string]int{"success": 0, "error": 0},
			errors:  zeroErrors(),
		},
	}

	close(r.lookUps.ended)
	r.state.collected = collectAll(r.view()) // counters are exported from the start, at 0
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

// zeroErrors returns a count of 0 for each reason.
func zeroErrors() map[string]int {
	counts := map[string]int{}
	for i := range reasons {
		counts[reasons[i].Label] = 0
	}
	return counts
}

// Run refreshes until ctx ends: every Settings.Interval, the first time after delay; or, with an interval of 0,
// whenever Refresh asks.
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

// after returns the tick that follows a refresh: the first one after its start, as ticks stay on their grid. If ticks were
// missed meanwhile, it is the last of them: the next refresh starts at once, and only once.
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

// ticked records for Healthy that the loop is alive.
func (r *Refresher) ticked(next time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state.ticked = time.Now()
	r.state.nextRefresh = next
}

// awaitCooldown returns true once no cooldown of the API keeps a refresh from starting. With an interval it waits for
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

// join returns the refresh under way, or asks for one.
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

// resolve tells those who wait for the current refresh that it has ended.
func (r *Refresher) resolve(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current != nil {
		r.current.err = err
		close(r.current.done)
		r.current = nil
	}
}

// Refresh joins the refresh under way or asks for one, and waits for its end. If ctx ends first, the refresh goes on.
// Run must be running.
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

// RefreshOnce refreshes once, whatever the interval. It is used instead of Run.
func (r *Refresher) RefreshOnce(ctx context.Context) error { return r.refresh(ctx) }

// refresh reads what is due and, if it could read everything, shows it.
func (r *Refresher) refresh(ctx context.Context) error {
	r.join()
	select {
	case <-r.asked: // this refresh is the one asked for
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
	if ctx.Err() != nil { // the program stops: nothing has failed
		r.keepState(&r.state)
		r.resolve(ctx.Err())
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

// begin records the start of a refresh. It returns true if no refresh has succeeded yet.
func (r *Refresher) begin(started time.Time, progress *window.Progress) (first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state.started = started
	r.state.progress = progress
	return r.state.snapshot == nil
}

// read reads what is due, for as long as a refresh may take. Meanwhile it logs the progress and keeps what was read.
func (r *Refresher) read(ctx context.Context, progress *window.Progress, first bool) error {
	ctx, cancel := context.WithTimeout(ctx, r.settings.RefreshTimeout)
	var others sync.WaitGroup
	defer others.Wait()
	defer cancel()
	others.Go(func() { r.keepMeanwhile(ctx, first) })
	others.Go(func() { r.logProgress(ctx, progress, first) })

	err := r.window.Refresh(ctx, r.client, progress)
	ofRequest := has[*twilio.NetworkError](err) // such as the timeout of a dial
	if errors.Is(err, context.DeadlineExceeded) && !ofRequest {
		return fmt.Errorf("the refresh did not end within %v (--collector.refresh-timeout): %w", r.settings.RefreshTimeout, err)
	}
	return err
}

// logProgress logs how far a refresh is, every now and then, until ctx ends. During a first refresh there are no
// numbers to see, so it does that at info.
func (r *Refresher) logProgress(ctx context.Context, progress *window.Progress, first bool) {
	logger := level.Debug(r.logger)
	if first {
		logger = level.Info(r.logger)
	}

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
}

// end records the end of a refresh in metrics, state and log.
func (r *Refresher) end(o outcome) {
	r.metrics.duration.Observe(o.took.Seconds())
	r.logSkew()

	isFirst := r.state.snapshot == nil || !r.state.refreshed
	hadFailed := r.state.err != nil
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
	r.logEnd(o, isFirst, hadFailed)
}

// logEnd logs the end of a refresh: at info if it is the first, or the first to succeed after a failure.
func (r *Refresher) logEnd(o outcome, isFirst, hadFailed bool) {
	logger := log.With(r.logger, "pages", o.pages, "requests", o.requests, "duration", o.took.Round(time.Millisecond))
	if o.err != nil {
		reason := ReasonOf(o.err)
		level.Error(logger).Log("msg", "refresh failed", "reason", reason.Label, "err", o.err, "hint", reason.Remedy)
		return
	}

	operations := r.window.Snapshot().Operations()
	switch {
	case isFirst:
		level.Info(logger).Log("msg", "first refresh succeeded", "operations", operations)
	case hadFailed:
		level.Info(logger).Log("msg", "refresh succeeded again", "operations", operations)
	default:
		level.Debug(logger).Log("msg", "refresh succeeded", "operations", operations)
	}
}

// show makes scrapes show another state, once that is kept.
func (r *Refresher) show(next state) {
	next.collected = collectAll(r.viewOf(&next))
	r.keepState(&next)

	r.mu.Lock()
	defer r.mu.Unlock()
	r.state = next
}

// logSkew warns once if the clocks of this host and of the API differ.
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

// succeed records a successful refresh.
func (s *state) succeed(snapshot *window.Snapshot) {
	s.snapshot = snapshot
	s.succeeded = time.Now()
	s.failingSince = time.Time{}
	s.err = nil
	s.reason = Reason{}
	s.results = oneMore(s.results, "success")
}

// fail records a failed refresh.
func (s *state) fail(err error) {
	if s.err == nil {
		s.failingSince = time.Now()
	}
	s.err = err
	s.reason = ReasonOf(err)
	s.results = oneMore(s.results, "error")
	s.errors = oneMore(s.errors, s.reason.Label)
}

// oneMore returns a copy of counts with one more for a label, as views hold on to the original.
func oneMore(counts map[string]int, label string) map[string]int {
	counts = maps.Clone(counts)
	counts[label]++
	return counts
}
