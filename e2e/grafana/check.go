// Package grafana checks the dashboards in deploy/grafana against Grafana's schema, the metrics and rules that they show,
// and conventions of this project.
package grafana

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/prometheus/promql/parser"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// dashboardSchema is generated from Grafana's types: see schema/generate.mjs.
//
//go:embed schema/dashboard.schema.json
var dashboardSchema []byte

// gridColumns is the width of Grafana's grid.
const gridColumns = 24

// ourSource is how everything refers to the data source: by the variable.
const ourSource = "${datasource}"

type source struct{ Type, UID string }

type query struct {
	Datasource source
	Expr       string
	LegendFormat,
	RefID string
}

type link struct{ Title, URL string }

type panel struct {
	ID                       int
	Type, Title, Description string
	Datasource               source
	GridPos                  struct{ X, Y, W, H int }
	Collapsed                bool
	Panels                   []panel
	Targets                  []query
	Links                    []link
	Transformations          []struct {
		ID      string
		Options struct{ RenameByName map[string]string }
	}
	FieldConfig struct {
		Defaults struct {
			Unit  string
			Color struct{ Mode string }
		}
		Overrides []struct{ Matcher struct{ ID, Options string } }
	}
}

type dashboard struct {
	UID, Title, Description string
	Panels                  []panel
	Links                   []link
	Annotations             struct {
		List []struct {
			BuiltIn int
			Target  struct{ Expr string }
		}
	}
	Templating struct {
		List []struct {
			Name, Type        string
			Multi, IncludeAll bool
			AllValue          string
			Refresh           int
			Query             json.RawMessage // a string or an object, by the type
		}
	}
}

// checker checks dashboards. It knows what they may refer to.
type checker struct {
	schema   *jsonschema.Schema
	known    known
	rules    *rules
	uids     []string // of all dashboards
	runbooks string   // folder
	promql   parser.Parser
}

var compiled = sync.OnceValues(func() (*jsonschema.Schema, error) {
	const name = "dashboard.schema.json"
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(dashboardSchema))
	if err != nil {
		return nil, err
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource(name, document); err != nil {
		return nil, err
	}
	return compiler.Compile(name)
})

func newChecker(r *rules, runbooks string, uids []string) (*checker, error) {
	schema, err := compiled()
	if err != nil {
		return nil, err
	}
	return &checker{
		schema: schema, known: everything(r), rules: r, uids: uids, runbooks: runbooks,
		promql: parser.NewParser(parser.Options{}),
	}, nil
}

// check returns everything that is wrong with the dashboard in a file.
func (c *checker) check(content []byte) error {
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(content))
	if err != nil {
		return err
	}
	var d dashboard
	if err := json.Unmarshal(content, &d); err != nil {
		return err
	}
	errs := []error{c.schema.Validate(document), checkSources(document, "")}
	errs = append(errs, c.checkLinks(document, "")...)
	if strings.Contains(string(content), `"__inputs"`) {
		errs = append(errs, errors.New("__inputs: made for sharing, not for provisioning"))
	}
	if tidy, err := tidied(content); err != nil || !bytes.Equal(tidy, content) {
		errs = append(errs, errors.New("not as Grafana exports it: two spaces, keys in order"))
	}
	errs = append(errs, checkVariables(&d)...)
	errs = append(errs, lint(&d)...)
	if d.UID == "" || d.Title == "" || d.Description == "" {
		errs = append(errs, errors.New("uid, title or description is missing"))
	}

	for _, a := range d.Annotations.List {
		if a.BuiltIn == 0 {
			errs = append(errs, c.checkQuery(a.Target.Expr))
		}
	}

	all := flatten(d.Panels)
	errs = append(errs, checkLayout(all)...)
	for i := range all {
		p := &all[i]
		for _, err := range c.checkPanel(p) {
			if err != nil {
				errs = append(errs, fmt.Errorf("panel %d %q: %w", p.ID, p.Title, err))
			}
		}
	}
	return errors.Join(errs...)
}

// tidied returns the JSON formatted as Grafana writes it.
func tidied(content []byte) ([]byte, error) {
	var document any
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.UseNumber()
	if err := decoder.Decode(&document); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err := encoder.Encode(document)
	return out.Bytes(), err
}

func flatten(panels []panel) []panel {
	var all []panel
	for i := range panels {
		all = append(all, panels[i])
		all = append(all, flatten(panels[i].Panels)...)
	}
	return all
}

// checkSources reports data sources that are not the variable.
func checkSources(node any, path string) error {
	var errs []error
	switch node := node.(type) {
	case []any:
		for i, child := range node {
			errs = append(errs, checkSources(child, fmt.Sprintf("%s/%d", path, i)))
		}
	case map[string]any:
		for key, child := range node {
			if key == "datasource" {
				ref, _ := child.(map[string]any)
				// Every dashboard has a query for Grafana's own annotations.
				if uid := ref["uid"]; uid != ourSource && uid != "-- Grafana --" {
					errs = append(errs, fmt.Errorf("%s: data source %v is not %s", path, child, ourSource))
				}
			}
			errs = append(errs, checkSources(child, path+"/"+key))
		}
	}
	return errors.Join(errs...)
}

var (
	toDashboard = regexp.MustCompile(`/d/([\w-]+)`)
	toRunbook   = regexp.MustCompile(`^\$\{runbooks\}/(.+)$`)
)

// checkLinks follows all links.
func (c *checker) checkLinks(node any, path string) []error {
	var errs []error
	switch node := node.(type) {
	case []any:
		for i, child := range node {
			errs = append(errs, c.checkLinks(child, fmt.Sprintf("%s/%d", path, i))...)
		}
	case map[string]any:
		for key, child := range node {
			url, isText := child.(string)
			if key != "url" || !isText {
				errs = append(errs, c.checkLinks(child, path+"/"+key)...)
				continue
			}
			for _, err := range c.follow(url) {
				errs = append(errs, fmt.Errorf("%s: link to %s: %w", path, url, err))
			}
		}
	}
	return errs
}

func (c *checker) follow(url string) []error {
	if m := toDashboard.FindStringSubmatch(url); m != nil {
		if !slices.Contains(c.uids, m[1]) {
			return []error{fmt.Errorf("there is no dashboard %s", m[1])}
		}
		return nil
	}

	m := toRunbook.FindStringSubmatch(url)
	if m == nil {
		return []error{errors.New("leads to neither a dashboard nor a runbook")}
	}
	pages := []string{m[1]}
	if m[1] == "${__value.raw}.md" { // the name of an alert
		pages = nil
		for _, alert := range c.rules.alerts {
			pages = append(pages, alert+".md")
		}
	}

	var errs []error
	for _, page := range pages {
		if _, err := os.Stat(filepath.Join(c.runbooks, page)); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

func checkVariables(d *dashboard) []error {
	var errs []error
	want := map[string]string{
		"datasource": "datasource", "cluster": "query", "job": "query", "account": "query", "runbooks": "constant",
	}
	if d.UID == "twilio-campaign" {
		want["operation"] = "query"
	}

	for _, v := range d.Templating.List {
		if want[v.Name] != v.Type {
			errs = append(errs, fmt.Errorf("variable %s of type %s is not wanted", v.Name, v.Type))
		}
		delete(want, v.Name)
		// A value for "All" keeps queries short if there are fifty accounts.
		if v.Type == "query" && (!v.Multi || !v.IncludeAll || v.AllValue == "") {
			errs = append(errs, fmt.Errorf("variable %s must take several values, and all with a value of its own", v.Name))
		}
		// Series without a label cluster must not be left out.
		if (v.Name == "cluster" || v.Name == "job") && v.AllValue != ".*" {
			errs = append(errs, fmt.Errorf("variable %s: all is %q, want .* for series without that label", v.Name, v.AllValue))
		}
	}

	for name := range want {
		errs = append(errs, fmt.Errorf("variable %s is missing", name))
	}
	return errs
}

// checkLayout checks ids and positions of panels.
func checkLayout(all []panel) []error {
	var errs []error
	ids := map[int]bool{}
	for i := range all {
		a := &all[i]
		if a.ID <= 0 || ids[a.ID] {
			errs = append(errs, fmt.Errorf("panel %q: id %d is not positive or not the only one", a.Title, a.ID))
		}
		ids[a.ID] = true
		if p := a.GridPos; p.W <= 0 || p.H <= 0 || p.X < 0 || p.Y < 0 || p.X+p.W > gridColumns {
			errs = append(errs, fmt.Errorf("panel %d %q does not fit into the grid: %+v", a.ID, a.Title, p))
		}

		for j := range all[:i] {
			b := &all[j]
			p, q := a.GridPos, b.GridPos
			if p.X < q.X+q.W && q.X < p.X+p.W && p.Y < q.Y+q.H && q.Y < p.Y+p.H {
				errs = append(errs, fmt.Errorf("panels %d %q and %d %q overlap", b.ID, b.Title, a.ID, a.Title))
			}
		}
	}
	return errs
}

func (c *checker) checkPanel(p *panel) []error {
	var errs []error
	if p.Title == "" {
		errs = append(errs, errors.New("no title"))
	}
	if p.Type == "row" {
		return errs
	}
	if !strings.HasSuffix(p.Description, ".") {
		errs = append(errs, errors.New("no description in sentences"))
	}
	if p.Datasource.UID != ourSource {
		errs = append(errs, fmt.Errorf("its data source is not %s", ourSource))
	}
	if p.Type == "text" {
		return errs
	}
	if p.FieldConfig.Defaults.Unit == "" {
		errs = append(errs, errors.New("no unit"))
	}
	byAccount := false
	var refs, names []string
	dynamic := false
	for i := range p.Targets {
		t := &p.Targets[i]
		if slices.Contains(refs, t.RefID) {
			errs = append(errs, fmt.Errorf("two queries %s", t.RefID))
		}
		refs, names = append(refs, t.RefID), append(names, t.LegendFormat)
		dynamic = dynamic || strings.Contains(t.LegendFormat, "{{")
		byAccount = byAccount || strings.Contains(t.Expr, "$account")
		if err := c.checkQuery(t.Expr); err != nil {
			errs = append(errs, fmt.Errorf("query %s: %w", t.RefID, err))
		}
		if t.Datasource.UID != ourSource {
			errs = append(errs, fmt.Errorf("query %s: its data source is not %s", t.RefID, ourSource))
		}
	}

	if !byAccount {
		errs = append(errs, errors.New("no query asks for the accounts chosen"))
	}
	shortened := false
	for _, t := range p.Transformations {
		shortened = shortened || t.ID == "renameByRegex"
		for _, name := range t.Options.RenameByName {
			names = append(names, name)
		}
	}

	if !shortened && slices.ContainsFunc(names, func(name string) bool { return strings.Contains(name, "{{account}}") }) {
		errs = append(errs, errors.New("an account without a name shows its whole SID"))
	}
	if strings.HasPrefix(p.FieldConfig.Defaults.Color.Mode, "continuous-") {
		errs = append(errs, errors.New("lines of one color cannot be told apart"))
	}

	for _, o := range p.FieldConfig.Overrides {
		switch m := o.Matcher; {
		case m.ID == "byName" && !dynamic && !slices.Contains(names, m.Options):
			errs = append(errs, fmt.Errorf("override for %q: there is no such series or column", m.Options))
		// C is the critical level, which not every threshold has.
		case m.ID == "byFrameRefID" && m.Options != "C" && !slices.Contains(refs, m.Options):
			errs = append(errs, fmt.Errorf("override for query %s: there is none", m.Options))
		}
	}
	return errs
}

// filled replaces variables by values, as Grafana would.
var filled = strings.NewReplacer(
	"${datasource}", "prometheus",
	"$cluster", "(|eu)",
	"$job", "twilio_operations",
	"$account", "(one|another\\\\.one)",
	"$operation", "(comms_operation_1|comms_operation_2)",
	"$__rate_interval", "2m",
	"$__range", "6h",
)

var rated = regexp.MustCompile(`\b(i?rate|increase|i?delta)\s*\([^\[]*\[([^\]]*)\]`)

// checkQuery parses an expression like Prometheus and looks up the names in it.
func (c *checker) checkQuery(raw string) error {
	text := filled.Replace(raw)
	if i := strings.IndexByte(text, '$'); i >= 0 {
		return fmt.Errorf("unknown variable in %s", text[i:])
	}
	expr, err := c.promql.ParseExpr(text)
	if err != nil {
		return fmt.Errorf("%w in %s", err, text)
	}

	var errs []error
	for _, m := range rated.FindAllStringSubmatch(raw, -1) {
		if m[2] != "$__rate_interval" {
			errs = append(errs, fmt.Errorf("%s over %s, not over $__rate_interval", m[1], m[2]))
		}
	}

	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		v, ok := node.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		labels, ok := c.known[v.Name]
		if !ok {
			errs = append(errs, fmt.Errorf("there is no metric %s", v.Name))
			return nil
		}

		for _, m := range v.LabelMatchers {
			if labels != nil && m.Name != "__name__" && !slices.Contains(labels, m.Name) {
				errs = append(errs, fmt.Errorf("%s has no label %s", v.Name, m.Name))
			}
		}
		return nil
	})
	return errors.Join(errs...)
}
