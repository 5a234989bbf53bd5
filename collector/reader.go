package collector

import (
	"hash/maphash"
	"time"

	"twilio_operations_exporter/twilio"
)

// direction is the way a list runs, by the minute of creation.
type direction int

const (
	unknown direction = iota // everything so far is of one minute
	newestFirst
	oldestFirst
	unordered
)

// piece is a span for one list of its own.
type piece struct {
	span
	// again says that an earlier list of the span contradicted itself: nothing
	// is to be finished before the end of this one.
	again bool
}

// reader gathers the operations of one piece from the pages of its list. While
// the list runs in one direction, minutes are finished as they are passed: of
// their ids only hashes stay, to tell a repetition from an operation that
// breaks the order.
type reader struct {
	span      // what is left to finish
	all  span // the whole piece: the rest of it is finished

	dir      direction
	at       minute    // of the operation met last
	last     time.Time // when that was created
	first    time.Time // when the first was
	pages    int
	met      int  // operations of the piece
	beyond   int  // operations in a row beyond its end
	finished int  // minutes finished, and not taken back
	cut      bool // the list goes on beyond the piece
	left     bool // the list was left there
	pending  map[minute]*minuteRead
	known    *knownIDs       // of what is finished; nil at the end
	reopened map[minute]bool // minutes that turned out to be incomplete
}

// knownIDs are hashes of the ids that came last, at least knownMost of them and
// twice as many at most. A shifting list repeats what it had just before. What
// is forgotten too early costs no more than reading a minute again; what were
// kept for a whole piece would be most of the memory of a first read.
type knownIDs struct{ recent, before map[uint64]struct{} }

const knownMost = 1 << 12

// strays is how many operations in a row must lie beyond a piece before its
// list is taken to have left it.
const strays = 3

var idSeed = maphash.MakeSeed()

func newKnownIDs() *knownIDs {
	return &knownIDs{recent: make(map[uint64]struct{}), before: make(map[uint64]struct{})}
}

func (k *knownIDs) add(id string) {
	if len(k.recent) == knownMost {
		k.recent, k.before = k.before, k.recent
		clear(k.recent)
	}
	k.recent[maphash.String(idSeed, id)] = struct{}{}
}

func (k *knownIDs) has(id string) bool {
	hash := maphash.String(idSeed, id)
	if _, ok := k.recent[hash]; ok {
		return true
	}
	_, ok := k.before[hash]
	return ok
}

func newReader(p piece) *reader {
	r := &reader{
		span: p.span, all: p.span,
		pending: make(map[minute]*minuteRead), known: newKnownIDs(), reopened: make(map[minute]bool),
	}
	if p.again {
		r.dir = unordered
	}
	return r
}

func (s *span) holds(m minute) bool { return m >= s.from && m < s.to }

// page takes a page in.
func (r *reader) page(operations []twilio.Operation, w *window, now minute) {
	r.pages++
	for i := range operations {
		op := &operations[i]
		m := min(minuteOf(op.CreatedAt), now+maxAhead)
		switch {
		case m < w.first || !r.all.holds(m): // of the margin, or of another reader
			if r.dir == newestFirst && m < r.from || r.dir == oldestFirst && m >= r.to {
				if r.beyond++; r.beyond >= strays {
					r.at = m
				}
			}
		case !r.holds(m):
			if !r.known.has(op.ID) {
				r.reopened[m] = true
				r.disorder(w)
			}
		default:
			w.hold(m, now)
			r.operation(m, op, w)
		}
	}
}

func (r *reader) operation(m minute, op *twilio.Operation, w *window) {
	read := r.pending[m]
	if read == nil {
		read = newMinuteRead()
		r.pending[m] = read
	}
	if !read.add(op, w.statuses) {
		return // a repetition says nothing of the order
	}
	r.met++
	r.beyond = 0
	if r.met == 1 {
		r.first = op.CreatedAt
	}
	if r.met > 1 && m != r.at {
		way := newestFirst
		if m > r.at {
			way = oldestFirst
		}
		switch r.dir {
		case unknown:
			r.dir = way
		case way, unordered:
		default:
			r.disorder(w)
		}
	}
	r.at, r.last = m, op.CreatedAt
}

// disorder gives up the order. What was finished by it is due again, unless the
// end of the list shows that nothing of it was missing.
func (r *reader) disorder(w *window) {
	if r.dir == unordered {
		return
	}
	r.dir, r.finished = unordered, 0
	for m, s := range w.each(r.all) {
		if !r.holds(m) {
			s.marked = true
		}
	}
}

// passed is the part of the span that the list has gone through for good.
func (r *reader) passed() span {
	switch r.dir {
	case newestFirst:
		return span{from: min(max(r.from, r.at+1), r.to), to: r.to}
	case oldestFirst:
		return span{from: r.from, to: max(r.from, min(r.to, r.at))}
	default:
		return span{from: r.from, to: r.from}
	}
}

// finish writes what was read of a part of the span, which lies at one end of
// it, to the window.
func (r *reader) finish(part span, w *window, f *refresh) {
	for m := range w.each(part) {
		read := r.pending[m]
		w.finish(m, read, f.started, f.number)
		r.finished++
		if read == nil {
			continue
		}
		delete(r.pending, m)
		if r.known == nil {
			continue
		}
		for id := range read.ids {
			r.known.add(id)
		}
	}
	if part.to == r.to {
		r.to = part.from
	} else {
		r.from = part.to
	}
}

// ahead is about how many pages are left, judged by those read; 0 where that
// cannot be told.
func (r *reader) ahead(w *window) float64 {
	var done, left minute
	switch end := min(r.all.to, w.end()); r.dir {
	case newestFirst:
		done, left = end-r.at, r.at-r.from
	case oldestFirst:
		done, left = r.at+1-r.all.from, end-r.at-1
	}
	if left < 2 { // a minute cannot be divided
		return 0
	}
	return float64(r.pages) * float64(left) / float64(max(1, done))
}

// halve takes the farther half of what is left off the reader.
func (r *reader) halve(w *window) piece {
	r.cut = true
	if r.dir == newestFirst {
		half := piece{span: span{from: r.from, to: r.from + (r.at-r.from)/2}}
		r.from, r.all.from = half.to, half.to
		return half
	}
	end := min(r.to, w.end())
	half := piece{span: span{from: end - (end-r.at-1)/2, to: r.to}}
	r.to, r.all.to = half.from, half.from
	return half
}

// end finishes what the list, having ended, left. It returns the minutes to be
// read again.
func (r *reader) end(w *window, f *refresh) (again []piece) {
	r.known = nil
	r.finish(r.span, w, f)
	for m, s := range w.each(r.all) {
		s.marked = r.reopened[m]
		if !s.marked {
			continue
		}
		if n := len(again); n > 0 && again[n-1].to == m {
			again[n-1].to++
		} else {
			again = append(again, piece{span: span{from: m, to: m + 1}, again: true})
		}
	}
	return again
}
