package window

import (
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"twilio_operations_exporter/twilio"
)

// minute numbers the minutes since the Unix epoch, in UTC.
type minute int64

func minuteOf(t time.Time) minute {
	s := t.Unix()
	if s < 0 {
		s -= 59 // round down before the epoch, too
	}
	return minute(s / 60)
}

func (m minute) time() time.Time { return time.Unix(int64(m)*60, 0).UTC() }

// span is a run of minutes, from ≤ m < to.
type span struct{ from, to minute }

// open is the end of a span that has none.
const open = minute(math.MaxInt64)

func (s span) holds(m minute) bool { return m >= s.from && m < s.to }

// totals sums operations.
type totals struct {
	operations int64
	failing    int64
	stats      twilio.Stats
}

func (t *totals) add(s *twilio.Stats) {
	t.operations++
	if Failing(s) {
		t.failing++
	}
	t.stats.Add(s)
}

func (t *totals) merge(o *totals) {
	t.operations += o.operations
	t.failing += o.failing
	t.stats.Add(&o.stats)
}

// An operation fails as a campaign when it is large enough to judge and a tenth of it did not arrive.
const (
	FailingMinMessages = 100
	FailingOneIn       = 10
)

// Failing reports whether an operation has at least 100 messages of which at least 10% failed or are undelivered.
func Failing(s *twilio.Stats) bool {
	return s.Total >= FailingMinMessages && Lost(s) >= s.Total/FailingOneIn+min(1, s.Total%FailingOneIn)
}

// Lost is the number of messages of an operation that failed or are undelivered.
func Lost(s *twilio.Stats) int64 { return twilio.AddSaturating(s.Failed, s.Undelivered) }

// statusTotals are the totals of one status.
type statusTotals struct {
	status twilio.Status
	totals
}

// byStatus holds the statuses that occur, and no others.
type byStatus []statusTotals

func (b *byStatus) of(status twilio.Status) *totals {
	for i := range *b {
		if (*b)[i].status == status {
			return &(*b)[i].totals
		}
	}
	*b = append(*b, statusTotals{status: status})
	return &(*b)[len(*b)-1].totals
}

const (
	maxUndocumented = 16
	statusOther     = twilio.Status("other")
)

var documented = []twilio.Status{
	twilio.StatusScheduled, twilio.StatusProcessing, twilio.StatusCompleted, twilio.StatusCanceled,
}

// statusNames bounds the statuses told apart: the documented ones, and the first undocumented ones that are met.
// It is safe for concurrent use.
type statusNames struct {
	mu           sync.Mutex
	undocumented []twilio.Status
}

// fold returns the status under which an operation counts.
func (n *statusNames) fold(s twilio.Status) twilio.Status {
	if slices.Contains(documented, s) || s == statusOther {
		return s
	}
	// A label must be valid UTF-8.
	s = twilio.Status(strings.Clone(strings.ToValidUTF8(string(s), "\uFFFD")))
	n.mu.Lock()
	defer n.mu.Unlock()
	switch i := slices.Index(n.undocumented, s); {
	case i >= 0:
		return n.undocumented[i]
	case len(n.undocumented) == maxUndocumented:
		return statusOther
	}
	n.undocumented = append(n.undocumented, s)
	return s
}
