package window

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"twilio_operations_exporter/twilio"
)

const (
	margin         = time.Second        // how much sooner a list begins than its piece: a bound may exclude its second
	kept           = 7 * 24 * time.Hour // how long Twilio keeps operations; older lists "may be incomplete"
	keptSlack      = 2 * time.Second    // how far the API's clock may be off without being corrected
	clockTolerance = time.Minute        // how far it may move during a refresh, apart from the time that passes
	maxStarts      = 4                  // how often a refresh may start over since the clock moved
	filterRetry    = time.Hour          // until the API is asked by status again that has not selected by it
)

var (
	errUnfiltered = errors.New("operations of other statuses were listed")
	errClockMoved = fmt.Errorf("the API's clock moved by more than %v in each of %d attempts", clockTolerance, maxStarts)
)

// Refresh reads what may have changed. When all of it was read, it moves the counters and makes a new snapshot. On an
// error nothing that is shown has changed; the minutes that were read to their end need not be read again soon. Errors
// are those of the API's Pages.
func (w *Window) Refresh(ctx context.Context, api API, p *Progress) error {
	err := errClockMoved
	for n := 0; n < maxStarts && errors.Is(err, errClockMoved); n++ {
		err = w.refresh(ctx, api, p)
	}
	if err != nil {
		w.maxPages = max(w.maxPages/2, minPages)
		return err
	}
	w.maxPages, w.lost = maxPages, 0
	w.publish()
	w.snapshot = w.snapshotAt(api.Now())
	return nil
}

// refresh is one try to read what is due. Its workers share it and the window under mu, which is never held across a
// request.
type refresh struct {
	api      API
	progress *Progress
	at       time.Duration // the start, by the window's clock
	now      time.Time     // the start, by the API's clock
	began    time.Time     // the start, on the monotonic clock
	paging   paging

	mu    sync.Mutex
	w     *Window
	queue []piece

	rest     span    // of a window of which nothing is known, what no worker has taken yet
	density  float64 // operations a minute, as its first page has it
	carved   int     // pieces of it
	answered bool    // the API has answered this refresh
	churn    int
	fullest  int  // operations on the fullest page
	more     bool // some page had a next one
}

func (w *Window) refresh(ctx context.Context, api API, p *Progress) error {
	w.number++
	f := &refresh{
		api: api, progress: p, at: w.clock.read(), now: api.Now(), began: time.Now(),
		paging: w.pageSize, w: w,
	}
	w.slide(f.now)
	err := f.run(ctx)
	w.churn = f.churn
	// One odd page is not to make the next refresh ask for crumbs.
	w.pageSize = max(f.learned(), w.pageSize/2)
	return err
}

func (f *refresh) run(ctx context.Context) error {
	w := f.w
	whole := piece{span: span{w.first, open}}
	operations, read := w.known()
	if operations == 0 || operations <= float64(w.pageSize) && 2*read < len(w.buckets) {
		return f.discover(ctx, whole.span) // too little is known to plan by
	}
	density := operations / float64(max(1, read))
	states := w.states(f.now, f.at, max(density, w.lost))
	for _, s := range states {
		whole.operations += s.operations
	}
	all := f.paging.pages(whole.operations)
	due := plan(w.first, states, f.paging)
	questions := f.questions(whole)
	churn := f.paging.pages(density*float64(w.churn)) - 1
	filters := f.at >= w.unfiltered
	ask := filters && len(questions)+f.paging.allPages(due)+churn < all
	if ask {
		f.expect(len(questions) + f.paging.allPages(due))
		if err := f.ask(ctx, questions); err != nil {
			return err
		}
		states = w.states(f.now, f.at, max(density, w.lost))
		due = plan(w.first, states, f.paging)
	}
	if filters && !ask || f.paging.allPages(due) >= all {
		due = []piece{whole}
	}
	f.expect(f.paging.allPages(due))
	return f.readAll(ctx, f.cut(due, func(m minute) float64 { return states[m-w.first].operations }))
}

// questions are the pieces that ask for operations in flight, by status. They are read side by side, and in whatever
// order: see leave.
func (f *refresh) questions(whole piece) (pieces []piece) {
	for _, status := range documented[:2] {
		counts := make([]float64, len(f.w.buckets))
		asked := piece{span: whole.span, status: status}
		for i := range f.w.buckets {
			for _, op := range f.w.buckets[i].get().inFlight {
				if op.Status == status {
					counts[i]++
					asked.operations++
				}
			}
		}
		pieces = append(pieces, f.cut([]piece{asked}, func(m minute) float64 { return counts[m-f.w.first] })...)
	}
	return pieces
}

func (f *refresh) cut(whole []piece, count func(minute) float64) []piece {
	return cut(whole, count, f.w.end(), f.w.options.Concurrency, f.w.maxPages, f.paging)
}

// ask reads the operations in flight. An API that does not select by status is asked again after filterRetry; until
// then minutes with operations in flight are due at every refresh.
func (f *refresh) ask(ctx context.Context, questions []piece) error {
	err := f.readAll(ctx, questions)
	if err == nil {
		f.leave()
		return nil
	}
	refused, ok := errors.AsType[*twilio.Error](err)
	if !errors.Is(err, errUnfiltered) && (!ok || refused.StatusCode != http.StatusBadRequest) {
		return err
	}
	f.w.unfiltered = f.at + filterRetry
	if f.progress.Warn != nil {
		f.progress.Warn("the API does not select operations by status, reading all minutes with some in flight", err)
	}
	return nil
}

// leave drops the operations in flight that no answer has shown, and marks their minutes: they stand there as something
// else now, or slipped through between the two questions.
func (f *refresh) leave() {
	for i := range f.w.buckets {
		b := &f.w.buckets[i]
		if b.leave(func(op inFlight) bool { return op.seen != f.w.number }) {
			b.dirty = true
			f.churn++
		}
	}
}

// readAll has the workers read pieces, and what there is of rest. The first request of a refresh goes alone:
// credentials that are refused are not to be tried by each worker.
func (f *refresh) readAll(ctx context.Context, pieces []piece) error {
	f.queue = pieces
	g, ctx := errgroup.WithContext(ctx)
	var startOthers func()
	work := func() error {
		for p, ok := f.next(); ok; p, ok = f.next() {
			if err := f.list(ctx, p, func(*twilio.Page) bool { startOthers(); return false }); err != nil {
				return err
			}
		}
		return nil
	}
	startOthers = sync.OnceFunc(func() {
		for range f.w.options.Concurrency - 1 {
			g.Go(work)
		}
	})
	if f.answered {
		startOthers()
	}
	g.Go(work)
	return g.Wait()
}

// list reads the list of a piece to its end, unless leave says after a page that it is not needed.
func (f *refresh) list(ctx context.Context, p piece, leave func(*twilio.Page) bool) error {
	r := f.newReading(p)
	for page, err := range f.api.Pages(ctx, f.query(p)) {
		if err == nil {
			err = f.page(r, page)
		}
		if err != nil {
			f.lost(r)
			return err
		}
		if leave(page) {
			return nil
		}
	}
	f.finish(r)
	return nil
}

// lost keeps of a list that broke off how dense its piece is at least: the next try cuts by that.
func (f *refresh) lost(r *reading) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if minutes := min(r.to, f.w.end()) - max(r.from, f.w.first); r.status == "" && minutes > 0 {
		f.w.lost = max(f.w.lost, float64(len(r.ids))/float64(minutes))
	}
}

// next takes the next piece.
func (f *refresh) next() (p piece, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.rest.from < f.rest.to {
		return piece{span: f.carve()}, true
	}
	if ok = len(f.queue) > 0; ok {
		p, f.queue = f.queue[0], f.queue[1:]
	}
	return p, ok
}

// discover reads a window of which nothing is known: a list of one page, or, by the density that the first page shows,
// pieces that are cut off the newer end as workers come for them.
func (f *refresh) discover(ctx context.Context, whole span) error {
	f.expect(1)
	err := f.list(ctx, piece{span: whole}, func(page *twilio.Page) bool {
		if density, ok := density(page.Operations); ok && page.Next != "" {
			f.rest, f.density, f.paging = whole, density, f.learned()
		}
		return f.rest.to > 0
	})
	if err != nil || f.rest.to == 0 {
		return err
	}
	f.expect(f.paging.pages(f.density * float64(len(f.w.buckets))))
	return f.readAll(ctx, nil)
}

// carve cuts a piece off the newer end of rest: there are about two for each worker, or more, of maxPages pages each.
// However few operations are expected, none is so wide that a worker could be left alone with most of them; as long as
// nothing is measured, failures make them narrower still.
func (f *refresh) carve() span {
	w, length := f.w, float64(len(f.w.buckets))
	operations, read := w.known()
	density := f.density
	if read > 0 {
		density = max(operations, 1) / float64(read)
	}
	density = max(density, w.lost)
	perMinute := density / (float64(f.paging) * fill) // pages
	pieces := 2 * float64(w.options.Concurrency)
	end := min(f.rest.to, w.end())
	rest := float64(end - f.rest.from)
	width := min(length/pieces, float64(w.maxPages)/perMinute)
	width = rest / max(math.Round(rest/width), 1) // without a small one at the end
	if read == 0 {
		width = min(width, length/pieces*float64(w.maxPages)/maxPages)
	} else {
		// Each piece may have a page that is not full. If the first ones were too narrow, the others are wider.
		most := max(pieces, 1.25*perMinute*length/float64(w.maxPages))
		width = max(width, rest/max(most-float64(f.carved), 1))
	}
	f.carved++
	s := span{max(f.rest.from, end-minute(math.Ceil(width))), f.rest.to}
	f.rest.to = s.from
	return s
}

// query asks for a piece, by the API's clock at this time.
func (f *refresh) query(p piece) twilio.Query {
	q := twilio.Query{PageSize: f.w.options.PageSize, Status: p.status, StartDate: p.from.time().Add(-margin)}
	if oldest := f.api.Now().Add(keptSlack - kept); q.StartDate.Before(oldest) {
		q.StartDate = oldest
	}
	if p.to != open {
		q.EndDate = p.to.time()
		if !q.EndDate.After(q.StartDate) { // it went out of reach meanwhile
			q.EndDate = q.StartDate.Add(margin)
		}
	}
	return q
}

// page takes in a page of a piece's list.
func (f *refresh) page(r *reading, page *twilio.Page) error {
	f.progress.Read.Add(1)
	if f.progress.OnPage != nil {
		f.progress.OnPage(len(page.Operations))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answered = true
	f.fullest = max(f.fullest, len(page.Operations))
	f.more = f.more || page.Next != ""
	if f.clockMoved() {
		return errClockMoved
	}
	others := 0
	for i := range page.Operations {
		op := &page.Operations[i]
		switch {
		case r.status == "":
			r.add(op)
		case op.Status.Live():
			f.join(op)
		}
		if op.Status != r.status {
			others++
		}
	}
	// A few may have moved on since the API selected them.
	if r.status != "" && page.Next != "" && 2*others > len(page.Operations) {
		return errUnfiltered
	}
	return nil
}

// clockMoved reports whether the API's clock is not where it was expected, or, before the first refresh that ends well,
// whether the window reaches further back by it.
func (f *refresh) clockMoved() bool {
	now := f.api.Now()
	moved := now.Sub(f.now) - time.Since(f.began)
	return moved.Abs() > clockTolerance ||
		!f.w.published && minuteOf(now.Add(-f.w.options.Length)) < f.w.first
}

// join takes in an operation that the API has just called in flight. Its minute is marked if that may hold it as
// something else, or if the two questions do not agree.
func (f *refresh) join(op *twilio.Operation) {
	m := min(minuteOf(op.CreatedAt), f.farthest())
	if m < f.w.first {
		return
	}
	b := f.w.hold(m, f.farthest())
	if known, ok := b.get().inFlight[op.ID]; ok {
		b.dirty = b.dirty || known.seen == f.w.number && known.Status != op.Status
	} else {
		b.dirty = b.dirty || b.read != unread
	}
	b.fill()
	b.join(op, f.w.number)
}

// finish writes what a list that has ended has shown to the window.
func (f *refresh) finish(r *reading) {
	if r.status != "" {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for m, read := range r.minutes {
		f.w.hold(m, f.farthest())
		read.failing = first(read.failing, f.w.options.Named, byLost)
	}
	for m, b := range f.w.each(r.span) {
		if b.replace(r.minutes[m], r.met, f.at, f.w.number) {
			f.churn++
		}
		b.dirty = m == f.farthest() // it holds what is of later minutes, too
	}
}

func (f *refresh) farthest() minute { return minuteOf(f.now) + maxAhead }

// learned is how full pages are: the API may put fewer operations on a page than were asked for.
func (f *refresh) learned() paging {
	if f.more || paging(f.fullest) > f.paging {
		return paging(max(f.fullest, 1))
	}
	return f.paging
}

// expect so many pages beyond those read, also those read before the refresh started over.
func (f *refresh) expect(pages int) { f.progress.Expected.Store(f.progress.Read.Load() + int64(pages)) }
