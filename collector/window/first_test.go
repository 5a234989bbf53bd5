package window

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"twilio_operations_exporter/twilio"
)

// TestFirstReadIsFast reads 200 pages behind a latency of 100 ms with 8 workers, by the simulated clock, and holds the
// time and the requests against those of one page after another. The more uneven operations arrive, the less a first
// page tells of where they are.
func TestFirstReadIsFast(t *testing.T) {
	const (
		latency = 100 * time.Millisecond
		pages   = 200
		size    = 100
		workers = 8
		day     = 24 * 60
	)
	curve := func(swing, peak float64) func(minute int) float64 {
		return func(m int) float64 { return 1 + swing*math.Cos(2*math.Pi*(float64(m)/day-peak)) }
	}
	tests := []struct {
		name  string
		rate  func(minutesAgo int) float64
		least float64 // times as fast
	}{
		{"even", func(int) float64 { return 1 }, 6.5},
		{"a day's curve", curve(0.9, 0.3), 4},
		{"next to nothing in the newest hours", curve(0.99, 0.5), 4},
		{"next to nothing in the oldest hours", curve(0.99, 0.1), 4},
		{"bursts", func(m int) float64 {
			if m%360 < 10 {
				return 20
			}
			return 1
		}, 4},
	}
	for _, tt := range tests {
		for i, order := range fakeOrders {
			if *seeds <= fewSeeds && i > 0 && (tt.name != "even" || i > 2) {
				continue
			}
			t.Run(fmt.Sprintf("%s, %v", tt.name, order), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					rnd := rand.New(rand.NewPCG(1, 1))
					api := &fakeAPI{order: order}
					sum := 0.0
					for m := range day {
						sum += tt.rate(m)
					}
					due := 0.0
					for m := day - 1; m >= 0; m-- {
						for due += tt.rate(m) / sum * (pages - 0.5) * size; due >= 1; due-- {
							ago := time.Duration(m)*time.Minute + time.Duration(rnd.Int64N(int64(time.Minute)))
							api.byTime = append(api.byTime, newOperation(rnd, time.Now().Add(-ago), twilio.StatusCompleted))
						}
					}
					sortByTime(api.byTime)
					api.between = func(twilio.Query, int) { <-time.After(latency) }
					o := testOptions()
					o.Length, o.PageSize, o.Concurrency = 24*time.Hour, size, workers
					began := time.Now()
					refreshed(t, New(o), api)
					faster := (pages * latency).Seconds() / time.Since(began).Seconds()
					t.Logf("%.2f times as fast as a plain loop, %d requests where that makes %d", faster, api.requests, pages)
					if faster < tt.least {
						t.Errorf("%.2f times as fast as a plain loop, want %v", faster, tt.least)
					}
					most := pages + pages*6/100
					if tt.least < 6 {
						most = pages + 2*workers
					}
					if api.requests > most {
						t.Errorf("%d requests, where a plain loop makes %d", api.requests, pages)
					}
				})
			})
		}
	}
}
