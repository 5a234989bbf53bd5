package simulator

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"twilio_operations_exporter/twilio"
)

// FaultKind is a way in which a request fails.
type FaultKind string

// Kinds of faults.
const (
	FaultStatus      FaultKind = "status"       // another HTTP status: Status, RetryAfter
	FaultLatency     FaultKind = "latency"      // the answer takes Latency longer
	FaultDate        FaultKind = "date"         // the Date header is wrong by Offset
	FaultReset       FaultKind = "reset"        // the connection is closed without an answer
	FaultHang        FaultKind = "hang"         // no answer until the client gives up
	FaultHTML        FaultKind = "html"         // 200 with an HTML page
	FaultRepeatToken FaultKind = "repeat_token" // the next token is the page's own
)

var faultKinds = []FaultKind{FaultStatus, FaultLatency, FaultDate, FaultReset, FaultHang, FaultHTML, FaultRepeatToken}

var endpoints = []twilio.Endpoint{
	twilio.EndpointList, twilio.EndpointFetch, twilio.EndpointListMessages, twilio.EndpointFetchMessage,
}

// Fault makes some requests fail. Of several that match a request the first added counts.
type Fault struct {
	Kind FaultKind `json:"kind"`

	// Which requests: all conditions must hold.
	Endpoint twilio.Endpoint `json:"endpoint"` // "": all
	Every    int             `json:"every"`    // every n-th that matches; 0: each
	Count    int             `json:"count"`    // then only n of these; 0: all

	// What happens.
	Status     int           `json:"status"`     // with FaultStatus
	RetryAfter time.Duration `json:"retryAfter"` // with FaultStatus, adds the header; rounded up to seconds
	Latency    time.Duration `json:"latency"`    // before the answer, with any kind
	Offset     time.Duration `json:"offset"`     // of the Date header, with any kind; positive: ahead

	matched, struck int // number of requests that it could have been applied to, and was
}

func (f *Fault) validate() error {
	switch {
	case !slices.Contains(faultKinds, f.Kind):
		return fmt.Errorf("fault kind %q is none of %q", f.Kind, faultKinds)
	case f.Every < 0 || f.Count < 0 || f.Latency < 0 || f.RetryAfter < 0:
		return fmt.Errorf("fault %q has a negative number", f.Kind)
	case f.Endpoint != "" && !slices.Contains(endpoints, f.Endpoint):
		return fmt.Errorf("fault endpoint %q is none of %q", f.Endpoint, endpoints)
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

// pick says what happens to a request: a fault with a zero Kind where nothing does.
func (s *Faults) pick(endpoint twilio.Endpoint) Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.list {
		if f.Endpoint != "" && f.Endpoint != endpoint || f.Count > 0 && f.struck >= f.Count {
			continue
		}
		f.matched++
		if f.Every == 0 || f.matched%f.Every == 0 {
			f.struck++
			return *f
		}
	}
	return Fault{}
}
