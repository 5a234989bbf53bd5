package e2e

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// pace is how often an account is refreshed and scraped. Without an interval it is refreshed on each scrape.
type pace struct{ interval, scrapes time.Duration }

// paces returns the paces for which the rules promise to work, and the first ones beyond.
func paces() []pace {
	var all []pace
	for _, minutes := range []time.Duration{1, 2, 3, 5, 7, 10, 15, 20, 30, 45} {
		all = append(all, pace{minutes * time.Minute, everyScrape})
	}
	all = append(all, pace{30 * time.Minute, 5 * time.Minute}, pace{30 * time.Minute, 10 * time.Minute})
	for _, seconds := range []time.Duration{30, 60, 120, 180, 240, 300, 420, 600, 900} {
		all = append(all, pace{0, seconds * time.Second})
	}
	return all
}

// fewPaces returns the paces to test if there is no time for all: the default, the most difficult ones, and both
// limits.
func fewPaces() []pace {
	return []pace{
		{time.Minute, everyScrape}, {15 * time.Minute, everyScrape}, {30 * time.Minute, everyScrape},
		{45 * time.Minute, everyScrape}, {0, 5 * time.Minute}, {0, 10 * time.Minute},
	}
}

const (
	paceLead  = 2 * time.Hour
	paceLasts = 3 * time.Hour
	paceAfter = 3 * time.Hour
)

// farApart are recording rules that have results only if refreshes or scrapes are far apart.
var farApart = []string{
	"account:twilio_up_window:beyond5m", "account:twilio_up_window:beyond15m", "account:twilio_up_window:beyond30m",
	"account:twilio_window:beyond5m", "account:twilio_window:beyond15m", "account:twilio_window:beyond30m",
	"instance:scrape:slow",
}

// measurePaces makes all messages of an account fail for hours, at each pace, and returns a row of the table for each.
func measurePaces(t *testing.T, all []pace) []string {
	t.Helper()
	start := epoch.Add(8 * 24 * time.Hour)
	accounts := make([]*simAccount, len(all))
	for i, p := range all {
		accounts[i] = &simAccount{
			name: fmt.Sprintf("pace-%02d", i), instance: fmt.Sprintf("pace-%02d:9861", i), interval: p.interval,
		}
		if p.interval == 0 {
			accounts[i].interval = onScrape
		}
		accounts[i].begin(start)
	}

	r := newRuleRun(t, everyScrape, shippedRules()...)
	shown, mended := make([]time.Time, len(all)), make([]time.Time, len(all))
	sick := func(at time.Time) bool {
		return !at.Before(start.Add(paceLead)) && at.Before(start.Add(paceLead+paceLasts))
	}
	for at := start; at.Before(start.Add(paceLead + paceLasts + paceAfter)); at = at.Add(everyScrape) {
		for i, p := range all {
			a := accounts[i]
			a.now = at
			every := p.interval
			if every == 0 {
				every = p.scrapes
			}
			if since := at.Sub(start); since%every == 0 {
				failed := 0.01
				if sick(at) {
					failed = 1
				}
				a.send(many*every.Minutes(), failed, 0)
			}

			if at.Sub(start)%p.scrapes != 0 {
				continue
			}
			if sick(a.lastSuccess) && shown[i].IsZero() {
				shown[i] = at
			}
			if !shown[i].IsZero() && !sick(a.lastSuccess) && mended[i].IsZero() {
				mended[i] = at
			}
			r.append(at, a.scrape()) // and not as a step, in which the others would be gone
		}

		r.step(at, nil)
	}

	r.evaluate()
	for _, record := range farApart {
		if !slices.ContainsFunc(r.rules, func(rule *runRule) bool { return rule.Record == record && len(rule.alive) > 0 }) {
			t.Errorf("%s yields nothing where refreshes and scrapes are far apart", record)
		}
	}

	var rows []string
	for i, p := range all {
		rows = append(rows, paceRow(t, r, p, accounts[i].name, shown[i], mended[i]))
	}
	return rows
}

// paceRow says when the critical alert fired, resolved and was interrupted, and which other alerts fired.
func paceRow(t *testing.T, r *ruleRun, p pace, name string, shown, mended time.Time) string {
	t.Helper()
	beyond := p.interval > 30*time.Minute || p.scrapes > 10*time.Minute
	told, others := "no", 0
	for _, change := range r.changes {
		switch {
		case change.who != name:
		case change.alert == "TwilioFailedShareHigh" && !change.from.Before(shown):
		case change.alert == "TwilioExporterIntervalTooLong":
			told = "yes"
		default:
			others++
			if !beyond {
				t.Errorf("%v: %v fires from %v to %v", p, change.firing, change.from.Sub(shown), change.to.Sub(shown))
			}
		}
	}

	if (told == "yes") != beyond {
		t.Errorf("%v: a warning that this is too seldom: %s", p, told)
	}
	refresh := "each scrape"
	if p.interval > 0 {
		refresh = short(p.interval)
	}
	critical := r.of(firing{"TwilioFailedShareHigh", critical, name})
	if len(critical) == 0 || critical[len(critical)-1].to.IsZero() {
		if !beyond {
			t.Errorf("%v: the alert began and ended: %v", p, critical)
		}
		return fmt.Sprintf("| %s | %s | | | | %d | %s |", refresh, short(p.scrapes), others, told)
	}

	if len(critical) > 1 && !beyond {
		t.Errorf("%v: the alert began %d times: %v", p, len(critical), critical)
	}
	begin, end := critical[0].from.Sub(shown).Minutes(), critical[len(critical)-1].to.Sub(mended).Minutes()
	return fmt.Sprintf("| %s | %s | %.1f | %.1f | %d | %d | %s |",
		refresh, short(p.scrapes), begin, max(end, 0), len(critical)-1, others, told)
}

// short formats a duration.
func short(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%.0f s", d.Seconds())
	}
	return fmt.Sprintf("%.0f min", d.Minutes())
}

// paceHead is the head of the table.
const paceHead = "| refresh | scrape | minutes to begin | minutes to end | interruptions | false alarms | TwilioExporterIntervalTooLong |\n" +
	"|---|---|---|---|---|---|---|\n"
