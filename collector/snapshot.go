package collector

import (
	"slices"
	"time"

	"twilio_operations_exporter/twilio"
)

// StatusSums are the sums over the operations of one status in a snapshot.
type StatusSums struct {
	Status     twilio.Status
	Operations int64
	Failing    int64 // operations of which a tenth or more did not arrive
	Stats      twilio.Stats
	// OldestCreated and OldestUpdated are the creation of the oldest and the
	// last update of the longest untouched operation; zero where there is none
	// and for statuses that are not live.
	OldestCreated, OldestUpdated time.Time
}

// Snapshot is what a refresh that ended well leaves behind. It never changes.
type Snapshot struct {
	At time.Time // end of the refresh, by the local clock
	// Statuses are the documented four and then those that occur.
	Statuses []StatusSums
	// Untouched are the live operations that have gone longest without an
	// update, Failing the operations with the most messages that will not
	// arrive, of those that count as failing. Both hold at most five.
	Untouched, Failing []twilio.Operation

	grown growth
}

func (s *Snapshot) operations() int64 {
	n := int64(0)
	for i := range s.Statuses {
		n += s.Statuses[i].Operations
	}
	return n
}

// snapshot sums the window.
func (w *window) snapshot(at time.Time) *Snapshot {
	s := &Snapshot{At: at, grown: w.grown}
	for i := range w.worst {
		s.Failing = keepWorst(s.Failing, &w.worst[i], noted)
	}
	totals := make([]tally, len(w.statuses.names))
	oldest := make([]StatusSums, len(totals))
	for i := range w.minutes {
		m := &w.minutes[i]
		for j := range m.settled {
			totals[m.settled[j].status].merge(&m.settled[j].tally)
		}
		for _, op := range m.live {
			n := w.statuses.number(op.Status)
			totals[n].add(&op.Stats)
			oldest[n].met(&op.Operation)
			if failing(&op.Stats) {
				s.Failing = keepWorst(s.Failing, &op.Operation, noted)
			}
			s.Untouched = keepUntouched(s.Untouched, &op.Operation)
		}
	}
	for i, t := range totals {
		if i >= len(documentedStatuses) && t.operations == 0 {
			continue
		}
		sums := oldest[i]
		sums.Status, sums.Operations, sums.Failing, sums.Stats = w.statuses.names[i], t.operations, t.failing, t.stats
		s.Statuses = append(s.Statuses, sums)
	}
	return s
}

func (s *StatusSums) met(op *twilio.Operation) {
	if s.OldestCreated.IsZero() || op.CreatedAt.Before(s.OldestCreated) {
		s.OldestCreated = op.CreatedAt
	}
	if s.OldestUpdated.IsZero() || op.UpdatedAt.Before(s.OldestUpdated) {
		s.OldestUpdated = op.UpdatedAt
	}
}

func keepUntouched(list []twilio.Operation, op *twilio.Operation) []twilio.Operation {
	return keep(list, op, noted, func(a, b *twilio.Operation) bool { return a.UpdatedAt.Before(b.UpdatedAt) })
}

// keepWorst keeps the operations with the most messages that will not arrive.
func keepWorst(list []twilio.Operation, op *twilio.Operation, most int) []twilio.Operation {
	return keep(list, op, most, func(a, b *twilio.Operation) bool { return unsuccessful(&a.Stats) > unsuccessful(&b.Stats) })
}

// keep inserts op into a list of the first few in the order of before, ids
// settling a draw.
func keep(list []twilio.Operation, op *twilio.Operation, most int, before func(a, b *twilio.Operation) bool) []twilio.Operation {
	list = slices.DeleteFunc(list, func(o twilio.Operation) bool { return o.ID == op.ID })
	i := 0
	for i < len(list) && !before(op, &list[i]) && (before(&list[i], op) || list[i].ID < op.ID) {
		i++
	}
	if i == most {
		return list
	}
	list = slices.Insert(list, i, *op)
	return list[:min(len(list), most)]
}
