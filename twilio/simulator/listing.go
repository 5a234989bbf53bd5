package simulator

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"hash/crc32"
	"slices"
	"sort"
	"strings"
	"time"

	"twilio_operations_exporter/twilio"
)

// ListSettings decide what the reference leaves open about lists. The zero value is the simplest API: newest first,
// bounds exclusive to the millisecond, full pages, each operation once.
type ListSettings struct {
	Order  Order
	Jitter time.Duration // for NewestFirst and OldestFirst: operations are sorted as if created up to this much later
	Bounds Bounds

	PageCap    int  // most operations on a page, whatever pageSize is; 0 = no cap
	EmptyPages bool // every second page is empty but has a next one
	Repeat     int  // a page begins with the last n operations of the previous one, if they leave room for others

	LastNext      LastNext
	AwkwardTokens bool // page tokens contain spaces, + / & = % # quotes, control and non-ASCII characters
}

// Order is the order of a list.
type Order int

// The orders.
const (
	NewestFirst  Order = iota // by creation
	OldestFirst               // by creation
	Shuffled                  // by a hash of the id
	UpdatedFirst              // latest update first: operations move while the list is read
	UpdatedLast               // latest update last
	Grouped                   // one list after another, each newest first
)

// Orders are all orders.
var Orders = []Order{NewestFirst, OldestFirst, Shuffled, UpdatedFirst, UpdatedLast, Grouped}

// String returns the order's name, such as newest or updated-first.
func (o Order) String() string {
	names := [...]string{
		NewestFirst:  "newest",
		OldestFirst:  "oldest",
		Shuffled:     "shuffled",
		UpdatedFirst: "updated-first",
		UpdatedLast:  "updated-last",
		Grouped:      "grouped",
	}
	return names[o]
}

// Compare returns a negative number if operation a comes before b in a list of this order without jitter, and a
// positive one if it comes after.
func (o Order) Compare(a, b *twilio.Operation) int {
	list := ListSettings{Order: o}
	return list.compare(list.key(a), list.key(b))
}

// Bounds is how startDate and endDate are compared with createdAt.
type Bounds int

// The kinds of bounds.
const (
	ExclusiveMillis  Bounds = iota // created after startDate and before endDate, to the millisecond
	Inclusive                      // the same, or in the very millisecond
	ExclusiveSeconds               // as ExclusiveMillis, but to the second
	InclusiveSeconds               // as Inclusive, but to the second
)

// LastNext is how the last page says that there is no next one.
type LastNext int

// The ways to say it.
const (
	LastNull   LastNext = iota // "next": null
	LastEmpty                  // "next": ""
	LastAbsent                 // no next, although the reference requires it
)

// span converts startDate and endDate to a half-open span of creation times.
func (b Bounds) span(start, end time.Time) (from, to time.Time) {
	unit := time.Millisecond
	if b == ExclusiveSeconds || b == InclusiveSeconds {
		unit = time.Second
	}

	from = start.Truncate(unit)
	to = end.Truncate(unit)
	if b == ExclusiveMillis || b == ExclusiveSeconds {
		from = from.Add(unit)
	} else if !end.IsZero() {
		to = to.Add(unit)
	}
	return from, to
}

// key is what operations are sorted by.
type key struct {
	Sort int64
	ID   string
}

// token is the content of a page token: a place in the list.
type token struct {
	After   key    // of the last operation before the page; ID is "" if there is none
	Empty   bool   // the page is empty, and followed by the one at the same place
	Filters string // of the list; a client must send the same
}

// awkward begins tokens that are easily damaged on their way into JSON, a URL and back.
const awkward = " +/&=%#?;,:@!$'\"\\<>(){}[]|^`~*\t\n\r\x01\u007f\u00a0\u2028\ufeffß漢字😀"

func (s *ListSettings) encodeToken(t token) string {
	text := base64.RawURLEncoding.EncodeToString(must(json.Marshal(t)))
	if s.AwkwardTokens {
		text = awkward + text
	}
	return text
}

func (s *ListSettings) decodeToken(text string) (t token, err error) {
	if s.AwkwardTokens {
		rest, ok := strings.CutPrefix(text, awkward)
		if !ok {
			return t, errors.New("not a token of this list")
		}
		text = rest
	}

	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err == nil {
		err = json.Unmarshal(b, &t)
	}
	return t, err
}

// keyed is an operation with its key.
type keyed struct {
	key key
	op  twilio.Operation
}

// page returns the page asked for and the token of the next one, nil if there is none.
func (s *ListSettings) page(source Source, now time.Time, q query) ([]keyed, *token) {
	at := q.token
	if at.Empty {
		at.Empty = false
		return nil, &at
	}

	size := q.size
	if s.PageCap > 0 {
		size = min(size, s.PageCap)
	}
	found := s.first(source, now, q.filter, at.After, size+1) // one more than fits, to see whether there is a next page
	if len(found) <= size {
		return found, nil
	}
	last := size - 1 - min(s.Repeat, size-1)
	return found[:size], &token{After: found[last].key, Empty: s.EmptyPages, Filters: at.Filters}
}

// first returns the first operations after a key in the list's order, at most limit of them.
func (s *ListSettings) first(source Source, now time.Time, f Filter, after key, limit int) []keyed {
	byCreation := s.Order == NewestFirst || s.Order == OldestFirst
	if byCreation && after.ID != "" {
		f = s.skipTo(f, after)
	}

	found := make([]keyed, 0, limit) // sorted
	for op := range source.List(now, f, s.descending()) {
		full := len(found) == limit
		if byCreation && full && op.CreatedAt.Sub(found[limit-1].op.CreatedAt).Abs() > s.Jitter {
			break // all that follow come after those found
		}

		k := s.key(&op)
		isBefore := after.ID != "" && s.compare(k, after) <= 0
		isBeyond := full && s.compare(k, found[limit-1].key) > 0
		if isBefore || isBeyond {
			continue
		}

		place := sort.Search(len(found), func(i int) bool { return s.compare(found[i].key, k) > 0 })
		found = slices.Insert(found[:min(len(found), limit-1)], place, keyed{k, op})
	}
	return found
}

// skipTo excludes operations from a filter that certainly come before a key.
func (s *ListSettings) skipTo(f Filter, after key) Filter {
	sorted := time.Unix(0, after.Sort)
	if s.descending() {
		if f.To.IsZero() || sorted.Before(f.To) {
			f.To = sorted.Add(1)
		}
		return f
	}

	from := sorted.Add(-s.Jitter)
	if from.After(f.From) {
		f.From = from
	}
	return f
}

func (s *ListSettings) descending() bool { return s.Order != OldestFirst && s.Order != UpdatedLast }

// key returns what an operation is sorted by.
func (s *ListSettings) key(op *twilio.Operation) key {
	const century = 100 * 365 * 24 * time.Hour
	k := key{Sort: op.CreatedAt.UnixNano(), ID: op.ID}
	switch {
	case s.Order == UpdatedFirst || s.Order == UpdatedLast:
		k.Sort = op.UpdatedAt.UnixNano()
	case s.Order == Shuffled:
		k.Sort = hash(op.ID)
	case s.Order == Grouped:
		k.Sort -= hash(op.ID) % 2 * int64(century)
	case s.Jitter > 0:
		k.Sort += hash(op.ID) % int64(s.Jitter+1)
	}
	return k
}

func hash(id string) int64 {
	return int64(mix(uint64(crc32.ChecksumIEEE([]byte(id)))) >> 1) //nolint:gosec // 63 bits
}

// compare compares keys by the list's order.
func (s *ListSettings) compare(a, b key) int {
	c := cmp.Or(cmp.Compare(a.Sort, b.Sort), cmp.Compare(a.ID, b.ID))
	if s.descending() {
		return -c
	}
	return c
}
