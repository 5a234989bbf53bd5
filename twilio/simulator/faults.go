package simulator

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"twilio_operations_exporter/twilio"
)

// FaultKind is a way in which a request fails.
type FaultKind string

// Kinds of faults.
const (
	FaultStatus      FaultKind = "status"       // another HTTP status: Status, RetryAfter, Location
	FaultLatency     FaultKind = "latency"      // an answer that takes Latency longer; goes with other faults
	FaultReset       FaultKind = "reset"        // the connection is reset
	FaultHang        FaultKind = "hang"         // no answer until the client gives up or the handler is closed
	FaultStall       FaultKind = "stall"        // half an answer, and no more until then
	FaultTruncated   FaultKind = "truncated"    // half an answer, and the end of the connection
	FaultHTML        FaultKind = "html"         // 200 with a page for people
	FaultNotJSON     FaultKind = "not_json"     // 200 with broken JSON
	FaultShape       FaultKind = "shape"        // 200 with JSON of another shape
	FaultField       FaultKind = "field"        // Field is missing from the answer, or is Value
	FaultHuge        FaultKind = "huge"         // 200 with a body of Size bytes, streamed
	FaultRepeatToken FaultKind = "repeat_token" // the next token is the page's own
	FaultEndless     FaultKind = "endless"      // a next token on every page, always another
)

// FaultKinds are all kinds.
func FaultKinds() []FaultKind {
	return []FaultKind{
		FaultStatus, FaultLatency, FaultReset, FaultHang, FaultStall, FaultTruncated, FaultHTML,
		FaultNotJSON, FaultShape, FaultField, FaultHuge, FaultRepeatToken, FaultEndless,
	}
}

// Fault makes some requests fail. Of several that fit a request the first
// added counts, while latencies add up.
type Fault struct {
	Kind FaultKind

	// Which requests: all conditions must hold.
	Endpoint twilio.Endpoint          // "": both
	Query    string                   // such as "status=PROCESSING": these values are among the request's
	Match    func(*http.Request) bool // nil: all
	From, To time.Time                // by the handler's clock; zero: always, for ever
	Skip     int                      // not the first so many of those that fit
	Every    int                      // then every so manyth of them; 0: each
	Count    int                      // then only so many; 0: until removed

	// What happens.
	Status         int           // with FaultStatus
	RetryAfter     time.Duration // adds the header; rounded up to seconds
	RetryAfterDate bool          // as an HTTP date by the handler's clock
	RetryAfterRaw  string        // adds the header as it is here, however wrong
	Location       string        // adds the header
	Latency        time.Duration // with FaultLatency
	Field          string        // with FaultField: such as "id", "delivered", "createdAt" of the first operation, "next", "operations"
	Value          string        // JSON; "" leaves the field out
	Size           int64         // with FaultHuge; 0: 65 MiB
}

func (f *Fault) validate() error {
	if !slices.Contains(FaultKinds(), f.Kind) {
		return fmt.Errorf("fault kind %q is none of %q", f.Kind, FaultKinds())
	}
	if _, err := url.ParseQuery(f.Query); err != nil {
		return fmt.Errorf("fault query %q: %w", f.Query, err)
	}
	switch {
	case f.Skip < 0 || f.Every < 0 || f.Count < 0 || f.Size < 0 || f.Latency < 0 || f.RetryAfter < 0:
		return fmt.Errorf("fault %q has a negative number", f.Kind)
	case f.Endpoint != "" && f.Endpoint != twilio.EndpointList && f.Endpoint != twilio.EndpointFetch:
		return fmt.Errorf("fault endpoint %q is neither %q nor %q", f.Endpoint, twilio.EndpointList, twilio.EndpointFetch)
	case f.Kind == FaultStatus && (f.Status < 200 || f.Status > 599):
		return fmt.Errorf("fault status %d is not from 200 to 599", f.Status)
	case f.Kind == FaultLatency && f.Latency == 0:
		return fmt.Errorf("fault %q needs a latency", f.Kind)
	case f.Kind == FaultField && f.Field == "":
		return fmt.Errorf("fault %q needs a field", f.Kind)
	case f.Value != "" && !json.Valid([]byte(f.Value)):
		return fmt.Errorf("fault value %q is no JSON", f.Value)
	}
	return nil
}

// Faults are those of a handler. They can be switched at any time.
type Faults struct {
	mu   sync.Mutex
	last int
	list []*activeFault
}

type activeFault struct {
	Fault
	number int
	query  url.Values
	seen   int // requests that fitted
	hit    int
}

// NumberedFault is a fault with the number that removes it, and how often it
// has struck.
type NumberedFault struct {
	Number int
	Struck int
	Fault
}

// Add switches a fault on. It returns the number by which to remove it, or
// what is wrong with it.
func (s *Faults) Add(f Fault) (int, error) {
	if err := f.validate(); err != nil {
		return 0, err
	}
	query, err := url.ParseQuery(f.Query)
	if err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last++
	s.list = append(s.list, &activeFault{Fault: f, number: s.last, query: query})
	return s.last, nil
}

// MustAdd is Add for faults that are known to be right; it panics when one is
// not.
func (s *Faults) MustAdd(f Fault) int {
	number, err := s.Add(f)
	if err != nil {
		panic(err)
	}
	return number
}

// Remove switches a fault off; false if there is none of this number.
func (s *Faults) Remove(number int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.list)
	s.list = slices.DeleteFunc(s.list, func(f *activeFault) bool { return f.number == number })
	return len(s.list) < before
}

// Clear switches all faults off.
func (s *Faults) Clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = nil
}

// List returns the faults that have not been removed, those used up included.
func (s *Faults) List() []NumberedFault {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]NumberedFault, len(s.list))
	for i, f := range s.list {
		list[i] = NumberedFault{Number: f.number, Struck: f.hit, Fault: f.Fault}
	}
	return list
}

// pick is what happens to a request.
func (s *Faults) pick(endpoint twilio.Endpoint, r *http.Request, now time.Time) (fault *Fault, latency time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.list) == 0 {
		return nil, 0
	}
	query := r.URL.Query()
	for _, f := range s.list {
		if fault != nil && f.Kind != FaultLatency || !f.strikes(endpoint, r, query, now) {
			continue
		}
		if f.Kind == FaultLatency {
			latency += f.Latency
			continue
		}
		chosen := f.Fault
		fault = &chosen
	}
	return fault, latency
}

func (f *activeFault) strikes(endpoint twilio.Endpoint, r *http.Request, query url.Values, now time.Time) bool {
	if f.Endpoint != "" && f.Endpoint != endpoint ||
		f.Match != nil && !f.Match(r) ||
		!f.From.IsZero() && now.Before(f.From) ||
		!f.To.IsZero() && !now.Before(f.To) ||
		f.Count > 0 && f.hit >= f.Count {
		return false
	}
	for name, values := range f.query {
		for _, v := range values {
			if !slices.Contains(query[name], v) {
				return false
			}
		}
	}
	f.seen++
	if f.seen <= f.Skip || f.Every > 0 && (f.seen-f.Skip)%f.Every != 0 {
		return false
	}
	f.hit++
	return true
}
