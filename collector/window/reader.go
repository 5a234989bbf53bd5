package window

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"twilio_operations_exporter/twilio"
)

const (
	margin         = time.Second        // how much earlier a list begins than its piece: a bound may exclude its second
	retention      = 7 * 24 * time.Hour // how long Twilio keeps operations; older lists "may be incomplete"
	retentionSlack = 2 * time.Second    // how far the API's clock may be off without being corrected
	clockTolerance = time.Minute        // how far it may move during a refresh, apart from the time that passes
	maxStarts      = 4                  // attempts at a refresh while the clock moves
	filterRetry    = time.Hour          // how long an API that does not select by status is not asked to
)

var (
	errUnfiltered = errors.New("operations of other statuses were listed")
	errClockMoved = fmt.Errorf("the API's clock moved by more than %v in each of %d attempts", clockTolerance, maxStarts)
)

// reader is one attempt at a refresh. It has workers read what is due from the API, and hands each list to the state.
type reader struct {
	// These do not change.
	api      API
	progress *Progress
	options  Options
	at       time.Duration // the start, by the window's clock
	now      time.Time     // the start, by the API's clock
	began    time.Time     // the start, on the monotonic clock
	churn    int           // state.churn of the refresh before

	// These change when there are no workers, who only read them.
	paging   paging
	answered idSet // operations that the answers have shown; nil where the refresh has none

	// mu is the window's. While there are workers, it guards all that follows and the source of their pieces. While there
	// are none, only changes of the state need it, as Save may read it.
	mu         *sync.Mutex
	state      *state
	highlights highlights // of the answers, and of the lists that have ended
	heard      bool       // a page has come: the API answers, and its clock is known
	fullest    int        // operations on the fullest page so far
	more       bool       // some page had a next one: pages are as full as the API makes them
	answers    *answers   // of the questions; nil where they were not asked, or have failed
	listed     int        // operations, repeated ones included
	held       held       // the ids of answers, and of the lists under way
}

// run reads what is due, after the operations in flight, or the whole window where that takes fewer requests.
func (r *reader) run(ctx context.Context) error {
	known, minutes := r.state.known()
	fewKnown := known <= float64(r.paging) && 2*minutes < len(r.state.buckets)
	if known == 0 || fewKnown {
		return r.discover(ctx) // too little is known to plan by
	}

	density := known / float64(max(1, minutes))
	unread := max(density, r.state.brokenDensity)
	expected := outlooks(r.state, &r.options, r.now, r.at, unread)
	due := plan(r.state.first, expected, r.paging)
	whole := piece{span: span{r.state.first, open}}
	for _, m := range expected {
		whole.operations += m.operations
	}
	pagesOfWhole := r.paging.pages(whole.operations)

	if r.state.asksByStatus(r.at) {
		questions := r.questions(whole.span)
		pages := len(questions) + r.paging.allPages(due)
		// The answers make minutes due: about as many as the last time.
		churned := r.paging.pages(density*float64(r.churn)) - 1
		if pages+churned >= pagesOfWhole {
			return r.readPieces(ctx, []piece{whole}, expected)
		}

		r.expect(pages)
		if err := r.ask(ctx, questions); err != nil {
			return err
		}
		expected = outlooks(r.state, &r.options, r.now, r.at, unread)
		due = plan(r.state.first, expected, r.paging)
	}

	if r.paging.allPages(due) >= pagesOfWhole {
		due = []piece{whole}
	}
	return r.readPieces(ctx, due, expected)
}

// readPieces reads pieces, cut into smaller ones by what is expected of their minutes.
func (r *reader) readPieces(ctx context.Context, pieces []piece, expected []outlook) error {
	r.expect(r.paging.allPages(pieces))
	count := func(m minute) float64 { return expected[m-r.state.first].operations }
	return r.readAll(ctx, queue(r.cut(pieces, count)), r.list)
}

// questions are the pieces that ask for operations in flight, by status. They are read side by side, in any order: one that
// changes its status meanwhile counts once, as it was shown first, and one that slips through marks its minute.
func (r *reader) questions(whole span) (pieces []piece) {
	for _, status := range liveStatuses {
		counts := make([]float64, len(r.state.buckets))
		question := piece{span: whole, status: status}
		for i := range r.state.buckets {
			for _, of := range r.state.buckets[i].get().live {
				if of.status == status {
					counts[i] = float64(of.Operations)
					question.operations += counts[i]
				}
			}
		}
		count := func(m minute) float64 { return counts[m-r.state.first] }
		pieces = append(pieces, r.cut([]piece{question}, count)...)
	}
	return pieces
}

// cut cuts pieces for the workers; count tells how many operations to expect in a minute.
func (r *reader) cut(whole []piece, count func(minute) float64) []piece {
	return cut(whole, count, r.state.end(), r.options.Concurrency, r.state.piecePages, r.paging)
}

// ask reads the operations in flight. An API that does not select by status is asked again after filterRetry; until
// then minutes with operations in flight are due at every refresh.
func (r *reader) ask(ctx context.Context, questions []piece) error {
	r.answers = &answers{
		findings: newFindings(r.options.Named),
		within:   span{r.state.first, open},
		farthest: r.farthest(),
	}
	err := r.readAll(ctx, queue(questions), r.question)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		r.state.answer(r.answers)
		r.highlights = r.answers.highlights
		r.answered = r.answers.ids
		return nil
	}

	r.held.drop(len(r.answers.ids))
	r.answers = nil
	apiError, ok := errors.AsType[*twilio.Error](err)
	refused := ok && apiError.StatusCode == http.StatusBadRequest
	if !refused && !errors.Is(err, errUnfiltered) {
		return err
	}
	r.state.unfiltered = r.at + filterRetry
	if r.progress.Warn != nil {
		r.progress.Warn("the API does not select operations by status, reading all minutes with some in flight", err)
	}
	return nil
}

// discover reads a window of which nothing is known: as one list, or, if its first page has a next one and tells how
// dense operations are, in pieces that are carved off it.
func (r *reader) discover(ctx context.Context) error {
	whole := span{r.state.first, open}
	var rest *uncharted
	readOn := func(page *twilio.Page) bool {
		perMinute, ok := densityOf(page.Operations)
		if !ok || page.Next == "" {
			return true
		}

		r.paging = r.learned()
		rest = &uncharted{
			span:     whole,
			paging:   r.paging,
			workers:  r.options.Concurrency,
			maxPages: r.state.piecePages,
			density:  perMinute,
			atLeast:  r.state.brokenDensity,
		}
		return false
	}

	r.expect(1)
	err := r.list(ctx, piece{span: whole}, readOn)
	if err != nil || rest == nil {
		return err
	}

	r.expect(r.paging.pages(rest.density * float64(len(r.state.buckets))))
	carved := func() (piece, bool) {
		if rest.from >= rest.to {
			return piece{}, false
		}
		known, minutes := r.state.known()
		return piece{span: rest.carve(r.state.end(), len(r.state.buckets), known, minutes)}, true
	}
	return r.readAll(ctx, carved, r.list)
}

// source hands out the next piece to read, until there is none. It is called with reader.mu held.
type source func() (p piece, ok bool)

// queue hands out pieces one after another.
func queue(pieces []piece) source {
	return func() (p piece, ok bool) {
		if len(pieces) == 0 {
			return piece{}, false
		}
		p = pieces[0]
		pieces = pieces[1:]
		return p, true
	}
}

// readAll has the workers read pieces, as list or question do. The first request of a refresh goes alone: credentials that
// are refused are not to be tried by each worker.
func (r *reader) readAll(ctx context.Context, from source, read readFunc) error {
	g, ctx := errgroup.WithContext(ctx)
	var startOthers func()
	work := func() error {
		readOn := func(*twilio.Page) bool {
			startOthers()
			return true
		}
		for {
			p, ok := r.next(from)
			if !ok {
				return nil
			}
			if err := read(ctx, p, readOn); err != nil {
				return err
			}
		}
	}
	startOthers = sync.OnceFunc(func() {
		for range r.options.Concurrency - 1 {
			g.Go(work)
		}
	})

	if r.heard {
		startOthers()
	}
	g.Go(work)
	return g.Wait()
}

// next takes a piece from a source.
func (r *reader) next(from source) (piece, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return from()
}

// readFunc reads the list of a piece. After each page it asks whether to read on.
type readFunc func(ctx context.Context, p piece, readOn func(*twilio.Page) bool) error

// list reads the list of a piece to its end and hands it to the state. If it is not to read on, it drops what it has read.
func (r *reader) list(ctx context.Context, p piece, readOn func(*twilio.Page) bool) error {
	gathered := r.newReading(p.span)
	defer r.release(gathered)
	for page, err := range r.api.Pages(ctx, r.query(p)) {
		if err == nil {
			err = r.take(gathered, page)
		}
		if err != nil {
			r.brokeOff(gathered)
			return err
		}
		if !readOn(page) {
			return nil
		}
	}
	r.finish(gathered)
	return nil
}

// question reads the list of a question for the answers.
func (r *reader) question(ctx context.Context, p piece, readOn func(*twilio.Page) bool) error {
	for page, err := range r.api.Pages(ctx, r.query(p)) {
		if err == nil {
			err = r.takeAnswer(p.status, page)
		}
		if err != nil || !readOn(page) {
			return err
		}
	}
	return nil
}

func (r *reader) newReading(of span) *reading {
	r.mu.Lock()
	defer r.mu.Unlock()
	return &reading{
		findings: newFindings(r.options.Named),
		span:     of,
		farthest: r.farthest(),
		statuses: slices.Clone(r.state.statuses),
		answered: r.answered,
	}
}

// query asks for a piece, as far as Twilio keeps operations by now.
func (r *reader) query(p piece) twilio.Query {
	q := twilio.Query{PageSize: r.options.PageSize, Status: p.status, StartDate: p.from.time().Add(-margin)}

	now := r.api.Now()
	expected := r.now.Add(time.Since(r.began))
	if now.Sub(expected) > clockTolerance {
		now = expected // after a restart, no page has told the API's clock yet
	}
	oldest := now.Add(retentionSlack - retention)
	if q.StartDate.Before(oldest) {
		q.StartDate = oldest
	}

	if p.to == open {
		return q
	}
	q.EndDate = p.to.time()
	outOfReach := !q.EndDate.After(q.StartDate)
	if outOfReach {
		q.EndDate = q.StartDate.Add(margin)
	}
	return q
}

// take takes in a page of a piece's list.
func (r *reader) take(l *reading, page *twilio.Page) error {
	if err := r.learn(page); err != nil {
		return err
	}

	before := len(l.ids)
	now := r.api.Now()
	for i := range page.Operations {
		l.add(&page.Operations[i], now)
	}
	return r.hold(len(l.ids) - before)
}

// learn keeps what a page tells, of any list.
func (r *reader) learn(page *twilio.Page) error {
	r.progress.Read.Add(1)
	if r.progress.OnPage != nil {
		r.progress.OnPage(len(page.Operations))
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	r.heard = true
	r.fullest = max(r.fullest, len(page.Operations))
	r.more = r.more || page.Next != ""
	if r.clockMoved() {
		return errClockMoved
	}

	r.listed += len(page.Operations)
	if most := MaxOperations(r.options.Length); r.listed > most {
		return &TooManyError{Most: most}
	}
	return nil
}

// hold counts ids that a list has shown, until release.
func (r *reader) hold(ids int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.held.add(ids)
}

// takeAnswer takes in a page of the operations of a status.
func (r *reader) takeAnswer(status twilio.Status, page *twilio.Page) error {
	if err := r.learn(page); err != nil {
		return err
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	before := len(r.answers.ids)
	now := r.api.Now()
	others := 0
	for i := range page.Operations {
		op := &page.Operations[i]
		if op.Status != status {
			others++
		}
		if op.Status.Live() {
			r.answers.add(op, now)
		}
	}

	if err := r.held.add(len(r.answers.ids) - before); err != nil {
		return err
	}

	// A few may have moved on since the API selected them.
	if page.Next != "" && 2*others > len(page.Operations) {
		return errUnfiltered
	}
	return nil
}

// clockMoved reports whether the API's clock is not where it was expected. Before the first refresh that ends well it is
// enough that the window reaches further back by it: that refresh would not read all of the window.
func (r *reader) clockMoved() bool {
	now := r.api.Now()
	moved := now.Sub(r.now) - time.Since(r.began)
	oldest := minuteOf(now.Add(-r.options.Length))
	leavesOut := !r.state.published && oldest < r.state.first
	return leavesOut || moved.Abs() > clockTolerance
}

// brokeOff keeps how dense a piece is at least, by its list that broke off: the next refresh expects that of minutes never
// read.
func (r *reader) brokeOff(l *reading) {
	r.mu.Lock()
	defer r.mu.Unlock()
	minutes := min(l.to, r.state.end()) - max(l.from, r.state.first)
	if minutes <= 0 {
		return
	}

	density := float64(len(l.ids)) / float64(minutes)
	r.state.brokenDensity = max(r.state.brokenDensity, density)
}

// finish hands a list that has ended to the state.
func (r *reader) finish(l *reading) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state.apply(l, r.answered != nil, r.at)
	r.highlights.merge(&l.highlights)
}

// release lets go of the ids of a list.
func (r *reader) release(l *reading) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held.drop(len(l.ids))
}

// farthest is the last minute that has a bucket of its own: later ones share it.
func (r *reader) farthest() minute { return minuteOf(r.now) + maxAhead }

// learned is how full pages are: the API may put fewer operations on a page than were asked for.
func (r *reader) learned() paging {
	if r.more || paging(r.fullest) > r.paging {
		return paging(max(r.fullest, 1))
	}
	return r.paging
}

// expect says that this many pages are to come, beyond those read, also before the refresh started over.
func (r *reader) expect(pages int) { r.progress.Expected.Store(r.progress.Read.Load() + int64(pages)) }
