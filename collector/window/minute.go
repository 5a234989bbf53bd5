package window

import (
	"maps"
	"math"
	"time"

	"twilio_operations_exporter/twilio"
)

// minute numbers the minutes since the Unix epoch, in UTC.
type minute int64

func minuteOf(t time.Time) minute {
	const seconds = 60
	sinceEpoch := t.Unix()
	m := minute(sinceEpoch / seconds)
	if sinceEpoch%seconds < 0 {
		m-- // before the epoch, a division rounds up
	}
	return m
}

func (m minute) time() time.Time { return time.Unix(int64(m)*60, 0).UTC() }

// span is a run of minutes, from ≤ m < to.
type span struct{ from, to minute }

const (
	open      = minute(math.MaxInt64) // the end of a span that has none
	beforeAll = -open
)

func (s span) holds(m minute) bool { return m >= s.from && m < s.to }

// never is the time of reading of a minute that was never read.
const never = time.Duration(-1)

// bucket is what is known of the operations created within one minute. Its methods are the only ones that change it.
type bucket struct {
	readAt   time.Duration // start of the refresh that read the minute last, by the window's clock
	dirty    bool          // what is known to be done is wrong: the minute is due whatever its age
	baseline bool          // what is in the minute when it is next published is not new
	// contents are nil where there are no operations and never were.
	*contents
}

// contents are the operations of a minute.
type contents struct {
	done     byStatus            // sums of those that were not in flight when the minute was read
	inFlight map[string]inFlight // by id
	failing  []*twilio.Operation // the worst of those done, as many as a snapshot names
	// peak is the most that the sums have come to. It is nil where that is the sum of done and nothing is in flight, as
	// in nearly all minutes.
	peak *peak
}

// inFlight is an operation that is SCHEDULED or PROCESSING. Snapshots share it: it never changes, but is replaced.
type inFlight struct {
	*twilio.Operation
	seen int // number of the refresh that met it last
}

// peak is what counters are held against.
type peak struct {
	operations int64
	twilio.Stats
	reached int64 // messages delivered or read, which a message that goes from one to the other does not change
}

// add adds so many operations, of these stats together.
func (p *peak) add(operations int64, s *twilio.Stats) {
	p.operations = twilio.AddSaturating(p.operations, operations)
	p.Add(s)
	p.reached = twilio.AddSaturating(p.reached, twilio.AddSaturating(s[twilio.Delivered], s[twilio.Read]))
}

// copy returns a bucket that shares nothing that changes in place.
func (b *bucket) copy() bucket {
	copied := *b
	if b.contents == nil {
		return copied
	}

	c := *b.contents
	c.inFlight = maps.Clone(c.inFlight)
	if c.peak != nil {
		p := *c.peak
		c.peak = &p
	}
	copied.contents = &c
	return copied
}

// get returns the contents, empty ones where there are none.
func (b *bucket) get() contents {
	if b.contents == nil {
		return contents{}
	}
	return *b.contents
}

// operations is how many operations the minute has.
func (b *bucket) operations() int64 {
	c := b.get()
	n := int64(len(c.inFlight))
	for i := range c.done {
		n += c.done[i].Operations
	}
	return n
}

// totals sum all operations of the minute.
func (b *bucket) totals() (sum Totals) {
	c := b.get()
	for i := range c.done {
		sum.merge(&c.done[i].Totals)
	}
	for _, op := range c.inFlight {
		sum.add(&op.Stats)
	}
	return sum
}

// due is how far the minute is on its way to being read again: from 0, just read, to 1, due. Its age is by the API's
// clock, at is the time by the window's.
func (b *bucket) due(age, at time.Duration, o *Options) float64 {
	if b.readAt == never || b.dirty || o.MaxStaleness == 0 {
		return 1
	}

	stale := time.Duration(o.MaxStaleness * float64(age))
	after := max(o.Interval, stale) - o.Interval/2
	passed := at - b.readAt
	if passed >= after {
		return 1
	}
	return float64(passed) / float64(after)
}

// keepPeak stores the peak where it was not: what it follows from is about to change.
func (b *bucket) keepPeak() {
	if b.contents == nil {
		b.contents = new(contents)
	}
	if b.peak == nil {
		sum := b.settled()
		b.peak = &sum
	}
}

// settled sums what is done.
func (c *contents) settled() (sum peak) {
	for i := range c.done {
		sum.add(c.done[i].Operations, &c.done[i].Stats)
	}
	return sum
}

// join takes in an operation in flight, or a newer view of one.
func (c *contents) join(op *twilio.Operation, refresh int) {
	if c.inFlight == nil {
		c.inFlight = make(map[string]inFlight)
	}
	copied := *op
	c.inFlight[op.ID] = inFlight{&copied, refresh}
}

// meet takes in an operation that a refresh has found in flight when it asked for those, and reports whether the refresh
// had not met it before. It marks the minute if that may hold the operation as something else, or if the questions for
// the two statuses do not agree about it.
func (b *bucket) meet(op *twilio.Operation, refresh int) (isNew bool) {
	known, isKnown := b.get().inFlight[op.ID]
	isNew = !isKnown || known.seen != refresh
	mayBeElse := !isKnown && b.readAt != never
	bothShowIt := !isNew && known.Status != op.Status
	if mayBeElse || bothShowIt {
		b.mark()
	}

	b.keepPeak()
	b.join(op, refresh)
	return isNew
}

// remove drops the operations in flight that are gone, and reports whether there were any.
func (b *bucket) remove(gone func(inFlight) bool) bool {
	if b.contents == nil {
		return false
	}

	before := len(b.inFlight)
	maps.DeleteFunc(b.inFlight, func(_ string, op inFlight) bool { return gone(op) })
	after := len(b.inFlight)
	if after == 0 {
		b.inFlight = nil // a map keeps the room of all it ever held
	}
	return after < before
}

// leave drops the operations in flight that a refresh has not met, and marks the minute if there were any: the API has
// them under another status by now, or they slipped through between two questions.
func (b *bucket) leave(refresh int) (left bool) {
	left = b.remove(func(op inFlight) bool { return op.seen != refresh })
	if left {
		b.mark()
	}
	return left
}

// forget drops all operations in flight, and marks the minute if there were any.
func (b *bucket) forget() {
	forgotten := b.remove(func(inFlight) bool { return true })
	if forgotten {
		b.mark()
	}
}

// apply replaces what was known by what a refresh has read, and reports whether an operation in flight has left. shown
// is what the list has shown of the minute, nil for nothing; met reports whether an operation was anywhere in the list.
func (b *bucket) apply(shown *contents, met func(id string) bool, at time.Duration, refresh int) (left bool) {
	b.readAt = at
	b.dirty = false
	if shown == nil && b.contents == nil {
		return false
	}
	if shown == nil {
		shown = new(contents)
	}

	b.keepPeak()
	b.done = shown.done
	b.failing = shown.failing
	left = b.remove(func(op inFlight) bool {
		_, stays := shown.inFlight[op.ID]
		// A question of this refresh has shown it, and the list has left it out.
		leftOut := op.seen == refresh && !met(op.ID)
		return !stays && !leftOut
	})
	for _, op := range shown.inFlight {
		b.join(op.Operation, refresh)
	}
	return left
}

// mark makes the minute due.
func (b *bucket) mark() { b.dirty = true }

// setBaseline says that what is in the minute when it is next published is not new.
func (b *bucket) setBaseline() { b.baseline = true }

// publish raises the peak to what the sums have come to, and returns what of that is new.
func (b *bucket) publish() (grown peak) {
	isNew := !b.baseline
	b.baseline = false
	if b.get().peak == nil {
		return peak{}
	}

	settled := b.settled()
	sum := settled
	for _, op := range b.inFlight {
		sum.add(1, &op.Stats)
	}
	grown = b.peak.raise(&sum)

	if b.inFlight == nil && *b.peak == settled {
		b.peak = nil
	}
	if b.peak == nil && len(b.done) == 0 {
		b.contents = nil
	}
	if !isNew {
		return peak{}
	}
	return grown
}

// raise makes the peak at least as high as sum in everything, and returns by how much.
func (p *peak) raise(sum *peak) (by peak) {
	by.operations = max(0, sum.operations-p.operations)
	p.operations += by.operations

	for stat, now := range sum.Stats {
		excess := max(0, now-p.Stats[stat])
		by.Stats[stat] = excess
		p.Stats[stat] += excess
	}

	by.reached = max(0, sum.reached-p.reached)
	p.reached += by.reached
	return by
}
