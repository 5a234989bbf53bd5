package window

import (
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"twilio_operations_exporter/twilio"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// refreshes are those of a window, by hand.
type refreshes struct{ w *Window }

// newAt returns a window of a length that ends at noon.
func newAt(length time.Duration) refreshes {
	o := testOptions()
	o.Length = length
	w := New(o)
	w.slide(length, noon)
	return refreshes{w}
}

const farthest = open - 1

// asked has the operations in flight asked for: these are all that are found.
func (f refreshes) asked(ops ...twilio.Operation) idSet {
	a := &answers{findings: newFindings(f.w.options.Named), within: span{f.w.first, open}, farthest: farthest}
	for i := range ops {
		a.add(&ops[i], noon)
	}
	f.w.answer(a)
	return a.ids
}

// reads has minute m read with these operations, by refresh n, which has not asked for those in flight.
func (f refreshes) reads(n int, m minute, ops ...twilio.Operation) { f.readsAsked(nil, n, m, ops...) }

// readsAsked has minute m read with these operations, by refresh n, which has asked for those in flight and found some.
func (f refreshes) readsAsked(found idSet, n int, m minute, ops ...twilio.Operation) {
	f.readsSpan(found, n, span{m, m + 1}, ops...)
}

// readsSpan is readsAsked for a span.
func (f refreshes) readsSpan(found idSet, n int, of span, ops ...twilio.Operation) {
	r := &reading{
		findings: newFindings(f.w.options.Named),
		span:     of,
		farthest: farthest,
		answered: found,
	}
	for i := range ops {
		r.add(&ops[i], noon)
	}
	f.w.apply(r, found != nil, time.Duration(n)*time.Minute)
}

func operation(id string, at time.Time, status twilio.Status, total int64) twilio.Operation {
	return twilio.Operation{ID: id, Status: status, CreatedAt: at, UpdatedAt: at, Stats: twilio.Stats{twilio.Total: total}}
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
	minutes := func(from, n minute) (ms []minute) {
		for m := from; m < from+n; m++ {
			ms = append(ms, m)
		}
		return ms
	}
	unreads := slices.Repeat([]time.Duration{never}, 11)
	tests := []struct {
		name     string
		by       time.Duration
		first    minute
		want     []time.Duration
		baseline []minute
	}{
		{"stays", 30 * time.Second, first, read, nil},
		{"forwards", 2 * time.Minute, first + 2, slices.Concat(read[2:], unreads[:2]), nil},
		{"to the last minute", length, first + 10, slices.Concat(read[10:], unreads[:10]), nil},
		{"beyond", length + time.Minute, first + 11, unreads, nil},
		{"backwards", -2 * time.Minute, first - 2, slices.Concat(unreads[:2], read), minutes(first-2, 2)},
		{"before", -length - time.Minute, first - 11, unreads, minutes(first-11, 11)},
	}
	for _, tt := range tests {
		for _, published := range []bool{true, false} {
			t.Run(fmt.Sprint(tt.name, published), func(t *testing.T) {
				w := newAt(length).w
				for i := range w.buckets {
					w.buckets[i].readAt = time.Duration(i)
				}
				w.published = published
				w.slide(length, noon.Add(tt.by))
				var got []time.Duration
				var baseline []minute
				for m, b := range w.each(span{w.first, open}) {
					got = append(got, b.readAt)
					if b.baseline {
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

func TestSlideForgetsTheFarFuture(t *testing.T) {
	w := newAt(10 * time.Minute).w
	w.extend(minuteOf(noon) + maxAhead)
	w.slide(10*time.Minute, noon.Add(-5*time.Minute))
	if last := w.end() - 1; last != minuteOf(noon)-5+maxAhead {
		t.Errorf("the last minute is %d after now", last-minuteOf(noon))
	}
}

// Counters grow by what a minute exceeds its peak.
func TestCounters(t *testing.T) {
	m := minuteOf(noon)
	op := func(id string, status twilio.Status, total int64) twilio.Operation {
		return operation(id, noon, status, total)
	}
	tests := []struct {
		name  string
		steps []func(f refreshes, n int)
		want  []int64 // after the first publication and each step's
	}{
		{"what is there at first is not counted", nil, []int64{0}},
		{
			"growth",
			[]func(refreshes, int){
				func(f refreshes, n int) { f.reads(n, m, op("a", twilio.StatusCompleted, 150)) },
				func(f refreshes, n int) { f.reads(n, m, op("a", twilio.StatusCompleted, 150)) },
				func(f refreshes, n int) {
					f.reads(n, m, op("a", twilio.StatusCompleted, 150), op("b", twilio.StatusCompleted, 7))
				},
			},
			[]int64{0, 50, 50, 57},
		},
		{
			"what shrinks takes nothing away, and is not counted again",
			[]func(refreshes, int){
				func(f refreshes, n int) { f.reads(n, m) },
				func(f refreshes, n int) { f.reads(n, m, op("a", twilio.StatusCompleted, 100)) },
				func(f refreshes, n int) { f.reads(n, m, op("a", twilio.StatusCompleted, 101)) },
			},
			[]int64{0, 0, 0, 1},
		},
		{
			"an operation that is in flight again",
			[]func(refreshes, int){
				func(f refreshes, n int) {
					o := op("a", twilio.StatusProcessing, 100)
					f.readsAsked(f.asked(o), n, m, o)
				},
				func(f refreshes, _ int) { f.asked(op("a", twilio.StatusProcessing, 130)) },
				func(f refreshes, n int) { f.readsAsked(f.asked(), n, m, op("a", twilio.StatusCompleted, 131)) },
			},
			[]int64{0, 0, 30, 31},
		},
		{
			"minutes of later",
			[]func(refreshes, int){
				func(f refreshes, n int) {
					f.w.slide(f.w.options.Length, noon.Add(time.Minute))
					f.reads(n, m+1, operation("b", noon.Add(time.Minute), twilio.StatusCompleted, 9))
				},
				func(f refreshes, n int) { // an outage
					f.w.slide(f.w.options.Length, noon.Add(time.Hour))
					for at := range f.w.each(span{f.w.first, open}) {
						f.reads(n, at, operation(fmt.Sprint(at), at.time(), twilio.StatusCompleted, 2))
					}
				},
			},
			[]int64{0, 9, 9 + 3*2},
		},
		{
			"minutes that come in at the old end",
			[]func(refreshes, int){
				func(f refreshes, n int) {
					f.w.slide(f.w.options.Length, noon.Add(-time.Minute))
					f.reads(n, f.w.first, operation("b", f.w.first.time(), twilio.StatusCompleted, 9))
				},
				func(f refreshes, n int) {
					f.reads(n, f.w.first, operation("b", f.w.first.time(), twilio.StatusCompleted, 11))
				},
			},
			[]int64{0, 0, 2},
		},
		{
			"minutes that come back",
			[]func(refreshes, int){
				func(f refreshes, _ int) { // a clock far ahead
					f.w.slide(f.w.options.Length, noon.Add(time.Hour))
				},
				func(f refreshes, n int) {
					f.w.slide(f.w.options.Length, noon)
					f.reads(n, m, op("a", twilio.StatusCompleted, 120))
				},
				func(f refreshes, n int) {
					f.w.slide(f.w.options.Length, noon.Add(time.Minute))
					f.reads(n, m+1, operation("b", noon.Add(time.Minute), twilio.StatusCompleted, 9))
				},
			},
			[]int64{0, 0, 0, 9},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newAt(2 * time.Minute)
			for at := range f.w.each(span{f.w.first, open}) {
				if at != m {
					f.reads(1, at)
				}
			}
			f.reads(1, m, op("a", twilio.StatusCompleted, 100))
			f.w.publish()
			got := []int64{f.w.grown[twilio.Total]}
			for i, step := range tt.steps {
				step(f, i+2)
				f.w.publish()
				got = append(got, f.w.grown[twilio.Total])
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("counted %v, want %v", got, tt.want)
			}
		})
	}
}

// A message that is read has been delivered, and counts as that once: whether or not delivered falls as read rises.
func TestDeliveredWhenRead(t *testing.T) {
	m := minuteOf(noon)
	type stats struct{ delivered, read int64 }
	for _, tt := range []struct {
		name  string
		steps []stats
		want  []int64 // delivered, counted
	}{
		{"delivered stays", []stats{{10, 0}, {20, 10}, {30, 30}, {30, 30}}, []int64{0, 10, 20, 20}},
		{"delivered falls", []stats{{10, 0}, {5, 10}, {0, 20}, {10, 30}, {0, 40}}, []int64{0, 5, 10, 30, 30}},
		{"and nothing is read at first", []stats{{0, 0}, {10, 0}, {0, 10}, {0, 10}, {5, 10}}, []int64{0, 10, 10, 10, 15}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newAt(2 * time.Minute)
			var got []int64
			for i, s := range tt.steps {
				op := operation("a", noon, twilio.StatusCompleted, 40)
				op.Stats[twilio.Delivered], op.Stats[twilio.Read] = s.delivered, s.read
				f.reads(i+1, m, op)
				f.w.publish()
				got = append(got, f.w.grown[twilio.Delivered])
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("counted %v, want %v", got, tt.want)
			}
		})
	}
}

// A receipt of delivery that gets lost, or comes late, does not make messages count twice where delivered stays as read
// rises.
func TestReadWithoutDelivery(t *testing.T) {
	m := minuteOf(noon)
	for _, oddFirst := range []bool{true, false} {
		f := newAt(2 * time.Minute)
		f.reads(1, m)
		f.w.publish()
		ops := make([]twilio.Operation, 2)
		for i, s := range []twilio.Stats{{twilio.Total: 2, twilio.Read: 1}, {twilio.Total: 100, twilio.Delivered: 100, twilio.Read: 80}} {
			ops[i] = operation(strconv.Itoa(i), noon, twilio.StatusCompleted, 0)
			ops[i].Stats = s
		}
		if !oddFirst {
			slices.Reverse(ops)
		}
		f.reads(2, m, ops...)
		f.w.publish()
		if got := f.w.grown[twilio.Delivered]; got != 100 {
			t.Errorf("odd one first %t: counted %d, want 100", oddFirst, got)
		}
	}
}

// dirty are the minutes to be read whatever their age.
func (w *Window) dirty() (dirty []minute) {
	for m, b := range w.each(span{w.first, open}) {
		if b.dirty {
			dirty = append(dirty, m)
		}
	}
	return dirty
}

// A copy of a state keeps its operations in flight while lists are read that show more of them.
func TestCopyStandsStill(t *testing.T) {
	m := minuteOf(noon)
	known := operation("a", noon, twilio.StatusProcessing, 1)
	f := newAt(2 * time.Minute)
	found := f.asked(known)
	copied := f.w.copy()
	f.readsAsked(found, 1, m, operation("b", noon, twilio.StatusProcessing, 1))
	f.w.publish()
	for _, of := range []struct {
		state *state
		want  int64
	}{{&copied, 1}, {&f.w.state, 2}} {
		if got, _ := of.state.known(); int64(got) != of.want {
			t.Errorf("%v operations, want %d", got, of.want)
		}
	}
}

// However many fail, a minute keeps as many as a snapshot names, and the worst.
func TestFailingKept(t *testing.T) {
	m := minuteOf(noon)
	f := newAt(2 * time.Minute)
	for n := range 3 * f.w.options.Named {
		var ops []twilio.Operation
		for i := range n {
			op := operation(strconv.Itoa(i), noon, twilio.StatusCompleted, 100)
			op.Stats[twilio.Failed] = int64(50 + i)
			ops = append(ops, op)
		}
		f.reads(n+1, m, ops...)
		var got []int64
		for _, op := range f.w.at(m).get().failing {
			got = append(got, op.Stats[twilio.Failed]-50)
		}
		var want []int64
		for i := n - 1; i >= max(0, n-f.w.options.Named); i-- {
			want = append(want, int64(i))
		}
		if !slices.Equal(got, want) {
			t.Errorf("of %d, %v are kept, want %v", n, got, want)
		}
	}
}

func TestDirty(t *testing.T) {
	m := minuteOf(noon)
	processing := operation("a", noon, twilio.StatusProcessing, 1)
	scheduled := operation("a", noon, twilio.StatusScheduled, 1)
	other := operation("b", noon, twilio.StatusProcessing, 1)
	f := newAt(2 * time.Minute)
	found := f.asked(processing)
	if got := f.w.dirty(); got != nil {
		t.Errorf("an operation of a minute never read makes %v dirty", got)
	}
	f.readsAsked(found, 1, m, processing)

	for _, tt := range []struct {
		name string
		ops  []twilio.Operation
		want []minute
	}{
		{"an operation known to be in flight", []twilio.Operation{processing}, nil},
		{"one that is in another status", []twilio.Operation{scheduled}, nil},
		{"one that both questions show", []twilio.Operation{scheduled, processing}, nil},
		{"one that left", nil, []minute{m}},
		{"one that turns up", []twilio.Operation{processing, other}, []minute{m}},
		{"one in the place of another", []twilio.Operation{other}, []minute{m}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f.readsAsked(f.asked(processing), 2, m, processing)
			churn := f.w.churn
			found := f.asked(tt.ops...)
			if got := f.w.dirty(); !slices.Equal(got, tt.want) {
				t.Errorf("%v are dirty, want %v", got, tt.want)
			}
			if got, want := f.w.churn-churn, len(tt.want); got != want {
				t.Errorf("%d minutes churned, want %d", got, want)
			}
			if got, want := f.w.at(m).operations(), int64(len(found)); got != want {
				t.Errorf("%d operations in flight, want %d", got, want)
			}

			f.asked(tt.ops...)
			if got := f.w.dirty(); !slices.Equal(got, tt.want) {
				t.Errorf("asked again, %v are dirty, want %v", got, tt.want)
			}
			f.readsAsked(found, 3, m, tt.ops...)
			if got := f.w.dirty(); got != nil {
				t.Errorf("read, %v are dirty", got)
			}
		})
	}
}

// An operation in flight whose creation changes counts where the answers show it, and both minutes are due.
func TestCreationThatChanges(t *testing.T) {
	m := minuteOf(noon)
	f := newAt(2 * time.Minute)
	now := operation("a", noon, twilio.StatusProcessing, 1)
	before := operation("a", noon.Add(-time.Minute), twilio.StatusProcessing, 1)
	found := f.asked(now)
	f.readsSpan(found, 1, span{m - 1, m + 1}, now)

	found = f.asked(before, now)
	if got, want := f.w.dirty(), []minute{m - 1, m}; !slices.Equal(got, want) {
		t.Errorf("%v are dirty, want %v", got, want)
	}
	f.readsSpan(found, 2, span{m - 1, m + 1}, now)
	for at, want := range map[minute]int64{m - 1: 1, m: 0} {
		if got := f.w.at(at).operations(); got != want {
			t.Errorf("%d operations in minute %d, want %d", got, at-m, want)
		}
	}
}

// Without answers, minutes churn whose operations in flight are others than when they were last read.
func TestChurnWithoutAnswers(t *testing.T) {
	m := minuteOf(noon)
	op := func(id string, status twilio.Status) twilio.Operation { return operation(id, noon, status, 1) }
	const scheduled, processing, completed = twilio.StatusScheduled, twilio.StatusProcessing, twilio.StatusCompleted
	for _, tt := range []struct {
		name          string
		before, after []twilio.Operation
		want          int
	}{
		{"nothing in flight", []twilio.Operation{op("a", completed)}, nil, 0},
		{"nothing in flight before", nil, []twilio.Operation{op("a", processing)}, 0},
		{"the same", []twilio.Operation{op("a", scheduled)}, []twilio.Operation{op("a", processing)}, 0},
		{"done since", []twilio.Operation{op("a", processing)}, []twilio.Operation{op("a", completed)}, 1},
		{"gone", []twilio.Operation{op("a", processing)}, nil, 1},
		{"another", []twilio.Operation{op("a", processing)}, []twilio.Operation{op("b", processing)}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newAt(2 * time.Minute)
			f.reads(1, m, tt.before...)
			f.w.churn = 0
			f.reads(2, m, tt.after...)
			if got := f.w.churn; got != tt.want {
				t.Errorf("%d minutes churned, want %d", got, tt.want)
			}
			if got := f.w.dirty(); got != nil {
				t.Errorf("%v are dirty", got)
			}
		})
	}
}

// Operations in flight of before the window are left out, and those of after its end have a minute of their own.
func TestAskedBeyondTheWindow(t *testing.T) {
	f := newAt(2 * time.Minute)
	early := operation("a", f.w.first.time().Add(-time.Nanosecond), twilio.StatusProcessing, 1)
	late := operation("b", noon.Add(time.Minute), twilio.StatusProcessing, 1)
	found := f.asked(early)
	if n := len(f.w.buckets); n != 3 || len(found) > 0 {
		t.Errorf("an operation of before the window is among %d found, and makes it %d minutes", len(found), n)
	}
	f.asked(early, late)
	if b := f.w.at(minuteOf(noon) + 1); b == nil || b.operations() != 1 {
		t.Error("an operation of the minute after the window's end is not in it")
	}
}

// A minute that is read replaces what was known of it; operations in flight stay as they were found when this refresh
// asked for them.
func TestFinish(t *testing.T) {
	m := minuteOf(noon)
	op := func(status twilio.Status) twilio.Operation { return operation("a", noon, status, 1) }
	const scheduled, processing, completed = twilio.StatusScheduled, twilio.StatusProcessing, twilio.StatusCompleted
	known := []twilio.Operation{op(scheduled)}
	none := []twilio.Operation{}
	tests := []struct {
		name       string
		asked      []twilio.Operation // nil = not asked
		read       []twilio.Operation
		live, done int64
	}{
		{"nothing", nil, nil, 0, 0},
		{"in flight", nil, []twilio.Operation{op(scheduled)}, 1, 0},
		{"done", nil, []twilio.Operation{op(completed)}, 0, 1},
		{"asked, and in flight", known, []twilio.Operation{op(processing)}, 1, 0},
		{"asked, and done since", known, []twilio.Operation{op(completed)}, 1, 0},
		{"asked, and left off by a list that shifts", known, nil, 1, 0},
		{"asked, and in flight beside another", known, []twilio.Operation{operation("b", noon, processing, 1), op(processing)}, 2, 0},
		{"not found when asked, and in flight since", none, []twilio.Operation{op(processing)}, 1, 0},
		{"not found when asked, and done", none, []twilio.Operation{op(completed)}, 0, 1},
		{"repeated", nil, []twilio.Operation{op(completed), op(completed)}, 0, 1},
		{"repeated, done between", nil, []twilio.Operation{op(processing), op(completed), op(processing)}, 1, 0},
		{"repeated, in flight", nil, []twilio.Operation{op(scheduled), op(processing)}, 1, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newAt(time.Minute)
			f.reads(1, m, operation("old", noon, twilio.StatusCanceled, 5), operation("gone", noon, processing, 5))
			var found idSet
			if tt.asked != nil {
				found = f.asked(tt.asked...)
			}
			f.readsAsked(found, 2, m, tt.read...)
			b := f.w.at(m)
			if got := b.live.operations(); got != tt.live {
				t.Errorf("%d in flight, want %d", got, tt.live)
			}
			if got := b.done.operations(); got != tt.done {
				t.Errorf("%d done, want %d", got, tt.done)
			}
			if b.readAt != 2*time.Minute || b.dirty {
				t.Errorf("read %v, dirty %t", b.readAt, b.dirty)
			}
		})
	}
}

// heapOf is what remains on the heap of what build returns.
func heapOf(t *testing.T, build func() *Window) int64 {
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

// Memory depends on the length of the window, not on how many operations there are.
func TestMemory(t *testing.T) {
	filled := func(length time.Duration, perMinute int, failing bool) func() *Window {
		return func() *Window {
			f := newAt(length)
			n := 0
			for m := range f.w.each(span{f.w.first, open}) {
				ops := make([]twilio.Operation, perMinute)
				for i := range ops {
					n++
					ops[i] = operation(fmt.Sprintf("comms_operation_0%025d", n), m.time(), twilio.StatusCompleted, 200)
					if i%2 == 0 {
						ops[i].Status = twilio.StatusCanceled
					}
					if failing {
						ops[i].Stats[twilio.Failed] = 20 + int64(i)
					}
				}
				f.reads(1, m, ops...)
			}
			f.w.publish()
			f.w.snapshot = f.w.snapshotAt(noon, f.w.options, &highlights{})
			return f.w
		}
	}
	for _, tt := range []struct {
		name  string
		build func() *Window
		most  int64 // bytes
	}{
		{"7 days", filled(7*24*time.Hour, 2, false), 5 << 20},
		{"7 days, of ten times the operations", filled(7*24*time.Hour, 20, false), 5 << 20},
		{"7 days, with as many failing campaigns in each minute as are named", filled(7*24*time.Hour, 3, true), 14 << 20},
		{"an idle day", filled(24*time.Hour, 0, false), 60 << 10},
		{"a day of which all is in flight", func() *Window {
			f := newAt(24 * time.Hour)
			ops := make([]twilio.Operation, 100_000)
			for i := range ops {
				at := noon.Add(-time.Duration(i) * 800 * time.Millisecond)
				ops[i] = operation(fmt.Sprintf("comms_operation_0%025d", i), at, twilio.StatusProcessing, 200)
			}
			f.asked(ops...)
			return f.w
		}, 2 << 20},
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
