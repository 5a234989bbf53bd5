package collector

import (
	"time"

	"twilio_operations_exporter/collector/window"
)

// Phase sums up the state of an account in a word.
type Phase string

// The phases. If several apply, it is the first of them.
const (
	PhaseThrottled Phase = "throttled" // no request goes out before Status.RetryAt
	PhaseFailing   Phase = "failing"   // the last refresh to end failed
	PhaseFresh     Phase = "fresh"     // the last refresh to end succeeded
	PhaseReading   Phase = "reading"   // the first refresh is under way
	PhaseStarting  Phase = "starting"  // the first refresh has not begun
)

// Status is the state of an account for the landing page. Times are by the local clock and zero if there is none.
type Status struct {
	Phase Phase

	Started      time.Time // start of the last refresh to start
	Succeeded    time.Time // end of the last refresh that succeeded
	FailingSince time.Time // end of the first refresh that failed since
	NextRefresh  time.Time // when the next refresh is planned; meaningless without an interval
	RetryAt      time.Time // when the API accepts requests again

	// Progress of the refresh under way.
	PagesRead, PagesExpected int

	// About the last refresh to end: the requests it made, including retries, and why it failed.
	Requests int64
	Err      error
	Reason   Reason

	// Snapshot is the last good one, nil before the first. Current is false if it is too old to be exported.
	Snapshot *window.Snapshot
	Current  bool
}

// Status returns the account's state.
func (r *Refresher) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()

	retryAt := r.client.RetryAt()
	s := Status{
		Phase:        r.state.phase(retryAt),
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

// phase is the phase of an account whose API accepts requests from retryAt on.
func (s *state) phase(retryAt time.Time) Phase {
	switch {
	case !retryAt.IsZero():
		return PhaseThrottled
	case s.err != nil:
		return PhaseFailing
	case s.refreshed:
		return PhaseFresh
	case s.progress != nil:
		return PhaseReading
	default:
		return PhaseStarting
	}
}

// Settings returns the settings that the refresher was made with.
func (r *Refresher) Settings() Settings { return r.settings }

// Healthy reports whether the refresh loop is alive. It is stalled if it has not ticked for max(3 intervals, interval +
// refresh timeout). With an interval of 0 there is no loop.
func (r *Refresher) Healthy() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	interval := r.settings.Interval
	longest := max(3*interval, interval+r.settings.RefreshTimeout)
	return interval == 0 || time.Since(r.state.ticked) <= longest
}

// Ready reports whether a refresh has ended, successfully or not. With an interval of 0, an account is always ready.
func (r *Refresher) Ready() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.settings.Interval == 0 || r.state.refreshed
}
