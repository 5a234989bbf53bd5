package simulator

import (
	"cmp"
	"iter"
	"slices"
	"sync"
	"time"

	"twilio_operations_exporter/twilio"
)

// Source has the operations that a Handler serves. It must be safe for concurrent use.
type Source interface {
	// List yields the operations that the filter selects, as they are at the time now. They are sorted by creation time
	// and then by id, or in reverse.
	List(now time.Time, f Filter, newestFirst bool) iter.Seq[twilio.Operation]
	// Operation finds an operation by its id, as it is at the time now.
	Operation(now time.Time, id string) (twilio.Operation, bool)
}

// Filter selects operations. Its zero value selects all.
type Filter struct {
	From   time.Time // created at this time or later
	To     time.Time // created before this time
	Status twilio.Status
}

// selects reports whether the filter selects an operation.
func (f *Filter) selects(op *twilio.Operation) bool {
	isEarlier := !f.From.IsZero() && op.CreatedAt.Before(f.From)
	isLater := !f.To.IsZero() && !op.CreatedAt.Before(f.To)
	hasStatus := f.Status == "" || op.Status == f.Status
	return !isEarlier && !isLater && hasStatus
}

// Static is a Source whose operations change only by Update.
type Static struct {
	mu  sync.Mutex
	ops []twilio.Operation // sorted; replaced as a whole, as lists under way use it
}

// NewStatic returns a source of these operations, whose ids must differ.
func NewStatic(ops ...twilio.Operation) *Static {
	return &Static{ops: slices.SortedFunc(slices.Values(ops), func(a, b twilio.Operation) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})}
}

// Update changes the operation with this id. change must not change the id or the creation time.
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

// List implements Source. It ignores the time.
func (s *Static) List(_ time.Time, f Filter, newestFirst bool) iter.Seq[twilio.Operation] {
	return func(yield func(twilio.Operation) bool) {
		s.mu.Lock()
		ops := slices.All(s.ops)
		if newestFirst {
			ops = slices.Backward(s.ops)
		}
		s.mu.Unlock()

		for _, op := range ops {
			if f.selects(&op) && !yield(op) {
				return
			}
		}
	}
}

// Operation implements Source. It ignores the time.
func (s *Static) Operation(now time.Time, id string) (twilio.Operation, bool) {
	for op := range s.List(now, Filter{}, false) {
		if op.ID == id {
			return op, true
		}
	}
	return twilio.Operation{}, false
}
