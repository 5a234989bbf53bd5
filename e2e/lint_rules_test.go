package e2e

import (
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
)

// ofAccount are the labels of the level "account" of recording rules.
var ofAccount = []string{"cluster", "env", "namespace", "service", "job", "account"}

// TestRulesLint is modelled on checks of pint and promruval. Each finding names the check.
func TestRulesLint(t *testing.T) {
	t.Parallel()
	for _, group := range ruleGroups(t, filepath.Join(prometheusFiles, "rules")) {
		for i := range group.Rules {
			for _, problem := range lintRule(&group.Rules[i]) {
				t.Error(problem)
			}
		}
	}

	right := rulefmt.Rule{
		Alert: "TwilioRight", Expr: "sum by (account) (a) > 1", Labels: map[string]string{"severity": warning, "scope": "messages"},
		Annotations: map[string]string{
			"summary": "{{ $labels.account }}", "description": "b", "runbook_url": "deploy/runbooks/TwilioRight.md",
		},
	}

	if problems := lintRule(&right); len(problems) > 0 {
		t.Errorf("the right rule: %v", problems)
	}
	for want, change := range map[string]func(*rulefmt.Rule){
		"alerts/comparison":               func(r *rulefmt.Rule) { r.Expr = "sum by (account) (a)" },
		"alerts/template":                 func(r *rulefmt.Rule) { r.Expr = "sum by (job) (a) > 1" },
		"alerts/annotation":               func(r *rulefmt.Rule) { r.Annotations = map[string]string{"summary": "a"} },
		"hasAllowedLabelValue":            func(r *rulefmt.Rule) { r.Labels = with(r.Labels, "severity", "page") },
		"hasLabels":                       func(r *rulefmt.Rule) { r.Labels = map[string]string{"severity": warning} },
		"annotationIsValidURL":            func(r *rulefmt.Rule) { r.Annotations = with(r.Annotations, "runbook_url", "http://[") },
		"expressionDoesNotUseIrate":       func(r *rulefmt.Rule) { r.Expr = "sum by (account) (irate(a[5m])) > 1" },
		"expressionDoesNotUseOlderData":   func(r *rulefmt.Rule) { r.Expr = "sum by (account) (a offset 9d) > 1" },
		"expressionDoesNotUseClusterName": func(r *rulefmt.Rule) { r.Expr = `sum by (account) (a{cluster="eu"}) > 1` },
	} {
		wrong := right
		change(&wrong)
		problems := lintRule(&wrong)
		if !slices.ContainsFunc(problems, func(p string) bool { return strings.Contains(p, want) }) {
			t.Errorf("%s was not noticed: %v", want, problems)
		}
	}
}

// olderThan is the retention that deploy/prometheus/README.md requires.
const olderThan = 8 * 24 * time.Hour

// lintRule returns what is wrong with a rule.
func lintRule(rule *rulefmt.Rule) []string {
	var problems []string
	wrong := func(check, format string, args ...any) {
		problems = append(problems, fmt.Sprintf("%s%s: %s: %s", rule.Record, rule.Alert, check, fmt.Sprintf(format, args...)))
	}
	tree, err := promql.ParseExpr(rule.Expr)
	if err != nil {
		return []string{err.Error()}
	}
	compares := false
	parser.Inspect(tree, func(node parser.Node, _ []parser.Node) error {
		switch n := node.(type) {
		case *parser.BinaryExpr:
			compares = compares || n.Op.IsComparisonOperator()
		case *parser.Call:
			compares = compares || strings.HasPrefix(n.Func.Name, "absent")
			if n.Func.Name == "irate" {
				wrong("expressionDoesNotUseIrate", "%s", n)
			}
		case *parser.VectorSelector:
			if n.OriginalOffset > olderThan {
				wrong("expressionDoesNotUseOlderData", "%s", n)
			}
			for _, m := range n.LabelMatchers {
				if m.Name == "cluster" && m.Value != "" {
					wrong("expressionDoesNotUseClusterName", "%s", n)
				}
			}
		}
		return nil
	})

	if rule.Alert == "" {
		return problems
	}

	remain, known := remaining(tree)
	// An alert of records or of "unless" compares in what it reads.
	if !compares && !strings.Contains(rule.Expr, "unless") {
		wrong("alerts/comparison", "it fires whatever the value")
	}
	severity := rule.Labels["severity"]
	if severity == "" && slices.Contains(remain, "severity") {
		severity = warning // or critical, by the threshold
	}
	if severity != warning && severity != critical {
		wrong("hasAllowedLabelValue", "severity is %q", severity)
	}
	if scope := rule.Labels["scope"]; scope != "messages" && scope != "exporter" {
		wrong("hasLabels", "scope is %q", scope)
	}

	for _, name := range []string{"summary", "description", "runbook_url"} {
		if rule.Annotations[name] == "" {
			wrong("alerts/annotation", "no %s", name)
		}
	}

	link := withoutTemplates.ReplaceAllString(rule.Annotations["runbook_url"], "")
	if _, err := url.Parse(link); err != nil || !strings.HasSuffix(link, "/"+rule.Alert+".md") {
		wrong("annotationIsValidURL", "%s (%v)", link, err)
	}
	for name, text := range rule.Annotations {
		for _, m := range labelInTemplate.FindAllStringSubmatch(text, -1) {
			if known && !slices.Contains(remain, m[1]) {
				wrong("alerts/template", "%s names the label %s, of which %v remain", name, m[1], remain)
			}
		}
	}
	return problems
}

var (
	withoutTemplates = regexp.MustCompile(`(?s)\{\{.*?\}\}`)
	labelInTemplate  = regexp.MustCompile(`\$labels\.(\w+)`)
)

// remaining returns the labels that the series of an expression can have, as far as that is known; false means any.
func remaining(node parser.Expr) ([]string, bool) {
	switch n := node.(type) {
	case *parser.ParenExpr:
		return remaining(n.Expr)
	case *parser.StepInvariantExpr:
		return remaining(n.Expr)
	case *parser.VectorSelector:
		switch {
		case strings.HasPrefix(n.Name, "account_operation:"):
			return append(slices.Clone(ofAccount), "operation"), true
		case strings.HasPrefix(n.Name, "account:"), strings.HasPrefix(n.Name, "account_severity:"):
			return append(slices.Clone(ofAccount), "severity"), true
		}
	case *parser.MatrixSelector:
		return remaining(n.VectorSelector)
	case *parser.Call:
		if len(n.Args) == 1 {
			return remaining(n.Args[0])
		}
	case *parser.AggregateExpr:
		if !n.Without {
			return n.Grouping, true
		}
		inner, known := remaining(n.Expr)
		return slices.DeleteFunc(slices.Clone(inner), func(l string) bool { return slices.Contains(n.Grouping, l) }), known
	case *parser.BinaryExpr:
		return remainingOfBoth(n)
	}
	return nil, false
}

func remainingOfBoth(n *parser.BinaryExpr) ([]string, bool) {
	left, knownLeft := remaining(n.LHS)
	right, knownRight := remaining(n.RHS)
	switch {
	case n.LHS.Type() == parser.ValueTypeScalar:
		return right, knownRight
	case n.RHS.Type() == parser.ValueTypeScalar, n.Op == parser.LAND, n.Op == parser.LUNLESS:
		return left, knownLeft
	case n.Op == parser.LOR:
		return append(slices.Clone(left), right...), knownLeft && knownRight
	case n.VectorMatching.Card == parser.CardManyToOne:
		return append(slices.Clone(left), n.VectorMatching.Include...), knownLeft
	case n.VectorMatching.Card == parser.CardOneToMany:
		return append(slices.Clone(right), n.VectorMatching.Include...), knownRight
	case n.VectorMatching.On:
		return n.VectorMatching.MatchingLabels, true
	}
	return left, knownLeft
}
