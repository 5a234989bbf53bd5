package simulator

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"twilio_operations_exporter/twilio"
)

// ListSettings decide what the reference leaves open about the list. The zero value is the simplest API: newest first,
// bounds exclusive to the millisecond, full pages, each operation once.
type ListSettings struct {
	Order        Order
	Groups       int           // number of lists, with Grouped; 0: 2
	Jitter       time.Duration // creation times are sorted as if up to this much later
	Displaced    int           // one in so many operations is sorted as if created a minute later; 0: none
	Bounds       Bounds
	StatusFilter StatusFilter

	PageCap    int // no page holds more than this, whatever pageSize says; 0: no cap
	EmptyEvery int // every n-th page is empty and has a next; 0: none, else at least 2
	Repeat     int // a page begins with the last n operations of the page before, if it has room

	LastNext LastNext
	Alphabet Alphabet
}

// Order of the list. Jitter and Displaced apply to the orders by creation.
type Order int

// Orders.
const (
	NewestFirst  Order = iota // by creation
	OldestFirst               // by creation
	Shuffled                  // by a hash of the id
	UpdatedFirst              // latest update first: operations move while the list is read
	UpdatedLast               // latest update last
	Grouped                   // several lists one after the other, each newest first
)

// Bounds are how startDate and endDate are compared with createdAt.
type Bounds int

// Kinds of bounds.
const (
	ExclusiveMillis  Bounds = iota // created after and before, to the millisecond
	Inclusive                      // or at the very millisecond
	ExclusiveSeconds               // compared by whole seconds
	InclusiveSeconds
)

// StatusFilter is what the list does with the status parameter.
type StatusFilter int

// Kinds of status filters.
const (
	StatusApplied StatusFilter = iota
	StatusIgnored              // operations of all statuses are listed
	StatusRefused              // 400
)

// LastNext is how the last page says that there is no next one.
type LastNext int

// Spellings.
const (
	LastNull LastNext = iota
	LastEmpty
	LastAbsent // against the reference, which requires next
)

// Alphabet is what page tokens are made of.
type Alphabet int

// Alphabets.
const (
	URLSafe Alphabet = iota
	Awkward          // with spaces, + / & = % # quotes, control and non-ASCII characters
)

const (
	defaultPageSize = 50
	maxPageSize     = 1000
	displacement    = time.Minute
)

func (s *ListSettings) validate() error {
	switch {
	case s.Order < NewestFirst || s.Order > Grouped,
		s.Bounds < ExclusiveMillis || s.Bounds > InclusiveSeconds,
		s.StatusFilter < StatusApplied || s.StatusFilter > StatusRefused,
		s.LastNext < LastNull || s.LastNext > LastAbsent,
		s.Alphabet < URLSafe || s.Alphabet > Awkward:
		return fmt.Errorf("unknown kind in list settings %+v", *s)
	case s.PageCap < 0 || s.Repeat < 0 || s.Groups < 0 || s.Jitter < 0 || s.Displaced < 0:
		return fmt.Errorf("negative number in list settings %+v", *s)
	case s.EmptyEvery < 0 || s.EmptyEvery == 1:
		return fmt.Errorf("empty every %d: must be 0 or at least 2, or the list never ends", s.EmptyEvery)
	}
	return nil
}

// span turns the two dates, as they were sent, into a half-open span of creation.
func (b Bounds) span(start, end time.Time) (from, to time.Time) {
	unit := time.Millisecond
	if b == ExclusiveSeconds || b == InclusiveSeconds {
		unit = time.Second
	}
	from, to = start.Truncate(unit), end.Truncate(unit)
	inclusive := b == Inclusive || b == InclusiveSeconds
	if !start.IsZero() && !inclusive {
		from = from.Add(unit)
	}
	if !end.IsZero() && inclusive {
		to = to.Add(unit)
	}
	return from, to
}

// cursor is a place in the list.
type cursor struct {
	Page int // number of pages before it
	Key  key // of the last operation before it
}

// key is what operations are sorted by.
type key struct {
	Group int
	Sort  int64
	ID    string // "" is before the first operation
}

// listing makes pages of a source. It has no state.
type listing struct {
	source Source
	s      ListSettings
}

// page returns the page at a place, and the place of the next one, nil if there is none.
func (l *listing) page(now time.Time, f Filter, size int, at cursor) ([]keyed, *cursor) {
	if l.s.StatusFilter == StatusIgnored {
		f.Status = ""
	}
	if l.s.PageCap > 0 {
		size = min(size, l.s.PageCap)
	}
	if l.s.EmptyEvery > 0 && (at.Page+1)%l.s.EmptyEvery == 0 {
		at.Page++
		return nil, &at
	}
	var found []keyed
	for group := at.Key.Group; group < l.groups() && len(found) <= size; group++ {
		// One more than fit tells whether there is a next page.
		found = append(found, l.first(now, f, at.Key, group, size+1-len(found))...)
	}
	if len(found) <= size {
		return found, nil
	}
	last := size - 1 - min(l.s.Repeat, size-1)
	return found[:size], &cursor{Page: at.Page + 1, Key: found[last].key}
}

type keyed struct {
	key key
	op  twilio.Operation
}

// first returns the first operations of a group, in the list's order, that come after a key: limit of them at most.
func (l *listing) first(now time.Time, f Filter, after key, group, limit int) []keyed {
	byCreation, reach := l.byCreation(), l.reach()
	if byCreation && group == after.Group && after.ID != "" {
		f = l.narrow(f, time.Unix(0, after.Sort).UTC())
	}
	found := make([]keyed, 0, limit+1)
	var edge time.Time // creation of the limit-th found
	sorted := false    // found[:limit] are, and none after that is any use
	sort := func() { slices.SortFunc(found, func(a, b keyed) int { return l.compare(a.key, b.key) }) }
	for op := range l.source.List(now, f, l.descending()) {
		if byCreation && len(found) >= limit && op.CreatedAt.Sub(edge).Abs() > reach {
			break // what follows is sorted after all found so far
		}
		k := l.key(&op)
		if k.Group != group || l.compare(k, after) <= 0 || sorted && l.compare(k, found[limit-1].key) > 0 {
			continue
		}
		found = append(found, keyed{k, op})
		switch len(found) {
		case limit:
			edge = op.CreatedAt
		case 2 * limit:
			sort()
			found, sorted = found[:limit], true
		}
	}
	sort()
	return found[:min(limit, len(found))]
}

func (l *listing) groups() int {
	if l.s.Order != Grouped {
		return 1
	}
	return cmp.Or(l.s.Groups, 2)
}

func (l *listing) byCreation() bool {
	return l.s.Order == NewestFirst || l.s.Order == OldestFirst || l.s.Order == Grouped
}

func (l *listing) descending() bool { return l.s.Order != OldestFirst && l.s.Order != UpdatedLast }

// reach is how much later than created an operation may be sorted.
func (l *listing) reach() time.Duration {
	if l.s.Displaced > 0 {
		return l.s.Jitter + displacement
	}
	return l.s.Jitter
}

func (l *listing) key(op *twilio.Operation) key {
	switch l.s.Order {
	case UpdatedFirst, UpdatedLast:
		return key{Sort: op.UpdatedAt.UnixNano(), ID: op.ID}
	case Shuffled:
		return key{Sort: int64(hashString(op.ID)), ID: op.ID} //nolint:gosec // any order will do
	case NewestFirst, OldestFirst, Grouped:
	}
	k := key{Sort: op.CreatedAt.UnixNano(), ID: op.ID}
	if l.s.Order != Grouped && l.reach() == 0 {
		return k
	}
	r := random(hashString(op.ID))
	k.Group = int(r.between(0, int64(l.groups())-1))
	k.Sort += r.between(0, int64(l.s.Jitter))
	if l.s.Displaced > 0 && r.between(1, int64(l.s.Displaced)) == 1 {
		k.Sort += int64(displacement)
	}
	return k
}

// compare is the list's order; every operation comes after the key without id.
func (l *listing) compare(a, b key) int {
	if a.Group != b.Group || a.ID == "" || b.ID == "" {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.ID, b.ID))
	}
	c := cmp.Or(cmp.Compare(a.Sort, b.Sort), cmp.Compare(a.ID, b.ID))
	if l.descending() {
		return -c
	}
	return c
}

// narrow leaves out of a filter, for a list by creation, what is sorted before a time.
func (l *listing) narrow(f Filter, t time.Time) Filter {
	if l.descending() {
		if to := t.Add(1); f.To.IsZero() || to.Before(f.To) {
			f.To = to
		}
	} else if from := t.Add(-l.reach()); f.From.IsZero() || from.After(f.From) {
		f.From = from
	}
	return f
}
