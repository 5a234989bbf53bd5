package web

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

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
	registry := prometheus.NewRegistry()
	registry.MustRegister(&probed{account: a.Name(), op: op, duration: time.Since(begin), ok: err == nil})
	setDeadlines(w)
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog: scrapeLog{s.logger}, ErrorHandling: promhttp.ContinueOnError, EnableOpenMetrics: true,
	}).ServeHTTP(w, r)
}

// probeTarget reads the parameters. Its error says what is expected.
func (s *Server) probeTarget(r *http.Request) (*account.Account, string, error) {
	const example = "/probe?target=comms_operation_…&account=NAME"
	q := r.URL.Query()
	id, name := q["target"], q["account"]
	switch {
	case len(id) != 1 || id[0] == "":
		return nil, "", fmt.Errorf("want exactly one target, an operation ID: %s", example)
	case !twilio.ValidOperationID(id[0]):
		return nil, "", fmt.Errorf("target %s is not an operation ID: want %s", sanitize.Quote(id[0]), example)
	case len(name) > 1:
		return nil, "", fmt.Errorf("want at most one account: %s", example)
	}
	list := s.accounts.List()
	if len(name) == 0 || name[0] == "" {
		if len(list) == 1 {
			return list[0], id[0], nil
		}
		return nil, "", fmt.Errorf("there are several accounts: choose one of %s: %s", someNames(s.accounts.Names()), example)
	}
	for _, a := range list {
		if a.Name() == name[0] {
			return a, id[0], nil
		}
	}
	return nil, "", fmt.Errorf(
		"account %s is unknown: choose one of %s", sanitize.Quote(name[0]), someNames(s.accounts.Names()),
	)
}

// someNames lists up to ten accounts for an error message.
func someNames(names []string) string {
	const most = 10
	quoted := make([]string, 0, most+1)
	for i, name := range names {
		if i == most {
			quoted = append(quoted, fmt.Sprintf("%d others", len(names)-most))
			break
		}
		quoted = append(quoted, sanitize.Quote(name))
	}
	return strings.Join(quoted, ", ")
}

// probed collects the result of one probe.
type probed struct {
	account  string
	op       twilio.Operation
	duration time.Duration
	ok       bool
}

var (
	probeSuccess = prometheus.NewDesc("twilio_probe_success",
		"Whether the operation could be fetched: 1 or 0.", []string{"account"}, nil)
	probeDuration = prometheus.NewDesc("twilio_probe_duration_seconds",
		"Duration of the probe, including client-side queueing.", []string{"account"}, nil)
	probeInfo = prometheus.NewDesc("twilio_probe_operation_info",
		"Status of the operation. The value is always 1.", []string{"account", "operation", "status"}, nil)
	probeCreated = probeDesc("operation_created_timestamp_seconds", "Unix time at which the operation was created.")
	probeUpdated = probeDesc("operation_updated_timestamp_seconds", "Unix time at which the operation was last updated.")
)

func probeDesc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("twilio_probe_"+name, help, []string{"account", "operation"}, nil)
}

// probeStats are the stats of an operation, from the table of /metrics.
var probeStats = func() []probeStat {
	stats := collector.Stats()
	rows := make([]probeStat, len(stats))
	for i, s := range stats {
		rows[i] = probeStat{desc: probeDesc(s.Name, s.Help+"."), read: s.Of}
	}
	return rows
}()

type probeStat struct {
	desc *prometheus.Desc
	read func(*twilio.Stats) int64
}

// Describe implements prometheus.Collector.
func (p *probed) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{probeSuccess, probeDuration, probeInfo, probeCreated, probeUpdated} {
		ch <- d
	}
	for _, s := range probeStats {
		ch <- s.desc
	}
}

// Collect implements prometheus.Collector.
func (p *probed) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	gauge(probeDuration, p.duration.Seconds(), p.account)
	if !p.ok {
		gauge(probeSuccess, 0, p.account)
		return
	}
	gauge(probeSuccess, 1, p.account)
	gauge(probeInfo, 1, p.account, p.op.ID, string(p.op.Status))
	gauge(probeCreated, seconds(p.op.CreatedAt), p.account, p.op.ID)
	gauge(probeUpdated, seconds(p.op.UpdatedAt), p.account, p.op.ID)
	for _, s := range probeStats {
		gauge(s.desc, float64(s.read(&p.op.Stats)), p.account, p.op.ID)
	}
}

// seconds is a time as Prometheus writes it.
func seconds(t time.Time) float64 {
	return float64(t.UnixMilli()) / 1000
}
