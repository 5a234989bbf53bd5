package window

import (
	"cmp"
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

	// Stuck names PROCESSING operations without an update for [StuckAfter], at most Options.Named, the one longest
	// without first. AllStuck is how many there are.
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

// byLost sorts operations that lost most messages first. Ids decide between equals, and are long: they are compared only
// where they have to be.
func byLost(a, b *twilio.Operation) int {
	if c := cmp.Compare(Lost(&b.Stats), Lost(&a.Stats)); c != 0 {
		return c
	}
	return cmp.Compare(a.ID, b.ID)
}

// bySize sorts the largest operations first.
func bySize(a, b *twilio.Operation) int {
	if c := cmp.Compare(b.Stats[twilio.Total], a.Stats[twilio.Total]); c != 0 {
		return c
	}
	return cmp.Compare(a.ID, b.ID)
}

func byCreation(a, b *twilio.Operation) int {
	return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
}

func byUpdate(a, b *twilio.Operation) int {
	return cmp.Or(a.UpdatedAt.Compare(b.UpdatedAt), cmp.Compare(a.ID, b.ID))
}

// byUrgency sorts operations that are in flight or were created since a minute first, and equals byLost.
func byUrgency(since minute) func(a, b *twilio.Operation) int {
	past := func(op *twilio.Operation) int {
		if op.Status.Live() || minuteOf(op.CreatedAt) >= since {
			return 0
		}
		return 1
	}
	return func(a, b *twilio.Operation) int {
		return cmp.Or(cmp.Compare(past(a), past(b)), byLost(a, b))
	}
}

// snapshotAt sums the state as it is, now by the API's clock.
func (s *state) snapshotAt(now time.Time, o Options) *Snapshot {
	snapshot := &Snapshot{Time: now, Created: s.created, Grown: s.grown}
	for _, status := range documented {
		snapshot.Statuses = append(snapshot.Statuses, StatusSums{Status: status})
	}

	hour := minuteOf(now.Add(-recent)) // the first minute of the last hour
	inFlight := map[twilio.Status][]*twilio.Operation{}
	for m, b := range s.each(span{s.first, open}) {
		c := b.get()
		snapshot.addDone(&c, m >= hour)
		for _, op := range c.inFlight {
			snapshot.addInFlight(op.Operation)
			inFlight[op.Status] = append(inFlight[op.Status], op.Operation)
		}
	}

	snapshot.Failing = pick(snapshot.Failing, o.Named, byUrgency(hour))
	snapshot.nameInFlight(inFlight, now, o.Named)
	snapshot.picture(s, o.Length, minuteOf(now), hour)
	return snapshot
}

// addDone takes in the operations of a minute that are done.
func (s *Snapshot) addDone(c *contents, isRecent bool) {
	for i := range c.done {
		totals := &c.done[i].Totals
		s.of(c.done[i].status).merge(totals)
		if isRecent {
			s.FailingNow += totals.Failing
		}
	}
	s.Failing = append(s.Failing, c.failing...)
}

// addInFlight takes in an operation in flight.
func (s *Snapshot) addInFlight(op *twilio.Operation) {
	sums := s.of(op.Status)
	sums.add(&op.Stats)
	sums.OldestCreated = older(sums.OldestCreated, op.CreatedAt)
	sums.OldestUpdated = older(sums.OldestUpdated, op.UpdatedAt)
	if Failing(&op.Stats) {
		s.FailingNow++
		s.Failing = append(s.Failing, op)
	}
}

// nameInFlight names the operations in flight that are stuck, the largest, and the oldest. It may reorder the lists.
func (s *Snapshot) nameInFlight(ops map[twilio.Status][]*twilio.Operation, now time.Time, named int) {
	var stuck []*twilio.Operation
	for _, op := range ops[twilio.StatusProcessing] {
		if now.Sub(op.UpdatedAt) >= StuckAfter {
			stuck = append(stuck, op)
		}
	}
	s.AllStuck = int64(len(stuck))
	s.Stuck = pick(stuck, named, byUpdate)

	if scheduled := ops[twilio.StatusScheduled]; len(scheduled) > 0 {
		s.OldestScheduled = slices.MinFunc(scheduled, byCreation)
	}
	for _, status := range liveStatuses {
		s.InFlight = append(s.InFlight, pick(ops[status], MaxInFlightShown, bySize)...)
	}
	slices.SortFunc(s.InFlight, bySize)
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

// pick returns the first n operations of a list in an order. It reorders the list.
func pick(ops []*twilio.Operation, n int, order func(a, b *twilio.Operation) int) []*twilio.Operation {
	slices.SortFunc(ops, order)
	return slices.Clone(ops[:min(len(ops), n)])
}

// older returns the earlier time; the zero time stands for none.
func older(oldest, t time.Time) time.Time {
	if oldest.IsZero() || t.Before(oldest) {
		return t
	}
	return oldest
}
