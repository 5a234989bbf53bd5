package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"twilio_operations_exporter/twilio"
)

var updateReadme = flag.Bool("update", false, "write what is generated to README.md")

// TestReadme holds the tables of the README to the code. With -update it
// writes them.
func TestReadme(t *testing.T) {
	b, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	want := string(b)
	for name, table := range map[string]string{"flags": flagTable(), "metrics": metricTables(t)} {
		section := regexp.MustCompile(`(?s)(<!-- ` + name + `:[^\n]*-->\n).*?(<!-- /` + name + ` -->)`)
		if !section.MatchString(want) {
			t.Fatalf("README.md has no place for %s", name)
		}
		want = section.ReplaceAllString(want, "${1}"+strings.ReplaceAll(table, "$", "$$")+"${2}")
	}
	if want == string(b) {
		return
	}
	if !*updateReadme {
		t.Fatal("README.md differs from the code: run make docs")
	}
	if err := os.WriteFile("README.md", []byte(want), 0o600); err != nil {
		t.Fatal(err)
	}
}

func flagTable() string {
	o := &options{settings: map[string]*string{}, isGiven: map[string]*bool{}}
	var b strings.Builder
	b.WriteString("| flag | environment | default | meaning |\n|---|---|---|---|\n")
	for _, f := range newApplication(o, io.Discard).Model().Flags {
		if f.Hidden {
			continue
		}
		name := "`--" + f.Name + "`"
		if f.Short != 0 {
			name += ", `-" + string(f.Short) + "`"
		}
		byDefault := strings.Join(f.Default, ",")
		if f.IsBoolFlag() && byDefault == "false" {
			byDefault = ""
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", name, code(f.Envar), code(byDefault), cell(f.Help))
	}
	return b.String()
}

// code is a value as Markdown; nothing stays nothing.
func code(s string) string {
	if s == "" {
		return ""
	}
	return "`" + s + "`"
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

// metricTables lists the metrics of a demo that has refreshed, in groups.
func metricTables(t *testing.T) string {
	c, err := configure([]string{"--demo"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	stopDemo, err := startDemo(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stopDemo)
	s, _, err := newSite(c, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	s.accounts.start(t.Context(), never)
	t.Cleanup(s.accounts.stop)
	if err = s.accounts.list()[0].refresher.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	families, err := s.gather(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	probes := prometheus.NewRegistry()
	probes.MustRegister(&probed{account: "demo", ok: true, op: twilio.Operation{CreatedAt: time.Unix(0, 0), UpdatedAt: time.Unix(0, 0)}})
	probe, err := probes.Gather()
	if err != nil {
		t.Fatal(err)
	}

	var b strings.Builder
	for _, group := range []struct {
		title string
		holds func(*dto.MetricFamily) bool
		of    []*dto.MetricFamily
	}{
		{"Operations in the window", func(f *dto.MetricFamily) bool { return f.GetType() == dto.MetricType_GAUGE && !aboutItself(f) }, families},
		{"Growth", func(f *dto.MetricFamily) bool { return f.GetType() == dto.MetricType_COUNTER && !aboutItself(f) }, families},
		{"The exporter about itself", aboutItself, families},
		{"`/probe`", func(*dto.MetricFamily) bool { return true }, probe},
	} {
		fmt.Fprintf(&b, "**%s**\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n", group.title)
		for _, f := range group.of {
			if strings.HasPrefix(f.GetName(), "twilio_") && group.holds(f) {
				fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.GetName(), strings.ToLower(f.GetType().String()), labelsOf(f), cell(f.GetHelp()))
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}

func aboutItself(f *dto.MetricFamily) bool { return strings.HasPrefix(f.GetName(), "twilio_exporter_") }

func labelsOf(f *dto.MetricFamily) string {
	if strings.HasSuffix(f.GetName(), "_build_info") {
		return "versions"
	}
	var names []string
	for _, m := range f.GetMetric() {
		for _, l := range m.GetLabel() {
			if name := code(l.GetName()); !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return strings.Join(names, ", ")
}
