package simulator

import (
	"cmp"
	"iter"
	"slices"
	"sync"
	"time"

	"twilio_operations_exporter/twilio"
)

// Source is what a Handler or a Pager lists. It is safe for concurrent use.
type Source interface {
	// List yields the operations that the filter lets through, as they stand
	// at now, in the order of creation and, within one instant, of id; or
	// backwards.
	List(now time.Time, f Filter, newestFirst bool) iter.Seq[twilio.Operation]
	// Operation finds one operation as it stands at now.
	Operation(now time.Time, id string) (twilio.Operation, bool)
}

// Filter selects operations. Its zero value lets everything through.
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

// Sum is what the operations of one status add up to.
type Sum struct {
	Operations int64
	Stats      twilio.Stats
}

// Sums are a Sum for each status that occurs.
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

// Static is a Source whose operations stand still until somebody changes them.
type Static struct {
	mu  sync.Mutex
	ops []twilio.Operation // sorted; replaced, never written to
}

// NewStatic returns a source of these operations. Of several with one id the
// last one counts.
func NewStatic(ops ...twilio.Operation) *Static {
	s := &Static{}
	s.Set(ops...)
	return s
}

// Set adds operations, or replaces those of the same id.
func (s *Static) Set(ops ...twilio.Operation) {
	byID := make(map[string]twilio.Operation, len(ops))
	for _, op := range ops {
		byID[op.ID] = op
	}
	s.replace(func(old []twilio.Operation) []twilio.Operation {
		kept := make([]twilio.Operation, 0, len(old)+len(byID))
		for _, op := range old {
			if _, changed := byID[op.ID]; !changed {
				kept = append(kept, op)
			}
		}
		for _, op := range byID {
			kept = append(kept, op)
		}
		return kept
	})
}

// Update changes one operation; false if there is none of this id.
func (s *Static) Update(id string, change func(*twilio.Operation)) bool {
	found := false
	s.replace(func(old []twilio.Operation) []twilio.Operation {
		ops := slices.Clone(old)
		for i := range ops {
			if ops[i].ID == id {
				change(&ops[i])
				found = true
			}
		}
		return ops
	})
	return found
}

// Remove forgets operations.
func (s *Static) Remove(ids ...string) {
	s.replace(func(old []twilio.Operation) []twilio.Operation {
		return slices.DeleteFunc(slices.Clone(old), func(op twilio.Operation) bool {
			return slices.Contains(ids, op.ID)
		})
	})
}

func (s *Static) replace(change func([]twilio.Operation) []twilio.Operation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ops := change(s.ops)
	slices.SortFunc(ops, func(a, b twilio.Operation) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	s.ops = ops
}

func (s *Static) snapshot() []twilio.Operation {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ops
}

// List implements Source. The time does not matter.
func (s *Static) List(_ time.Time, f Filter, newestFirst bool) iter.Seq[twilio.Operation] {
	return func(yield func(twilio.Operation) bool) {
		ops := s.snapshot()
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

// Operation implements Source.
func (s *Static) Operation(_ time.Time, id string) (twilio.Operation, bool) {
	ops := s.snapshot()
	i := slices.IndexFunc(ops, func(op twilio.Operation) bool { return op.ID == id })
	if i < 0 {
		return twilio.Operation{}, false
	}
	return ops[i], true
}

// Operations yields all operations created in [from, to), the oldest first.
func (s *Static) Operations(from, to time.Time) iter.Seq[twilio.Operation] {
	return s.List(time.Time{}, Filter{From: from, To: to}, false)
}

// Sums adds up the operations created in [from, to).
func (s *Static) Sums(from, to time.Time) Sums {
	return SumOf(s.Operations(from, to))
}
