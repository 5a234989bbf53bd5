package simulator

import (
	"maps"
	"net/url"
	"slices"
	"sync"
	"time"

	"twilio_operations_exporter/twilio"
)

// Request is one that a Handler has answered, or failed to.
type Request struct {
	Number     int // from 1, in the order in which they came
	Time       time.Time
	Method     string
	Path       string
	Query      url.Values
	Endpoint   twilio.Endpoint // "" for a path that is none
	User       string          // of Basic authentication; the password is not kept
	Code       int             // 0: none was sent
	Fault      FaultKind       // "" without
	Operations int             // on the page
	Bytes      int64           // of the body, as sent
	Duration   time.Duration
}

// RequestKey is what requests are counted by.
type RequestKey struct {
	Endpoint twilio.Endpoint
	Code     int
}

// RequestLog counts requests and remembers the latest of them. It is safe for
// concurrent use.
type RequestLog struct {
	mu          sync.Mutex
	size        int
	latest      []Request // a ring once full
	counts      map[RequestKey]int
	ended       int
	started     int
	inFlight    int
	maxInFlight int
	bytes       int64
	changed     chan struct{} // closed at each end of a request
}

func newRequestLog(size int) *RequestLog {
	return &RequestLog{size: size, counts: map[RequestKey]int{}, changed: make(chan struct{})}
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
	l.counts[RequestKey{r.Endpoint, r.Code}]++
	l.bytes += r.Bytes
	if l.size > 0 {
		if len(l.latest) < l.size {
			l.latest = append(l.latest, r)
		} else {
			l.latest[l.ended%l.size] = r
		}
	}
	l.ended++
	close(l.changed)
	l.changed = make(chan struct{})
}

// Started is the number of requests that have come.
func (l *RequestLog) Started() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.started
}

// Total is the number of requests that have ended.
func (l *RequestLog) Total() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ended
}

// Count is the number of requests that have ended with this status, of one
// endpoint or, for "", of all.
func (l *RequestLog) Count(endpoint twilio.Endpoint, code int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for k, c := range l.counts {
		if k.Code == code && (endpoint == "" || k.Endpoint == endpoint) {
			n += c
		}
	}
	return n
}

// Counts are all of them.
func (l *RequestLog) Counts() map[RequestKey]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.counts)
}

// Bytes is what the bodies added up to, as sent.
func (l *RequestLog) Bytes() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bytes
}

// InFlight is the number of requests under way, and the highest there has been.
func (l *RequestLog) InFlight() (now, highest int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.inFlight, l.maxInFlight
}

// Latest returns the latest requests, as many as are remembered, in the order
// in which they ended.
func (l *RequestLog) Latest() []Request {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.latest) < l.size || l.size == 0 {
		return slices.Clone(l.latest)
	}
	i := l.ended % l.size
	return slices.Concat(l.latest[i:], l.latest[:i])
}

// Changed returns a channel that is closed when the next request ends, for
// tests that wait for one.
func (l *RequestLog) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}

// Reset forgets what has ended; requests under way stay so.
func (l *RequestLog) Reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.latest, l.counts = nil, map[RequestKey]int{}
	l.started, l.ended, l.maxInFlight, l.bytes = l.inFlight, 0, l.inFlight, 0
}
