package window

import (
	"math"
	"slices"
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

func (s span) contains(m minute) bool { return m >= s.from && m < s.to }

// never is the time of reading of a minute that was never read.
const never = time.Duration(-1)

// bucket is what is known of the operations created within one minute. Its methods are the only ones that change it.
type bucket struct {
	readAt   time.Duration // start of the refresh that read the minute last, by the window's clock
	dirty    bool          // the sums may be wrong: the minute is due whatever its age
	baseline bool          // what is in the minute when it is next published is not new
	// contents are nil where there are no operations and never were.
	*contents
}

// contents are the operations of a minute.
type contents struct {
	done    byStatus // sums of those that were not in flight when the minute was read
	live    byStatus // sums of those in flight
	liveIDs uint64   // sum of the hashes of their ids, which tells whether they are the same as before
	failing ranking  // the worst of those done, as many as a snapshot names
	// peak is the most that the sums have come to. It is nil where that is the sum of done, and nothing is in flight, as
	// in nearly all minutes.
	peak *peak
}

// peak is what counters are held against.
type peak struct {
	operations int64
	twilio.Stats
	reached int64 // messages delivered or read, which a message that goes from one to the other does not change
}

// addAll adds the totals of all statuses.
func (p *peak) addAll(b byStatus) {
	for i := range b {
		stats := &b[i].Stats
		reached := twilio.AddSaturating(stats[twilio.Delivered], stats[twilio.Read])

		p.operations = twilio.AddSaturating(p.operations, b[i].Operations)
		p.Add(stats)
		p.reached = twilio.AddSaturating(p.reached, reached)
	}
}

// copy returns a bucket that shares nothing that changes in place.
func (b *bucket) copy() bucket {
	copied := *b
	if b.contents == nil {
		return copied
	}

	c := *b.contents
	c.live = slices.Clone(c.live)
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
	return c.done.operations() + c.live.operations()
}

// totals sum all operations of the minute.
func (b *bucket) totals() (sum Totals) {
	c := b.get()
	for i := range c.done {
		sum.merge(&c.done[i].Totals)
	}
	for i := range c.live {
		sum.merge(&c.live[i].Totals)
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
		b.peak = new(peak)
		b.peak.addAll(b.done)
	}
}

// answer replaces the operations in flight by those that the answers have shown; found is nil for none. It marks the minute
// if they are others than before, and reports whether it did: one that is gone has moved on, and a new one may still be in
// the sums as something else.
func (b *bucket) answer(found *contents) (marked bool) {
	if found == nil && len(b.get().live) == 0 {
		return false
	}
	if found == nil {
		found = new(contents)
	}

	b.keepPeak()
	if found.liveIDs != b.liveIDs && b.readAt != never {
		b.mark()
		marked = true
	}
	b.live = found.live
	b.liveIDs = found.liveIDs
	return marked
}

// apply replaces what was known by what the list of a piece has shown; found is nil for nothing. If the refresh has answers
// about operations in flight, these stay as they are there: they were left out of what was found. If not, apply reports
// whether operations were in flight, and are no longer all the same.
func (b *bucket) apply(found *contents, answered bool, at time.Duration) (churned bool) {
	b.readAt = at
	b.dirty = false
	if found == nil && b.contents == nil {
		return false
	}
	if found == nil {
		found = new(contents)
	}

	b.keepPeak()
	b.done = found.done
	b.failing = found.failing
	if !answered {
		churned = len(b.live) > 0 && b.liveIDs != found.liveIDs
		b.live = nil
		b.liveIDs = 0
	}
	for i := range found.live {
		b.live.of(found.live[i].status).merge(&found.live[i].Totals)
	}
	b.liveIDs += found.liveIDs
	return churned
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

	var done peak
	done.addAll(b.done)
	all := done
	all.addAll(b.live)
	grown = b.peak.raise(&all)

	if len(b.live) == 0 && *b.peak == done {
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
