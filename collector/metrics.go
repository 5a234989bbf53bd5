package collector

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"twilio_operations_exporter/collector/window"
	"twilio_operations_exporter/twilio"
)

// metric is a row of the table of metrics: name, help, and one function that says how to read it and of what.
type metric struct {
	name, help string
	counter    bool
	label      string // of ofResult, besides account

	ofStatus   func(*window.StatusSums) (value float64, ok bool)
	ofNamed    func(*twilio.Operation) float64
	ofSnapshot func(*window.Snapshot) float64
	ofResult   func(*state) map[string]int // by label
	ofAccount  func(*view) (value float64, ok bool)

	desc *prometheus.Desc
}

// metrics is the table.
var metrics = describe(append(statMetrics(), []metric{
	{
		name: "twilio_up",
		help: "Whether the last refresh to end succeeded and, when refreshing on each scrape, ended within this scrape.",
		ofAccount: func(v *view) (float64, bool) {
			if v.up {
				return 1, true
			}
			return 0, true
		},
	},
	{
		name: "twilio_operations_window_seconds", help: "How far back operations count, by their creation.",
		ofAccount: func(v *view) (float64, bool) { return v.settings.Window.Seconds(), true },
	},
	{
		name: "twilio_operations", help: "Operations created within the window.",
		ofStatus: func(s *window.StatusSums) (float64, bool) { return float64(s.Operations), true },
	},
	{
		name: "twilio_operations_failing",
		help: fmt.Sprintf("Operations created within the window that have at least %d messages of which at least %d%% failed or are undelivered.",
			window.FailingMinMessages, 100/window.FailingOneIn),
		ofStatus: func(s *window.StatusSums) (float64, bool) { return float64(s.Failing), true },
	},
	{
		name:     "twilio_operations_oldest_created_timestamp_seconds",
		help:     "Creation of the oldest operation that is scheduled or processing; absent where there is none.",
		ofStatus: func(s *window.StatusSums) (float64, bool) { return Unix(s.OldestCreated), !s.OldestCreated.IsZero() },
	},
	{
		name:     "twilio_operations_oldest_updated_timestamp_seconds",
		help:     "Last update of the operation that has gone longest without one while scheduled or processing; absent where there is none.",
		ofStatus: func(s *window.StatusSums) (float64, bool) { return Unix(s.OldestUpdated), !s.OldestUpdated.IsZero() },
	},
	{
		name: "twilio_named_operation_created_timestamp_seconds", help: "Creation of a failing or stuck operation.",
		ofNamed: func(op *twilio.Operation) float64 { return Unix(op.CreatedAt) },
	},
	{
		name: "twilio_named_operation_updated_timestamp_seconds", help: "Last update of a failing or stuck operation.",
		ofNamed: func(op *twilio.Operation) float64 { return Unix(op.UpdatedAt) },
	},
	{
		name: "twilio_exporter_refreshes_total", help: "Refreshes that have ended, by result.", counter: true,
		label: "result", ofResult: func(s *state) map[string]int { return s.results },
	},
	{
		name: "twilio_exporter_refresh_errors_total", help: "Refreshes that have failed, by reason.", counter: true,
		label: "reason", ofResult: func(s *state) map[string]int { return s.errors },
	},
	{
		name: "twilio_exporter_last_success_timestamp_seconds", help: "End of the last refresh that succeeded; 0 before the first.",
		ofAccount: func(v *view) (float64, bool) { return Unix(v.succeeded), true },
	},
	{
		name: "twilio_exporter_api_throttled_seconds_total", counter: true,
		help:      "Time in which requests waited because the API had answered 429 or 503.",
		ofAccount: func(v *view) (float64, bool) { return v.throttled.Seconds(), true },
	},
	{
		name:      "twilio_exporter_clock_skew_seconds",
		help:      "The API's clock, by the Date of its last good answer, minus the local clock; absent before the first.",
		ofAccount: func(v *view) (float64, bool) { return v.skew.Seconds(), v.skewKnown },
	},
}...))

// statMetrics are the rows of the stats of operations.
func statMetrics() (rows []metric) {
	for i := range twilio.MessageStats {
		stat := &twilio.MessageStats[i]
		rows = append(rows, metric{
			name:     "twilio_operation_" + stat.Name,
			help:     stat.Help + ": sum over the operations created within the window.",
			ofStatus: func(s *window.StatusSums) (float64, bool) { return float64(s.Stats[i]), true },
		})
		if stat.Named {
			rows = append(rows, metric{
				name:    "twilio_named_operation_" + stat.Name,
				help:    stat.Help + " in a failing or stuck operation.",
				ofNamed: func(op *twilio.Operation) float64 { return float64(op.Stats[i]) },
			})
		}
		if stat.Grows {
			help := stat.Help + ": growth since the exporter started; changes while it is down are missed."
			if stat.Outcome {
				help += " A message that goes from one outcome to another is counted under both."
			}
			rows = append(rows, metric{
				name:       "twilio_" + stat.Name + "_total",
				help:       help,
				counter:    true,
				ofSnapshot: func(s *window.Snapshot) float64 { return float64(s.Grown[i]) },
			})
		}
	}
	return rows
}

func describe(rows []metric) []metric {
	for i := range rows {
		labels := []string{"account"}
		switch {
		case rows[i].ofStatus != nil:
			labels = append(labels, "status")
		case rows[i].ofNamed != nil:
			labels = append(labels, "operation", "status", "why")
		case rows[i].ofResult != nil:
			labels = append(labels, rows[i].label)
		}
		rows[i].desc = prometheus.NewDesc(rows[i].name, rows[i].help, labels, nil)
	}
	return rows
}

// Unix is t as metrics have it: in seconds since 1970, 0 for the zero time.
func Unix(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1e3
}

// constMetric makes a sample that does not change. created is the beginning of counters.
func (m *metric) constMetric(created time.Time, value float64, labels ...string) prometheus.Metric {
	if m.counter {
		return prometheus.MustNewConstMetricWithCreatedTimestamp(m.desc, prometheus.CounterValue, value, created, labels...)
	}
	return prometheus.MustNewConstMetric(m.desc, prometheus.GaugeValue, value, labels...)
}

// samples are made at the end of a refresh, and sent at every scrape.
type samples struct{ lasting, all []prometheus.Metric } // lasting are sent also when the others are too old

// makeSamples turns the state into samples by the table. r.mu is held.
func (r *Refresher) makeSamples() samples {
	var gauges, counters []prometheus.Metric
	snapshot, account := cmp.Or(r.state.Snapshot, &window.Snapshot{}), r.settings.Account
	for i := range metrics {
		row := &metrics[i]
		switch {
		case row.ofStatus != nil:
			for j := range snapshot.Statuses {
				sums := &snapshot.Statuses[j]
				if v, ok := row.ofStatus(sums); ok {
					gauges = append(gauges, row.constMetric(r.created, v, account, string(sums.Status)))
				}
			}
		case row.ofNamed != nil:
			for why, ops := range map[string][]*twilio.Operation{"failing": snapshot.Failing, "stuck": snapshot.Stuck} {
				for _, op := range ops[:min(len(ops), r.settings.Named)] {
					gauges = append(gauges, row.constMetric(r.created, row.ofNamed(op), account, op.ID, string(op.Status), why))
				}
			}
		case row.ofSnapshot != nil:
			counters = append(counters, row.constMetric(r.created, row.ofSnapshot(snapshot), account))
		case row.ofResult != nil:
			for label, n := range row.ofResult(&r.state) {
				counters = append(counters, row.constMetric(r.created, float64(n), account, label))
			}
		}
	}
	return samples{lasting: counters, all: slices.Concat(counters, gauges)}
}

// view is an account as one scrape shows it.
type view struct {
	settings  *Settings
	created   time.Time
	up        bool
	succeeded time.Time
	throttled time.Duration
	skew      time.Duration
	skewKnown bool
	samples   []prometheus.Metric
}

// scraped collects the views of one scrape.
type scraped []view

// Scrape returns a collector of these accounts' numbers as one scrape shows them: Await and Views in one.
func Scrape(ctx context.Context, rs []*Refresher) prometheus.Collector { return Await(ctx, rs).Views() }

// Awaited are accounts whose refreshes a scrape has awaited.
type Awaited struct {
	accounts []*Refresher
	failed   []bool // whether the refresh of this scrape failed; nil where no account refreshes on scrapes
}

// Await refreshes those accounts that have an interval of 0, all at the same time, for as long as ctx allows.
func Await(ctx context.Context, rs []*Refresher) *Awaited {
	a := &Awaited{accounts: rs}
	var wg sync.WaitGroup
	for i, r := range rs {
		if r.settings.Interval > 0 {
			continue
		}
		if a.failed == nil {
			a.failed = make([]bool, len(rs))
		}
		wg.Go(func() { a.failed[i] = r.Refresh(ctx) != nil })
	}
	wg.Wait()
	return a
}

// Views returns a collector of the accounts' numbers as they are now.
func (a *Awaited) Views() prometheus.Collector {
	views := make(scraped, len(a.accounts))
	for i, r := range a.accounts {
		views[i] = r.view()
		if r.settings.Interval == 0 {
			views[i].up = !a.failed[i]
		}
	}
	return views
}

// Current returns a collector of these accounts' numbers as they are, whatever their intervals.
func Current(rs []*Refresher) prometheus.Collector {
	views := make(scraped, len(rs))
	for i, r := range rs {
		views[i] = r.view()
	}
	return views
}

// Describe implements prometheus.Collector.
func (s scraped) Describe(ch chan<- *prometheus.Desc) {
	for i := range metrics {
		ch <- metrics[i].desc
	}
}

// Collect implements prometheus.Collector.
func (s scraped) Collect(ch chan<- prometheus.Metric) {
	for i := range s {
		v := &s[i]
		for j := range metrics {
			row := &metrics[j]
			if row.ofAccount == nil {
				continue
			}
			if value, ok := row.ofAccount(v); ok {
				ch <- row.constMetric(v.created, value, v.settings.Account)
			}
		}
		for _, m := range v.samples {
			ch <- m
		}
	}
}
