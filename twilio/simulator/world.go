package simulator

import (
	"cmp"
	"fmt"
	"iter"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"twilio_operations_exporter/twilio"
)

// WorldSettings say what happens in a World. Shares are from 0 to 1. Zero values mean none unless noted otherwise.
// Start from DefaultWorldSettings.
type WorldSettings struct {
	Seed uint64

	// Arrivals.
	Rate      float64                        // operations a minute, on average
	Uniform   bool                           // exactly Rate, evenly spaced, instead of at random
	Curve     func(minute time.Time) float64 // multiplies Rate, see DayCurve and Bursts; nil = 1
	Epoch     time.Time                      // no operation is created before; zero = the beginning of time
	Until     time.Time                      // no operation is created from then on; zero = never
	Retention time.Duration                  // how long operations are kept after creation; 0 = 168h, as at Twilio

	// Operations.
	MinRecipients, MaxRecipients int           // sizes are log-uniform between them; 0 = 1 and 10000, as Twilio allows
	Lifetime                     time.Duration // in PROCESSING, on average; 0 = 3m
	LifetimeSpread               float64       // a lifetime is Lifetime × (1 ± this)
	ScheduledShare               float64       // of the operations are scheduled ahead
	ScheduledAhead               time.Duration // by at most this long; 0 = 24h
	CanceledShare                float64       // of the operations are canceled, before or while they are processed
	GroupShare                   float64       // of the operations send group messages, whose outcomes no stat counts
	FallbackShare                float64       // of the operations try a second channel for some messages
	UnaddressableShare           float64       // of the operations have recipients without an address
	BadShare                     float64       // of the operations are bad campaigns: 30% of their messages fail

	// Messages.
	FailedShare, UndeliveredShare, ReadShare float64
	DeliveredIncludesRead                    bool // read messages still count as delivered; the reference leaves that open
	SentIncludesDelivered                    bool // delivered ones still count as sent, as in the reference's e-mails

	// After the end.
	LateShare float64       // of an operation's messages get their outcome after COMPLETED, on average
	LateFor   time.Duration // how long outcomes and reads go on changing after the end

	Troubles []Trouble
}

// DefaultWorldSettings returns the settings of an account with ten operations a minute and a little of everything.
func DefaultWorldSettings() WorldSettings {
	return WorldSettings{
		Seed: 1,
		Rate: 10,

		LifetimeSpread:     0.8,
		ScheduledShare:     0.1,
		CanceledShare:      0.01,
		GroupShare:         0.03,
		FallbackShare:      0.1,
		UnaddressableShare: 0.05,
		BadShare:           0.002,

		FailedShare:      0.01,
		UndeliveredShare: 0.03,
		ReadShare:        0.4,

		LateShare: 0.02,
		LateFor:   6 * time.Hour,
	}
}

// DayCurve returns a Curve with a period of a day: it is 1 + amplitude at the peak hour (UTC), and 1 - amplitude twelve
// hours later.
func DayCurve(amplitude, peakHour float64) func(time.Time) float64 {
	return func(minute time.Time) float64 {
		hour := float64(minute.UnixMilli()%dayMillis) / (dayMillis / 24)
		return 1 + amplitude*math.Cos((hour-peakHour)*2*math.Pi/24)
	}
}

// Bursts returns a Curve that is factor for the first length of each period, and 1 otherwise.
func Bursts(factor float64, period, length time.Duration) func(time.Time) float64 {
	return func(minute time.Time) float64 {
		if minute.UnixMilli()%period.Milliseconds() < length.Milliseconds() {
			return factor
		}
		return 1
	}
}

const (
	minuteMillis = 60_000
	dayMillis    = 24 * 60 * minuteMillis
)

// World is a Source whose operations are computed, not stored: see the package comment. Plain integers are times and
// durations in milliseconds.
type World struct {
	s       WorldSettings
	longest int64 // from creation to the end, unless it gets stuck

	mu      sync.Mutex // held while trouble changes
	trouble atomic.Pointer[[]Trouble]
}

// SettingError says which of the WorldSettings is wrong.
type SettingError struct {
	Setting string // name of the field
	Value   any
	Want    string // what is expected
}

// Error implements error.
func (e *SettingError) Error() string {
	return fmt.Sprintf("%s: %v is not %s", e.Setting, e.Value, e.Want)
}

// NewWorld returns a world. It checks the settings for which the command has flags; the error is a *SettingError.
func NewWorld(s WorldSettings) (*World, error) {
	s.MinRecipients = cmp.Or(s.MinRecipients, 1)
	s.MaxRecipients = cmp.Or(s.MaxRecipients, max(10_000, s.MinRecipients))
	s.Retention = cmp.Or(s.Retention, 168*time.Hour)
	s.Lifetime = cmp.Or(s.Lifetime, 3*time.Minute)
	s.ScheduledAhead = cmp.Or(s.ScheduledAhead, 24*time.Hour)

	isRate := s.Rate >= 0 && s.Rate <= 1e6 // false for NaN
	switch {
	case !isRate:
		return nil, &SettingError{"Rate", s.Rate, "a number of operations a minute from 0 to 1000000"}
	case !isShare(s.ScheduledShare):
		return nil, &SettingError{"ScheduledShare", s.ScheduledShare, "a number from 0 to 1"}
	case s.Retention < time.Minute:
		return nil, &SettingError{"Retention", s.Retention, "a duration of a minute or more"}
	case s.Lifetime < time.Second:
		return nil, &SettingError{"Lifetime", s.Lifetime, "a duration of a second or more"}
	}

	if s.Until.IsZero() {
		s.Until = time.UnixMilli(forever)
	}

	w := &World{s: s, longest: 2*s.Lifetime.Milliseconds() + ticks}
	if s.ScheduledShare > 0 {
		w.longest += s.ScheduledAhead.Milliseconds()
	}

	w.trouble.Store(new([]Trouble))
	for _, t := range s.Troubles {
		if err := w.AddTrouble(t); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// MustWorld is NewWorld for settings known to be valid. It panics if they are not.
func MustWorld(s WorldSettings) *World { return must(NewWorld(s)) }

// Operations yields the operations created in [from, to) that are kept, as they are at the time now, the oldest first.
func (w *World) Operations(now, from, to time.Time) iter.Seq[twilio.Operation] {
	return w.List(now, Filter{From: from, To: to}, false)
}

// Sum is the sum of the operations of one status.
type Sum struct {
	Operations int64
	Stats      twilio.Stats
}

// Sums has a Sum for each status that occurs.
type Sums map[twilio.Status]Sum

// Sums sums up the operations created in [from, to), as they are at the time now.
func (w *World) Sums(now, from, to time.Time) Sums {
	sums := Sums{}
	for op := range w.Operations(now, from, to) {
		s := sums[op.Status]
		s.Operations++
		s.Stats.Add(&op.Stats)
		sums[op.Status] = s
	}
	return sums
}

// List implements Source. Minutes that the filter excludes cost nothing.
func (w *World) List(now time.Time, f Filter, newestFirst bool) iter.Seq[twilio.Operation] {
	return func(yield func(twilio.Operation) bool) {
		at := now.UnixMilli()
		low, high := w.span(at, f)
		maybeStuck := slices.ContainsFunc(*w.trouble.Load(), func(t Trouble) bool { return t.Kind == TroubleStuck })
		if f.Status.Live() && !maybeStuck {
			low = max(low, at-w.longest) // all older ones have ended
		}

		first := low / minuteMillis
		last := (high - 1) / minuteMillis
		for k := range last - first + 1 {
			m := first + k
			if newestFirst {
				m = last - k
			}

			n := w.count(m)
			for i := range n {
				if newestFirst {
					i = n - 1 - i
				}

				c := w.derive(m, i, n)
				outside := c.created < low || c.created >= high
				otherStatus := f.Status != "" && c.status(at) != f.Status
				if outside || otherStatus {
					continue
				}
				if !yield(c.operation(at)) {
					return
				}
			}
		}
	}
}

// Operation implements Source.
func (w *World) Operation(now time.Time, id string) (twilio.Operation, bool) {
	millis, ok := parseID(id)
	if !ok {
		return twilio.Operation{}, false
	}
	created := time.UnixMilli(millis)
	for op := range w.Operations(now, created, created.Add(time.Millisecond)) {
		if op.ID == id {
			return op, true
		}
	}
	return twilio.Operation{}, false
}

// span returns the part of a filter's time in which operations can have been created that exist now.
func (w *World) span(at int64, f Filter) (low, high int64) {
	const roundUp = time.Millisecond - 1
	low = max(w.s.Epoch.UnixMilli(), at-w.s.Retention.Milliseconds(), f.From.Add(roundUp).UnixMilli())
	high = min(w.s.Until.UnixMilli(), at+1)
	if !f.To.IsZero() {
		high = min(high, f.To.Add(roundUp).UnixMilli())
	}
	return low, high
}

// count returns the number of operations in a minute, including those before Epoch and after Until.
func (w *World) count(minute int64) int {
	rate := w.s.Rate
	if w.s.Curve != nil {
		rate *= max(0, w.s.Curve(time.UnixMilli(minute*minuteMillis).UTC()))
	}

	least := int(min(1, w.planned(minute)))
	if w.s.Uniform {
		// Over the minutes, fractions add up to whole operations.
		before := math.Floor(float64(minute) * rate)
		after := math.Floor(float64(minute+1) * rate)
		return max(least, int(after-before))
	}
	r := newRandom(w.s.Seed, streamArrivals, uint64(minute)) //nolint:gosec // hashed, not counted
	return max(least, r.poisson(rate))
}

// planned returns the number of recipients of a minute's first operation if that has trouble of its own, otherwise 0.
func (w *World) planned(minute int64) int64 {
	for _, t := range *w.trouble.Load() {
		if t.Recipients > 0 && t.startsIn(minute) {
			return t.Recipients
		}
	}
	return 0
}

// Streams are independent random numbers for different purposes.
const (
	streamArrivals = iota + 1
	streamOperation
	streamID
	streamContent
	streamMessage
	streamTags
)

// derive computes when operation i of n in a minute is created, starts and ends. The order of the draws must not change: it
// makes the numbers of every seed.
func (w *World) derive(minute int64, i, n int) campaign {
	r := newRandom(w.s.Seed, streamOperation, uint64(minute)<<24^uint64(i)) //nolint:gosec // hashed, not counted
	c := campaign{w: w, random: r, index: i, lastTick: ticks, stuckAt: forever}
	if i == 0 {
		c.planned = w.planned(minute)
	}
	c.created = minute*minuteMillis + w.offset(&r, i, n)

	processing := w.s.Lifetime.Milliseconds()
	if w.s.LifetimeSpread > 0 {
		processing = int64(float64(processing) * (1 + w.s.LifetimeSpread*(2*r.float()-1)))
	}
	c.processing = max(processing, ticks)

	isScheduled := r.float() < w.s.ScheduledShare
	isCanceled := r.float() < w.s.CanceledShare
	when := r.float() // it is canceled
	if c.planned > 0 {
		isScheduled = false
		isCanceled = false
	}

	c.start = c.created
	if isScheduled {
		ahead := w.s.ScheduledAhead.Milliseconds()
		c.start += r.logBetween(min(minuteMillis, ahead), ahead)
	}
	c.release = c.start
	c.canceled = isCanceled
	if isCanceled && c.start > c.created {
		c.end = c.created + 1 + int64(when*float64(c.start-c.created-1))
		return c
	}
	if isCanceled {
		c.lastTick = 1 + int64(when*(ticks-2))
	}

	c.end = c.start + c.processing*c.lastTick/ticks
	w.getStuck(&c)
	return c
}

// getStuck makes a campaign stuck for a while if there is such trouble.
func (w *World) getStuck(c *campaign) {
	for _, t := range *w.trouble.Load() {
		if t.Kind != TroubleStuck {
			continue
		}
		until, hit := t.hits(c)
		if !hit {
			continue
		}

		duration := c.end - c.start
		c.stuckAt = duration * 2 / 5
		c.release = max(until, c.start+c.stuckAt)
		c.end = c.release + duration - c.stuckAt
		return
	}
}

// offset returns when within its minute operation i of n is created. It is a random time within a slot of its own, so
// operations are in order. Many are created on the second, where the kinds of bounds differ.
func (w *World) offset(r *random, i, n int) int64 {
	low := int64(i) * minuteMillis / int64(n)
	high := int64(i+1) * minuteMillis / int64(n)
	u := r.float()
	isOnSecond := r.float() < 1./8
	if w.s.Uniform {
		return low
	}

	second := (low + 999) / 1000 * 1000
	if isOnSecond && second < high {
		return second
	}
	return low + int64(u*float64(high-low))
}
