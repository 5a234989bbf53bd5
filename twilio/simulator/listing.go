package simulator

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"time"

	"twilio_operations_exporter/twilio"
)

// ListSettings decide what the reference leaves open about the list. The zero
// value is the API at its most agreeable: newest first, bounds as sharp as a
// millisecond, full pages, each operation once.
type ListSettings struct {
	Order  Order
	Bounds Bounds
	Paging Paging

	PageCap    int  // no page holds more than this, whatever was asked for; 0: no cap
	EmptyEvery int  // every so manyth page is empty and has a next; 0: none, else at least 2
	LazyEnd    bool // a full page always has a next, though an empty page may follow
	Repeat     int  // a page begins with so many operations of the page before, if it has room

	LastNext     LastNext
	TokenFilters TokenFilters
	Alphabet     Alphabet

	// Late lists a share of the operations only some time after creation.
	Late Late
	// Omit leaves a share of the operations off every page, others in each
	// span of time.
	Omit Omit
}

// Late says which operations are listed late. They can be fetched at once.
type Late struct {
	Share float64
	By    time.Duration // at most
}

// Omit says which operations are left off. They can be fetched.
type Omit struct {
	Share float64
	For   time.Duration // then others are
}

// Order of the list.
type Order int

// Orders. Where updates decide, an operation changes its place while the list
// is being read.
const (
	NewestFirst  Order = iota // by creation
	OldestFirst               // by creation
	Shuffled                  // in no order, always the same
	UpdatedFirst              // the latest update first
	UpdatedLast               // the latest update last
)

// Bounds are how startDate and endDate are compared with createdAt.
type Bounds int

// Kinds of bounds.
const (
	ExclusiveMillis  Bounds = iota // created after and before, to the millisecond
	Inclusive                      // or at the very millisecond
	ExclusiveSeconds               // the second of creation is after and before that of the bound
	InclusiveSeconds               // or the same
)

// Paging is how a token remembers a place.
type Paging int

// Kinds of paging.
const (
	Keyset  Paging = iota // by the last operation: the list may grow, the place stays
	Offsets               // by number: a list that shifts repeats operations or skips them; a place far down costs more
)

// LastNext is how the last page says that there is no next one.
type LastNext int

// Spellings.
const (
	LastNull LastNext = iota
	LastEmpty
	LastAbsent // breaks the reference, which requires next
)

// TokenFilters is what a token knows of the filters.
type TokenFilters int

// What may be sent with a token.
const (
	TokenBound   TokenFilters = iota // the same filters again, else 400
	TokenCarries                     // the same filters again, or none: the token has them
	TokenBare                        // any: the token has none, and what is not sent does not filter
)

// Alphabet is what tokens are made of.
type Alphabet int

// Alphabets.
const (
	URLSafe Alphabet = iota
	Awkward          // spaces, + / & = % # quotes, control and non-ASCII characters
)

const (
	defaultPageSize = 50
	maxPageSize     = 1000
)

func (s *ListSettings) validate() error {
	switch {
	case s.Order < NewestFirst || s.Order > UpdatedLast,
		s.Bounds < ExclusiveMillis || s.Bounds > InclusiveSeconds,
		s.Paging < Keyset || s.Paging > Offsets,
		s.LastNext < LastNull || s.LastNext > LastAbsent,
		s.TokenFilters < TokenBound || s.TokenFilters > TokenBare,
		s.Alphabet < URLSafe || s.Alphabet > Awkward:
		return fmt.Errorf("list settings %+v name an unknown kind", *s)
	case s.PageCap < 0:
		return fmt.Errorf("page cap %d is negative", s.PageCap)
	case s.EmptyEvery < 0 || s.EmptyEvery == 1:
		return fmt.Errorf("every %dth page empty: the list would never end", s.EmptyEvery)
	case s.Repeat < 0:
		return fmt.Errorf("%d repeated operations", s.Repeat)
	case !isShare(s.Late.Share) || s.Late.By < 0:
		return fmt.Errorf("late %+v: the share must be from 0 to 1, the time not negative", s.Late)
	case !isShare(s.Omit.Share) || s.Omit.Share > 0 && s.Omit.For < time.Millisecond:
		return fmt.Errorf("omit %+v: the share must be from 0 to 1, the time at least 1ms", s.Omit)
	}
	return nil
}

// span turns the two dates, as they were sent, into a half-open span of
// creation.
func (b Bounds) span(start, end time.Time) (from, to time.Time) {
	if !start.IsZero() {
		switch b {
		case ExclusiveMillis:
			from = start.Truncate(time.Millisecond).Add(time.Millisecond)
		case Inclusive:
			from = start
		case ExclusiveSeconds:
			from = start.Truncate(time.Second).Add(time.Second)
		case InclusiveSeconds:
			from = start.Truncate(time.Second)
		}
	}
	if !end.IsZero() {
		switch b {
		case ExclusiveMillis:
			to = end
		case Inclusive:
			to = end.Truncate(time.Millisecond).Add(time.Millisecond)
		case ExclusiveSeconds:
			to = end.Truncate(time.Second)
		case InclusiveSeconds:
			to = end.Truncate(time.Second).Add(time.Second)
		}
	}
	return from, to
}

// cursor is a place in the list.
type cursor struct {
	page  int // pages before this one
	given int // operations before it, repeated ones not counted
	key   key // last of these
}

// key is what operations are ordered by.
type key struct {
	sort int64
	id   string // breaks ties; "" is before the first operation
}

// listing makes pages of a source. It remembers nothing.
type listing struct {
	source Source
	s      ListSettings
}

// page appends the page at a place to buf, and returns the place of the next
// one, nil if there is none.
func (l *listing) page(now time.Time, f Filter, size int, at cursor, buf []twilio.Operation) ([]twilio.Operation, *cursor) {
	if l.s.PageCap > 0 {
		size = min(size, l.s.PageCap)
	}
	if l.s.EmptyEvery > 0 && (at.page+1)%l.s.EmptyEvery == 0 {
		at.page++
		return buf, &at
	}
	begin := len(buf)
	if n := min(l.s.Repeat, size-1, at.given); n > 0 {
		buf = l.before(now, f, at, n, buf)
		size -= len(buf) - begin
	}
	first := len(buf)
	limit := size + 1 // one more tells whether there is more
	if l.s.LazyEnd {
		limit = size
	}
	for op := range l.from(now, f, at) {
		buf = append(buf, op)
		if len(buf)-first == limit {
			break
		}
	}
	more := len(buf)-first == limit
	if more && !l.s.LazyEnd {
		buf = buf[:len(buf)-1]
	}
	if !more {
		return buf, nil
	}
	next := cursor{page: at.page + 1, given: at.given + len(buf) - first, key: l.key(&buf[len(buf)-1])}
	return buf, &next
}

func (l *listing) byCreation() bool { return l.s.Order == NewestFirst || l.s.Order == OldestFirst }

func (l *listing) descending() bool { return l.s.Order == NewestFirst || l.s.Order == UpdatedFirst }

func (l *listing) key(op *twilio.Operation) key {
	switch l.s.Order {
	case NewestFirst, OldestFirst:
		return key{op.CreatedAt.UnixNano(), op.ID}
	case UpdatedFirst, UpdatedLast:
		return key{op.UpdatedAt.UnixNano(), op.ID}
	case Shuffled:
	}
	return key{int64(hashString(op.ID)), op.ID} //nolint:gosec // any order will do
}

func (l *listing) compare(a, b key) int {
	c := cmp.Or(cmp.Compare(a.sort, b.sort), cmp.Compare(a.id, b.id))
	if l.descending() {
		return -c
	}
	return c
}

// from yields what comes at a place and after it.
func (l *listing) from(now time.Time, f Filter, at cursor) iter.Seq[twilio.Operation] {
	if !l.byCreation() {
		_, after := l.sorted(now, f, at)
		return func(yield func(twilio.Operation) bool) {
			for _, o := range after {
				if !yield(*o.op) {
					return
				}
			}
		}
	}
	return func(yield func(twilio.Operation) bool) {
		skip := 0
		if l.s.Paging == Offsets {
			skip = at.given
		} else if at.key.id != "" {
			f = l.narrow(f, at.key, l.descending())
		}
		for op := range l.visible(now, f, l.descending()) {
			if skip > 0 {
				skip--
				continue
			}
			if l.s.Paging == Keyset && at.key.id != "" && l.compare(l.key(&op), at.key) <= 0 {
				continue
			}
			if !yield(op) {
				return
			}
		}
	}
}

// before appends up to n operations that come right before a place.
func (l *listing) before(now time.Time, f Filter, at cursor, n int, buf []twilio.Operation) []twilio.Operation {
	if !l.byCreation() {
		before, _ := l.sorted(now, f, at)
		for _, o := range before[max(0, len(before)-n):] {
			buf = append(buf, *o.op)
		}
		return buf
	}
	begin := len(buf)
	if l.s.Paging == Offsets {
		i := 0
		for op := range l.visible(now, f, l.descending()) {
			if i == at.given {
				break
			}
			if i >= at.given-n {
				buf = append(buf, op)
			}
			i++
		}
		return buf
	}
	for op := range l.visible(now, l.narrow(f, at.key, !l.descending()), !l.descending()) {
		if l.compare(l.key(&op), at.key) > 0 {
			continue
		}
		buf = append(buf, op)
		if len(buf)-begin == n {
			break
		}
	}
	slices.Reverse(buf[begin:])
	return buf
}

// narrow leaves out of a filter, for a list by creation, what comes before a
// key.
func (l *listing) narrow(f Filter, k key, newestFirst bool) Filter {
	t := time.Unix(0, k.sort).UTC()
	if newestFirst {
		if to := t.Add(1); f.To.IsZero() || to.Before(f.To) {
			f.To = to
		}
	} else if f.From.IsZero() || t.After(f.From) {
		f.From = t
	}
	return f
}

// sorted is the whole list where it is not ordered by creation: fit for the
// tests it is meant for, not for a million operations. It is cut at a place.
func (l *listing) sorted(now time.Time, f Filter, at cursor) (before, after []ordered) {
	var ops []twilio.Operation
	var all []ordered
	for op := range l.visible(now, f, false) {
		ops = append(ops, op)
		all = append(all, ordered{key: l.key(&op)})
	}
	for i := range all {
		all[i].op = &ops[i]
	}
	slices.SortFunc(all, func(a, b ordered) int { return l.compare(a.key, b.key) })
	i := min(at.given, len(all))
	if l.s.Paging == Keyset {
		i = 0
		if at.key.id != "" {
			found := false
			i, found = slices.BinarySearchFunc(all, at.key, func(o ordered, k key) int { return l.compare(o.key, k) })
			if found {
				i++
			}
		}
	}
	return all[:i], all[i:]
}

type ordered struct {
	key key
	op  *twilio.Operation
}

// visible yields, by creation, what the list shows at this time.
func (l *listing) visible(now time.Time, f Filter, newestFirst bool) iter.Seq[twilio.Operation] {
	list := l.source.List(now, f, newestFirst)
	if l.s.Late.Share == 0 && l.s.Omit.Share == 0 {
		return list
	}
	return func(yield func(twilio.Operation) bool) {
		for op := range list {
			if !l.s.hides(&op, now) && !yield(op) {
				return
			}
		}
	}
}

// Streams of draws about listing; see also those of a World.
const (
	streamLate = iota + 100
	streamOmit
)

func (s *ListSettings) hides(op *twilio.Operation, now time.Time) bool {
	h := hashString(op.ID)
	if s.Late.Share > 0 {
		r := newRandom(h, streamLate)
		if r.float() < s.Late.Share && now.Sub(op.CreatedAt) < time.Duration(r.float()*float64(s.Late.By)) {
			return true
		}
	}
	if s.Omit.Share > 0 {
		span := floorDiv(now.UnixMilli(), s.Omit.For.Milliseconds())
		r := newRandom(h, streamOmit, uint64(span)) //nolint:gosec // hashed, not counted
		return r.float() < s.Omit.Share
	}
	return false
}

// Hidden says whether these settings leave an operation off every page at this
// time: for tests that count what a list can show.
func (s ListSettings) Hidden(op twilio.Operation, now time.Time) bool {
	return s.hides(&op, now)
}
