package web

import (
	"fmt"
	"io"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"twilio_operations_exporter/internal/config"
	"twilio_operations_exporter/internal/testutil"
	"twilio_operations_exporter/twilio/simulator"
)

// TestDocs compares the tables of metrics in the documentation with the code.
func TestDocs(t *testing.T) {
	testutil.WantGenerated(t, filepath.Join("..", "..", "docs", "metrics.md"), "metrics", metricTables(t))
}

// metricTables lists the metrics of a demo after a refresh, in groups.
func metricTables(t *testing.T) string {
	c, err := config.Load([]string{"--demo", "--storage.path=" + t.TempDir()}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	demo := httptest.NewServer(simulator.NewDemo())
	t.Cleanup(func() {
		demo.CloseClientConnections()
		demo.Close()
	})

	u, err := url.Parse(demo.URL + "/v1")
	if err != nil {
		t.Fatal(err)
	}
	s := run(t, c.WithDemoURL(u))
	refresh(t, s)
	var families []*dto.MetricFamily
	testutil.WaitFor(t, "lost messages that were looked up", func() bool {
		families, err = s.scrape(t.Context()).Gather()
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(families, func(f *dto.MetricFamily) bool {
			return f.GetName() == "twilio_named_operation_info"
		})
	})

	good := probeResult{account: "demo"}
	bad := probeResult{account: "demo", err: io.EOF}
	probe, err := prometheus.Gatherers{good.metrics(), onlyErrorInfo{bad.metrics()}}.Gather()
	if err != nil {
		t.Fatal(err)
	}

	var b strings.Builder
	for _, group := range []struct {
		title string
		holds func(*dto.MetricFamily) bool
		of    []*dto.MetricFamily
	}{
		{"Operations in the window", func(f *dto.MetricFamily) bool {
			return f.GetType() == dto.MetricType_GAUGE && !aboutItself(f) && !namesOperations(f)
		}, families},
		{"Named operations", namesOperations, families},
		{"Counters", func(f *dto.MetricFamily) bool {
			return f.GetType() == dto.MetricType_COUNTER && !aboutItself(f)
		}, families},
		{"The exporter itself", aboutItself, families},
		{"`/probe`", func(*dto.MetricFamily) bool { return true }, probe},
	} {
		fmt.Fprintf(&b, "**%s**\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n", group.title)
		for _, f := range group.of {
			if strings.HasPrefix(f.GetName(), "twilio_") && group.holds(f) {
				fmt.Fprintf(
					&b, "| `%s` | %s | %s | %s |\n", f.GetName(), strings.ToLower(f.GetType().String()), labelsOf(f),
					testutil.Cell(f.GetHelp()),
				)
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}

// onlyErrorInfo are the metrics that only a failed probe has.
type onlyErrorInfo struct{ prometheus.Gatherer }

// Gather implements prometheus.Gatherer.
func (g onlyErrorInfo) Gather() ([]*dto.MetricFamily, error) {
	families, err := g.Gatherer.Gather()
	return slices.DeleteFunc(families, func(f *dto.MetricFamily) bool { return f.GetName() != "twilio_probe_error_info" }), err
}

func aboutItself(f *dto.MetricFamily) bool { return strings.HasPrefix(f.GetName(), "twilio_exporter_") }

func namesOperations(f *dto.MetricFamily) bool {
	return strings.HasPrefix(f.GetName(), "twilio_named_operation_")
}

func labelsOf(f *dto.MetricFamily) string {
	if strings.HasSuffix(f.GetName(), "_build_info") {
		return "versions"
	}
	var names []string
	for _, m := range f.GetMetric() {
		for _, l := range m.GetLabel() {
			if name := testutil.Code(l.GetName()); !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return strings.Join(names, ", ")
}
