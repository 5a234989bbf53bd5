package window

import (
	"cmp"
	"slices"
	"time"

	"twilio_operations_exporter/twilio"
)

// highlights are what a refresh keeps of single operations in flight, for its snapshot. Everything else about them is in
// the sums of their minutes.
type highlights struct {
	named int // Options.Named

	byStatus        [2]statusHighlights // in the order of liveStatuses
	failing         ranking
	stuck           ranking
	allStuck        int64
	oldestScheduled ranking // of one
}

// statusHighlights are what is kept of the operations of one status.
type statusHighlights struct {
	oldestCreated time.Time
	oldestUpdated time.Time
	largest       ranking
}

// add takes in an operation in flight, as it was shown at a time of the API's clock.
func (h *highlights) add(op *twilio.Operation, at time.Time) {
	of := &h.byStatus[slices.Index(liveStatuses, op.Status)]
	of.oldestCreated = older(of.oldestCreated, op.CreatedAt)
	of.oldestUpdated = older(of.oldestUpdated, op.UpdatedAt)
	of.largest.add(op, MaxInFlightShown, bySize)

	if Failing(&op.Stats) {
		h.failing.add(op, h.named, byLost)
	}
	if op.Status == twilio.StatusScheduled {
		h.oldestScheduled.add(op, 1, byCreation)
	}
	if op.Status == twilio.StatusProcessing && at.Sub(op.UpdatedAt) >= StuckAfter {
		h.allStuck++
		h.stuck.add(op, h.named, byUpdate)
	}
}

// merge takes in what was kept of other operations.
func (h *highlights) merge(o *highlights) {
	for i := range h.byStatus {
		of := &h.byStatus[i]
		other := &o.byStatus[i]
		if len(other.largest) == 0 {
			continue // there were none
		}
		of.oldestCreated = older(of.oldestCreated, other.oldestCreated)
		of.oldestUpdated = older(of.oldestUpdated, other.oldestUpdated)
		of.largest.addAll(other.largest, MaxInFlightShown, bySize)
	}

	h.allStuck += o.allStuck
	h.stuck.addAll(o.stuck, h.named, byUpdate)
	h.failing.addAll(o.failing, h.named, byLost)
	h.oldestScheduled.addAll(o.oldestScheduled, 1, byCreation)
}

// ranking are the first operations in an order, of different ids.
type ranking []*twilio.Operation

// add puts a copy of an operation in its place among the first n in an order, and returns the copy; nil if it is not one of
// them, or its id has a better place.
func (r *ranking) add(op *twilio.Operation, n int, order func(a, b *twilio.Operation) int) *twilio.Operation {
	place, _ := slices.BinarySearchFunc(*r, op, order)
	if place >= n {
		return nil
	}

	sameID := func(other *twilio.Operation) bool { return other.ID == op.ID }
	old := slices.IndexFunc(*r, sameID)
	if old >= 0 && old < place {
		return nil
	}
	if old >= 0 {
		*r = slices.Delete(*r, old, old+1)
	}

	copied := *op
	others := (*r)[:min(len(*r), n-1)]
	*r = slices.Insert(others, place, &copied)
	return &copied
}

// addAll adds each of a list of operations.
func (r *ranking) addAll(ops []*twilio.Operation, n int, order func(a, b *twilio.Operation) int) {
	for _, op := range ops {
		r.add(op, n, order)
	}
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

// older returns the earlier time; the zero time stands for none.
func older(oldest, t time.Time) time.Time {
	if oldest.IsZero() || t.Before(oldest) {
		return t
	}
	return oldest
}
