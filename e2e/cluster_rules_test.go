package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

// ofCluster adds the label to samples by which a store distinguishes clusters.
func ofCluster(cluster string, page []scraped) []scraped {
	all := make([]scraped, len(page))
	for i, s := range page {
		all[i] = scraped{labels.NewBuilder(s.labels).Set("cluster", cluster).Labels(), s.value}
	}
	return all
}

// TestClusters has a central ruler evaluate the rules over two clusters with
// accounts of one name, job and address, which also have recorded all thresholds
// themselves. Every rule, every query of a template and every panel is evaluated
// without an error, and what happens in one cluster is none of the other's.
func TestClusters(t *testing.T) {
	t.Parallel()
	start := epoch.Add(8 * 24 * time.Hour)
	clusters := []string{"eu", "us"}
	accounts := map[string]*simAccount{}
	for _, cluster := range clusters {
		a := &simAccount{name: "marketing", instance: "exporter:9861"}
		a.begin(start)
		accounts[cluster] = a
	}

	thresholds := ruleGroups(t, filepath.Join(prometheusFiles, "rules"))
	r := newRuleRun(t, everyScrape, shippedRules()...)
	const lasts = 3 * time.Hour
	for at := start; at.Before(start.Add(lasts)); at = at.Add(everyScrape) {
		bad := at.Sub(start) >= 2*time.Hour
		var samples []scraped
		for _, cluster := range clusters {
			a := accounts[cluster]
			a.now = at
			if at.Equal(at.Truncate(time.Minute)) {
				switch {
				case cluster == "eu" && bad:
					a.send(many, 0.5, 0)
					a.fails("campaign", 2000, 10, "PROCESSING")
				default:
					a.send(many, 0.01, 0.03)
				}
			}

			samples = append(samples, ofCluster(cluster, a.scrape())...)
			// What the cluster's own Prometheus has recorded of thresholds.
			for _, group := range thresholds {
				for _, rule := range group.Rules {
					if strings.HasPrefix(rule.Record, "twilio:") && strings.HasSuffix(rule.Record, ":threshold") {
						of := labels.NewBuilder(labels.FromMap(rule.Labels)).
							Set("__name__", rule.Record).Set("cluster", cluster).Set("prometheus", cluster+"-0")
						samples = append(samples, scraped{of.Labels(), threshold(t, rule.Expr)})
					}
				}
			}
		}

		r.step(at, samples)
	}

	r.evaluate() // which fails at an error

	end := start.Add(lasts - everyScrape)
	ask := func(where, expr string) int {
		t.Helper()
		query, err := r.queries.NewInstantQuery(t.Context(), r.db, nil, expr, end)
		if err != nil {
			t.Errorf("%s: %v", where, err)
			return 0
		}
		defer query.Close()
		result := query.Exec(t.Context())
		if result.Err != nil {
			t.Errorf("%s: %v: %s", where, result.Err, expr)
			return 0
		}

		vector, err := result.Vector()
		if err != nil {
			return 0 // a number
		}
		return len(vector)
	}

	asked := 0
	for _, e := range ruleExpressions(t, filepath.Join(prometheusFiles, "rules")) {
		ask(e.where, e.text)
		asked++
	}

	for _, d := range dashboards(t) {
		for _, values := range []string{".*", "eu"} {
			for _, e := range d.expressions {
				expr, err := fill(e.text, map[string]string{
					"cluster": values, "job": ".*", "account": ".+", "operation": ".+",
				})
				if err != nil {
					t.Fatalf("%s: %v", e.where, err)
				}
				ask(e.where, expr)
				asked++
			}
		}
	}

	if asked < 300 {
		t.Errorf("%d queries are hardly all", asked)
	}

	if n := ask("both", `account:twilio_messages_outcomes:increase1h{account="marketing"}`); n != len(clusters) {
		t.Errorf("the account of two clusters is %d", n)
	}
	told := map[string]bool{}
	for _, rule := range r.rules {
		for _, series := range rule.active {
			told[fmt.Sprint(series.firing)] = told[fmt.Sprint(series.firing)] || series.fires
		}
	}

	for _, want := range []string{
		"TwilioFailedShareHigh (critical) of marketing", "TwilioFailedShareHigh (warning) of marketing",
		"TwilioCampaignFailing (warning) of marketing",
	} {
		if !told[want] {
			t.Errorf("nobody is told of %s, but of %v", want, told)
		}
		delete(told, want)
	}

	for other, fires := range told {
		if fires {
			t.Errorf("also fires: %s", other)
		}
	}

	// In the one cluster alone.
	for _, rule := range r.rules {
		for key := range rule.active {
			if strings.Contains(key, `cluster="us"`) {
				t.Errorf("%s fires in the wrong cluster: %s", rule.Alert, key)
			}
		}
	}
}

// threshold returns the number in the expression of a threshold.
func threshold(t *testing.T, expr string) float64 {
	t.Helper()
	var value float64
	if _, err := fmt.Sscanf(expr, "vector(%g)", &value); err != nil {
		t.Fatalf("%s: %v", expr, err)
	}
	return value
}
