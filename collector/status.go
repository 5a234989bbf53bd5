package collector

import (
	"time"

	"twilio_operations_exporter/collector/window"
)

// State is an account's state in a word.
type State string

// The states, of which the first that applies holds.
const (
	StateThrottled State = "throttled" // no request goes out before Status.RetryAt
	StateFailing   State = "failing"   // the last refresh to end failed
	StateFresh     State = "fresh"     // it succeeded
	StateReading   State = "reading"   // the first refresh is under way
	StateStarting  State = "starting"  // it has not begun
)

// Status is an account's state for the landing page; metrics have it in numbers.
type Status struct {
	State State
	// Started is the start of the last refresh to start; Succeeded the end of the last that succeeded; FailingSince the
	// end of the first that failed since. NextRefresh is when the next is planned. RetryAt is when the API lets
	// requests through again. All by the local clock, zero where there is none.
	Started, Succeeded, FailingSince, NextRefresh, RetryAt time.Time
	// Requests is how many requests went to the API while the last refresh to end was under way, retries included;
	// PagesRead and PagesExpected say how far the one under way is.
	Requests                 int64
	PagesRead, PagesExpected int
	// Err and Reason say why the last refresh to end failed.
	Err    error
	Reason Reason
	// Snapshot is the last good one, nil before the first. Current is false when it is too old to be shown in metrics.
	Snapshot *window.Snapshot
	Current  bool
}

// Status returns the account's state.
func (r *Refresher) Status() Status {
	retryAt := r.api.RetryAt()
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Status{
		Started:      r.state.started,
		Succeeded:    r.state.succeeded,
		FailingSince: r.state.failing,
		Requests:     r.state.requests,
		Err:          r.state.err,
		Snapshot:     r.state.snapshot,
		Current:      r.showable(),
	}
	if r.settings.Interval > 0 {
		s.NextRefresh = r.state.next
	}
	if time.Until(retryAt) > 0 {
		s.RetryAt = retryAt
	}
	if s.Err != nil {
		s.Reason = ReasonOf(s.Err)
	}
	s.PagesRead, s.PagesExpected = pages(r.state.progress)
	switch {
	case !s.RetryAt.IsZero():
		s.State = StateThrottled
	case s.Err != nil:
		s.State = StateFailing
	case s.Snapshot != nil:
		s.State = StateFresh
	case r.state.progress != nil:
		s.State = StateReading
	default:
		s.State = StateStarting
	}
	return s
}

// Settings returns what the refresher was made with.
func (r *Refresher) Settings() Settings { return r.settings }

// Healthy is false when the refresh loop is stalled: when it has made no step for max(3 intervals, interval + refresh
// timeout).
func (r *Refresher) Healthy() bool {
	i := r.settings.Interval
	if i == 0 {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Since(r.state.ticked) <= max(3*i, i+r.settings.RefreshTimeout)
}

// Ready is true once a refresh has ended, well or badly; at once with an interval of 0.
func (r *Refresher) Ready() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.settings.Interval == 0 || r.state.snapshot != nil || r.state.err != nil
}

// Progress of the refresh under way: pages read, and pages expected as far as is known by now; both 0 when none is
// under way.
func (r *Refresher) Progress() (read, expected int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return pages(r.state.progress)
}

func pages(p *window.Progress) (read, expected int) {
	if p == nil {
		return 0, 0
	}
	return int(p.Read.Load()), int(p.Expected.Load())
}
