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
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/common/expfmt"

	"twilio_operations_exporter/collector"
	"twilio_operations_exporter/internal/account"
	"twilio_operations_exporter/internal/sanitize"
	"twilio_operations_exporter/twilio"
)

// reasonNotFound is the reason of a failed probe of an unknown operation. All others are those of refreshes.
const reasonNotFound = "not_found"

// probeResult is how a probe ended.
type probeResult struct {
	account  string
	resource twilio.Resource
	op       twilio.Operation // if err is nil
	err      error
	took     time.Duration
}

// probe serves the metrics of one operation (Prometheus' multi-target pattern). If the operation cannot be fetched,
// twilio_probe_success is 0; that is no HTTP error. With debug=true it answers with the log of the probe, as
// blackbox_exporter does.
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

// logProbe logs a failed probe. One with a wrong target is logged at info, as somebody has to fix it.
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

	// If this fails, the client has gone.
	_, _ = fmt.Fprintf(w, "Logs for the probe:\n%s\nMetrics that would have been returned:\n", logged)
	for _, family := range families {
		_, _ = expfmt.MetricFamilyToText(w, family)
	}
}

// reason returns the label reason of a failed probe.
func (p *probeResult) reason() string {
	if api, ok := errors.AsType[*twilio.Error](p.err); ok && api.StatusCode == http.StatusNotFound {
		return reasonNotFound
	}
	return collector.ReasonOf(p.err).Label
}

// probeTarget returns the account and the operation that the query names. Its error says what is expected.
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
	isOptional := len(list) == 1
	for _, a := range list {
		if a.Name() == name || name == "" && isOptional {
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
	others := len(quoted) - most
	if others > 0 {
		quoted = append(quoted[:most], fmt.Sprintf("%d others", others))
	}
	return strings.Join(quoted, ", ")
}

// metrics returns the metrics of the probe and, if it succeeded, of the operation.
func (p *probeResult) metrics() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	gauge := func(name, help string, value float64, labels prometheus.Labels) {
		g := promauto.With(registry).NewGauge(prometheus.GaugeOpts{
			Name:        "twilio_probe_" + name,
			Help:        help,
			ConstLabels: labels,
		})
		g.Set(value)
	}

	ofAccount := prometheus.Labels{"account": p.account}
	success := 1.0
	if p.err != nil {
		success = 0
	}
	gauge("success", "Whether the operation could be fetched: 1 or 0.", success, ofAccount)
	gauge("duration_seconds", "Duration of the probe, including client-side queueing.", p.took.Seconds(), ofAccount)
	if p.err != nil {
		gauge("error_info", "Why the operation could not be fetched. The value is always 1.", 1,
			prometheus.Labels{"account": p.account, "reason": p.reason()})
		return registry
	}

	op := &p.op
	ofOperation := prometheus.Labels{"account": p.account, "operation": op.ID}
	gauge("operation_created_timestamp_seconds", "Unix time at which the operation was created.",
		collector.Unix(op.CreatedAt), ofOperation)
	gauge("operation_updated_timestamp_seconds", "Unix time at which the operation was last updated.",
		collector.Unix(op.UpdatedAt), ofOperation)
	gauge("operation_info", "Status of the operation. The value is always 1.", 1,
		prometheus.Labels{"account": p.account, "operation": op.ID, "status": string(op.Status)})
	for stat, row := range p.resource.Stats() {
		if row.JSON != "" {
			gauge(row.Name, row.Help+".", float64(op.Stats[stat]), ofOperation)
		}
	}
	return registry
}
