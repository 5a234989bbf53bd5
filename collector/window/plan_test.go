package window

import (
	"math/rand/v2"
	"slices"
	"testing"
	"testing/quick"
	"time"

	"twilio_operations_exporter/twilio"
)

// Minutes are due by their age: start of this refresh - start of the one that
// read it ≥ max(interval, staleness × age) - interval/2.
func TestDueByAge(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 30, 0, time.UTC)
	const since = 100 * time.Hour // by the window's clock
	tests := []struct {
		name      string
		age       time.Duration // of the minute's end, by now
		read      time.Duration // ago; < 0 is never
		interval  time.Duration
		staleness float64
		dirty     bool
		want      float64 // due
	}{
		{"never read", time.Hour, -1, time.Minute, 0.1, false, 1},
		{"young, a refresh ago", 90 * time.Second, time.Minute, time.Minute, 0.1, false, 1},
		{"young, half a refresh ago", 90 * time.Second, 30 * time.Second, time.Minute, 0.1, false, 1},
		{"young, just read", 90 * time.Second, 29 * time.Second, time.Minute, 0.1, false, 29. / 30},
		{
			"an hour, due",
			60*time.Minute + 30*time.Second,
			6*time.Minute + 3*time.Second - 30*time.Second,
			time.Minute,
			0.1,
			false,
			1,
		},
		{
			"an hour, almost",
			60*time.Minute + 30*time.Second,
			6*time.Minute + 2*time.Second - 30*time.Second,
			time.Minute,
			0.1,
			false,
			332. / 333,
		},
		{"an hour, half", 60*time.Minute + 30*time.Second, 166500 * time.Millisecond, time.Minute, 0.1, false, 0.5},
		{"an hour, marked", 60*time.Minute + 30*time.Second, time.Second, time.Minute, 0.1, true, 1},
		{"of the future", -30 * time.Second, 30 * time.Second, time.Minute, 1, false, 1},
		{"staleness 0", 3 * time.Hour, 30 * time.Second, time.Minute, 0, false, 1},
		{"staleness 1", 3*time.Hour + 30*time.Second, time.Hour, time.Minute, 1, false, 1 / 3.},
		{"on scrape, staleness 0", 3 * time.Hour, 0, 0, 0, false, 1},
		{"on scrape, young", -30 * time.Second, 0, 0, 0.1, false, 1},
		{"on scrape, old", 1000 * time.Second, 50 * time.Second, 0, 0.1, false, 0.5},
		{"hourly, old", 20*time.Hour + 30*time.Second, time.Hour, time.Hour, 0.1, false, 3600. / 5403},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			end := now.Add(-tt.age).Truncate(time.Minute)
			at := end.Add(tt.age)
			o := Options{Interval: tt.interval, MaxStaleness: tt.staleness}
			w := New(o)
			w.first = minuteOf(end) - 1
			b := bucket{readAt: since - tt.read, dirty: tt.dirty, contents: new(contents)}
			if tt.read < 0 {
				b.readAt = never
			}
			b.done.of(twilio.StatusCompleted).Operations = 7
			w.buckets = []bucket{b}
			got := outlooks(&w.state, &o, at, since, 7)
			if d := got[0].due - tt.want; d > 1e-9 || d < -1e-9 {
				t.Errorf("due %v, want %v", got[0].due, tt.want)
			}
			if want := 7.0; got[0].operations != want {
				t.Errorf("%v operations expected, want %v", got[0].operations, want)
			}
		})
	}
}

// pictured makes outlooks from a picture: a due minute is D, one that is half due h,
// one that is not '.', each with so many operations.
func pictured(picture string, operations float64) []outlook {
	outlooks := make([]outlook, len(picture))
	for i, c := range picture {
		outlooks[i] = outlook{due: map[rune]float64{'D': 1, 'h': 0.6, '.': 0.2}[c], operations: operations}
	}
	return outlooks
}

func TestPlan(t *testing.T) {
	const end = open - 100
	tests := []struct {
		name       string
		picture    string
		operations float64 // in each minute
		size       float64 // of a page
		want       [][2]minute
	}{
		{"nothing", "......", 10, 100, nil},
		{"all", "DDDDDD", 10, 100, [][2]minute{{0, end}}},
		{"open first", "D.........D.........D....", 10, 20, [][2]minute{{20, 21}, {10, 11}, {0, 1}}},
		{"open at the end", "D.........D.........D", 10, 20, [][2]minute{{20, end}, {10, 11}, {0, 1}}},
		{"a gap that costs nothing", "D..D......", 10, 45, [][2]minute{{0, 4}}},
		{"a gap that costs a page more", "D...........D......", 10, 45, [][2]minute{{12, 13}, {0, 1}}},
		{"a gap of nothing", "D...........D......", 0, 45, [][2]minute{{0, 13}}},
		{"full pages and a gap", "DDDD.DDDD..", 10, 41, [][2]minute{{5, 9}, {0, 4}}},
		{"spare room goes to what is half due", "hhhDhhh..", 10, 62, [][2]minute{{0, 6}}},
		{"and not beyond what is not", "hh.Dh.h..", 10, 100, [][2]minute{{3, 5}}},
		{"older ones first", "hhhDhhh..", 10, 42, [][2]minute{{0, 4}}},
		{"filled up to what is not due", "hDh....................hDh", 10, 31, [][2]minute{{23, end}, {0, 3}}},
		{"no more than what fits", "hDDDDDDDDDDh", 10, 103, [][2]minute{{1, 11}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			const first = minute(1000)
			var got [][2]minute
			for _, s := range plan(first, pictured(tt.picture, tt.operations), paging(tt.size)) {
				to := s.to - first
				if s.to == open {
					to = end
				}
				got = append(got, [2]minute{s.from - first, to})
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("planned %v, want %v", got, tt.want)
			}
		})
	}
}

// randomStates are minutes of some account: the quick check's.
func randomStates(rnd *rand.Rand) ([]outlook, paging) {
	outlooks := make([]outlook, 1+rnd.IntN(300))
	share, most := rnd.Float64(), 1+rnd.Float64()*50
	for i := range outlooks {
		outlooks[i].due = rnd.Float64()
		if rnd.Float64() < share {
			outlooks[i].due = 1
		}
		if rnd.IntN(3) > 0 {
			outlooks[i].operations = float64(int(rnd.ExpFloat64() * most))
		}
	}
	return outlooks, paging(1 + rnd.IntN(100))
}

func TestPlanHoldsWhatIsDue(t *testing.T) {
	check := func(seed uint64) bool {
		rnd := rand.New(rand.NewPCG(seed, 0))
		outlooks, p := randomStates(rnd)
		first := minute(rnd.IntN(1000))
		last := first + minute(len(outlooks))
		spans := plan(first, outlooks, p)
		planned := make([]bool, len(outlooks))
		before := open
		for _, s := range spans {
			if s.from >= s.to || s.to > before || s.from < first || s.to > last && s.to != open || s.to == last {
				t.Logf("span %v before %v in [%d, %d)", s, before, first, last)
				return false
			}
			before = s.from
			sum := 0.
			for m := s.from; m < min(s.to, last); m++ {
				planned[m-first] = true
				sum += outlooks[m-first].operations
			}
			if sum != s.operations {
				t.Logf("span %v holds %v", s, sum)
				return false
			}
		}
		for i, st := range outlooks {
			if st.due >= 1 && !planned[i] {
				t.Logf("minute %d is due and not planned", i)
				return false
			}
		}
		return true
	}
	if err := quick.Check(check, &quick.Config{MaxCount: 3000}); err != nil {
		t.Error(err)
	}
}

func TestCut(t *testing.T) {
	const first, end = minute(100), minute(200)
	tests := []struct {
		name          string
		spans         []piece
		perMinute     float64
		workers, most int
		want          [][2]minute
	}{
		{"fits on a page", []piece{{span: span{100, open}, operations: 50}}, 0.5, 4, 50, [][2]minute{{100, open}}},
		{"two pages are not cut", []piece{{span: span{100, open}, operations: 150}}, 1.5, 4, 50, [][2]minute{{100, open}}},
		{
			"three each",
			[]piece{{span: span{100, open}, operations: 800}},
			8,
			4,
			50,
			[][2]minute{{164, open}, {128, 164}, {100, 128}},
		},
		{"one worker", []piece{{span: span{100, open}, operations: 800}}, 8, 1, 50, [][2]minute{{100, open}}},
		{
			"at most so many pages",
			[]piece{{span: span{100, open}, operations: 800}},
			8,
			1,
			3,
			[][2]minute{{164, open}, {128, 164}, {100, 128}},
		},
		{
			"spans apart",
			[]piece{{span: span{180, open}, operations: 20}, {span: span{150, 160}, operations: 10}},
			1,
			4,
			50,
			[][2]minute{{180, open}, {150, 160}},
		},
		{
			"a minute cannot be cut",
			[]piece{{span: span{150, 152}, operations: 4000}},
			2000,
			4,
			50,
			[][2]minute{{151, 152}, {150, 151}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got [][2]minute
			for _, s := range cut(tt.spans, func(minute) float64 { return tt.perMinute }, end, tt.workers, tt.most, paging(100)) {
				got = append(got, [2]minute{s.from, s.to})
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("cut into %v, want %v", got, tt.want)
			}
		})
	}
}

// Pieces cover their spans and are of about equal pages.
func TestPiecesCoverTheirSpans(t *testing.T) {
	check := func(seed uint64) bool {
		rnd := rand.New(rand.NewPCG(seed, 1))
		outlooks, p := randomStates(rnd)
		end := minute(len(outlooks))
		workers, most := 1+rnd.IntN(8), 1+rnd.IntN(50)
		spans := plan(0, outlooks, p)
		pieces := cut(spans, func(m minute) float64 { return outlooks[m].operations }, end, workers, most, p)
		i := 0
		for _, s := range spans {
			to := s.to
			for to > s.from {
				if i == len(pieces) || pieces[i].to != to || pieces[i].from < s.from || pieces[i].from >= min(to, end) {
					t.Logf("spans %v, pieces %v", spans, pieces)
					return false
				}
				minutes := 0 // with something in them: one cannot be cut
				for _, st := range outlooks[pieces[i].from:min(to, end)] {
					if st.operations > 0 {
						minutes++
					}
				}
				if minutes > 1 && p.pages(pieces[i].operations) > most {
					t.Logf("piece %v has %d pages, at most %d", pieces[i], p.pages(pieces[i].operations), most)
					return false
				}
				to = pieces[i].from
				i++
			}
		}
		return i == len(pieces)
	}
	if err := quick.Check(check, &quick.Config{MaxCount: 3000}); err != nil {
		t.Error(err)
	}
}

func TestPages(t *testing.T) {
	p := paging(1000)
	for operations, want := range map[float64]int{0: 1, 1: 1, 980: 1, 981: 2, 1960: 2, 1961: 3, 864000: 882} {
		if got := p.pages(operations); got != want {
			t.Errorf("%v operations on %d pages, want %d", operations, got, want)
		}
	}
}
