package window

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"twilio_operations_exporter/twilio"
)

func TestManyUndocumentedStatuses(t *testing.T) {
	var names statusNames
	for i := range 1000 {
		want := twilio.Status(fmt.Sprint("STATUS_", i))
		if i >= maxUndocumented {
			want = twilio.StatusOther
		}
		if got := names.fold(twilio.Status(fmt.Sprint("STATUS_", i))); got != want {
			t.Fatalf("STATUS_%d counts as %s, want %s", i, got, want)
		}
	}
	for _, s := range []twilio.Status{"SCHEDULED", "CANCELED", "STATUS_0", "STATUS_15", "other"} {
		if got := names.fold(s); got != s {
			t.Errorf("%s counts as %s", s, got)
		}
	}
	if got := names.fold("anything"); got != twilio.StatusOther {
		t.Errorf("the 17th counts as %s", got)
	}
}

// A failing operation is named under the status under which it counts, also where a list has more of them than have names.
func TestFailingOfManyStatuses(t *testing.T) {
	m := minuteOf(noon)
	for range 20 { // the minutes of a list are in no order
		f := newAt(2 * time.Minute)
		var ops []twilio.Operation
		for i := range maxUndocumented + 1 {
			last := i == maxUndocumented
			op := operation(strconv.Itoa(i), noon.Add(-time.Minute), twilio.Status(fmt.Sprint("STATUS_", i)), 100)
			if last {
				op.CreatedAt = noon
				op.Stats[twilio.Failed] = 50
			}
			ops = append(ops, op)
		}
		f.readsSpan(nil, 1, span{m - 1, m + 1}, ops...)

		failing := f.w.at(m).get().failing
		if len(failing) != 1 || failing[0].Status != twilio.StatusOther {
			t.Fatalf("%d failing operations, the first %s, want 1 that is other", len(failing), failing[0].Status)
		}
	}
}

// Where another list took the last name meanwhile, a failing operation is named as it counts.
func TestFailingOfAStatusWithoutAName(t *testing.T) {
	m := minuteOf(noon)
	f := newAt(2 * time.Minute)
	late := &reading{findings: newFindings(1), span: span{m, m + 1}, farthest: farthest}
	for i := range maxUndocumented {
		f.w.statuses.fold(twilio.Status(fmt.Sprint("STATUS_", i)))
	}
	op := operation("a", noon, "PAUSED", 100)
	op.Stats[twilio.Failed] = 50
	late.add(&op, noon)
	f.w.apply(late, false, time.Minute)

	c := f.w.at(m).get()
	if done, failing := c.done[0].status, c.failing[0].Status; done != twilio.StatusOther || failing != done {
		t.Errorf("counts as %s, named as %s, want other", done, failing)
	}
}

func TestFailing(t *testing.T) {
	for _, tt := range []struct {
		total, failed, undelivered int64
		want                       bool
	}{
		{100, 10, 0, true},
		{100, 0, 10, true},
		{100, 5, 5, true},
		{100, 9, 0, false},
		{99, 99, 0, false},
		{109, 10, 0, false},
		{110, 10, 1, true},
		{0, 0, 0, false},
	} {
		if got := Failing(&twilio.Stats{twilio.Total: tt.total, twilio.Failed: tt.failed, twilio.Undelivered: tt.undelivered}); got != tt.want {
			t.Errorf("%+v: failing %t", tt, got)
		}
	}
}
