package simulator

import (
	"encoding/base32"
	"encoding/binary"
	"strings"
	"time"

	"twilio_operations_exporter/twilio"
)

// campaign is one operation of a World: when it happens, from which its state at any time is computed. Times and
// durations are in milliseconds.
//
// Numbers change in steps, ticks of them while it is processed and lateTicks after its end. updatedAt is the time of
// the last step, so it changes whenever numbers do.
type campaign struct {
	w      *World
	random random
	index  int // within its minute

	created    int64
	start      int64 // of processing
	processing int64 // duration, if it neither gets stuck nor is canceled
	lastTick   int64 // below ticks if it is canceled then
	stuckAt    int64 // after so much processing it gets stuck
	release    int64 // when it goes on after it was stuck
	end        int64 // it is COMPLETED or CANCELED from then on; before start if it is canceled while scheduled
	canceled   bool
	planned    int64 // number of recipients, if it has trouble of its own
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

// tickTime returns when a tick of processing happens, including time spent stuck.
func (c *campaign) tickTime(tick int64) int64 {
	elapsed := c.processing * tick / ticks
	if elapsed > c.stuckAt {
		return c.release + elapsed - c.stuckAt
	}
	return c.start + elapsed
}

// lateTickTime returns when a tick after the end happens. These become rarer and rarer.
func (c *campaign) lateTickTime(tick int64) int64 {
	return c.end + c.w.s.LateFor.Milliseconds()*tick*tick/(lateTicks*lateTicks)
}

// latest returns the latest tick, up to last, that has happened, and when it did.
func latest(last, at int64, timeOf func(int64) int64) (tick, when int64) {
	tick = last
	for tick > 0 && timeOf(tick) > at {
		tick--
	}
	return tick, timeOf(tick)
}

// operation returns the campaign as it is at a time, which must not be before its creation.
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

// plan is what a campaign sends, and what becomes of that in the end.
type plan struct {
	recipients, messages int64
	unaddressable        int64 // recipients no attempt is made for
	group                bool  // each message goes to several recipients

	failed, undelivered, delivered int64 // messages by their final outcome

	lateShare     float64 // of the messages get their outcome after the end
	readShare     float64 // of the delivered messages are read in the end
	fallbackShare float64 // of the messages take a second attempt
}

// plan draws the campaign's plan. The order of the draws must not change: it makes the numbers of every seed.
func (c *campaign) plan() plan {
	settings := &c.w.s
	r := newRandom(uint64(c.random), streamContent)

	var p plan
	p.recipients = r.logBetween(int64(settings.MinRecipients), int64(settings.MaxRecipients))
	group := r.float() < settings.GroupShare
	if c.planned > 0 {
		p.recipients = c.planned
		group = false
	}

	p.group = group && p.recipients > 1
	p.messages = p.recipients
	if p.group {
		p.messages = (p.recipients + groupSize - 1) / groupSize
	}

	failedShare, undeliveredShare, unaddressableShare := c.rates(&r)
	if !p.group {
		p.unaddressable = share(&r, p.recipients, unaddressableShare)
	}

	sending := p.sending()
	p.failed = share(&r, sending, failedShare)
	p.undelivered = share(&r, sending-p.failed, undeliveredShare)
	p.delivered = sending - p.failed - p.undelivered

	p.lateShare = min(0.5, settings.LateShare*2*r.float())
	p.readShare = settings.ReadShare * (0.5 + r.float()/2)
	fallback := r.float() < settings.FallbackShare
	if fallback && !p.group {
		p.fallbackShare = r.float()
	}
	return p
}

// sending is the number of messages that an attempt is made for.
func (p *plan) sending() int64 { return p.messages - p.unaddressable }

// progress is how far a campaign has come that has started.
type progress struct {
	processed float64 // share of its processing that is over
	late      float64 // share of the changes after its end that are over
	updated   int64   // when it last changed
}

// progress returns how far the campaign has come at a time.
func (c *campaign) progress(at int64) progress {
	if at < c.end {
		tick, when := latest(c.lastTick, at, c.tickTime)
		return progress{processed: float64(tick) / ticks, updated: when}
	}
	tick, when := latest(lateTicks, at, c.lateTickTime)
	return progress{
		processed: float64(c.lastTick) / ticks,
		late:      float64(tick) / lateTicks,
		updated:   when,
	}
}

// outcome is how far the messages with one final outcome have come: how many were started, and how many of them have
// the outcome already.
type outcome struct{ started, settled int64 }

// outcome returns how far so many messages have come, of which a share gets the outcome late. Never are more settled
// than started: both are rounded in the same way, and the share settled is never the higher one.
func (p *progress) outcome(messages int64, lateShare float64) outcome {
	startedShare := min(1, p.processed/0.75)
	settledShare := max(0, (p.processed-0.1)/0.9) * (1 - lateShare)

	started := rounded(messages, startedShare)
	settled := rounded(messages, settledShare)
	settled += rounded(started-settled, p.late)
	return outcome{started, settled}
}

// readShare returns the share of the messages to be read that have been read.
func (p *progress) readShare() float64 {
	whileProcessed := 0.3 * p.processed
	return whileProcessed + (1-whileProcessed)*p.late
}

// stats returns the campaign's counts at a time, and when they last changed.
func (c *campaign) stats(at int64) (s twilio.Stats, updated int64) {
	p := c.plan()
	s[twilio.Recipients] = p.recipients
	s[twilio.Total] = p.messages

	neverStarts := c.end < c.start
	if neverStarts && at >= c.end {
		s[twilio.Canceled] = p.messages
		return s, c.end
	}
	if at < c.start {
		s[twilio.Scheduled] = p.messages
		return s, c.created
	}

	progress := c.progress(at)
	failed := progress.outcome(p.failed, p.lateShare)
	undelivered := progress.outcome(p.undelivered, p.lateShare)
	delivered := progress.outcome(p.delivered, p.lateShare)
	started := failed.started + undelivered.started + delivered.started

	s[twilio.Unaddressable] = p.unaddressable
	s[twilio.Attempts] = started + rounded(started, p.fallbackShare)
	waiting := p.sending() - started
	if c.canceled && at >= c.end {
		s[twilio.Canceled] = waiting
	} else {
		s[twilio.Queued] = waiting
	}

	s[twilio.Failed] = failed.started // messages fail when they leave the queue
	s[twilio.Sent] = undelivered.started - undelivered.settled + delivered.started - delivered.settled
	if p.group {
		// As in the reference's example, sent group messages count under no outcome.
		return s, progress.updated
	}

	if c.w.s.SentIncludesDelivered {
		s[twilio.Sent] += delivered.settled
	}
	s[twilio.Undelivered] = undelivered.settled
	s[twilio.Read] = rounded(delivered.settled, p.readShare*progress.readShare())
	s[twilio.Delivered] = delivered.settled
	if !c.w.s.DeliveredIncludesRead {
		s[twilio.Delivered] -= s[twilio.Read]
	}
	return s, progress.updated
}

// rates returns the shares of this campaign's messages, or recipients, that end badly, including those in trouble.
func (c *campaign) rates(r *random) (failed, undelivered, unaddressable float64) {
	s := &c.w.s
	failed = min(1, s.FailedShare*2*r.float())
	undelivered = min(1, s.UndeliveredShare*2*r.float())

	if r.float() < s.UnaddressableShare && c.planned == 0 {
		unaddressable = 0.05 + 0.25*r.float()
	}

	if r.float() < s.BadShare {
		failed = 0.3
	}

	for _, t := range *c.w.trouble.Load() {
		_, hit := t.hits(c)
		if !hit {
			continue
		}
		switch t.Kind {
		case TroubleFailing:
			failed = max(failed, t.Rate)
		case TroubleUndelivered:
			undelivered = max(undelivered, t.Rate)
		case TroubleUnaddressable:
			unaddressable = max(unaddressable, t.Rate)
		case TroubleStuck: // it does not change the outcome
		}
	}
	return failed, undelivered, unaddressable
}

// share returns this part of n, rounded up or down at random: with 0.05, one in twenty campaigns of one message fails.
func share(r *random, n int64, part float64) int64 {
	return min(n, int64(float64(n)*part+r.float()))
}

// rounded returns this part of n, rounded to the nearest number.
func rounded(n int64, part float64) int64 {
	return int64(float64(n)*part + 0.5)
}

const idPrefix = "comms_operation_"

var idEncoding = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// id returns an id like a ULID: 48 bits of time, the index within the minute, and random bits. So ids are unique and
// sorted like the operations.
func (c *campaign) id() string {
	var b [16]byte
	r := newRandom(uint64(c.random), streamID)
	binary.BigEndian.PutUint64(b[8:], r.next())
	binary.BigEndian.PutUint64(b[:], uint64(c.created)<<16) //nolint:gosec // after 1970
	binary.BigEndian.PutUint32(b[6:], uint32(c.index))      //nolint:gosec // not negative
	return string(idEncoding.AppendEncode([]byte(idPrefix), b[:]))
}

// parseID returns the creation time in an id, in milliseconds.
func parseID(id string) (created int64, ok bool) {
	b, err := idEncoding.DecodeString(strings.TrimPrefix(id, idPrefix))
	if err != nil || len(b) != 16 {
		return 0, false
	}
	return int64(binary.BigEndian.Uint64(b) >> 16), true //nolint:gosec // 48 bits
}
