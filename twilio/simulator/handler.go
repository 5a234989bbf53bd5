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
	"time"

	"golang.org/x/time/rate"

	"twilio_operations_exporter/twilio"
)

// Settings configure a Handler.
type Settings struct {
	Now  func() time.Time // the API's clock, also the source's; nil: the system's
	List ListSettings

	AccountSID, AuthToken string // credentials that are accepted; without an account SID, any or none

	RateLimit   float64 // requests a second, and at once, before 429 is answered; 0: no limit
	MaxInFlight int     // requests in flight before 429 is answered; 0: no limit

	NoGzip  bool // even when the request accepts it
	LogSize int  // number of requests remembered; 0: 1000, negative: none
}

// Handler serves a Source as the API does, below /v1. It is safe for concurrent use.
type Handler struct {
	source  Source
	s       Settings
	listing listing
	limiter *rate.Limiter
	faults  Faults
	log     *RequestLog

	closed    chan struct{}
	closeOnce sync.Once
}

// NewHandler returns a handler, or an error that names the wrong setting.
func NewHandler(source Source, s Settings) (*Handler, error) {
	if err := s.List.validate(); err != nil {
		return nil, err
	}
	if s.RateLimit < 0 || s.MaxInFlight < 0 {
		return nil, fmt.Errorf("rate limit %v or requests in flight %d is negative", s.RateLimit, s.MaxInFlight)
	}
	if s.Now == nil {
		s.Now = time.Now
	}
	if s.LogSize == 0 {
		s.LogSize = 1000
	}
	limiter := rate.NewLimiter(rate.Inf, 0)
	if s.RateLimit > 0 {
		limiter = rate.NewLimiter(rate.Limit(s.RateLimit), max(1, int(s.RateLimit)))
	}
	return &Handler{
		source:  source,
		s:       s,
		listing: listing{source: source, s: s.List},
		limiter: limiter,
		log:     &RequestLog{size: max(0, s.LogSize)},
		closed:  make(chan struct{}),
	}, nil
}

// MustHandler is NewHandler for settings that are known to be right; it panics when they are not.
func MustHandler(source Source, s Settings) *Handler { return must(NewHandler(source, s)) }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Source returns what the handler serves.
func (h *Handler) Source() Source { return h.source }

// Faults returns the handler's faults.
func (h *Handler) Faults() *Faults { return &h.faults }

// Requests returns the handler's log.
func (h *Handler) Requests() *RequestLog { return h.log }

// Close ends the requests that a fault makes hang. The handler goes on answering.
func (h *Handler) Close() { h.closeOnce.Do(func() { close(h.closed) }) }

// ServeHTTP implements http.Handler. It panics with http.ErrAbortHandler where a fault closes the connection.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	number, inFlight := h.log.begin()
	now := h.s.Now()
	endpoint, id := route(r.URL.Path)
	user, _, _ := r.BasicAuth()
	x := &exchange{ResponseWriter: w, h: h, r: r, id: id}
	x.entry = Request{
		Number: number, Time: now, Method: r.Method, Path: r.URL.Path,
		Query: r.URL.Query(), Endpoint: endpoint, User: user,
	}
	defer func() { h.log.end(x.entry) }()

	x.fault = h.faults.pick(endpoint, x.entry.Query, now)
	x.entry.Fault = x.fault.Kind
	if x.fault.Latency > 0 {
		x.wait(x.fault.Latency)
	}
	x.date = h.s.Now().Add(x.fault.Offset)
	x.Header().Set("Date", x.date.UTC().Format(http.TimeFormat))
	switch {
	case x.fail(&x.fault):
	case h.s.MaxInFlight > 0 && inFlight > h.s.MaxInFlight:
		x.failStatus(&Fault{Status: http.StatusTooManyRequests, RetryAfter: time.Second})
	case !h.limiter.AllowN(now, 1):
		x.failStatus(&Fault{Status: http.StatusTooManyRequests, RetryAfter: time.Duration(float64(time.Second) / h.s.RateLimit)})
	case !h.authorized(r):
		x.error(http.StatusUnauthorized)
	case endpoint == "" || r.Method != http.MethodGet:
		x.error(http.StatusNotFound)
	case endpoint == twilio.EndpointFetch:
		x.fetch()
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

func (h *Handler) authorized(r *http.Request) bool {
	user, password, ok := r.BasicAuth()
	return h.s.AccountSID == "" || ok && user == h.s.AccountSID && password == h.s.AuthToken
}

// exchange is one request and its answer.
type exchange struct {
	http.ResponseWriter
	h     *Handler
	r     *http.Request
	id    string // of the operation to fetch
	entry Request
	fault Fault
	date  time.Time // of the answer
}

// WriteHeader implements http.ResponseWriter.
func (x *exchange) WriteHeader(code int) {
	x.entry.Code = code
	x.ResponseWriter.WriteHeader(code)
}

// wait returns after d; 0 is forever. It aborts the request when the client gives up or the handler is closed.
func (x *exchange) wait(d time.Duration) {
	var over <-chan time.Time
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-over:
		return
	case <-x.r.Context().Done():
	case <-x.h.closed:
	}
	panic(http.ErrAbortHandler)
}

func (x *exchange) fetch() {
	if !twilio.ValidOperationID(x.id) {
		x.error(http.StatusBadRequest)
		return
	}
	op, ok := x.h.source.Operation(x.h.s.Now(), x.id)
	if !ok {
		x.error(http.StatusNotFound)
		return
	}
	x.send(http.StatusOK, "application/json", appendOperation(nil, &op))
}

func (x *exchange) list() {
	list := &x.h.s.List
	q, problems := list.parse(x.r.URL.RawQuery)
	if len(problems) > 0 {
		x.error(http.StatusBadRequest, problems...)
		return
	}
	ops, place := x.h.listing.page(x.h.s.Now(), q.filter, q.size, q.token.Cursor)
	x.entry.Operations = len(ops)

	self, next := q.token.encode(list.Alphabet), ""
	switch {
	case x.fault.Kind == FaultRepeatToken:
		next = self
	case place != nil:
		next = token{*place, q.token.Filters}.encode(list.Alphabet)
	}
	body := bodies.Get().(*[]byte)
	defer bodies.Put(body)
	*body = appendPage((*body)[:0], ops, next, list.LastNext, self)
	x.send(http.StatusOK, "application/json", *body)
}

var bodies = sync.Pool{New: func() any { return new([]byte) }}

// query is a list request that has been parsed.
type query struct {
	filter Filter
	size   int
	token  token // of the page
}

// parse reads a list request, or says all that is wrong with it. Unknown parameters are ignored.
func (s *ListSettings) parse(raw string) (q query, problems []apiError) {
	problem := func(parameter, message string) {
		// The code is the one of the reference's example of a 400.
		problems = append(problems, newError(documented[400].Code, message, "$."+parameter))
	}
	values, err := url.ParseQuery(raw)
	if err != nil {
		problem("query", "The query cannot be parsed.")
	}
	// parameter calls f with a parameter's value, if it is there.
	parameter := func(name string, f func(value string) bool) {
		if v := values[name]; len(v) > 1 || len(v) == 1 && !f(v[0]) {
			problem(name, name+" is not valid.")
		}
	}
	date := func(t *time.Time) func(string) bool {
		return func(value string) bool {
			// A date alone, as in the reference's example, is midnight UTC.
			parsed, wrong := time.Parse(time.RFC3339, value)
			if wrong != nil {
				parsed, wrong = time.Parse(time.DateOnly, value)
			}
			*t = parsed.UTC()
			return wrong == nil
		}
	}
	var start, end time.Time
	parameter("startDate", date(&start))
	parameter("endDate", date(&end))
	parameter("status", func(value string) bool {
		q.filter.Status = twilio.Status(value)
		switch q.filter.Status {
		case twilio.StatusScheduled, twilio.StatusProcessing, twilio.StatusCompleted, twilio.StatusCanceled:
			return s.StatusFilter != StatusRefused
		}
		return false
	})
	q.size = defaultPageSize
	parameter("pageSize", func(value string) bool {
		q.size, err = strconv.Atoi(value)
		return err == nil && q.size >= 1 && q.size <= maxPageSize
	})
	filters := fmt.Sprint(start.UnixMicro(), end.UnixMicro(), q.filter.Status)
	parameter("pageToken", func(value string) bool {
		q.token, err = decodeToken(value, s.Alphabet)
		return err == nil && q.token.Filters == filters
	})
	q.token.Filters = filters
	q.filter.From, q.filter.To = s.Bounds.span(start, end)
	return q, problems
}

// error sends errors, by default the documented one of the status.
func (x *exchange) error(code int, errs ...apiError) {
	if len(errs) == 0 {
		errs = []apiError{documented[code]}
	}
	if code == http.StatusUnauthorized {
		x.Header().Set("WWW-Authenticate", `Basic realm="Twilio API"`)
	}
	x.send(code, "application/json", must(json.Marshal(map[string]any{"errors": errs})))
}

func (x *exchange) send(code int, contentType string, body []byte) {
	x.Header().Set("Content-Type", contentType)
	x.entry.Bytes = len(body)
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
	_, _ = x.Write(body)
}

var gzipWriters = sync.Pool{New: func() any { return must(gzip.NewWriterLevel(io.Discard, gzip.BestSpeed)) }}
