package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

// officeHours are the hours in which an account sends, in local time.
type officeHours struct {
	name     string
	from, to int
}

func (o officeHours) open(local time.Time) bool {
	hour := local.Hour()
	if o.from < o.to {
		return hour >= o.from && hour < o.to
	}
	return hour >= o.from || hour < o.to
}

// TestClocksChange simulates both changes of the clocks for accounts with office hours. No alert must fire, except for
// an account that does stop.
func TestClocksChange(t *testing.T) {
	t.Parallel()
	const zone = "Europe/Berlin"
	place, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	hours := []officeHours{{"day", 8, 20}, {"morning", 6, 13}, {"night", 21, 5}}

	for name, change := range map[string]time.Time{
		"forward": time.Date(2026, time.March, 29, 1, 0, 0, 0, time.UTC),
		"back":    time.Date(2026, time.October, 25, 1, 0, 0, 0, time.UTC),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clocksChange(t, change, place, hours)
		})
	}
}

// clocksChange simulates the days before a change of the clocks coarsely, from records, and those after it in full.
func clocksChange(t *testing.T, change time.Time, place *time.Location, hours []officeHours) {
	t.Helper()
	const (
		every  = 2 * time.Minute
		before = 2 * time.Hour // evaluated before the change
		days   = 2             // after it
		rate   = 600
	)

	start := change.Add(-before)
	var accounts []*simAccount
	of := map[*simAccount]officeHours{}
	for _, o := range hours {
		a := &simAccount{name: o.name, instance: "office:9861"}
		a.begin(start)
		accounts, of[a] = append(accounts, a), o
	}

	stops := &simAccount{name: "stops", instance: "office:9861"}
	stops.begin(start)
	accounts, of[stops] = append(accounts, stops), hours[0]
	// In the middle of its hours, on the first day after the change.
	stopped := time.Date(change.Year(), change.Month(), change.Day(), 12, 30, 0, 0, place)

	r := newRuleRun(t, every, shippedRules()...)
	// What the rules have recorded in the eight days before.
	for at := start.Add(-8 * 24 * time.Hour); at.Before(start); at = at.Add(5 * time.Minute) {
		var history []scraped
		for _, a := range accounts {
			sent := 0.0
			for m := range 60 {
				if of[a].open(at.Add(-time.Duration(m) * time.Minute).In(place)) {
					sent += rate
				}
			}
			for _, record := range historyRecords {
				history = append(history, scraped{
					labels.FromStrings("__name__", record, "job", job, "account", a.name), sent,
				})
			}
		}

		r.append(at, history)
	}

	for at := start; at.Before(change.Add(days * 24 * time.Hour)); at = at.Add(every) {
		var samples []scraped
		for i, a := range accounts {
			a.now = at
			sent := 0.0
			if of[a].open(at.In(place)) && (a != stops || at.Before(stopped)) {
				sent = rate * every.Minutes()
			}
			a.send(sent, 0.01, 0.03)
			page := a.scrape()
			if i > 0 {
				page = withoutTarget(page)
			}
			samples = append(samples, page...)
		}

		r.step(at, samples)
	}

	r.evaluate()

	told := r.of(firing{"TwilioSendingStopped", warning, stops.name})
	if len(told) == 0 {
		t.Error("nobody is told of the account that stops")
	} else if after := told[0].from.Sub(stopped); after < 0 || after > 75*time.Minute {
		t.Errorf("it is told %v after it stopped", after)
	}

	for _, c := range r.changes {
		if c.who != stops.name {
			t.Errorf("%v fires from %v to %v", c.firing, c.from.In(place), c.to.In(place))
		}
	}

	if len(told) > 0 {
		t.Log(fmt.Sprintf("told %v after the stop", told[0].from.Sub(stopped)))
	}
}
