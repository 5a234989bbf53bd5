package collector

import (
	"slices"
	"time"
)

// minuteState is what plan needs to know of a minute.
type minuteState struct {
	// due is how much of the time after which the minute is to be read again
	// has passed: 1 and more is due, a half and more is worth a page's spare
	// room.
	due float64
	// operations expected in the minute.
	operations float64
}

const worthReading = 0.5

// span is a range of minutes to read, from ≤ m < to.
type span struct {
	from, to   minute
	operations float64 // expected
}

// dueMinutes judges every minute of the window at a time: now by the API's
// clock, for ages, and since the window's epoch by the local one, for times of
// reading. The last judgement stands for all minutes up to the window's end.
func (w *window) dueMinutes(now time.Time, since time.Duration, s *Settings) []minuteState {
	density := w.density()
	states := make([]minuteState, len(w.minutes))
	for i := range w.minutes {
		m := &w.minutes[i]
		st := &states[i]
		if m.read == never {
			st.due, st.operations = 1, max(density, float64(len(m.live)))
			continue
		}
		st.operations = float64(m.operations())
		// The youngest operation of the minute is promised most.
		age := now.Sub((w.first + minute(i) + 1).time())
		after := max(s.Interval, time.Duration(s.MaxStaleness*float64(age))) - s.Interval/2
		if passed := since - m.read; m.marked || s.MaxStaleness == 0 || passed >= after {
			st.due = 1
		} else {
			st.due = float64(passed) / float64(after)
		}
	}
	return states
}

// density is the mean number of operations in the minutes that have been read.
func (w *window) density() float64 {
	minutes, operations := 0, 0
	for i := range w.minutes {
		if m := &w.minutes[i]; m.read != never {
			minutes++
			operations += m.operations()
		}
	}
	if minutes == 0 {
		return 0
	}
	return float64(operations) / float64(minutes)
}

// paging says how operations fall on pages.
type paging struct {
	size float64 // operations on a full page
}

// full is the share of a page that is filled on purpose: the rest is for the
// operations that a span is asked for beyond its edges, and for late ones.
const full = 0.98

func (p paging) pages(operations float64) int {
	return 1 + int(max(0, operations-1)/(p.size*full))
}

// room is how many operations more fit on the pages that are read anyway.
func (p paging) room(operations float64) float64 {
	return float64(p.pages(operations))*p.size*full - operations
}

// plan says which spans to read now, newest first: the minutes that are due,
// with the gaps between them where reading on costs no further page, and with
// neighbours worth reading in what room is left on the last page. It is a pure
// function. first is the minute of states[0]. The last span is open at its end
// when it reaches the last minute: its to is newest.
func plan(first minute, states []minuteState, p paging) []span {
	spans := bridge(dueSpans(states), states, p)
	fill(spans, states, p)
	spans = bridge(spans, states, p)
	slices.Reverse(spans)
	for i := range spans {
		spans[i].from += first
		if spans[i].to == minute(len(states)) {
			spans[i].to = newest
		} else {
			spans[i].to += first
		}
	}
	return spans
}

// dueSpans are the runs of due minutes, oldest first, as indexes of states.
func dueSpans(states []minuteState) []span {
	var spans []span
	for i, st := range states {
		if st.due < 1 {
			continue
		}
		if n := len(spans); n > 0 && spans[n-1].to == minute(i) {
			spans[n-1].to++
			spans[n-1].operations += st.operations
		} else {
			spans = append(spans, span{minute(i), minute(i) + 1, st.operations})
		}
	}
	return spans
}

// bridge joins neighbours where that needs no more pages than reading them
// apart.
func bridge(spans []span, states []minuteState, p paging) []span {
	for {
		joined := spans[:0]
		for _, s := range spans {
			if n := len(joined); n > 0 {
				last := &joined[n-1]
				all := last.operations + s.operations
				for _, st := range states[last.to:s.from] {
					all += st.operations
				}
				if p.pages(all) <= p.pages(last.operations)+p.pages(s.operations) {
					last.to, last.operations = s.to, all
					continue
				}
			}
			joined = append(joined, s)
		}
		if len(joined) == len(spans) {
			return joined
		}
		spans = joined
	}
}

// fill widens the spans by neighbours worth reading, as far as they fit on the
// last page.
func fill(spans []span, states []minuteState, p paging) {
	for i := range spans {
		s := &spans[i]
		lowest, highest := minute(0), minute(len(states))
		if i > 0 {
			lowest = spans[i-1].to
		}
		if i+1 < len(spans) {
			highest = spans[i+1].from
		}
		room := p.room(s.operations)
		take := func(m minute) bool {
			st := states[m]
			if st.due < worthReading || st.operations > room {
				return false
			}
			room -= st.operations
			s.operations += st.operations
			return true
		}
		for s.from > lowest && take(s.from-1) {
			s.from--
		}
		for s.to < highest && take(s.to) {
			s.to++
		}
	}
}

// atLeast is the fewest pages, by expectation, that a piece is cut to. It is
// more than one so that what just about fits on a page is not cut in two.
const atLeast = 2

// cut divides spans, newest first, into pieces of at most so many pages each
// and, where there is enough to read, at least one for each worker. count
// tells how many operations to expect in a minute.
func cut(spans []span, count func(minute) float64, end minute, workers, most int, p paging) []span {
	total := 0
	for _, s := range spans {
		total += p.pages(s.operations)
	}
	target := min(most, max((total+workers-1)/workers, atLeast))
	var pieces []span
	for _, s := range spans {
		pages := p.pages(s.operations)
		if pages <= target {
			pieces = append(pieces, s)
			continue
		}
		n := (pages + target - 1) / target
		size := float64((pages+n-1)/n) * p.size * full
		piece := span{from: min(s.to, end), to: s.to}
		for m := piece.from - 1; m >= s.from; m-- {
			c := count(m)
			if piece.operations > 0 && piece.operations+c > size {
				pieces = append(pieces, piece)
				piece = span{from: m + 1, to: m + 1}
			}
			piece.from = m
			piece.operations += c
		}
		pieces = append(pieces, piece)
	}
	return pieces
}
