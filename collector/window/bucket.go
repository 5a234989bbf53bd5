package window

import (
	"maps"
	"time"

	"twilio_operations_exporter/twilio"
)

// unread is the time of reading of a minute that was never read.
const unread = time.Duration(-1)

// bucket is what is known of the operations created within one minute.
type bucket struct {
	read     time.Duration // start of the refresh that read the minute last, by the window's clock
	dirty    bool          // done is known to be wrong: the minute is due whatever its age
	baseline bool          // what is in the minute at the next publication is not new
	// contents are nil where there are no operations and never were.
	*contents
}

type contents struct {
	done     byStatus            // sums of those that were not in flight when the minute was read
	inFlight map[string]inFlight // by id; snapshots share the operations, which never change but are replaced
	failing  []*twilio.Operation // the worst of those done, as many as a snapshot names
	// peak is the most that the sums have come to. It is nil where that is the sum of done and nothing is in flight, as
	// in nearly all minutes.
	peak *peak
}

// inFlight is an operation that is SCHEDULED or PROCESSING.
type inFlight struct {
	*twilio.Operation
	seen int // number of the refresh that met it last
}

// peak is what counters are held against.
type peak struct {
	twilio.Stats
	reached int64 // delivered + read
}

func (p *peak) add(s *twilio.Stats) {
	p.Add(s)
	p.reached = twilio.AddSaturating(p.reached, twilio.AddSaturating(s[twilio.Delivered], s[twilio.Read]))
}

// get returns the contents, empty ones where there are none.
func (b *bucket) get() contents {
	if b.contents == nil {
		return contents{}
	}
	return *b.contents
}

func (b *bucket) operations() int64 {
	c := b.get()
	n := int64(len(c.inFlight))
	for i := range c.done {
		n += c.done[i].Operations
	}
	return n
}

// settled sums what is done.
func (c *contents) settled() (sum peak) {
	for i := range c.done {
		sum.add(&c.done[i].Stats)
	}
	return sum
}

// fill makes contents where there are none, and keeps the peak before what it is derived from changes.
func (b *bucket) fill() {
	if b.contents == nil {
		b.contents = new(contents)
	}
	if b.peak == nil {
		sum := b.settled()
		b.peak = &sum
	}
}

// join takes in an operation in flight.
func (c *contents) join(op *twilio.Operation, refresh int) {
	if c.inFlight == nil {
		c.inFlight = make(map[string]inFlight)
	}
	copied := *op
	c.inFlight[op.ID] = inFlight{&copied, refresh}
}

// leave drops the operations in flight for which gone is true and reports whether there were any.
func (b *bucket) leave(gone func(inFlight) bool) bool {
	if b.contents == nil {
		return false
	}
	before := len(b.inFlight)
	maps.DeleteFunc(b.inFlight, func(_ string, op inFlight) bool { return gone(op) })
	left := len(b.inFlight) < before
	if len(b.inFlight) == 0 {
		b.inFlight = nil // a map keeps the room of all it ever held
	}
	return left
}

// replace puts what a list read to its end has shown of the minute in the place of what was known, and reports whether
// an operation in flight has left; shown is nil where it showed nothing. met tells whether the list had an operation.
func (b *bucket) replace(shown *contents, met func(id string) bool, at time.Duration, refresh int) (left bool) {
	b.read, b.dirty = at, false
	if shown == nil && b.contents == nil {
		return false
	}
	if shown == nil {
		shown = new(contents)
	}
	b.fill()
	b.done, b.failing = shown.done, shown.failing
	left = b.leave(func(op inFlight) bool {
		_, ok := shown.inFlight[op.ID]
		// One that the list does not show stays if this refresh met it elsewhere.
		return !ok && (op.seen != refresh || met(op.ID))
	})
	for _, op := range shown.inFlight {
		b.join(op.Operation, refresh)
	}
	return left
}
