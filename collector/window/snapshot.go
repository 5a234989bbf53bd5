package window

import (
	"cmp"
	"math"
	"slices"
	"time"

	"twilio_operations_exporter/twilio"
)

// StatusSums are the sums over the operations of one status in a snapshot.
type StatusSums struct {
	Status     twilio.Status
	Operations int64
	Failing    int64 // operations for which [Failing] holds
	Stats      twilio.Stats
	// OldestCreated and OldestUpdated are the creation of the oldest and the
	// last update of the longest untouched operation; zero where there is none
	// and for statuses that are not in flight.
	OldestCreated, OldestUpdated time.Time
}

// Snapshot is what a refresh that ended well leaves behind. It never changes.
type Snapshot struct {
	At time.Time // end of the refresh, by the local clock
	// Statuses are the documented four and then those that occur.
	Statuses []StatusSums
	// Failing are operations for which [Failing] holds: those in flight or
	// created within the last hour first, then those that lost most messages.
	// Stuck are PROCESSING, those that have gone longest without an update
	// first. Each holds Options.Named at most.
	Failing, Stuck []*twilio.Operation
	// InFlight are the SCHEDULED and the PROCESSING operations, the largest
	// first, MaxInFlight of each status at most.
	InFlight []*twilio.Operation
	// Grown are the counters: what the stats have grown by since the first
	// refresh that ended well.
	Grown twilio.Stats
}

// MaxInFlight bounds the operations in flight that a snapshot holds, for each
// status.
const MaxInFlight = 200

// recent is how young an operation is that on-call people can still do
// something about.
const recent = time.Hour

// Operations is how many operations there are in all.
func (s *Snapshot) Operations() (n int64) {
	for i := range s.Statuses {
		n += s.Statuses[i].Operations
	}
	return n
}

// saturated reports whether a sum is too large for its type.
func (s *Snapshot) saturated() bool {
	return slices.ContainsFunc(s.Statuses, func(sums StatusSums) bool {
		all := fields(&sums.Stats)
		return slices.ContainsFunc(all[:], func(n *int64) bool { return *n == math.MaxInt64 })
	})
}

// A top keeps the first few of many operations.
type top struct {
	most  int
	order func(a, b *twilio.Operation) int
	ops   []*twilio.Operation
}

func (t *top) add(op *twilio.Operation) {
	if t.ops = append(t.ops, op); len(t.ops) >= 2*t.most+16 {
		t.ops = first(t.ops, t.most, t.order)
	}
}

func (t *top) list() []*twilio.Operation { return first(t.ops, t.most, t.order) }

func byLost(a, b *twilio.Operation) int {
	return cmp.Or(cmp.Compare(Lost(&b.Stats), Lost(&a.Stats)), cmp.Compare(a.ID, b.ID))
}

func byUpdate(a, b *twilio.Operation) int {
	return cmp.Or(a.UpdatedAt.Compare(b.UpdatedAt), cmp.Compare(a.ID, b.ID))
}

func bySize(a, b *twilio.Operation) int {
	return cmp.Or(cmp.Compare(b.Stats.Total, a.Stats.Total), cmp.Compare(a.ID, b.ID))
}

// snapshotAt sums the window as it is, now by the API's clock.
func (w *Window) snapshotAt(now time.Time) *Snapshot {
	failing := top{most: w.options.Named, order: func(a, b *twilio.Operation) int {
		old := func(op *twilio.Operation) int {
			if op.Status.Live() || now.Sub(op.CreatedAt) <= recent {
				return 0
			}
			return 1
		}
		return cmp.Or(cmp.Compare(old(a), old(b)), byLost(a, b))
	}}
	stuck := top{most: w.options.Named, order: byUpdate}
	inFlight := map[twilio.Status]*top{}
	sums := make([]StatusSums, len(documented))
	for i, status := range documented {
		sums[i].Status = status
		inFlight[status] = &top{most: MaxInFlight, order: bySize}
	}
	of := func(status twilio.Status) *StatusSums {
		i := slices.IndexFunc(sums, func(s StatusSums) bool { return s.Status == status })
		if i < 0 {
			i = len(sums)
			sums = append(sums, StatusSums{Status: status})
		}
		return &sums[i]
	}
	for i := range w.buckets {
		b := w.buckets[i].contents
		if b == nil {
			continue
		}
		for j := range b.done {
			of(b.done[j].status).merge(&b.done[j].totals)
		}
		for _, op := range b.failing {
			failing.add(op)
		}
		for _, f := range b.inFlight {
			op := f.Operation
			of(op.Status).met(op)
			inFlight[op.Status].add(op)
			if Failing(&op.Stats) {
				failing.add(op)
			}
			if op.Status == twilio.StatusProcessing {
				stuck.add(op)
			}
		}
	}
	s := &Snapshot{At: time.Now(), Statuses: sums, Failing: failing.list(), Stuck: stuck.list(), Grown: w.grown}
	for _, status := range documented {
		s.InFlight = append(s.InFlight, inFlight[status].list()...)
	}
	slices.SortFunc(s.InFlight, bySize)
	return s
}

func (s *StatusSums) merge(t *totals) {
	s.Operations += t.operations
	s.Failing += t.failing
	addStats(&s.Stats, &t.stats)
}

// met adds an operation in flight.
func (s *StatusSums) met(op *twilio.Operation) {
	var t totals
	t.add(&op.Stats)
	s.merge(&t)
	if s.OldestCreated.IsZero() || op.CreatedAt.Before(s.OldestCreated) {
		s.OldestCreated = op.CreatedAt
	}
	if s.OldestUpdated.IsZero() || op.UpdatedAt.Before(s.OldestUpdated) {
		s.OldestUpdated = op.UpdatedAt
	}
}
