package simulator

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"time"

	"twilio_operations_exporter/twilio"
)

// Pager reads a Source as a client of a Handler with the same ListSettings
// would, without HTTP and JSON. It has the methods of twilio.Client that the
// collector uses. It is safe for concurrent use.
type Pager struct {
	listing listing
	now     func() time.Time

	mu        sync.Mutex
	skew      time.Duration
	seen      bool // a page, so that the skew is known
	retryAt   time.Time
	throttled time.Duration
	before    func(ctx context.Context, q twilio.Query, page int) error
	requests  int
	given     int64
}

// NewPager returns a pager, or an error that names the setting that makes no
// sense. The clock is the API's.
func NewPager(source Source, s ListSettings, now func() time.Time) (*Pager, error) {
	if err := s.validate(); err != nil {
		return nil, err
	}
	return &Pager{listing: listing{source: source, s: s}, now: now}, nil
}

// MustPager is NewPager for settings that are known to be right; it panics
// when they are not.
func MustPager(source Source, s ListSettings, now func() time.Time) *Pager {
	p, err := NewPager(source, s, now)
	if err != nil {
		panic(err)
	}
	return p
}

// Before sets what is called before each page is made: it may move the clock,
// change the source, wait, or return an error, which then ends the list in the
// page's place. Pages count from 0.
func (p *Pager) Before(f func(ctx context.Context, q twilio.Query, page int) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.before = f
}

// SetSkew says how far the API's clock is ahead of the local one.
func (p *Pager) SetSkew(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.skew = d
}

// SetRetryAt sets what RetryAt returns.
func (p *Pager) SetRetryAt(t time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.retryAt = t
}

// AddThrottled adds to what Throttled returns.
func (p *Pager) AddThrottled(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.throttled += d
}

// Pages yields the pages of a list, or one error and then ends. A page is
// valid until the next is asked for. Each is of the time at which it is asked
// for, as over HTTP.
func (p *Pager) Pages(ctx context.Context, q twilio.Query) iter.Seq2[*twilio.Page, error] {
	return func(yield func(*twilio.Page, error) bool) {
		size := q.PageSize
		if size == 0 {
			size = defaultPageSize
		}
		if size < 1 || size > maxPageSize {
			yield(nil, fmt.Errorf("page size %d is not from 1 to %d", size, maxPageSize))
			return
		}
		from, to := p.listing.s.Bounds.span(q.StartDate, q.EndDate)
		filter := Filter{From: from, To: to, Status: q.Status}
		page := &twilio.Page{}
		for at := (cursor{}); ; {
			if err := p.request(ctx, q, at.Page); err != nil {
				yield(nil, err)
				return
			}
			ops, next := p.listing.page(p.now(), filter, size, at)
			page.Operations, page.Next = page.Operations[:0], ""
			for i := range ops {
				page.Operations = append(page.Operations, ops[i].op)
			}
			if next != nil {
				at = *next
				page.Next = fmt.Sprintf("page %d", next.Page)
			}
			p.answered(len(ops))
			if !yield(page, nil) || next == nil {
				return
			}
		}
	}
}

func (p *Pager) request(ctx context.Context, q twilio.Query, page int) error {
	p.mu.Lock()
	p.requests++
	before := p.before
	p.mu.Unlock()
	if before != nil {
		if err := before(ctx, q, page); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (p *Pager) answered(operations int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = true
	p.given += int64(operations)
}

// Requests is how many pages have been asked for.
func (p *Pager) Requests() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.requests
}

// Given is how many operations the pages held.
func (p *Pager) Given() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.given
}

// Now is the API's clock as a client knows it: the local one, unless a page
// has shown that they are 2 s or more apart.
func (p *Pager) Now() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.seen && p.skew.Abs() >= 2*time.Second {
		return p.now()
	}
	return p.now().Add(-p.skew)
}

// Skew is the API's clock minus the local one; false before the first page.
func (p *Pager) Skew() (time.Duration, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.seen {
		return 0, false
	}
	return p.skew, true
}

// RetryAt is what SetRetryAt has set.
func (p *Pager) RetryAt() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.retryAt
}

// Throttled is what AddThrottled has added up.
func (p *Pager) Throttled() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.throttled
}
