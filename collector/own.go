package collector

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"twilio_operations_exporter/twilio"
)

// The reasons for which a refresh ends with an error.
const (
	reasonAuth        = "auth"
	reasonRateLimited = "rate_limited"
	reasonTimeout     = "timeout"
	reasonServer      = "server"
	reasonNetwork     = "network"
	reasonDecode      = "decode"
	reasonPagination  = "pagination"
	reasonRequest     = "request"
	reasonOther       = "other"
)

var reasons = []string{
	reasonAuth, reasonRateLimited, reasonTimeout, reasonServer, reasonNetwork,
	reasonDecode, reasonPagination, reasonRequest, reasonOther,
}

// reason names the kind of an error that ended a refresh.
func reason(err error) string {
	var (
		api        *twilio.Error
		pagination *twilio.PaginationError
		decode     *twilio.DecodeError
		tooLarge   *twilio.BodyTooLargeError
		network    net.Error
		file       *fs.PathError // of a secret or a certificate
	)
	switch {
	case errors.As(err, &file):
		return reasonOther
	case errors.Is(err, twilio.ErrThrottled):
		return reasonRateLimited
	case errors.As(err, &api):
		switch {
		case api.StatusCode == http.StatusUnauthorized || api.StatusCode == http.StatusForbidden:
			return reasonAuth
		case api.StatusCode == http.StatusTooManyRequests:
			return reasonRateLimited
		case api.StatusCode >= http.StatusInternalServerError:
			return reasonServer
		case api.StatusCode < http.StatusMultipleChoices:
			return reasonDecode // a success, but not the documented one
		default:
			return reasonRequest
		}
	case errors.As(err, &pagination):
		return reasonPagination
	case errors.As(err, &decode), errors.As(err, &tooLarge):
		return reasonDecode
	case errors.Is(err, context.DeadlineExceeded):
		return reasonTimeout
	case errors.As(err, &network):
		if network.Timeout() {
			return reasonTimeout
		}
		return reasonNetwork
	default:
		return reasonOther
	}
}

// Metrics are the exporter's metrics about itself, for all accounts.
type Metrics struct {
	refreshes       *prometheus.CounterVec
	errors          *prometheus.CounterVec
	duration        *prometheus.HistogramVec
	requests        *prometheus.CounterVec
	requestDuration *prometheus.HistogramVec
	operations      *prometheus.CounterVec
}

// NewMetrics registers the exporter's own metrics with reg.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		refreshes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "twilio_exporter_refreshes_total",
			Help: "Refreshes that ended, by result.",
		}, []string{"account", "result"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "twilio_exporter_refresh_errors_total",
			Help: "Refreshes that ended with an error, by what kind of error it was.",
		}, []string{"account", "reason"}),
		duration: prometheus.NewHistogramVec(histogram("twilio_exporter_refresh_duration_seconds",
			"Time a refresh took, whether it succeeded or not.",
			.1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900), []string{"account"}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "twilio_exporter_api_requests_total",
			Help: `Requests made to the API, retries included, by HTTP status; "error" where there was no whole answer.`,
		}, []string{"account", "endpoint", "code"}),
		requestDuration: prometheus.NewHistogramVec(histogram("twilio_exporter_api_request_duration_seconds",
			"Time a request to the API took, body included, waiting for its turn not.",
			.05, .1, .25, .5, 1, 2.5, 5, 10, 30), []string{"account", "endpoint"}),
		operations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "twilio_exporter_operations_read_total",
			Help: "Operations decoded from the API's answers, each time one is read again included.",
		}, []string{"account"}),
	}
	reg.MustRegister(m.refreshes, m.errors, m.duration, m.requests, m.requestDuration, m.operations)
	return m
}

func histogram(name, help string, buckets ...float64) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{
		Name: name, Help: help, Buckets: buckets,
		NativeHistogramBucketFactor:     1.1,
		NativeHistogramMaxBucketNumber:  100,
		NativeHistogramMinResetDuration: time.Hour,
	}
}

// Account returns the own metrics of one account, all series that are known
// from the start at 0.
func (m *Metrics) Account(name string) *AccountMetrics {
	a := &AccountMetrics{
		success:    m.refreshes.WithLabelValues(name, "success"),
		failure:    m.refreshes.WithLabelValues(name, "error"),
		errors:     make(map[string]prometheus.Counter, len(reasons)),
		duration:   m.duration.WithLabelValues(name),
		requests:   m.requests.MustCurryWith(prometheus.Labels{"account": name}),
		durations:  m.requestDuration.MustCurryWith(prometheus.Labels{"account": name}),
		operations: m.operations.WithLabelValues(name),
	}
	for _, r := range reasons {
		a.errors[r] = m.errors.WithLabelValues(name, r)
	}
	a.requests.WithLabelValues(string(twilio.EndpointList), strconv.Itoa(http.StatusOK))
	a.durations.WithLabelValues(string(twilio.EndpointList))
	return a
}

// Remove drops every series of an account. What still runs for it must have
// ended before, or it brings some back.
func (m *Metrics) Remove(name string) {
	labels := prometheus.Labels{"account": name}
	for _, vec := range []interface {
		DeletePartialMatch(labels prometheus.Labels) int
	}{m.refreshes, m.errors, m.duration, m.requests, m.requestDuration, m.operations} {
		vec.DeletePartialMatch(labels)
	}
}

// AccountMetrics are the exporter's own metrics of one account.
type AccountMetrics struct {
	success, failure prometheus.Counter
	errors           map[string]prometheus.Counter
	duration         prometheus.Observer
	requests         *prometheus.CounterVec
	durations        prometheus.ObserverVec
	operations       prometheus.Counter
	made             atomic.Int64 // requests
}

// Observe is the hook for twilio.Options.
func (m *AccountMetrics) Observe(r twilio.Request) {
	m.made.Add(1)
	code := "error"
	if r.Code != 0 {
		code = strconv.Itoa(r.Code)
	}
	m.requests.WithLabelValues(string(r.Endpoint), code).Inc()
	m.durations.WithLabelValues(string(r.Endpoint)).Observe(r.Duration.Seconds())
}

// OperationsRead counts operations that were decoded.
func (m *AccountMetrics) OperationsRead(n int) {
	m.operations.Add(float64(n))
}
