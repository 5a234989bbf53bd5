package twilio

import (
	"math/rand/v2"
	"testing"
	"time"
)

func TestClock(t *testing.T) {
	type observed struct {
		ahead       time.Duration // of the answer's Date
		skew, moved time.Duration // seen, and corrected
		tooLarge    bool
	}

	const s, m, h = time.Second, time.Minute, time.Hour
	const years = -56 * 365 * 24 * h
	for name, steps := range map[string][]observed{
		"too small": {{s, s, 0, false}, {-s, -s, 0, false}},
		"small":     {{2 * s, 2 * s, 2 * s, false}, {-2 * s, -2 * s, -2 * s, false}},
		"one":       {{30 * m, 30 * m, 30 * m, false}},
		"drift":     {{0, 0, 0, false}, {m, m, m, false}, {2 * m, 2 * m, 2 * m, false}},
		"odd ones": {
			{5 * s, 5 * s, 5 * s, false}, {2 * h, 5 * s, 5 * s, false}, {6 * s, 6 * s, 6 * s, false},
			{2 * h, 6 * s, 6 * s, false}, {7 * s, 7 * s, 7 * s, false},
		},
		"two in a row": {{0, 0, 0, false}, {-10 * m, 0, 0, false}, {-11 * m, -11 * m, -11 * m, false}},
		"two that do not agree": {
			{0, 0, 0, false}, {10 * m, 0, 0, false}, {-10 * m, 0, 0, false}, {-10 * m, -10 * m, -10 * m, false},
		},
		"an hour": {{h, h, h, false}, {-h, h, h, false}, {-h, -h, -h, false}},
		"more than an hour": {
			{h + s, h + s, 0, true}, {h + s, h + s, 0, false}, {h, h, h, false}, {h + s, h + s, 0, true},
		},
		"years at first": {{years, years, 0, true}, {0, years, 0, false}, {0, 0, 0, false}},
		"days":           {{0, 0, 0, false}, {48 * h, 0, 0, false}, {48 * h, 48 * h, 0, true}, {48 * h, 48 * h, 0, false}},
	} {
		t.Run(name, func(t *testing.T) {
			var c clock
			local := time.Now()
			if skew, known := c.offset(); known || skew != 0 || !c.at(local).Equal(local) {
				t.Error("knows a skew without an answer")
			}
			for i, step := range steps {
				local = local.Add(time.Minute)
				tooLarge := c.observe(local.Add(step.ahead), local)
				skew, known := c.offset()
				if got := (observed{step.ahead, skew, c.at(local).Sub(local), tooLarge}); !known || got != step {
					t.Errorf("answer %d: got %+v, want %+v", i+1, got, step)
				}
			}
		})
	}
}

// TestClockIsTheWallClock checks that the monotonic clock does not count, as it stands still while a machine sleeps.
func TestClockIsTheWallClock(t *testing.T) {
	var c clock
	now := time.Now()
	if at := c.at(now); at != at.Round(0) { //nolint:staticcheck // == sees the monotonic reading
		t.Errorf("%v has a monotonic reading", at)
	}
	c.observe(now.Add(time.Minute), now)
	if at := c.at(now); at != at.Round(0) { //nolint:staticcheck // as above
		t.Errorf("%v has a monotonic reading", at)
	}
}

// TestClockAgainstRandomDates checks that, whatever the dates are, single odd ones have no effect, the correction stays
// within its bounds, and a clock that was set is followed from the second answer on.
func TestClockAgainstRandomDates(t *testing.T) {
	for seed := range uint64(500) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		between := func(low, high time.Duration) time.Duration { return low + time.Duration(rnd.Int64N(int64(high-low))) }
		var c clock
		local := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
		truth := between(-2*time.Hour, 2*time.Hour)
		odd, since, warnings, large := true, 0, 0, false // odd: the last answer was

		for i := range 200 {
			local = local.Add(between(0, time.Minute))
			ahead := truth
			switch p := rnd.IntN(20); {
			case p == 0 && i > 0: // either clock is set
				truth += between(2*time.Minute, 3*time.Hour) * time.Duration(1-2*rnd.IntN(2))
				ahead, odd, since = truth, false, 0
			case p < 5 && i > 0 && !odd && since > 1:
				ahead += between(2*time.Minute, 100*24*time.Hour) * time.Duration(1-2*rnd.IntN(2))
				odd = true
			default:
				ahead += between(-20*time.Second, 20*time.Second)
				odd = false
			}

			if !odd {
				since++
			}
			before, _ := c.offset()
			if c.observe(local.Add(ahead), local) {
				warnings++
			}
			skew, known := c.offset()

			switch {
			case !known:
				t.Fatalf("seed %d, answer %d: no skew", seed, i)
			case odd && i > 0 && skew != before:
				t.Fatalf("seed %d, answer %d: one odd answer of %v made %v of %v", seed, i, ahead, skew, before)
			case !odd && (i == 0 || since > 2) && (skew-truth).Abs() > skewAgree:
				t.Fatalf("seed %d, answer %d: skew %v, want %v", seed, i, skew, truth)
			}

			moved := c.at(local).Sub(local)
			want := skew
			if skew.Abs() < minSkew || skew.Abs() > maxSkew {
				want = 0
			}
			if moved != want {
				t.Fatalf("seed %d, answer %d: skew %v is corrected by %v", seed, i, skew, moved)
			}
			if skew.Abs() > maxSkew && !large {
				warnings--
			}
			if large = skew.Abs() > maxSkew; warnings != 0 {
				t.Fatalf("seed %d, answer %d: %d warnings too many", seed, i, warnings)
			}
		}
	}
}
