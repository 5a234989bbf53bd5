package collector

import (
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"twilio_operations_exporter/twilio"
)

// Metrics are the exporter's metrics about itself, for all accounts. Those that must change together with the numbers
// of a refresh are in the table of metrics instead.
type Metrics struct {
	duration        *prometheus.HistogramVec
	requests        *prometheus.CounterVec
	requestDuration *prometheus.HistogramVec
	operations      *prometheus.CounterVec
	sampleErrors    *prometheus.CounterVec
}

// NewMetrics registers the exporter's own metrics with reg.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	metrics := promauto.With(reg)
	return &Metrics{
		duration: metrics.NewHistogramVec(histogram("twilio_exporter_refresh_duration_seconds",
			"Duration of a refresh, successful or not.",
			.1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900), []string{"account"}),
		requests: metrics.NewCounterVec(prometheus.CounterOpts{
			Name: "twilio_exporter_api_requests_total",
			Help: `Requests to the API, including retries, by HTTP status code; "other" for unregistered codes, "error" if there was no complete response.`,
		}, []string{"account", "endpoint", "code"}),
		requestDuration: metrics.NewHistogramVec(histogram("twilio_exporter_api_request_duration_seconds",
			"Duration of a request to the API, including the body, excluding client-side queueing.",
			.05, .1, .25, .5, 1, 2.5, 5, 10, 30), []string{"account", "endpoint"}),
		operations: metrics.NewCounterVec(prometheus.CounterOpts{
			Name: "twilio_exporter_operations_read_total",
			Help: "Operations decoded from responses of the API, counted each time they are read.",
		}, []string{"account"}),
		sampleErrors: metrics.NewCounterVec(prometheus.CounterOpts{
			Name: "twilio_exporter_sample_errors_total",
			Help: "Failed attempts to look up the lost messages of an operation, by reason.",
		}, []string{"account", "reason"}),
	}
}

func histogram(name, help string, buckets ...float64) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{
		Name: name, Help: help, Buckets: buckets,
		NativeHistogramBucketFactor:     1.1,
		NativeHistogramMaxBucketNumber:  100,
		NativeHistogramMinResetDuration: time.Hour,
	}
}

// Account returns the metrics of one account. Series that are known from the start are at 0.
func (m *Metrics) Account(name string) *AccountMetrics {
	a := &AccountMetrics{
		duration:     m.duration.WithLabelValues(name),
		requests:     m.requests.MustCurryWith(prometheus.Labels{"account": name}),
		durations:    m.requestDuration.MustCurryWith(prometheus.Labels{"account": name}),
		operations:   m.operations.WithLabelValues(name),
		sampleErrors: m.sampleErrors.MustCurryWith(prometheus.Labels{"account": name}),
	}
	a.requests.WithLabelValues(string(twilio.EndpointList), strconv.Itoa(http.StatusOK))
	a.durations.WithLabelValues(string(twilio.EndpointList))
	return a
}

// Remove removes all series of an account. Whatever runs for the account must have ended, or it brings some back.
func (m *Metrics) Remove(name string) {
	labels := prometheus.Labels{"account": name}
	m.duration.DeletePartialMatch(labels)
	m.requests.DeletePartialMatch(labels)
	m.requestDuration.DeletePartialMatch(labels)
	m.operations.DeletePartialMatch(labels)
	m.sampleErrors.DeletePartialMatch(labels)
}

// AccountMetrics are the exporter's own metrics of one account.
type AccountMetrics struct {
	duration   prometheus.Observer
	requests   *prometheus.CounterVec
	durations  prometheus.ObserverVec
	operations prometheus.Counter

	sampleErrors *prometheus.CounterVec

	// listed counts the requests of the refresh under way: only refreshes list operations, and one runs at a time.
	listed atomic.Int64
}

// initSampleErrors adds a counter at 0 for each reason for which a look-up may fail.
func (m *AccountMetrics) initSampleErrors() {
	for i := range reasons {
		m.sampleErrors.WithLabelValues(reasons[i].Label)
	}
}

// SampleFailed counts a failed look-up and returns its reason.
func (m *AccountMetrics) SampleFailed(err error) Reason {
	reason := ReasonOf(err)
	m.sampleErrors.WithLabelValues(reason.Label).Inc()
	return reason
}

// Observe is the hook for twilio.Options.
func (m *AccountMetrics) Observe(r twilio.Request) {
	if r.Endpoint == twilio.EndpointList {
		m.listed.Add(1)
	}

	code := codeLabel(r.Code)
	m.requests.WithLabelValues(string(r.Endpoint), code).Inc()
	m.durations.WithLabelValues(string(r.Endpoint)).Observe(r.Duration.Seconds())
}

// codeLabel is the value of the label code for an HTTP status, 0 being no answer. Unregistered statuses share one
// value, so that an API cannot create any number of series.
func codeLabel(status int) string {
	if status == 0 {
		return "error"
	}
	if http.StatusText(status) == "" {
		return "other"
	}
	return strconv.Itoa(status)
}
