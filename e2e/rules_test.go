package e2e

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/model/value"
	engine "github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
)

// everyScrape is the scrape_interval and evaluation_interval of prometheus.yml.
const everyScrape = 30 * time.Second

// ruleRun evaluates the rules of deploy/prometheus over simulated time, like a Prometheus. It evaluates each rule for
// hours of steps at once, which is much faster than one step at a time.
type ruleRun struct {
	t       testing.TB
	every   time.Duration // from one step to the next
	db      *tsdb.DB
	queries *engine.Engine
	rules   []*runRule
	seen    map[string]labels.Labels // in the scrape before
	from    time.Time                // first step that is not evaluated; zero: there is none
	to      time.Time                // last step
	firing  map[firing]int           // index in changes
	changes []alertChange
}

// runRule is a rule with its state after the last step evaluated.
type runRule struct {
	rulefmt.Rule
	interval time.Duration
	alive    map[string]labels.Labels // series of the last step
	active   map[string]*activeAlert
}

// activeAlert is an alert that is pending or firing.
type activeAlert struct {
	firing
	since     time.Time
	keptSince time.Time // not zero: only keep_firing_for keeps it
	fires     bool
}

// evaluatedAtOnce is how much time is evaluated rule by rule. The database takes no sample that is older than its
// newest one by half a block or more.
const evaluatedAtOnce = 6 * time.Hour

// firing is an alert of an account, or of a target if it has no account.
type firing struct{ alert, severity, who string }

func (f firing) String() string { return fmt.Sprintf("%s (%s) of %s", f.alert, f.severity, f.who) }

// alertChange is the time in which an alert fired.
type alertChange struct {
	firing
	from, to time.Time // a zero to: it still does
}

// scraped is one sample of a scrape.
type scraped struct {
	labels labels.Labels
	value  float64
}

// shippedRules returns the rule files in the order in which a ruleRun needs them: thresholds first. Prometheus
// evaluates groups concurrently, and an alert sees a threshold an interval later at most.
func shippedRules() []string {
	dir := filepath.Join(prometheusFiles, "rules")
	return []string{
		filepath.Join(dir, "thresholds.yml"), filepath.Join(dir, "recording.yml"), filepath.Join(dir, "alerts.yml"),
	}
}

// newRuleRun loads rules. Before the first step, a history may be appended.
func newRuleRun(t *testing.T, every time.Duration, files ...string) *ruleRun {
	t.Helper()
	return newRuleRunAfter(t, t.TempDir(), every, files...)
}

// newRuleRunAfter is newRuleRun with a history, which are the blocks in a directory.
func newRuleRunAfter(t *testing.T, dir string, every time.Duration, files ...string) *ruleRun {
	t.Helper()
	db, queries := openDatabase(t, dir)
	r := &ruleRun{t: t, every: every, db: db, queries: queries, seen: map[string]labels.Labels{}, firing: map[firing]int{}}
	for _, file := range files {
		groups, errs := rulefmt.ParseFile(file, false, model.LegacyValidation, promql, promslog.NewNopLogger())
		for _, err := range errs {
			t.Fatal(err)
		}
		for _, group := range groups.Groups {
			for _, rule := range group.Rules {
				r.rules = append(r.rules, &runRule{
					Rule: rule, interval: max(time.Duration(group.Interval), every),
					alive: map[string]labels.Labels{}, active: map[string]*activeAlert{},
				})
			}
		}
	}

	for _, problem := range outOfOrder(r.rules) {
		t.Fatal(problem)
	}
	return r
}

// newDatabase returns an empty database, and an engine to query it.
func newDatabase(t testing.TB) (*tsdb.DB, *engine.Engine) {
	t.Helper()
	return openDatabase(t, t.TempDir())
}

// openDatabase returns the database in a directory, and an engine to query it.
func openDatabase(t testing.TB, dir string) (*tsdb.DB, *engine.Engine) {
	t.Helper()
	options := tsdb.DefaultOptions()
	options.WALSegmentSize = -1 // nobody reads it again
	options.MinBlockDuration = (4 * evaluatedAtOnce).Milliseconds()
	options.MaxBlockDuration = options.MinBlockDuration
	options.RetentionDuration = 0
	db, err := tsdb.Open(dir, promslog.NewNopLogger(), nil, options, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})

	queries := engine.NewEngine(engine.EngineOpts{
		Logger: promslog.NewNopLogger(), MaxSamples: 50_000_000, Timeout: time.Minute,
		EnableAtModifier: true, EnableNegativeOffset: true,
	})

	t.Cleanup(func() {
		if err := queries.Close(); err != nil {
			t.Error(err)
		}
	})
	return db, queries
}

// outOfOrder returns the rules that need one that does not come before them. In Prometheus they see its previous
// evaluation; evaluated rule by rule, they would see nothing.
func outOfOrder(all []*runRule) []string {
	last := map[string]int{}
	for i, rule := range all {
		if rule.Record != "" {
			last[rule.Record] = i
		}
	}

	var problems []string
	for i, rule := range all {
		tree, err := promql.ParseExpr(rule.Expr)
		if err != nil {
			return []string{err.Error()}
		}
		parser.Inspect(tree, func(node parser.Node, _ []parser.Node) error {
			v, ok := node.(*parser.VectorSelector)
			if !ok {
				return nil
			}
			for record, at := range last {
				if at >= i && selectsName(v, record) {
					problems = append(problems,
						fmt.Sprintf("%s%s needs %s, which does not come before it", rule.Record, rule.Alert, record))
				}
			}
			return nil
		})
	}
	return problems
}

// selectsName reports whether a selector can match series with a name.
func selectsName(v *parser.VectorSelector, name string) bool {
	for _, m := range v.LabelMatchers {
		if m.Name == model.MetricNameLabel && !m.Matches(name) {
			return false
		}
	}
	return true
}

// append stores samples of one time.
func (r *ruleRun) append(at time.Time, samples []scraped) {
	r.t.Helper()
	app := r.db.AppenderV2(r.t.Context())
	for _, s := range samples {
		if _, err := app.Append(0, s.labels, 0, at.UnixMilli(), s.value, nil, nil, storage.AppendV2Options{}); err != nil {
			r.t.Fatalf("%s at %v: %v", s.labels, at, err)
		}
	}
	if err := app.Commit(); err != nil {
		r.t.Fatal(err)
	}
}

// step stores a scrape. As after a real scrape, series that are gone become stale.
func (r *ruleRun) step(at time.Time, samples []scraped) {
	r.t.Helper()
	now := make(map[string]labels.Labels, len(samples))
	for _, s := range samples {
		now[s.labels.String()] = s.labels
	}
	for key, gone := range r.seen {
		if _, ok := now[key]; !ok {
			samples = append(samples, scraped{gone, stale})
		}
	}

	r.seen = now
	r.append(at, samples)
	if r.from.IsZero() {
		r.from = at
	}
	if r.to = at; at.Sub(r.from) >= evaluatedAtOnce {
		r.evaluate()
	}
}

// evaluate evaluates all rules at the steps since the last call.
func (r *ruleRun) evaluate() {
	r.t.Helper()
	if r.from.IsZero() {
		return
	}
	fire := map[firing][]time.Time{}
	for _, rule := range r.rules {
		first, last := r.from.Truncate(rule.interval), r.to.Truncate(rule.interval)
		if first.Before(r.from) {
			first = first.Add(rule.interval)
		}
		if last.Before(first) {
			continue
		}
		query, err := r.queries.NewRangeQuery(r.t.Context(), r.db, nil, rule.Expr, first, last, rule.interval)
		if err != nil {
			r.t.Fatalf("%s%s: %v", rule.Record, rule.Alert, err)
		}
		result := query.Exec(r.t.Context())
		matrix, err := result.Matrix()
		if err != nil {
			r.t.Fatalf("%s%s: %v", rule.Record, rule.Alert, err)
		}
		if rule.Record != "" {
			r.record(rule, matrix, first, last)
		} else {
			rule.alert(matrix, first, last, fire)
		}

		query.Close()
	}

	r.observe(fire)
	r.from = time.Time{}
}

// record stores the results of a rule. Series that are gone become stale.
func (r *ruleRun) record(rule *runRule, matrix engine.Matrix, first, last time.Time) {
	r.t.Helper()
	app := r.db.AppenderV2(r.t.Context())
	add := func(series labels.Labels, at int64, v float64) {
		r.t.Helper()
		if _, err := app.Append(0, series, 0, at, v, nil, nil, storage.AppendV2Options{}); err != nil {
			r.t.Fatalf("%s at %v: %v", series, time.UnixMilli(at), err)
		}
	}

	interval := rule.interval.Milliseconds()
	was := rule.alive
	rule.alive = make(map[string]labels.Labels, len(matrix))
	for _, one := range matrix {
		builder := labels.NewBuilder(one.Metric).Set(model.MetricNameLabel, rule.Record)
		for name, text := range rule.Labels {
			builder.Set(name, text)
		}
		series := builder.Labels()
		key := series.String()
		next := one.Floats[0].T
		if _, ok := was[key]; ok {
			delete(was, key)
			next = first.UnixMilli()
		}

		for _, point := range one.Floats {
			if point.T > next {
				add(series, next, stale)
			}
			add(series, point.T, point.F)
			next = point.T + interval
		}

		if next <= last.UnixMilli() {
			add(series, next, stale)
		} else {
			rule.alive[key] = series
		}
	}

	for _, gone := range was {
		add(gone, first.UnixMilli(), stale)
	}
	if err := app.Commit(); err != nil {
		r.t.Fatal(err)
	}
}

// alert records when alerts of a rule fire, with the states that Prometheus has: pending until "for" has passed, then
// firing, and for keep_firing_for after that.
func (rule *runRule) alert(matrix engine.Matrix, first, last time.Time, fire map[firing][]time.Time) {
	active := map[int64]map[string]labels.Labels{} // by time
	for _, one := range matrix {
		key := one.Metric.String()
		for _, point := range one.Floats {
			if active[point.T] == nil {
				active[point.T] = map[string]labels.Labels{}
			}
			active[point.T][key] = one.Metric
		}
	}

	for at := first; !at.After(last); at = at.Add(rule.interval) {
		now := active[at.UnixMilli()]
		for key, series := range now {
			if rule.active[key] == nil {
				rule.active[key] = &activeAlert{firing: rule.identify(series), since: at}
			}
		}

		for key, a := range rule.active {
			if _, ok := now[key]; ok {
				a.keptSince = time.Time{}
				a.fires = a.fires || at.Sub(a.since) >= time.Duration(rule.For)
			} else {
				if a.keptSince.IsZero() {
					a.keptSince = at
				}
				if !a.fires || at.Sub(a.keptSince) >= time.Duration(rule.KeepFiringFor) {
					delete(rule.active, key)
					continue
				}
			}

			if a.fires {
				fire[a.firing] = append(fire[a.firing], at)
			}
		}
	}
}

func (rule *runRule) identify(series labels.Labels) firing {
	who := series.Get("account")
	if who == "" {
		who = series.Get("instance")
	}
	severity := rule.Labels["severity"]
	if severity == "" {
		severity = series.Get("severity") // of the threshold that it was compared with
	}
	return firing{rule.Alert, severity, who}
}

// observe records which alerts have begun and ended.
func (r *ruleRun) observe(fire map[firing][]time.Time) {
	for _, times := range fire {
		slices.SortFunc(times, time.Time.Compare) // of several rules
	}
	for at := r.from; !at.After(r.to); at = at.Add(r.every) {
		for f, times := range fire {
			_, found := slices.BinarySearchFunc(times, at, time.Time.Compare)
			i, open := r.firing[f]
			switch {
			case found && !open:
				r.firing[f] = len(r.changes)
				r.changes = append(r.changes, alertChange{firing: f, from: at})
			case !found && open:
				r.changes[i].to = at
				delete(r.firing, f)
			}
		}

		for f, i := range r.firing {
			if fire[f] == nil {
				r.changes[i].to = at
				delete(r.firing, f)
			}
		}
	}
}

var stale = math.Float64frombits(value.StaleNaN)

// of returns the changes of an alert, in order.
func (r *ruleRun) of(f firing) []alertChange {
	return slices.DeleteFunc(slices.Clone(r.changes), func(c alertChange) bool { return c.firing != f })
}

// everyKind is a group with all kinds of rules that a ruleRun must evaluate like Prometheus.
const everyKind = `
groups:
  - name: recorded
    rules:
      - {record: "sum:x", expr: "sum by (account) (x) > 2", labels: {more: "yes"}}
      - {record: "max:x", expr: "max_over_time(x[2m]) and x"}
  - name: slow
    interval: 1m
    rules:
      - {record: "slow:x", expr: "sum:x * 2", labels: {severity: warning}}
  - name: alerts
    rules:
      - {alert: Now, expr: "sum:x > 6", labels: {severity: warning}}
      - {alert: Later, expr: "max:x > 3", for: 90s, labels: {severity: critical}}
      - {alert: Kept, expr: "x > 4", keep_firing_for: 1m, labels: {severity: warning}}
      - {alert: Both, expr: "x > 1", for: 1m, keep_firing_for: 90s, labels: {severity: warning}}
      - {alert: Slow, expr: "slow:x > 8", for: 30s}
`

// TestRuleRun compares with Prometheus' own evaluation, on series with gaps.
func TestRuleRun(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "rules.yml")
	writeFile(t, file, []byte(everyKind))
	r := newRuleRun(t, everyScrape, file)
	db, queries := newDatabase(t)
	manager := rules.NewManager(&rules.ManagerOptions{
		QueryFunc:    rules.EngineQueryFunc(queries, db),
		AppendableV2: db,
		Queryable:    db,
		Context:      t.Context(),
		NotifyFunc:   func(context.Context, string, ...*rules.Alert) {},
		Logger:       promslog.NewNopLogger(),
	})

	loaded, errs := manager.LoadGroups(everyScrape, labels.EmptyLabels(), "", nil, false, file)
	for _, err := range errs {
		t.Fatal(err)
	}
	prometheus := &ruleRun{t: t, every: everyScrape, db: db, seen: map[string]labels.Labels{}, firing: map[firing]int{}}
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a test's

	for i := range 2000 {
		at := epoch.Add(time.Duration(i) * everyScrape)
		var samples []scraped
		for _, account := range []string{"a", "b"} {
			for _, instance := range []string{"1", "2"} {
				if random.IntN(5) > 0 {
					samples = append(samples, scraped{
						labels.FromStrings("__name__", "x", "account", account, "instance", instance), float64(random.IntN(6)),
					})
				}
			}
		}

		r.step(at, samples)
		prometheus.step(at, samples)
		fire := map[firing][]time.Time{}
		for _, name := range []string{"recorded", "slow", "alerts"} {
			group := loaded[rules.GroupKey(file, name)]
			if at.Equal(at.Truncate(group.Interval())) {
				group.Eval(t.Context(), at)
			}
			for _, rule := range group.AlertingRules() {
				for _, a := range rule.ActiveAlerts() {
					if a.State == rules.StateFiring {
						f := firing{a.Labels.Get("alertname"), a.Labels.Get("severity"), a.Labels.Get("account")}
						fire[f] = append(fire[f], at)
					}
				}
			}
		}

		prometheus.from, prometheus.to = at, at
		prometheus.observe(fire)
		if random.IntN(50) == 0 {
			r.evaluate()
		}
	}

	r.evaluate()
	alerts := map[string]int{}
	for _, change := range r.changes {
		f := change.firing

		alerts[f.alert]++
		if got, want := r.of(f), prometheus.of(f); !slices.Equal(got, want) {
			t.Errorf("%v: got\n%v\nwant\n%v", f, got, want)
		}
	}

	if len(r.changes) != len(prometheus.changes) || len(alerts) != 5 {
		t.Errorf("%d changes of %v, want %d of five alerts", len(r.changes), alerts, len(prometheus.changes))
	}
}

func TestOutOfOrder(t *testing.T) {
	t.Parallel()
	all := []*runRule{
		{Rule: rulefmt.Rule{Record: "a:b", Expr: "c"}},
		{Rule: rulefmt.Rule{Record: "a:d", Expr: "a:b + a:e"}},
		{Rule: rulefmt.Rule{Record: "a:e", Expr: "a:e offset 5m"}},
		{Rule: rulefmt.Rule{Alert: "F", Expr: "a:e > a:d"}},
	}
	if got := outOfOrder(all); len(got) != 2 {
		t.Errorf("got %q, want one of a:d and one of a:e", got)
	}
}
