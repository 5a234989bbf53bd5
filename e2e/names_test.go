package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"text/template/parse"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v3"
)

// ofPrometheus are series that Prometheus itself makes.
var ofPrometheus = []string{"up", "ALERTS", "ALERTS_FOR_STATE", "scrape_duration_seconds", "scrape_samples_scraped"}

// notMetrics are words in the docs that look like metrics but are none.
var notMetrics = []string{
	"twilio_operations_exporter", // the program
	"twilio_simulator",           // the simulator's
	"twilio_probe",               // a job's name
	"twilio_campaign",            // a job's name
	"twilio_exporter",            // the prefix, in the help of build_info
}

// known are the names of all series that can exist.
type known map[string]bool

// learn adds the names in a page of metrics, and returns its families.
func (k known) learn(page []byte) []string {
	var families []string
	lines := bufio.NewScanner(bytes.NewReader(page))
	for lines.Scan() {
		line := lines.Text()
		if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
			name, _, _ := strings.Cut(rest, " ")
			families = append(families, name)
			k[name] = true
		} else if !strings.HasPrefix(line, "#") {
			if end := strings.IndexAny(line, "{ "); end > 0 {
				k[line[:end]] = true
			}
		}
	}
	return families
}

// check returns the unknown names in an expression.
func (k known) check(e expression) []string {
	tree, err := promql.ParseExpr(e.text)
	if err != nil {
		return []string{fmt.Sprintf("%s: %v", e.where, err)}
	}
	var problems []string
	parser.Inspect(tree, func(node parser.Node, _ []parser.Node) error {
		v, ok := node.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		for _, m := range v.LabelMatchers {
			if m.Name == model.MetricNameLabel && !k.has(m) {
				problems = append(problems, fmt.Sprintf("%s: there is no metric %s", e.where, m.Value))
			}
		}
		return nil
	})
	return problems
}

// has reports whether a name, or one that matches, is known.
func (k known) has(m *labels.Matcher) bool {
	if m.Type == labels.MatchEqual {
		return k[m.Value]
	}
	for name := range k {
		if m.Matches(name) {
			return true
		}
	}
	return false
}

// ruleGroups returns the groups in the rule files of a directory.
func ruleGroups(t *testing.T, dir string) []rulefmt.RuleGroup {
	t.Helper()
	var all []rulefmt.RuleGroup
	for _, file := range glob(t, filepath.Join(dir, "*.yml")) {
		groups, errs := rulefmt.Parse(readFile(t, file), false, model.LegacyValidation, promql, nil)
		for _, err := range errs {
			t.Errorf("%s: %v", file, err)
		}
		if groups != nil {
			all = append(all, groups.Groups...)
		}
	}

	if t.Failed() {
		t.FailNow()
	}
	return all
}

func ruleExpressions(t *testing.T, dir string) []expression {
	t.Helper()
	var all []expression
	for _, group := range ruleGroups(t, dir) {
		for i := range group.Rules {
			rule := &group.Rules[i]
			where := fmt.Sprintf("rule %d of %s (%s%s)", i+1, group.Name, rule.Record, rule.Alert)
			all = append(all, expression{where, rule.Expr})
			for name, text := range rule.Annotations {
				queries, err := templateQueries(text)
				if err != nil {
					t.Errorf("%s, annotation %s: %v", where, name, err)
				}
				for _, query := range queries {
					all = append(all, expression{where + ", annotation " + name, query})
				}
			}
		}
	}
	return all
}

// templateQueries returns the queries in an annotation's template. If printf inserts the value of a label, any value is
// used.
func templateQueries(text string) ([]string, error) {
	// Prometheus defines these before the text, too.
	const variables = "{{$labels := 0}}{{$externalLabels := 0}}{{$value := 0}}"
	tree := parse.New("annotation")
	tree.Mode = parse.SkipFuncCheck
	if _, err := tree.Parse(variables+text, "", "", map[string]*parse.Tree{}); err != nil {
		return nil, err
	}
	queries := queriesBelow(tree.Root)
	if n := len(queryFunction.FindAllString(text, -1)); n != len(queries) {
		return nil, fmt.Errorf("%d calls of query, but %d strings that are queries: %q", n, len(queries), queries)
	}
	return queries, nil
}

// queryFunction finds calls of query, so that none is overlooked.
var queryFunction = regexp.MustCompile(`\bquery\b`)

// optionalLabel finds labels that not all targets have.
var optionalLabel = regexp.MustCompile(`\b(cluster|env|namespace|service)=%q`)

// queriesBelow returns the strings piped into query at and below a node of a template.
func queriesBelow(node parse.Node) []string {
	var queries []string
	branch := func(b *parse.BranchNode) []string {
		return slices.Concat(queriesBelow(b.Pipe), queriesBelow(b.List), queriesBelow(b.ElseList))
	}
	switch n := node.(type) {
	case *parse.ListNode:
		if n == nil {
			break // there is no else
		}
		for _, one := range n.Nodes {
			queries = append(queries, queriesBelow(one)...)
		}
	case *parse.ActionNode:
		return queriesBelow(n.Pipe)
	case *parse.IfNode:
		return branch(&n.BranchNode)
	case *parse.RangeNode:
		return branch(&n.BranchNode)
	case *parse.WithNode:
		return branch(&n.BranchNode)
	case *parse.PipeNode:
		for i, cmd := range n.Cmds {
			queried := i+1 < len(n.Cmds) && n.Cmds[i+1].String() == "query"
			for _, arg := range cmd.Args {
				if s, ok := arg.(*parse.StringNode); ok && queried {
					text := optionalLabel.ReplaceAllString(s.Text, `$1=~".*"`)
					text = strings.ReplaceAll(text, "=%q", `=~".+"`)
					queries = append(queries, strings.ReplaceAll(text, "{%s", `{account=~".+"`))
				}
				queries = append(queries, queriesBelow(arg)...)
			}
		}
	}
	return queries
}

func recorded(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	for _, group := range ruleGroups(t, dir) {
		for i := range group.Rules {
			if record := group.Rules[i].Record; record != "" {
				names = append(names, record)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// ruleTests is the part of promtool's unit tests that is checked here.
type ruleTests struct {
	Tests []struct {
		Name        string
		InputSeries []struct{ Series string } `yaml:"input_series"`
		Alerts      []struct {
			Alertname string
			Expected  []struct {
				Labels map[string]string `yaml:"exp_labels"`
			} `yaml:"exp_alerts"`
		} `yaml:"alert_rule_test"`
		Expressions []struct {
			Expr     string
			Expected []any `yaml:"exp_samples"`
		} `yaml:"promql_expr_test"`
	}
}

func readRuleTests(t *testing.T) ruleTests {
	t.Helper()
	var all ruleTests
	for _, file := range glob(t, filepath.Join(prometheusFiles, "tests", "*.yml")) {
		var tests ruleTests
		if err := yaml.Unmarshal(readFile(t, file), &tests); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all.Tests = append(all.Tests, tests.Tests...)
	}
	return all
}

var (
	// A name in running text; braces are alternatives, as in a shell.
	wordInDocs = regexp.MustCompile(`\b(?:twilio_|(?:account|account_day|account_operation|account_severity|instance|shards|twilio):[a-zA-Z_])` +
		`[a-zA-Z0-9_:]*(?:\{[a-z0-9_]+(?:,[a-z0-9_]+)+\}[a-zA-Z0-9_:]*)*`)
	braces     = regexp.MustCompile(`\{([^{}]*)\}`)
	promqlCode = regexp.MustCompile("(?s)```promql\n(.*?)```")
)

// words returns the names in a text, with alternatives expanded.
func words(text string) []string {
	var all []string
	for _, word := range wordInDocs.FindAllString(text, -1) {
		all = append(all, expanded(strings.TrimRight(word, ":"))...)
	}
	return all
}

func expanded(word string) []string {
	at := braces.FindStringSubmatchIndex(word)
	if at == nil {
		return []string{word}
	}
	var all []string
	for _, one := range strings.Split(word[at[2]:at[3]], ",") {
		all = append(all, expanded(word[:at[0]]+one+word[at[1]:])...)
	}
	return all
}

// unknownWords returns the names in a text that nothing has. One that ends in _ stands for all that begin with it.
func (k known) unknownWords(where, text string) []string {
	var problems []string
	for _, word := range words(promqlCode.ReplaceAllString(text, "")) {
		switch {
		case k[word], slices.Contains(notMetrics, word):
		case strings.HasSuffix(word, "_") && k.begins(word):
		default:
			problems = append(problems, fmt.Sprintf("%s: there is no metric %s", where, word))
		}
	}

	for _, m := range promqlCode.FindAllStringSubmatch(text, -1) {
		problems = append(problems, k.check(expression{where, m[1]})...)
	}
	slices.Sort(problems)
	return slices.Compact(problems)
}

func (k known) begins(prefix string) bool {
	for name := range k {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// docs returns the texts for people: the README, docs/, and those in deploy/.
func docs(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	for _, from := range []string{"README.md", "docs", "deploy"} {
		err := filepath.WalkDir(filepath.Join(project, from), func(file string, entry fs.DirEntry, err error) error {
			if err == nil && !entry.IsDir() && filepath.Ext(file) == ".md" {
				texts[file] = string(readFile(t, file))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}

	if len(texts) < 2 {
		t.Fatalf("hardly any docs: %v", slices.Collect(maps.Keys(texts)))
	}
	return texts
}

// checkNames compares the names in rules, their tests, dashboards and docs with those that the exporter exports.
func checkNames(t *testing.T, pages ...[]byte) {
	t.Helper()
	k := known{}
	var families []string
	for _, page := range pages {
		families = append(families, k.learn(page)...)
	}
	for _, name := range slices.Concat(ofPrometheus, recorded(t, filepath.Join(prometheusFiles, "rules"))) {
		k[name] = true
	}

	used := map[string]bool{}
	use := func(names ...string) {
		for _, name := range names {
			used[name] = true
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				used[strings.TrimSuffix(name, suffix)] = true
			}
		}
	}

	expressions := ruleExpressions(t, filepath.Join(prometheusFiles, "rules"))
	for _, d := range dashboards(t) {
		for _, e := range d.expressions {
			// Any value will do where only names are looked at.
			values := map[string]string{}
			for _, v := range d.variables {
				values[v.Name] = "a"
			}
			text, err := fill(e.text, values)
			if err != nil {
				t.Errorf("%s: %v", e.where, err)
				continue
			}
			expressions = append(expressions, expression{e.where, text})
		}
	}

	for _, e := range expressions {
		for _, p := range k.check(e) {
			t.Error(p)
		}
		use(words(e.text)...)
	}

	for _, test := range readRuleTests(t).Tests {
		for _, series := range test.InputSeries {
			for _, p := range k.check(expression{"input of test " + test.Name, series.Series}) {
				t.Error(p)
			}
		}
		for _, e := range test.Expressions {
			for _, p := range k.check(expression{"test " + test.Name, e.Expr}) {
				t.Error(p)
			}
		}
	}

	for file, text := range docs(t) {
		for _, p := range k.unknownWords(file, text) {
			t.Error(p)
		}
		use(words(text)...)
	}

	for _, family := range families {
		if strings.HasPrefix(family, "twilio_") && !used[family] {
			t.Errorf("%s is in no rule, dashboard or doc", family)
		}
	}

	// Wrong copies are noticed.
	for name, e := range map[string]expression{
		"a misspelt metric": {"panel", `sum(rate(twilio_mesages_total[5m]))`},
		"a rule's old name": {"panel", `account:twilio_up:max1m`},
		"names of no rule":  {"panel", `{__name__=~"account:twilio_up:.+1m"}`},
		"no PromQL":         {"panel", `sum(`},
	} {
		if problems := k.check(e); len(problems) != 1 {
			t.Errorf("%s was not noticed: %v", name, problems)
		}
	}

	const text = "`twilio_up` and `twilio_upp`, account: `account:twilio_{up,down}:max`\n```promql\ndown\n```\n"
	if problems := k.unknownWords("text", text); len(problems) != 3 {
		t.Errorf("of three unknown names in a text: %v", problems)
	}
}

func TestWords(t *testing.T) {
	t.Parallel()
	const text = "`twilio_up{account=\"a\"}`, `twilio:share:threshold{severity}`, " +
		"account_day:twilio_{a,b}:x{1h,1d}, account_severity:twilio_a:y, twilio_probe_…"
	want := []string{
		"twilio_up", "twilio:share:threshold",
		"account_day:twilio_a:x1h", "account_day:twilio_a:x1d", "account_day:twilio_b:x1h", "account_day:twilio_b:x1d",
		"account_severity:twilio_a:y",
		"twilio_probe_",
	}

	if got := words(text); !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}

	// Whatever level a rule records, a text may name it.
	for _, name := range recorded(t, filepath.Join(prometheusFiles, "rules")) {
		if got := words("`" + name + "`"); !slices.Equal(got, []string{name}) {
			t.Errorf("%s is taken for %q", name, got)
		}
	}
}

func TestTemplateQueries(t *testing.T) {
	t.Parallel()
	const text = `x {{- with printf "topk(1, a{cluster=%q,account=%q}[30m])" $labels.cluster $labels.account | query -}} {{ "no_query" | title }}` +
		`{{ else }}{{ or $value "" }} from={{ "1 * time()" | query | first | value }}{{ end }}` +
		`{{ if (printf "b" | query) }}{{ range query_all }}{{ "c{d=\"e\"}" | query }}{{ end }}{{ end }}`
	want := []string{`topk(1, a{cluster=~".*",account=~".+"}[30m])`, "1 * time()", "b", `c{d="e"}`}
	if got, err := templateQueries(text); err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v\nwant %q", got, err, want)
	}

	for name, wrong := range map[string]string{
		"no template":            `{{ with "a" | query }}`,
		"an unknown variable":    `{{ $label }}`,
		"a query of another way": `{{ query "a" }}`,
	} {
		if got, err := templateQueries(wrong); err == nil {
			t.Errorf("%s: no error, but %q", name, got)
		}
	}
}
