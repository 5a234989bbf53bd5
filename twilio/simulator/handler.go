package simulator

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"twilio_operations_exporter/twilio"
)

// Settings configure a Handler.
type Settings struct {
	Now  func() time.Time // the API's clock, also the source's; nil: the system's
	List ListSettings

	AccountSID, AuthToken string // credentials that are accepted; without an account SID, any or none

	NoGzip bool // even when the request accepts it
}

// Handler serves a Source as the API does, below /v1. It is safe for concurrent use.
type Handler struct {
	source   Source
	s        Settings
	faults   Faults
	requests atomic.Int64
	inFlight atomic.Int64
}

// NewHandler returns a handler.
func NewHandler(source Source, s Settings) *Handler {
	if s.Now == nil {
		s.Now = time.Now
	}
	return &Handler{source: source, s: s}
}

// Faults returns the handler's faults.
func (h *Handler) Faults() *Faults { return &h.faults }

// Requests is the number of requests that have arrived.
func (h *Handler) Requests() int { return int(h.requests.Load()) }

// InFlight is the number of requests that have not ended.
func (h *Handler) InFlight() int { return int(h.inFlight.Load()) }

// ServeHTTP implements http.Handler. It panics with http.ErrAbortHandler where a request gets no answer.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.requests.Add(1)
	h.inFlight.Add(1)
	defer h.inFlight.Add(-1)
	endpoint, id := route(r.URL.Path)
	x := &exchange{ResponseWriter: w, h: h, r: r, fault: h.faults.pick(endpoint)}
	if x.fault.Latency > 0 {
		x.wait(time.After(x.fault.Latency))
	}
	w.Header().Set("Date", h.s.Now().Add(x.fault.Offset).UTC().Format(http.TimeFormat))
	user, password, _ := r.BasicAuth()
	switch {
	case x.fault.Kind == FaultStatus:
		x.failStatus()
	case x.fault.Kind == FaultReset:
		panic(http.ErrAbortHandler)
	case x.fault.Kind == FaultHang:
		x.wait(nil)
	case x.fault.Kind == FaultHTML:
		x.html(http.StatusOK, "Maintenance")
	case h.s.AccountSID != "" && (user != h.s.AccountSID || password != h.s.AuthToken):
		x.error(http.StatusUnauthorized)
	case endpoint == "" || r.Method != http.MethodGet:
		x.error(http.StatusNotFound)
	case endpoint == twilio.EndpointFetch:
		x.fetch(id)
	default:
		x.list()
	}
}

func route(path string) (endpoint twilio.Endpoint, id string) {
	const list = "/v1/Messages/Operations"
	if path == list {
		return twilio.EndpointList, ""
	}
	if id, ok := strings.CutPrefix(path, list+"/"); ok && id != "" && !strings.Contains(id, "/") {
		return twilio.EndpointFetch, id
	}
	return "", ""
}

// exchange is one request and its answer.
type exchange struct {
	http.ResponseWriter
	h     *Handler
	r     *http.Request
	fault Fault
}

// wait returns when over does. It aborts the request when the client gives up.
func (x *exchange) wait(over <-chan time.Time) {
	select {
	case <-over:
	case <-x.r.Context().Done():
		panic(http.ErrAbortHandler)
	}
}

func (x *exchange) failStatus() {
	if after := x.fault.RetryAfter; after > 0 {
		x.Header().Set("Retry-After", strconv.Itoa(int((after+time.Second-1)/time.Second)))
	}
	code := x.fault.Status
	if _, known := documented[code]; known {
		x.error(code)
		return
	}
	x.html(code, fmt.Sprintf("%d %s", code, http.StatusText(code))) // as from a proxy in between
}

func (x *exchange) html(code int, title string) {
	x.send(code, "text/html; charset=utf-8", fmt.Appendf(nil,
		"<!DOCTYPE html>\n<html><head><title>%[1]s</title></head><body><h1>%[1]s</h1></body></html>\n", title))
}

func (x *exchange) fetch(id string) {
	op, ok := x.h.source.Operation(x.h.s.Now(), id)
	switch {
	case !twilio.ValidOperationID(id):
		x.error(http.StatusBadRequest)
	case !ok:
		x.error(http.StatusNotFound)
	default:
		x.send(http.StatusOK, "application/json", appendOperation(nil, &op))
	}
}

func (x *exchange) list() {
	list := &x.h.s.List
	q, wrong := list.parse(x.r.URL.RawQuery)
	if wrong != "" {
		e := documented[http.StatusBadRequest]
		e.Message, e.Context = wrong+" is not valid.", "$."+wrong
		x.sendError(http.StatusBadRequest, e)
		return
	}
	ops, next := list.page(x.h.source, x.h.s.Now(), q)
	if x.fault.Kind == FaultRepeatToken {
		next = &q.token
	}
	x.send(http.StatusOK, "application/json", encodePage(ops, next, q.token, list))
}

// query is a list request that has been parsed.
type query struct {
	filter Filter
	size   int
	token  token // of the page
}

// parse reads a list request, or names the first parameter that is wrong. Unknown ones are ignored.
func (s *ListSettings) parse(raw string) (q query, wrong string) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return q, "query"
	}
	// parameter calls read with a parameter's value, if it is there.
	parameter := func(name string, read func(value string) bool) {
		if v := values[name]; wrong == "" && (len(v) > 1 || len(v) == 1 && !read(v[0])) {
			wrong = name
		}
	}
	date := func(t *time.Time) func(string) bool {
		return func(value string) bool {
			// A date alone, as in the reference's example, is midnight UTC.
			parsed, invalid := time.Parse(time.RFC3339, value)
			if invalid != nil {
				parsed, invalid = time.Parse(time.DateOnly, value)
			}
			*t = parsed.UTC()
			return invalid == nil
		}
	}
	var start, end time.Time
	parameter("startDate", date(&start))
	parameter("endDate", date(&end))
	parameter("status", func(value string) bool {
		q.filter.Status = twilio.Status(value)
		switch q.filter.Status {
		case twilio.StatusScheduled, twilio.StatusProcessing, twilio.StatusCompleted, twilio.StatusCanceled:
			return true
		}
		return false
	})
	q.size = 50 // the documented default, as 1000 is the documented most
	parameter("pageSize", func(value string) bool {
		q.size, err = strconv.Atoi(value)
		return err == nil && q.size >= 1 && q.size <= 1000
	})
	filters := fmt.Sprint(start.UnixMicro(), end.UnixMicro(), q.filter.Status)
	parameter("pageToken", func(value string) bool {
		q.token, err = s.decodeToken(value)
		return err == nil && q.token.Filters == filters
	})
	q.token.Filters = filters
	q.filter.From, q.filter.To = s.Bounds.span(start, end)
	return q, wrong
}

// error sends the documented error of a status.
func (x *exchange) error(code int) { x.sendError(code, documented[code]) }

func (x *exchange) sendError(code int, e apiError) {
	if code == http.StatusUnauthorized {
		x.Header().Set("WWW-Authenticate", `Basic realm="Twilio API"`)
	}
	x.send(code, "application/json", must(json.Marshal(map[string][]apiError{"errors": {e}})))
}

func (x *exchange) send(code int, contentType string, body []byte) {
	x.Header().Set("Content-Type", contentType)
	// A client that has gone does not want to know of errors.
	if !x.h.s.NoGzip && strings.Contains(x.r.Header.Get("Accept-Encoding"), "gzip") {
		x.Header().Set("Content-Encoding", "gzip")
		x.WriteHeader(code)
		z := gzipWriters.Get().(*gzip.Writer)
		defer gzipWriters.Put(z)
		z.Reset(x)
		_, _ = z.Write(body)
		_ = z.Close()
		return
	}
	x.Header().Set("Content-Length", strconv.Itoa(len(body)))
	x.WriteHeader(code)
	_, _ = x.Write(body) //nolint:gosec // G705: JSON, or HTML of this file
}

var gzipWriters = sync.Pool{New: func() any { return must(gzip.NewWriterLevel(io.Discard, gzip.BestSpeed)) }}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
