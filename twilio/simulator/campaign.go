package simulator

import (
	"math"
	"time"

	"twilio_operations_exporter/twilio"
)

// campaign is one operation of a World: when it happens, and from that, at any
// time, how it stands. Times and lengths are in milliseconds.
//
// Numbers move in steps, ticks of them while it is processed and lateTicks
// after its end, and updatedAt is the time of the last step: whoever sees
// other numbers sees another updatedAt.
type campaign struct {
	w      *World
	random random
	index  int

	created    int64
	start      int64 // of processing
	processing int64 // how long it takes, untroubled and to the end
	lastTick   int64 // it is canceled at this tick if under ticks
	stuckAt    int64 // time of processing at which it gets stuck
	release    int64 // when it goes on after having been stuck
	end        int64 // COMPLETED or CANCELED from then on
	reopened   int64 // PROCESSING once more from then on, 0 if never
	final      int64 // for good
	canceledAt int64 // before the start

	scheduled, canceled bool
}

const (
	ticks     = 64
	lateTicks = 12
	groupSize = 3
)

func (c *campaign) status(at int64) twilio.Status {
	switch {
	case c.canceledAt != 0 && at >= c.canceledAt:
		return twilio.StatusCanceled
	case at < c.start:
		return twilio.StatusScheduled
	case at < c.end:
		return twilio.StatusProcessing
	case c.canceled:
		return twilio.StatusCanceled
	case c.reopened != 0 && at >= c.reopened && at < c.final:
		return twilio.StatusProcessing
	default:
		return twilio.StatusCompleted
	}
}

// tickTime is when the tick happens, as the stuck count time.
func (c *campaign) tickTime(tick int64) int64 {
	elapsed := c.processing * tick / ticks
	if elapsed > c.stuckAt {
		return c.release + elapsed - c.stuckAt
	}
	return c.start + elapsed
}

// tick is the last one that has happened, while processing.
func (c *campaign) tick(at int64) int64 {
	elapsed := at - c.start
	if elapsed > c.stuckAt {
		elapsed = max(c.stuckAt, c.stuckAt+at-c.release)
	}
	tick := min(elapsed*ticks/c.processing, c.lastTick)
	for tick < c.lastTick && c.tickTime(tick+1) <= at {
		tick++
	}
	for tick > 0 && c.tickTime(tick) > at {
		tick--
	}
	return tick
}

// lateTickTime is when the tick after the end happens: they grow rarer.
func (c *campaign) lateTickTime(tick int64) int64 {
	return c.end + c.w.later*tick*tick/(lateTicks*lateTicks)
}

func (c *campaign) lateTick(at int64) int64 {
	if c.w.later == 0 {
		return lateTicks
	}
	since := float64(at-c.end) / float64(c.w.later)
	tick := int64(min(1, math.Sqrt(since)) * lateTicks)
	for tick < lateTicks && c.lateTickTime(tick+1) <= at {
		tick++
	}
	for tick > 0 && c.lateTickTime(tick) > at {
		tick--
	}
	return tick
}

// operation is the campaign as it stands at a time not before its creation.
func (c *campaign) operation(at int64) twilio.Operation {
	stats, updated := c.stats(at)
	if c.reopened != 0 && at >= c.reopened {
		updated = max(updated, c.reopened)
		if at >= c.final {
			updated = max(updated, c.final)
		}
	}
	return twilio.Operation{
		ID:        c.id(),
		Status:    c.status(at),
		Stats:     stats,
		CreatedAt: time.UnixMilli(c.created).UTC(),
		UpdatedAt: time.UnixMilli(updated).UTC(),
	}
}

// outcome is how many messages end in one way, and how far they have come.
type outcome struct{ all, started, settled int64 }

func (c *campaign) stats(at int64) (s twilio.Stats, updated int64) {
	w := c.w
	r := newRandom(uint64(c.random), streamContent)
	s.Recipients = r.logBetween(w.recipients)
	s.Total = s.Recipients
	group := r.float() < w.s.GroupShare && s.Recipients > 1
	if group {
		s.Total = (s.Recipients + groupSize - 1) / groupSize
	}
	if at < c.start {
		if c.canceledAt != 0 && at >= c.canceledAt {
			s.Canceled = s.Total
			return s, c.canceledAt
		}
		s.Scheduled = s.Total
		return s, c.created
	}
	if c.canceledAt != 0 {
		s.Canceled = s.Total
		return s, c.canceledAt
	}

	rates := c.rates(&r)
	if !group {
		s.Unaddressable = share(&r, s.Recipients, rates.unaddressable)
	}
	sending := s.Total - s.Unaddressable
	var failed, undelivered, delivered outcome
	failed.all = share(&r, sending, rates.failed)
	undelivered.all = share(&r, sending-failed.all, rates.undelivered)
	delivered.all = sending - failed.all - undelivered.all
	late := min(0.5, w.s.LateShare*2*r.float())
	if w.later == 0 {
		late = 0
	}
	readShare := w.s.ReadShare * (0.5 + r.float()/2)
	fallback := 0.0
	if r.float() < w.s.FallbackShare && !group {
		fallback = r.float()
	}

	tick, after := c.lastTick, 0.0
	if at < c.end {
		tick = c.tick(at)
		updated = c.tickTime(tick)
	} else {
		t := c.lateTick(at)
		updated = max(c.end, c.lateTickTime(t))
		after = float64(t) / lateTicks
	}
	x := float64(tick) / ticks
	// A message is started before it is settled, whatever the rounding: both
	// are rounded alike, and the one share is never below the other.
	started := min(1, x/0.75)
	settled := max(0, (x-0.1)/0.9) * (1 - late)
	for _, o := range []*outcome{&failed, &undelivered, &delivered} {
		o.started = rounded(o.all, started)
		o.settled = rounded(o.all, settled)
		if at >= c.end {
			o.settled += rounded(o.started-o.settled, after)
		}
	}
	failed.settled = failed.started // fails on leaving the queue
	read := 0.3*x + (1-0.3*x)*after

	moved := failed.started + undelivered.started + delivered.started
	s.Attempts = moved + rounded(moved, fallback)
	s.Queued = sending - moved
	if c.canceled && at >= c.end {
		s.Canceled, s.Queued = s.Queued, 0
	}
	s.Sent = undelivered.started - undelivered.settled + delivered.started - delivered.settled
	s.Failed = failed.settled
	if group {
		// The reference's example: a group message that has been sent is
		// counted under no outcome, its receipts tell.
		return s, updated
	}
	s.Undelivered = undelivered.settled
	s.Read = rounded(delivered.settled, readShare*read)
	s.Delivered = delivered.settled
	if !w.s.DeliveredIncludesRead {
		s.Delivered -= s.Read
	}
	return s, updated
}

type rates struct{ failed, undelivered, unaddressable float64 }

// rates are what becomes of this campaign's messages, trouble included.
func (c *campaign) rates(r *random) rates {
	s := &c.w.s
	out := rates{
		failed:      min(1, s.FailedShare*2*r.float()),
		undelivered: min(1, s.UndeliveredShare*2*r.float()),
	}
	if r.float() < s.UnaddressableShare {
		out.unaddressable = 0.05 + 0.25*r.float()
	}
	if r.float() < s.BadShare {
		out.failed = 0.3
	}
	for _, t := range c.w.troubles() {
		if _, on := t.at(c.start); !on || !t.hits(c.random) {
			continue
		}
		switch t.Kind {
		case TroubleFailing:
			out.failed = max(out.failed, t.Rate)
		case TroubleUndelivered:
			out.undelivered = max(out.undelivered, t.Rate)
		case TroubleUnaddressable:
			out.unaddressable = max(out.unaddressable, t.Rate)
		case TroubleStuck: // a matter of time, see derive
		}
	}
	return out
}

// share is that part of n, rounded up or down by chance: of single messages,
// too, one in twenty fails at 0.05.
func share(r *random, n int64, part float64) int64 {
	return min(n, int64(float64(n)*part+r.float()))
}

// rounded grows with part, from 0 at 0 to n at 1.
func rounded(n int64, part float64) int64 {
	return int64(float64(n)*part + 0.5)
}

const (
	idPrefix   = "comms_operation_"
	idAlphabet = "0123456789abcdefghjkmnpqrstvwxyz"
	idTime     = 10 // characters of the time
	idIndex    = 5  // characters of the index within the minute
	idLength   = 26
)

// id is a ULID: the time of creation, and 80 bits that here begin with the
// index in the minute, so that ids sort as operations do, none occurs twice,
// and an operation is found by its id.
func (c *campaign) id() string {
	var b [len(idPrefix) + idLength]byte
	copy(b[:], idPrefix)
	ulid := b[len(idPrefix):]
	putBase32(ulid[:idTime], uint64(c.created))             //nolint:gosec // after 1970
	putBase32(ulid[idTime:idTime+idIndex], uint64(c.index)) //nolint:gosec // not negative
	r := newRandom(uint64(c.random), streamID)
	putBase32(ulid[idTime+idIndex:], r.next())
	return string(b[:])
}

func putBase32(b []byte, v uint64) {
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = idAlphabet[v&31]
		v >>= 5
	}
}

// parseID reads what id wrote; ok says no more than that it could.
func parseID(id string) (created int64, index int, ok bool) {
	if !twilio.ValidOperationID(id) || len(id) != len(idPrefix)+idLength {
		return 0, 0, false
	}
	ulid := id[len(idPrefix):]
	return int64(getBase32(ulid[:idTime])), int(getBase32(ulid[idTime : idTime+idIndex])), true //nolint:gosec // 50 and 25 bits
}

func getBase32(s string) uint64 {
	var v uint64
	for i := range len(s) {
		v = v<<5 | uint64(base32Values[s[i]])
	}
	return v
}

var base32Values = func() (values [256]byte) {
	for i := range len(idAlphabet) {
		values[idAlphabet[i]] = byte(i)
	}
	return values
}()
