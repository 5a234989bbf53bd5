package grafana

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
)

// known are the metrics that a query may name, with their labels. Results of rules have nil, as any label may come out
// of them.
type known map[string][]string

// target are the labels that a scrape adds.
var target = []string{"job", "instance", "cluster"}

// ofProcess are the metrics of Go's and the process collectors that client_golang
// exports and the dashboards draw.
var ofProcess = []string{
	"go_gc_gomemlimit_bytes", "go_goroutines", "go_memstats_heap_inuse_bytes",
	"process_cpu_seconds_total", "process_open_fds", "process_resident_memory_bytes",
}

// ofExporter returns the exporter's metrics with their labels.
func ofExporter() known {
	k := known{}
	add := func(labels string, names ...string) {
		for _, name := range names {
			k[name] = append(strings.Fields(labels), target...)
		}
	}

	add("account", "twilio_up", "twilio_operations_window_seconds")
	add("account status", "twilio_operations", "twilio_operations_failing",
		"twilio_operations_oldest_created_timestamp_seconds", "twilio_operations_oldest_updated_timestamp_seconds")
	for _, stat := range []string{
		"messages", "recipients", "recipients_unaddressable", "attempts", "messages_scheduled", "messages_queued",
		"messages_sent", "messages_delivered", "messages_read", "messages_undelivered", "messages_failed",
		"messages_canceled",
	} {
		add("account status", "twilio_operation_"+stat)
		add("account operation", "twilio_probe_"+stat)
	}

	for _, figure := range []string{
		"messages", "messages_delivered", "messages_undelivered", "messages_failed",
		"created_timestamp_seconds", "updated_timestamp_seconds",
	} {
		add("account operation status why", "twilio_named_operation_"+figure)
	}

	add("account operation", "twilio_named_operation_info", "twilio_named_operation_messages_sampled")
	add("account operation code channel", "twilio_named_operation_errors_sampled")
	const p = "twilio_probe_"
	add("account", p+"success", p+"duration_seconds")
	add("account operation status", p+"operation_info")
	add("account operation", p+"operation_created_timestamp_seconds", p+"operation_updated_timestamp_seconds")

	for _, stat := range []string{
		"messages", "recipients", "recipients_unaddressable", "attempts",
		"messages_delivered", "messages_read", "messages_undelivered", "messages_failed", "messages_canceled",
	} {
		add("account", "twilio_"+stat+"_total")
	}

	const e = "twilio_exporter_"
	add("account", e+"last_success_timestamp_seconds", e+"api_throttled_seconds_total", e+"operations_read_total",
		e+"clock_skew_seconds")
	add("account result", e+"refreshes_total")
	add("account reason", e+"refresh_errors_total")
	add("account endpoint code", e+"api_requests_total")

	for _, histogram := range []struct{ name, labels string }{
		{e + "refresh_duration_seconds", "account"},
		{e + "api_request_duration_seconds", "account endpoint"},
	} {
		add(histogram.labels, histogram.name, histogram.name+"_sum", histogram.name+"_count")
		add(histogram.labels+" le", histogram.name+"_bucket")
	}

	add("version revision branch goversion goos goarch tags", e+"build_info")
	add("", e+"start_time_seconds", e+"config_last_reload_successful", e+"config_last_reload_success_timestamp_seconds")
	return k
}

// rules are what Prometheus evaluates: the names of records and of alerts, and the metrics that they read.
type rules struct {
	records, alerts, reads []string
}

func readRules(dir string) (*rules, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.yml"))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no rules in %s", dir)
	}
	found := &rules{}
	promql := parser.NewParser(parser.Options{})

	for _, file := range files {
		content, err := os.ReadFile(filepath.Clean(file))
		if err != nil {
			return nil, err
		}
		groups, errs := rulefmt.Parse(content, false, model.UTF8Validation, promql, promslog.NewNopLogger())
		if len(errs) > 0 {
			return nil, fmt.Errorf("%s: %w", file, errs[0])
		}

		for _, group := range groups.Groups {
			for _, rule := range group.Rules {
				if rule.Record != "" {
					found.records = append(found.records, rule.Record)
				} else {
					found.alerts = append(found.alerts, rule.Alert)
				}
				expr, err := promql.ParseExpr(rule.Expr)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", file, err)
				}
				found.reads = append(found.reads, selected(expr)...)
			}
		}
	}

	for _, list := range []*[]string{&found.records, &found.alerts, &found.reads} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	return found, nil
}

// selected returns the names of the metrics that an expression reads.
func selected(expr parser.Expr) []string {
	var names []string
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		if v, ok := node.(*parser.VectorSelector); ok {
			names = append(names, v.Name)
		}
		return nil
	})
	return names
}

// everything that can be queried: the exporter's metrics, the process's, what
// the rules record, and Prometheus' own series about alerts.
func everything(r *rules) known {
	k := ofExporter()
	for _, name := range ofProcess {
		k[name] = target
	}
	for _, name := range r.records {
		k[name] = nil
	}
	k["ALERTS"], k["ALERTS_FOR_STATE"] = nil, nil
	return k
}
