package collector

import "time"

// How a refresh shares its reading among its workers, and what it may trust in
// while it does.

const (
	// worthCutting is how many pages a reader must have before it for an idle
	// worker to take half of them over.
	worthCutting = 5

	// evidence is how many pages a list must have had that kept to an order to
	// its end, for lists to be taken to do so: fewer may by chance.
	evidence = 5

	// cheapCuts is how many pages must have been read for each time that is
	// done, once every worker has a piece.
	cheapCuts = 20
)

// divide shares the first read of a window among the workers, by how dense the
// operations are that its list shows first. Each part gets a list of its own,
// with bounds that can be relied on where an order cannot; what was read so far
// has only told the density.
func (f *refresh) divide(r *reader) {
	if r.first.Equal(r.last) {
		return // it has shown one operation at most
	}
	f.discover = false
	f.paging = f.learned()
	if r.dir == unordered {
		f.scatter(r)
		return
	}
	covered := f.api.Now().Sub(r.last)
	if r.last.After(r.first) {
		covered = r.last.Sub(r.from.time())
	}
	density := float64(r.met) / max(covered, time.Second).Minutes()
	whole := span{from: f.w.first, to: newest} // with what resync has added
	whole.operations = density * float64(min(whole.to, f.w.end())-whole.from)
	pages := f.pages([]span{whole})
	// One each and no more, as what it goes by is little: the workers that are
	// done first take over from the others.
	parts := cut([]span{whole}, func(minute) float64 { return density }, f.w.end(), f.s.Concurrency, pages, f.paging)
	if len(parts) == 1 {
		return // the reader goes on
	}
	f.cuts = len(parts)
	f.progress.expected.Store(f.progress.read.Load() + int64(pages))
	r.span, r.all = span{}, span{}
	f.pieces = asPieces(parts)
}

// scatter divides a window evenly, and ends the reader whose list has no order
// to go by. A lone worker goes on with it instead.
func (f *refresh) scatter(r *reader) {
	n := minute(f.s.Concurrency * pieceMost / f.most)
	if n == 1 {
		return
	}
	all := r.all
	from, to := max(all.from, f.w.first), f.w.end()
	r.span, r.all = span{}, span{}
	for i := n; i > 0; i-- {
		part := span{from: from + (to-from)*(i-1)/n, to: from + (to-from)*i/n}
		if part.from == part.to {
			continue
		}
		if i == n {
			part.to = newest
		}
		f.pieces = append(f.pieces, piece{span: part})
	}
}

// takeOver makes a piece of the older or newer half of what the reader with the
// longest way to go has before it.
func (f *refresh) takeOver() {
	if !f.ordered() {
		return
	}
	cost := float64(f.cuts)
	if f.single {
		cost -= max(0, f.saved-1) // a list there would have been anyway
	}
	if cost+1 > float64(max(f.s.Concurrency, int(f.progress.read.Load())/cheapCuts)) {
		return
	}
	var longest *reader
	most := float64(worthCutting)
	for _, r := range f.readers {
		if pages := r.ahead(f.w); pages >= most {
			longest, most = r, pages
		}
	}
	if longest == nil {
		return
	}
	f.cuts++
	f.pieces = append(f.pieces, longest.halve(f.w))
}

// enough tells whether a reader needs no more of a list that goes on. Where
// that is beyond the piece, because another worker took the rest over, its order
// is all that says that nothing of the piece comes later: that is trusted until
// a list shows that lists do not keep to one.
func (f *refresh) enough(r *reader) bool {
	switch {
	case r.all.from >= r.all.to:
		return true
	case !r.cut || r.dir != unordered && r.from < r.to:
		return false
	}
	r.left = true
	return true
}

// distrust has a span read once more, by a list of its own.
func (f *refresh) distrust(s span) {
	for _, sums := range f.w.each(s) {
		sums.marked = true
	}
	f.pieces = append(f.pieces, piece{span: s, again: true})
}

// disordered notes that lists do not keep to an order, and that what was
// finished because they seemed to is to be read again.
func (f *refresh) disordered() {
	f.disorder = true
	for _, s := range f.trusted {
		f.distrust(s)
	}
	f.trusted = nil
}

// ordered tells whether lists have been found to keep to an order.
func (f *refresh) ordered() bool { return f.inOrder && !f.disorder }
