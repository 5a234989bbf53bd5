package simulator

import (
	"net/url"
	"slices"
	"sync"
	"time"

	"twilio_operations_exporter/twilio"
)

// Request is one that a Handler has answered, or failed to.
type Request struct {
	Number     int             `json:"number"` // from 1, in the order of arrival
	Time       time.Time       `json:"time"`   // of arrival, by the handler's clock
	Method     string          `json:"method"`
	Path       string          `json:"path"`
	Query      url.Values      `json:"query,omitempty"`
	Endpoint   twilio.Endpoint `json:"endpoint"`       // "" for any other path
	User       string          `json:"user,omitempty"` // of Basic authentication; the password is not kept
	Code       int             `json:"code"`           // HTTP status; 0: none was sent
	Fault      FaultKind       `json:"fault,omitempty"`
	Operations int             `json:"operations"` // on the page
	Bytes      int             `json:"bytes"`      // of the body, uncompressed
}

// RequestLog counts requests and remembers the latest of them. It is safe for concurrent use.
type RequestLog struct {
	mu          sync.Mutex
	size        int
	latest      []Request
	started     int
	inFlight    int
	maxInFlight int
}

func (l *RequestLog) begin() (number, inFlight int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.started++
	l.inFlight++
	l.maxInFlight = max(l.maxInFlight, l.inFlight)
	return l.started, l.inFlight
}

func (l *RequestLog) end(r Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inFlight--
	l.latest = append(l.latest, r)
	if n := len(l.latest); n > l.size {
		l.latest = l.latest[n-l.size:]
	}
}

// Started is the number of requests that have arrived.
func (l *RequestLog) Started() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.started
}

// Total is the number of requests that have ended.
func (l *RequestLog) Total() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.started - l.inFlight
}

// InFlight is the number of requests in flight, and the highest there has been.
func (l *RequestLog) InFlight() (now, highest int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.inFlight, l.maxInFlight
}

// Latest returns the latest requests, as many as are remembered, in the order in which they ended.
func (l *RequestLog) Latest() []Request {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.latest)
}
