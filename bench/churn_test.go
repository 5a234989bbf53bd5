//go:build linux

package bench

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"twilio_operations_exporter/collector"
	"twilio_operations_exporter/internal/testutil"
	"twilio_operations_exporter/twilio"
	"twilio_operations_exporter/twilio/simulator"
)

// namedMetrics is how many metrics name an operation.
const namedMetrics = 6

// namedSeries counts the label sets of twilio_named_operation_* of a value of
// --collector.named-operations. Each stands for namedMetrics series.
type namedSeries struct {
	limit      int
	seen       map[string]bool
	operations map[string]bool
	atOnce     int // most
	hour       int // new ones of the hour under way
	perHour    int // most new ones in an hour
}

// add takes in what a refresh shows.
func (n *namedSeries) add(failing, stuck []*twilio.Operation) {
	now := 0
	for why, ops := range map[string][]*twilio.Operation{"failing": failing, "stuck": stuck} {
		for _, op := range ops[:min(len(ops), n.limit)] {
			now++
			series := op.ID + " " + string(op.Status) + " " + why
			if !n.seen[series] {
				n.hour++
			}
			n.seen[series], n.operations[op.ID] = true, true
		}
	}
	n.atOnce = max(n.atOnce, now)
}

// sampledSeries counts the series of what is known of the lost messages of named
// operations, with the default of --collector.named-operations.
type sampledSeries struct {
	seen    map[string]bool
	atOnce  int // most
	hour    int // new ones of the hour under way
	perHour int // most new ones in an hour
}

// add takes in what a scrape shows.
func (s *sampledSeries) add(t *testing.T, e *exporter) {
	t.Helper()
	now := 0
	for _, series := range exportedNames(t, e) {
		if !strings.Contains(series, "_sampled") && !strings.HasPrefix(series, "twilio_named_operation_info") {
			continue
		}
		now++
		if !s.seen[series] {
			s.hour++
		}
		s.seen[series] = true
	}

	s.atOnce = max(s.atOnce, now)
}

func (s *sampledSeries) endHour() {
	s.perHour = max(s.perHour, s.hour)
	s.hour = 0
}

func (n *namedSeries) endHour() {
	n.perHour = max(n.perHour, n.hour)
	n.hour = 0
}

// TestNamedOperationsChurn follows the demo's account, a refresh a minute, and
// counts the series that name operations: for two simulated hours, or with -full
// for a day, whose figures are in docs/metrics.md.
func TestNamedOperationsChurn(t *testing.T) {
	counts := []*namedSeries{{limit: 1}, {limit: 3}, {limit: 10}, {limit: 20}}
	sampled := &sampledSeries{seen: map[string]bool{}}
	duration := 2 * time.Hour
	if *full {
		duration = day
	}
	synctest.Test(t, func(t *testing.T) {
		world := simulator.MustWorld(simulator.DemoWorld(time.Now()))
		client, _ := connect(world)
		s := settings(day)
		s.Named = counts[len(counts)-1].limit
		s.Concurrency = 1 // pages come in one order, so every run has the same figures
		e := startExporter(t.Context(), s, client)
		defer e.stop()

		byDefault := s
		byDefault.Named, byDefault.Samples = 3, 5
		byDefault.Tags = collector.OperationTags{"campaign", "team"}
		other, _ := connect(world)
		looking := startExporter(t.Context(), byDefault, other)
		defer looking.stop()

		for _, n := range counts {
			n.seen, n.operations = map[string]bool{}, map[string]bool{}
		}
		<-time.After(interval / 2) // to be between two refreshes from now on
		for range duration / time.Hour {
			for range time.Hour / interval {
				e.check(t)
				snapshot := e.Status().Snapshot
				for _, n := range counts {
					n.add(snapshot.Failing, snapshot.Stuck)
				}
				sampled.add(t, looking)
				<-time.After(interval)
			}

			for _, n := range counts {
				n.endHour()
			}
			sampled.endHour()
		}

		snapshot := e.Status().Snapshot
		want := namedMetrics * (len(snapshot.Failing) + len(snapshot.Stuck))
		if got := exportedNames(t, e); len(got) != want {
			t.Errorf("%d series name operations, want %d", len(got), want)
		}
	})

	for _, n := range counts {
		if n.atOnce > 2*n.limit {
			t.Errorf("%d operations at once, want at most %d", n.atOnce, 2*n.limit)
		}
		if n.perHour == 0 {
			t.Errorf("no operation was named in an hour, want some of the demo's")
		}
	}

	if most := 3 * (1 + 1 + 11); sampled.perHour == 0 || sampled.atOnce > most {
		t.Errorf("%d series of samples at once, want at most %d; %d new ones in an hour", sampled.atOnce, most, sampled.perHour)
	}
	if *full {
		testutil.WantGenerated(t, filepath.Join("..", "docs", "metrics.md"), "churn", churnTable(counts, sampled))
	}
}

func churnTable(counts []*namedSeries, sampled *sampledSeries) string {
	var b strings.Builder
	b.WriteString("| `--collector.named-operations` | series at a time, at most | measured, most at a time | " +
		"new series in a day | most in an hour | operations named |\n|---:|---:|---:|---:|---:|---:|\n")
	for _, n := range counts {
		fmt.Fprintf(&b, "| %d | %d | %d | %d | %d | %d |\n", n.limit, 2*n.limit*namedMetrics, n.atOnce*namedMetrics,
			len(n.seen)*namedMetrics, n.perHour*namedMetrics, len(n.operations))
	}
	fmt.Fprintf(&b, "\nReasons and tags of the failing ones, with the defaults: %d series at most at a time, %d new ones in a day, "+
		"at most %d in an hour.\n", sampled.atOnce, len(sampled.seen), sampled.perHour)
	return b.String()
}

// exportedNames returns the series of twilio_named_operation_* that a scrape has.
func exportedNames(t *testing.T, e *exporter) (series []string) {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(collector.Current([]*collector.Refresher{e.Refresher}))
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}

	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "twilio_named_operation_") {
			for _, m := range f.GetMetric() {
				series = append(series, f.GetName()+fmt.Sprint(m.GetLabel()))
			}
		}
	}
	return series
}
