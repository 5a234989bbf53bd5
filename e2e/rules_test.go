package e2e

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	engine "github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
)

// everyScrape is the scrape_interval and evaluation_interval of prometheus.yml.
const everyScrape = 30 * time.Second

// ruleRun evaluates the rules of deploy/prometheus over simulated time, scrape
// by scrape, as a Prometheus would.
type ruleRun struct {
	t       *testing.T
	db      *tsdb.DB
	groups  []*rules.Group
	seen    map[string]labels.Labels // in the scrape before
	firing  map[firing]time.Time     // since when
	changes []alertChange
}

// firing is an alert of one account, or of one target where it has no account.
type firing struct{ alert, severity, who string }

func (f firing) String() string { return fmt.Sprintf("%s (%s) of %s", f.alert, f.severity, f.who) }

// alertChange is an alert that has been firing from one time to another.
type alertChange struct {
	firing
	from, to time.Time // a zero to: it still does
}

// scraped is one sample of a scrape.
type scraped struct {
	labels labels.Labels
	value  float64
}

// newRuleRun loads the rules. Until the first scrape, history may be appended.
func newRuleRun(t *testing.T) *ruleRun {
	t.Helper()
	options := tsdb.DefaultOptions()
	options.WALSegmentSize = -1 // nobody reads it again
	options.MinBlockDuration = (24 * time.Hour).Milliseconds()
	options.MaxBlockDuration = options.MinBlockDuration
	options.RetentionDuration = 0
	db, err := tsdb.Open(t.TempDir(), promslog.NewNopLogger(), nil, options, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	queries := queryEngine()
	t.Cleanup(func() {
		if err := queries.Close(); err != nil {
			t.Error(err)
		}
	})
	manager := rules.NewManager(&rules.ManagerOptions{
		QueryFunc:    rules.EngineQueryFunc(queries, db),
		AppendableV2: db,
		Queryable:    db,
		Context:      t.Context(),
		NotifyFunc:   func(context.Context, string, ...*rules.Alert) {},
		Logger:       promslog.NewNopLogger(),
	})
	r := &ruleRun{t: t, db: db, seen: map[string]labels.Labels{}, firing: map[firing]time.Time{}}
	// Thresholds first: Prometheus evaluates groups beside each other, and an
	// alert sees a threshold at the latest an interval later.
	for _, name := range []string{"thresholds.yml", "recording.yml", "alerts.yml"} {
		file := filepath.Join(prometheusFiles, "rules", name)
		groups, errs := manager.LoadGroups(everyScrape, labels.EmptyLabels(), "", nil, false, file)
		for _, err := range errs {
			t.Fatal(err)
		}
		for _, group := range ruleGroupNames(t, file) {
			r.groups = append(r.groups, groups[rules.GroupKey(file, group)])
		}
	}
	return r
}

func queryEngine() *engine.Engine {
	return engine.NewEngine(engine.EngineOpts{
		Logger: promslog.NewNopLogger(), MaxSamples: 50_000_000, Timeout: time.Minute,
		EnableAtModifier: true, EnableNegativeOffset: true,
	})
}

// ruleGroupNames are the groups of a file in their order.
func ruleGroupNames(t *testing.T, file string) []string {
	t.Helper()
	var names []string
	for line := range strings.Lines(string(readFile(t, file))) {
		if name, ok := strings.CutPrefix(line, "  - name: "); ok {
			names = append(names, strings.TrimSpace(name))
		}
	}
	if len(names) == 0 {
		t.Fatalf("%s has no groups", file)
	}
	return names
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

// step scrapes and then evaluates all rules. A series that is no longer there
// becomes stale, as at a scrape.
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
	for _, group := range r.groups {
		if at.Sub(at.Truncate(group.Interval())) == 0 {
			group.Eval(r.t.Context(), at)
		}
		for _, rule := range group.Rules() {
			if err := rule.LastError(); err != nil {
				r.t.Fatalf("%s at %v: %v", rule.Name(), at, err)
			}
		}
	}
	r.observe(at)
}

// observe notes which alerts have begun and ended.
func (r *ruleRun) observe(at time.Time) {
	active := map[firing]bool{}
	for _, group := range r.groups {
		for _, rule := range group.AlertingRules() {
			for _, a := range rule.ActiveAlerts() {
				if a.State != rules.StateFiring {
					continue
				}
				who := a.Labels.Get("account")
				if who == "" {
					who = a.Labels.Get("instance")
				}
				f := firing{a.Labels.Get("alertname"), a.Labels.Get("severity"), who}
				active[f] = true
				if _, ok := r.firing[f]; !ok {
					r.firing[f] = at
					r.changes = append(r.changes, alertChange{firing: f, from: at})
				}
			}
		}
	}
	for f := range r.firing {
		if active[f] {
			continue
		}
		delete(r.firing, f)
		for i := range slices.Backward(r.changes) {
			if r.changes[i].firing == f {
				r.changes[i].to = at
				break
			}
		}
	}
}

var stale = math.Float64frombits(value.StaleNaN)

// of are the changes of one alert, in order.
func (r *ruleRun) of(f firing) []alertChange {
	return slices.DeleteFunc(slices.Clone(r.changes), func(c alertChange) bool { return c.firing != f })
}
