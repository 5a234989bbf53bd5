package simulator

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"twilio_operations_exporter/twilio"
)

// FaultKind is what goes wrong with a request.
type FaultKind string

// The kinds of faults.
const (
	FaultStatus      FaultKind = "status"       // the HTTP status is Status, with RetryAfter
	FaultLatency     FaultKind = "latency"      // the answer takes Latency longer
	FaultDate        FaultKind = "date"         // the Date header is wrong by Offset
	FaultReset       FaultKind = "reset"        // the connection is closed without an answer
	FaultHang        FaultKind = "hang"         // there is no answer until the client gives up
	FaultHTML        FaultKind = "html"         // the answer is a 200 with an HTML page
	FaultRepeatToken FaultKind = "repeat_token" // the token of the next page is the page's own
)

var faultKinds = []FaultKind{FaultStatus, FaultLatency, FaultDate, FaultReset, FaultHang, FaultHTML, FaultRepeatToken}

var endpoints = []twilio.Endpoint{
	twilio.EndpointList, twilio.EndpointFetch, twilio.EndpointListMessages, twilio.EndpointFetchMessage,
}

// Fault makes some requests go wrong. If several match a request, the one added first applies.
type Fault struct {
	Kind FaultKind `json:"kind"`

	// Which requests it applies to. All conditions must hold.
	Endpoint twilio.Endpoint `json:"endpoint"` // "" = all
	Every    int             `json:"every"`    // every n-th request to the endpoint; 0 = each
	Count    int             `json:"count"`    // only the first n of these; 0 = all

	// What happens.
	Status     int           `json:"status"`     // for FaultStatus
	RetryAfter time.Duration `json:"retryAfter"` // for FaultStatus: adds the header, rounded up to seconds
	Latency    time.Duration `json:"latency"`    // before the answer, for any kind
	Offset     time.Duration `json:"offset"`     // of the Date header, for any kind; positive = ahead

	matched, struck int // number of requests to the endpoint, and of those that it was applied to
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

// Faults are the faults of a handler. They can be added and removed at any time.
type Faults struct {
	mu   sync.Mutex
	list []*Fault
}

// Add adds a fault. If it is invalid, the error names the field.
func (s *Faults) Add(f Fault) error {
	err := f.validate()
	if err != nil {
		return err
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, &f)
	return nil
}

// MustAdd is Add for faults known to be valid. It panics if one is not.
func (s *Faults) MustAdd(f Fault) { must(f, s.Add(f)) }

// Clear removes all faults.
func (s *Faults) Clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = nil
}

// pick returns the fault to apply to a request, one with an empty Kind if there is none.
func (s *Faults) pick(endpoint twilio.Endpoint) Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.list {
		isOther := f.Endpoint != "" && f.Endpoint != endpoint
		isOver := f.Count > 0 && f.struck >= f.Count
		if isOther || isOver {
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
