package window

import (
	"fmt"
	"net/url"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/config"

	"twilio_operations_exporter/internal/testutil"
	"twilio_operations_exporter/twilio"
	"twilio_operations_exporter/twilio/simulator"
)

// kindsOfList are the values of each thing that the API leaves open, and of two of our own settings.
var kindsOfList = [][]func(*simulator.ListSettings, *Options){
	each(
		func(l *simulator.ListSettings, _ *Options, v simulator.Order) { l.Order = v },
		simulator.Orders...,
	),
	each(func(l *simulator.ListSettings, _ *Options, v simulator.Bounds) { l.Bounds = v },
		simulator.ExclusiveMillis, simulator.Inclusive, simulator.ExclusiveSeconds, simulator.InclusiveSeconds),
	each(func(l *simulator.ListSettings, _ *Options, v int) { l.PageCap = v }, 0, 3),
	each(func(l *simulator.ListSettings, _ *Options, v bool) { l.EmptyPages = v }, false, true),
	each(func(l *simulator.ListSettings, _ *Options, v simulator.LastNext) { l.LastNext = v },
		simulator.LastNull, simulator.LastEmpty, simulator.LastAbsent),
	each(func(l *simulator.ListSettings, _ *Options, v int) { l.Repeat = v }, 0, 1, 2),
	each(func(l *simulator.ListSettings, _ *Options, v bool) { l.AwkwardTokens = v }, false, true),
	each(func(_ *simulator.ListSettings, o *Options, v int) { o.PageSize = v }, 4, 25, 1000),
	each(func(_ *simulator.ListSettings, o *Options, v int) { o.Concurrency = v }, 1, 3),
}

func each[V any](
	set func(*simulator.ListSettings, *Options, V),
	values ...V,
) (settings []func(*simulator.ListSettings, *Options)) {
	for _, v := range values {
		settings = append(settings, func(l *simulator.ListSettings, o *Options) { set(l, o, v) })
	}
	return settings
}

// combinations of values, by number; all of them, or so few that each pair of values occurs.
func combinations(all bool) (combinations [][]int) {
	total := 1
	for _, values := range kindsOfList {
		total *= len(values)
	}
	covered := map[[4]int]bool{}
	for n := range total {
		// A step that has no common divisor with total makes neighbours differ in everything.
		rest, c := n*7919%total, []int{}
		for _, values := range kindsOfList {
			c = append(c, rest%len(values))
			rest /= len(values)
		}
		news := 0
		for i := range c {
			for j := range i {
				if pair := [4]int{i, c[i], j, c[j]}; !covered[pair] {
					covered[pair] = true
					news++
				}
			}
		}
		if all || news > 0 {
			combinations = append(combinations, c)
		}
	}
	return combinations
}

// TestEveryKindOfList reads the simulated world by combinations of what the API leaves open, through the real client,
// and holds the sums against a brute-force count: after a first refresh and one more. The operations are of messages, or
// of e-mails that tell of attempts or do not: in turns, or each in all combinations.
func TestEveryKindOfList(t *testing.T) {
	cs := combinations(*seeds > fewSeeds)
	t.Logf("%d combinations", len(cs))
	synctest.Test(t, func(t *testing.T) {
		<-time.After(30*time.Second + 250*time.Millisecond) // the middle of a minute
		world := simulator.MustWorld(simulator.WorldSettings{
			Rate:           1.5,
			MaxRecipients:  1000,
			Lifetime:       3 * time.Minute,
			LifetimeSpread: 0.5,
			ScheduledShare: 0.2,
			ScheduledAhead: 10 * time.Minute,
			CanceledShare:  0.1,
			BadShare:       0.1,
			FailedShare:    0.05,
			Until:          time.Now(),
		})
		kinds := []emails{noEmails, emailsWithAttempts, emailsWithoutAttempts}
		if *seeds > fewSeeds {
			cs = slices.Repeat(cs, len(kinds))
		}
		for i, c := range cs {
			kind := kinds[i%len(kinds)]
			if *seeds > fewSeeds {
				kind = kinds[i*len(kinds)/len(cs)]
			}
			o := testOptions()
			o.Length = 30 * time.Minute
			var list simulator.ListSettings
			for k, v := range c {
				kindsOfList[k][v](&list, &o)
			}
			settings := simulator.Settings{
				AccountSID: "AC1", AuthToken: "secret", List: list, NoGzip: i%7 > 0,
			}
			source, resource := simulator.Source(world), twilio.Messages
			if kind != noEmails {
				settings.Emails, settings.EmailsWithoutAttempts = world, kind == emailsWithoutAttempts
				source, resource = simulator.NewStatic(), twilio.Emails
			}
			handler := simulator.NewHandler(source, settings)
			client := twilio.NewClient(twilio.Options{
				Resource: resource,
				BaseURL:  &url.URL{Scheme: "http", Host: "api.test", Path: "/v1"},
				Transport: config.NewBasicAuthRoundTripper(
					config.NewInlineSecret("AC1"),
					config.NewInlineSecret("secret"),
					testutil.Transport(handler),
				),
				Timeout: 30 * time.Second,
			})
			w := New(o)
			for range 2 {
				if err := w.Refresh(t.Context(), client, &Progress{}); err != nil {
					t.Fatalf("%+v: %v", list, err)
				}
			}
			want := world.Sums(time.Now(), w.first.time(), time.Now())
			if kind == emailsWithoutAttempts {
				for status, sum := range want {
					sum.Stats[twilio.Attempts], sum.Stats[twilio.Recipients] = 0, 0
					want[status] = sum
				}
			}
			got := make(simulator.Sums)
			for _, sums := range w.Snapshot().Statuses {
				if sums.Operations > 0 {
					got[sums.Status] = simulator.Sum{Operations: sums.Operations, Stats: sums.Stats}
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("%+v (-want +got):\n%s", list, diff)
			}
		}
	})
}

// TestWrongDate has the API answer with a Date that is wrong, once or in each answer of three refreshes, through the real
// client. A window that fits in one page and one that does not, in turns with failures: what is shown is right whenever
// a refresh ends well, and nothing is counted that is not new.
func TestWrongDate(t *testing.T) {
	for _, length := range []time.Duration{time.Hour, 24 * time.Hour, 168 * time.Hour} {
		for _, wrong := range []time.Duration{
			30 * time.Minute, -30 * time.Minute, 2 * time.Hour, -2 * time.Hour, 25 * time.Hour, -25 * time.Hour, 30 * time.Hour, -30 * time.Hour,
		} {
			for _, refreshes := range []int{0, 3} { // with 0, one answer
				t.Run(fmt.Sprint(length, wrong, refreshes), func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) { wrongDate(t, length, wrong, refreshes) })
				})
			}
		}
	}
}

func wrongDate(t *testing.T, length, wrong time.Duration, refreshes int) {
	<-time.After(30*time.Second + 250*time.Millisecond) // the middle of a minute
	world := simulator.MustWorld(simulator.WorldSettings{
		Rate:          100 / length.Minutes(),
		Uniform:       true,
		MaxRecipients: 1,
		Lifetime:      time.Second,
		Epoch:         time.Now().Add(-length - 2*time.Hour - 7*time.Second),
	})
	handler := simulator.NewHandler(world, simulator.Settings{NoGzip: true})
	client := twilio.NewClient(twilio.Options{
		BaseURL: &url.URL{Scheme: "http", Host: "api.test", Path: "/v1"}, Transport: testutil.Transport(handler),
	})
	o := testOptions()
	o.Length, o.PageSize = length, 60
	w := New(o)
	check := func() {
		t.Helper()
		refreshed(t, w, client)
		want := int64(0)
		for _, sum := range world.Sums(time.Now(), w.first.time(), time.Now().Add(time.Hour)) {
			want += sum.Operations
		}
		if got := w.Snapshot().Operations(); got != want {
			t.Fatalf("%d operations from %v, want %d", got, w.first.time(), want)
		}
	}
	check()
	began := time.Now()
	fault := simulator.Fault{Kind: simulator.FaultDate, Offset: wrong}
	if refreshes == 0 {
		fault.Count = 1
	}
	handler.Faults().MustAdd(fault)
	for i := range 8 {
		<-time.After(o.Interval)
		if i == refreshes {
			handler.Faults().Clear()
		}
		check()
		arrived := int64(0)
		for _, sum := range world.Sums(time.Now(), began, time.Now()) {
			arrived += sum.Stats[twilio.Total]
		}
		if counted := w.Snapshot().Grown[twilio.Total]; counted > arrived {
			t.Fatalf("%d messages counted, %d have arrived", counted, arrived)
		}
	}
}
