package simulator

import (
	"cmp"
	"iter"
	"slices"
	"sync"
	"time"

	"twilio_operations_exporter/twilio"
)

// Source is what a Handler lists. It is safe for concurrent use.
type Source interface {
	// List yields the operations that the filter selects, as they stand at now, by creation and, within one instant, by
	// id; or backwards.
	List(now time.Time, f Filter, newestFirst bool) iter.Seq[twilio.Operation]
	// Operation finds one operation as it stands at now.
	Operation(now time.Time, id string) (twilio.Operation, bool)
}

// Filter selects operations. Its zero value selects all.
type Filter struct {
	From   time.Time // created at this time or later
	To     time.Time // created before this time
	Status twilio.Status
}

// Static is a Source whose operations change by Update alone.
type Static struct {
	mu  sync.Mutex
	ops []twilio.Operation // sorted; replaced, never written to
}

// NewStatic returns a source of these operations, whose ids differ.
func NewStatic(ops ...twilio.Operation) *Static {
	return &Static{ops: slices.SortedFunc(slices.Values(ops), func(a, b twilio.Operation) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})}
}

// Update changes the operation of this id, but for its id and creation.
func (s *Static) Update(id string, change func(*twilio.Operation)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ops = slices.Clone(s.ops)
	for i := range s.ops {
		if s.ops[i].ID == id {
			change(&s.ops[i])
		}
	}
}

// List implements Source. The time does not matter.
func (s *Static) List(_ time.Time, f Filter, newestFirst bool) iter.Seq[twilio.Operation] {
	return func(yield func(twilio.Operation) bool) {
		s.mu.Lock()
		ops := slices.All(s.ops)
		if newestFirst {
			ops = slices.Backward(s.ops)
		}
		s.mu.Unlock()
		for _, op := range ops {
			inTime := (f.From.IsZero() || !op.CreatedAt.Before(f.From)) && (f.To.IsZero() || op.CreatedAt.Before(f.To))
			if inTime && (f.Status == "" || op.Status == f.Status) && !yield(op) {
				return
			}
		}
	}
}

// Operation implements Source. The time does not matter.
func (s *Static) Operation(now time.Time, id string) (twilio.Operation, bool) {
	for op := range s.List(now, Filter{}, false) {
		if op.ID == id {
			return op, true
		}
	}
	return twilio.Operation{}, false
}
