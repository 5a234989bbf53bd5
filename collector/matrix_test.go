package collector

import (
	"net/http"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/config"

	"twilio_operations_exporter/twilio"
	"twilio_operations_exporter/twilio/simulator"
	"twilio_operations_exporter/twilio/simulator/openapitest"
)

// TestEveryKindOfList reads the simulated world by every combination of what
// the API leaves open, through the real client, and holds the sums against a
// brute-force count: after a first refresh and one more.
func TestEveryKindOfList(t *testing.T) {
	type combination struct {
		list                  simulator.ListSettings
		pageSize, concurrency int
	}
	var combinations []combination
	for _, order := range []simulator.Order{simulator.NewestFirst, simulator.OldestFirst, simulator.Shuffled, simulator.UpdatedFirst, simulator.UpdatedLast} {
		for _, bounds := range []simulator.Bounds{simulator.ExclusiveMillis, simulator.Inclusive, simulator.ExclusiveSeconds, simulator.InclusiveSeconds} {
			for _, pageCap := range []int{0, 3} {
				for _, empty := range []int{0, 2} {
					for _, next := range []simulator.LastNext{simulator.LastNull, simulator.LastEmpty, simulator.LastAbsent} {
						for _, repeat := range []int{0, 1, 2} {
							for _, alphabet := range []simulator.Alphabet{simulator.URLSafe, simulator.Awkward} {
								for _, pageSize := range []int{4, 25, 1000} {
									for _, concurrency := range []int{1, 3} {
										combinations = append(combinations, combination{simulator.ListSettings{
											Order: order, Bounds: bounds, PageCap: pageCap, EmptyEvery: empty,
											LastNext: next, Repeat: repeat, Alphabet: alphabet,
										}, pageSize, concurrency})
									}
								}
							}
						}
					}
				}
			}
		}
	}
	t.Logf("%d combinations", len(combinations))

	synctest.Test(t, func(t *testing.T) {
		<-time.After(30*time.Second + 250*time.Millisecond) // the middle of a minute
		world := simulator.MustWorld(simulator.WorldSettings{
			Rate: 1.5, MaxRecipients: 1000, Lifetime: 3 * time.Minute, LifetimeSpread: 0.5, ScheduledShare: 0.2, ScheduledAhead: 10 * time.Minute,
			CanceledShare: 0.1, BadShare: 0.1, FailedShare: 0.05, Until: time.Now(),
		})
		for i, c := range combinations {
			if racing && i%11 > 0 {
				continue
			}
			s := settings()
			s.Window, s.PageSize, s.Concurrency = 30*time.Minute, c.pageSize, c.concurrency
			var handler http.Handler = simulator.MustHandler(world, simulator.Settings{
				AccountSID: "AC1", AuthToken: "secret", List: c.list, LogSize: -1, NoGzip: i%7 > 0,
			})
			if i%50 == 0 && c.list.LastNext != simulator.LastAbsent { // which breaks the description
				handler = openapitest.Wrap(t, "/v1", handler)
			}
			client := twilio.NewClient(twilio.Options{
				BaseURL:   &url.URL{Scheme: "http", Host: "api.test", Path: "/v1"},
				Transport: config.NewBasicAuthRoundTripper(config.NewInlineSecret("AC1"), config.NewInlineSecret("secret"), simulator.Transport(handler)),
				Timeout:   30 * time.Second,
			})
			r := NewRefresher(s, client, NewMetrics(prometheus.NewRegistry()).Account(s.Account), log.NewNopLogger())
			r.refresh(t.Context())
			r.refresh(t.Context())
			status := r.Status()
			if status.Err != nil {
				t.Fatalf("%+v: %v", c, status.Err)
			}
			want := world.Sums(time.Now(), r.window.first.time(), time.Now())
			got := make(simulator.Sums)
			for _, sums := range status.Snapshot.Statuses {
				if sums.Operations > 0 {
					got[sums.Status] = simulator.Sum{Operations: sums.Operations, Stats: sums.Stats}
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("%+v (-want +got):\n%s", c, diff)
			}
		}
	})
}
