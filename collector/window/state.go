package window

import (
	"iter"
	"slices"
	"time"

	"twilio_operations_exporter/twilio"
)

// state is all that is known of an account: plain data, which can be copied and saved.
type state struct {
	statuses statusNames
	first    minute // of buckets[0]
	buckets  []bucket

	skew   time.Duration // of the API's clock to the wall clock
	number int           // of refreshes begun, those that started over included
	churn  int           // minutes that operations in flight left in the last refresh

	requestedPage int    // Options.PageSize of the last refresh
	fullPage      paging // what a page of that size holds, as lists have shown

	// piecePages is how many pages a piece has at most, by expectation.
	piecePages int
	// brokenDensity is how many operations a minute has, at least, where lists have broken off since the last good
	// refresh.
	brokenDensity float64
	// unfiltered is until when, by the window's clock, the API is not asked by status, since it did not select by it.
	unfiltered time.Duration

	receipts receipts

	published bool
	newest    minute // the newest minute that held operations when it was published
	grown     twilio.Stats
	snapshot  *Snapshot
}

// receipts are what operations have shown of whether delivered falls as read rises, which is not documented.
type receipts struct {
	readReplacesDelivered bool // more was read than is delivered
	readKeepsDelivered    bool // messages are counted under both
}

// observe learns from an operation.
func (r *receipts) observe(s *twilio.Stats) {
	total, delivered, read := s[twilio.Total], s[twilio.Delivered], s[twilio.Read]
	switch {
	case twilio.AddSaturating(delivered, read) > total: // some messages are in both
		r.readKeepsDelivered = true
	case read > delivered: // unless a receipt got lost, those read are not in delivered
		r.readReplacesDelivered = true
	}
}

func (r *receipts) merge(o receipts) {
	r.readReplacesDelivered = r.readReplacesDelivered || o.readReplacesDelivered
	r.readKeepsDelivered = r.readKeepsDelivered || o.readKeepsDelivered
}

// deliveredFalls is whether delivered falls by what read rises.
func (r receipts) deliveredFalls() bool { return r.readReplacesDelivered && !r.readKeepsDelivered }

// newState knows nothing.
func newState(o Options) state {
	return state{
		requestedPage: o.PageSize,
		fullPage:      paging(o.PageSize),
		piecePages:    maxPiecePages,
		newest:        beforeAll,
	}
}

// end is the minute after the last one kept.
func (s *state) end() minute { return s.first + minute(len(s.buckets)) }

// each goes through the minutes of a span that the state holds.
func (s *state) each(of span) iter.Seq2[minute, *bucket] {
	return func(yield func(minute, *bucket) bool) {
		for m := max(of.from, s.first); m < min(of.to, s.end()); m++ {
			if !yield(m, &s.buckets[m-s.first]) {
				return
			}
		}
	}
}

// known is how many operations are known, and how many minutes have been read.
func (s *state) known() (operations float64, minutes int) {
	for i := range s.buckets {
		operations += float64(s.buckets[i].operations())
		if s.buckets[i].readAt != never {
			minutes++
		}
	}
	return operations, minutes
}

// inFlight is how many operations are in flight.
func (s *state) inFlight() (n int) {
	for i := range s.buckets {
		n += len(s.buckets[i].get().inFlight)
	}
	return n
}

// maxAhead is how far beyond now minutes are kept apart. What is created later, by a clock gone wrong, shares the last.
const maxAhead = minute(24 * 60)

// slide moves the window, of a length, to end at now, by the API's clock. What is in a minute that comes back, or that
// comes in at the old end, as when a clock is set, is not new.
func (s *state) slide(length time.Duration, now time.Time) {
	first, last := minuteOf(now.Add(-length)), minuteOf(now)
	empty := len(s.buckets) == 0
	switch {
	case empty || first >= s.end() || last < s.first:
		if !empty && s.published && last < s.first {
			s.newest = max(s.newest, last)
		}
		s.buckets = make([]bucket, 0, last-first+2)
	case first > s.first:
		s.buckets = slices.Delete(s.buckets, 0, int(first-s.first))
	case first < s.first:
		older := slices.Repeat([]bucket{{readAt: never, baseline: s.published}}, int(s.first-first))
		s.buckets = slices.Insert(s.buckets, 0, older...)
	}
	s.first = first
	s.extend(last)

	limit := last + maxAhead + 1
	if s.end() > limit {
		s.buckets = slices.Delete(s.buckets, int(limit-s.first), len(s.buckets))
	}
}

// extend makes the state hold minute m and those before it.
func (s *state) extend(m minute) {
	for next := s.end(); next <= m; next++ {
		s.buckets = append(s.buckets, bucket{readAt: never, baseline: s.published && next <= s.newest})
	}
}

// hold returns the bucket of minute m. What is in the farthest minute there can be is never counted as new: that goes
// on with the clock.
func (s *state) hold(m, farthest minute) *bucket {
	s.extend(m)
	b := &s.buckets[m-s.first]
	if m == farthest {
		b.setBaseline()
	}
	return b
}

// apply replaces the minutes of a piece by what its list, read to its end, has shown. at is the start of the refresh by
// the window's clock.
func (s *state) apply(r *reading, at time.Duration) {
	for m, shown := range r.minutes {
		s.hold(m, r.farthest)
		shown.done = shown.done.under(&s.statuses)
		for _, op := range shown.failing {
			op.Status = s.statuses.fold(op.Status)
		}
		shown.failing = pick(shown.failing, r.named, byLost)
	}
	s.receipts.merge(r.receipts)

	for m, b := range s.each(r.span) {
		if b.apply(r.minutes[m], r.met, at, s.number) {
			s.churn++
		}
		if m == r.farthest {
			b.mark() // it holds what is of later minutes, too
		}
	}
}

// meet takes in an operation that this refresh has found in flight, and reports whether it is the first time that it
// did.
func (s *state) meet(op *twilio.Operation, farthest minute) (first bool) {
	m := min(minuteOf(op.CreatedAt), farthest)
	if m < s.first {
		return false
	}
	return s.hold(m, farthest).meet(op, s.number)
}

// leave drops the operations in flight that no answer of this refresh has shown.
func (s *state) leave() {
	for i := range s.buckets {
		if s.buckets[i].leave(s.number) {
			s.churn++
		}
	}
}

// forget drops all operations in flight. Their minutes are due, and tell what has become of them.
func (s *state) forget() {
	for i := range s.buckets {
		s.buckets[i].forget()
	}
}

// publish moves the counters by what each minute's sums exceed their peak. At the first publication the peaks are set
// and nothing is counted.
func (s *state) publish() {
	for i := range s.buckets {
		b := &s.buckets[i]
		if b.operations() > 0 {
			s.newest = max(s.newest, s.first+minute(i))
		}
		grown := b.publish()
		if s.receipts.deliveredFalls() {
			// The growth of delivered alone would miss what was read between two refreshes.
			grown.Stats[twilio.Delivered] = grown.reached
		}
		if s.published {
			s.grown.Add(&grown.Stats)
		}
	}
	s.published = true
}
