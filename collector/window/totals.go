package window

import (
	"slices"

	"twilio_operations_exporter/twilio"
)

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
	messages := s[twilio.Total]
	atLeast := messages/FailingOneIn + min(1, messages%FailingOneIn)
	return messages >= FailingMinMessages && Lost(s) >= atLeast
}

// Lost is the number of messages of an operation that will not arrive: they failed or are undelivered.
func Lost(s *twilio.Stats) (n int64) {
	for _, stat := range lostStats {
		n = twilio.AddSaturating(n, s[stat])
	}
	return n
}

// lostStats are the stats of messages that will not arrive.
var lostStats = func() (stats []twilio.Stat) {
	for stat, row := range twilio.MessageStats {
		if row.Lost {
			stats = append(stats, twilio.Stat(stat))
		}
	}
	return stats
}()

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

// under returns the totals under the names that statuses have there.
func (b byStatus) under(names *statusNames) byStatus {
	differs := func(t statusTotals) bool { return names.fold(t.status) != t.status }
	if !slices.ContainsFunc(b, differs) {
		return b
	}

	var renamed byStatus
	for i := range b {
		renamed.of(names.fold(b[i].status)).merge(&b[i].Totals)
	}
	return renamed
}

// maxUndocumented is how many statuses that nobody has documented count under their own name; the rest are one status.
const maxUndocumented = 16

var documented = []twilio.Status{
	twilio.StatusScheduled, twilio.StatusProcessing, twilio.StatusCompleted, twilio.StatusCanceled,
}

// liveStatuses are the documented statuses of operations in flight.
var liveStatuses = documented[:2]

// statusNames are the undocumented statuses that count under their own name: the first that are met.
type statusNames []twilio.Status

// fold returns the status under which an operation counts.
func (n *statusNames) fold(s twilio.Status) twilio.Status {
	if slices.Contains(documented, s) || s == twilio.StatusOther {
		return s
	}
	if i := slices.Index(*n, s); i >= 0 {
		return (*n)[i]
	}
	if len(*n) == maxUndocumented {
		return twilio.StatusOther
	}

	*n = append(*n, s)
	return s
}
