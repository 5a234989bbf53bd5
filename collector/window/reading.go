package window

import (
	"hash/maphash"

	"twilio_operations_exporter/twilio"
)

// reading gathers the operations of a piece from the pages of its list. Only the worker that reads the list uses it until
// the list has ended.
type reading struct {
	piece
	farthest minute // what is created later counts there
	refresh  int    // number of the refresh
	named    int    // failing operations of a minute to keep, at most

	ids      map[uint64]struct{} // hashes: an id counts once
	minutes  map[minute]*contents
	statuses statusNames
	receipts receipts
	inFlight int // operations that were in flight when the list first showed them
}

var idSeed = maphash.MakeSeed()

// newReading returns a reading that has seen no page.
func newReading(p piece, farthest minute, refresh, named int, names statusNames) *reading {
	return &reading{
		piece: p, farthest: farthest, refresh: refresh, named: named, statuses: names,
		ids:     make(map[uint64]struct{}),
		minutes: make(map[minute]*contents),
	}
}

// met reports whether the list had an operation.
func (r *reading) met(id string) bool {
	_, ok := r.ids[maphash.String(idSeed, id)]
	return ok
}

// add takes in an operation of the list. One from outside the piece is left to the list of another. One that the list
// repeats counts once: as it was when it was first done, or else as it was last.
func (r *reading) add(op *twilio.Operation) {
	m := min(minuteOf(op.CreatedAt), r.farthest)
	if !r.holds(m) {
		return
	}

	r.receipts.observe(&op.Stats)
	shown := r.minutes[m]
	if shown == nil {
		shown = new(contents)
		r.minutes[m] = shown
	}

	id := maphash.String(idSeed, op.ID)
	_, repeated := r.ids[id]
	_, wasInFlight := shown.inFlight[op.ID]
	if repeated && !wasInFlight {
		return
	}
	r.ids[id] = struct{}{}

	if op.Status.Live() {
		shown.join(op, r.refresh)
		if !wasInFlight {
			r.inFlight++
		}
		return
	}

	delete(shown.inFlight, op.ID)
	status := r.statuses.fold(op.Status)
	shown.done.of(status).add(&op.Stats)
	if r.named > 0 && Failing(&op.Stats) {
		r.keepFailing(shown, op, status)
	}
}

// keepFailing keeps a failing operation if it is one of the worst of its minute.
func (r *reading) keepFailing(shown *contents, op *twilio.Operation, status twilio.Status) {
	copied := *op
	copied.Status = status
	shown.failing = append(shown.failing, &copied)
	if len(shown.failing) >= 2*r.named {
		shown.failing = pick(shown.failing, r.named, byLost)
	}
}
