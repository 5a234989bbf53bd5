package window

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"twilio_operations_exporter/twilio"
)

// The bars of a picture hold each operation of the window once, in the bar of its creation.
func TestPicture(t *testing.T) {
	for _, tt := range []struct {
		length, bar   time.Duration
		bars, minutes int // at most
	}{
		{time.Minute, time.Minute, 2, 2},
		{30 * time.Minute, time.Minute, 31, 31},
		{4 * time.Hour, 3 * time.Minute, 81, 61},
		{24 * time.Hour, 15 * time.Minute, 97, 61},
		{25*time.Hour + 30*time.Second, 16 * time.Minute, 96, 61},
		{167 * time.Hour, 105 * time.Minute, 97, 61},
	} {
		for _, status := range []twilio.Status{twilio.StatusCompleted, twilio.StatusProcessing} {
			if tt.length > 100*time.Hour && status.Live() {
				continue // it takes long
			}
			t.Run(fmt.Sprint(tt.length, status), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					<-time.After(37*time.Minute + 30*time.Second)
					o := testOptions()
					o.Length, o.PageSize = tt.length, 1000
					api := &fakeAPI{}
					w := New(o)
					if s := refreshed(t, w, api); s.Bars != nil || s.Minutes != nil {
						t.Errorf("%d bars and %d minutes of nothing", len(s.Bars), len(s.Minutes))
					}
					api.fill(2, tt.length+time.Hour, func(int) twilio.Status { return status })
					late := newOperation(newRand(1), time.Now().Add(time.Hour), status)
					late.Stats = twilio.Stats{twilio.Total: 1}
					api.add(late) // by a clock gone wrong

					s := refreshed(t, w, api)
					if s.BarLength != tt.bar || len(s.Bars) > tt.bars || len(s.Minutes) > tt.minutes {
						t.Errorf("%d bars of %v and %d minutes, want %d of %v and %d",
							len(s.Bars), s.BarLength, len(s.Minutes), tt.bars, tt.bar, tt.minutes)
					}
					checkBars(t, s.Bars, api, w.first, s.BarLength)
					hour := max(w.first, minuteOf(time.Now().Add(-time.Hour)))
					checkBars(t, s.Minutes, api, hour, time.Minute)
					if got, want := s.LastHour().Stats[twilio.Total], api.since(hour); got != want {
						t.Errorf("%d messages in the last hour, want %d", got, want)
					}
				})
			})
		}
	}
}

// checkBars holds bars against what the API has of minute since and later.
func checkBars(t *testing.T, bars []Bar, api *fakeAPI, since minute, length time.Duration) {
	t.Helper()
	for i, bar := range bars {
		if bar.Start.Unix()%int64(length.Seconds()) != 0 {
			t.Errorf("bar %d starts at %v, which is on no grid of %v", i, bar.Start, length)
		}
		begins := max(minuteOf(bar.Start), since)
		want := api.since(begins)
		if i+1 < len(bars) {
			want -= api.since(minuteOf(bars[i+1].Start))
		}
		if bar.Operations != want || bar.Stats[twilio.Total] != want {
			t.Errorf("bar %d from %v has %d operations of %d messages, want %d",
				i, bar.Start, bar.Operations, bar.Stats[twilio.Total], want)
		}
	}
	if first := bars[0].Start; minuteOf(first) > since || !first.Add(length).After(since.time()) {
		t.Errorf("the first bar starts at %v, want that of %v", first, since.time())
	}
	last := bars[len(bars)-1].Start
	if now := time.Now(); now.Before(last) || !now.Before(last.Add(length)) {
		t.Errorf("the last bar starts at %v, want that of %v", last, now)
	}
}
