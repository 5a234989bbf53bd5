package collector

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"twilio_operations_exporter/twilio"
)

// at is an operation of so many seconds after noon.
func at(seconds int) twilio.Operation {
	return operation(fmt.Sprint("op", seconds), noon.Add(time.Duration(seconds)*time.Second), twilio.StatusCompleted, 1)
}

func ats(seconds ...int) []twilio.Operation {
	ops := make([]twilio.Operation, len(seconds))
	for i, s := range seconds {
		ops[i] = at(s)
	}
	return ops
}

// A reader gets pages of operations, in seconds after noon, of a window of the
// five minutes 0 to 4 (4 is open), of which the piece is some.
func TestReader(t *testing.T) {
	tests := []struct {
		name     string
		piece    [2]minute // 5: open
		again    bool
		pages    [][]int
		finished [][2]minute // after each page
		counts   []int       // in minutes 0 to 4, at the end
		reread   [][2]minute
	}{
		{
			name: "newest first", piece: [2]minute{0, 5},
			pages:    [][]int{{270, 241, 239}, {181, 180, 179}, {60, 59, 0}},
			finished: [][2]minute{{4, 5}, {3, 5}, {1, 5}},
			counts:   []int{2, 1, 1, 3, 2},
		},
		{
			name: "oldest first", piece: [2]minute{0, 5},
			pages:    [][]int{{0, 59, 60}, {179, 180, 181}, {239, 241, 270}},
			finished: [][2]minute{{0, 1}, {0, 3}, {0, 4}},
			counts:   []int{2, 1, 1, 3, 2},
		},
		{
			name: "no order", piece: [2]minute{0, 5},
			pages:    [][]int{{0, 239, 60}, {179, 270, 181}, {180, 241, 59}},
			finished: [][2]minute{{}, {}, {}},
			counts:   []int{2, 1, 1, 3, 2},
		},
		{
			name: "one minute is no direction", piece: [2]minute{0, 5},
			pages:    [][]int{{250, 260}, {241, 255}, {200, 190}},
			finished: [][2]minute{{}, {}, {4, 5}},
			counts:   []int{0, 0, 0, 2, 4},
		},
		{
			name: "repeats within a page", piece: [2]minute{0, 5},
			pages:    [][]int{{270, 200, 270, 200, 130, 200}, {70, 70, 10}},
			finished: [][2]minute{{3, 5}, {1, 5}},
			counts:   []int{1, 1, 1, 1, 1},
		},
		{
			name: "repeats of minutes that are finished", piece: [2]minute{0, 5},
			pages:    [][]int{{270, 200, 130}, {200, 130, 70}, {270, 70, 10}},
			finished: [][2]minute{{3, 5}, {2, 5}, {1, 5}},
			counts:   []int{1, 1, 1, 1, 1},
		},
		{
			name: "something new in a minute that is finished", piece: [2]minute{0, 5},
			pages:    [][]int{{270, 200, 130}, {201, 70}, {71, 10}},
			finished: [][2]minute{{3, 5}, {3, 5}, {3, 5}},
			counts:   []int{1, 2, 1, 1, 1},
			reread:   [][2]minute{{3, 4}},
		},
		{
			name: "the order breaks, and nothing was missing", piece: [2]minute{0, 5},
			pages:    [][]int{{270, 200, 130}, {70, 131}, {10}},
			finished: [][2]minute{{3, 5}, {3, 5}, {3, 5}},
			counts:   []int{1, 1, 2, 1, 1},
		},
		{
			name: "several minutes to be read again", piece: [2]minute{0, 5},
			pages:    [][]int{{270, 200, 130, 70, 10}, {271, 201, 71}},
			finished: [][2]minute{{1, 5}, {1, 5}},
			counts:   []int{1, 1, 1, 1, 1},
			reread:   [][2]minute{{1, 2}, {3, 5}},
		},
		{
			name: "a list that is read again finishes nothing before its end", piece: [2]minute{0, 5}, again: true,
			pages:    [][]int{{270, 200, 130}, {70, 10}},
			finished: [][2]minute{{}, {}},
			counts:   []int{1, 1, 1, 1, 1},
		},
		{
			name: "margins belong to others", piece: [2]minute{1, 3},
			pages:    [][]int{{180, 179, 120}, {119, 60, 59, 59, 58}},
			finished: [][2]minute{{}, {1, 3}},
			counts:   []int{0, 2, 2, 0, 0},
		},
		{
			name: "margins, oldest first", piece: [2]minute{1, 3},
			pages:    [][]int{{59, 60, 119}, {120, 179, 180, 180, 181}},
			finished: [][2]minute{{}, {1, 3}},
			counts:   []int{0, 2, 2, 0, 0},
		},
		{
			name: "before the window, and after its end", piece: [2]minute{0, 5},
			pages:    [][]int{{400, 310, 270, 10}, {-1, -100, -101}},
			finished: [][2]minute{{1, 7}, {0, 7}},
			counts:   []int{1, 0, 0, 0, 1, 1, 1},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			base := minuteOf(noon)
			w := newWindow(4*time.Minute, noon)
			w.slide(noon.Add(4*time.Minute + 30*time.Second))
			f := &refresh{w: w, number: 7, started: 42}
			p := piece{span: span{from: base + tt.piece[0], to: base + tt.piece[1]}, again: tt.again}
			if tt.piece[1] == 5 {
				p.to = newest
			}
			r := newReader(p)
			for i, page := range tt.pages {
				r.page(ats(page...), w, minuteOf(noon)+4)
				r.finish(r.passed(), w, f)
				want := tt.finished[i]
				for m, s := range w.each(span{from: base, to: newest}) {
					if done := m-base >= want[0] && m-base < want[1]; done != (s.read == f.started) {
						t.Errorf("after page %d, minute %d is finished: %t", i+1, m-base, !done)
					}
					if s.marked && s.read != f.started {
						t.Errorf("after page %d, minute %d is marked", i+1, m-base)
					}
				}
			}
			var reread [][2]minute
			for _, p := range r.end(w, f) {
				if !p.again {
					t.Error("what is read again may trust its order")
				}
				reread = append(reread, [2]minute{p.from - base, p.to - base})
			}
			if !slices.Equal(reread, tt.reread) {
				t.Errorf("to be read again: %v, want %v", reread, tt.reread)
			}
			var counts []int
			for m, s := range w.each(span{from: base, to: newest}) {
				counts = append(counts, s.operations())
				again := slices.ContainsFunc(tt.reread, func(a [2]minute) bool { return m-base >= a[0] && m-base < a[1] })
				if s.marked != again {
					t.Errorf("minute %d is marked: %t", m-base, s.marked)
				}
				if held := m-base >= tt.piece[0] && (m-base < tt.piece[1] || tt.piece[1] == 5); held != (s.read == f.started) {
					t.Errorf("minute %d is finished: %t", m-base, !held)
				}
			}
			if !slices.Equal(counts, tt.counts) {
				t.Errorf("counts %v, want %v", counts, tt.counts)
			}
		})
	}
}

// An idle worker takes the farther half of what is left.
func TestTakeOver(t *testing.T) {
	base := minuteOf(noon)
	tests := []struct {
		name       string
		pages      [][]int
		ahead      float64
		rest, half [2]minute // 100: open
	}{
		{"newest first", [][]int{{5990, 5400}, {4800, 4790}}, 2 * 79. / 20, [2]minute{39, 100}, [2]minute{0, 39}},
		{"oldest first", [][]int{{10, 590}, {610, 1190}}, 2 * 80. / 20, [2]minute{0, 60}, [2]minute{60, 100}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWindow(99*time.Minute, noon)
			w.slide(noon.Add(99*time.Minute + 30*time.Second))
			f := &refresh{w: w, number: 1}
			r := newReader(piece{span: span{from: base, to: newest}})
			if ahead := r.ahead(w); ahead != 0 {
				t.Errorf("%v pages ahead before the first", ahead)
			}
			for _, page := range tt.pages {
				r.page(ats(page...), w, base+99)
				r.finish(r.passed(), w, f)
			}
			if ahead := r.ahead(w); ahead < tt.ahead*0.9 || ahead > tt.ahead*1.1 {
				t.Errorf("%v pages ahead, want about %v", ahead, tt.ahead)
			}
			relative := func(s span) [2]minute {
				return [2]minute{s.from - base, min(s.to, base+100) - base}
			}
			half := r.halve(w)
			if got := relative(half.span); got != tt.half {
				t.Errorf("taken over: %v, want %v", got, tt.half)
			}
			if got := relative(r.all); got != tt.rest || !r.cut {
				t.Errorf("kept: %v, want %v", got, tt.rest)
			}
			// Each counts what is its own, whatever the other's list shows.
			other := newReader(half)
			all := ats(1300, 5980, 3000, 3600, 4000)
			other.page(all, w, base+99)
			other.end(w, f)
			counted := 0
			for m, s := range w.each(half.span) {
				counted += s.operations()
				if s.read == never {
					t.Fatalf("minute %d was not finished", m-base)
				}
			}
			want := 0
			for _, op := range all {
				if half.holds(minuteOf(op.CreatedAt)) {
					want++
				}
			}
			if counted != want {
				t.Errorf("the half counts %d, want %d", counted, want)
			}
		})
	}
}
