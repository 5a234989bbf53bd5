package e2e

import (
	"flag"
	"fmt"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/model/rulefmt"
	engine "github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/tsdb"
)

var (
	costOf   = flag.String("alerts.rules", filepath.Join(prometheusFiles, "rules"), "rules that BenchmarkRules evaluates")
	costThan = flag.String("alerts.than", "", "other rules, with which BenchmarkRules compares them")
)

// BenchmarkRules evaluates every rule once over 1,000 accounts with two hours of samples, and reports the CPU time. It
// alternates with the rules to compare with, so that the ratio is right even on a busy machine.
func BenchmarkRules(b *testing.B) {
	rules := newRuleCost(b, *costOf)
	var than *ruleCost
	if *costThan != "" {
		than = newRuleCost(b, *costThan)
	}

	for b.Loop() {
		rules.evaluate(b)
		if than != nil {
			than.evaluate(b)
		}
	}

	b.ReportMetric(float64(rules.cpu.Milliseconds())/float64(b.N), "cpu-ms/evaluation")
	b.ReportMetric(float64(len(rules.exprs)), "rules")
	if than != nil {
		b.ReportMetric(float64(than.cpu.Milliseconds())/float64(b.N), "cpu-ms/evaluation-than")
		b.ReportMetric(float64(len(than.exprs)), "rules-than")
		b.ReportMetric(float64(rules.cpu)/float64(than.cpu), "times")
	}
}

// ruleCost is a set of rules with the samples to evaluate it over.
type ruleCost struct {
	db      *tsdb.DB
	queries *engine.Engine
	exprs   []string
	at      time.Time
	cpu     time.Duration // of all evaluations
}

// evaluate evaluates all rules once.
func (c *ruleCost) evaluate(b *testing.B) {
	b.Helper()
	began := processorTime(b)
	for _, expr := range c.exprs {
		query, err := c.queries.NewInstantQuery(b.Context(), c.db, nil, expr, c.at)
		if err != nil {
			b.Fatal(err)
		}
		if result := query.Exec(b.Context()); result.Err != nil {
			b.Fatalf("%s: %v", expr, result.Err)
		}
		query.Close()
	}

	c.cpu += processorTime(b) - began
}

// processorTime returns the CPU time that this process has used.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// newRuleCost loads the rules in a directory, and fills a database with the series that they read.
func newRuleCost(b *testing.B, dir string) *ruleCost {
	b.Helper()
	const accounts, past = 1000, 2 * time.Hour
	start := epoch.Add(8 * 24 * time.Hour)
	end := start.Add(past)
	all := make([]*simAccount, accounts)
	for i := range all {
		all[i] = &simAccount{name: fmt.Sprintf("account-%03d", i), instance: "exporter:9861"}
		all[i].begin(start)
	}

	db, queries := newDatabase(b)
	r := &ruleRun{t: b, db: db, queries: queries}
	for at := start; !at.After(end); at = at.Add(everyScrape) {
		var samples []scraped
		for i, a := range all {
			a.now = at
			if at.Equal(at.Truncate(time.Minute)) {
				a.send(many, 0.01, 0.03)
			}
			page := a.scrape()
			if i > 0 {
				page = withoutTarget(page)
			}
			samples = append(samples, page...)
		}

		r.append(at, samples)
	}

	var exprs []string
	for _, name := range []string{"thresholds.yml", "recording.yml", "alerts.yml"} {
		groups, errs := rulefmt.ParseFile(filepath.Join(dir, name), false, model.LegacyValidation, promql, promslog.NewNopLogger())
		if len(errs) > 0 {
			b.Fatal(errs)
		}
		for _, group := range groups.Groups {
			for i := range group.Rules {
				rule := &runRule{Rule: group.Rules[i], interval: everyScrape}
				r.rules = append(r.rules, rule)
				exprs = append(exprs, rule.Expr)
			}
		}
	}

	// What recording rules would have recorded in the last minutes.
	for at := end.Add(-4 * everyScrape); !at.After(end); at = at.Add(everyScrape) {
		for _, rule := range r.rules {
			if rule.Record == "" {
				continue
			}

			query, err := queries.NewRangeQuery(b.Context(), db, nil, rule.Expr, at, at, everyScrape)
			if err != nil {
				b.Fatal(err)
			}

			matrix, err := query.Exec(b.Context()).Matrix()
			if err != nil {
				b.Fatalf("%s: %v", rule.Record, err)
			}

			r.record(rule, matrix, at, at)
			query.Close()
		}
	}

	return &ruleCost{db: db, queries: queries, exprs: exprs, at: end}
}
