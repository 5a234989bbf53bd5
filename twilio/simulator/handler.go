package simulator

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"twilio_operations_exporter/twilio"
)

// Settings configure a Handler.
type Settings struct {
	Now  func() time.Time // the API's clock, also for the source; nil = the system's
	List ListSettings

	Messages MessageSettings
	Emails   Source // of operations of e-mails; nil = there are none
	// EmailsWithoutAttempts leaves out the stats of e-mails that only one of the two examples in the reference has:
	// attempts and recipients.
	EmailsWithoutAttempts bool

	AccountSID, AuthToken string // accepted credentials; if AccountSID is "", any or none

	NoGzip bool // even if the request accepts it
}

// Handler serves a Source as the API does, below /v1. It is safe for concurrent use.
type Handler struct {
	source   Source
	s        Settings
	faults   Faults
	requests atomic.Int64
	inFlight atomic.Int64

	emailFormat format
}

// NewHandler returns a handler.
func NewHandler(source Source, s Settings) *Handler {
	if s.Now == nil {
		s.Now = time.Now
	}
	if s.Emails == nil {
		s.Emails = NewStatic()
	}
	return &Handler{source: source, s: s, emailFormat: newEmailFormat(s.EmailsWithoutAttempts)}
}

// Faults returns the handler's faults.
func (h *Handler) Faults() *Faults { return &h.faults }

// Requests returns the number of requests so far.
func (h *Handler) Requests() int { return int(h.requests.Load()) }

// InFlight returns the number of requests that have not ended.
func (h *Handler) InFlight() int { return int(h.inFlight.Load()) }

// ServeHTTP implements http.Handler. It panics with http.ErrAbortHandler if a request gets no answer.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.requests.Add(1)
	h.inFlight.Add(1)
	defer h.inFlight.Add(-1)

	call := route(r.URL.Path)
	x := &exchange{ResponseWriter: w, h: h, r: r, call: call, fault: h.faults.pick(call.endpoint)}
	if x.fault.Latency > 0 {
		x.wait(time.After(x.fault.Latency))
	}

	date := h.s.Now().Add(x.fault.Offset)
	w.Header().Set("Date", date.UTC().Format(http.TimeFormat))
	switch {
	case x.fault.Kind == FaultStatus:
		x.failStatus()
	case x.fault.Kind == FaultReset:
		panic(http.ErrAbortHandler)
	case x.fault.Kind == FaultHang:
		x.wait(nil)
	case x.fault.Kind == FaultHTML:
		x.html(http.StatusOK, "Maintenance")
	case !h.accepts(r):
		x.error(http.StatusUnauthorized)
	case r.Method != http.MethodGet:
		x.error(http.StatusNotFound)
	default:
		x.answer()
	}
}

// accepts reports whether the credentials of a request are right.
func (h *Handler) accepts(r *http.Request) bool {
	user, password, _ := r.BasicAuth()
	return h.s.AccountSID == "" || user == h.s.AccountSID && password == h.s.AuthToken
}

// A call is what a request asks for, by its path.
type call struct {
	endpoint twilio.Endpoint // "" = not found
	emails   bool            // operations of e-mails, not of messages
	id       string          // of what to fetch
}

// route returns what a path asks for.
func route(path string) call {
	for _, collection := range []struct {
		path        string
		list, fetch twilio.Endpoint
		emails      bool
	}{
		{"/v1/Messages/Operations", twilio.EndpointList, twilio.EndpointFetch, false},
		{"/v1/Emails/Operations", twilio.EndpointList, twilio.EndpointFetch, true},
		{"/v1/Messages", twilio.EndpointListMessages, twilio.EndpointFetchMessage, false},
	} {
		if path == collection.path {
			return call{endpoint: collection.list, emails: collection.emails}
		}
		id, found := strings.CutPrefix(path, collection.path+"/")
		if found && id != "" && !strings.Contains(id, "/") {
			return call{collection.fetch, collection.emails, id}
		}
	}
	return call{}
}

// exchange is one request and its answer.
type exchange struct {
	http.ResponseWriter
	h     *Handler
	r     *http.Request
	call  call
	fault Fault
}

// answer answers a request without a fault.
func (x *exchange) answer() {
	refused := x.h.s.Messages.Refuse
	ofMessages := x.call.endpoint == twilio.EndpointListMessages || x.call.endpoint == twilio.EndpointFetchMessage
	if ofMessages && refused != 0 {
		x.error(refused)
		return
	}

	switch x.call.endpoint {
	case twilio.EndpointList:
		x.list()
	case twilio.EndpointFetch:
		x.fetch(x.call.id)
	case twilio.EndpointListMessages:
		x.listMessages()
	case twilio.EndpointFetchMessage:
		x.fetchMessage(x.call.id)
	default:
		x.error(http.StatusNotFound)
	}
}

// source returns the source of the operations that the request asks for, and their format.
func (x *exchange) source() (Source, *format) {
	if x.call.emails {
		return x.h.s.Emails, &x.h.emailFormat
	}
	return x.h.source, &messageFormat
}

// wait waits for over. It aborts the request if the client gives up.
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
	x.html(code, fmt.Sprintf("%d %s", code, http.StatusText(code))) // as a proxy answers
}

func (x *exchange) html(code int, title string) {
	x.send(code, "text/html; charset=utf-8", fmt.Appendf(nil,
		"<!DOCTYPE html>\n<html><head><title>%[1]s</title></head><body><h1>%[1]s</h1></body></html>\n", title))
}

func (x *exchange) fetch(id string) {
	source, format := x.source()
	op, ok := source.Operation(x.h.s.Now(), id)
	switch {
	case !twilio.ValidOperationID(id):
		x.error(http.StatusBadRequest)
	case !ok:
		x.error(http.StatusNotFound)
	default:
		x.json(format.appendOperation(nil, &op))
	}
}

func (x *exchange) list() {
	list := &x.h.s.List
	q, wrong := list.parse(x.r.URL.RawQuery)
	if wrong != "" {
		x.refuse(wrong)
		return
	}

	source, format := x.source()
	ops, next := list.page(source, x.h.s.Now(), q)
	if x.fault.Kind == FaultRepeatToken {
		next = &q.token
	}
	x.json(format.encodePage(ops, list.pagination(next, q.token)))
}

func (x *exchange) fetchMessage(id string) {
	m, ok := x.h.message(id)
	switch {
	case !messageID.MatchString(id):
		x.error(http.StatusBadRequest)
	case !ok:
		x.error(http.StatusNotFound)
	default:
		x.json(encodeMessage(&m, &x.h.s.Messages))
	}
}

func (x *exchange) listMessages() {
	list := &x.h.s.List
	q, wrong := list.parseMessages(x.r.URL.RawQuery)
	if wrong != "" {
		x.refuse(wrong)
		return
	}

	messages, next := x.h.messages(q)
	if x.fault.Kind == FaultRepeatToken {
		next = &q.token
	}
	x.json(encodeMessages(messages, list.pagination(next, q.token)))
}

// refuse sends the error of an invalid parameter.
func (x *exchange) refuse(parameter string) {
	e := documented[http.StatusBadRequest]
	e.Message = parameter + " is not valid."
	e.Context = "$." + parameter
	x.sendError(http.StatusBadRequest, e)
}

func (x *exchange) json(body []byte) { x.send(http.StatusOK, "application/json", body) }

// error sends the documented error of a status.
func (x *exchange) error(code int) { x.sendError(code, documented[code]) }

func (x *exchange) sendError(code int, e apiError) {
	if code == http.StatusUnauthorized {
		x.Header().Set("WWW-Authenticate", `Basic realm="Twilio API"`)
	}
	x.send(code, "application/json", must(json.Marshal(map[string][]apiError{"errors": {e}})))
}

// send sends an answer. Writing it may fail, if the client has gone.
func (x *exchange) send(code int, contentType string, body []byte) {
	x.Header().Set("Content-Type", contentType)
	isZipped := !x.h.s.NoGzip && strings.Contains(x.r.Header.Get("Accept-Encoding"), "gzip")
	if !isZipped {
		x.Header().Set("Content-Length", strconv.Itoa(len(body)))
		x.WriteHeader(code)
		_, _ = x.Write(body) //nolint:gosec // G705: JSON, or HTML of this file
		return
	}

	x.Header().Set("Content-Encoding", "gzip")
	x.WriteHeader(code)
	z := gzipWriters.Get().(*gzip.Writer)
	defer gzipWriters.Put(z)
	z.Reset(x)
	_, _ = z.Write(body)
	_ = z.Close()
}

var gzipWriters = sync.Pool{New: func() any { return must(gzip.NewWriterLevel(io.Discard, gzip.BestSpeed)) }}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
