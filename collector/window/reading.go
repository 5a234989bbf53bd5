package window

import (
	"encoding/binary"
	"time"

	"github.com/cespare/xxhash/v2"

	"twilio_operations_exporter/twilio"
)

// idHash stands for the id of an operation. It is the same in every process, as states are compared by it. A map needs 9
// bytes for each of these, and 16 for a uint64.
type idHash [8]byte

func hashID(id string) (h idHash) {
	binary.LittleEndian.PutUint64(h[:], xxhash.Sum64String(id))
	return h
}

func (h idHash) number() uint64 { return binary.LittleEndian.Uint64(h[:]) }

type idSet map[idHash]struct{}

// findings are what lists have shown of operations. Each counts once, as it was when it was first shown.
type findings struct {
	ids        idSet
	minutes    map[minute]*contents
	highlights highlights
}

func newFindings(named int) findings {
	return findings{
		ids:        make(idSet),
		minutes:    make(map[minute]*contents),
		highlights: highlights{named: named},
	}
}

// isNew reports whether an operation was not shown before. From now on, it was.
func (f *findings) isNew(id idHash) bool {
	before := len(f.ids)
	f.ids[id] = struct{}{}
	return len(f.ids) > before
}

// of returns what was found of a minute, to be added to.
func (f *findings) of(m minute) *contents {
	found := f.minutes[m]
	if found == nil {
		found = new(contents)
		f.minutes[m] = found
	}
	return found
}

// addLive takes in an operation in flight that is new, as it was shown at a time of the API's clock.
func (f *findings) addLive(op *twilio.Operation, id idHash, m minute, at time.Time) {
	found := f.of(m)
	found.live.of(op.Status).add(&op.Stats)
	found.liveIDs += id.number()
	f.highlights.add(op, at)
}

// answers are what the lists of the questions for operations in flight have shown.
type answers struct {
	findings
	within   span // the window
	farthest minute
}

// add takes in an operation in flight.
func (a *answers) add(op *twilio.Operation, at time.Time) {
	m := min(minuteOf(op.CreatedAt), a.farthest)
	id := hashID(op.ID)
	if a.within.contains(m) && a.isNew(id) {
		a.addLive(op, id, m, at)
	}
}

// reading gathers the operations of a piece from the pages of its list. Only the worker that reads the list uses it until
// the list has ended.
type reading struct {
	findings
	span            // of the piece
	farthest minute // what is created later counts there
	statuses statusNames
	receipts receipts
	// answered are the operations that the answers about those in flight have shown. They count as they were then, whatever
	// the list shows.
	answered idSet
}

// add takes in an operation of the list, as it was shown at a time of the API's clock. One from outside the piece is left
// to the list of another.
func (r *reading) add(op *twilio.Operation, at time.Time) {
	m := min(minuteOf(op.CreatedAt), r.farthest)
	if !r.contains(m) {
		return
	}

	r.receipts.observe(&op.Stats)
	id := hashID(op.ID)
	_, inAnswers := r.answered[id]
	if inAnswers || !r.isNew(id) {
		return
	}
	if op.Status.Live() {
		r.addLive(op, id, m, at)
		return
	}

	status := r.statuses.fold(op.Status)
	found := r.of(m)
	found.done.of(status).add(&op.Stats)
	if Failing(&op.Stats) {
		kept := found.failing.add(op, r.highlights.named, byLost)
		if kept != nil {
			kept.Status = status
		}
	}
}
