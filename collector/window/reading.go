package window

import (
	"hash/maphash"
	"time"

	"twilio_operations_exporter/twilio"
)

// piece is a span that one worker reads by a list of its own, to its end; with a status, of such operations alone.
type piece struct {
	span
	status twilio.Status
}

// reading gathers the operations of a piece from the pages of its list.
type reading struct {
	piece
	f       *refresh
	ids     map[uint64]struct{} // hashes: an id counts once
	minutes map[minute]*minuteReading

	first, last time.Time // the earliest and the latest creation
}

// minuteReading is the part of a reading that is of one minute.
type minuteReading struct {
	done     byStatus
	inFlight map[string]*twilio.Operation
	failing  []*twilio.Operation
}

var idSeed = maphash.MakeSeed()

func (f *refresh) newReading(p piece) *reading {
	return &reading{piece: p, f: f, ids: make(map[uint64]struct{}), minutes: make(map[minute]*minuteReading)}
}

// met reports whether the list had an operation.
func (r *reading) met(id string) bool {
	_, ok := r.ids[maphash.String(idSeed, id)]
	return ok
}

// add takes in an operation; one of beyond the edges is left to whoever reads there. An operation met again counts only
// if it was in flight and is not any more.
func (r *reading) add(op *twilio.Operation) {
	m := min(minuteOf(op.CreatedAt), r.f.farthest())
	if !r.holds(m) {
		return
	}
	read := r.minutes[m]
	if read == nil {
		read = &minuteReading{inFlight: make(map[string]*twilio.Operation)}
		r.minutes[m] = read
	}
	switch s := &op.Stats; {
	case twilio.AddSaturating(s.Delivered, s.Read) > s.Total: // some messages are in both
		r.f.w.readKeepsDelivered = true
	case s.Read > s.Delivered: // unless a receipt got lost, those read are not in delivered
		r.f.w.readReplacesDelivered = true
	}
	if !r.met(op.ID) {
		r.ids[maphash.String(idSeed, op.ID)] = struct{}{}
		r.measure(op.CreatedAt)
	} else if read.inFlight[op.ID] == nil {
		return
	}
	if op.Status.Live() {
		copied := *op
		read.inFlight[op.ID] = &copied
		return
	}
	delete(read.inFlight, op.ID)
	read.done.of(r.f.w.statuses.fold(op.Status)).add(&op.Stats)
	if named := r.f.w.options.Named; named > 0 && Failing(&op.Stats) {
		copied := *op
		copied.Status = r.f.w.statuses.fold(op.Status)
		read.failing = append(read.failing, &copied)
		if len(read.failing) >= 2*named {
			read.failing = first(read.failing, named, byLost)
		}
	}
}

// measure notes how the operations of the list are spread.
func (r *reading) measure(created time.Time) {
	if len(r.ids) == 1 || created.Before(r.first) {
		r.first = created
	}
	if len(r.ids) == 1 || created.After(r.last) {
		r.last = created
	}
}

// density estimates how many operations a minute has, from the pages read so far: rightly if they are one end of an
// ordered list, too low if they are a sample. It is false where that cannot be told.
func (r *reading) density() (perMinute float64, ok bool) {
	length := r.last.Sub(r.first)
	if length <= 0 {
		return 0, false
	}
	return float64(len(r.ids)-1) / length.Minutes(), true
}
