package window

import (
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"twilio_operations_exporter/twilio"
)

// churn is a world that changes between the pages of a refresh. Each of its
// operations has a digit of its own in the messages of its minute, so that a
// minute's sum tells how often each of them counts.
type churn struct {
	t   *testing.T
	api *fakeAPI

	mu    sync.Mutex
	rnd   *rand.Rand
	ops   map[minute][]*fakeOperation
	still bool      // nothing changes
	start time.Time // when the window was made
	fail  int       // pages until one fails; < 0: none does
	save  int       // pages before that at which the program saves its state; it is then killed, and goes on from there
	w     *Window
	left  *State // what was saved

	flickers bool // the API selects by status, or refuses to, now and then
	refuses  bool // it refuses now
	jumps    bool // its clock goes wrong now and then

	counting bool // there was a refresh that ended well
	peaks    map[minute]Totals
	grown    Totals
}

const (
	churnDigit  = 2   // bits: an operation may count 0 to 3 times
	churnMinute = 20  // operations in a minute, at most
	churnMost   = 120 // operations, at most
)

func newChurn(t *testing.T, seed uint64) *churn {
	rnd := rand.New(rand.NewPCG(seed, 2))
	c := &churn{t: t, rnd: rnd, ops: make(map[minute][]*fakeOperation), fail: -1}
	c.api = &fakeAPI{
		order:     fakeOrders[seed%uint64(len(fakeOrders))],
		exclusive: rnd.IntN(2) == 0,
		repeat:    rnd.IntN(2) == 0,
		between:   c.between,
		fail: func(q twilio.Query) error {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.fail--; c.fail == c.save && c.fail > 0 {
				left := c.w.Save()
				c.left = &left
			}
			if c.fail == 0 {
				return errFake
			}
			if c.refuses && q.Status != "" {
				return &twilio.Error{StatusCode: http.StatusBadRequest}
			}
			return nil
		},
	}
	c.flickers = rnd.IntN(4) == 0
	c.jumps = rnd.IntN(4) == 0
	return c
}

// arrive adds an operation that was created some time ago.
func (c *churn) arrive(ago time.Duration) {
	created := time.Now().Add(-ago)
	m := minuteOf(created)
	k := len(c.ops[m])
	if k == churnMinute {
		return
	}
	status := []twilio.Status{
		twilio.StatusScheduled, twilio.StatusProcessing, twilio.StatusProcessing, twilio.StatusCompleted,
	}[c.rnd.IntN(4)]
	op := newOperation(c.rnd, created, status)
	op.Stats = twilio.Stats{twilio.Total: 1 << (churnDigit * k)}
	op.listed = time.Now()
	c.ops[m] = append(c.ops[m], op)
	c.api.add(op)
}

// move takes one operation a step on.
func (c *churn) move() {
	c.api.change(func(ops []*fakeOperation) {
		if len(ops) == 0 {
			return
		}
		op := ops[c.rnd.IntN(len(ops))]
		switch n := c.rnd.IntN(10); {
		case op.Status == twilio.StatusScheduled && n < 5:
			op.Status = twilio.StatusProcessing
		case op.Status == twilio.StatusScheduled && n < 7:
			op.Status = twilio.StatusCanceled
		case op.Status.Live():
			op.Status = twilio.StatusCompleted
		case n == 0: // live again
			op.Status = twilio.StatusProcessing
		}
	})
}

// between changes the world before a page is listed.
func (c *churn) between(twilio.Query, int) {
	c.mu.Lock()
	still, wait := c.still, time.Duration(c.rnd.Int64N(int64(2*time.Second)))
	c.mu.Unlock()
	if still {
		return
	}
	<-time.After(wait)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.api.forget(time.Now().Add(-2 * time.Hour))
	c.flicker()
	for range c.rnd.IntN(3) {
		c.move()
	}
	switch chance := c.rnd.IntN(6); {
	case len(c.api.byTime) > churnMost:
	case chance == 0:
		c.arrive(0)
	case chance == 1: // listed late
		c.arrive(time.Duration(c.rnd.Int64N(int64(30 * time.Minute))))
	}
}

// flicker changes how the API behaves, now and then.
func (c *churn) flicker() {
	c.api.mu.Lock()
	defer c.api.mu.Unlock()
	if c.flickers && c.rnd.IntN(100) == 0 {
		c.api.unfiltered = c.rnd.IntN(2) == 0
		c.refuses = c.rnd.IntN(2) == 0
	}
	if c.jumps && c.rnd.IntN(50) == 0 {
		c.api.wrong = []time.Duration{0, 0, 2 * time.Minute, 30 * time.Minute, -30 * time.Minute}[c.rnd.IntN(5)]
	}
}

// check decodes each minute of a window that was just published: every
// operation that was listed when a refresh began which read its minute counts
// once, others once or not yet.
func (c *churn) check(w *Window) {
	c.t.Helper()
	snapshot := w.Snapshot()
	var all Totals
	for m, s := range w.each(span{w.first, open}) {
		if s.readAt == never {
			c.t.Fatalf("minute %v was never read", m.time())
		}
		began := c.start.Add(s.readAt)
		sum := s.totals()
		all.merge(&sum)
		for k, op := range c.ops[m] {
			times := sum.Stats[twilio.Total] >> (churnDigit * k) & (1<<churnDigit - 1)
			if times > 1 || times == 0 && op.listed.Before(began) {
				c.t.Fatalf("operation %s of %v (now %s), listed at %v, counts %d times; its minute was read at %v",
					op.ID, op.CreatedAt, op.Status, op.listed, times, began)
			}
		}
	}
	var shown Totals
	for i := range snapshot.Statuses {
		shown.Operations += snapshot.Statuses[i].Operations
		shown.Stats.Add(&snapshot.Statuses[i].Stats)
	}
	if shown.Operations != all.Operations || shown.Stats != all.Stats {
		c.t.Fatalf("the snapshot shows %+v, the minutes hold %+v", shown, all)
	}
	c.named(snapshot)
	c.counters(w)
}

// named checks that each operation that counts as in flight is named, under the same status.
func (c *churn) named(s *Snapshot) {
	c.t.Helper()
	named := make(map[twilio.Status]int64)
	for _, op := range s.InFlight {
		named[op.Status]++
	}
	for i, status := range liveStatuses {
		if count := s.Statuses[i].Operations; named[status] != count {
			c.t.Fatalf("%d operations are %s, and %d are named", count, status, named[status])
		}
	}
	if scheduled := s.Statuses[0].Operations > 0; scheduled != (s.OldestScheduled != nil) {
		c.t.Fatalf("some are scheduled: %t, the oldest is %v", scheduled, s.OldestScheduled)
	}
}

// counters holds the counters against what the minutes have come to, whenever a refresh ended well.
func (c *churn) counters(w *Window) {
	c.t.Helper()
	for m, b := range w.each(span{w.first, open}) {
		sum := b.totals()
		peak := c.peaks[m]
		operations := max(0, sum.Operations-peak.Operations)
		messages := max(0, sum.Stats[twilio.Total]-peak.Stats[twilio.Total])
		peak.Operations += operations
		peak.Stats[twilio.Total] += messages
		c.peaks[m] = peak
		if c.counting {
			c.grown.Operations += operations
			c.grown.Stats[twilio.Total] += messages
		}
	}
	c.counting = true

	s := w.Snapshot()
	tooMany := s.Created > c.grown.Operations || s.Grown[twilio.Total] > c.grown.Stats[twilio.Total]
	same := s.Created == c.grown.Operations && s.Grown == c.grown.Stats
	if tooMany || !same && !c.jumps { // what comes back with a clock is not new
		c.t.Fatalf("counted %d operations and %v, want %d and %v", s.Created, s.Grown, c.grown.Operations, c.grown.Stats)
	}
}

// exact holds a snapshot against the world as it is, in these statuses.
func (c *churn) exact(w *Window, statuses ...twilio.Status) {
	c.t.Helper()
	want := map[twilio.Status]int64{}
	for m, ops := range c.ops {
		for _, op := range ops {
			if m >= w.first {
				want[op.Status]++
			}
		}
	}
	for _, s := range w.Snapshot().Statuses {
		if slices.Contains(statuses, s.Status) && s.Operations != want[s.Status] {
			c.t.Errorf("%d operations are %s, want %d", s.Operations, s.Status, want[s.Status])
		}
	}
}

// The world changes between the pages, and half of the refreshes fail at one of them. No operation is lost, and none
// counts twice.
func TestChangesBetweenPages(t *testing.T) {
	for seed := range *seeds {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { newChurn(t, seed).run() })
		})
	}
}

func (c *churn) run() {
	t := c.t
	o := testOptions()
	o.Length, o.PageSize = 40*time.Minute, 3+c.rnd.IntN(6)
	o.Concurrency = 1 + c.rnd.IntN(4)
	o.Named = c.rnd.IntN(4)
	o.MaxStaleness = []float64{0, 0.1, 1}[c.rnd.IntN(3)]
	c.api.unfiltered = c.rnd.IntN(6) == 0
	for range 60 {
		c.arrive(time.Duration(c.rnd.Int64N(int64(50 * time.Minute))))
	}
	succeeded := 0
	for range 2 { // each begins with a first read
		w := New(o)
		c.start = time.Now()
		c.counting, c.peaks, c.grown = false, make(map[minute]Totals), Totals{}
		for range 40 {
			c.fail = -1
			if c.rnd.IntN(2) == 0 {
				c.fail = 1 + c.rnd.IntN(12)
				c.save = c.rnd.IntN(12)
			}
			c.w, c.left = w, nil
			before := w.Snapshot()
			<-time.After(time.Millisecond) // what is listed is listed before
			started := time.Now()
			switch err := w.Refresh(t.Context(), c.api, &Progress{}); {
			case err == nil:
				succeeded++
				c.check(w)
			case w.Snapshot() != before:
				t.Fatalf("a refresh that failed is shown: %v", err)
			case c.left != nil:
				w = restarted(t, w.options, *c.left)
			}
			<-time.After(max(0, time.Until(started.Add(o.Interval))))
			c.between(twilio.Query{}, 0)
			if c.rnd.IntN(restartOneIn) == 0 || w.Snapshot() == nil && c.rnd.IntN(2) == 0 {
				left := w.Save()
				if c.rnd.IntN(3) == 0 {
					for range c.rnd.IntN(20) {
						<-time.After(time.Minute)
						c.between(twilio.Query{}, 0)
					}
				}
				w = restarted(t, w.options, left)
			}
		}
		c.still, c.fail = true, -1
		c.api.wrong = 0
		for _, tt := range []struct {
			staleness float64
			exact     []twilio.Status
		}{
			{o.MaxStaleness, documented[:2]},
			{0, documented},
		} {
			if w.options.MaxStaleness = tt.staleness; c.api.unfiltered || c.flickers {
				w.options.MaxStaleness = 0
			}
			refreshed(t, w, c.api)
			c.check(w)
			c.exact(w, tt.exact...)
			<-time.After(o.Interval)
		}
		c.still = false
	}
	if succeeded < 20 {
		t.Fatalf("only %d refreshes succeeded", succeeded)
	}
}
