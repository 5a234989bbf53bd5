package simulator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"twilio_operations_exporter/twilio"
)

// wirePage is a page as encoding/json reads it, so that the encoder is tested
// against another implementation.
type wirePage struct {
	Operations []wireOperation `json:"operations"`
	Pagination struct {
		Next *string `json:"next"`
		Self string  `json:"self"`
	} `json:"pagination"`
}

type wireOperation struct {
	ID        string
	Status    twilio.Status
	Stats     twilio.Stats
	CreatedAt time.Time
	UpdatedAt time.Time
}

func (w wireOperation) operation() twilio.Operation { return twilio.Operation(w) }

// readAll reads a list to its end as a client does that sends the same
// parameters with each token.
func readAll(t *testing.T, h http.Handler, q url.Values, sendAgain bool) (pages [][]twilio.Operation) {
	t.Helper()
	values := url.Values{}
	for k, v := range q {
		values[k] = v
	}
	for range 10_000 {
		p := getPage(t, h, values)
		ops := make([]twilio.Operation, len(p.Operations))
		for i, op := range p.Operations {
			ops[i] = op.operation()
		}
		pages = append(pages, ops)
		if p.Pagination.Next == nil || *p.Pagination.Next == "" {
			return pages
		}
		if !sendAgain {
			values = url.Values{}
		}
		values.Set("pageToken", *p.Pagination.Next)
	}
	t.Fatal("the list does not end")
	return nil
}

func getPage(t *testing.T, h http.Handler, q url.Values) wirePage {
	t.Helper()
	w := get(h, "/v1/Messages/Operations?"+q.Encode())
	if w.Code != http.StatusOK {
		t.Fatalf("%v: %d %s", q, w.Code, w.Body)
	}
	var p wirePage
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
		t.Fatalf("%v: %v in %s", q, err, w.Body)
	}
	return p
}

func get(h http.Handler, target string) *httptest.ResponseRecorder {
	r := httptest.NewRequestWithContext(context.Background(), http.MethodGet, target, nil)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func collectPages(t *testing.T, pages iter.Seq2[*twilio.Page, error]) (all [][]twilio.Operation) {
	t.Helper()
	for p, err := range pages {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, slices.Clone(p.Operations))
	}
	return all
}

// TestPagesEqualBruteForce reads the whole list and filtered parts of it under
// every combination of settings, over HTTP's handler and without it.
func TestPagesEqualBruteForce(t *testing.T) {
	s := smallWorld()
	s.Rate = 0.35
	world := MustWorld(s)
	// The world stands still here, so most combinations read a copy.
	still := NewStatic(slices.Collect(world.Operations(noon, s.Epoch, noon.Add(time.Hour)))...)
	combination := 0
	for order := NewestFirst; order <= UpdatedLast; order++ {
		for bounds := ExclusiveMillis; bounds <= InclusiveSeconds; bounds++ {
			for paging := Keyset; paging <= Offsets; paging++ {
				for _, pageCap := range []int{0, 7} {
					for _, emptyEvery := range []int{0, 3} {
						for _, lazy := range []bool{false, true} {
							for _, repeat := range []int{0, 4} {
								combination++
								list := ListSettings{
									Order: order, Bounds: bounds, Paging: paging, PageCap: pageCap, EmptyEvery: emptyEvery, LazyEnd: lazy, Repeat: repeat,
									// These do not depend on the others: take turns.
									LastNext:     LastNext(combination % 3),
									TokenFilters: TokenFilters(combination / 3 % 3),
									Alphabet:     Alphabet(combination / 9 % 2),
								}
								size := 8 + combination*7%17
								if combination%50 == 0 {
									size = 1
								}
								if combination%20 == 0 {
									checkPages(t, world, still, list, size)
								}
								checkPages(t, still, still, list, size)
							}
						}
					}
				}
			}
		}
	}
}

func checkPages(t *testing.T, source Source, truth *Static, list ListSettings, size int) {
	t.Helper()
	start, end := noon.Add(-80*time.Minute), noon.Add(-20*time.Minute)
	for _, q := range []twilio.Query{
		{PageSize: size, StartDate: start, EndDate: end},
		{PageSize: size, StartDate: start, Status: twilio.StatusCompleted},
		{PageSize: size, EndDate: end, Status: twilio.StatusScheduled},
	} {
		var want []twilio.Operation
		for op := range truth.Operations(time.Time{}, time.Time{}) {
			if within(list.Bounds, op.CreatedAt, q.StartDate, q.EndDate) && (q.Status == "" || op.Status == q.Status) {
				want = append(want, op)
			}
		}
		h := MustHandler(source, Settings{Now: at(noon), List: list})
		served := readAll(t, h, values(q), list.TokenFilters != TokenCarries)
		paged := collectPages(t, MustPager(source, list, at(noon)).Pages(context.Background(), q))
		if !slices.EqualFunc(served, paged, slices.Equal[[]twilio.Operation]) {
			t.Fatalf("%+v, %+v: handler and pager differ", list, q)
		}
		checkOrder(t, list, q, served, want)
	}
}

// within is the meaning of bounds, written another way than the code's.
func within(b Bounds, created, start, end time.Time) bool {
	unit, inclusive := time.Millisecond, b == Inclusive || b == InclusiveSeconds
	if b == ExclusiveSeconds || b == InclusiveSeconds {
		unit = time.Second
	}
	created = created.Truncate(unit)
	after := start.IsZero() || created.After(start.Truncate(unit)) || inclusive && created.Equal(start.Truncate(unit))
	before := end.IsZero() || created.Before(end.Truncate(unit)) || inclusive && created.Equal(end.Truncate(unit))
	return after && before
}

func values(q twilio.Query) url.Values {
	v := url.Values{}
	if !q.StartDate.IsZero() {
		v.Set("startDate", q.StartDate.Format(time.RFC3339Nano))
	}
	if !q.EndDate.IsZero() {
		v.Set("endDate", q.EndDate.Format(time.RFC3339Nano))
	}
	if q.Status != "" {
		v.Set("status", string(q.Status))
	}
	if q.PageSize != 0 {
		v.Set("pageSize", strconv.Itoa(q.PageSize))
	}
	return v
}

// checkOrder checks that pages hold each operation, once but for the repeats
// that were asked for, in the order asked for, and are as full as they can be.
func checkOrder(t *testing.T, list ListSettings, q twilio.Query, pages [][]twilio.Operation, want []twilio.Operation) {
	t.Helper()
	size := q.PageSize
	if list.PageCap > 0 {
		size = min(size, list.PageCap)
	}
	var got []twilio.Operation
	for i, page := range pages {
		empty := list.EmptyEvery > 0 && (i+1)%list.EmptyEvery == 0
		switch {
		case len(page) > size:
			t.Fatalf("%+v, %+v: page of %d", list, q, len(page))
		case empty && len(page) > 0:
			t.Fatalf("%+v, %+v: page %d is not empty", list, q, i)
		case !empty && len(page) < size && i < len(pages)-1:
			t.Fatalf("%+v, %+v: page %d of %d holds %d", list, q, i, len(pages), len(page))
		}
		if empty {
			continue
		}
		repeats := min(list.Repeat, size-1, len(got))
		if repeats > 0 && !slices.Equal(page[:repeats], got[len(got)-repeats:]) {
			t.Fatalf("%+v, %+v: page %d does not repeat the last %d", list, q, i, repeats)
		}
		got = append(got, page[repeats:]...)
	}
	less := func(a, b twilio.Operation) int {
		switch list.Order {
		case NewestFirst:
			return strings.Compare(b.ID, a.ID) // ids sort by creation
		case OldestFirst:
			return strings.Compare(a.ID, b.ID)
		case UpdatedFirst:
			return b.UpdatedAt.Compare(a.UpdatedAt)
		case UpdatedLast:
			return a.UpdatedAt.Compare(b.UpdatedAt)
		case Shuffled:
		}
		return 0
	}
	if !slices.IsSortedFunc(got, less) {
		t.Fatalf("%+v, %+v: out of order", list, q)
	}
	byID := func(a, b twilio.Operation) int { return strings.Compare(a.ID, b.ID) }
	if list.Order == Shuffled && len(got) > 10 && (slices.IsSortedFunc(got, byID) || slices.IsSortedFunc(got, func(a, b twilio.Operation) int { return byID(b, a) })) {
		t.Fatalf("%+v, %+v: not shuffled", list, q)
	}
	slices.SortFunc(got, byID)
	slices.SortFunc(want, byID)
	if !slices.Equal(got, want) {
		t.Fatalf("%+v, %+v: %d operations, brute force has %d", list, q, len(got), len(want))
	}
}

func TestSelfRepeatsThePage(t *testing.T) {
	h := MustHandler(MustWorld(smallWorld()), Settings{Now: at(noon), List: ListSettings{Alphabet: Awkward}})
	q := url.Values{"pageSize": {"10"}, "status": {"COMPLETED"}}
	first := getPage(t, h, q)
	q.Set("pageToken", *first.Pagination.Next)
	second := getPage(t, h, q)
	for _, p := range []wirePage{first, second} {
		q.Set("pageToken", p.Pagination.Self)
		again := getPage(t, h, q)
		if !slices.Equal(again.Operations, p.Operations) || again.Pagination.Self != p.Pagination.Self || *again.Pagination.Next != *p.Pagination.Next {
			t.Error("self does not repeat the page")
		}
	}
}

// TestShiftingList reads a list that changes between its pages.
func TestShiftingList(t *testing.T) {
	var ops []twilio.Operation
	for i := range 40 {
		ops = append(ops, operationAt(fmt.Sprintf("%02d", i), noon.Add(time.Duration(i)*time.Second)))
	}
	arrive := func(s *Static) { s.Set(operationAt("new", noon.Add(time.Hour))) }
	leave := func(s *Static) { s.Update("39", func(op *twilio.Operation) { op.Status = twilio.StatusCanceled }) }
	update := func(s *Static) { s.Update("00", func(op *twilio.Operation) { op.UpdatedAt = noon.Add(time.Hour) }) }
	for _, tt := range []struct {
		name              string
		list              ListSettings
		change            func(*Static)
		repeated, skipped int
	}{
		{"offsets, arrival", ListSettings{Paging: Offsets}, arrive, 1, 0},
		{"keyset, arrival", ListSettings{}, arrive, 0, 0},
		{"offsets, departure", ListSettings{Paging: Offsets}, leave, 0, 1},
		{"keyset, departure", ListSettings{}, leave, 0, 0},
		{"latest update first, update", ListSettings{Order: UpdatedFirst}, update, 0, 1},
		{"latest update last, update", ListSettings{Order: UpdatedLast}, update, 1, 0},
		{"oldest first, arrival", ListSettings{Order: OldestFirst, Paging: Offsets}, arrive, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			source := NewStatic(ops...)
			p := MustPager(source, tt.list, at(noon))
			p.Before(func(_ context.Context, _ twilio.Query, page int) error {
				if page == 1 {
					tt.change(source)
				}
				return nil
			})
			seen := map[string]int{}
			for _, page := range collectPages(t, p.Pages(context.Background(), twilio.Query{PageSize: 10, Status: twilio.StatusCompleted})) {
				for _, op := range page {
					seen[op.ID]++
				}
			}
			repeated, skipped := 0, 0
			for _, op := range ops {
				switch seen[op.ID] {
				case 0:
					skipped++
				case 1:
				default:
					repeated++
				}
			}
			if repeated != tt.repeated || skipped != tt.skipped {
				t.Errorf("%d repeated, %d skipped; want %d, %d", repeated, skipped, tt.repeated, tt.skipped)
			}
		})
	}
}

func TestLateAndOmitted(t *testing.T) {
	s := smallWorld()
	s.ScheduledShare = 0
	world := MustWorld(s)
	clock := noon
	list := ListSettings{Late: Late{Share: 0.5, By: 10 * time.Minute}, Omit: Omit{Share: 0.2, For: 5 * time.Minute}}
	h := MustHandler(world, Settings{Now: func() time.Time { return clock }, List: list})
	ever, hidden := map[string]bool{}, 0
	for range 12 {
		shown := map[string]bool{}
		for _, page := range readAll(t, h, url.Values{"pageSize": {"1000"}}, true) {
			for _, op := range page {
				shown[op.ID], ever[op.ID] = true, true
			}
		}
		for op := range world.Operations(clock, s.Epoch, clock) {
			if shown[op.ID] == list.Hidden(op, clock) {
				t.Fatalf("Hidden says %v of an operation that is shown: %v", list.Hidden(op, clock), shown[op.ID])
			}
			if !shown[op.ID] {
				hidden++
				if w := get(h, "/v1/Messages/Operations/"+op.ID); w.Code != http.StatusOK {
					t.Fatalf("a hidden operation cannot be fetched: %d", w.Code)
				}
			}
		}
		clock = clock.Add(5 * time.Minute)
	}
	if hidden < 500 {
		t.Errorf("only %d hidden", hidden)
	}
	for op := range world.Operations(noon, s.Epoch, noon) {
		if !ever[op.ID] {
			t.Errorf("hidden for an hour: %s", op.ID)
		}
	}
}

// Pager is to have what the collector asks of an account; the interface is
// repeated here because nothing in this room imports the collector.
var _ interface {
	Pages(ctx context.Context, q twilio.Query) iter.Seq2[*twilio.Page, error]
	Now() time.Time
	Skew() (time.Duration, bool)
	RetryAt() time.Time
	Throttled() time.Duration
} = (*Pager)(nil)

func TestPager(t *testing.T) {
	p := MustPager(MustWorld(smallWorld()), ListSettings{}, at(noon))
	p.SetSkew(3 * time.Minute)
	if _, known := p.Skew(); known || !p.Now().Equal(noon.Add(-3*time.Minute)) {
		t.Error("the skew is known before the first page")
	}
	broken := errors.New("broken")
	p.Before(func(_ context.Context, _ twilio.Query, page int) error {
		if page == 2 {
			return broken
		}
		return nil
	})
	var got error
	pages := 0
	for page, err := range p.Pages(context.Background(), twilio.Query{}) {
		if got = err; err == nil {
			pages++
			if len(page.Operations) != 50 || page.Next == "" {
				t.Errorf("%d operations, next %q", len(page.Operations), page.Next)
			}
		}
	}
	if pages != 2 || !errors.Is(got, broken) || p.Requests() != 3 || p.Given() != 100 {
		t.Errorf("%d pages, error %v, %d requests, %d operations", pages, got, p.Requests(), p.Given())
	}
	if skew, known := p.Skew(); !known || skew != 3*time.Minute || !p.Now().Equal(noon) {
		t.Errorf("skew %v, %v, now %v", skew, known, p.Now())
	}
	p.SetSkew(time.Second)
	if !p.Now().Equal(noon.Add(-time.Second)) {
		t.Error("a skew under 2 s is not ignored")
	}
	p.SetRetryAt(noon)
	p.AddThrottled(time.Second)
	if !p.RetryAt().Equal(noon) || p.Throttled() != time.Second {
		t.Errorf("retry at %v, throttled %v", p.RetryAt(), p.Throttled())
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, err := range p.Pages(ctx, twilio.Query{}) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("canceled: %v", err)
		}
	}
	for _, size := range []int{-1, 1001} {
		for _, err := range p.Pages(context.Background(), twilio.Query{PageSize: size}) {
			if err == nil {
				t.Errorf("page size %d taken", size)
			}
		}
	}
}

func TestListSettingsRefused(t *testing.T) {
	for _, s := range []ListSettings{
		{Order: 5}, {Bounds: 4}, {Paging: 2}, {LastNext: 3}, {TokenFilters: 3}, {Alphabet: 2}, {PageCap: -1}, {EmptyEvery: 1},
		{EmptyEvery: -1}, {Repeat: -1}, {Late: Late{Share: 2}}, {Omit: Omit{Share: -1}}, {Omit: Omit{Share: 1}},
	} {
		if _, err := NewHandler(NewStatic(), Settings{List: s}); err == nil {
			t.Errorf("handler takes %+v", s)
		}
		if _, err := NewPager(NewStatic(), s, time.Now); err == nil {
			t.Errorf("pager takes %+v", s)
		}
	}
}

func TestTokens(t *testing.T) {
	if len(awkward) != 64 || len(awkwardValues) != 64 {
		t.Fatalf("%d awkward characters, %d different ones", len(awkward), len(awkwardValues))
	}
	want := token{
		cursor:  cursor{page: 3, given: 2800, key: key{noon.UnixNano(), "comms_operation_01h2xcejqtf2nbrexx3vqjhp41"}},
		filters: filters{start: noon, status: twilio.StatusScheduled},
		size:    1000,
	}
	for _, alphabet := range []Alphabet{URLSafe, Awkward} {
		a, b := newTokens(1, alphabet), newTokens(2, alphabet)
		s := a.seal(want)
		if s != a.seal(want) {
			t.Error("one place has two tokens")
		}
		if strings.Contains(s, "comms") || strings.Contains(s, "SCHEDULED") {
			t.Errorf("token %q shows what is in it", s)
		}
		got, err := a.open(s)
		if err != nil || got != want {
			t.Errorf("opened %+v, %v", got, err)
		}
		runes := []rune(s)
		runes[len(runes)/2] = runes[len(runes)/2+1] ^ 1
		for _, bad := range []string{"", "x", s[:len(s)-1], s + "A", string(runes), "ß€", b.seal(want), strings.Repeat("A", 100)} {
			if got, err := a.open(bad); err == nil {
				t.Errorf("token %q opens to %+v", bad, got)
			}
		}
	}
	var many strings.Builder
	for n := range 50 {
		many.WriteString(newTokens(1, Awkward).seal(token{size: n}))
	}
	for _, c := range awkward {
		if !strings.ContainsRune(many.String(), c) {
			t.Errorf("no %q in 50 awkward tokens", c)
		}
	}
}
