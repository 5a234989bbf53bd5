package window

import (
	"math"
	"slices"
	"time"

	"twilio_operations_exporter/twilio"
)

// outlook is what plan needs to know of a minute.
type outlook struct {
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

// outlooks judges every minute of a state at a time: now by the API's clock, for ages, and at by the window's, for times
// of reading. A minute never read is taken to hold as many operations as density says.
func outlooks(s *state, o *Options, now time.Time, at time.Duration, density float64) []outlook {
	asked := s.asksByStatus(at)
	all := make([]outlook, len(s.buckets))
	for i := range s.buckets {
		b := &s.buckets[i]
		// The youngest operation of the minute is promised most.
		youngest := (s.first + minute(i) + 1).time()
		due := b.due(now.Sub(youngest), at, o)
		if !asked && b.get().inFlight != nil {
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

// paging says how many operations are on a full page.
type paging float64

// fullness is the share of a page that is filled on purpose: the rest is for the operations that a list shows beyond its
// edges, and for late ones.
const fullness = 0.98

// room is how many operations are put on a page on purpose.
func (p paging) room() float64 { return float64(p) * fullness }

// pages is how many pages so many operations take; a list has one at least.
func (p paging) pages(operations float64) int {
	return 1 + int(max(0, operations-1)/p.room())
}

func (p paging) allPages(pieces []piece) (pages int) {
	for _, s := range pieces {
		pages += p.pages(s.operations)
	}
	return pages
}

// plan says what to read now, newest first: runs of due minutes, joined across gaps where that costs no further page,
// each with neighbours worth reading in what room is left on its last page. It is a pure function. first is the minute
// of outlooks[0]. What reaches the last minute is open at its end.
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
	for i := 0; i < len(outlooks); i++ {
		if outlooks[i].due < 1 {
			continue
		}
		run := piece{span: span{minute(i), minute(i)}}
		for ; i < len(outlooks) && outlooks[i].due >= 1; i++ {
			run.to++
			run.operations += outlooks[i].operations
		}
		runs = append(runs, run)
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

		room := float64(p.pages(run.operations))*p.room() - run.operations
		take := func(m minute) bool {
			neighbour := outlooks[m]
			if neighbour.due < worthReading || neighbour.operations > room {
				return false
			}
			room -= neighbour.operations
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
	// maxPiecePages bounds a piece, and with it what a failure loses and how many ids are held: those of 28 full pages
	// fit in a map just before it doubles. It is halved, down to minPiecePages, after a refresh that failed.
	maxPiecePages = 28
	minPiecePages = 4
	// worthCutting is the fewest pages, by expectation, that a piece is cut to: what just about fits on a page is not
	// to be cut in two.
	worthCutting = 2
)

// cut divides pieces, newest first, into smaller ones of at most so many pages each and, where there is enough to read,
// one for each worker. count tells how many operations to expect in a minute; end is that after the last one known.
func cut(whole []piece, count func(minute) float64, end minute, workers, most int, p paging) []piece {
	total := p.allPages(whole)
	perWorker := (total + workers - 1) / workers
	target := min(most, max(perWorker, worthCutting))

	var pieces []piece
	for _, w := range whole {
		pages := p.pages(w.operations)
		if pages <= target {
			pieces = append(pieces, w)
			continue
		}

		parts := (pages + target - 1) / target
		size := float64((pages+parts-1)/parts) * p.room()
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

// uncharted is what no worker has taken yet of a window of which nothing was known. Pieces are cut off its newer end as
// workers come for them.
type uncharted struct {
	span
	paging  paging
	workers int
	most    int     // pages of a piece
	taken   int     // pieces so far
	density float64 // operations a minute, by the first page
	atLeast float64 // operations a minute, by lists that broke off
}

// carve cuts off a piece, by how many operations are known by now in how many minutes that were read. The window ends at
// end and has so many minutes. There are about two pieces for each worker, or more, of the most pages each. However few
// operations are expected, none is so wide that a worker could be left alone with most of them.
func (u *uncharted) carve(end minute, minutes int, operations float64, read int) span {
	density := u.density
	if read > 0 {
		density = max(operations, 1) / float64(read)
	}
	density = max(density, u.atLeast)
	pagesPerMinute := density / u.paging.room()

	length := float64(minutes)
	left := float64(min(u.to, end) - u.from)
	fewest := 2 * float64(u.workers)
	even := length / fewest                  // so that all have about as much
	full := float64(u.most) / pagesPerMinute // so that it has the most pages
	cuts := max(math.Round(left/min(even, full)), 1)
	width := left / cuts // without a small one at the end

	if read == 0 {
		// As long as nothing is measured, failures make pieces narrower still.
		narrow := even * float64(u.most) / maxPiecePages
		width = min(width, narrow)
	} else {
		// Each piece may have a page that is not full. If the first ones were too narrow, the others are wider.
		most := max(fewest, 1.25*pagesPerMinute*length/float64(u.most))
		wide := left / max(most-float64(u.taken), 1)
		width = max(width, wide)
	}

	from := max(u.from, min(u.to, end)-minute(math.Ceil(width)))
	carved := span{from, u.to}
	u.to = from
	u.taken++
	return carved
}

// density estimates how many operations a minute has, from a page: rightly if it is one end of an ordered list, too low
// if it is a sample. It is false where that cannot be told.
func density(page []twilio.Operation) (perMinute float64, ok bool) {
	if len(page) == 0 {
		return 0, false
	}

	byCreation := func(a, b twilio.Operation) int { return a.CreatedAt.Compare(b.CreatedAt) }
	newest := slices.MaxFunc(page, byCreation).CreatedAt
	oldest := slices.MinFunc(page, byCreation).CreatedAt
	length := newest.Sub(oldest)
	return float64(len(page)-1) / length.Minutes(), length > 0
}
