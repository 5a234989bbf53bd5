package window

import (
	"hash/maphash"
	"slices"

	"twilio_operations_exporter/twilio"
)

// reading gathers the operations of a piece from the pages of its list.
type reading struct {
	piece
	f       *refresh
	ids     map[uint64]struct{} // hashes: an id counts once
	minutes map[minute]*contents
}

var idSeed = maphash.MakeSeed()

func (f *refresh) newReading(p piece) *reading {
	return &reading{piece: p, f: f, ids: make(map[uint64]struct{}), minutes: make(map[minute]*contents)}
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
		read = new(contents)
		r.minutes[m] = read
	}
	switch s := &op.Stats; {
	case twilio.AddSaturating(s[twilio.Delivered], s[twilio.Read]) > s[twilio.Total]: // some messages are in both
		r.f.w.readKeepsDelivered = true
	case s[twilio.Read] > s[twilio.Delivered]: // unless a receipt got lost, those read are not in delivered
		r.f.w.readReplacesDelivered = true
	}
	if !r.met(op.ID) {
		r.ids[maphash.String(idSeed, op.ID)] = struct{}{}
	} else if _, ok := read.inFlight[op.ID]; !ok {
		return
	}
	if op.Status.Live() {
		read.join(op, r.f.w.number)
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

// density estimates how many operations a minute has, from a page: rightly if it is one end of an ordered list, too low
// if it is a sample. It is false where that cannot be told.
func density(page []twilio.Operation) (perMinute float64, ok bool) {
	if len(page) == 0 {
		return 0, false
	}
	byCreation := func(a, b twilio.Operation) int { return a.CreatedAt.Compare(b.CreatedAt) }
	length := slices.MaxFunc(page, byCreation).CreatedAt.Sub(slices.MinFunc(page, byCreation).CreatedAt)
	return float64(len(page)-1) / length.Minutes(), length > 0
}
