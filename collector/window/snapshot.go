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
	// Statuses are the documented four and then those that occur.
	Statuses []StatusSums
	// Failing are operations for which [Failing] holds: those in flight or created within the last hour first, then
	// those that lost most messages. Stuck are PROCESSING, those that have gone longest without an update first. Each
	// holds Options.Named at most.
	Failing, Stuck []*twilio.Operation
	// InFlight are the SCHEDULED and the PROCESSING operations, the largest first, MaxInFlight of each status at most.
	InFlight []*twilio.Operation
	// Grown are the counters: what the stats have grown by since the first refresh that ended well.
	Grown twilio.Stats
}

// What a snapshot names.
const (
	MaxInFlight = 200       // operations in flight of each status that a snapshot holds, at most
	recent      = time.Hour // how young an operation is that on-call people can still do something about
)

// Operations is how many operations there are in all.
func (s *Snapshot) Operations() (n int64) {
	for i := range s.Statuses {
		n += s.Statuses[i].Operations
	}
	return n
}

func byLost(a, b *twilio.Operation) int {
	return cmp.Or(cmp.Compare(Lost(&b.Stats), Lost(&a.Stats)), cmp.Compare(a.ID, b.ID))
}

func bySize(a, b *twilio.Operation) int {
	return cmp.Or(cmp.Compare(b.Stats[twilio.Total], a.Stats[twilio.Total]), cmp.Compare(a.ID, b.ID))
}

// snapshotAt sums the window as it is, now by the API's clock.
func (w *Window) snapshotAt(now time.Time) *Snapshot {
	s := &Snapshot{Grown: w.grown}
	for _, status := range documented {
		s.Statuses = append(s.Statuses, StatusSums{Status: status})
	}
	inFlight := map[twilio.Status][]*twilio.Operation{}
	for i := range w.buckets {
		b := w.buckets[i].get()
		for j := range b.done {
			s.of(b.done[j].status).merge(&b.done[j].Totals)
		}
		s.Failing = append(s.Failing, b.failing...)
		for _, op := range b.inFlight {
			sums := s.of(op.Status)
			sums.add(&op.Stats)
			sums.OldestCreated = older(sums.OldestCreated, op.CreatedAt)
			sums.OldestUpdated = older(sums.OldestUpdated, op.UpdatedAt)
			inFlight[op.Status] = append(inFlight[op.Status], op.Operation)
			if Failing(&op.Stats) {
				s.Failing = append(s.Failing, op.Operation)
			}
		}
	}
	s.Failing = first(s.Failing, w.options.Named, func(a, b *twilio.Operation) int {
		old := func(op *twilio.Operation) int {
			if op.Status.Live() || now.Sub(op.CreatedAt) <= recent {
				return 0
			}
			return 1
		}
		return cmp.Or(cmp.Compare(old(a), old(b)), byLost(a, b))
	})
	s.Stuck = first(slices.Clone(inFlight[twilio.StatusProcessing]), w.options.Named, func(a, b *twilio.Operation) int {
		return cmp.Or(a.UpdatedAt.Compare(b.UpdatedAt), cmp.Compare(a.ID, b.ID))
	})
	for _, ops := range inFlight {
		s.InFlight = append(s.InFlight, first(ops, MaxInFlight, bySize)...)
	}
	slices.SortFunc(s.InFlight, bySize)
	return s
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

// first returns the first n of a list, in an order. It may change the list.
func first(ops []*twilio.Operation, n int, order func(a, b *twilio.Operation) int) []*twilio.Operation {
	slices.SortFunc(ops, order)
	return slices.Clone(ops[:min(len(ops), n)])
}

func older(oldest, t time.Time) time.Time {
	if oldest.IsZero() || t.Before(oldest) {
		return t
	}
	return oldest
}
