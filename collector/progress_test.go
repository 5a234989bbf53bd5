package collector

import (
	"net/http"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"

	"twilio_operations_exporter/twilio"
	"twilio_operations_exporter/twilio/simulator"
)

// TestFirstReadGetsThere reads 500 pages for the first time from an API that
// answers every 40th request with a 503 that says nothing of when to come back,
// within refreshes that have time for a third of it.
func TestFirstReadGetsThere(t *testing.T) {
	for name, order := range map[string]simulator.Order{
		"newest first": simulator.NewestFirst, "oldest first": simulator.OldestFirst, "shuffled": simulator.Shuffled,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := settings()
				s.Window, s.PageSize, s.RefreshTimeout = 5*time.Hour, 20, 20*time.Second
				world := simulator.MustWorld(simulator.WorldSettings{
					Rate: 500 * float64(s.PageSize) / s.Window.Minutes(), Uniform: true, Until: time.Now(), MaxRecipients: 100,
				})
				handler := simulator.MustHandler(world, simulator.Settings{List: simulator.ListSettings{Order: order}, LogSize: -1})
				handler.Faults().MustAdd(simulator.Fault{Kind: simulator.FaultStatus, Status: http.StatusServiceUnavailable, Every: 40})
				client := twilio.NewClient(twilio.Options{
					BaseURL:   &url.URL{Scheme: "http", Host: "api.test", Path: "/v1"},
					Transport: simulator.Transport(handler),
					Timeout:   30 * time.Second, MaxRetries: 4, RateLimit: 10,
				})
				r := NewRefresher(s, client, NewMetrics(prometheus.NewRegistry()).Account(s.Account), log.NewNopLogger())

				failed := 0
				for {
					r.refresh(t.Context())
					status := r.Status()
					if status.Err == nil {
						break
					}
					if failed++; failed > 12 || status.Reason != reasonTimeout && status.Reason != reasonRateLimited {
						t.Fatalf("refresh %d: %v", failed, status.Err)
					}
					if status.Snapshot != nil {
						t.Fatal("a refresh that failed is shown")
					}
					<-time.After(s.Interval)
				}
				t.Logf("%d refreshes failed, %d requests", failed, handler.Requests().Total())
				if failed == 0 {
					t.Fatal("the deadline was long enough")
				}
				want := world.Sums(time.Now(), r.window.first.time(), time.Now())
				for _, got := range r.Status().Snapshot.Statuses {
					if got.Operations != want[got.Status].Operations {
						t.Errorf("%d operations are %s, want %d", got.Operations, got.Status, want[got.Status].Operations)
					}
				}
			})
		})
	}
}

// TestFirstReadWithoutOrderGetsThere reads a list in no order whose every 30th
// page fails for good, while new minutes, small enough to be read in between,
// come in at every refresh.
func TestFirstReadWithoutOrderGetsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := settings()
		s.Window = 8 * time.Hour
		l := newLife(t, 1, s)
		l.api.order = fakeShuffled
		l.lavish = true // small pieces are the price of getting there
		l.rate, l.lifetime, l.ahead = steady(3), 3*time.Minute, time.Hour
		l.pass(s.Window + time.Hour)
		pages := 0
		l.api.fail = func(twilio.Query) error {
			l.api.mu.Lock()
			defer l.api.mu.Unlock()
			if pages++; pages%30 == 0 {
				return errFake
			}
			return nil
		}
		for tries := 1; ; tries++ {
			l.refresh()
			if l.r.Status().Snapshot != nil {
				t.Logf("%d tries, %d pages", tries, pages)
				return
			}
			if tries == 40 {
				t.Fatalf("no success after %d tries", tries)
			}
			l.pass(s.Interval)
		}
	})
}
