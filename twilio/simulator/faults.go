package simulator

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"twilio_operations_exporter/twilio"
)

// FaultKind is a way in which a request fails.
type FaultKind string

// Kinds of faults.
const (
	FaultStatus      FaultKind = "status"       // another HTTP status: Status, RetryAfter
	FaultLatency     FaultKind = "latency"      // the answer takes Latency longer; combines with other faults
	FaultDate        FaultKind = "date"         // the Date header is wrong by Offset; combines with other faults
	FaultReset       FaultKind = "reset"        // the connection is reset
	FaultHang        FaultKind = "hang"         // no answer until the client gives up or the handler is closed
	FaultHTML        FaultKind = "html"         // 200 with an HTML page
	FaultRepeatToken FaultKind = "repeat_token" // the next token is the page's own
)

var faultKinds = []FaultKind{FaultStatus, FaultLatency, FaultDate, FaultReset, FaultHang, FaultHTML, FaultRepeatToken}

// Fault makes some requests fail. Of several that match a request the first added counts; latencies and offsets add up.
type Fault struct {
	Kind FaultKind `json:"kind"`

	// Which requests: all conditions must hold.
	Endpoint twilio.Endpoint `json:"endpoint,omitzero"` // "": both
	Query    string          `json:"query,omitzero"`    // such as "status=PROCESSING": these values are among the request's
	From     time.Time       `json:"from,omitzero"`     // by the handler's clock; zero: always
	To       time.Time       `json:"to,omitzero"`       // zero: forever
	Skip     int             `json:"skip,omitzero"`     // not the first n that match
	Every    int             `json:"every,omitzero"`    // then every n-th of them; 0: each
	Count    int             `json:"count,omitzero"`    // then only n of these; 0: all

	// What happens.
	Status         int           `json:"status,omitzero"`         // with FaultStatus
	RetryAfter     time.Duration `json:"retryAfter,omitzero"`     // adds the header; rounded up to seconds
	RetryAfterDate bool          `json:"retryAfterDate,omitzero"` // as an HTTP date
	Latency        time.Duration `json:"latency,omitzero"`        // before the answer, with any kind
	Offset         time.Duration `json:"offset,omitzero"`         // of the Date header, with any kind; positive: ahead

	Struck int `json:"struck"` // number of requests that it was applied to; set by Faults

	query   url.Values
	matched int // number of requests that matched
}

func (f *Fault) validate() error {
	switch {
	case !slices.Contains(faultKinds, f.Kind):
		return fmt.Errorf("fault kind %q is none of %q", f.Kind, faultKinds)
	case f.Skip < 0 || f.Every < 0 || f.Count < 0 || f.Latency < 0 || f.RetryAfter < 0:
		return fmt.Errorf("fault %q has a negative number", f.Kind)
	case f.Endpoint != "" && f.Endpoint != twilio.EndpointList && f.Endpoint != twilio.EndpointFetch:
		return fmt.Errorf("fault endpoint %q is neither %q nor %q", f.Endpoint, twilio.EndpointList, twilio.EndpointFetch)
	case f.Kind == FaultStatus && (f.Status < 200 || f.Status > 599):
		return fmt.Errorf("fault status %d is not from 200 to 599", f.Status)
	case f.Kind == FaultLatency && f.Latency == 0, f.Kind == FaultDate && f.Offset == 0:
		return fmt.Errorf("fault %q without its latency or offset", f.Kind)
	}
	return nil
}

// Faults are those of a handler. They can be switched at any time.
type Faults struct {
	mu   sync.Mutex
	list []*Fault
}

// Add switches a fault on, or returns an error that names the wrong field.
func (s *Faults) Add(f Fault) error {
	if err := f.validate(); err != nil {
		return err
	}
	query, err := url.ParseQuery(f.Query)
	if err != nil {
		return fmt.Errorf("fault query %q: %w", f.Query, err)
	}
	f.Struck, f.query = 0, query
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, &f)
	return nil
}

// MustAdd is Add for faults that are known to be right; it panics when one is not.
func (s *Faults) MustAdd(f Fault) { must(f, s.Add(f)) }

// Clear switches all faults off.
func (s *Faults) Clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = nil
}

// List returns the faults, those used up included.
func (s *Faults) List() []Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Fault, len(s.list))
	for i, f := range s.list {
		list[i] = *f
	}
	return list
}

// pick says what happens to a request: a fault with a zero Kind where nothing does.
func (s *Faults) pick(endpoint twilio.Endpoint, query url.Values, now time.Time) Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	var picked Fault
	var latency, offset time.Duration
	for _, f := range s.list {
		combines := f.Kind == FaultLatency || f.Kind == FaultDate
		if !combines && picked.Kind != "" || !f.strikes(endpoint, query, now) {
			continue
		}
		latency += f.Latency
		offset += f.Offset
		if !combines {
			picked = *f
		}
	}
	picked.Latency, picked.Offset = latency, offset
	return picked
}

func (f *Fault) strikes(endpoint twilio.Endpoint, query url.Values, now time.Time) bool {
	if f.Endpoint != "" && f.Endpoint != endpoint ||
		!f.From.IsZero() && now.Before(f.From) ||
		!f.To.IsZero() && !now.Before(f.To) ||
		f.Count > 0 && f.Struck >= f.Count {
		return false
	}
	for name := range f.query {
		if !slices.Contains(query[name], f.query.Get(name)) {
			return false
		}
	}
	f.matched++
	if f.matched <= f.Skip || f.Every > 0 && (f.matched-f.Skip)%f.Every != 0 {
		return false
	}
	f.Struck++
	return true
}

// fail does to a request what a fault wants; false when the request is to be answered.
func (x *exchange) fail(f *Fault) bool {
	switch f.Kind {
	case FaultStatus:
		x.failStatus(f)
	case FaultReset:
		x.reset()
	case FaultHang:
		x.wait(0)
	case FaultHTML:
		x.html(http.StatusOK, "Maintenance")
	default:
		return false
	}
	return true
}

func (x *exchange) failStatus(f *Fault) {
	if f.RetryAfter > 0 {
		after := strconv.Itoa(int((f.RetryAfter + time.Second - 1) / time.Second))
		if f.RetryAfterDate {
			// Rounded up, so that it is not over too early.
			after = x.date.Add(f.RetryAfter + time.Second - 1).UTC().Format(http.TimeFormat)
		}
		x.Header().Set("Retry-After", after)
	}
	if _, known := documented[f.Status]; known {
		x.error(f.Status)
		return
	}
	// As from a proxy in between.
	x.html(f.Status, fmt.Sprintf("%d %s", f.Status, http.StatusText(f.Status)))
}

func (x *exchange) html(code int, title string) {
	x.send(code, "text/html; charset=utf-8", []byte("<!DOCTYPE html>\n<html><head><title>"+title+"</title></head><body><h1>"+title+"</h1></body></html>\n"))
}

// reset closes the connection in a way that the peer sees as a reset, where there is a TCP connection.
func (x *exchange) reset() {
	if conn, _, err := http.NewResponseController(x.ResponseWriter).Hijack(); err == nil {
		if tcp, ok := conn.(interface{ SetLinger(seconds int) error }); ok {
			_ = tcp.SetLinger(0) // what is in the buffers is dropped
		}
		_ = conn.Close()
		return
	}
	panic(http.ErrAbortHandler)
}
