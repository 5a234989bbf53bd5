package simulator

import (
	"cmp"
	"iter"
	"maps"
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

func (f Filter) match(op *twilio.Operation) bool {
	return (f.Status == "" || op.Status == f.Status) &&
		(f.From.IsZero() || !op.CreatedAt.Before(f.From)) &&
		(f.To.IsZero() || op.CreatedAt.Before(f.To))
}

// Sum is the sum of the operations of one status.
type Sum struct {
	Operations int64
	Stats      twilio.Stats
}

// Sums has a Sum for each status that occurs.
type Sums map[twilio.Status]Sum

// SumOf adds operations up, each as often as it comes.
func SumOf(ops iter.Seq[twilio.Operation]) Sums {
	sums := Sums{}
	for op := range ops {
		s := sums[op.Status]
		s.Operations++
		s.Stats.Add(&op.Stats)
		sums[op.Status] = s
	}
	return sums
}

// Static is a Source whose operations change by Set and Update alone.
type Static struct {
	mu  sync.Mutex
	ops []twilio.Operation // sorted; replaced, never written to
}

// NewStatic returns a source of these operations. Of several with one id the last one counts.
func NewStatic(ops ...twilio.Operation) *Static {
	s := &Static{}
	s.Set(ops...)
	return s
}

// Set adds operations, or replaces those of the same id.
func (s *Static) Set(ops ...twilio.Operation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	byID := make(map[string]twilio.Operation, len(s.ops)+len(ops))
	for _, op := range slices.Concat(s.ops, ops) {
		byID[op.ID] = op
	}
	s.ops = slices.SortedFunc(maps.Values(byID), func(a, b twilio.Operation) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
}

// Update changes one operation; false if there is none of this id.
func (s *Static) Update(id string, change func(*twilio.Operation)) bool {
	op, ok := s.Operation(time.Time{}, id)
	if ok {
		change(&op)
		s.Set(op)
	}
	return ok
}

// List implements Source. The time does not matter.
func (s *Static) List(_ time.Time, f Filter, newestFirst bool) iter.Seq[twilio.Operation] {
	return func(yield func(twilio.Operation) bool) {
		s.mu.Lock()
		ops := s.ops
		s.mu.Unlock()
		for i := range ops {
			op := &ops[i]
			if newestFirst {
				op = &ops[len(ops)-1-i]
			}
			if f.match(op) && !yield(*op) {
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
