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

// Options say how a window is kept. They are taken as they are: whoever makes them validates them.
type Options struct {
	Length       time.Duration // operations created in the last this long count; at most 7 days
	Interval     time.Duration // between refreshes; 0 = whenever asked for
	MaxStaleness float64       // 0 to 1: how far behind an operation that is done may be, as a share of its age
	PageSize     int           // 1 to 1000
	Concurrency  int           // lists read at the same time, at most
	Named        int           // operations in each list of a snapshot that names some
}

// API is what a window reads; *twilio.Client is one.
type API interface {
	// Pages reads the list that a query selects, from its first page to its last.
	Pages(ctx context.Context, q twilio.Query) iter.Seq2[*twilio.Page, error]
	// Now is the time by the API's clock.
	Now() time.Time
}

// Progress tells of a refresh under way. Both functions may be nil.
type Progress struct {
	Read, Expected atomic.Int64                // pages; those expected as far as is known by now
	OnPage         func(operations int)        // is told of each page
	Warn           func(msg string, err error) // is told of what whoever runs this should know
}

// Window keeps the sums of the operations created within a time. One Refresh may run at a time; Save and Snapshot may be
// called meanwhile.
type Window struct {
	options Options

	// mu guards what follows, and is held while something is computed, never across a request. Only Refresh changes the
	// state: between its workers' turns it reads it without mu.
	mu    sync.Mutex
	clock clock
	state
	restored bool // no answer has come since Restore
}

// New returns a window that has read nothing.
func New(o Options) *Window { return &Window{options: o, clock: newClock(), state: newState(o)} }

// Refresh reads what may have changed. When all of it was read, it moves the counters and makes a new snapshot. On an
// error nothing that is shown has changed; the minutes that were read to their end need not be read again soon. Errors
// are those of the API's Pages, a *[TooManyError], or one that says that the API's clock did not keep still.
func (w *Window) Refresh(ctx context.Context, api API, p *Progress) error {
	err := errClockMoved
	for n := 0; n < maxStarts && errors.Is(err, errClockMoved); n++ {
		err = w.try(ctx, api, p)
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
	w.snapshot = w.snapshotAt(api.Now(), w.options)
	return nil
}

// try reads what is due once, up to the end or to an error.
func (w *Window) try(ctx context.Context, api API, p *Progress) error {
	w.mu.Lock()
	r := &reader{
		api: api, progress: p, options: w.options,
		at: w.clock.tell(), now: api.Now(), began: time.Now(),
		mu: &w.mu, state: &w.state, paging: w.fullPage, churn: w.churn,
	}
	if w.restored {
		// A client that was just made does not know the API's clock until there is an answer.
		r.now = w.clock.lastWall.Add(w.skew)
	}
	w.begin(w.options.Length, r.now)
	w.mu.Unlock()

	err := r.run(ctx)

	w.mu.Lock()
	defer w.mu.Unlock()
	if r.heard {
		w.skew = api.Now().Sub(w.clock.wall())
		w.restored = false
	}
	// One odd page must not make the next refresh read crumbs.
	w.fullPage = max(r.learned(), w.fullPage/2)
	return err
}

// Snapshot is what the last refresh that ended well has left, before a restart if need be; nil before the first. It may
// be called while Refresh runs.
func (w *Window) Snapshot() *Snapshot {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.snapshot
}

// State is all that a window knows, for another window to go on from: what a program keeps over a restart. It does not
// change.
type State struct {
	state
	clock time.Duration // the window's clock
	wall  time.Time     // the wall clock at that time
}

// Save returns what the window knows by now. It may be called while Refresh runs, and then has the pieces that were read
// to their end.
func (w *Window) Save() State {
	w.mu.Lock()
	defer w.mu.Unlock()
	return State{state: w.copy(), clock: w.clock.tell(), wall: w.clock.lastWall}
}

// ErrOld is the error of Restore for a state that was saved longer ago than the window is long.
var ErrOld = errors.New("the state was saved longer ago than the window is long")

// Restore returns a window that goes on from what another knew. Its snapshot and its counters are that one's; minutes
// have aged by the time that has passed since by the wall clock, and all are due if that is before the state was saved.
// What has changed meanwhile is counted at the first refresh. Options may differ from those of the other window.
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
