package web

import (
	"testing"
	"time"
)

func TestNumberAndPercent(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1234: "-1,234", -123: "-123",
	} {
		if got := number(n); got != want {
			t.Errorf("number(%d) = %q, want %q", n, got, want)
		}
	}

	for want, of := range map[string][2]int64{
		"–": {1, 0}, "0%": {0, 5}, "100%": {5, 5}, "<0.1%": {1, 1_000_000}, ">99.9%": {999_999, 1_000_000},
		"33.3%": {1, 3}, "200%": {2, 1},
	} {
		if got := percent(of[0], of[1]); got != want {
			t.Errorf("percent(%d, %d) = %q, want %q", of[0], of[1], got, want)
		}
	}
}

func TestAge(t *testing.T) {
	for _, tc := range []struct {
		d          time.Duration
		age, rough string
	}{
		{-time.Second, "0 s", "0 s"},
		{59*time.Second + 999*time.Millisecond, "59 s", "59 s"},
		{time.Minute, "1 min", "1 min"},
		{90 * time.Second, "1 min", "1 min"},
		{41*time.Minute + 4*time.Second, "41 min", "41 min"},
		{2*time.Hour + 59*time.Second, "2 h", "2 h"},
		{2*time.Hour + 30*time.Minute, "2 h 30 min", "2 h"},
		{24 * time.Hour, "24 h", "24 h"},
		{48 * time.Hour, "2 days", "2 days"},
		{77*time.Hour + time.Minute, "3 days 5 h", "3 days"},
		{7 * 24 * time.Hour, "7 days", "7 days"},
	} {
		if got := age(tc.d); got != tc.age {
			t.Errorf("age(%v) = %q, want %q", tc.d, got, tc.age)
		}
		if got := roughly(tc.d); got != tc.rough {
			t.Errorf("roughly(%v) = %q, want %q", tc.d, got, tc.rough)
		}
	}
}
