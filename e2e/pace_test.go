package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v3"
)

// fast is what the durations of the fast stack are divided by: an hour becomes a minute, and the week that
// TwilioDeliveryDropped needs becomes three hours.
const fast = 60

// step is how often both stacks scrape and evaluate. It is not divided, as half a second is too short on a busy
// machine.
const step = time.Second

// paced returns a rule file with divided durations: for, keep_firing_for, ranges, offsets, and thresholds in seconds.
// All groups are evaluated at the interval of the server.
func paced(rules []byte, divisor int) ([]byte, error) {
	groups, errs := rulefmt.Parse(rules, false, model.LegacyValidation, promql, nil)
	if len(errs) > 0 {
		return nil, errs[0]
	}
	for g := range groups.Groups {
		group := &groups.Groups[g]
		group.Interval = 0
		for r := range group.Rules {
			rule := &group.Rules[r]
			rule.For = divided(rule.For, divisor)
			rule.KeepFiringFor = divided(rule.KeepFiringFor, divisor)
			seconds := strings.Contains(rule.Record, "_seconds:")
			expr, err := pacedExpr(rule.Expr, divisor, seconds)
			if err != nil {
				return nil, fmt.Errorf("%s%s: %w", rule.Record, rule.Alert, err)
			}
			rule.Expr = expr
		}
	}
	return yaml.Marshal(groups)
}

func divided(d model.Duration, divisor int) model.Duration { return d / model.Duration(divisor) }

// pacedExpr does the same for one expression. In one in seconds, numbers are divided, too.
func pacedExpr(expr string, divisor int, seconds bool) (string, error) {
	tree, err := promql.ParseExpr(expr)
	if err != nil {
		return "", err
	}
	by := time.Duration(divisor)
	parser.Inspect(tree, func(node parser.Node, _ []parser.Node) error {
		switch n := node.(type) {
		case *parser.VectorSelector:
			n.OriginalOffset /= by
		case *parser.MatrixSelector:
			n.Range /= by
		case *parser.SubqueryExpr:
			n.Range /= by
			n.Step /= by
			n.OriginalOffset /= by
		case *parser.NumberLiteral:
			if seconds {
				n.Val /= float64(divisor)
			}
		}
		return nil
	})
	return tree.String(), nil
}

var promql = parser.NewParser(parser.Options{})

func TestPaced(t *testing.T) {
	t.Parallel()
	const before = `
groups:
  - name: a
    interval: 2m
    rules:
      - record: twilio:age_seconds:threshold
        expr: vector(600)
      - record: twilio:share:threshold
        expr: vector(0.5)
      - record: a:b:increase1h
        expr: increase(a_total[1h] offset 1d) and max_over_time(b[10m:1m] offset 30m)
      - alert: Stays
        expr: rate(a_total[30m]) > 600
        for: 45m
        keep_firing_for: 30s
        labels: {severity: warning}
        annotations: {summary: 'more than {{ $value }}'}
`

	const after = `groups:
    - name: a
      rules:
        - record: twilio:age_seconds:threshold
          expr: vector(10)
        - record: twilio:share:threshold
          expr: vector(0.5)
        - record: a:b:increase1h
          expr: increase(a_total[1m] offset 24m) and max_over_time(b[10s:1s] offset 30s)
        - alert: Stays
          expr: rate(a_total[30s]) > 600
          for: 45s
          keep_firing_for: 500ms
          labels:
            severity: warning
          annotations:
            summary: more than {{ $value }}
`

	got, err := paced([]byte(before), fast)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != after {
		t.Errorf("got\n%s\nwant\n%s", got, after)
	}

	for name, bad := range map[string]string{
		"no PromQL":      "groups: [{name: a, rules: [{record: a, expr: 'rate(a'}]}]",
		"an unknown key": "groups: [{name: a, rules: [{record: a, expr: b, fur: 1m}]}]",
	} {
		got, err = paced([]byte(bad), fast)
		if err == nil {
			t.Errorf("%s: no error, but\n%s", name, got)
		}
	}

	// With a divisor of 1 expressions mean what they meant.
	same, err := pacedExpr("increase(a_total[1h] offset 1d)", 1, false)
	if want := "increase(a_total[1h] offset 1d)"; err != nil || same != want {
		t.Errorf("undivided: got %q, %v, want %q", same, err, want)
	}
}
