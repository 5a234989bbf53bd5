package simulator

import (
	"encoding/base32"
	"encoding/binary"
	"strings"
	"time"

	"twilio_operations_exporter/twilio"
)

// campaign is one operation of a World: when it happens, and from that, at any time, how it stands. Times and lengths
// are in milliseconds.
//
// Numbers move in steps, ticks of them while it is processed and lateTicks after its end, and updatedAt is the time of
// the last step: whoever sees other numbers sees another updatedAt.
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
	end        int64 // COMPLETED or CANCELED from then on; before the start if canceled while scheduled
	canceled   bool
	planned    int64 // recipients, if it has trouble of its own
}

const (
	ticks     = 64
	lateTicks = 12
	groupSize = 3
)

func (c *campaign) status(at int64) twilio.Status {
	switch {
	case at >= c.end && c.canceled:
		return twilio.StatusCanceled
	case at >= c.end:
		return twilio.StatusCompleted
	case at >= c.start:
		return twilio.StatusProcessing
	default:
		return twilio.StatusScheduled
	}
}

// tickTime is when a tick of processing happens, time spent stuck included.
func (c *campaign) tickTime(tick int64) int64 {
	elapsed := c.processing * tick / ticks
	if elapsed > c.stuckAt {
		return c.release + elapsed - c.stuckAt
	}
	return c.start + elapsed
}

// lateTickTime is when a tick after the end happens: they grow rarer.
func (c *campaign) lateTickTime(tick int64) int64 {
	return c.end + c.w.s.LateFor.Milliseconds()*tick*tick/(lateTicks*lateTicks)
}

// latest is the latest tick, of those up to last, that has happened, and when.
func latest(last, at int64, timeOf func(int64) int64) (tick, when int64) {
	for tick = last; tick > 0 && timeOf(tick) > at; {
		tick--
	}
	return tick, timeOf(tick)
}

// operation is the campaign as it stands at a time not before its creation.
func (c *campaign) operation(at int64) twilio.Operation {
	stats, updated := c.stats(at)
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
	s[twilio.Recipients] = r.logBetween(int64(w.s.MinRecipients), int64(w.s.MaxRecipients))
	s[twilio.Total] = s[twilio.Recipients]
	group := r.float() < w.s.GroupShare && s[twilio.Recipients] > 1 && c.planned == 0
	if c.planned > 0 {
		s[twilio.Recipients], s[twilio.Total] = c.planned, c.planned
	}
	if group {
		s[twilio.Total] = (s[twilio.Recipients] + groupSize - 1) / groupSize
	}
	switch {
	case at >= c.end && c.end < c.start:
		s[twilio.Canceled] = s[twilio.Total]
		return s, c.end
	case at < c.start:
		s[twilio.Scheduled] = s[twilio.Total]
		return s, c.created
	}

	failedShare, undeliveredShare, unaddressableShare := c.rates(&r)
	if !group {
		s[twilio.Unaddressable] = share(&r, s[twilio.Recipients], unaddressableShare)
	}
	sending := s[twilio.Total] - s[twilio.Unaddressable]
	var failed, undelivered, delivered outcome
	failed.all = share(&r, sending, failedShare)
	undelivered.all = share(&r, sending-failed.all, undeliveredShare)
	delivered.all = sending - failed.all - undelivered.all
	late := min(0.5, w.s.LateShare*2*r.float())
	readShare := w.s.ReadShare * (0.5 + r.float()/2)
	fallback := 0.0
	if r.float() < w.s.FallbackShare && !group {
		fallback = r.float()
	}

	tick, lateTick := c.lastTick, int64(0)
	if at < c.end {
		tick, updated = latest(c.lastTick, at, c.tickTime)
	} else {
		lateTick, updated = latest(lateTicks, at, c.lateTickTime)
	}
	after := float64(lateTick) / lateTicks
	x := float64(tick) / ticks
	// A message is started before it is settled, whatever the rounding: both are rounded alike, and the one share is
	// never below the other.
	started := min(1, x/0.75)
	settled := max(0, (x-0.1)/0.9) * (1 - late)
	for _, o := range []*outcome{&failed, &undelivered, &delivered} {
		o.started = rounded(o.all, started)
		o.settled = rounded(o.all, settled)
		o.settled += rounded(o.started-o.settled, after)
	}
	failed.settled = failed.started // fails on leaving the queue
	read := 0.3*x + (1-0.3*x)*after

	moved := failed.started + undelivered.started + delivered.started
	s[twilio.Attempts] = moved + rounded(moved, fallback)
	s[twilio.Queued] = sending - moved
	if c.canceled && at >= c.end {
		s[twilio.Canceled], s[twilio.Queued] = s[twilio.Queued], 0
	}
	s[twilio.Sent] = undelivered.started - undelivered.settled + delivered.started - delivered.settled
	s[twilio.Failed] = failed.settled
	if group {
		// As in the reference's example: a group message that has been sent is counted under no outcome.
		return s, updated
	}
	s[twilio.Undelivered] = undelivered.settled
	s[twilio.Read] = rounded(delivered.settled, readShare*read)
	s[twilio.Delivered] = delivered.settled
	if !w.s.DeliveredIncludesRead {
		s[twilio.Delivered] -= s[twilio.Read]
	}
	return s, updated
}

// rates are the shares of this campaign's messages, or recipients, that end badly, trouble included.
func (c *campaign) rates(r *random) (failed, undelivered, unaddressable float64) {
	s := &c.w.s
	failed, undelivered = min(1, s.FailedShare*2*r.float()), min(1, s.UndeliveredShare*2*r.float())
	if r.float() < s.UnaddressableShare && c.planned == 0 {
		unaddressable = 0.05 + 0.25*r.float()
	}
	if r.float() < s.BadShare {
		failed = 0.3
	}
	for _, t := range *c.w.trouble.Load() {
		switch _, hit := t.hits(c); {
		case hit && t.Kind == TroubleFailing:
			failed = max(failed, t.Rate)
		case hit && t.Kind == TroubleUndelivered:
			undelivered = max(undelivered, t.Rate)
		case hit && t.Kind == TroubleUnaddressable:
			unaddressable = max(unaddressable, t.Rate)
		}
	}
	return failed, undelivered, unaddressable
}

// share is that part of n, rounded up or down by chance: of single messages, too, one in twenty fails at 0.05.
func share(r *random, n int64, part float64) int64 {
	return min(n, int64(float64(n)*part+r.float()))
}

// rounded grows with part, from 0 at 0 to n at 1.
func rounded(n int64, part float64) int64 {
	return int64(float64(n)*part + 0.5)
}

const idPrefix = "comms_operation_"

var idEncoding = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// id is like a ULID: 48 bits of time, the index within the minute, and random bits. So ids are sorted as operations
// are, and unique.
func (c *campaign) id() string {
	var b [16]byte
	r := newRandom(uint64(c.random), streamID)
	binary.BigEndian.PutUint64(b[8:], r.next())
	binary.BigEndian.PutUint64(b[:], uint64(c.created)<<16) //nolint:gosec // after 1970
	binary.BigEndian.PutUint32(b[6:], uint32(c.index))      //nolint:gosec // not negative
	return string(idEncoding.AppendEncode([]byte(idPrefix), b[:]))
}

// parseID returns the time of creation in an id, in milliseconds.
func parseID(id string) (created int64, ok bool) {
	b, err := idEncoding.DecodeString(strings.TrimPrefix(id, idPrefix))
	if err != nil || len(b) != 16 {
		return 0, false
	}
	return int64(binary.BigEndian.Uint64(b) >> 16), true //nolint:gosec // 48 bits
}
