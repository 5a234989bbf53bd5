package collector

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"twilio_operations_exporter/collector/window"
	"twilio_operations_exporter/twilio"
)

// metric is a row of the table of metrics.
type metric struct {
	name, help string
	labels     []string // besides account
	kind       kind

	generate generator
	backfill bool // WriteBackfill writes it

	desc *prometheus.Desc
}

type (
	// generator emits the samples of an account.
	generator func(v *view, emit emitter)
	// emitter takes a sample: its value, and the values of its labels besides account.
	emitter func(value float64, labels ...string)
)

// kind says when the samples of a metric are generated and how long they are exported.
type kind int

const (
	gauge       kind = iota // generated at the end of a refresh, exported until the numbers are too old
	counter                 // generated at the end of a refresh, always exported
	liveGauge               // generated at every scrape
	liveCounter             // the same
)

func (k kind) live() bool { return k == liveGauge || k == liveCounter }

func (k kind) counts() bool { return k == counter || k == liveCounter }

// metrics is the table of the metrics of accounts, except for those of Metrics.
var metrics = describe(slices.Concat(accountMetrics, statMetrics(), sampledMetrics))

var accountMetrics = []metric{
	{
		name: "twilio_up",
		help: "Whether the last refresh to end succeeded and, when refreshing on each scrape, ended within this scrape.",
		kind: liveGauge,
		generate: func(v *view, emit emitter) {
			if v.up {
				emit(1)
			} else {
				emit(0)
			}
		},
	},
	{
		name:     "twilio_operations_window_seconds",
		help:     "How far back operations are counted, by creation time.",
		kind:     liveGauge,
		generate: func(v *view, emit emitter) { emit(v.settings.Window.Seconds()) },
	},
	{
		name:   "twilio_account_info",
		help:   "Account SID and resource of the account. The value is always 1.",
		kind:   liveGauge,
		labels: []string{"account_sid", "resource"},
		generate: func(v *view, emit emitter) {
			emit(1, v.settings.AccountSID, string(cmp.Or(v.settings.Resource, twilio.Messages)))
		},
	},
	{
		name:     "twilio_operations",
		help:     "Operations created within the window.",
		labels:   []string{"status"},
		generate: ofStatus(func(s *window.StatusSums) float64 { return float64(s.Operations) }),
	},
	{
		name:     "twilio_operations_created_total",
		help:     "Operations created: growth since the first refresh, across restarts if --storage.path is set.",
		kind:     counter,
		generate: func(v *view, emit emitter) { emit(float64(v.snapshot.Created)) },
		backfill: true,
	},
	{
		name: "twilio_operations_failing",
		help: fmt.Sprintf("Operations created within the window that have at least %d messages or e-mails, of which at least %d%% failed or are undelivered.",
			window.FailingMinMessages, 100/window.FailingOneIn),
		labels:   []string{"status"},
		generate: ofStatus(func(s *window.StatusSums) float64 { return float64(s.Failing) }),
	},
	{
		name:     "twilio_operations_oldest_created_timestamp_seconds",
		help:     "Creation time of the oldest scheduled or processing operation; absent if there is none.",
		labels:   []string{"status"},
		generate: timeOfStatus(func(s *window.StatusSums) time.Time { return s.OldestCreated }),
	},
	{
		name:     "twilio_operations_oldest_updated_timestamp_seconds",
		help:     "Last update of the scheduled or processing operation that has gone longest without one; absent if there is none.",
		labels:   []string{"status"},
		generate: timeOfStatus(func(s *window.StatusSums) time.Time { return s.OldestUpdated }),
	},
	{
		name:     "twilio_named_operation_created_timestamp_seconds",
		help:     "Creation time of a failing or stuck operation.",
		labels:   namedLabels,
		generate: ofNamed(func(op *twilio.Operation) float64 { return Unix(op.CreatedAt) }),
	},
	{
		name:     "twilio_named_operation_updated_timestamp_seconds",
		help:     "Last update of a failing or stuck operation.",
		labels:   namedLabels,
		generate: ofNamed(func(op *twilio.Operation) float64 { return Unix(op.UpdatedAt) }),
	},
	{
		name:     "twilio_exporter_refresh_interval_seconds",
		help:     "Time between the starts of background refreshes; 0 when refreshing on each scrape.",
		kind:     liveGauge,
		generate: func(v *view, emit emitter) { emit(v.settings.Interval.Seconds()) },
	},
	{
		name:   "twilio_exporter_refreshes_total",
		help:   "Refreshes that ended, by result.",
		kind:   counter,
		labels: []string{"result"},
		generate: func(v *view, emit emitter) {
			for result, n := range v.results {
				emit(float64(n), result)
			}
		},
	},
	{
		name:   "twilio_exporter_refresh_errors_total",
		help:   "Refreshes that failed, by reason.",
		kind:   counter,
		labels: []string{"reason"},
		generate: func(v *view, emit emitter) {
			for reason, n := range v.errors {
				emit(float64(n), reason)
			}
		},
	},
	{
		name:     "twilio_exporter_last_success_timestamp_seconds",
		help:     "End of the last refresh that succeeded; 0 before the first.",
		kind:     liveGauge,
		generate: func(v *view, emit emitter) { emit(Unix(v.succeeded)) },
	},
	{
		name:     "twilio_exporter_api_throttled_seconds_total",
		help:     "Time that requests waited because the API had answered 429 or 503.",
		kind:     liveCounter,
		generate: func(v *view, emit emitter) { emit(v.throttled.Seconds()) },
	},
	{
		name: "twilio_exporter_clock_skew_seconds",
		help: "Clock of the API, from the Date header of its last good answer, minus the local clock; absent before the first answer.",
		kind: liveGauge,
		generate: func(v *view, emit emitter) {
			if v.skewKnown {
				emit(v.skew.Seconds())
			}
		},
	},
}

// statMetrics returns the rows of the stats of operations.
func statMetrics() (rows []metric) {
	for i := range twilio.MessageStats {
		stat := &twilio.MessageStats[i]
		rows = append(rows, metric{
			name:     "twilio_operation_" + stat.Name,
			help:     stat.Help + ": sum over the operations created within the window.",
			labels:   []string{"status"},
			generate: ofResources(i, ofStatus(func(s *window.StatusSums) float64 { return float64(s.Stats[i]) })),
		})

		if stat.Named {
			rows = append(rows, metric{
				name:     "twilio_named_operation_" + stat.Name,
				help:     stat.Help + " in a failing or stuck operation.",
				labels:   namedLabels,
				generate: ofNamed(func(op *twilio.Operation) float64 { return float64(op.Stats[i]) }),
			})
		}

		if stat.Grows {
			help := stat.Help + ": growth since the first refresh, across restarts if --storage.path is set."
			if stat.Outcome {
				help += " What goes from one outcome to another is counted under both."
			}
			rows = append(rows, metric{
				name:     "twilio_" + stat.Name + "_total",
				help:     help,
				kind:     counter,
				generate: ofResources(i, func(v *view, emit emitter) { emit(float64(v.snapshot.Grown[i])) }),
				backfill: true,
			})
		}
	}
	return rows
}

// ofResources generates samples for accounts whose resource has the stat.
func ofResources(stat int, generate generator) generator {
	return func(v *view, emit emitter) {
		if v.settings.Resource.Stats()[stat].JSON != "" {
			generate(v, emit)
		}
	}
}

// ofStatus generates a sample for each status.
func ofStatus(value func(*window.StatusSums) float64) generator {
	return func(v *view, emit emitter) {
		for i := range v.snapshot.Statuses {
			sums := &v.snapshot.Statuses[i]
			emit(value(sums), string(sums.Status))
		}
	}
}

// timeOfStatus generates a sample for each status whose time is not zero.
func timeOfStatus(value func(*window.StatusSums) time.Time) generator {
	return func(v *view, emit emitter) {
		for i := range v.snapshot.Statuses {
			sums := &v.snapshot.Statuses[i]
			t := value(sums)
			if !t.IsZero() {
				emit(Unix(t), string(sums.Status))
			}
		}
	}
}

var namedLabels = []string{"operation", "status", "why"}

// ofNamed generates a sample for each failing and each stuck operation that is named.
func ofNamed(value func(*twilio.Operation) float64) generator {
	return func(v *view, emit emitter) {
		named := func(ops []*twilio.Operation, why string) {
			for _, op := range ops[:min(len(ops), v.settings.Named)] {
				emit(value(op), op.ID, string(op.Status), why)
			}
		}
		named(v.snapshot.Failing, "failing")
		named(v.snapshot.Stuck, "stuck")
	}
}

// describe adds the descriptions to the rows.
func describe(rows []metric) []metric {
	for i := range rows {
		labels := append([]string{"account"}, rows[i].labels...)
		rows[i].desc = prometheus.NewDesc(rows[i].name, rows[i].help, labels, nil)
	}
	return rows
}

// Unix returns t in seconds since 1970, as metrics have it, and 0 for the zero time.
func Unix(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1e3
}

// collect passes the samples of one account to add.
func (m *metric) collect(v *view, add func(prometheus.Metric)) {
	created := v.created
	if m.kind == liveCounter {
		created = v.started
	}
	m.generate(v, func(value float64, labels ...string) {
		labels = append([]string{v.settings.Account}, labels...)
		if m.kind.counts() {
			add(prometheus.MustNewConstMetricWithCreatedTimestamp(
				m.desc, prometheus.CounterValue, value, created, labels...,
			))
		} else {
			add(prometheus.MustNewConstMetric(m.desc, prometheus.GaugeValue, value, labels...))
		}
	})
}
