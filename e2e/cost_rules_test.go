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
)

var costOf = flag.String("alerts.rules", filepath.Join(prometheusFiles, "rules"), "rules that BenchmarkRules evaluates")

// BenchmarkRules evaluates every rule once over 1,000 accounts with two hours of
// samples, and reports the processor's time for it.
func BenchmarkRules(b *testing.B) {
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
		groups, errs := rulefmt.ParseFile(filepath.Join(*costOf, name), false, model.LegacyValidation, promql, promslog.NewNopLogger())
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
			if rule.Record != "" {
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
	}

	var before, after syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	for b.Loop() {
		for _, expr := range exprs {
			query, err := queries.NewInstantQuery(b.Context(), db, nil, expr, end)
			if err != nil {
				b.Fatal(err)
			}
			if result := query.Exec(b.Context()); result.Err != nil {
				b.Fatalf("%s: %v", expr, result.Err)
			}
			query.Close()
		}
	}
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &after)
	cpu := time.Duration(after.Utime.Nano() - before.Utime.Nano() + after.Stime.Nano() - before.Stime.Nano())
	b.ReportMetric(float64(cpu.Milliseconds())/float64(b.N), "cpu-ms/evaluation")
	b.ReportMetric(float64(len(exprs)), "rules")
}
