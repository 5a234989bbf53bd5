package web

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"twilio_operations_exporter/collector"
	"twilio_operations_exporter/internal/account"
	"twilio_operations_exporter/internal/sanitize"
	"twilio_operations_exporter/twilio"
)

// reasonNotFound is the reason of a probe of an operation that the API does not know. All others are those of refreshes.
const reasonNotFound = "not_found"

// probeResult is how a probe has ended.
type probeResult struct {
	account  string
	resource twilio.Resource
	op       twilio.Operation // if err is nil
	err      error
	took     time.Duration
}

// probe serves one operation's metrics (Prometheus' multi-target pattern). An operation that cannot be fetched is
// twilio_probe_success 0, not an HTTP error. With debug=true it answers with the log of the probe, as blackbox_exporter
// does.
func (s *Server) probe(w http.ResponseWriter, r *http.Request) {
	a, id, err := s.probeTarget(r)
	if err != nil {
		setDeadlines(w)
		writeText(w, http.StatusBadRequest, "%s", err)
		return
	}
	ctx, cancel := s.withScrapeTimeout(r)
	defer cancel()

	var debug bytes.Buffer
	logger := log.With(log.NewLogfmtLogger(&debug), "time", log.DefaultTimestampUTC)
	deadline, _ := ctx.Deadline()
	logProbeStart(logger, a.Name(), id, deadline)

	result := probeResult{account: a.Name(), resource: a.Refresher.Settings().Resource}
	begin := time.Now()
	result.op, result.err = a.Fetch(ctx, id) //nolint:contextcheck // a shared fetch ends with the account
	result.took = time.Since(begin)
	s.logProbe(id, &result)
	logProbeEnd(logger, &result)

	setDeadlines(w)
	metrics := result.metrics()
	if r.URL.Query().Get("debug") == "true" {
		s.writeDebug(w, &debug, metrics)
		return
	}
	s.exposition(metrics).ServeHTTP(w, r)
}

// logProbe logs a probe that has failed: at info where its target is wrong, as somebody has to mend that.
func (s *Server) logProbe(id string, result *probeResult) {
	if result.err == nil {
		return
	}
	logger := log.With(s.logger, "account", result.account, "operation", id)
	if result.reason() == reasonNotFound {
		level.Info(logger).Log("msg", "probe of an unknown operation", "err", result.err)
		return
	}
	level.Debug(logger).Log("msg", "probe failed", "reason", result.reason(), "err", result.err)
}

func logProbeStart(logger log.Logger, name, id string, deadline time.Time) {
	timeout := "none"
	if !deadline.IsZero() {
		timeout = time.Until(deadline).Round(time.Millisecond).String()
	}
	level.Info(logger).Log("msg", "probe started", "account", name, "operation", id, "timeout", timeout)
}

func logProbeEnd(logger log.Logger, result *probeResult) {
	logger = log.With(logger, "duration", result.took.Round(time.Millisecond))
	if result.err != nil {
		level.Error(logger).Log("msg", "probe failed", "reason", result.reason(), "err", result.err)
		return
	}
	level.Info(logger).Log("msg", "probe succeeded", "status", result.op.Status, "updated", result.op.UpdatedAt)
}

// writeDebug answers with the log of a probe and its metrics.
func (s *Server) writeDebug(w http.ResponseWriter, logged *bytes.Buffer, metrics *prometheus.Registry) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	families, err := metrics.Gather()
	if err != nil {
		level.Error(s.logger).Log("msg", "error gathering the metrics of a probe", "err", err)
	}

	// Whether it can be written is the client's concern.
	_, _ = fmt.Fprintf(w, "Logs for the probe:\n%s\nMetrics that would have been returned:\n", logged)
	for _, family := range families {
		_, _ = expfmt.MetricFamilyToText(w, family)
	}
}

// reason is the value of the label reason of a probe that has failed.
func (p *probeResult) reason() string {
	if api, ok := errors.AsType[*twilio.Error](p.err); ok && api.StatusCode == http.StatusNotFound {
		return reasonNotFound
	}
	return collector.ReasonOf(p.err).Label
}

// probeTarget reads the parameters. Its error says what is expected.
func (s *Server) probeTarget(r *http.Request) (*account.Account, string, error) {
	const example = "/probe?target=comms_operation_…&account=NAME"
	q, err := url.ParseQuery(r.URL.RawQuery)
	id := q["target"]
	switch {
	case err != nil:
		return nil, "", fmt.Errorf("the query cannot be read: %w: %s", err, example)
	case len(id) != 1 || id[0] == "":
		return nil, "", fmt.Errorf("want exactly one target, an operation ID: %s", example)
	case !twilio.ValidOperationID(id[0]):
		return nil, "", fmt.Errorf("target %s is not an operation ID: want %s", sanitize.Quote(id[0]), example)
	case len(q["account"]) > 1:
		return nil, "", fmt.Errorf("want at most one account: %s", example)
	}

	if debug := q.Get("debug"); debug != "" && debug != "true" && debug != "false" {
		return nil, "", fmt.Errorf("debug %s: want true or false", sanitize.Quote(debug))
	}

	list := s.accounts.List()
	name := q.Get("account")
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

// metrics are those of the probe; where it failed, none of them is the operation's.
func (p *probeResult) metrics() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	gauge := func(name, help string, value float64, labels prometheus.Labels) {
		labels["account"] = p.account
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "twilio_probe_" + name, Help: help, ConstLabels: labels})
		g.Set(value)
		registry.MustRegister(g)
	}
	gauge("duration_seconds", "Duration of the probe, including client-side queueing.", p.took.Seconds(), prometheus.Labels{})
	const successHelp = "Whether the operation could be fetched: 1 or 0."
	if p.err != nil {
		gauge("success", successHelp, 0, prometheus.Labels{})
		gauge("error_info", "Why the operation could not be fetched. The value is always 1.", 1, prometheus.Labels{"reason": p.reason()})
		return registry
	}
	gauge("success", successHelp, 1, prometheus.Labels{})

	op := &p.op
	operation := func() prometheus.Labels { return prometheus.Labels{"operation": op.ID} }
	gauge("operation_created_timestamp_seconds", "Unix time at which the operation was created.",
		collector.Unix(op.CreatedAt), operation())
	gauge("operation_updated_timestamp_seconds", "Unix time at which the operation was last updated.",
		collector.Unix(op.UpdatedAt), operation())
	for stat, row := range p.resource.Stats() {
		if row.JSON == "" {
			continue
		}
		gauge(row.Name, row.Help+".", float64(op.Stats[stat]), operation())
	}
	info := operation()
	info["status"] = string(op.Status)
	gauge("operation_info", "Status of the operation. The value is always 1.", 1, info)
	return registry
}
