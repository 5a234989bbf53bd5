package window

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"twilio_operations_exporter/twilio"
	"twilio_operations_exporter/twilio/simulator"
)

// fewSeeds is what go test runs; make test runs more of them, and longer.
const fewSeeds = 4

var seeds = flag.Uint64("seeds", fewSeeds, "seeds of the simulated worlds that the window is held against")

// restartOneIn is how many refreshes there are between two restarts, on average.
const restartOneIn = 12

// life is a world whose operations arrive, move on and end, and the brute
// force that a window's numbers are held against: it keeps every operation
// and, for each minute, what the API showed when the minute was last read.
type life struct {
	t   *testing.T
	rnd *rand.Rand
	api *fakeAPI
	w   *Window
	err error // of the last refresh
	// left is what the program saved in the middle of the refresh. If that fails, it is killed, and goes on from there.
	left *State

	shown  map[minute][]shown // what lists had when the minute was last read
	peaks  map[minute]twilio.Stats
	grown  twilio.Stats
	most   map[minute]int64 // operations
	made   int64            // operations that were counted
	round  int              // number of the check under way
	first  bool             // publication
	lavish bool             // what a refresh costs does not matter
	emails emails

	rate func(time.Time) float64 // operations a minute
	// lifetime is how long an operation is live, on average.
	lifetime  time.Duration
	scheduled float64       // share of operations scheduled ahead
	ahead     time.Duration // how far, at most
	early     bool          // some operations are created in the future, by a clock gone wrong
	disagree  bool          // lists and questions do not agree about some operations
	alive     map[string]*fakeOperation
	ends      map[string]time.Time
	starts    map[string]time.Time
}

// emails says whether operations are of e-mails, and whether they tell of attempts and recipients.
type emails int

const (
	noEmails emails = iota
	emailsWithAttempts
	emailsWithoutAttempts
)

// shown is an operation as the API showed it once.
type shown struct {
	*fakeOperation
	as twilio.Operation
}

func newLife(t *testing.T, seed uint64, o Options) *life {
	api := &fakeAPI{}
	return &life{
		t: t, rnd: rand.New(rand.NewPCG(seed, 1)), api: api,
		w:     New(o),
		shown: make(map[minute][]shown),
		peaks: make(map[minute]twilio.Stats),
		most:  make(map[minute]int64),
		first: true,
		alive: make(map[string]*fakeOperation),
		ends:  make(map[string]time.Time), starts: make(map[string]time.Time),
	}
}

// pass lets time go by, the world with it, in steps.
func (l *life) pass(d time.Duration) {
	step := max(30*time.Second, l.w.options.Length/480)
	for d > 0 {
		n := min(d, step)
		<-time.After(n)
		d -= n
		l.live(n)
	}
}

// live moves the world on by what happens in d.
func (l *life) live(d time.Duration) {
	now := l.api.clock()
	l.api.forget(now.Add(-l.w.options.Length - 2*time.Hour))
	expected := l.rate(now) * d.Minutes()
	n := int(expected)
	if l.rnd.Float64() < expected-float64(n) {
		n++
	}
	for range n {
		op := newOperation(l.rnd, now.Add(-time.Duration(l.rnd.Int64N(int64(d)))), twilio.StatusProcessing)
		if l.emails == emailsWithoutAttempts {
			op.Stats[twilio.Attempts], op.Stats[twilio.Recipients] = 0, 0
		}
		begins := op.CreatedAt
		if l.rnd.Float64() < l.scheduled {
			op.Status = twilio.StatusScheduled
			begins = begins.Add(time.Duration(l.rnd.Int64N(int64(l.ahead))))
		}
		if l.early && l.rnd.IntN(40) == 0 {
			op.CreatedAt = op.CreatedAt.Add(time.Duration(l.rnd.Int64N(int64(3 * time.Hour))))
		}
		if l.rnd.IntN(200) == 0 {
			op.listed = op.CreatedAt.Add(time.Duration(l.rnd.Int64N(int64(3 * time.Hour))))
		}
		l.starts[op.ID] = begins
		l.ends[op.ID] = begins.Add(time.Duration(l.rnd.ExpFloat64() * float64(l.lifetime)))
		l.api.add(op)
		l.alive[op.ID] = op
	}
	l.api.change(func(ops []*fakeOperation) {
		for id, op := range l.alive {
			l.move(op, now)
			if !op.Status.Live() {
				delete(l.alive, id)
			}
		}
		// Of the settled ones a few change: late receipts, or a new life.
		for range len(ops) / 500 {
			op := ops[l.rnd.IntN(len(ops))]
			l.moveStats(op, now)
			if !op.Status.Live() && l.rnd.IntN(100) == 0 {
				op.Status = twilio.StatusProcessing
				l.ends[op.ID] = now.Add(time.Duration(l.rnd.ExpFloat64() * float64(l.lifetime)))
				l.alive[op.ID] = op
			}
		}
		if l.disagree {
			l.confuse(ops)
		}
	})
}

// confuse makes lists and questions disagree about some operations, for a while.
func (l *life) confuse(ops []*fakeOperation) {
	for range ceilDiv(len(ops), 200) {
		op := ops[l.rnd.IntN(len(ops))]
		op.view = []view{{}, {}, {unasked: true}, {unlisted: true}, {askedAs: twilio.StatusProcessing}, {askedAs: twilio.StatusCompleted}}[l.rnd.IntN(6)]
	}
}

func (l *life) moveStats(op *fakeOperation, now time.Time) {
	if l.emails == noEmails {
		moveStats(l.rnd, op, now)
	} else {
		moveEmails(l.rnd, op, now)
	}
}

func (l *life) move(op *fakeOperation, now time.Time) {
	switch {
	case op.Status == twilio.StatusScheduled && !now.Before(l.starts[op.ID]):
		op.Status, op.UpdatedAt = twilio.StatusProcessing, now
	case op.Status == twilio.StatusProcessing && !now.Before(l.ends[op.ID]):
		l.moveStats(op, now)
		op.Status = twilio.StatusCompleted
		if l.rnd.IntN(50) == 0 {
			op.Status = twilio.StatusCanceled
		}
		if l.rnd.IntN(300) == 0 {
			op.Status = "PAUSED"
		}
	case l.rnd.IntN(4) == 0:
		l.moveStats(op, now)
	}
}

// restart ends the program and starts it again, sometimes after a while.
func (l *life) restart() {
	left := l.w.Save()
	if l.rnd.IntN(3) == 0 {
		l.pass(time.Duration(l.rnd.Int64N(int64(min(2*time.Hour, l.w.options.Length*3/4)))))
	}
	l.w = restarted(l.t, l.w.options, left)
	l.api.known = false // a new client has seen no Date
}

// refresh runs one refresh while the world stands still, and holds what it shows against the brute force.
func (l *life) refresh() {
	l.t.Helper()
	w := l.w
	before, failed := w.Snapshot(), l.err != nil
	l.api.requests, l.api.status = 0, 0
	l.left = nil
	l.err = w.Refresh(l.t.Context(), l.api, &Progress{})
	if l.err != nil && l.left != nil {
		l.w = restarted(l.t, w.options, *l.left)
		w = l.w
		l.api.known = false
		before = w.Snapshot()
	}

	// What the refresh finished, it read as the world is now, also if it failed.
	started := w.clock.now
	for m, b := range w.each(span{w.first, open}) {
		if b.readAt == started {
			delete(l.shown, m)
		}
	}
	asked := make(map[*fakeOperation]twilio.Operation)
	inWindow := 0
	for _, op := range l.api.byTime {
		m := minuteOf(op.CreatedAt)
		if m < w.first || op.listed.After(l.api.clock()) || l.api.Now().Sub(op.CreatedAt) > retention-retentionSlack {
			continue
		}
		inWindow++
		if as := op.inAnswers(); as != nil && as.Status.Live() && l.api.status > 0 {
			asked[op] = *as
		}
		if b := w.at(m); b != nil && b.readAt == started && !op.unlisted {
			l.shown[m] = append(l.shown[m], shown{op, op.Operation})
		}
	}
	maps.DeleteFunc(l.shown, func(m minute, _ []shown) bool { return m < w.first })
	if l.err != nil {
		if w.Snapshot() != before {
			l.t.Fatalf("a refresh that failed changed what is shown: %v", l.err)
		}
		return
	}

	counted := l.counted(asked)
	live := 0
	for i := range counted {
		if counted[i].as.Status.Live() {
			live++
		}
	}
	l.staleness(started)
	l.sums(w.Snapshot(), counted)
	l.named(w.Snapshot(), counted)
	l.counters(w.Snapshot(), counted)
	if !l.lavish {
		l.budget(inWindow, live, before == nil, failed)
	}
}

// counted are the operations that count: those that the questions of the refresh have shown as they were in flight, and others
// as lists had them when their minutes were last read.
func (l *life) counted(asked map[*fakeOperation]twilio.Operation) (counted []shown) {
	for op, as := range asked {
		counted = append(counted, shown{op, as})
	}
	for _, ops := range l.shown {
		for _, of := range ops {
			if _, isAsked := asked[of.fakeOperation]; !isAsked {
				counted = append(counted, of)
			}
		}
	}
	return counted
}

// staleness checks that every minute was read as late as promised.
func (l *life) staleness(started time.Duration) {
	l.t.Helper()
	for m, b := range l.w.each(span{l.w.first, open}) {
		age := l.api.Now().Sub((m + 1).time())
		most := max(l.w.options.Interval, time.Duration(l.w.options.MaxStaleness*float64(age)))
		if b.readAt == never || started-b.readAt > most {
			l.t.Fatalf("minute of age %v was read %v ago, promised %v", age, started-b.readAt, most)
		}
	}
}

// sums checks every gauge against what the API showed when each minute was
// read, and that every operation counts once.
func (l *life) sums(s *Snapshot, counted []shown) {
	l.t.Helper()
	want := make(map[twilio.Status]*Totals)
	for _, status := range documented {
		want[status] = new(Totals)
	}
	l.round++
	for i := range counted {
		op, as := counted[i].fakeOperation, &counted[i].as
		op.counted = l.round
		if want[as.Status] == nil {
			want[as.Status] = new(Totals)
		}
		want[as.Status].add(&as.Stats)
	}
	got := make(map[twilio.Status]*Totals)
	for _, st := range s.Statuses {
		got[st.Status] = &st.Totals
	}
	if diff := cmp.Diff(want, got); diff != "" {
		l.t.Fatalf("sums differ from the brute force (-want +got):\n%s", diff)
	}
	for _, op := range l.api.byTime { // nothing that was there a good while is missing
		if minuteOf(op.CreatedAt) >= l.w.first && op.listed.IsZero() && l.api.Now().Sub(op.CreatedAt) < retention-2*retentionSlack &&
			op.counted != l.round && op.view == (view{}) && !l.disagree {
			l.t.Fatalf("%s of %v does not count", op.ID, op.CreatedAt)
		}
	}
}

// named checks the operations that a snapshot names, and what it says of those in flight.
func (l *life) named(s *Snapshot, counted []shown) {
	l.t.Helper()
	now := l.api.Now()
	hour := minuteOf(now.Add(-recent))
	var failing, stuck, inFlight, scheduled []*twilio.Operation
	var failingNow int64
	oldest := make(map[twilio.Status]StatusSums)
	for i := range counted {
		op := &counted[i].as
		if Failing(&op.Stats) {
			failing = append(failing, op)
			if op.Status.Live() || minuteOf(op.CreatedAt) >= hour {
				failingNow++
			}
		}
		if !op.Status.Live() {
			continue
		}

		inFlight = append(inFlight, op)
		if op.Status == twilio.StatusScheduled {
			scheduled = append(scheduled, op)
		} else if now.Sub(op.UpdatedAt) >= StuckAfter {
			stuck = append(stuck, op)
		}
		of := oldest[op.Status]
		of.OldestCreated = older(of.OldestCreated, op.CreatedAt)
		of.OldestUpdated = older(of.OldestUpdated, op.UpdatedAt)
		oldest[op.Status] = of
	}

	slices.SortFunc(failing, byUrgency(hour))
	slices.SortFunc(stuck, byUpdate)
	slices.SortFunc(inFlight, bySize)
	slices.SortFunc(scheduled, byCreation)
	shownOf := make(map[twilio.Status]int)
	inFlight = slices.DeleteFunc(inFlight, func(op *twilio.Operation) bool {
		shownOf[op.Status]++
		return shownOf[op.Status] > MaxInFlightShown
	})
	first := func(ops []*twilio.Operation, n int) []*twilio.Operation { return ops[:min(len(ops), n)] }
	same := func(what string, got, want []*twilio.Operation) {
		l.t.Helper()
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), sameOperation); diff != "" {
			l.t.Fatalf("%s differ from the brute force (-want +got):\n%s", what, diff)
		}
	}
	same("failing operations", s.Failing, first(failing, l.w.options.Named))
	same("stuck operations", s.Stuck, first(stuck, l.w.options.Named))
	same("operations in flight", s.InFlight, inFlight)
	var oldestScheduled []*twilio.Operation
	if s.OldestScheduled != nil {
		oldestScheduled = append(oldestScheduled, s.OldestScheduled)
	}
	same("oldest scheduled operations", oldestScheduled, first(scheduled, 1))
	if s.FailingNow != failingNow || s.AllStuck != int64(len(stuck)) {
		l.t.Fatalf("%d failing now and %d stuck, want %d and %d", s.FailingNow, s.AllStuck, failingNow, len(stuck))
	}
	for _, sums := range s.Statuses {
		want := oldest[sums.Status]
		if !sums.OldestCreated.Equal(want.OldestCreated) || !sums.OldestUpdated.Equal(want.OldestUpdated) {
			l.t.Fatalf("the oldest %s is of %v and %v, want %v and %v",
				sums.Status, sums.OldestCreated, sums.OldestUpdated, want.OldestCreated, want.OldestUpdated)
		}
	}
}

func (l *life) counters(s *Snapshot, counted []shown) {
	l.t.Helper()
	sums := make(map[minute]twilio.Stats)
	operations := make(map[minute]int64)
	for i := range counted {
		op := &counted[i].as
		m := minuteOf(op.CreatedAt)
		sum := sums[m]
		sum.Add(&op.Stats)
		sums[m] = sum
		operations[m]++
	}
	for m, sum := range sums {
		peak := l.peaks[m]
		for i := range sum {
			if excess := sum[i] - peak[i]; excess > 0 {
				peak[i] = sum[i]
				if !l.first {
					l.grown[i] += excess
				}
			}
		}
		l.peaks[m] = peak
	}
	for m, n := range operations {
		if excess := n - l.most[m]; excess > 0 {
			l.most[m] = n
			if !l.first {
				l.made += excess
			}
		}
	}
	l.first = false
	if s.Created != l.made {
		l.t.Fatalf("%d operations counted as created, the brute force has %d", s.Created, l.made)
	}
	if diff := cmp.Diff(l.grown, s.Grown); diff != "" {
		l.t.Fatalf("counters differ from the brute force (-want +got):\n%s", diff)
	}
}

// budget checks what the refresh cost.
func (l *life) budget(inWindow, live int, first, failed bool) {
	l.t.Helper()
	size := l.w.options.PageSize
	if l.api.limit > 0 {
		size = min(size, l.api.limit)
	}
	pages := func(n int) int { return max(1, (n+size-1)/size) }
	whole := pages(inWindow)
	if !first && !failed && whole == 1 && l.api.requests != 1 {
		l.t.Fatalf("%d requests where the window's %d operations fit in one page of %d", l.api.requests, inWindow, size)
	}
	share := 0.06
	if failed {
		share = 0.3
	}
	most := whole + l.api.status + max(int(float64(whole)*share), 2*l.w.options.Concurrency)
	if l.api.requests > most {
		l.t.Fatalf("%d requests (%d for statuses), at most %d where the whole window has %d pages (%d live of %d operations)",
			l.api.requests, l.api.status, most, whole, live, inWindow)
	}
}

func steady(perMinute float64) func(time.Time) float64 {
	return func(time.Time) float64 { return perMinute }
}

// nights has a busy day, a quiet night and a burst now and then.
func nights(t time.Time) float64 {
	if h := t.Hour(); h < 7 || h > 21 {
		return 0.1
	}
	if t.Minute() < 3 {
		return 30
	}
	return 4
}

func TestRefreshesAgainstBruteForce(t *testing.T) {
	tests := []struct {
		name      string
		hours     int
		rate      func(time.Time) float64
		lifetime  time.Duration
		scheduled float64
		api       func(*fakeAPI)
		options   func(*Options)
		emails    emails
		failing   float64 // share of refreshes made to fail at some page
		early     bool
		disagree  bool
		outage    bool // hours without an answer, every day
	}{
		{name: "steady", hours: 12, rate: steady(6), lifetime: 3 * time.Minute},
		{name: "nights and scheduled ahead", hours: 24, rate: nights, lifetime: 10 * time.Minute, scheduled: 0.1},
		{
			name:     "oldest first",
			hours:    12,
			rate:     steady(6),
			lifetime: 3 * time.Minute,
			api:      func(a *fakeAPI) { a.order = fakeOldestFirst; a.exclusive = true },
		},
		{
			name:     "no order",
			hours:    12,
			rate:     steady(6),
			lifetime: 3 * time.Minute,
			api:      func(a *fakeAPI) { a.order = simulated(simulator.Shuffled) },
		},
		{
			name:     "pages smaller than asked for",
			hours:    12,
			rate:     steady(3),
			lifetime: 3 * time.Minute,
			api:      func(a *fakeAPI) { a.limit = 4 },
		},
		{name: "e-mails", hours: 12, rate: steady(6), lifetime: 3 * time.Minute, scheduled: 0.1, emails: emailsWithAttempts},
		{
			name:     "e-mails without attempts",
			hours:    12,
			rate:     nights,
			lifetime: 10 * time.Minute,
			emails:   emailsWithoutAttempts,
			failing:  0.2,
		},
		{name: "repeats", hours: 12, rate: steady(6), lifetime: 3 * time.Minute, api: func(a *fakeAPI) { a.repeat = true }},
		{name: "failing half the time", hours: 12, rate: nights, lifetime: 10 * time.Minute, scheduled: 0.1, failing: 0.5},
		{name: "outages", hours: 9, rate: steady(3), lifetime: 10 * time.Minute, outage: true},
		{
			name:     "clock ahead",
			hours:    12,
			rate:     steady(3),
			lifetime: 10 * time.Minute,
			api:      func(a *fakeAPI) { a.skew = 7 * time.Minute },
			failing:  0.1,
		},
		{
			name:     "clock behind",
			hours:    12,
			rate:     steady(3),
			lifetime: 10 * time.Minute,
			api:      func(a *fakeAPI) { a.skew = -7 * time.Minute },
			failing:  0.1,
		},
		{name: "long-lived", hours: 12, rate: steady(2), lifetime: time.Hour, scheduled: 0.3},
		{
			name:     "whole window every time",
			hours:    12,
			rate:     steady(2),
			lifetime: 10 * time.Minute,
			options:  func(o *Options) { o.MaxStaleness = 0 },
		},
		{name: "one page", hours: 24, rate: steady(0.005), lifetime: 10 * time.Minute},
		{
			name:     "a week",
			hours:    200,
			rate:     steady(0.2),
			lifetime: 10 * time.Minute,
			options:  func(o *Options) { o.Interval, o.Length = 5*time.Minute, 168*time.Hour },
		},
		{name: "one worker, seconds", hours: 12, rate: steady(2), lifetime: 10 * time.Minute, options: func(o *Options) {
			o.Concurrency, o.Interval, o.Length = 1, 20*time.Second, 2*time.Hour
		}},
		{
			name:     "hourly",
			hours:    96,
			rate:     steady(2),
			lifetime: 10 * time.Minute,
			options:  func(o *Options) { o.Interval = time.Hour },
		},
		{name: "created ahead of time", hours: 12, rate: steady(3), lifetime: 10 * time.Minute, early: true, failing: 0.2},
		{
			name:      "lists and questions that disagree",
			hours:     12,
			rate:      steady(4),
			lifetime:  10 * time.Minute,
			scheduled: 0.1,
			disagree:  true,
			failing:   0.3,
		},
		{
			name:     "every staleness",
			hours:    12,
			rate:     steady(3),
			lifetime: 10 * time.Minute,
			options:  func(o *Options) { o.MaxStaleness = 1 },
		},
	}
	for _, tt := range tests {
		for seed := range max(1, *seeds/4) {
			t.Run(fmt.Sprintf("%s/%d", tt.name, seed), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					o := testOptions()
					if tt.options != nil {
						tt.options(&o)
					}
					l := newLife(t, seed, o)
					l.rate, l.lifetime, l.scheduled, l.ahead = tt.rate, tt.lifetime, tt.scheduled, o.Length+o.Length/8
					l.emails, l.early, l.disagree = tt.emails, tt.early, tt.disagree
					l.api.order = fakeOrders[seed%uint64(len(fakeOrders))]
					if tt.api != nil {
						tt.api(l.api)
					}
					countdown, saveAt := -1, 0
					l.api.fail = func(twilio.Query) error {
						l.api.mu.Lock()
						defer l.api.mu.Unlock()
						countdown--
						if countdown == saveAt && saveAt > 0 {
							left := l.w.Save()
							l.left = &left
						}
						if countdown == 0 {
							return errFake
						}
						return nil
					}
					l.pass(o.Length + time.Hour)
					length := time.Duration(tt.hours) * time.Hour
					if (*seeds <= fewSeeds || seed > 0) && !tt.outage {
						length /= 6
					}
					for end := time.Now().Add(length); time.Now().Before(end); l.pass(o.Interval) {
						countdown = -1
						if l.rnd.Float64() < tt.failing {
							countdown = 1 + l.rnd.IntN(20)
							saveAt = l.rnd.IntN(20) - 10
						}
						if h := time.Now().Hour(); tt.outage && h >= 3 && h < 7 {
							countdown = 1
						}
						l.refresh()
						if l.rnd.IntN(restartOneIn) == 0 || l.w.Snapshot() == nil && l.rnd.IntN(2) == 0 {
							l.restart()
						}
					}
					if l.w.Snapshot() == nil {
						t.Fatal("no refresh succeeded")
					}
				})
			})
		}
	}
}
