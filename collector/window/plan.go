package window

import (
	"math"
	"slices"
	"time"

	"twilio_operations_exporter/twilio"
)

// outlook is what plan needs to know of a minute.
type outlook struct {
	due        float64 // see bucket.due
	operations float64 // expected
}

// worthReading is how far a minute is on its way to being due at least, to be put on what is left of a page.
const worthReading = 0.5

// piece is a span that is read by a list of its own.
type piece struct {
	span
	operations float64       // expected
	status     twilio.Status // of the operations listed; "" for all
}

// outlooks judges every minute of a state at a time, which is now by the API's clock and at by the window's. A minute never
// read is expected to hold as many operations as density says.
func outlooks(s *state, o *Options, now time.Time, at time.Duration, density float64) []outlook {
	asked := s.asksByStatus(at)
	all := make([]outlook, len(s.buckets))
	for i := range s.buckets {
		b := &s.buckets[i]
		// The youngest operation of the minute is promised most.
		youngest := (s.first + minute(i) + 1).time()
		due := b.due(now.Sub(youngest), at, o)
		if !asked && len(b.get().live) > 0 {
			due = 1 // nothing else tells when they move on
		}

		operations := float64(b.operations())
		if b.readAt == never {
			operations = max(density, operations)
		}
		all[i] = outlook{due: due, operations: operations}
	}
	return all
}

// paging is how many operations are on a full page.
type paging float64

// fullness is the share of a page that is filled on purpose: the rest is for the operations that a list shows beyond its
// edges, and for late ones.
const fullness = 0.98

// capacity is how many operations are put on a page on purpose.
func (p paging) capacity() float64 { return float64(p) * fullness }

// pages is how many pages so many operations take; a list has one at least.
func (p paging) pages(operations float64) int {
	return 1 + int(max(0, operations-1)/p.capacity())
}

// allPages is how many pages pieces take.
func (p paging) allPages(pieces []piece) (pages int) {
	for i := range pieces {
		pages += p.pages(pieces[i].operations)
	}
	return pages
}

// plan says what to read now, newest first: runs of due minutes, joined across gaps where that costs no further page, and
// widened by neighbours worth reading that fit on the last page. first is the minute of outlooks[0]. A piece that reaches
// the last minute is open at its end.
func plan(first minute, outlooks []outlook, p paging) []piece {
	runs := dueRuns(outlooks)
	runs = bridge(runs, outlooks, p)
	widen(runs, outlooks, p)
	runs = bridge(runs, outlooks, p)

	slices.Reverse(runs)
	for i := range runs {
		runs[i].from += first
		if runs[i].to == minute(len(outlooks)) {
			runs[i].to = open
		} else {
			runs[i].to += first
		}
	}
	return runs
}

// dueRuns are the runs of due minutes, oldest first. Up to the end of plan, minutes are counted from the oldest.
func dueRuns(outlooks []outlook) (runs []piece) {
	previousDue := false
	for i, o := range outlooks {
		due := o.due >= 1
		if due && !previousDue {
			runs = append(runs, piece{span: span{minute(i), minute(i)}})
		}
		if due {
			run := &runs[len(runs)-1]
			run.to++
			run.operations += o.operations
		}
		previousDue = due
	}
	return runs
}

// bridge joins neighbours where that needs no more pages than reading them apart.
func bridge(runs []piece, outlooks []outlook, p paging) []piece {
	joined := runs[:0]
	for _, run := range runs {
		if len(joined) == 0 {
			joined = append(joined, run)
			continue
		}

		last := &joined[len(joined)-1]
		together := last.operations + run.operations
		for _, between := range outlooks[last.to:run.from] {
			together += between.operations
		}
		if p.pages(together) > p.pages(last.operations)+p.pages(run.operations) {
			joined = append(joined, run)
			continue
		}
		last.to = run.to
		last.operations = together
	}
	return joined
}

// widen adds neighbours worth reading to the runs, as far as they fit on the last page.
func widen(runs []piece, outlooks []outlook, p paging) {
	for i := range runs {
		run := &runs[i]
		lowest, highest := minute(0), minute(len(outlooks))
		if i > 0 {
			lowest = runs[i-1].to
		}
		if i+1 < len(runs) {
			highest = runs[i+1].from
		}

		spare := float64(p.pages(run.operations))*p.capacity() - run.operations
		take := func(m minute) bool {
			neighbour := outlooks[m]
			if neighbour.due < worthReading || neighbour.operations > spare {
				return false
			}
			spare -= neighbour.operations
			run.operations += neighbour.operations
			return true
		}
		for run.from > lowest && take(run.from-1) {
			run.from--
		}
		for run.to < highest && take(run.to) {
			run.to++
		}
	}
}

const (
	// maxPiecePages bounds a piece, and with it what a failure loses and how many ids are held: the default of 4 workers
	// have enough in ownRoom. It is halved, down to minPiecePages, after a refresh that failed.
	maxPiecePages = 24
	minPiecePages = 4
	// worthCutting is the fewest pages, by expectation, that a piece is cut to: what just about fits on a page is not
	// to be cut in two.
	worthCutting = 2
)

// cut divides pieces, newest first, into smaller ones: of at most maxPages each and, where there is enough to read, one for
// each worker. count tells how many operations to expect in a minute; end is the minute after the last one known.
func cut(whole []piece, count func(minute) float64, end minute, workers, maxPages int, p paging) []piece {
	perWorker := ceilDiv(p.allPages(whole), workers)
	target := min(maxPages, max(perWorker, worthCutting))

	var pieces []piece
	for _, w := range whole {
		pages := p.pages(w.operations)
		if pages <= target {
			pieces = append(pieces, w)
			continue
		}

		parts := ceilDiv(pages, target)
		size := float64(ceilDiv(pages, parts)) * p.capacity()
		part := piece{span: span{min(w.to, end), w.to}, status: w.status}
		for m := part.from - 1; m >= w.from; m-- {
			c := count(m)
			if part.operations > 0 && part.operations+c > size {
				pieces = append(pieces, part)
				part.span = span{m + 1, m + 1}
				part.operations = 0
			}
			part.from = m
			part.operations += c
		}
		pieces = append(pieces, part)
	}
	return pieces
}

// ceilDiv divides and rounds up.
func ceilDiv(a, b int) int { return (a + b - 1) / b }

// uncharted is what no worker has taken yet of a window of which nothing was known. Pieces are cut off its newer end as
// workers come for them.
type uncharted struct {
	span
	paging   paging
	workers  int
	maxPages int     // of a piece
	taken    int     // pieces so far
	density  float64 // operations a minute, by the first page
	atLeast  float64 // operations a minute, by lists that broke off
}

// carve cuts off a piece of a window that ends at end and has so many minutes, by the operations that are known by now in
// minutes that were read. There are about two pieces for each worker, or, if they would be too large, more of maxPages
// each. However few operations are expected, no piece is so wide that one worker could be left with most of them.
func (u *uncharted) carve(end minute, minutes int, operations float64, minutesRead int) span {
	density := u.density
	if minutesRead > 0 {
		density = max(operations, 1) / float64(minutesRead)
	}
	density = max(density, u.atLeast)
	pagesPerMinute := density / u.paging.capacity()

	length := float64(minutes)
	left := float64(min(u.to, end) - u.from)
	minPieces := 2 * float64(u.workers)
	even := length / minPieces                   // wide, with that many pieces
	full := float64(u.maxPages) / pagesPerMinute // wide, with maxPages
	cuts := max(math.Round(left/min(even, full)), 1)
	width := left / cuts // so that no small piece is left at the end

	if minutesRead == 0 {
		// As long as nothing is measured, failures make pieces narrower still.
		narrow := even * float64(u.maxPages) / maxPiecePages
		width = min(width, narrow)
	} else {
		// Each piece costs a page that is not full. If the first ones were too narrow, the others are wider.
		maxPieces := max(minPieces, 1.25*pagesPerMinute*length/float64(u.maxPages))
		wide := left / max(maxPieces-float64(u.taken), 1)
		width = max(width, wide)
	}

	from := max(u.from, min(u.to, end)-minute(math.Ceil(width)))
	carved := span{from, u.to}
	u.to = from
	u.taken++
	return carved
}

// densityOf estimates from a page how many operations a minute has: rightly if the page is one end of a sorted list, too low
// if it is a sample. ok is false where the page does not tell.
func densityOf(page []twilio.Operation) (perMinute float64, ok bool) {
	if len(page) == 0 {
		return 0, false
	}

	newest := page[0].CreatedAt
	oldest := newest
	for i := range page {
		created := page[i].CreatedAt
		if created.After(newest) {
			newest = created
		}
		if created.Before(oldest) {
			oldest = created
		}
	}
	length := newest.Sub(oldest)
	return float64(len(page)-1) / length.Minutes(), length > 0
}
