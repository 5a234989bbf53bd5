package collector

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"twilio_operations_exporter/twilio"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// readAll finishes a minute with these operations, as a refresh would.
func (w *window) readAll(m minute, refresh int, ops ...twilio.Operation) {
	r := newMinuteRead()
	for i := range ops {
		r.add(&ops[i], w.statuses)
	}
	w.finish(m, r, time.Duration(refresh)*time.Minute, refresh)
}

func operation(id string, at time.Time, status twilio.Status, total int64) twilio.Operation {
	return twilio.Operation{ID: id, Status: status, CreatedAt: at, UpdatedAt: at, Stats: twilio.Stats{Total: total}}
}

func TestMinuteOf(t *testing.T) {
	for _, tt := range []struct {
		seconds int64
		want    minute
	}{{0, 0}, {59, 0}, {60, 1}, {-1, -1}, {-60, -1}, {-61, -2}} {
		if got := minuteOf(time.Unix(tt.seconds, 999)); got != tt.want {
			t.Errorf("%d s is of minute %d, want %d", tt.seconds, got, tt.want)
		}
	}
}

func TestSlide(t *testing.T) {
	const length = 10 * time.Minute
	first := minuteOf(noon.Add(-length))
	read := []time.Duration{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10} // of the minutes before
	tests := []struct {
		name     string
		by       time.Duration
		first    minute
		want     []time.Duration
		baseline []minute
	}{
		{"stays", 30 * time.Second, first, read, nil},
		{"forwards", 2 * time.Minute, first + 2, append(read[2:len(read):len(read)], never, never), nil},
		{"to the last minute", length, first + 10, []time.Duration{10, never, never, never, never, never, never, never, never, never, never}, nil},
		{"beyond", length + time.Minute, first + 11, slices.Repeat([]time.Duration{never}, 11), nil},
		{"backwards", -2 * time.Minute, first - 2, append([]time.Duration{never, never}, read...), []minute{first - 2, first - 1}},
		{"before", -length - time.Minute, first - 11, slices.Repeat([]time.Duration{never}, 11), []minute{first - 11, first - 10, first - 9, first - 8, first - 7, first - 6, first - 5, first - 4, first - 3, first - 2, first - 1}},
	}
	for _, tt := range tests {
		for _, published := range []bool{true, false} {
			t.Run(fmt.Sprint(tt.name, published), func(t *testing.T) {
				w := newWindow(length, noon)
				w.slide(noon)
				for i := range w.minutes {
					w.minutes[i].read = time.Duration(i)
				}
				w.published = published
				w.slide(noon.Add(tt.by))
				var got []time.Duration
				var baseline []minute
				for m, s := range w.each(span{from: w.first, to: newest}) {
					got = append(got, s.read)
					if s.baseline {
						baseline = append(baseline, m)
					}
				}
				if w.first != tt.first || !slices.Equal(got, tt.want) {
					t.Errorf("from %d: %v, want from %d: %v", w.first, got, tt.first, tt.want)
				}
				if want := tt.baseline; published && !slices.Equal(baseline, want) || !published && baseline != nil {
					t.Errorf("baseline %v, want %v", baseline, want)
				}
			})
		}
	}
}

// Of minutes beyond the end no more than a day's are kept.
func TestSlideForgetsTheFarFuture(t *testing.T) {
	w := newWindow(time.Hour, noon)
	w.slide(noon.Add(time.Hour))
	w.extend(minuteOf(noon.Add(time.Hour)) + maxAhead)
	w.slide(noon)
	if got, want := w.end(), minuteOf(noon)+maxAhead+1; got != want {
		t.Errorf("the window ends at %d, want %d", got, want)
	}
}

// Counters grow by what a minute exceeds the highest it has had.
func TestCounters(t *testing.T) {
	total := func(w *window) int64 { return w.grown[0] }
	m := minuteOf(noon)
	op := func(id string, status twilio.Status, total int64) twilio.Operation {
		return operation(id, noon, status, total)
	}
	tests := []struct {
		name  string
		steps []func(w *window, refresh int)
		want  []int64 // after the first publication and each step's
	}{
		{"what is there at first is not counted", nil, []int64{0}},
		{
			"growth",
			[]func(*window, int){
				func(w *window, n int) { w.readAll(m, n, op("a", twilio.StatusCompleted, 150)) },
				func(w *window, n int) { w.readAll(m, n, op("a", twilio.StatusCompleted, 150)) },
				func(w *window, n int) {
					w.readAll(m, n, op("a", twilio.StatusCompleted, 150), op("b", twilio.StatusCompleted, 7))
				},
			},
			[]int64{0, 50, 50, 57},
		},
		{
			"what shrinks takes nothing away, and is not counted again",
			[]func(*window, int){
				func(w *window, n int) { w.readAll(m, n) },
				func(w *window, n int) { w.readAll(m, n, op("a", twilio.StatusCompleted, 100)) },
				func(w *window, n int) { w.readAll(m, n, op("a", twilio.StatusCompleted, 101)) },
			},
			[]int64{0, 0, 0, 1},
		},
		{
			"an operation that becomes live again",
			[]func(*window, int){
				func(w *window, n int) {
					o := op("a", twilio.StatusProcessing, 100)
					w.join(&o, m, n)
					w.readAll(m, n, o)
				},
				func(w *window, n int) {
					o := op("a", twilio.StatusProcessing, 130)
					w.join(&o, m, n)
				},
				func(w *window, n int) {
					w.leave(n)
					w.readAll(m, n, op("a", twilio.StatusCompleted, 131))
				},
			},
			[]int64{0, 0, 30, 31},
		},
		{
			"minutes of later",
			[]func(*window, int){
				func(w *window, n int) {
					w.slide(noon.Add(time.Minute))
					w.readAll(m+1, n, operation("b", noon.Add(time.Minute), twilio.StatusCompleted, 9))
				},
				func(w *window, n int) { // an outage
					w.slide(noon.Add(time.Hour))
					for at := range w.each(span{from: w.first, to: newest}) {
						w.readAll(at, n, operation(fmt.Sprint(at), at.time(), twilio.StatusCompleted, 2))
					}
				},
			},
			[]int64{0, 9, 9 + 3*2},
		},
		{
			"minutes that come in at the old end",
			[]func(*window, int){
				func(w *window, n int) {
					w.slide(noon.Add(-time.Minute))
					w.readAll(w.first, n, operation("b", w.first.time(), twilio.StatusCompleted, 9))
				},
				func(w *window, n int) {
					w.readAll(w.first, n, operation("b", w.first.time(), twilio.StatusCompleted, 11))
				},
			},
			[]int64{0, 0, 2},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWindow(2*time.Minute, noon)
			w.slide(noon)
			for at := range w.each(span{from: w.first, to: newest}) {
				if at != m {
					w.readAll(at, 1)
				}
			}
			w.readAll(m, 1, op("a", twilio.StatusCompleted, 100))
			w.publish()
			got := []int64{total(w)}
			for i, step := range tt.steps {
				step(w, i+2)
				w.publish()
				got = append(got, total(w))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("counted %v, want %v", got, tt.want)
			}
		})
	}
}

// marks says which minutes are to be read whatever their age.
func (w *window) marks() (marked []minute) {
	for m, s := range w.each(span{from: w.first, to: newest}) {
		if s.marked {
			marked = append(marked, m)
		}
	}
	return marked
}

func TestMarks(t *testing.T) {
	m := minuteOf(noon)
	live := operation("a", noon, twilio.StatusProcessing, 1)
	fresh := func() *window {
		w := newWindow(2*time.Minute, noon)
		w.slide(noon)
		return w
	}
	w := fresh()
	w.join(&live, m, 1)
	if got := w.marks(); got != nil {
		t.Errorf("an operation of a minute never read marks %v", got)
	}
	w.readAll(m, 1, live)
	w.join(&live, m, 2)
	w.leave(2)
	if got := w.marks(); got != nil || w.at(m).operations() != 1 {
		t.Errorf("an operation known as live marks %v", got)
	}
	w.leave(3)
	if got := w.marks(); !slices.Equal(got, []minute{m}) || w.at(m).live != nil {
		t.Errorf("an operation that left marks %v, want its minute", got)
	}
	w.leave(4)
	if got := w.marks(); !slices.Equal(got, []minute{m}) {
		t.Errorf("the mark went away unread: %v", got)
	}
	w.readAll(m, 5)
	if got := w.marks(); got != nil {
		t.Errorf("read, %v are still marked", got)
	}
	w.join(&live, m, 6)
	if got := w.marks(); !slices.Equal(got, []minute{m}) {
		t.Errorf("an operation that turns up in a minute that was read marks %v, want its minute", got)
	}
	before := operation("b", w.first.time().Add(-time.Nanosecond), twilio.StatusProcessing, 1)
	w.join(&before, m, 6)
	if n := len(w.minutes); n != 3 {
		t.Errorf("an operation of before the window makes it %d minutes", n)
	}
	after := operation("c", noon.Add(time.Minute), twilio.StatusProcessing, 1)
	w.join(&after, m, 6)
	if s := w.at(m + 1); s == nil || s.operations() != 1 {
		t.Error("an operation of the minute after the window's end is not in it")
	}
}

// A minute that is read replaces what was known of it; live operations stay
// where this refresh has met them elsewhere.
func TestFinish(t *testing.T) {
	m := minuteOf(noon)
	op := func(status twilio.Status) twilio.Operation { return operation("a", noon, status, 1) }
	tests := []struct {
		name          string
		joined        int // refresh that met the operation as live before; 0 = none
		read          []twilio.Operation
		live, settled int64
	}{
		{"nothing", 0, nil, 0, 0},
		{"live", 0, []twilio.Operation{op(twilio.StatusScheduled)}, 1, 0},
		{"settled", 0, []twilio.Operation{op(twilio.StatusCompleted)}, 0, 1},
		{"known and live", 2, []twilio.Operation{op(twilio.StatusProcessing)}, 1, 0},
		{"known and settled since", 2, []twilio.Operation{op(twilio.StatusCompleted)}, 0, 1},
		{"known and left off by a list that shifts", 2, nil, 1, 0},
		{"known before and gone", 1, nil, 0, 0},
		{"repeated", 0, []twilio.Operation{op(twilio.StatusCompleted), op(twilio.StatusCompleted)}, 0, 1},
		{"repeated, settled between", 0, []twilio.Operation{op(twilio.StatusProcessing), op(twilio.StatusCompleted), op(twilio.StatusProcessing)}, 0, 1},
		{"repeated, live", 0, []twilio.Operation{op(twilio.StatusScheduled), op(twilio.StatusProcessing)}, 1, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWindow(time.Minute, noon)
			w.slide(noon)
			w.readAll(m, 1, operation("old", noon, twilio.StatusCanceled, 5))
			if tt.joined > 0 {
				o := op(twilio.StatusScheduled)
				w.join(&o, m, tt.joined)
			}
			w.readAll(m, 2, tt.read...)
			s := w.at(m)
			if got := int64(len(s.live)); got != tt.live {
				t.Errorf("%d live, want %d", got, tt.live)
			}
			if got := int64(s.operations()) - int64(len(s.live)); got != tt.settled {
				t.Errorf("%d settled, want %d", got, tt.settled)
			}
			if s.read != 2*time.Minute || tt.live == 0 && s.live != nil {
				t.Errorf("read %v, live %v", s.read, s.live)
			}
		})
	}
}

// heapOf is what remains on the heap of what build returns.
func heapOf(t *testing.T, build func() *window) int64 {
	t.Helper()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&before)
	w := build()
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(w)
	return int64(after.HeapAlloc) - int64(before.HeapAlloc) //nolint:gosec // of a test
}

// Memory depends on the length of the window, not on how many operations there
// are.
func TestMemory(t *testing.T) {
	filled := func(length time.Duration, perMinute int, failingOneIn int) func() *window {
		return func() *window {
			w := newWindow(length, noon)
			w.slide(noon)
			n := 0
			for m := range w.each(span{from: w.first, to: newest}) {
				r := newMinuteRead()
				for i := range perMinute {
					n++
					op := operation(fmt.Sprintf("comms_operation_0%025d", n), m.time(), twilio.StatusCompleted, 200)
					if i%2 == 0 {
						op.Status = twilio.StatusCanceled
					}
					if failingOneIn > 0 && i%failingOneIn == 0 {
						op.Stats.Failed = 20 + int64(i)
					}
					r.add(&op, w.statuses)
				}
				w.finish(m, r, 0, 1)
			}
			w.publish()
			return w
		}
	}
	for _, tt := range []struct {
		name  string
		build func() *window
		most  int64 // bytes
	}{
		{"7 days", filled(7*24*time.Hour, 2, 0), 5 << 20},
		{"7 days, of ten times the operations", filled(7*24*time.Hour, 20, 0), 5 << 20},
		{"7 days, with as many failing campaigns in each minute as are noted", filled(7*24*time.Hour, noted, 1), 24 << 20},
		{"an idle day", filled(24*time.Hour, 0, 0), 200 << 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := heapOf(t, tt.build)
			t.Logf("%d KiB", got>>10)
			if got > tt.most {
				t.Errorf("%d bytes, want at most %d", got, tt.most)
			}
		})
	}
}
