package collector

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
	"time"

	"twilio_operations_exporter/twilio"
)

// fakeOperation is an operation of the fake API.
type fakeOperation struct {
	twilio.Operation
	listed time.Time // hidden from lists before

	counted int // number of the refresh that a check found it in
}

type fakeOrder int

const (
	fakeNewestFirst fakeOrder = iota
	fakeOldestFirst
	fakeShuffled
	fakeShards // two lists, the newest first each: the second has half of the last hour
)

// fakeAPI is the list of an account, in memory: pages by offset, so that it
// shifts when it changes while it is read.
type fakeAPI struct {
	order  fakeOrder
	limit  int           // operations on a page, whatever is asked for; 0 = none
	skew   time.Duration // of its clock
	repeat bool          // each page begins with an operation of one before
	// exclusive makes the bounds exclude what lies on them.
	exclusive bool
	// between is called before each page, without mu held: the world may change.
	between func(q twilio.Query, page int)
	// fail is asked before each page.
	fail func(q twilio.Query) error

	mu       sync.Mutex
	byTime   []*fakeOperation // by creation
	requests int
	status   int // of them, questions for a status
	flying   int
	most     int // flying at the same time
	known    bool
	retryAt  time.Time
}

func (a *fakeAPI) Now() time.Time { return time.Now().Add(a.seen()) }

func (a *fakeAPI) seen() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.known || a.skew.Abs() < 2*time.Second {
		return 0
	}
	return a.skew
}

func (a *fakeAPI) clock() time.Time { return time.Now().Add(a.skew) }

func (a *fakeAPI) Skew() (time.Duration, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.skew, a.known
}
func (a *fakeAPI) RetryAt() time.Time       { return a.retryAt }
func (a *fakeAPI) Throttled() time.Duration { return 0 }

func (a *fakeAPI) add(op *fakeOperation) {
	a.mu.Lock()
	defer a.mu.Unlock()
	i, _ := slices.BinarySearchFunc(a.byTime, op, func(x, y *fakeOperation) int { return x.CreatedAt.Compare(y.CreatedAt) })
	a.byTime = slices.Insert(a.byTime, i, op)
}

// forget drops what was created before t.
func (a *fakeAPI) forget(t time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for n < len(a.byTime) && a.byTime[n].CreatedAt.Before(t) {
		n++
	}
	a.byTime = a.byTime[n:]
}

// change lets f change the operations.
func (a *fakeAPI) change(f func(ops []*fakeOperation)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f(a.byTime)
}

func (a *fakeAPI) list(q *twilio.Query) []twilio.Operation {
	from, to := 0, len(a.byTime)
	at := func(t time.Time, after bool) int {
		i, _ := slices.BinarySearchFunc(a.byTime, t, func(x *fakeOperation, t time.Time) int {
			if after && x.CreatedAt.Equal(t) {
				return -1
			}
			if !after && x.CreatedAt.Equal(t) {
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
	var list []twilio.Operation
	now := a.clock()
	for _, op := range a.byTime[from:max(from, to)] {
		if (q.Status == "" || op.Status == q.Status) && !op.listed.After(now) {
			list = append(list, op.Operation)
		}
	}
	switch a.order {
	case fakeNewestFirst:
		slices.Reverse(list)
	case fakeShuffled:
		slices.SortFunc(list, func(x, y twilio.Operation) int { return cmp.Compare(mix(x.ID), mix(y.ID)) })
	case fakeShards:
		slices.Reverse(list)
		latest := func(op twilio.Operation) int {
			if now.Sub(op.CreatedAt) < time.Hour && mix(op.ID)%2 == 0 {
				return 1
			}
			return 0
		}
		slices.SortStableFunc(list, func(x, y twilio.Operation) int { return cmp.Compare(latest(x), latest(y)) })
	case fakeOldestFirst:
	}
	return list
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
		var page twilio.Page
		offset := 0
		for n := 0; ; n++ {
			a.mu.Lock()
			a.requests++
			if q.Status != "" {
				a.status++
			}
			a.flying++
			a.most = max(a.most, a.flying)
			a.mu.Unlock()
			if a.between != nil {
				a.between(q, n)
			}
			err := ctx.Err()
			if err == nil && a.fail != nil {
				err = a.fail(q)
			}
			a.mu.Lock()
			a.flying--
			if err != nil {
				a.mu.Unlock()
				yield(nil, err)
				return
			}
			a.known = true
			size := q.PageSize
			if a.limit > 0 {
				size = min(size, a.limit)
			}
			list := a.list(&q)
			end := min(len(list), offset+size)
			start := min(offset, end)
			page = twilio.Page{Operations: slices.Clone(list[start:end])}
			if a.repeat && start > 0 {
				page.Operations = slices.Insert(page.Operations, 0, list[start-1-n%start])
			}
			offset = end
			if end < len(list) {
				page.Next = strconv.Itoa(end)
			}
			a.mu.Unlock()
			if !yield(&page, nil) || page.Next == "" {
				return
			}
		}
	}
}

// newOperation makes an operation of a random size.
func newOperation(rnd *rand.Rand, created time.Time, status twilio.Status) *fakeOperation {
	op := &fakeOperation{}
	op.ID = fmt.Sprintf("comms_operation_0%025x", rnd.Uint64())
	op.CreatedAt, op.UpdatedAt = created, created
	op.Status = status
	n := 1 + rnd.Int64N(300)
	op.Stats = twilio.Stats{Total: n, Recipients: n, Attempts: n, Queued: n}
	return op
}

// progressStats moves some messages on.
func progressStats(rnd *rand.Rand, op *fakeOperation, at time.Time) {
	op.UpdatedAt = at
	s := &op.Stats
	n := s.Queued/2 + s.Queued%2
	s.Queued -= n
	s.Sent += n
	switch d := s.Sent / 2; rnd.IntN(4) {
	case 0:
		s.Failed += d
		s.Sent -= d
	case 1:
		s.Undelivered += d
		s.Sent -= d
	default:
		s.Delivered += d
		s.Sent -= d
	}
}
