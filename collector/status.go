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
	// end of the first that failed since. NextRefresh is when the next is planned; of no meaning without an interval.
	// RetryAt is when the API lets requests through again. All by the local clock, zero where there is none.
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
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.state.Status
	s.RetryAt = r.client.RetryAt()
	s.Current = r.showable()
	if p := r.state.progress; p != nil {
		s.PagesRead, s.PagesExpected = int(p.Read.Load()), int(p.Expected.Load())
	}
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
// timeout). There is no loop with an interval of 0.
func (r *Refresher) Healthy() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := r.settings.Interval
	return i == 0 || time.Since(r.state.ticked) <= max(3*i, i+r.settings.RefreshTimeout)
}

// Ready is true once a refresh has ended, well or badly; at once with an interval of 0.
func (r *Refresher) Ready() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.settings.Interval == 0 || r.state.Snapshot != nil || r.state.Err != nil
}
