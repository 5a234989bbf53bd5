package window

import (
	"context"
	"iter"
	"slices"
	"sync/atomic"
	"time"

	"twilio_operations_exporter/twilio"
)

// Options say how a window is kept. They are taken as they are: whoever makes them validates them.
type Options struct {
	Length       time.Duration // operations created in the last this long count
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

// Window keeps the sums of the operations created within a time. It is not safe for concurrent use.
type Window struct {
	options  Options
	clock    clock
	statuses statusNames
	first    minute // of buckets[0]
	buckets  []bucket

	number   int // of refreshes begun, those that started over included
	pageSize paging
	maxPages int     // of a piece
	churn    int     // minutes that operations in flight left in the last refresh
	lost     float64 // operations a minute, at least, where lists have broken off since the last good refresh
	// unfiltered is until when, by the window's clock, the API is not asked by status, since it did not select by it.
	unfiltered time.Duration

	published bool
	newest    minute // the newest minute that held operations when it was published
	grown     twilio.Stats
	snapshot  *Snapshot
	// readReplacesDelivered is set once an operation was seen of which more was read than is delivered,
	// readKeepsDelivered once one was seen of which messages must be counted under both.
	readReplacesDelivered, readKeepsDelivered bool
}

// New returns a window that has read nothing.
func New(o Options) *Window {
	return &Window{options: o, clock: newClock(), pageSize: paging(o.PageSize), maxPages: maxPages, newest: -open}
}

// Snapshot is what the last refresh that ended well has left; nil before.
func (w *Window) Snapshot() *Snapshot { return w.snapshot }

// A clock tells the time since it was made. It goes as fast as the faster of the local clocks: the monotonic one stands
// still while the machine is suspended, and the other can be set back.
type clock struct {
	monotonic func() time.Duration
	wall      func() time.Time

	now      time.Duration
	lastMono time.Duration
	lastWall time.Time
}

func newClock() clock {
	start := time.Now()
	return clock{
		monotonic: func() time.Duration { return time.Since(start) },
		wall:      func() time.Time { return time.Now().Round(0) },
		lastWall:  start.Round(0),
	}
}

func (c *clock) read() time.Duration {
	mono, wall := c.monotonic(), c.wall()
	c.now += max(mono-c.lastMono, wall.Sub(c.lastWall))
	c.lastMono, c.lastWall = mono, wall
	return c.now
}

// maxAhead is how far beyond now minutes are kept apart. What is created later, by a clock gone wrong, shares the last.
const maxAhead = minute(24 * 60)

// end is the minute after the last one kept.
func (w *Window) end() minute { return w.first + minute(len(w.buckets)) }

// each goes through the minutes of a span that the window holds.
func (w *Window) each(s span) iter.Seq2[minute, *bucket] {
	return func(yield func(minute, *bucket) bool) {
		for m := max(s.from, w.first); m < min(s.to, w.end()); m++ {
			if !yield(m, &w.buckets[m-w.first]) {
				return
			}
		}
	}
}

// slide moves the window to end at now, by the API's clock. What is in a minute that comes back, or that comes in at
// the old end, as when a clock is set, is not new.
func (w *Window) slide(now time.Time) {
	first, last := minuteOf(now.Add(-w.options.Length)), minuteOf(now)
	switch {
	case len(w.buckets) == 0 || first >= w.end() || last < w.first:
		if len(w.buckets) > 0 && w.published && last < w.first {
			w.newest = max(w.newest, last)
		}
		w.first, w.buckets = first, make([]bucket, 0, last-first+2)
	case first > w.first:
		w.buckets = slices.Delete(w.buckets, 0, int(first-w.first))
	case first < w.first:
		older := slices.Repeat([]bucket{{read: unread, baseline: w.published}}, int(w.first-first))
		w.buckets = slices.Insert(w.buckets, 0, older...)
	}
	w.first = first
	w.extend(last)
	if limit := last + maxAhead + 1; w.end() > limit {
		w.buckets = slices.Delete(w.buckets, int(limit-w.first), len(w.buckets))
	}
}

// extend makes the window hold minute m and those before it.
func (w *Window) extend(m minute) {
	for next := w.end(); next <= m; next++ {
		w.buckets = append(w.buckets, bucket{read: unread, baseline: w.published && next <= w.newest})
	}
}

// hold returns the bucket of minute m. What is in the farthest minute there can be is never counted as new: that goes
// on with the clock.
func (w *Window) hold(m, farthest minute) *bucket {
	w.extend(m)
	b := &w.buckets[m-w.first]
	b.baseline = b.baseline || m == farthest
	return b
}
