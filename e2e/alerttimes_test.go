package e2e

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

// TestAlertTimes measures how soon each alert begins when something goes wrong
// and how soon it ends when it is mended, writes docs/alerts.md, and fails where
// a goal is missed or the file was another.
func TestAlertTimes(t *testing.T) {
	t.Parallel()
	table, week := "", ""
	t.Run("troubles", func(t *testing.T) {
		t.Parallel()
		table = measure(t)
	})
	t.Run("a quiet week", func(t *testing.T) {
		t.Parallel()
		week = quietWeek(t)
	})
	t.Cleanup(func() {
		if t.Failed() || table == "" || week == "" {
			return // or not all of it was run
		}
		file := filepath.Join(project, "docs", "alerts.md")
		text := strings.NewReplacer("TABLE\n", table, "WEEK\n", week).Replace(alertsDoc)
		if before := string(readFile(t, file)); before != text {
			writeFile(t, file, []byte(text))
			t.Errorf("%s has been written anew: look at the difference", file)
		}
	})
}

// alertsDoc is docs/alerts.md; TABLE and WEEK are measured.
const alertsDoc = `# When alerts begin and end

Measured with the rules of ` + "`deploy/prometheus`" + ` on simulated accounts, at the intervals as they are shipped: scrapes and
evaluations every 30 s, a refresh every minute. ` + "`TestAlertTimes`" + ` in ` + "`e2e/`" + ` writes this file, and fails when a goal is
missed or the file was another: do not edit it.

Minutes to begin count from the first scrape that shows the trouble, minutes to end from the first scrape that shows it
mended. To this come up to a minute and a half until a scrape shows what the API says, and Alertmanager's ` + "`group_wait`" + `
(30 s) or ` + "`group_interval`" + ` (5 min).

TABLE

An account sends 600 messages a minute where nothing else is said. Two alerts are not in the table:
TwilioOperationScheduledTooLong is as late as its limit and 10 minutes, TwilioExporterShardMissing 15 minutes. An account
with fewer than 100 outcomes in every hour is judged by the day, and its alert lasts for as long as the hour is bad.

## A quiet week

WEEK

## What is behind it

A share of messages is an alert when it is above its threshold over a long window, which makes it significant, and over
the last five minutes, which says that it goes on. The long window is a quarter of an hour where enough messages reach
an outcome in that time, else an hour, else a day. Each severity has a least number of outcomes and of failures. All
figures are in [` + "`thresholds.yml`" + `](../deploy/prometheus/rules/thresholds.yml); each alert has a
[runbook](../deploy/runbooks/README.md).
`

const (
	lead    = 75 * time.Minute // of health, so that the windows of an hour are full
	trouble = 30 * time.Minute // unless a case says otherwise
	after   = 110 * time.Minute
)

// alertTime is an alert that a trouble raises, and when it must begin and end.
type alertTime struct {
	alert, severity string
	begin, end      float64 // minutes, at most; 0: no goal
}

// troubleCase is an account, on an exporter of its own, that something befalls.
type troubleCase struct {
	name    string
	lasts   time.Duration // trouble, if 0
	alerts  []alertTime   // all that may fire
	account *simAccount
	// minute is what a minute of refreshing brings; sick says whether the
	// trouble is on.
	minute func(a *simAccount, sick bool)
}

const warning, critical = "warning", "critical"

// many is an account with ten messages a second, few has three a minute.
const many, few = 600, 3

func troubleCases() []troubleCase {
	failing := func(perMinute float64, failed, undelivered float64) func(*simAccount, bool) {
		return func(a *simAccount, sick bool) {
			if sick {
				a.send(perMinute, failed, undelivered)
			} else {
				a.send(perMinute, 0.01, 0.03)
			}
		}
	}
	apiDown := func(reason string) func(*simAccount, bool) {
		return func(a *simAccount, sick bool) {
			if sick {
				a.fail(reason)
			} else {
				a.send(many, 0.01, 0.03)
			}
		}
	}
	return []troubleCase{
		{
			name: "all messages fail",
			alerts: []alertTime{
				{"TwilioFailedShareHigh", critical, 5, 10},
				{"TwilioFailedShareHigh", warning, 5, 10},
			},
			minute: failing(many, 1, 0),
		},
		{
			name: "15% of the messages fail",
			alerts: []alertTime{
				{"TwilioFailedShareHigh", warning, 10, 10},
				{"TwilioFailedShareHigh", critical, 20, 10},
			},
			minute: failing(many, 0.15, 0.03),
		},
		{
			name: "no message arrives",
			alerts: []alertTime{
				{"TwilioUndeliveredShareHigh", critical, 5, 10},
				{"TwilioUndeliveredShareHigh", warning, 5, 10},
			},
			minute: failing(many, 0, 1),
		},
		{
			name:   "15% more of the messages do not arrive",
			alerts: []alertTime{{"TwilioUndeliveredShareHigh", warning, 10, 10}},
			minute: failing(many, 0.01, 0.18),
		},
		{
			name: "all messages fail, of 180 an hour", lasts: 90 * time.Minute,
			alerts: []alertTime{
				{"TwilioFailedShareHigh", warning, 10, 10},
				{"TwilioFailedShareHigh", critical, 60, 10},
			},
			minute: failing(few, 1, 0),
		},
		{
			name: "half of the messages fail, of 60 an hour", lasts: 2 * time.Hour,
			alerts: []alertTime{{"TwilioFailedShareHigh", warning, 60, 75}},
			minute: failing(1, 0.5, 0),
		},
		{
			name: "12 of 110 messages fail, once", lasts: time.Minute,
			alerts: []alertTime{{"TwilioFailedShareHigh", warning, 3, 10}},
			minute: func(a *simAccount, sick bool) {
				a.send(0, 0, 0)
				if sick {
					a.send(110, 12.0/110, 0)
				}
			},
		},
		{
			name: "one operation of 100 messages fails, among 43,000", lasts: time.Minute,
			minute: func(a *simAccount, sick bool) {
				a.send(many, 0.01, 0.03)
				if sick {
					a.fails("small", 100, 100, "COMPLETED")
				}
			},
		},
		{
			name:   "a campaign of 20,000 fails at 12%, among 36,000 an hour",
			lasts:  40 * time.Minute,
			alerts: []alertTime{{"TwilioCampaignFailing", warning, 5, 10}},
			minute: func(a *simAccount, sick bool) {
				a.send(many, 0.01, 0.03)
				if sick {
					a.fails("large", 20_000, 60, "PROCESSING")
				} else {
					a.fails("large", 0, 0, "COMPLETED")
				}
			},
		},
		{
			name:   "half of the recipients are unaddressable",
			alerts: []alertTime{{"TwilioUnaddressableShareHigh", warning, 15, 10}},
			minute: func(a *simAccount, sick bool) {
				if !sick {
					a.send(many, 0.01, 0.03)
					return
				}
				a.send(many/2, 0.01, 0.03)
				a.recipients += many / 2
				a.unaddressable += many / 2
			},
		},
		{
			name: "a fifth of the usual is delivered", lasts: 2 * time.Hour,
			alerts:  []alertTime{{"TwilioDeliveryDropped", warning, 60, 10}},
			account: &simAccount{usual: 0.96 * 60 * many},
			minute: func(a *simAccount, sick bool) {
				if !sick {
					a.send(many, 0.01, 0.03)
					return
				}
				a.send(many/5, 0.01, 0.03) // the others are on their way
				a.attempts += many * 4 / 5
			},
		},
		{
			name: "an operation is stuck", lasts: 2 * time.Hour,
			alerts: []alertTime{{"TwilioOperationStuckProcessing", warning, 75, 10}},
			minute: func(a *simAccount, sick bool) {
				a.stuck = sick
				a.send(many, 0.01, 0.03)
			},
		},
		{
			name: "more is accepted than is sent", lasts: 2 * time.Hour,
			alerts: []alertTime{{"TwilioBacklogGrowing", warning, 90, 10}},
			minute: func(a *simAccount, sick bool) {
				a.send(many, 0.01, 0.03)
				switch {
				case sick:
					a.queued += 100
				case a.queued > 2000:
					a.queued -= 300
				}
			},
		},
		{
			name: "nothing is sent, where there was this hour a week ago", lasts: 2 * time.Hour,
			alerts:  []alertTime{{"TwilioSendingStopped", warning, 72, 5}},
			account: &simAccount{usual: 60 * many},
			minute: func(a *simAccount, sick bool) {
				if sick {
					a.send(0, 0, 0)
				} else {
					a.send(many, 0.01, 0.03)
				}
			},
		},
		{
			name: "nothing is sent, by an account with a least number", lasts: 2 * time.Hour,
			alerts:  []alertTime{{"TwilioNothingSent", critical, 72, 5}},
			account: &simAccount{name: "example"}, // has one in thresholds.yml
			minute: func(a *simAccount, sick bool) {
				if sick {
					a.send(0, 0, 0)
				} else {
					a.send(many, 0.01, 0.03)
				}
			},
		},
		{
			name: "all refreshes fail", lasts: 45 * time.Minute,
			alerts: []alertTime{
				{"TwilioExporterRefreshesFailing", warning, 8, 5},
				{"TwilioExporterNumbersTooOld", warning, 12, 5},
				{"TwilioExporterNumbersTooOld", critical, 32, 5},
			},
			minute: apiDown("server"),
		},
		{
			name:   "two of three refreshes fail",
			alerts: []alertTime{{"TwilioExporterRefreshesFailing", warning, 12, 5}},
			minute: func(a *simAccount, sick bool) {
				if sick && int(a.now.Sub(epoch).Minutes())%3 > 0 {
					a.fail("timeout")
				} else {
					a.send(many, 0.01, 0.03)
				}
			},
		},
		{
			name: "the credentials are refused",
			alerts: []alertTime{
				{"TwilioExporterCredentialsRefused", critical, 5, 5},
				{"TwilioExporterRefreshesFailing", warning, 8, 5},
				{"TwilioExporterNumbersTooOld", warning, 12, 5},
			},
			minute: apiDown("auth"),
		},
		{
			name: "half of the time the API makes it wait", lasts: time.Hour,
			alerts: []alertTime{{"TwilioExporterThrottled", warning, 25, 10}},
			minute: func(a *simAccount, sick bool) {
				a.send(many, 0.01, 0.03)
				if sick {
					a.throttled += 30
				}
			},
		},
		{
			name: "a third of the requests are answered 429", lasts: time.Hour,
			alerts: []alertTime{{"TwilioExporterTooManyRequests", warning, 30, 10}},
			minute: func(a *simAccount, sick bool) {
				a.send(many, 0.01, 0.03)
				if sick {
					a.refused += 3
				}
			},
		},
		{
			name: "nearly 10 requests a second", lasts: time.Hour,
			alerts: []alertTime{{"TwilioExporterNearRateLimit", warning, 25, 10}},
			minute: func(a *simAccount, sick bool) {
				a.send(many, 0.01, 0.03)
				if sick {
					a.requests += 570
				}
			},
		},
		{
			name:   "the clocks differ by two minutes",
			alerts: []alertTime{{"TwilioExporterClockSkew", warning, 12, 1}},
			minute: func(a *simAccount, sick bool) {
				a.send(many, 0.01, 0.03)
				a.skew = 0.2
				if sick {
					a.skew = -120
				}
			},
		},
		{
			name:   "a reload fails",
			alerts: []alertTime{{"TwilioExporterReloadFailed", warning, 2, 1}},
			minute: func(a *simAccount, sick bool) {
				a.send(many, 0.01, 0.03)
				a.reloadFailed = sick
			},
		},
		{
			name:   "the exporter is down",
			alerts: []alertTime{{"TwilioExporterDown", critical, 6, 1}},
			minute: func(a *simAccount, sick bool) {
				if a.down && !sick {
					a.restart()
				}
				if a.down = sick; !sick {
					a.send(many, 0.01, 0.03)
				}
			},
		},
		{
			name: "the exporter is killed every 150 s and its first read never ends", lasts: 40 * time.Minute,
			alerts: []alertTime{
				{"TwilioExporterRestarting", warning, 10, 10},
				{"TwilioExporterNumbersTooOld", warning, 12, 5},
				{"TwilioExporterNumbersTooOld", critical, 32, 5},
			},
			minute: func(a *simAccount, sick bool) {
				if !sick {
					a.send(many, 0.01, 0.03)
				} else if since := a.now.Sub(a.started); since >= 150*time.Second {
					a.restart()
				}
			},
		},
		{
			name: "an account disappears", lasts: time.Hour,
			alerts: []alertTime{{"TwilioExporterAccountMissing", warning, 12, 1}},
			minute: func(a *simAccount, sick bool) {
				a.send(many, 0.01, 0.03)
				a.removed = sick
			},
		},
		{
			name: "a target disappears", lasts: time.Hour,
			alerts: []alertTime{{"TwilioExporterAccountMissing", warning, 12, 1}},
			minute: func(a *simAccount, sick bool) {
				a.send(many, 0.01, 0.03)
				a.undiscovered = sick
			},
		},
	}
}

// epoch is when simulated time begins: a Monday, not at the time zero, before
// which there is nothing.
var epoch = time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)

// historyRecords are what alerts compare with the days before.
var historyRecords = []string{"account:twilio_messages_delivered:increase1h", "account:twilio_attempts:increase1h"}

// ofExporters are alerts that have no account.
var ofExporters = []string{"TwilioExporterClockSkew", "TwilioExporterReloadFailed", "TwilioExporterRestarting"}

// measure runs all cases beside each other and returns the table.
func measure(t *testing.T) string {
	t.Helper()
	cases := troubleCases()
	start := epoch.Add(8 * 24 * time.Hour)
	var history []scraped
	last := time.Duration(0)
	for i := range cases {
		c := &cases[i]
		if c.account == nil {
			c.account = &simAccount{}
		}
		if c.account.name == "" {
			c.account.name = fmt.Sprintf("account-%02d", i+1)
		}
		if c.lasts == 0 {
			c.lasts = trouble
		}
		last = max(last, c.lasts)
		c.account.instance = fmt.Sprintf("exporter-%02d:9861", i+1)
		c.account.begin(start)
	}
	r := newRuleRun(t, everyScrape, shippedRules()...)
	// What the rules would have recorded in the week before.
	for at := start.Add(-7 * 24 * time.Hour); at.Before(start); at = at.Add(5 * time.Minute) {
		history = history[:0]
		for _, c := range cases {
			if c.account.usual > 0 {
				for _, record := range historyRecords {
					history = append(history, scraped{
						labels.FromStrings("__name__", record, "job", job, "account", c.account.name), c.account.usual,
					})
				}
			}
		}
		r.append(at, history)
	}

	shown, mended := make([]time.Time, len(cases)), make([]time.Time, len(cases))
	for at := start; at.Before(start.Add(lead + last + after)); at = at.Add(everyScrape) {
		var samples []scraped
		for i := range cases {
			c := &cases[i]
			sick := !at.Before(start.Add(lead)) && at.Before(start.Add(lead+c.lasts))
			c.account.now = at
			// A refresh a minute, seen by every second scrape first.
			if at.Equal(at.Truncate(time.Minute)) {
				c.minute(c.account, sick)
				if sick && shown[i].IsZero() {
					shown[i] = at
				}
				if !sick && !shown[i].IsZero() && mended[i].IsZero() {
					mended[i] = at
				}
			}
			samples = append(samples, c.account.scrape()...)
		}
		r.step(at, samples)
	}
	r.evaluate()

	var rows strings.Builder
	rows.WriteString("| trouble | alert | severity | minutes to begin | goal | minutes to end | goal |\n" +
		"|---|---|---|---|---|---|---|\n")
	accounted := map[firing]bool{}
	for i, c := range cases {
		if len(c.alerts) == 0 {
			fmt.Fprintf(&rows, "| %s | none | | | | | |\n", c.name)
		}
		for _, want := range c.alerts {
			f := firing{want.alert, want.severity, c.account.name}
			if slices.Contains(ofExporters, want.alert) {
				f.who = c.account.instance
			}
			accounted[f] = true
			changes := r.of(f)
			if len(changes) != 1 {
				t.Errorf("%s: %v began %d times: %v", c.name, f, len(changes), changes)
				continue
			}
			begin, end := changes[0].from.Sub(shown[i]).Minutes(), changes[0].to.Sub(mended[i]).Minutes()
			if changes[0].to.IsZero() {
				end = math.Inf(1)
			}
			if begin < 0 || want.begin > 0 && begin > want.begin {
				t.Errorf("%s: %v begins after %.1f minutes, goal %g", c.name, f, begin, want.begin)
			}
			if want.end > 0 && end > want.end {
				t.Errorf("%s: %v ends after %.1f minutes, goal %g", c.name, f, end, want.end)
			}
			fmt.Fprintf(&rows, "| %s | [%s](../deploy/runbooks/%[2]s.md) | %s | %.1f | %g | %.1f | %g |\n",
				c.name, want.alert, want.severity, begin, want.begin, max(end, 0), want.end)
		}
	}
	for _, change := range r.changes {
		if !accounted[change.firing] {
			t.Errorf("%v fires from %v to %v, which no case expects",
				change.firing, change.from.Sub(start), change.to.Sub(start))
		}
	}
	t.Log("\n" + rows.String())
	return rows.String()
}
