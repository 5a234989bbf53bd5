package e2e

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// quietAccount is an account to which nothing happens but chance.
type quietAccount struct {
	*simAccount
	perMinute           func(time.Time) float64 // mean of what is sent
	failed, undelivered float64                 // chances
}

// quietAccounts returns thirty accounts, from 5 messages an hour to 1,000 a minute. Some sleep at night, send in
// bursts, or send one campaign a day. Up to 3% of their messages fail.
func quietAccounts(seed uint64) []*quietAccount {
	rates := []float64{5. / 60, 10. / 60, 20. / 60, 40. / 60, 1, 2, 5, 10, 60, 1000}
	failing := []float64{0.005, 0.015, 0.03}
	var all []*quietAccount
	for i, rate := range rates {
		for j, failed := range failing {
			curve := steady(rate)
			switch (i + j) % 3 {
			case 1:
				curve = nights(rate)
			case 2:
				curve = bursts(rate)
			}
			all = append(all, &quietAccount{perMinute: curve, failed: failed, undelivered: 1.5 * failed})
		}
	}

	// Of the middle rates, three are batch senders instead: 10,000 in 20 minutes.
	for j, i := range []int{13, 16, 19} {
		hour := []int{6, 12, 19}[j]
		all[i].perMinute = func(at time.Time) float64 {
			if at.Hour() == hour && at.Minute() < 20 {
				return 500
			}
			return 0
		}
	}

	for i, a := range all {
		a.simAccount = &simAccount{
			name: fmt.Sprintf("quiet-%02d", i), instance: "quiet:9861",
			random: rand.New(rand.NewPCG(uint64(i), seed)), //nolint:gosec // a test's
		}
	}
	return all
}

func steady(rate float64) func(time.Time) float64 { return func(time.Time) float64 { return rate } }

// nights sends nothing from ten to six.
func nights(rate float64) func(time.Time) float64 {
	return func(at time.Time) float64 {
		if at.Hour() < 6 || at.Hour() >= 22 {
			return 0
		}
		return rate
	}
}

// bursts sends ten times as much in the first five minutes of an hour, and half as much in the rest.
func bursts(rate float64) func(time.Time) float64 {
	return func(at time.Time) float64 {
		if at.Minute() < 5 {
			return 10 * rate
		}
		return rate / 2
	}
}

// quietSeed makes the days differ from the usual ones.
var quietSeed = flag.Uint64("alerts.seed", 0, "seed of the first quiet day")

// quietDays simulates days in which nothing unusual happens: one refresh an hour of each account fails, and the
// exporter is deployed once a day. The days are simulated side by side, as nothing looks back further.
func quietDays(t *testing.T, days int) string {
	t.Helper()
	sent, alerts := make([]float64, days), make([]int, days)
	t.Run("days", func(t *testing.T) {
		for day := range days {
			t.Run(fmt.Sprint(day+1), func(t *testing.T) {
				t.Parallel()
				sent[day], alerts[day] = quietDay(t, *quietSeed+uint64(day)) //nolint:gosec // a few
			})
		}
	})

	messages, fired := 0.0, 0
	for day := range days {
		messages += sent[day]
		fired += alerts[day]
	}

	if messages < 1e6*float64(days) {
		t.Errorf("%d days of %.0f messages", days, messages)
	}
	return fmt.Sprintf("Thirty accounts, from 5 messages an hour to 1,000 a minute, for %d days: steady ones, ones that sleep at "+
		"night, ones that\nsend in bursts, and three that send one campaign of 10,000 a day. Of their messages 0.5%% to 3%% fail, "+
		"and half as many again are\nundelivered, each by chance. The exporter is deployed every day, and one refresh an hour of "+
		"each account fails.\n\n%.1f million messages were sent, and %d alerts fired. The goal is none.\n", days, messages/1e6, fired)
}

// quietDay returns how many messages were sent in a day, and how many alerts fired.
func quietDay(t *testing.T, seed uint64) (sent float64, alerts int) {
	t.Helper()
	const day = 24 * time.Hour
	start := epoch.Add(10 * day)
	accounts := quietAccounts(seed)
	for _, a := range accounts {
		a.begin(start)
	}
	// A scrape a minute, of each refresh: half the time it takes.
	r := newRuleRun(t, time.Minute, shippedRules()...)

	for at := start; at.Before(start.Add(day)); at = at.Add(time.Minute) {
		minute := int(at.Sub(start) / time.Minute)
		var samples []scraped
		for i, a := range accounts {
			a.now = at
			switch {
			case minute == 10*60 || minute == 10*60+1: // it is deployed at ten
				a.down = true
			case a.down:
				a.restart()
				a.succeed() // a first look counts nothing
			case minute%60 == 20+i:
				a.fail("server")
			default:
				before := a.messages
				a.sendChance(a.perMinute(at), a.failed, a.undelivered)
				sent += a.messages - before
			}

			page := a.scrape()
			if i > 0 {
				page = withoutTarget(page)
			}
			samples = append(samples, page...)
		}

		r.step(at, samples)
	}

	r.evaluate()
	for _, change := range r.changes {
		t.Errorf("%v fires after %v for %v", change.firing, change.from.Sub(start), change.to.Sub(change.from))
	}
	return sent, len(r.changes)
}

// withoutTarget removes what an exporter exports once, not for each account.
func withoutTarget(page []scraped) []scraped {
	var kept []scraped
	for _, s := range page {
		if s.labels.Get("account") != "" {
			kept = append(kept, s)
		}
	}
	return kept
}
