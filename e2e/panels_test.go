package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql/parser"
)

// expression is a PromQL expression and where it is.
type expression struct{ where, text string }

// badTimes are expressions that may be empty while nothing is wrong. In the fast stack, each must have had a result.
var badTimes = []struct {
	pattern *regexp.Regexp
	reason  string
}{
	{
		regexp.MustCompile(`> on \(\) .*:threshold`),
		"a figure past its threshold is a target of its own, with a color of its own",
	},
	{regexp.MustCompile(`alertstate="firing"`), "no alert fires"},
	{regexp.MustCompile(`refresh_errors_total.*> 0$`), "reasons without an error are not drawn"},
	{
		regexp.MustCompile(`_scheduled_age_seconds:threshold`),
		"the limit is for accounts that have one; of the demo's two, the one of messages does",
	},
}

func mayBeEmpty(expr string) bool {
	return slices.ContainsFunc(badTimes, func(b struct {
		pattern *regexp.Regexp
		reason  string
	},
	) bool {
		return b.pattern.MatchString(expr)
	})
}

// ofMessages are metrics that an account of e-mails does not have.
var ofMessages = []struct {
	pattern *regexp.Regexp
	reason  string
}{
	{regexp.MustCompile(`_recipients_unaddressable\b|_recipients_unaddressable_per_recipients:`), "the API counts no unaddressable e-mails"},
	{regexp.MustCompile(`\btwilio_named_operation_(?:errors_sampled|messages_sampled|info)\b`), "no lost e-mails are looked up"},
}

// emails reports whether the values of variables select only accounts of e-mails.
func (s *stack) emails(ctx context.Context, values map[string]string) (bool, error) {
	of := fmt.Sprintf("twilio_account_info{account=~%q}", values["account"])
	found, err := s.query(ctx, of)
	if err != nil {
		return false, err
	}
	messages := slices.ContainsFunc(found, func(one sample) bool { return one.labels["resource"] != "emails" })
	return len(found) > 0 && !messages, nil
}

// lacksInEmails reports whether an expression reads what e-mails do not have.
func lacksInEmails(expr string) bool {
	for _, m := range ofMessages {
		if m.pattern.MatchString(expr) {
			return true
		}
	}
	return false
}

// variable is a variable of a dashboard.
type variable struct {
	Name     string
	Type     string
	AllValue string
	Query    any
	Current  struct{ Value any }
}

// dashboard is the part of a dashboard that queries Prometheus.
type dashboard struct {
	file        string
	variables   []variable
	expressions []expression
}

// probes reports whether it shows probed campaigns, which only TestCampaignDiscovery has.
func (d *dashboard) probes() bool {
	return slices.ContainsFunc(d.variables, func(v variable) bool { return v.Name == "operation" })
}

func dashboards(t *testing.T) []dashboard {
	t.Helper()
	var all []dashboard
	for _, file := range glob(t, filepath.Join(dashboardFiles, "*.json")) {
		d, err := readDashboard(filepath.Base(file), readFile(t, file))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, d)
	}
	return all
}

func readDashboard(file string, content []byte) (dashboard, error) {
	d := dashboard{file: file}
	var parts struct {
		Templating struct{ List []variable }
	}
	var all any
	if err := json.Unmarshal(content, &parts); err != nil {
		return d, fmt.Errorf("%s: %w", file, err)
	}
	if err := json.Unmarshal(content, &all); err != nil {
		return d, fmt.Errorf("%s: %w", file, err)
	}
	d.variables = parts.Templating.List
	d.expressions = expressionsIn(all, file)
	if len(d.expressions) == 0 {
		return d, fmt.Errorf("%s asks nothing of Prometheus", file)
	}
	return d, nil
}

// expressionsIn finds expressions wherever they are: in panels, panels of rows, and annotations.
func expressionsIn(node any, where string) []expression {
	var found []expression
	switch n := node.(type) {
	case []any:
		for _, one := range n {
			found = append(found, expressionsIn(one, where)...)
		}
	case map[string]any:
		names := []string{where}
		for _, key := range []string{"title", "name", "refId"} {
			if name, ok := n[key].(string); ok && name != "" {
				names = append(names, name)
			}
		}

		where = strings.Join(names, " / ")
		keys := make([]string, 0, len(n))
		for key := range n {
			keys = append(keys, key)
		}
		slices.Sort(keys)

		for _, key := range keys {
			if text, ok := n[key].(string); ok && key == "expr" {
				found = append(found, expression{where, text})
			} else {
				found = append(found, expressionsIn(n[key], where)...)
			}
		}
	}
	return found
}

// built are Grafana's own variables, for a panel over the last five minutes of a source scraped every 30 s.
var built = map[string]string{
	"__rate_interval": "2m", "__interval": "30s", "__interval_ms": "30000",
	"__range": "5m", "__range_s": "300", "__range_ms": "300000",
}

var reference = regexp.MustCompile(`\$\{(\w+)(?::\w+)?\}|\$([A-Za-z_]\w*)`)

// fill replaces variables by their values. One without a value is an error.
func fill(expr string, values map[string]string) (string, error) {
	var unknown []string
	filled := reference.ReplaceAllStringFunc(expr, func(found string) string {
		m := reference.FindStringSubmatch(found)
		name := m[1] + m[2]
		if value, ok := built[name]; ok {
			return value
		}
		value, ok := values[name]
		if !ok {
			unknown = append(unknown, name)
		}
		return value
	})

	if len(unknown) > 0 {
		return "", fmt.Errorf("variables %q have no value in %s", unknown, expr)
	}
	return filled, nil
}

var labelValues = regexp.MustCompile(`^label_values\((?:(.+),\s*)?(\w+)\)$`)

// values returns the values of the variables of a dashboard on this Prometheus: first all of them at once, then each
// value of the queried ones.
func (d *dashboard) values(ctx context.Context, s *stack) ([]map[string]string, error) {
	everything := map[string]string{}
	type choice struct{ name, value string }
	var choices []choice
	for _, v := range d.variables {
		text := fmt.Sprint(v.Query)
		if query, ok := v.Query.(map[string]any); ok {
			text = fmt.Sprint(query["query"])
		}
		switch v.Type {
		case "datasource":
		case "query":
			m := labelValues.FindStringSubmatch(text)
			if m == nil {
				return nil, fmt.Errorf("%s: variable %s: this test does not know the query %q", d.file, v.Name, text)
			}
			selector, err := fill(m[1], everything)
			if err != nil {
				return nil, fmt.Errorf("%s: variable %s: %w", d.file, v.Name, err)
			}
			parameters := url.Values{}
			if selector != "" {
				parameters.Set("match[]", selector)
			}
			var offered []string
			if err := s.ask(ctx, "/api/v1/label/"+m[2]+"/values", parameters, "", &offered); err != nil {
				return nil, err
			}
			if len(offered) == 0 {
				unclustered, err := s.unclustered(ctx, m[2], parameters)
				if err != nil {
					return nil, err
				}
				if !unclustered {
					return nil, fmt.Errorf("%s: variable %s: %s offers nothing", d.file, v.Name, text)
				}
			}

			everything[v.Name] = v.AllValue
			if v.AllValue == "" {
				everything[v.Name] = "(" + strings.Join(offered, "|") + ")"
			}
			if v.Name == "operation" {
				continue // those that have ended are offered, too, and have no series now
			}
			for _, o := range offered {
				choices = append(choices, choice{v.Name, o})
			}
		default:
			everything[v.Name] = fmt.Sprint(v.Current.Value)
		}
	}

	all := []map[string]string{everything}
	for _, c := range choices {
		all = append(all, with(everything, c.name, c.value))
	}
	return all, nil
}

// unclustered reports whether a variable has no values because series have no label cluster, which only users with
// several clusters add.
func (s *stack) unclustered(ctx context.Context, label string, selector url.Values) (bool, error) {
	if label != "cluster" {
		return false, nil
	}
	var names []string
	err := s.ask(ctx, "/api/v1/label/__name__/values", selector, "", &names)
	return len(selector) > 0 && len(names) > 0, err
}

// emptyPanels returns the expressions of a dashboard that must always have series but have none now.
func emptyPanels(ctx context.Context, s *stack, d *dashboard) ([]string, error) {
	settings, err := d.values(ctx, s)
	if err != nil {
		return nil, err
	}
	emails := make([]bool, len(settings))
	for i, values := range settings {
		if emails[i], err = s.emails(ctx, values); err != nil {
			return nil, err
		}
	}

	var problems []string
	for _, e := range d.expressions {
		for i, values := range settings {
			expr, err := fill(e.text, values)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", e.where, err)
			}
			found, err := s.query(ctx, expr)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", e.where, err)
			}
			if len(found) == 0 && !mayBeEmpty(expr) && !(emails[i] && lacksInEmails(expr)) {
				problems = append(problems, fmt.Sprintf("%s: no series: %s", e.where, expr))
				break
			}
		}
	}
	return problems, nil
}

// neverSeen returns those expressions that may be empty, but never had series for any values of the variables.
func neverSeen(ctx context.Context, s *stack, d *dashboard, past time.Duration) ([]string, error) {
	settings, err := d.values(ctx, s)
	if err != nil {
		return nil, err
	}
	var problems []string
	for _, e := range d.expressions {
		if !mayBeEmpty(e.text) {
			continue
		}
		seen := false
		for _, values := range settings {
			expr, err := fill(e.text, values)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", e.where, err)
			}
			found, err := s.queryRange(ctx, expr, past)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", e.where, err)
			}
			if seen = len(found) > 0; seen {
				break
			}
		}

		if !seen {
			problems = append(problems, fmt.Sprintf("%s: no series, whatever went wrong: %s", e.where, e.text))
		}
	}
	return problems, nil
}

// deadSelectors returns the selectors in these expressions that never matched anything. A rule that compares with one
// can never fire.
func deadSelectors(ctx context.Context, s *stack, expressions []expression, past time.Duration) ([]string, error) {
	var problems []string
	seen := map[string]bool{}
	for _, e := range expressions {
		selectors, err := selectorsOf(e.text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.where, err)
		}
		for _, selector := range selectors {
			alive, asked := seen[selector]
			if !asked {
				found, err := s.queryRange(ctx, fmt.Sprintf("count(%s)", selector), past)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", e.where, err)
				}
				alive = len(found) > 0
				seen[selector] = alive
			}
			if !alive && !isElsewhere(selector) {
				problems = append(problems, fmt.Sprintf("%s: nothing ever matched %s", e.where, selector))
			}
		}
	}
	return problems, nil
}

// selectorsOf returns the selectors in an expression, without ranges and offsets.
func selectorsOf(expr string) ([]string, error) {
	tree, err := promql.ParseExpr(expr)
	if err != nil {
		return nil, err
	}
	var selectors []string
	parser.Inspect(tree, func(node parser.Node, _ []parser.Node) error {
		if v, ok := node.(*parser.VectorSelector); ok {
			selectors = append(selectors, (&parser.VectorSelector{Name: v.Name, LabelMatchers: v.LabelMatchers}).String())
		}
		return nil
	})
	return selectors, nil
}

// filled returns a dashboard's expressions for all values of its variables.
func (d *dashboard) filled(ctx context.Context, s *stack) ([]expression, error) {
	settings, err := d.values(ctx, s)
	if err != nil {
		return nil, err
	}
	all := make([]expression, 0, len(d.expressions))
	for _, e := range d.expressions {
		expr, err := fill(e.text, settings[0])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.where, err)
		}
		all = append(all, expression{e.where, expr})
	}
	return all, nil
}

// elsewhere are parts of selectors that match nothing in the fast stack, with the reason and where they do match.
var elsewhere = map[string]string{
	`threshold{account!=""`: "no account has thresholds of its own: identity.yml",
	`exported_account!=""`:  "no target has a label account: identity.yml",
	`resource="emails"`:     "no account sends e-mails: TestDemo, identity.yml",
	`why="stuck"`:           "nothing is stuck for ten minutes of real time: hours.yml",
	`account_operation:twilio_stuck_operation_idle_seconds`: "as before",
}

// isElsewhere reports whether a selector matches elsewhere.
func isElsewhere(selector string) bool {
	for _, record := range farApart { // TestAlertTimes has them
		if strings.HasPrefix(selector, record) {
			return true
		}
	}
	for part := range elsewhere {
		if strings.Contains(selector, part) {
			return true
		}
	}
	return false
}

// checkAfterTrouble queries the fast stack about everything that went wrong.
func checkAfterTrouble(t *testing.T, s *stack, past time.Duration) {
	t.Helper()
	ask := func(problems []string, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range problems {
			t.Error(p)
		}
	}

	ctx := t.Context()
	expressions := ruleExpressions(t, filepath.Join(s.dir, "rules"))
	for _, d := range dashboards(t) {
		if d.probes() {
			continue
		}
		ask(neverSeen(ctx, s, &d, past))
		filled, err := d.filled(ctx, s)
		if err != nil {
			t.Fatal(err)
		}
		expressions = append(expressions, filled...)
	}

	ask(deadSelectors(ctx, s, expressions, past))

	for name, wrong := range map[string]string{
		"a metric that does not exist": "max(twilio_operations_failling) > 0",
		"a status that does not exist": `twilio_operations_failing{status="PROCESING"} > 0`,
		"one of two":                   `up == 0 and on (job) twilio_up{account="nobody's"}`,
	} {
		if problems, err := deadSelectors(ctx, s, []expression{{name, wrong}}, past); err != nil || len(problems) != 1 {
			t.Errorf("%s was not noticed: %v, %v", name, problems, err)
		}
	}
}

func TestFill(t *testing.T) {
	t.Parallel()
	values := map[string]string{"account": ".+"}
	for _, c := range []struct{ expr, want string }{
		{`a{account=~"$account"}`, `a{account=~".+"}`},
		{`rate(a{account=~"${account:regex}|"}[$__rate_interval])`, `rate(a{account=~".+|"}[2m])`},
		{`label_replace(a, "b", "$1", "c", "(.*)")`, `label_replace(a, "b", "$1", "c", "(.*)")`},
	} {
		if got, err := fill(c.expr, values); err != nil || got != c.want {
			t.Errorf("%s: got %s, %v, want %s", c.expr, got, err, c.want)
		}
	}

	if got, err := fill(`a{account=~"$acount"}`, values); err == nil {
		t.Errorf("a variable that does not exist: got %s", got)
	}
}

func TestLacksInEmails(t *testing.T) {
	t.Parallel()
	for expr, want := range map[string]bool{
		`sum(twilio_operation_recipients_unaddressable{account="a"})`:      true,
		`account:twilio_recipients_unaddressable_per_recipients:ratio > 0`: true,
		`max(twilio_named_operation_errors_sampled)`:                       true,
		`twilio_named_operation_info{account="a"}`:                         true,
		`sum(twilio_operation_messages_undelivered)`:                       false,
		`sum(twilio_operation_recipients)`:                                 false,
		`sum(twilio_operation_recipients_unadressable)`:                    false,
		`account:twilio_recipients_unaddressable_share:threshold`:          false,
		`sum(twilio_named_operation_messages_failed)`:                      false,
		`account:twilio_messages_delivered:median7d`:                       false,
	} {
		if got := lacksInEmails(expr); got != want {
			t.Errorf("%s: %t", expr, got)
		}
	}
}

func TestReadDashboard(t *testing.T) {
	t.Parallel()
	const content = `{"title": "T",
		"annotations": {"list": [{"name": "Alerts", "expr": "ALERTS"}]},
		"panels": [
			{"title": "P", "targets": [{"refId": "A", "expr": "a"}, {"refId": "B", "expr": "b"}]},
			{"title": "R", "type": "row", "panels": [{"title": "Q", "targets": [{"refId": "A", "expr": "c"}]}]}]}`

	d, err := readDashboard("t.json", []byte(content))
	if err != nil {
		t.Fatal(err)
	}
	want := []expression{
		{"t.json / T / Alerts", "ALERTS"},
		{"t.json / T / P / A", "a"},
		{"t.json / T / P / B", "b"},
		{"t.json / T / R / Q / A", "c"},
	}

	if !slices.Equal(d.expressions, want) {
		t.Errorf("got %q\nwant %q", d.expressions, want)
	}
	if _, err := readDashboard("t.json", []byte(`{"panels": []}`)); err == nil {
		t.Error("no error for a dashboard that asks nothing")
	}
}
