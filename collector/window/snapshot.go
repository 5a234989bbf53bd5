package window

import (
	"slices"
	"time"

	"twilio_operations_exporter/twilio"
)

// StatusSums are the sums over the operations of one status in a snapshot.
type StatusSums struct {
	Status twilio.Status
	Totals
	// OldestCreated is the earliest creation, and OldestUpdated the earliest last update, of operations in flight; zero
	// where there are none.
	OldestCreated, OldestUpdated time.Time
}

// Snapshot is what a refresh that ended well leaves behind. It never changes.
type Snapshot struct {
	// Time is the end of the refresh, by the API's clock.
	Time time.Time
	// Statuses are the four documented ones, and then the others that occur.
	Statuses []StatusSums
	// Created and Grown are the counters: how many operations were created, and by how much the stats have grown, since the
	// first refresh that ended well.
	Created int64
	Grown   twilio.Stats

	// Failing names operations for which the function [Failing] holds, at most Options.Named: those in flight or created
	// within the last hour first, and of these and of the others the ones that lost most messages first.
	Failing []*twilio.Operation
	// FailingNow is how many failing operations are in flight or were created within the last hour. How many there are in
	// all is in Statuses.
	FailingNow int64

	// Stuck names PROCESSING operations that had gone without an update for [StuckAfter] when they were listed, at most
	// Options.Named, the one longest without first. AllStuck is how many there are.
	Stuck    []*twilio.Operation
	AllStuck int64

	// InFlight names the SCHEDULED and PROCESSING operations, the largest first, MaxInFlightShown of each status at most.
	InFlight []*twilio.Operation
	// OldestScheduled is the SCHEDULED operation that was created first, nil where there is none.
	OldestScheduled *twilio.Operation

	// Bars chart the window, oldest first: about 96, each the operations created within a multiple of BarLength and the
	// next, which are whole minutes. The first and the last may lie in the window only in part. Nil where there are no
	// operations.
	Bars      []Bar
	BarLength time.Duration
	// Minutes chart the last hour in the same way, a bar a minute.
	Minutes []Bar
}

// Bar sums the operations created within a stretch of time.
type Bar struct {
	Start time.Time
	Totals
}

const (
	// MaxInFlightShown is how many operations in flight of each status a snapshot names, at most.
	MaxInFlightShown = 200
	// StuckAfter is how long an operation is PROCESSING without an update before it is stuck.
	StuckAfter = 10 * time.Minute

	recent    = time.Hour // how young an operation is that somebody on call can still do something about
	barsOfAll = 96        // bars of a window that begins and ends with one
)

// Operations is how many operations there are in all.
func (s *Snapshot) Operations() (n int64) {
	for i := range s.Statuses {
		n += s.Statuses[i].Operations
	}
	return n
}

// LastHour sums the operations created within the last hour.
func (s *Snapshot) LastHour() (sum Totals) {
	for i := range s.Minutes {
		sum.merge(&s.Minutes[i].Totals)
	}
	return sum
}

// snapshotAt sums the state as it is, now by the API's clock, after a refresh with these highlights.
func (s *state) snapshotAt(now time.Time, o Options, h *highlights) *Snapshot {
	snapshot := &Snapshot{Time: now, Created: s.created, Grown: s.grown}
	for _, status := range documented {
		snapshot.Statuses = append(snapshot.Statuses, StatusSums{Status: status})
	}

	hour := minuteOf(now.Add(-recent)) // the first minute of the last hour
	urgent := byUrgency(hour)
	var failing ranking
	for m, b := range s.each(span{s.first, open}) {
		c := b.get()
		snapshot.addMinute(&c, m >= hour)
		failing.addAll(c.failing, o.Named, urgent)
	}
	failing.addAll(h.failing, o.Named, urgent)
	snapshot.Failing = failing
	snapshot.addHighlights(h)
	snapshot.picture(s, o.Length, minuteOf(now), hour)
	return snapshot
}

// addMinute takes in the sums of a minute.
func (s *Snapshot) addMinute(c *contents, isRecent bool) {
	for i := range c.done {
		totals := &c.done[i].Totals
		s.of(c.done[i].status).merge(totals)
		if isRecent {
			s.FailingNow += totals.Failing
		}
	}
	for i := range c.live {
		totals := &c.live[i].Totals
		s.of(c.live[i].status).merge(totals)
		s.FailingNow += totals.Failing
	}
}

// addHighlights takes in what was kept of single operations in flight.
func (s *Snapshot) addHighlights(h *highlights) {
	for i, status := range liveStatuses {
		kept := &h.byStatus[i]
		sums := s.of(status)
		sums.OldestCreated = kept.oldestCreated
		sums.OldestUpdated = kept.oldestUpdated
		s.InFlight = append(s.InFlight, kept.largest...)
	}
	slices.SortFunc(s.InFlight, bySize)

	s.Stuck = h.stuck
	s.AllStuck = h.allStuck
	if len(h.oldestScheduled) > 0 {
		s.OldestScheduled = h.oldestScheduled[0]
	}
}

// picture fills the bars from a state, up to the minute of now. Operations created later, by a clock gone wrong, are in the
// last one. hour is the first minute of the last hour.
func (s *Snapshot) picture(of *state, length time.Duration, now, hour minute) {
	if s.Operations() == 0 {
		return
	}
	barMinutes := max(1, ceilDiv(int(length/time.Minute), barsOfAll))
	s.BarLength = time.Duration(barMinutes) * time.Minute
	grid := minute(barMinutes)
	s.Bars = bars(span{of.first, now + 1}, grid)
	firstBar := of.first / grid

	lately := span{max(hour, of.first), now + 1}
	s.Minutes = bars(lately, 1)

	for m, b := range of.each(span{of.first, open}) {
		m = min(m, now)
		sum := b.totals()
		s.Bars[m/grid-firstBar].merge(&sum)
		if m >= lately.from {
			s.Minutes[m-lately.from].merge(&sum)
		}
	}
}

// bars are empty ones for a span, each from a multiple of grid to the next.
func bars(of span, grid minute) []Bar {
	first := of.from / grid
	last := (of.to - 1) / grid
	all := make([]Bar, last-first+1)
	for i := range all {
		all[i].Start = ((first + minute(i)) * grid).time()
	}
	return all
}

// of returns the sums of a status.
func (s *Snapshot) of(status twilio.Status) *StatusSums {
	i := slices.IndexFunc(s.Statuses, func(sums StatusSums) bool { return sums.Status == status })
	if i < 0 {
		i = len(s.Statuses)
		s.Statuses = append(s.Statuses, StatusSums{Status: status})
	}
	return &s.Statuses[i]
}
