package window

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"twilio_operations_exporter/twilio"
	"twilio_operations_exporter/twilio/simulator"
)

// fakeOperation is an operation of the fake API.
type fakeOperation struct {
	twilio.Operation
	listed time.Time // hidden from lists before
	view

	counted int // number of the last check that found it
}

// view is how lists and questions disagree about an operation.
type view struct {
	unlisted bool          // lists leave it off
	unasked  bool          // answers to questions for a status leave it off
	askedAs  twilio.Status // its status in those answers, if not its own
}

// inAnswers is an operation as answers to questions for its status show it, nil if they do not.
func (op *fakeOperation) inAnswers() *twilio.Operation {
	switch op.askedAs {
	case "", op.Status:
		if op.unasked {
			return nil
		}
		return &op.Operation
	}
	other := op.Operation
	other.Status = op.askedAs
	return &other
}

// fakeOrder is how a list is sorted, by an operation and its creation.
type fakeOrder struct {
	name string
	less func(a, b *twilio.Operation) int
}

func (o fakeOrder) String() string { return o.name }

// simulated is an order of the simulator.
func simulated(order simulator.Order) fakeOrder { return fakeOrder{order.String(), order.Compare} }

// grouped is so many lists one after the other, each in an order.
func grouped(n uint64, order simulator.Order) fakeOrder {
	return fakeOrder{fmt.Sprintf("%d lists one after the other, each %v", n, order), func(a, b *twilio.Operation) int {
		return cmp.Or(cmp.Compare(mix(a.ID)%n, mix(b.ID)%n), order.Compare(a, b))
	}}
}

// jittered is the newest first but for 300 ms, with one in so many a minute away from its place.
func jittered(displacedOneIn uint64) fakeOrder {
	at := func(op *twilio.Operation) time.Time {
		h := mix(op.ID)
		t := op.CreatedAt.Add(time.Duration(h%300) * time.Millisecond)
		if h%displacedOneIn == 0 {
			t = t.Add(time.Minute)
		}
		return t
	}
	return fakeOrder{"jittered", func(a, b *twilio.Operation) int { return at(b).Compare(at(a)) }}
}

var (
	fakeNewestFirst = simulated(simulator.NewestFirst)
	fakeOldestFirst = simulated(simulator.OldestFirst)

	// fakeOrders are those of the simulator, and some that are harder.
	fakeOrders = append(simulatedOrders(), grouped(12, simulator.OldestFirst), jittered(50))
)

func simulatedOrders() []fakeOrder {
	var orders []fakeOrder
	for _, order := range simulator.Orders {
		orders = append(orders, simulated(order))
	}
	return orders
}

// fakeAPI is the list of an account, in memory: pages by offset, so that it shifts when it changes while it is read.
type fakeAPI struct {
	order  fakeOrder     // newest first if not set
	limit  int           // operations on a page, whatever is asked for; 0 = none
	skew   time.Duration // of its clock
	wrong  time.Duration // how far the client's idea of that clock is off
	repeat bool          // each page begins with an operation of one before
	ragged bool          // the last page is empty
	// exclusive makes the bounds exclude what lies on them.
	exclusive bool
	// unfiltered ignores the status asked for.
	unfiltered bool
	// between is called before each page, without mu held: the world may change.
	between func(q twilio.Query, page int)
	// fail is asked before each page, without mu held.
	fail func(q twilio.Query) error

	mu       sync.Mutex
	byTime   []*fakeOperation // by creation
	changes  int              // of byTime, made by the methods below
	requests int
	status   int // of them, questions for a status
	inFlight int
	most     int // in flight at the same time
	known    bool
}

func (a *fakeAPI) Now() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.known || a.skew.Abs() < 2*time.Second {
		return time.Now().Add(a.wrong)
	}
	return time.Now().Add(a.skew + a.wrong)
}

func (a *fakeAPI) clock() time.Time { return time.Now().Add(a.skew) }

func (a *fakeAPI) add(op *fakeOperation) {
	a.mu.Lock()
	defer a.mu.Unlock()
	i, _ := slices.BinarySearchFunc(
		a.byTime,
		op,
		func(x, y *fakeOperation) int { return x.CreatedAt.Compare(y.CreatedAt) },
	)
	a.byTime = slices.Insert(a.byTime, i, op)
	a.changes++
}

// fill puts so many operations a minute into the account, evenly, of the last d.
func (a *fakeAPI) fill(perMinute int, d time.Duration, status func(i int) twilio.Status) {
	now := a.clock()
	for i := range int(d.Minutes()) * perMinute {
		op := &fakeOperation{}
		op.ID = fmt.Sprintf("%016x", uint64(i+1)*0x9e3779b97f4a7c15) // in no order
		op.Status = status(i)
		op.CreatedAt = now.Add(-d + time.Duration(i)*time.Minute/time.Duration(perMinute))
		op.UpdatedAt = op.CreatedAt
		op.Stats = twilio.Stats{twilio.Total: 1}
		a.byTime = append(a.byTime, op)
	}
}

func allCompleted(int) twilio.Status { return twilio.StatusCompleted }

// forget drops what was created before t.
func (a *fakeAPI) forget(t time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for n < len(a.byTime) && a.byTime[n].CreatedAt.Before(t) {
		n++
	}
	a.byTime = a.byTime[n:]
	a.changes++
}

// change lets f change the operations.
func (a *fakeAPI) change(f func(ops []*fakeOperation)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f(a.byTime)
	a.changes++
}

// since counts the operations of minute m and later.
func (a *fakeAPI) since(m minute) (n int64) {
	for _, op := range a.byTime {
		if minuteOf(op.CreatedAt) >= m {
			n++
		}
	}
	return n
}

// fakeList is what a query selects. It holds for as long as nothing changes.
type fakeList struct {
	operations []*twilio.Operation
	changes    int       // of the account, up to then
	until      time.Time // when the next hidden operation appears
}

// list brings a list up to date.
func (a *fakeAPI) list(q *twilio.Query, l *fakeList) {
	now := a.clock()
	if l.operations != nil && l.changes == a.changes && now.Before(l.until) {
		return
	}
	l.operations = []*twilio.Operation{}
	l.changes = a.changes
	l.until = now.Add(24 * time.Hour)

	from, to := 0, len(a.byTime)
	at := func(t time.Time, after bool) int {
		i, _ := slices.BinarySearchFunc(a.byTime, t, func(x *fakeOperation, t time.Time) int {
			if x.CreatedAt.Equal(t) && after {
				return -1
			}
			if x.CreatedAt.Equal(t) {
				return 1
			}
			return x.CreatedAt.Compare(t)
		})
		return i
	}
	if !q.StartDate.IsZero() {
		from = at(q.StartDate, a.exclusive)
	}
	if !q.EndDate.IsZero() {
		to = at(q.EndDate, !a.exclusive)
	}
	for _, op := range a.byTime[from:max(from, to)] {
		shown := &op.Operation
		selected := !op.unlisted
		if q.Status != "" && !a.unfiltered {
			shown = op.inAnswers()
			selected = shown != nil && shown.Status == q.Status
		}
		switch {
		case !selected:
		case !op.listed.After(now):
			l.operations = append(l.operations, shown)
		case op.listed.Before(l.until):
			l.until = op.listed
		}
	}
	switch a.order.name {
	case fakeOldestFirst.name:
	case "", fakeNewestFirst.name:
		slices.Reverse(l.operations)
	default:
		slices.SortStableFunc(l.operations, a.order.less)
	}
}

func mix(id string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(id) {
		h = (h ^ uint64(id[i])) * 1099511628211
	}
	return h ^ h>>29
}

var errFake = errors.New("made to fail")

func (a *fakeAPI) Pages(ctx context.Context, q twilio.Query) iter.Seq2[*twilio.Page, error] {
	return func(yield func(*twilio.Page, error) bool) {
		offset := 0
		var list fakeList
		for n := 0; ; n++ {
			page, err := a.page(ctx, q, n, &offset, &list)
			if !yield(page, err) || err != nil || page.Next == "" {
				return
			}
		}
	}
}

func (a *fakeAPI) page(ctx context.Context, q twilio.Query, n int, offset *int, l *fakeList) (*twilio.Page, error) {
	a.mu.Lock()
	a.requests++
	if q.Status != "" {
		a.status++
	}
	a.inFlight++
	a.most = max(a.most, a.inFlight)
	a.mu.Unlock()
	if a.between != nil {
		a.between(q, n)
	}
	err := ctx.Err()
	if err == nil && a.fail != nil {
		err = a.fail(q)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.inFlight--
	if err != nil {
		return nil, err
	}
	a.known = true
	size := q.PageSize
	if a.limit > 0 {
		size = min(size, a.limit)
	}
	a.list(&q, l)
	list := l.operations
	end := min(len(list), *offset+size)
	start := min(*offset, end)
	page := &twilio.Page{}
	if a.repeat && start > 0 {
		page.Operations = append(page.Operations, *list[start-1-n%start])
	}
	for _, op := range list[start:end] {
		page.Operations = append(page.Operations, *op)
	}
	if *offset = end; end < len(list) || a.ragged && start < end {
		page.Next = strconv.Itoa(end)
	}
	return page, nil
}

// newOperation makes an operation of a random size.
func newOperation(rnd *rand.Rand, created time.Time, status twilio.Status) *fakeOperation {
	op := &fakeOperation{}
	op.ID = fmt.Sprintf("comms_operation_0%025x", rnd.Uint64())
	op.CreatedAt, op.UpdatedAt = created, created
	op.Status = status
	n := 1 + rnd.Int64N(300)
	op.Stats = twilio.Stats{twilio.Total: n, twilio.Recipients: n, twilio.Attempts: n, twilio.Queued: n}
	return op
}

// moveStats moves some messages on.
func moveStats(rnd *rand.Rand, op *fakeOperation, at time.Time) {
	op.UpdatedAt = at
	s := &op.Stats
	n := s[twilio.Queued]/2 + s[twilio.Queued]%2
	s[twilio.Queued] -= n
	s[twilio.Sent] += n
	switch d := s[twilio.Sent] / 2; rnd.IntN(4) {
	case 0:
		s[twilio.Failed] += d
		s[twilio.Sent] -= d
	case 1:
		s[twilio.Undelivered] += d
		s[twilio.Sent] -= d
	default:
		s[twilio.Delivered] += d
		s[twilio.Sent] -= d
	}
}

// moveEmails moves some e-mails on. As in the reference's example, those that are delivered, and opened, still count as sent.
func moveEmails(rnd *rand.Rand, op *fakeOperation, at time.Time) {
	op.UpdatedAt = at
	s := &op.Stats
	n := (s[twilio.Queued] + 1) / 2
	s[twilio.Queued] -= n
	under := s[twilio.Sent] - s[twilio.Delivered] - s[twilio.Failed] - s[twilio.Undelivered]
	s[twilio.Sent] += n
	outcomes := []twilio.Stat{twilio.Failed, twilio.Undelivered, twilio.Delivered, twilio.Delivered}
	s[outcomes[rnd.IntN(len(outcomes))]] += under
	s[twilio.Read] += (s[twilio.Delivered] - s[twilio.Read]) / 3
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

func testOptions() Options {
	return Options{
		Length: 4 * time.Hour, Interval: time.Minute, PageSize: 10, Concurrency: 4, MaxStaleness: 0.1, Named: 3,
	}
}

// refreshed runs a refresh and fails the test if that fails.
func refreshed(t *testing.T, w *Window, api API) *Snapshot {
	t.Helper()
	if err := w.Refresh(t.Context(), api, &Progress{}); err != nil {
		t.Fatal(err)
	}
	return w.Snapshot()
}

func sortByTime(ops []*fakeOperation) {
	slices.SortFunc(ops, func(x, y *fakeOperation) int { return x.CreatedAt.Compare(y.CreatedAt) })
}

// at returns the bucket of a minute, or nil where the window does not hold it.
func (w *Window) at(m minute) *bucket {
	if m < w.first || m >= w.end() {
		return nil
	}
	return &w.buckets[m-w.first]
}
