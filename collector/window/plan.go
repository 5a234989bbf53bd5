package window

import (
	"slices"
	"time"

	"twilio_operations_exporter/twilio"
)

// state is what plan needs to know of a minute.
type state struct {
	// due is how much of the time after which the minute is to be read again has passed: 1 and more is due, a half and
	// more is worth a page's spare room.
	due        float64
	operations float64 // expected
}

const worthReading = 0.5

// piece is a span that is read by a list of its own, with the operations expected in it; with a status, of such
// operations alone.
type piece struct {
	span
	operations float64
	status     twilio.Status
}

// states judges every minute at a time: now by the API's clock, for ages, and at by the window's, for times of reading.
// Minutes never read are taken to be as dense as the others. The last judgement stands for all minutes to come.
func (w *Window) states(now time.Time, at time.Duration, density float64) []state {
	states := make([]state, len(w.buckets))
	for i := range w.buckets {
		b, s := &w.buckets[i], &states[i]
		s.operations = float64(b.operations())
		if b.read == unread {
			s.due, s.operations = 1, max(density, s.operations)
			continue
		}
		// The youngest operation of the minute is promised most.
		age := now.Sub((w.first + minute(i) + 1).time())
		interval, staleness := w.options.Interval, w.options.MaxStaleness
		after := max(interval, time.Duration(staleness*float64(age))) - interval/2
		passed := at - b.read
		if b.dirty || staleness == 0 || passed >= after || at < w.unfiltered && b.get().inFlight != nil {
			s.due = 1
		} else {
			s.due = float64(passed) / float64(after)
		}
	}
	return states
}

// known is how many operations are known, and how many minutes have been read.
func (w *Window) known() (operations float64, read int) {
	for i := range w.buckets {
		operations += float64(w.buckets[i].operations())
		if w.buckets[i].read != unread {
			read++
		}
	}
	return operations, read
}

// paging says how many operations are on a full page.
type paging float64

// fill is the share of a page that is filled on purpose: the rest is for the operations that a list shows beyond its
// edges, and for late ones.
const fill = 0.98

// pages is how many pages so many operations take; a list has one at least.
func (p paging) pages(operations float64) int {
	return 1 + int(max(0, operations-1)/(float64(p)*fill))
}

func (p paging) allPages(pieces []piece) (pages int) {
	for _, s := range pieces {
		pages += p.pages(s.operations)
	}
	return pages
}

// plan says what to read now, newest first: runs of due minutes, joined across gaps where that costs no further page,
// each with neighbours worth reading in what room is left on its last page. It is a pure function. first is the minute
// of states[0]. What reaches the last minute is open at its end.
func plan(first minute, states []state, p paging) []piece {
	var parts []piece
	for i := 0; i < len(states); i++ {
		if states[i].due < 1 {
			continue
		}
		s := piece{span: span{minute(i), minute(i)}}
		for ; i < len(states) && states[i].due >= 1; i++ {
			s.to++
			s.operations += states[i].operations
		}
		parts = append(parts, s)
	}
	parts = bridge(parts, states, p)
	fillPages(parts, states, p)
	parts = bridge(parts, states, p)
	slices.Reverse(parts)
	for i := range parts {
		parts[i].from += first
		if parts[i].to == minute(len(states)) {
			parts[i].to = open
		} else {
			parts[i].to += first
		}
	}
	return parts
}

// bridge joins neighbours where that needs no more pages than reading them apart.
func bridge(parts []piece, states []state, p paging) []piece {
	joined := parts[:0]
	for _, s := range parts {
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
	return joined
}

// fillPages widens the parts by neighbours worth reading, as far as they fit on the last page.
func fillPages(parts []piece, states []state, p paging) {
	for i := range parts {
		s := &parts[i]
		lowest, highest := minute(0), minute(len(states))
		if i > 0 {
			lowest = parts[i-1].to
		}
		if i+1 < len(parts) {
			highest = parts[i+1].from
		}
		room := float64(p.pages(s.operations))*float64(p)*fill - s.operations
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

const (
	// maxPages bounds a piece, and with it what a failure loses and how many ids are held: those of 28 full pages fit
	// in a map just before it doubles. It is halved, down to minPages, after a refresh that failed.
	maxPages = 28
	minPages = 4
	// worthCutting is the fewest pages, by expectation, that a piece is cut to: what just about fits on a page is not
	// to be cut in two.
	worthCutting = 2
)

// cut divides pieces, newest first, into smaller ones of at most so many pages each and, where there is enough to read,
// one for each worker. count tells how many operations to expect in a minute; end is that after the last one known.
func cut(whole []piece, count func(minute) float64, end minute, workers, most int, p paging) []piece {
	total := p.allPages(whole)
	target := min(most, max((total+workers-1)/workers, worthCutting))
	var pieces []piece
	for _, s := range whole {
		pages := p.pages(s.operations)
		if pages <= target {
			pieces = append(pieces, s)
			continue
		}
		n := (pages + target - 1) / target
		size := float64((pages+n-1)/n) * float64(p) * fill
		part := piece{span: span{min(s.to, end), s.to}, status: s.status}
		for m := part.from - 1; m >= s.from; m-- {
			c := count(m)
			if part.operations > 0 && part.operations+c > size {
				pieces = append(pieces, part)
				part.span, part.operations = span{m + 1, m + 1}, 0
			}
			part.from = m
			part.operations += c
		}
		pieces = append(pieces, part)
	}
	return pieces
}
