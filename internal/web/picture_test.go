package web

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"twilio_operations_exporter/collector/window"
	"twilio_operations_exporter/twilio"
)

// barsOf are bars of an hour each. The last one begins at noon.
func barsOf(stats ...twilio.Stats) []window.Bar {
	bars := make([]window.Bar, len(stats))
	for i := range stats {
		bars[i].Start = noon.Add(time.Duration(i-len(stats)+1) * time.Hour)
		bars[i].Stats = stats[i]
	}
	return bars
}

// A message is in one part of a bar, whether or not one that is read is still counted as delivered.
func TestOutcomes(t *testing.T) {
	for name, tc := range map[string]struct {
		stats twilio.Stats
		want  outcomes
	}{
		"read is a part of delivered": {
			twilio.Stats{twilio.Total: 100, twilio.Delivered: 80, twilio.Read: 30, twilio.Failed: 5, twilio.Undelivered: 15},
			outcomes{delivered: 80, undelivered: 15, failed: 5},
		},
		"read takes from delivered": {
			twilio.Stats{twilio.Total: 100, twilio.Delivered: 50, twilio.Read: 30, twilio.Failed: 5, twilio.Undelivered: 15},
			outcomes{delivered: 80, undelivered: 15, failed: 5},
		},
		"all were read": {
			twilio.Stats{twilio.Total: 100, twilio.Read: 100},
			outcomes{delivered: 100},
		},
		"delivered is a part of sent": {
			twilio.Stats{twilio.Total: 100, twilio.Queued: 10, twilio.Sent: 90, twilio.Delivered: 70, twilio.Read: 20, twilio.Undelivered: 5},
			outcomes{delivered: 70, undelivered: 5, onTheirWay: 25},
		},
		"on their way": {
			twilio.Stats{twilio.Total: 100, twilio.Scheduled: 20, twilio.Queued: 30, twilio.Sent: 40, twilio.Canceled: 10},
			outcomes{canceled: 10, onTheirWay: 90},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := outcomesOf(&tc.stats, readApart(&window.Totals{Stats: tc.stats}))
			if got != tc.want {
				t.Errorf("%+v, want %+v", got, tc.want)
			}
			if got.all() != tc.stats[twilio.Total] {
				t.Errorf("%d in all, want the total", got.all())
			}
		})
	}
}

func TestPicture(t *testing.T) {
	p := newPicture("p", "<day>", "message", barsOf(
		twilio.Stats{},
		twilio.Stats{
			twilio.Total: 1000, twilio.Delivered: 500, twilio.Failed: 250, twilio.Undelivered: 50, twilio.Canceled: 100, twilio.Queued: 100,
		},
		twilio.Stats{twilio.Delivered: 250},
	), time.Hour, false)

	got := string(p.SVG())
	for _, want := range []string{
		`viewBox="0 0 30 1000"`,
		// From the axis up: failed, undelivered, delivered, canceled, on their way.
		`<path class="failed" d="M15 1000V750"/>`,
		`<path class="undelivered" d="M15 750V700"/>`,
		`<path class="delivered" d="M15 700V200M25 1000V750"/>`,
		`<path class="canceled" d="M15 200V100"/>`,
		`<path class="way" d="M15 100V0"/>`,
		"Highest: 1,000 messages in 1 h, at 11:00<",
		`<title id="p-title">Messages of the last &lt;day&gt;, by creation time</title>`,
		`<desc id="p-desc">3 bars of 1 h each. Highest: 1,000 messages in 1 h, at 11:00. ` +
			`250 failed, 50 undelivered, 750 delivered, 100 canceled, 100 on their way. ` +
			`Most failed or undelivered at 11:00: 300.</desc>`,
		`aria-labelledby="p-title p-desc"`,
		`>now</text>`, `>11:00</text>`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}

	wellFormed(t, got)
	wellFormed(t, string(p.Spark()))
}

func wellFormed(t *testing.T, svg string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(svg))
	for {
		switch _, err := d.Token(); {
		case errors.Is(err, io.EOF):
			return
		case err != nil:
			t.Fatalf("%v in\n%s", err, svg)
		}
	}
}

// There is no picture of nothing, and one of whatever an API claims.
func TestPictureOfExtremes(t *testing.T) {
	if p := newPicture("p", "", "message", nil, time.Minute, false); p != nil {
		t.Error("a picture without bars")
	}
	if p := newPicture("p", "", "message", barsOf(twilio.Stats{twilio.Recipients: 7}), time.Hour, false); p != nil {
		t.Error("a picture without messages")
	}
	huge := twilio.Stats{twilio.Delivered: math.MaxInt64, twilio.Failed: math.MaxInt64, twilio.Queued: math.MaxInt64}
	p := newPicture("p", "", "message", barsOf(huge, twilio.Stats{twilio.Failed: 1}), time.Hour, false)

	for _, svg := range []string{string(p.SVG()), string(p.Spark())} {
		wellFormed(t, svg)
		if strings.Contains(svg, "NaN") || strings.Contains(svg, "V-") {
			t.Errorf("a bar leaves the picture:\n%s", svg)
		}
	}
}

func TestTicks(t *testing.T) {
	for _, tc := range []struct {
		bars   int
		length time.Duration
		end    time.Time // of the last bar
		want   []string
	}{
		{1, time.Minute, noon, nil},
		{61, time.Minute, noon, []string{"11:15", "11:30", "11:45"}},
		{61, time.Minute, noon.Add(7 * time.Minute), []string{"11:15", "11:30", "11:45"}},
		{97, 15 * time.Minute, noon, []string{"18:00", "Mar 1", "06:00"}},
		{97, 15 * time.Minute, noon.Add(3 * time.Hour), []string{"18:00", "Mar 1", "06:00"}},
		{97, 105 * time.Minute, noon, []string{"Feb 23", "Feb 24", "Feb 25", "Feb 26", "Feb 27", "Feb 28"}},
	} {
		p := picture{bars: make([]outcomes, tc.bars), length: tc.length}
		p.start = tc.end.Add(-p.width())
		var got []string
		last := 0.0
		for _, tick := range p.ticks() {
			if tick.at <= last || tick.at >= 100 {
				t.Errorf("%d bars of %v: a tick at %v%% after %v%%", tc.bars, tc.length, tick.at, last)
			}
			last = tick.at
			if tick.label != "" {
				got = append(got, tick.label)
			}
		}

		if !slices.Equal(got, tc.want) {
			t.Errorf("%d bars of %v to %v: %q, want %q", tc.bars, tc.length, tc.end, got, tc.want)
		}
	}
}

// A picture weighs little, however many numbers it shows.
func TestWeightOfPictures(t *testing.T) {
	stats := make([]twilio.Stats, 97)
	for i := range stats {
		for j := range stats[i] {
			stats[i][j] = int64(1_000_000 + i*1000 + j)
		}
	}

	p := newPicture("picture-0-window", "24 h", "message", barsOf(stats...), 15*time.Minute, false)
	t.Logf("a picture has %d bytes, a spark %d", len(p.SVG()), len(p.Spark()))
	if n := len(p.SVG()); n > 8_000 {
		t.Errorf("a picture of %d bytes", n)
	}
	if n := len(p.Spark()); n > 1_200 {
		t.Errorf("a spark of %d bytes", n)
	}
}
