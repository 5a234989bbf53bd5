package simulator

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"twilio_operations_exporter/twilio"
)

// wirePage is a page decoded by encoding/json, so that the encoder is tested against another implementation.
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
	Stats     map[string]int64
	CreatedAt time.Time
	UpdatedAt time.Time
}

func (w wireOperation) operation() twilio.Operation {
	op := twilio.Operation{ID: w.ID, Status: w.Status, CreatedAt: w.CreatedAt, UpdatedAt: w.UpdatedAt}
	for stat, row := range twilio.MessageStats {
		op.Stats[stat] = w.Stats[row.JSON]
	}
	return op
}

// readAll reads a list to its end like a client that sends the same parameters with each token.
func readAll(t *testing.T, h http.Handler, q url.Values) (pages [][]twilio.Operation) {
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

// TestPagesEqualBruteForce reads the whole list, and filtered parts of it, with every combination of settings.
func TestPagesEqualBruteForce(t *testing.T) {
	s := smallWorld()
	s.Rate = 0.35
	world := MustWorld(s)
	// The world stands still here, so most combinations read a copy.
	still := NewStatic(slices.Collect(world.Operations(noon, s.Epoch, noon.Add(time.Hour)))...)
	combination := 0
	for _, order := range Orders {
		for bounds := ExclusiveMillis; bounds <= InclusiveSeconds; bounds++ {
			for _, pageCap := range []int{0, 7} {
				for _, emptyPages := range []bool{false, true} {
					for _, repeat := range []int{0, 4} {
						combination++
						list := ListSettings{
							Order: order, Bounds: bounds, PageCap: pageCap, EmptyPages: emptyPages, Repeat: repeat,
							// These do not depend on the others: take turns.
							LastNext:      LastNext(combination % 3),
							AwkwardTokens: combination%2 == 0,
						}

						if combination%4 == 0 {
							list.Jitter = 2 * time.Minute
						}
						size := 8 + combination*7%17
						if combination%50 == 0 {
							size = 1
						}
						if combination%10 == 0 {
							checkPages(t, world, still, list, size)
						}
						checkPages(t, still, still, list, size)
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
		for op := range truth.List(noon, Filter{}, false) {
			if within(list.Bounds, op.CreatedAt, q.StartDate, q.EndDate) && (q.Status == "" || op.Status == q.Status) {
				want = append(want, op)
			}
		}
		h := NewHandler(source, Settings{Now: at(noon), List: list})
		served := readAll(t, h, values(q))
		checkOrder(t, list, q, served, want)
	}
}

// within reports whether an operation is within bounds, computed in another way than by the code.
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

// checkOrder checks that pages hold each operation once, except for wanted repeats, in the wanted order, and are as
// full as possible.
func checkOrder(t *testing.T, list ListSettings, q twilio.Query, pages [][]twilio.Operation, want []twilio.Operation) {
	t.Helper()
	size := q.PageSize
	if list.PageCap > 0 {
		size = min(size, list.PageCap)
	}

	var got []twilio.Operation
	for i, page := range pages {
		empty := list.EmptyPages && i%2 == 1
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
		case Shuffled, Grouped:
		}
		return 0
	}

	disturbed := list.Jitter > 0 && (list.Order == NewestFirst || list.Order == OldestFirst)
	if sorted := slices.IsSortedFunc(got, less); !sorted && !disturbed {
		t.Fatalf("%+v, %+v: out of order", list, q)
	} else if sorted && disturbed && len(got) > 10 {
		t.Fatalf("%+v, %+v: in order", list, q)
	}

	if list.Order == Grouped {
		lists := 1
		for i := range got[:max(0, len(got)-1)] {
			if got[i].ID < got[i+1].ID {
				lists++
			}
		}
		if lists > 2 || lists < 2 && len(got) > 20 {
			t.Fatalf("%+v, %+v: %d lists", list, q, lists)
		}
	}

	byID := func(a, b twilio.Operation) int { return strings.Compare(a.ID, b.ID) }
	if list.Order == Shuffled && len(got) > 10 &&
		(slices.IsSortedFunc(got, byID) || slices.IsSortedFunc(got, func(a, b twilio.Operation) int { return byID(b, a) })) {
		t.Fatalf("%+v, %+v: not shuffled", list, q)
	}

	slices.SortFunc(got, byID)
	slices.SortFunc(want, byID)
	if !slices.Equal(got, want) {
		t.Fatalf("%+v, %+v: %d operations, brute force has %d", list, q, len(got), len(want))
	}
}

func TestSelfRepeatsThePage(t *testing.T) {
	h := NewHandler(MustWorld(smallWorld()), Settings{Now: at(noon), List: ListSettings{AwkwardTokens: true}})
	q := url.Values{"pageSize": {"10"}, "status": {"COMPLETED"}}
	first := getPage(t, h, q)
	q.Set("pageToken", *first.Pagination.Next)
	second := getPage(t, h, q)
	for _, p := range []wirePage{first, second} {
		q.Set("pageToken", p.Pagination.Self)
		again := getPage(t, h, q)
		if !reflect.DeepEqual(again.Operations, p.Operations) || again.Pagination.Self != p.Pagination.Self ||
			*again.Pagination.Next != *p.Pagination.Next {
			t.Error("self does not repeat the page")
		}
	}
}

// TestShiftingList reads a list that changes between pages.
func TestShiftingList(t *testing.T) {
	var ops []twilio.Operation
	for i := range 40 {
		ops = append(ops, operationAt(fmt.Sprintf("%02d", i), noon.Add(time.Duration(i)*time.Second)))
	}
	arriving := operationAt("new", noon.Add(time.Hour))
	arriving.Status = twilio.StatusProcessing // and so not listed yet
	arrive := func(s *Static) { s.Update("new", func(op *twilio.Operation) { op.Status = twilio.StatusCompleted }) }
	leave := func(s *Static) { s.Update("39", func(op *twilio.Operation) { op.Status = twilio.StatusCanceled }) }
	update := func(s *Static) { s.Update("00", func(op *twilio.Operation) { op.UpdatedAt = noon.Add(time.Hour) }) }

	for _, tt := range []struct {
		name              string
		order             Order
		change            func(*Static)
		repeated, skipped int
	}{
		{"arrival", NewestFirst, arrive, 0, 0},
		{"departure", NewestFirst, leave, 0, 0},
		{"latest update first, update", UpdatedFirst, update, 0, 1},
		{"latest update last, update", UpdatedLast, update, 1, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			source := NewStatic(append(ops, arriving)...)
			h := NewHandler(source, Settings{Now: at(noon), List: ListSettings{Order: tt.order}})
			seen := map[string]int{}
			q := url.Values{"pageSize": {"10"}, "status": {"COMPLETED"}}
			for page := 0; ; page++ {
				if page == 1 {
					tt.change(source)
				}
				p := getPage(t, h, q)
				for _, op := range p.Operations {
					seen[op.ID]++
				}
				if p.Pagination.Next == nil {
					break
				}
				q.Set("pageToken", *p.Pagination.Next)
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

// TestJitter checks that the order is disturbed as much as the settings say.
func TestJitter(t *testing.T) {
	s := DefaultWorldSettings()
	s.Rate = 600
	h := NewHandler(MustWorld(s), Settings{Now: at(noon), List: ListSettings{Jitter: 300 * time.Millisecond}})
	q := url.Values{"pageSize": {"1000"}, "startDate": {noon.Add(-10 * time.Minute).Format(time.RFC3339)}}
	var all []twilio.Operation
	for _, page := range readAll(t, h, q) {
		all = append(all, page...)
	}
	disturbed := 0
	oldest := noon

	for _, op := range all {
		switch behind := op.CreatedAt.Sub(oldest); {
		case behind > 300*time.Millisecond:
			t.Fatalf("%v comes after %v", op.CreatedAt, oldest)
		case behind > 0:
			disturbed++
		}
		oldest = op.CreatedAt
	}

	if len(all) < 5000 || disturbed < 1000 {
		t.Errorf("%d operations, %d disturbed", len(all), disturbed)
	}
}

func TestTokens(t *testing.T) {
	want := token{After: key{noon.UnixNano(), exampleID}, Empty: true, Filters: "SCHEDULED"}
	for _, awkward := range []bool{false, true} {
		list, other := ListSettings{AwkwardTokens: awkward}, ListSettings{AwkwardTokens: !awkward}
		s := list.encodeToken(want)
		if got, err := list.decodeToken(s); err != nil || got != want {
			t.Errorf("%q: %+v, %v", s, got, err)
		}
		for _, bad := range []string{"", "x", s[1:], s + "A", "ß€", other.encodeToken(want)} {
			if got, err := list.decodeToken(bad); err == nil {
				t.Errorf("token %q is taken for %+v", bad, got)
			}
		}
	}
}
