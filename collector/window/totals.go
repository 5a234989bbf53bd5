package window

import (
	"slices"

	"twilio_operations_exporter/twilio"
)

// Totals are sums over operations.
type Totals struct {
	Operations int64
	Failing    int64 // those for which [Failing] holds
	Stats      twilio.Stats
}

// add takes in an operation of these stats.
func (t *Totals) add(s *twilio.Stats) {
	t.Operations++
	if Failing(s) {
		t.Failing++
	}
	t.Stats.Add(s)
}

// merge takes in other totals.
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
	share := messages/FailingOneIn + min(1, messages%FailingOneIn) // rounded up
	return messages >= FailingMinMessages && Lost(s) >= share
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

// byStatus are the totals of the statuses that occur, and of no others.
type byStatus []statusTotals

// of returns the totals of a status, which occurs from now on.
func (b *byStatus) of(status twilio.Status) *Totals {
	for i := range *b {
		if (*b)[i].status == status {
			return &(*b)[i].Totals
		}
	}
	*b = append(*b, statusTotals{status: status})
	return &(*b)[len(*b)-1].Totals
}

// operations is how many operations there are.
func (b byStatus) operations() (n int64) {
	for i := range b {
		n += b[i].Operations
	}
	return n
}

// under returns the totals by the statuses under which they count.
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

// maxUndocumented is how many undocumented statuses count under their own name. The rest count as StatusOther.
const maxUndocumented = 16

var documented = []twilio.Status{
	twilio.StatusScheduled, twilio.StatusProcessing, twilio.StatusCompleted, twilio.StatusCanceled,
}

// liveStatuses are the documented statuses of operations in flight.
var liveStatuses = documented[:2]

// statusNames are the undocumented statuses that count under their own name: the first that occur.
type statusNames []twilio.Status

// fold returns the status under which operations of a status count. It gives an undocumented one a name of its own while
// there are any left.
func (n *statusNames) fold(s twilio.Status) twilio.Status {
	if n.contains(s) {
		return s
	}
	if len(*n) == maxUndocumented {
		return twilio.StatusOther
	}
	*n = append(*n, s)
	return s
}

// contains reports whether operations of a status count under its own name.
func (n *statusNames) contains(s twilio.Status) bool {
	return slices.Contains(documented, s) || s == twilio.StatusOther || slices.Contains(*n, s)
}
