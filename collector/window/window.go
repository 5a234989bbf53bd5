package window

import (
	"context"
	"errors"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"twilio_operations_exporter/twilio"
)

// Options configure a window. They are not validated here.
type Options struct {
	Length       time.Duration // how far back operations count, by their creation; at most 7 days
	Interval     time.Duration // between refreshes; 0 = on demand
	MaxStaleness float64       // 0 to 1: how far behind an operation that is done may be, as a fraction of its age
	PageSize     int           // 1 to 1000
	Concurrency  int           // lists read at the same time, at most
	Named        int           // 0 to 20: how many failing, and how many stuck, operations a snapshot names, at most
}

// API is what a window reads; *twilio.Client is one.
type API interface {
	// Pages reads the list that a query selects, from its first page to its last.
	Pages(ctx context.Context, q twilio.Query) iter.Seq2[*twilio.Page, error]
	// Now is the time by the API's clock.
	Now() time.Time
}

// Progress follows a refresh under way.
type Progress struct {
	Read     atomic.Int64 // pages read
	Expected atomic.Int64 // pages read and to be read, as far as is known by now

	OnPage func(operations int)        // called with the length of each page, by any goroutine; may be nil
	Warn   func(msg string, err error) // called with what should be logged as a warning; may be nil
}

// Window keeps the sums of the operations created within a time. One Refresh may run at a time; Save and Snapshot may be
// called meanwhile.
type Window struct {
	options Options

	// mu guards what follows. It is never held across a request. Only Refresh changes the state: while it has no workers,
	// it needs mu to change it, but not to read it.
	mu    sync.Mutex
	clock clock
	state
	restored bool // no page has come since Restore
}

// New returns a window that has read nothing.
func New(o Options) *Window { return &Window{options: o, clock: newClock(), state: newState(o)} }

// Refresh reads what may have changed. When all of it was read, it moves the counters and makes a new snapshot. On an
// error the snapshot stays as it was; pieces that were read to their end are kept, and the next refresh goes on from
// them. Errors are those of the API's Pages, a *[TooManyError], or one that says that the API's clock kept moving.
func (w *Window) Refresh(ctx context.Context, api API, p *Progress) error {
	var h highlights
	var err error
	for range maxStarts {
		h, err = w.try(ctx, api, p)
		if !errors.Is(err, errClockMoved) {
			break
		}
	}

	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.piecePages = max(w.piecePages/2, minPiecePages)
		return err
	}

	w.piecePages = maxPiecePages
	w.brokenDensity = 0
	w.publish()
	w.snapshot = w.snapshotAt(api.Now(), w.options, &h)
	return nil
}

// try makes one attempt at a refresh. It returns the highlights for the snapshot.
func (w *Window) try(ctx context.Context, api API, p *Progress) (highlights, error) {
	w.mu.Lock()
	r := &reader{
		api:        api,
		progress:   p,
		options:    w.options,
		at:         w.clock.tell(),
		now:        api.Now(),
		began:      time.Now(),
		churn:      w.churn,
		paging:     w.fullPage,
		mu:         &w.mu,
		state:      &w.state,
		highlights: highlights{named: w.options.Named},
	}
	if w.restored {
		// A client that was just made does not know the API's clock until a page has come.
		r.now = w.clock.lastWall.Add(w.skew)
	}
	w.begin(w.options.Length, r.now)
	w.mu.Unlock()

	err := r.run(ctx)

	w.mu.Lock()
	defer w.mu.Unlock()
	r.held.drop(r.held.ids)
	if r.heard {
		w.skew = api.Now().Sub(w.clock.wall())
		w.restored = false
	}
	// One odd page must not make the next refresh read crumbs.
	w.fullPage = max(r.learned(), w.fullPage/2)
	return r.highlights, err
}

// Snapshot is that of the last refresh that ended well, or of the state that was restored; nil where there is none. It may
// be called while Refresh runs.
func (w *Window) Snapshot() *Snapshot {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.snapshot
}

// State is all that a window knows, for [Restore]: what a program keeps over a restart. It does not change.
type State struct {
	state
	clock time.Duration // the window's clock
	wall  time.Time     // the wall clock at that time
}

// Save returns the state as it is. It may be called while Refresh runs: the state then has the pieces that were read to
// their end.
func (w *Window) Save() State {
	w.mu.Lock()
	defer w.mu.Unlock()
	return State{state: w.copy(), clock: w.clock.tell(), wall: w.clock.lastWall}
}

// Minutes goes through the minutes of the window up to a time, oldest first: the start of each, and the sums of the
// operations created in it.
func (s State) Minutes(until time.Time) iter.Seq2[time.Time, Totals] {
	return func(yield func(time.Time, Totals) bool) {
		last := minuteOf(until)
		for m, b := range s.each(span{s.first, last + 1}) {
			if !yield(m.time(), b.totals()) {
				return
			}
		}
	}
}

// ErrOld is returned by Restore for a state that was saved longer ago than the window is long.
var ErrOld = errors.New("the state is older than the window")

// Restore returns a window that goes on from a state, with its snapshot and counters. Minutes have aged by the time that
// has passed by the wall clock since the state was saved; if it shows an earlier time, all are due. What has changed
// meanwhile is counted at the first refresh. Options may differ from those of the window that was saved.
func Restore(o Options, s State) (*Window, error) {
	w := New(o)
	if w.clock.lastWall.Sub(s.wall) > o.Length {
		return nil, ErrOld
	}

	w.state = s.copy()
	w.restored = true
	if w.requestedPage != o.PageSize {
		w.requestedPage = o.PageSize
		w.fullPage = paging(o.PageSize)
	}
	if resumed := w.clock.resume(s.clock, s.wall); !resumed {
		for i := range w.buckets {
			w.buckets[i].mark()
		}
	}
	return w, nil
}
