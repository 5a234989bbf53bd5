package web

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"

	"twilio_operations_exporter/collector"
	"twilio_operations_exporter/internal/account"
	"twilio_operations_exporter/internal/sanitize"
	"twilio_operations_exporter/twilio"
)

// probe serves one operation's metrics (Prometheus' multi-target pattern). An operation that cannot be fetched is
// twilio_probe_success 0, not an HTTP error.
func (s *Server) probe(w http.ResponseWriter, r *http.Request) {
	a, id, err := s.probeTarget(r)
	if err != nil {
		setDeadlines(w)
		writeText(w, http.StatusBadRequest, "%s", err)
		return
	}
	ctx, cancel := s.withScrapeTimeout(r)
	defer cancel()
	begin := time.Now()
	op, err := a.Fetch(ctx, id) //nolint:contextcheck // a shared fetch ends with the account
	if err != nil {
		level.Debug(s.logger).Log("msg", "probe failed", "account", a.Name(), "operation", id, "err", err)
	}
	setDeadlines(w)
	s.exposition(probeMetrics(a.Name(), time.Since(begin), &op, err == nil)).ServeHTTP(w, r)
}

// probeTarget reads the parameters. Its error says what is expected.
func (s *Server) probeTarget(r *http.Request) (*account.Account, string, error) {
	const example = "/probe?target=comms_operation_…&account=NAME"
	q := r.URL.Query()
	id := q["target"]
	switch {
	case len(id) != 1 || id[0] == "":
		return nil, "", fmt.Errorf("want exactly one target, an operation ID: %s", example)
	case !twilio.ValidOperationID(id[0]):
		return nil, "", fmt.Errorf("target %s is not an operation ID: want %s", sanitize.Quote(id[0]), example)
	case len(q["account"]) > 1:
		return nil, "", fmt.Errorf("want at most one account: %s", example)
	}
	list, name := s.accounts.List(), q.Get("account")
	for _, a := range list {
		if a.Name() == name || name == "" && len(list) == 1 {
			return a, id[0], nil
		}
	}
	if name == "" {
		return nil, "", fmt.Errorf("there are several accounts: choose one of %s: %s", someNames(list), example)
	}
	return nil, "", fmt.Errorf("account %s is unknown: choose one of %s", sanitize.Quote(name), someNames(list))
}

// someNames lists the names of up to ten accounts.
func someNames(accounts []*account.Account) string {
	const most = 10
	quoted := make([]string, len(accounts))
	for i, a := range accounts {
		quoted[i] = sanitize.Quote(a.Name())
	}
	if others := len(quoted) - most; others > 0 {
		quoted = append(quoted[:most], fmt.Sprintf("%d others", others))
	}
	return strings.Join(quoted, ", ")
}

// probeMetrics are the metrics of a probe; where it failed, none of them is the operation's.
func probeMetrics(name string, took time.Duration, op *twilio.Operation, ok bool) *prometheus.Registry {
	registry := prometheus.NewRegistry()
	gauge := func(name, help string, value float64, labels prometheus.Labels) {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "twilio_probe_" + name, Help: help, ConstLabels: labels})
		g.Set(value)
		registry.MustRegister(g)
	}
	labels := prometheus.Labels{"account": name}
	gauge("duration_seconds", "Duration of the probe, including client-side queueing.", took.Seconds(), labels)
	const successHelp = "Whether the operation could be fetched: 1 or 0."
	if !ok {
		gauge("success", successHelp, 0, labels)
		return registry
	}
	gauge("success", successHelp, 1, labels)
	labels = prometheus.Labels{"account": name, "operation": op.ID}
	gauge("operation_created_timestamp_seconds", "Unix time at which the operation was created.", collector.Unix(op.CreatedAt), labels)
	gauge("operation_updated_timestamp_seconds", "Unix time at which the operation was last updated.", collector.Unix(op.UpdatedAt), labels)
	for stat, row := range twilio.MessageStats {
		gauge(row.Name, row.Help+".", float64(op.Stats[stat]), labels)
	}
	labels = prometheus.Labels{"account": name, "operation": op.ID, "status": string(op.Status)}
	gauge("operation_info", "Status of the operation. The value is always 1.", 1, labels)
	return registry
}
