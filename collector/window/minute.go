package window

import (
	"math"
	"slices"
	"time"

	"twilio_operations_exporter/twilio"
)

// minute numbers the minutes since the Unix epoch, in UTC.
type minute int64

func minuteOf(t time.Time) minute { return minute(t.Truncate(time.Minute).Unix() / 60) }

func (m minute) time() time.Time { return time.Unix(int64(m)*60, 0).UTC() }

// span is a run of minutes, from ≤ m < to.
type span struct{ from, to minute }

// open is the end of a span that has none.
const open = minute(math.MaxInt64)

func (s span) holds(m minute) bool { return m >= s.from && m < s.to }

// Totals sum operations.
type Totals struct {
	Operations int64
	Failing    int64 // those for which [Failing] holds
	Stats      twilio.Stats
}

func (t *Totals) add(s *twilio.Stats) {
	t.Operations++
	if Failing(s) {
		t.Failing++
	}
	t.Stats.Add(s)
}

func (t *Totals) merge(o *Totals) {
	t.Operations += o.Operations
	t.Failing += o.Failing
	t.Stats.Add(&o.Stats)
}

// An operation is failing if it has at least 100 messages of which at least one in 10 failed or is undelivered.
const (
	FailingMinMessages = 100
	FailingOneIn       = 10
)

// Failing reports whether an operation of these stats is failing.
func Failing(s *twilio.Stats) bool {
	return s[twilio.Total] >= FailingMinMessages && Lost(s) >= s[twilio.Total]/FailingOneIn+min(1, s[twilio.Total]%FailingOneIn)
}

// Lost is the number of messages of an operation that failed or are undelivered.
func Lost(s *twilio.Stats) int64 {
	return twilio.AddSaturating(s[twilio.Failed], s[twilio.Undelivered])
}

// statusTotals are the totals of one status.
type statusTotals struct {
	status twilio.Status
	Totals
}

// byStatus holds the statuses that occur, and no others.
type byStatus []statusTotals

func (b *byStatus) of(status twilio.Status) *Totals {
	for i := range *b {
		if (*b)[i].status == status {
			return &(*b)[i].Totals
		}
	}
	*b = append(*b, statusTotals{status: status})
	return &(*b)[len(*b)-1].Totals
}

const maxUndocumented = 16

var documented = []twilio.Status{
	twilio.StatusScheduled, twilio.StatusProcessing, twilio.StatusCompleted, twilio.StatusCanceled,
}

// statusNames are the undocumented statuses that count under their own name: the first that are met.
type statusNames []twilio.Status

// fold returns the status under which an operation counts.
func (n *statusNames) fold(s twilio.Status) twilio.Status {
	if slices.Contains(documented, s) || s == twilio.StatusOther {
		return s
	}
	switch i := slices.Index(*n, s); {
	case i >= 0:
		return (*n)[i]
	case len(*n) == maxUndocumented:
		return twilio.StatusOther
	}
	*n = append(*n, s)
	return s
}
