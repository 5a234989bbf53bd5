package e2e

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

// fullAlerts makes the test measure everything in docs/alerts.md, and write that file.
var fullAlerts = flag.Bool("alerts.full", false, "measure every interval and a whole week, and write docs/alerts.md")

// TestAlertTimes measures how soon each alert fires when something goes wrong, and how soon it resolves when that is
// fixed. It fails if a goal is missed or docs/alerts.md says something else. With -alerts.full it measures every
// interval and a whole quiet week, and writes the file.
func TestAlertTimes(t *testing.T) {
	t.Parallel()
	file := filepath.Join(project, "docs", "alerts.md")
	said := func(t *testing.T, lines string) {
		t.Helper()
		if *fullAlerts {
			return
		}
		text := string(readFile(t, file))
		for line := range strings.Lines(lines) {
			if !strings.Contains(text, line) {
				t.Errorf("%s does not say: %s", file, line)
			}
		}
	}

	table, intervals, week := "", "", ""
	t.Run("troubles", func(t *testing.T) {
		t.Parallel()
		table = measure(t)
		said(t, table)
	})

	t.Run("intervals", func(t *testing.T) {
		t.Parallel()
		all := fewPaces()
		if *fullAlerts {
			all = paces()
		}
		intervals = paceHead + strings.Join(measurePaces(t, all), "\n") + "\n"
		t.Log("\n" + intervals)
		said(t, intervals)
	})

	t.Run("quiet", func(t *testing.T) {
		t.Parallel()
		days := 1
		if *fullAlerts {
			days = 7
		}
		week = quietDays(t, days)
		t.Log(week)
	})

	t.Cleanup(func() {
		if !*fullAlerts || t.Failed() || table == "" || intervals == "" || week == "" {
			return
		}
		text := strings.NewReplacer("TABLE\n", table, "INTERVALS\n", intervals, "WEEK\n", week).Replace(alertsDoc)
		writeFile(t, file, []byte(text))
	})
}

// alertsDoc is docs/alerts.md; TABLE, INTERVALS and WEEK are measured.
const alertsDoc = `# When alerts begin and end

Measured with the rules of ` + "`" + `deploy/prometheus` + "`" + ` on simulated accounts, with the intervals as shipped: scrapes and evaluations
every 30 s, a refresh every minute. ` + "`" + `go test -run TestAlertTimes -alerts.full .` + "`" + ` in ` + "`" + `e2e/` + "`" + ` writes this file; do not edit it.
Without the flag, the test measures the first table and part of the others, and fails if a goal is missed or the file is
out of date.

Minutes to begin are counted from the first scrape that shows the trouble, minutes to end from the first one that shows it
fixed. Add up to 90 seconds until a scrape shows what the API says, and Alertmanager's ` + "`" + `group_wait` + "`" + ` (30 s) or
` + "`" + `group_interval` + "`" + ` (5 min).

TABLE

An account sends 600 messages a minute unless stated otherwise. In rows with a number of messages an hour, messages are sent
and fail at random, and the figures are medians of ten accounts. Figures without a goal are for information. Three alerts are not in the table: TwilioOperationScheduledTooLong fires 10 minutes after its limit is exceeded,
TwilioExporterShardMissing after 15 minutes, TwilioExporterStateNotWritten when the state is 15 minutes old.

## By interval

All 600 messages a minute fail for three hours, with other intervals of refreshes (` + "`" + `--collector.interval` + "`" + `, ` + "`" + `0s` + "`" + ` being each
scrape) and of scrapes than those shipped. The alert is the critical TwilioFailedShareHigh. Interruptions count how often
it ended too early; false alarms are all other alerts but the one in the last column.

INTERVALS

The limits are refreshes every 30 minutes and scrapes every 10. Beyond them, TwilioExporterIntervalTooLong fires.

## A quiet week

WEEK

## What is behind it

Alerts on shares of messages compare a lower bound of the share with the threshold, over 5 minutes, 15 minutes or an hour,
and over six hours if fewer than 20 messages an hour reach an outcome. The fewer messages there are, the further the bound
is below the share: it is 22% for 5 failures of 5, 6.1% for 5 of 10, 3.2% for 12 of 110, 3.8% for 60 of 1,000, and 5.2% for
600 of 10,000. So one formula fits accounts of any size, and chance alone hardly ever exceeds a threshold. At least 5
messages (critical: 10) must have failed.

The bound is that of the share's arcsine, at 3.25 standard deviations: see
[` + "`" + `recording.yml` + "`" + `](../deploy/prometheus/rules/recording.yml). Wilson's interval is better known, but too narrow if few of
many messages fail: at 3 standard deviations, it raised two or three false alarms in such a week.

An alert continues as long as the share exceeds the threshold over the shortest of 5, 15, 30 and 60 minutes in which four
failures are expected, going by those of the last hour. That is 5 minutes for an account that sends much, and a quarter of
an hour for one with 60 messages an hour of which half failed.

The rules use no range that may lack two scrapes and a refresh: they measure the time between scrapes, and read
` + "`" + `twilio_exporter_refresh_interval_seconds` + "`" + `.

TwilioSendingStopped compares with this hour a week ago, if the hours before and after that one were like it. So it stays
silent when clocks change, but misses a stop in the first or last hour in which an account sends. A stop in any other hour
fires within 75 minutes.

All thresholds are in [` + "`" + `thresholds.yml` + "`" + `](../deploy/prometheus/rules/thresholds.yml), and each account may have its own. Each
alert has a [runbook](../deploy/runbooks/README.md).
`

const (
	lead    = 75 * time.Minute // of health, so that the windows of an hour are full
	trouble = 30 * time.Minute // unless a case says otherwise
	after   = 110 * time.Minute
)

// alertTime is an alert that a trouble raises, with the times in which it must fire and resolve.
type alertTime struct {
	alert, severity string
	begin, end      float64 // minutes, at most; 0: no goal
}

// troubleCase is an account, on an exporter of its own, with which something goes wrong.
type troubleCase struct {
	name    string
	lasts   time.Duration // trouble, if 0
	alerts  []alertTime   // all that may fire
	account *simAccount
	// seeds is how many accounts it befalls, each with another chance; 0 is one, and
	// more have their medians in the table.
	seeds int
	// minute is what a minute of refreshing brings; sick says whether the
	// trouble is on.
	minute func(a *simAccount, sick bool)
}

const warning, critical = "warning", "critical"

// many is an account with ten messages a second.
const many = 600

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

	// chance sends a random number of messages, with this mean, each with its chance.
	chance := func(perHour, failed float64) func(*simAccount, bool) {
		return func(a *simAccount, sick bool) {
			share := 0.01
			if sick {
				share = failed
			}
			a.sendChance(perHour/60, share, 0)
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
			name: "15% of the messages fail, of 3,600 an hour", lasts: time.Hour, seeds: 10,
			alerts: []alertTime{
				{"TwilioFailedShareHigh", warning, 10, 10},
				{"TwilioFailedShareHigh", critical, 20, 10},
			},
			minute: chance(3600, 0.15),
		},
		{
			name: "all messages fail, of 180 an hour", lasts: 90 * time.Minute, seeds: 10,
			alerts: []alertTime{
				{"TwilioFailedShareHigh", warning, 5, 10},
				{"TwilioFailedShareHigh", critical, 11, 10},
			},
			minute: chance(180, 1),
		},
		{
			name: "half of the messages fail, of 60 an hour", lasts: 2 * time.Hour, seeds: 10,
			alerts: []alertTime{
				{"TwilioFailedShareHigh", warning, 20, 15},
				{"TwilioFailedShareHigh", critical, 35, 15},
			},
			minute: chance(60, 0.5),
		},
		{
			name: "all messages fail, of 20 an hour", lasts: 2 * time.Hour, seeds: 10,
			alerts: []alertTime{
				{"TwilioFailedShareHigh", warning, 30, 20},
				{"TwilioFailedShareHigh", critical, 50, 20},
			},
			minute: chance(20, 1),
		},
		{
			name: "all messages fail, of 5 an hour", lasts: 3 * time.Hour, seeds: 10,
			alerts: []alertTime{{"TwilioFailedShareHigh", warning, 100, 0}, {"TwilioFailedShareHigh", critical, 0, 0}},
			minute: chance(5, 1),
		},
		{
			name: "12 of 110 messages fail, once", lasts: time.Minute,
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

// epoch is when simulated time begins. It is a Monday, and not the zero time, as there is nothing before that.
var epoch = time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)

// historyRecords are the records of previous days that alerts compare with.
var historyRecords = []string{"account:twilio_messages_delivered:increase1h", "account:twilio_attempts:increase1h"}

// ofExporters are alerts without an account.
var ofExporters = []string{"TwilioExporterClockSkew", "TwilioExporterReloadFailed", "TwilioExporterRestarting"}

// patient is the account of a case.
type patient struct {
	*simAccount
	*troubleCase
	shown, mended time.Time
}

// patients returns the accounts of all cases.
func patients(start time.Time) []*patient {
	cases := troubleCases()
	var all []*patient
	for i := range cases {
		c := &cases[i]
		if c.lasts == 0 {
			c.lasts = trouble
		}
		c.seeds = max(c.seeds, 1)
		for seed := range c.seeds {
			a := &simAccount{}
			if c.account != nil {
				*a = *c.account
			}
			if a.name == "" {
				a.name = fmt.Sprintf("account-%02d-%d", i+1, seed+1)
			}
			a.instance = fmt.Sprintf("exporter-%02d-%d:9861", i+1, seed+1)
			a.random = rand.New(rand.NewPCG(uint64(seed), uint64(i))) //nolint:gosec // a test's
			a.begin(start)
			all = append(all, &patient{simAccount: a, troubleCase: c})
		}
	}
	return all
}

// measure runs all cases side by side and returns the table.
func measure(t *testing.T) string {
	t.Helper()
	start := epoch.Add(8 * 24 * time.Hour)
	all := patients(start)
	r := newRuleRun(t, everyScrape, shippedRules()...)
	// What the rules would have recorded in the week before.
	for at := start.Add(-8 * 24 * time.Hour); at.Before(start); at = at.Add(5 * time.Minute) {
		var history []scraped
		for _, p := range all {
			if p.usual > 0 {
				for _, record := range historyRecords {
					history = append(history, scraped{
						labels.FromStrings("__name__", record, "job", job, "account", p.simAccount.name), p.usual,
					})
				}
			}
		}
		r.append(at, history)
	}

	last := time.Duration(0)
	for _, p := range all {
		last = max(last, p.lasts)
	}
	for at := start; at.Before(start.Add(lead + last + after)); at = at.Add(everyScrape) {
		var samples []scraped
		for _, p := range all {
			sick := !at.Before(start.Add(lead)) && at.Before(start.Add(lead+p.lasts))
			p.now = at
			// A refresh a minute, seen by every second scrape first.
			if at.Equal(at.Truncate(time.Minute)) {
				p.minute(p.simAccount, sick)
				if sick && p.shown.IsZero() {
					p.shown = at
				}
				if !sick && !p.shown.IsZero() && p.mended.IsZero() {
					p.mended = at
				}
			}

			samples = append(samples, p.scrape()...)
		}

		r.step(at, samples)
	}

	r.evaluate()
	return timesTable(t, r, all, start)
}

// timesTable returns when alerts fired and resolved. It reports missed goals and unexpected alerts.
func timesTable(t *testing.T, r *ruleRun, all []*patient, start time.Time) string {
	t.Helper()
	var rows strings.Builder
	rows.WriteString("| trouble | alert | severity | minutes to begin | goal | minutes to end | goal |\n" +
		"|---|---|---|---|---|---|---|\n")
	accounted := map[firing]bool{}
	for len(all) > 0 {
		c := all[0].troubleCase
		of := all[:c.seeds]
		all = all[c.seeds:]
		if len(c.alerts) == 0 {
			fmt.Fprintf(&rows, "| %s | none | | | | | |\n", c.name)
		}

		for _, want := range c.alerts {
			var begins, ends []float64
			for _, p := range of {
				f := firing{want.alert, want.severity, p.simAccount.name}
				if slices.Contains(ofExporters, want.alert) {
					f.who = p.instance
				}
				accounted[f] = true
				changes := r.of(f)
				if len(changes) == 0 || c.seeds == 1 && len(changes) != 1 {
					t.Errorf("%s: %v began %d times: %v", c.name, f, len(changes), changes)
					continue
				}

				// Of several times, from the first to the end of the last that began in the
				// trouble.
				end := math.Inf(1)
				for _, change := range changes {
					if change.from.Before(p.mended) && !change.to.IsZero() {
						end = change.to.Sub(p.mended).Minutes()
					}
				}

				begins, ends = append(begins, changes[0].from.Sub(p.shown).Minutes()), append(ends, end)
			}

			if len(begins) == 0 {
				continue
			}
			begin, end := middle(begins), middle(ends)
			if begin < 0 || want.begin > 0 && begin > want.begin {
				t.Errorf("%s: %s (%s) begins after %.1f minutes, goal %g", c.name, want.alert, want.severity, begin, want.begin)
			}
			if want.end > 0 && end > want.end {
				t.Errorf("%s: %s (%s) ends after %.1f minutes, goal %g", c.name, want.alert, want.severity, end, want.end)
			}
			fmt.Fprintf(&rows, "| %s | [%s](../deploy/runbooks/%[2]s.md) | %s | %.1f | %s | %.1f | %s |\n",
				c.name, want.alert, want.severity, begin, goal(want.begin), max(end, 0), goal(want.end))
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

func goal(minutes float64) string {
	if minutes == 0 {
		return ""
	}
	return fmt.Sprintf("%g", minutes)
}

// middle returns the median.
func middle(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
