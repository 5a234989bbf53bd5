package collector

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"

	"twilio_operations_exporter/twilio"
	"twilio_operations_exporter/twilio/simulator"
)

// TestFirstRefreshIsFast reads 200 pages behind a latency of 100 ms with 8
// workers, by the simulated clock, and holds the time and the requests against
// those of one page after another. The more uneven operations arrive, the less
// a first page tells of where they are, and the more the workers that are done
// have to take over from the others. How the workers take turns is left to
// chance, and with uneven arrivals the time with it: the limits leave room.
func TestFirstRefreshIsFast(t *testing.T) {
	const (
		latency = 100 * time.Millisecond
		pages   = 200
		size    = 100
		workers = 8
	)
	tests := []struct {
		name  string
		curve func(time.Time) float64
		order simulator.Order
		least float64 // times as fast
	}{
		{"even", nil, simulator.NewestFirst, 5},
		{"even, oldest first", nil, simulator.OldestFirst, 5},
		{"a day's curve", simulator.DayCurve(0.9, 15), simulator.NewestFirst, 4},
		{"a day's curve, oldest first", simulator.DayCurve(0.9, 15), simulator.OldestFirst, 4},
		{"next to nothing in the newest hours", simulator.DayCurve(0.99, 12), simulator.NewestFirst, 3},
		{"bursts", simulator.Bursts(20, 6*time.Hour, 10*time.Minute), simulator.NewestFirst, 4},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				now := time.Now()
				// What is asked for is to be 200 pages, whatever the curve.
				mean := 0.0
				for m := range 1440 {
					if tt.curve == nil {
						mean++
					} else {
						mean += tt.curve(now.Add(-time.Duration(m) * time.Minute))
					}
				}
				world := simulator.MustWorld(simulator.WorldSettings{
					Rate: (pages - 0.5) * size / mean, Curve: tt.curve, Until: now, MaxRecipients: 100,
				})
				api := simulator.MustPager(world, simulator.ListSettings{Order: tt.order}, time.Now)
				api.Before(func(context.Context, twilio.Query, int) error {
					<-time.After(latency)
					return nil
				})

				began := time.Now()
				for _, err := range api.Pages(t.Context(), twilio.Query{StartDate: now.Add(-24 * time.Hour), PageSize: size}) {
					if err != nil {
						t.Fatal(err)
					}
				}
				plain, plainRequests := time.Since(began), api.Requests()

				s := settings()
				s.Window, s.PageSize, s.Concurrency = 24*time.Hour, size, workers
				r := NewRefresher(s, api, NewMetrics(prometheus.NewRegistry()).Account(s.Account), log.NewNopLogger())
				began = time.Now()
				r.refresh(t.Context())
				if r.state.err != nil {
					t.Fatal(r.state.err)
				}
				took, requests := time.Since(began), api.Requests()-plainRequests

				t.Logf("%.2f times as fast as a plain loop, %d requests where that made %d", plain.Seconds()/took.Seconds(), requests, plainRequests)
				if faster := plain.Seconds() / took.Seconds(); faster < tt.least {
					t.Errorf("%.2f times as fast as a plain loop, want %v", faster, tt.least)
				}
				if most := plainRequests + max(plainRequests/20, workers); requests > most {
					t.Errorf("%d requests, where a plain loop made %d", requests, plainRequests)
				}
			})
		})
	}
}
