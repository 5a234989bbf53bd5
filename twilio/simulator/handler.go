package simulator

import (
	"compress/gzip"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"twilio_operations_exporter/twilio"
)

// Settings configure a Handler.
type Settings struct {
	Prefix string           // of the paths; "": /v1, "/": none
	Now    func() time.Time // the API's clock, which the source is asked by; nil: the system's
	List   ListSettings

	// Credentials that are accepted; an empty name is no pair. Without any
	// pair nobody is asked.
	AccountSID, AuthToken string
	APIKey, APISecret     string

	Throttle  Throttle
	TokenSeed uint64 // handlers of one seed understand each other's tokens
	NoGzip    bool   // even when asked for
	LogSize   int    // requests remembered; 0: 1000, negative: none
}

// Throttle answers 429 with a Retry-After to requests that are too many.
type Throttle struct {
	Rate       float64       // requests a second; 0: no limit
	Burst      int           // at once, with Rate; 0: 1
	Concurrent int           // requests in flight; 0: no limit
	RetryAfter time.Duration // at least; rounded up to seconds, and at least one
}

// Handler serves a Source as the API does. It is safe for concurrent use.
type Handler struct {
	source  Source
	s       Settings
	listing listing
	tokens  *tokens
	faults  Faults
	log     *RequestLog
	skew    atomic.Int64

	throttle struct {
		sync.Mutex
		tokens  float64
		updated time.Time
	}

	closed    chan struct{}
	closeOnce sync.Once
}

// NewHandler returns a handler, or an error that names the setting that makes
// no sense.
func NewHandler(source Source, s Settings) (*Handler, error) {
	if err := s.List.validate(); err != nil {
		return nil, err
	}
	if t := s.Throttle; t.Rate < 0 || t.Burst < 0 || t.Concurrent < 0 || t.RetryAfter < 0 {
		return nil, fmt.Errorf("throttle %+v has a negative number", t)
	}
	if s.Prefix == "" {
		s.Prefix = "/v1"
	}
	s.Prefix = strings.TrimRight(s.Prefix, "/")
	if s.Now == nil {
		s.Now = time.Now
	}
	if s.LogSize == 0 {
		s.LogSize = 1000
	}
	h := &Handler{
		source:  source,
		s:       s,
		listing: listing{source: source, s: s.List},
		tokens:  newTokens(s.TokenSeed, s.List.Alphabet),
		log:     newRequestLog(max(0, s.LogSize)),
		closed:  make(chan struct{}),
	}
	h.throttle.tokens = float64(max(1, s.Throttle.Burst))
	return h, nil
}

// MustHandler is NewHandler for settings that are known to be right; it panics
// when they are not.
func MustHandler(source Source, s Settings) *Handler {
	h, err := NewHandler(source, s)
	if err != nil {
		panic(err)
	}
	return h
}

// Settings returns what the handler was made with, defaults filled in.
func (h *Handler) Settings() Settings { return h.s }

// Source returns what the handler serves.
func (h *Handler) Source() Source { return h.source }

// Faults are the handler's.
func (h *Handler) Faults() *Faults { return &h.faults }

// Requests is the handler's log.
func (h *Handler) Requests() *RequestLog { return h.log }

// Now is the API's clock, skew included.
func (h *Handler) Now() time.Time { return h.s.Now().Add(time.Duration(h.skew.Load())) }

// SetSkew makes the API's clock run ahead of Settings.Now by this, or behind.
func (h *Handler) SetSkew(d time.Duration) { h.skew.Store(int64(d)) }

// Close ends the requests that a fault makes hang. The handler goes on
// answering.
func (h *Handler) Close() { h.closeOnce.Do(func() { close(h.closed) }) }

// ServeHTTP implements http.Handler. It panics with http.ErrAbortHandler where
// a fault wants the connection gone.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	number, inFlight := h.log.begin()
	endpoint, id := h.route(r.URL.Path)
	user, _, _ := r.BasicAuth()
	began := time.Now()
	x := &exchange{ResponseWriter: w, h: h, r: r, endpoint: endpoint, id: id}
	x.entry = Request{
		Number: number, Time: h.Now(), Method: r.Method, Path: r.URL.Path,
		Query: r.URL.Query(), Endpoint: endpoint, User: user,
	}
	defer func() {
		x.entry.Code, x.entry.Bytes, x.entry.Duration = x.code, x.bytes, time.Since(began)
		h.log.end(x.entry)
	}()

	fault, latency := h.faults.pick(endpoint, r, h.Now())
	if latency > 0 && !h.wait(r.Context(), latency) {
		panic(http.ErrAbortHandler)
	}
	x.Header().Set("Date", h.Now().UTC().Format(http.TimeFormat))
	if fault != nil {
		x.entry.Fault = fault.Kind
		if x.fail(fault) {
			return
		}
	}
	switch {
	case h.throttled(x, inFlight):
	case !h.authorized(r):
		x.Header().Set("WWW-Authenticate", `Basic realm="Twilio API"`)
		x.error(http.StatusUnauthorized)
	case endpoint == "":
		x.error(http.StatusNotFound)
	case r.Method != http.MethodGet:
		x.Header().Set("Allow", http.MethodGet)
		x.error(http.StatusMethodNotAllowed)
	case endpoint == twilio.EndpointFetch:
		x.fetch()
	default:
		x.list()
	}
}

func (h *Handler) route(path string) (endpoint twilio.Endpoint, id string) {
	rest, ok := strings.CutPrefix(path, h.s.Prefix+"/Messages/Operations")
	if !ok {
		return "", ""
	}
	if rest == "" {
		return twilio.EndpointList, ""
	}
	id, ok = strings.CutPrefix(rest, "/")
	if !ok || id == "" || strings.Contains(id, "/") {
		return "", ""
	}
	return twilio.EndpointFetch, id
}

// wait is false when the client gave up, or the handler was closed, before
// the time was over.
func (h *Handler) wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
	case <-h.closed:
	}
	return false
}

func (h *Handler) authorized(r *http.Request) bool {
	s := &h.s
	if s.AccountSID == "" && s.APIKey == "" {
		return true
	}
	user, password, ok := r.BasicAuth()
	account := s.AccountSID != "" && equal(user, s.AccountSID) && equal(password, s.AuthToken)
	key := s.APIKey != "" && equal(user, s.APIKey) && equal(password, s.APISecret)
	return ok && (account || key)
}

func equal(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// throttled answers 429 if the request is one too many.
func (h *Handler) throttled(x *exchange, inFlight int) bool {
	t := &h.s.Throttle
	wait := time.Duration(0)
	if t.Concurrent > 0 && inFlight > t.Concurrent {
		wait = time.Second
	}
	if t.Rate > 0 && wait == 0 {
		wait = h.takeToken()
	}
	if wait == 0 {
		return false
	}
	x.Header().Set("Retry-After", seconds(max(wait, t.RetryAfter)))
	x.error(http.StatusTooManyRequests)
	return true
}

// takeToken is 0, or how long to wait until there will be a token.
func (h *Handler) takeToken() time.Duration {
	b, now, rate := &h.throttle, h.Now(), h.s.Throttle.Rate
	b.Lock()
	defer b.Unlock()
	if since := now.Sub(b.updated).Seconds(); since > 0 && !b.updated.IsZero() {
		b.tokens = min(b.tokens+since*rate, float64(max(1, h.s.Throttle.Burst)))
	}
	b.updated = now
	if b.tokens >= 1 {
		b.tokens--
		return 0
	}
	return time.Duration(math.Ceil((1 - b.tokens) / rate * float64(time.Second)))
}

func seconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}

// exchange is one request and its answer.
type exchange struct {
	http.ResponseWriter
	h        *Handler
	r        *http.Request
	endpoint twilio.Endpoint
	id       string
	entry    Request
	fault    *Fault // that changes an answer, if any
	code     int
	bytes    int64
}

func (x *exchange) WriteHeader(code int) {
	if x.code == 0 {
		x.code = code
	}
	x.ResponseWriter.WriteHeader(code)
}

func (x *exchange) Write(b []byte) (int, error) {
	n, err := x.ResponseWriter.Write(b)
	x.bytes += int64(n)
	return n, err
}

// Unwrap is for http.ResponseController.
func (x *exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

var buffers = sync.Pool{New: func() any { return new(buffer) }}

type buffer struct {
	ops  []twilio.Operation
	body []byte
}

func (x *exchange) fetch() {
	if !twilio.ValidOperationID(x.id) {
		x.error(http.StatusBadRequest)
		return
	}
	op, ok := x.h.source.Operation(x.h.Now(), x.id)
	if !ok {
		x.error(http.StatusNotFound)
		return
	}
	b := buffers.Get().(*buffer)
	defer buffers.Put(b)
	b.body = appendOperation(b.body[:0], &op)
	x.answer(b.body)
}

func (x *exchange) list() {
	h := x.h
	q, problems := h.parse(x.r.URL.RawQuery)
	if len(problems) > 0 {
		x.json(http.StatusBadRequest, appendErrors(nil, problems...))
		return
	}
	from, to := h.s.List.Bounds.span(q.filters.start, q.filters.end)
	b := buffers.Get().(*buffer)
	defer buffers.Put(b)
	ops, next := h.listing.page(h.Now(), Filter{From: from, To: to, Status: q.filters.status}, q.size, q.cursor, b.ops[:0])
	b.ops = ops
	x.entry.Operations = len(ops)

	spelling := pageNext{spelt: h.s.List.LastNext}
	self := h.tokens.seal(token{cursor: q.cursor, filters: q.filters, size: q.size})
	if x.fault != nil && x.fault.Kind == FaultEndless && next == nil {
		again := q.cursor
		again.page++
		if n := len(ops); n > 0 {
			again.given += n
			again.key = h.listing.key(&ops[n-1])
		}
		next = &again
	}
	switch {
	case x.fault != nil && x.fault.Kind == FaultRepeatToken:
		spelling.token = self
	case next != nil:
		spelling.token = h.tokens.seal(token{cursor: *next, filters: q.filters, size: q.size})
	default:
		spelling.last = true
	}
	b.body = appendPage(b.body[:0], ops, spelling, self)
	x.answer(b.body)
}

// query is a list request that has been understood.
type query struct {
	filters filters
	size    int
	cursor  cursor
}

// parse understands a list request, or says all that is wrong with it.
// Parameters that it does not know do not matter.
func (h *Handler) parse(raw string) (query, []apiError) {
	var problems []apiError
	problem := func(parameter, message string) {
		// The code is the one of the reference's example of a 400.
		problems = append(problems, apiError{documented[400].code, message, "$." + parameter})
	}
	values, err := url.ParseQuery(raw)
	if err != nil {
		problem("query", "The query cannot be parsed.")
	}
	one := func(name string) (string, bool) {
		v := values[name]
		if len(v) > 1 {
			problem(name, name+" is given more than once.")
		}
		return strings.Join(v, ","), len(v) == 1
	}
	date := func(name string) time.Time {
		v, ok := one(name)
		if !ok {
			return time.Time{}
		}
		t, wrong := parseDate(v)
		if wrong != nil {
			problem(name, name+" is not a date or date-time.")
		}
		return t
	}
	sent := filters{start: date("startDate"), end: date("endDate")}
	if v, ok := one("status"); ok {
		sent.status = twilio.Status(v)
		if !knownStatus(sent.status) {
			problem("status", "status is not one of SCHEDULED, PROCESSING, COMPLETED, CANCELED.")
		}
	}
	q := query{filters: sent, size: defaultPageSize}
	size, sized := one("pageSize")
	if sized {
		n, wrong := strconv.Atoi(size)
		if wrong != nil || n < 1 || n > maxPageSize {
			problem("pageSize", "pageSize is not from 1 to 1000.")
		}
		q.size = n
	}
	tok, paged := one("pageToken")
	if !paged || len(problems) > 0 {
		return q, problems
	}
	t, err := h.tokens.open(tok)
	if err != nil {
		problem("pageToken", "pageToken is not a token of this list.")
		return q, problems
	}
	q.cursor = t.cursor
	switch h.s.List.TokenFilters {
	case TokenBound:
		if !sent.equal(t.filters) {
			problem("pageToken", "pageToken was issued for other filters.")
		}
	case TokenCarries:
		if !sent.equal(filters{}) && !sent.equal(t.filters) {
			problem("pageToken", "pageToken was issued for other filters.")
		}
		q.filters = t.filters
		if !sized {
			q.size = t.size
		}
	case TokenBare:
	}
	return q, problems
}

// parseDate reads a date-time, or a date alone as in the reference's example
// of a request, which is midnight UTC.
func parseDate(s string) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t.UTC(), nil
	}
	return time.Parse(time.DateOnly, s)
}

func knownStatus(s twilio.Status) bool {
	return slices.Contains([]twilio.Status{
		twilio.StatusScheduled, twilio.StatusProcessing, twilio.StatusCompleted, twilio.StatusCanceled,
	}, s)
}

// answer sends the body of a 200, damaged as the fault wants it.
func (x *exchange) answer(body []byte) {
	if x.fault != nil {
		switch x.fault.Kind { //nolint:exhaustive // the others have had their way
		case FaultField:
			body = setField(body, x.endpoint, x.fault.Field, x.fault.Value)
		case FaultTruncated, FaultStall:
			x.half(body)
		}
	}
	x.json(http.StatusOK, body)
}

// error sends the documented body of a status.
func (x *exchange) error(code int) {
	x.json(code, appendErrors(nil, documented[code]))
}

func (x *exchange) json(code int, body []byte) {
	x.Header().Set("Content-Type", "application/json")
	x.send(code, body)
}

func (x *exchange) send(code int, body []byte) {
	if !x.h.s.NoGzip && acceptsGzip(x.r.Header) {
		x.Header().Set("Content-Encoding", "gzip")
		x.Header().Add("Vary", "Accept-Encoding")
		x.WriteHeader(code)
		z := gzipWriters.Get().(*gzip.Writer)
		defer gzipWriters.Put(z)
		z.Reset(x)
		// A client that has gone does not want to know.
		_, _ = z.Write(body)
		_ = z.Close()
		return
	}
	x.Header().Set("Content-Length", strconv.Itoa(len(body)))
	x.WriteHeader(code)
	_, _ = x.Write(body)
}

var gzipWriters = sync.Pool{New: func() any {
	z, err := gzip.NewWriterLevel(io.Discard, gzip.BestSpeed)
	if err != nil {
		panic(err) // the level exists
	}
	return z
}}

func acceptsGzip(h http.Header) bool {
	for _, field := range h.Values("Accept-Encoding") {
		for coding := range strings.SplitSeq(field, ",") {
			name, parameter, _ := strings.Cut(coding, ";")
			if !strings.EqualFold(strings.TrimSpace(name), "gzip") {
				continue
			}
			weight, weighted := strings.CutPrefix(strings.ReplaceAll(parameter, " ", ""), "q=")
			q, err := strconv.ParseFloat(weight, 64)
			return !weighted || err == nil && q > 0
		}
	}
	return false
}
