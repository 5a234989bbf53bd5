package collector

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"twilio_operations_exporter/twilio"
)

const (
	// margin is how much wider than it is a span is asked for, at each edge, so
	// that it does not matter whether the API's bounds include what lies on
	// them, nor whether they are rounded to whole seconds.
	margin = time.Second

	// kept is how long Twilio keeps operations. Lists reaching further back
	// "may be incomplete" (Twilio, Message Operations).
	kept = 7 * 24 * time.Hour

	// keptSlack is how far apart the API's clock and ours may be without our
	// correcting it (twilio.Client.Now).
	keptSlack = 2 * time.Second

	// pieceMost bounds a piece, in pages, and with it the ids that are held
	// while a list without order is read.
	pieceMost = 50
)

// progress tells of a refresh under way.
type progress struct {
	read     atomic.Int64 // pages
	expected atomic.Int64 // pages, as far as is known by now
}

// refresh is one reading of what is due in a window. Its workers share the
// window and the pieces under one mutex, which is never held across a request.
type refresh struct {
	api     API
	s       *Settings
	w       *window
	number  int           // of the refresh; from 1
	started time.Duration // since the window's epoch
	paging  paging        // how full the pages of earlier refreshes were
	most    int           // pages a piece may have

	progress *progress
	onPage   func(operations int)

	mu      sync.Mutex
	changed sync.Cond // the pieces, the readers or the context
	now     minute
	pieces  []piece
	readers []*reader
	// answered is set by the first page. Until then there is one request at a
	// time: an account whose credentials are refused is not to be asked again
	// by each worker.
	answered bool
	// discover is set while nothing is known of how operations are spread.
	discover bool
	single   bool // span, which all pieces are parts of
	// inOrder says that a list of so many pages kept to an order to its end,
	// disorder that one did not.
	inOrder, disorder bool
	trusted           []span // finished because lists seem to keep to an order

	cuts int // made so far: each may cost a request
	// saved is what the cuts of a single span have turned out not to cost, in
	// requests: a list whose last page is full costs none.
	saved       float64
	finished    int  // minutes, by the readers that have ended
	minutePages int  // pages read, those of live operations not counted
	fullest     int  // operations on the fullest page so far
	more        bool // some page had a next one
}

// run reads what is due. On an error what it has finished stays in the window,
// which is then not fit to be shown before a refresh has ended well.
func (f *refresh) run(ctx context.Context) error {
	f.changed.L = &f.mu
	now := f.api.Now()
	f.slide(now)
	whole := span{from: f.w.first, to: newest}

	states := f.w.dueMinutes(now, f.started, f.s)
	if f.w.density() == 0 || f.guesswork() {
		f.discover, f.single = true, true
		return f.read(ctx, []piece{{span: whole}}, 1)
	}
	for _, st := range states {
		whole.operations += st.operations
	}
	all := f.paging.pages(whole.operations)
	spans := plan(f.w.first, states, f.paging)
	if f.statusPages()+f.pages(spans) >= all {
		f.single = true
		return f.read(ctx, f.cut([]span{whole}, states), all)
	}

	f.progress.expected.Store(int64(f.statusPages() + f.pages(spans)))
	// Operations move forward: asked for in this order, and before the minutes
	// are read, few are met twice. None is lost in any order: what was known as
	// live and is not met has its minute read.
	for _, status := range []twilio.Status{twilio.StatusScheduled, twilio.StatusProcessing} {
		if err := f.ask(ctx, status, whole); err != nil {
			return err
		}
	}
	f.w.leave(f.number)
	states = f.w.dueMinutes(now, f.started, f.s)
	spans = plan(f.w.first, states, f.paging)
	if len(spans) == 0 {
		return nil
	}
	return f.read(ctx, f.cut(spans, states), int(f.progress.read.Load())+f.pages(spans))
}

// guesswork tells whether what is known would fit on a page and most of the
// window has never been read: rather than by what to expect of the rest, it is
// read as if for the first time.
func (f *refresh) guesswork() bool {
	operations, unread := 0, 0
	for i := range f.w.minutes {
		operations += f.w.minutes[i].operations()
		if f.w.minutes[i].read == never {
			unread++
		}
	}
	return float64(operations) <= f.paging.size && 2*unread > len(f.w.minutes)
}

func (f *refresh) slide(now time.Time) {
	f.w.slide(now)
	f.now = minuteOf(now)
}

func (f *refresh) pages(spans []span) int {
	n := 0
	for _, s := range spans {
		n += f.paging.pages(s.operations)
	}
	return n
}

// statusPages is how many pages the questions for live operations will have.
func (f *refresh) statusPages() int {
	var scheduled, processing float64
	for i := range f.w.minutes {
		for _, op := range f.w.minutes[i].live {
			if op.Status == twilio.StatusScheduled {
				scheduled++
			} else {
				processing++
			}
		}
	}
	return f.paging.pages(scheduled) + f.paging.pages(processing)
}

// cut divides spans into pieces. states are those of the window's minutes.
func (f *refresh) cut(spans []span, states []minuteState) []piece {
	count := func(m minute) float64 { return states[m-f.w.first].operations }
	parts := cut(spans, count, f.w.end(), f.s.Concurrency, f.most, f.paging)
	f.cuts = len(parts) - len(spans)
	return asPieces(parts)
}

func asPieces(spans []span) []piece {
	pieces := make([]piece, len(spans))
	for i, s := range spans {
		pieces[i].span = s
	}
	return pieces
}

// query asks for a span, by the API's clock at this time.
func (f *refresh) query(s span) twilio.Query {
	q := twilio.Query{PageSize: f.s.PageSize, StartDate: s.from.time().Add(-margin)}
	if oldest := f.api.Now().Add(keptSlack - kept); q.StartDate.Before(oldest) {
		q.StartDate = oldest
	}
	if s.to != newest {
		q.EndDate = s.to.time().Add(margin)
		if !q.EndDate.After(q.StartDate) { // it went out of reach meanwhile
			q.EndDate = q.StartDate.Add(margin)
		}
	}
	return q
}

// ask reads the live operations of one status.
func (f *refresh) ask(ctx context.Context, status twilio.Status, whole span) error {
	q := f.query(whole)
	q.Status = status
	for page, err := range f.api.Pages(ctx, q) {
		if err != nil {
			return err
		}
		f.count(page)
		for i := range page.Operations {
			if op := &page.Operations[i]; op.Status.Live() {
				f.w.join(op, f.now, f.number)
			}
		}
	}
	f.answered = true
	return nil
}

// count takes note of a page, whatever is on it. f.mu is held, or not yet
// needed.
func (f *refresh) count(page *twilio.Page) {
	read := f.progress.read.Add(1)
	if f.progress.expected.Load() < read {
		f.progress.expected.Store(read)
	}
	f.fullest = max(f.fullest, len(page.Operations))
	f.more = f.more || page.Next != ""
	f.onPage(len(page.Operations))
}

// stuck tells whether another try is to cut smaller pieces: the refresh read
// minutes but finished none of them, or only such as fit between two failures.
// A list without order finishes nothing before its end.
func (f *refresh) stuck() bool {
	finished := f.finished
	for _, r := range f.readers {
		finished += r.finished
	}
	return f.minutePages > 0 && (finished == 0 || f.disorder)
}

// learned is how full pages are, for the next refresh: Twilio may put fewer
// operations on a page than were asked for.
func (f *refresh) learned() paging {
	if f.more || float64(f.fullest) > f.paging.size {
		return paging{size: float64(max(f.fullest, 1))}
	}
	return f.paging
}

// read reads pieces, newest first, with as many workers as there may be
// requests in flight.
func (f *refresh) read(ctx context.Context, pieces []piece, expected int) error {
	f.progress.expected.Store(int64(expected))
	f.pieces = pieces
	g, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.changed.Broadcast()
	})
	defer stop()
	workers := f.s.Concurrency
	if expected == 1 && !f.discover {
		workers = 1
	}
	for range workers {
		g.Go(func() error { return f.work(ctx) })
	}
	return g.Wait()
}

func (f *refresh) work(ctx context.Context) error {
	for {
		r := f.next(ctx)
		if r == nil {
			return ctx.Err()
		}
		for page, err := range f.api.Pages(ctx, f.query(r.all)) {
			if err != nil {
				return err
			}
			if f.page(r, page) {
				break
			}
		}
		f.end(r)
	}
}

// next waits for a piece to read: one that nobody has begun, or the half of
// one that somebody has. It returns nil when there is nothing left to wait for.
func (f *refresh) next(ctx context.Context) *reader {
	f.mu.Lock()
	defer f.mu.Unlock()
	for ctx.Err() == nil {
		if len(f.pieces) == 0 && len(f.readers) == 0 {
			return nil
		}
		if f.answered || len(f.readers) == 0 {
			if len(f.pieces) == 0 {
				f.takeOver()
			}
			if len(f.pieces) > 0 {
				r := newReader(f.pieces[0])
				f.pieces = f.pieces[1:]
				f.readers = append(f.readers, r)
				return r
			}
		}
		f.changed.Wait()
	}
	return nil
}

// page takes in a page of a reader's list and reports whether the reader needs
// no more of it.
func (f *refresh) page(r *reader, page *twilio.Page) (enough bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.changed.Broadcast()
	f.count(page)
	if !f.answered && f.discover {
		f.resync(r)
	}
	f.answered = true
	f.minutePages++
	r.page(page.Operations, f.w, f.now)
	switch {
	case r.dir == unordered:
		f.disordered()
	case r.dir != unknown && r.pages >= evidence && page.Next == "":
		f.inOrder = true
	}
	if f.discover && page.Next != "" {
		f.divide(r)
	}
	r.finish(r.passed(), f.w, f)
	return page.Next != "" && f.enough(r)
}

// resync sets the window by the API's clock as the first answer shows it. What
// of the window was not asked for becomes a piece.
func (f *refresh) resync(r *reader) {
	f.slide(f.api.Now())
	if f.w.first < r.all.from {
		f.pieces = append(f.pieces, piece{span: span{from: f.w.first, to: r.all.from}})
	}
	r.from, r.all.from = max(r.from, f.w.first), max(r.all.from, f.w.first)
}

// end finishes a reader whose list has ended or is no longer needed.
func (f *refresh) end(r *reader) {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.changed.Broadcast()
	f.saved += 1 - min(1, max(0, float64(r.pages)-float64(r.met)/f.paging.size))
	again := r.end(f.w, f)
	f.finished += r.finished
	f.pieces = append(f.pieces, again...)
	switch {
	case r.left && f.disorder:
		f.distrust(r.all)
	case r.left:
		f.trusted = append(f.trusted, r.all)
	}
	f.readers = slices.DeleteFunc(f.readers, func(o *reader) bool { return o == r })
}
