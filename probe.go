package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"twilio_operations_exporter/collector"
	"twilio_operations_exporter/twilio"
)

// probeTimeout bounds a fetch that nobody waits for any more, and the wait of
// those who set no bound of their own.
const probeTimeout = 2 * time.Minute

// probe answers with one operation's metrics (Prometheus' multi-target
// pattern). An operation that cannot be read is an answer, not an error.
func (s *site) probe(w http.ResponseWriter, r *http.Request) {
	a, id, err := s.probeTarget(r)
	if err != nil {
		answering(w)
		say(w, http.StatusBadRequest, "%s", err)
		return
	}
	ctx, cancel := s.withScrapeTimeout(r)
	defer cancel()
	begin := time.Now()
	op, err := a.fetch(ctx, id) //nolint:contextcheck // a fetch is shared: it ends with the account
	if err != nil {
		level.Info(s.logger).Log("msg", "probe failed", "account", a.config.Account, "operation", id, "err", err)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(&probed{account: a.config.Account, op: op, duration: time.Since(begin), ok: err == nil})
	answering(w)
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog: scrapeLog{s.logger}, ErrorHandling: promhttp.ContinueOnError, EnableOpenMetrics: true,
	}).ServeHTTP(w, r)
}

// probeTarget reads the parameters. Its error says what would be right.
func (s *site) probeTarget(r *http.Request) (*account, string, error) {
	const example = "/probe?target=comms_operation_…&account=NAME"
	q := r.URL.Query()
	id, name := q["target"], q["account"]
	switch {
	case len(id) != 1 || id[0] == "":
		return nil, "", fmt.Errorf("want one target, the id of an operation: %s", example)
	case !twilio.ValidOperationID(id[0]):
		return nil, "", fmt.Errorf("target %s is not the id of an operation: want %s", shown(id[0]), example)
	case len(name) > 1:
		return nil, "", fmt.Errorf("want one account: %s", example)
	}
	list := s.accounts.list()
	if len(name) == 0 || name[0] == "" {
		if len(list) == 1 {
			return list[0], id[0], nil
		}
		return nil, "", fmt.Errorf("there are several accounts, want one of %s: %s", someNames(list), example)
	}
	for _, a := range list {
		if a.config.Account == name[0] {
			return a, id[0], nil
		}
	}
	return nil, "", fmt.Errorf("account %s is unknown: want one of %s", shown(name[0]), someNames(list))
}

// someNames lists accounts for a person, up to ten.
func someNames(list []*account) string {
	const most = 10
	names := make([]string, 0, most+1)
	for i, a := range list {
		if i == most {
			names = append(names, fmt.Sprintf("%d others", len(list)-most))
			break
		}
		names = append(names, shown(a.config.Account))
	}
	return strings.Join(names, ", ")
}

// fetch reads one operation, within the account's own pace. Equal ones share
// one request; when ctx ends before it does, it goes on for whoever asks next.
func (a *account) fetch(ctx context.Context, id string) (twilio.Operation, error) {
	result := a.probes.DoChan(id, func() (any, error) { //nolint:contextcheck // shared: it ends with the account
		a.probing.RLock()
		defer a.probing.RUnlock()
		shared, cancel := context.WithTimeout(a.ctx, probeTimeout)
		defer cancel()
		return a.client.FetchOperation(shared, id)
	})
	select {
	case r := <-result:
		op, _ := r.Val.(twilio.Operation)
		return op, r.Err
	case <-ctx.Done():
		return twilio.Operation{}, context.Cause(ctx)
	}
}

// probed collects what one probe has found.
type probed struct {
	account  string
	op       twilio.Operation
	duration time.Duration
	ok       bool
}

var (
	probeSuccess = prometheus.NewDesc("twilio_probe_success",
		"Whether the operation could be read, 1 or 0.", []string{"account"}, nil)
	probeDuration = prometheus.NewDesc("twilio_probe_duration_seconds",
		"Time the probe took, waiting for the account's pace included.", []string{"account"}, nil)
	probeInfo = prometheus.NewDesc("twilio_probe_operation_info",
		"Status of the operation; the value is 1.", []string{"account", "operation", "status"}, nil)
	probeCreated = probeDesc("operation_created_timestamp_seconds", "Unix time of the operation's creation.")
	probeUpdated = probeDesc("operation_updated_timestamp_seconds", "Unix time of the operation's last update.")
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
