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

// Status is an account's state for the landing page; metrics have it in numbers. Times are by the local clock, zero where
// there is none.
type Status struct {
	State State

	Started      time.Time // the start of the last refresh to start
	Succeeded    time.Time // the end of the last that succeeded
	FailingSince time.Time // the end of the first that has failed since
	NextRefresh  time.Time // when the next is planned; of no meaning without an interval
	RetryAt      time.Time // when the API lets requests through again

	// PagesRead and PagesExpected say how far the refresh under way is.
	PagesRead, PagesExpected int

	// Of the last refresh to end: the requests it made, retries included, and why it failed.
	Requests int64
	Err      error
	Reason   Reason

	// Snapshot is the last good one, nil before the first. Current is false when it is too old to be shown in metrics.
	Snapshot *window.Snapshot
	Current  bool
}

// Status returns the account's state.
func (r *Refresher) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()

	retryAt := r.client.RetryAt()
	s := Status{
		State:        r.state.inAWord(retryAt),
		Started:      r.state.started,
		Succeeded:    r.state.succeeded,
		FailingSince: r.state.failingSince,
		NextRefresh:  r.state.nextRefresh,
		RetryAt:      retryAt,
		Requests:     r.state.requests,
		Err:          r.state.err,
		Reason:       r.state.reason,
		Snapshot:     r.state.snapshot,
		Current:      r.showable(&r.state),
	}

	if p := r.state.progress; p != nil {
		s.PagesRead = int(p.Read.Load())
		s.PagesExpected = int(p.Expected.Load())
	}
	return s
}

// inAWord names the state of an account whose API lets requests through at retryAt.
func (s *state) inAWord(retryAt time.Time) State {
	switch {
	case !retryAt.IsZero():
		return StateThrottled
	case s.err != nil:
		return StateFailing
	case s.refreshed:
		return StateFresh
	case s.progress != nil:
		return StateReading
	default:
		return StateStarting
	}
}

// Settings returns what the refresher was made with.
func (r *Refresher) Settings() Settings { return r.settings }

// Healthy is false when the refresh loop is stalled: when it has made no step for max(3 intervals, interval + refresh
// timeout). There is no loop with an interval of 0.
func (r *Refresher) Healthy() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	interval := r.settings.Interval
	longest := max(3*interval, interval+r.settings.RefreshTimeout)
	return interval == 0 || time.Since(r.state.ticked) <= longest
}

// Ready is true once a refresh has ended, well or badly; at once with an interval of 0.
func (r *Refresher) Ready() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.settings.Interval == 0 || r.state.refreshed
}
