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
	// OldestCreated and OldestUpdated are the creation of the oldest and the last update of the longest untouched
	// operation; zero where there is none and for statuses that are not in flight.
	OldestCreated, OldestUpdated time.Time
}

// Snapshot is what a refresh that ended well leaves behind. It never changes.
type Snapshot struct {
	// Time is the end of the refresh, by the API's clock.
	Time time.Time
	// Statuses are the documented four and then those that occur.
	Statuses []StatusSums
	// Grown are the counters: what the stats have grown by since the first refresh that ended well.
	Grown twilio.Stats

	// Failing are operations for which [Failing] holds: those in flight or created within the last hour first, then
	// those that lost most messages. Stuck are PROCESSING ones without an update for [StuckAfter], the longest untouched
	// first. Each holds Options.Named at most.
	Failing, Stuck []*twilio.Operation
	// FailingNow is how many of all failing operations are in flight or were created within the last hour, AllStuck how
	// many are stuck. How many are failing is in Statuses.
	FailingNow, AllStuck int64
	// InFlight are the SCHEDULED and the PROCESSING operations, the largest first, MaxInFlightShown of each status at
	// most. OldestScheduled is the SCHEDULED one that was created first, nil where there is none.
	InFlight        []*twilio.Operation
	OldestScheduled *twilio.Operation

	// Bars are a picture of the window: about 96, oldest first, each of the operations created within BarLength, which is
	// whole minutes. They stand on a grid, so that the first is of less where the window begins within it, as is the
	// last, of now. Minutes are the last hour in the same way, a bar a minute. Both are nil where there are no operations
	// in the window.
	Bars, Minutes []Bar
	BarLength     time.Duration
}

// Bar sums the operations created within a stretch of time.
type Bar struct {
	Start time.Time
	Totals
}

// What a snapshot names.
const (
	MaxInFlightShown = 200              // operations in flight of each status, at most
	StuckAfter       = 10 * time.Minute // how long an operation is PROCESSING without an update until it is stuck

	recent    = time.Hour // how young an operation is that on-call people can still do something about
	barsOfAll = 96        // bars of a picture, but for what a grid adds
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

// byUrgency has operations that are still of interest first, those in flight or created since a minute, then byLost.
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
	snapshot := &Snapshot{Time: now, Grown: s.grown}
	for _, status := range documented {
		snapshot.Statuses = append(snapshot.Statuses, StatusSums{Status: status})
	}

	hour := minuteOf(now.Add(-recent)) // the first minute of the last one
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
func (s *Snapshot) addDone(c *contents, recent bool) {
	for i := range c.done {
		totals := &c.done[i].Totals
		s.of(c.done[i].status).merge(totals)
		if recent {
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

// nameInFlight names those of the operations in flight that are stuck, the largest, and the oldest. It may change the
// lists.
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

// picture draws the bars of a state, of a window of a length, up to the minute of now. What is created later, by a clock
// gone wrong, is in the last one.
func (s *Snapshot) picture(of *state, length time.Duration, now, hour minute) {
	if s.Operations() == 0 {
		return
	}
	all := span{of.first, now + 1}
	lately := span{max(hour, of.first), now + 1}
	each := (minute(length/time.Minute)-1)/barsOfAll + 1
	s.BarLength = time.Duration(each) * time.Minute
	s.Bars = bars(all, each)
	s.Minutes = bars(lately, 1)

	for m, b := range of.each(span{of.first, open}) {
		m = min(m, now)
		sum := b.totals()
		s.Bars[m/each-all.from/each].merge(&sum)
		if m >= lately.from {
			s.Minutes[m-lately.from].merge(&sum)
		}
	}
}

// bars are empty ones for a span, each from a multiple of so many minutes to the next.
func bars(of span, length minute) []Bar {
	from := of.from / length
	all := make([]Bar, (of.to-1)/length-from+1)
	for i := range all {
		all[i].Start = ((from + minute(i)) * length).time()
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

// pick returns the first n of a list, in an order. It may change the list.
func pick(ops []*twilio.Operation, n int, order func(a, b *twilio.Operation) int) []*twilio.Operation {
	slices.SortFunc(ops, order)
	return slices.Clone(ops[:min(len(ops), n)])
}

func older(oldest, t time.Time) time.Time {
	if oldest.IsZero() || t.Before(oldest) {
		return t
	}
	return oldest
}
