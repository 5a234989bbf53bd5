package window

import (
	"maps"
	"slices"
	"testing"

	"twilio_operations_exporter/twilio"
)

// restarted is the window of a program that starts with what another has left.
func restarted(t *testing.T, old *Window) *Window {
	t.Helper()
	w := New(old.options)
	old.clock.read()
	w.clock.now, w.clock.lastWall = old.clock.now, old.clock.lastWall
	w.statuses, w.first = slices.Clone(old.statuses), old.first
	w.number, w.pageSize, w.maxPages, w.churn, w.lost = old.number, old.pageSize, old.maxPages, old.churn, old.lost
	w.unfiltered, w.published, w.newest, w.grown = old.unfiltered, old.published, old.newest, old.grown
	w.snapshot = old.snapshot
	w.readReplacesDelivered, w.readKeepsDelivered = old.readReplacesDelivered, old.readKeepsDelivered
	for i := range old.buckets {
		b := old.buckets[i]
		if b.contents != nil {
			c := *b.contents
			c.done, c.failing, c.inFlight = slices.Clone(c.done), slices.Clone(c.failing), maps.Clone(c.inFlight)
			for id, op := range c.inFlight {
				c.inFlight[id] = inFlight{Operation: &twilio.Operation{ID: id, Status: op.Status}}
			}
			if c.peak != nil {
				p := *c.peak
				c.peak = &p
			}
			b.contents = &c
		}
		w.buckets = append(w.buckets, b)
	}
	return w
}
