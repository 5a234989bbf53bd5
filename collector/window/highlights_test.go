package window

import (
	"slices"
	"testing"
	"time"

	"twilio_operations_exporter/twilio"
)

// A ranking has the first operations in its order, and of one id the best.
func TestRanking(t *testing.T) {
	type entry struct {
		id    string
		total int64
	}
	for _, tt := range []struct {
		name string
		n    int
		add  []entry
		want []entry
	}{
		{"none", 0, []entry{{"a", 1}}, nil},
		{"one", 1, []entry{{"a", 1}, {"b", 2}, {"c", 1}}, []entry{{"b", 2}}},
		{"fewer than there may be", 3, []entry{{"a", 1}, {"b", 2}}, []entry{{"b", 2}, {"a", 1}}},
		{"more than there may be", 2, []entry{{"a", 1}, {"b", 2}, {"c", 3}}, []entry{{"c", 3}, {"b", 2}}},
		{"equals", 2, []entry{{"c", 1}, {"b", 1}, {"a", 1}}, []entry{{"a", 1}, {"b", 1}}},
		{"the same", 2, []entry{{"a", 1}, {"a", 1}, {"b", 1}}, []entry{{"a", 1}, {"b", 1}}},
		{"an id that was better", 2, []entry{{"a", 3}, {"b", 2}, {"a", 1}}, []entry{{"a", 3}, {"b", 2}}},
		{"an id that is better", 2, []entry{{"a", 1}, {"b", 2}, {"a", 3}}, []entry{{"a", 3}, {"b", 2}}},
		{"an id that is better, of more", 3, []entry{{"b", 4}, {"a", 2}, {"c", 1}, {"a", 3}}, []entry{{"b", 4}, {"a", 3}, {"c", 1}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var r ranking
			for _, e := range tt.add {
				op := operation(e.id, noon, twilio.StatusCompleted, e.total)
				kept := r.add(&op, tt.n, bySize)
				if kept == &op || kept != nil && !slices.Contains(r, kept) {
					t.Errorf("%v: what is kept is no copy in the ranking", e)
				}
			}
			var got []entry
			for _, op := range r {
				got = append(got, entry{op.ID, op.Stats[twilio.Total]})
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}

// An operation whose creation changes is named once.
func TestNamedOnce(t *testing.T) {
	m := minuteOf(noon)
	f := newAt(2 * time.Minute)
	for i := range 2 {
		op := operation("a", noon.Add(-time.Duration(i)*time.Minute), twilio.StatusCompleted, 100)
		op.Stats[twilio.Failed] = 50
		f.reads(i+1, m-minute(i), op)
	}
	f.w.publish()
	if got := f.w.snapshotAt(noon, f.w.options, &highlights{}).Failing; len(got) != 1 {
		t.Errorf("%d operations are named, want 1", len(got))
	}
}
