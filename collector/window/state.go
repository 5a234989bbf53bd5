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

	skew  time.Duration // of the API's clock to the wall clock
	churn int           // minutes in which other operations were in flight at the last refresh than at the one before

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
	created   int64  // operations, by which the counter of them has grown
	grown     twilio.Stats
	snapshot  *Snapshot
}

// receipts say whether delivered falls as read rises, as far as operations have shown it: it is not documented.
type receipts struct {
	readReplacesDelivered bool // more was read than is delivered
	readKeepsDelivered    bool // messages are counted under both
}

// observe learns from the stats of an operation.
func (r *receipts) observe(s *twilio.Stats) {
	total := s[twilio.Total]
	delivered := s[twilio.Delivered]
	read := s[twilio.Read]
	switch {
	case twilio.AddSaturating(delivered, read) > total: // some messages are under both
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

// copy returns a state that shares nothing that changes in place.
func (s *state) copy() state {
	copied := *s
	copied.statuses = slices.Clone(s.statuses)
	copied.buckets = make([]bucket, len(s.buckets))
	for i := range s.buckets {
		copied.buckets[i] = s.buckets[i].copy()
	}
	return copied
}

// begin starts a refresh.
func (s *state) begin(length time.Duration, now time.Time) {
	s.churn = 0
	s.slide(length, now)
}

// end is the minute after the last one kept.
func (s *state) end() minute { return s.first + minute(len(s.buckets)) }

// each yields the minutes of a span that the state holds, oldest first.
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

// asksByStatus reports whether the API is asked by status at a time of the window's clock.
func (s *state) asksByStatus(at time.Duration) bool { return at >= s.unfiltered }

// maxAhead is how far beyond now minutes are kept apart. What is created later, by a clock gone wrong, shares the last.
const maxAhead = minute(24 * 60)

// slide moves the window, of a length, to end at now, by the API's clock. What is in a minute that comes back, or that
// comes in at the old end, as when a clock is set, is not new.
func (s *state) slide(length time.Duration, now time.Time) {
	first := minuteOf(now.Add(-length))
	last := minuteOf(now)
	empty := len(s.buckets) == 0
	wentBack := !empty && last < s.first
	if wentBack && s.published {
		s.newest = max(s.newest, last)
	}

	nothingStays := empty || wentBack || first >= s.end()
	switch {
	case nothingStays:
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

// cover makes the state hold the minutes of which something was found. What is in the farthest minute is never counted as
// new: as time passes, other minutes become the farthest and take it over.
func (s *state) cover(found map[minute]*contents, farthest minute) {
	for m := range found {
		s.extend(m)
		if m == farthest {
			s.buckets[m-s.first].setBaseline()
		}
	}
}

// answer replaces the operations in flight by those that the answers of a refresh have shown.
func (s *state) answer(a *answers) {
	s.cover(a.minutes, a.farthest)
	for m, b := range s.each(a.within) {
		if b.answer(a.minutes[m]) {
			s.churn++
		}
	}
}

// apply replaces the minutes of a piece by what its list, read to its end, has shown. answered is whether the refresh has
// answers about operations in flight, at is its start by the window's clock.
func (s *state) apply(r *reading, answered bool, at time.Duration) {
	s.cover(r.minutes, r.farthest)
	for _, found := range r.minutes {
		found.done = found.done.under(&s.statuses)
		for _, op := range found.failing {
			op.Status = s.statuses.fold(op.Status)
		}
	}
	s.receipts.merge(r.receipts)

	for m, b := range s.each(r.span) {
		if b.apply(r.minutes[m], answered, at) {
			s.churn++
		}
		if m == r.farthest {
			b.mark() // it holds what is of later minutes, too
		}
	}
}

// publish raises the peaks to what the minutes' sums have come to, and moves the counters by as much; at the first
// publication it leaves them at 0.
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
			s.created = twilio.AddSaturating(s.created, grown.operations)
			s.grown.Add(&grown.Stats)
		}
	}
	s.published = true
}
