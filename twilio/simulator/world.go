package simulator

import (
	"fmt"
	"iter"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"twilio_operations_exporter/twilio"
)

// WorldSettings say what happens in a World. Shares are from 0 to 1, and zero
// values mean none of it, save where noted; DefaultWorldSettings is the place
// to start from.
type WorldSettings struct {
	Seed uint64

	// Arrivals.
	Rate      float64                        // operations a minute, on average
	Uniform   bool                           // exactly Rate, evenly spaced, instead of at random
	Curve     func(minute time.Time) float64 // multiplies Rate; nil: 1 always. See DayCurve and Bursts
	Epoch     time.Time                      // nothing was created before; zero: no such time
	Until     time.Time                      // nothing is created from then on; zero: no such time
	Retention time.Duration                  // how long operations are kept after creation; 0: 168h, as Twilio does

	// Operations.
	MinRecipients, MaxRecipients int           // sizes are log-uniform between them; 0: 1 and 10000, as Twilio allows
	Lifetime                     time.Duration // in PROCESSING, on average; 0: 3m
	LifetimeSpread               float64       // a lifetime is Lifetime × (1 ± this)
	ScheduledShare               float64       // of the operations are scheduled ahead
	ScheduledAhead               time.Duration // at most so long, and at least a minute or this; 0: 24h
	CanceledShare                float64       // of the operations are canceled, before they begin or on the way
	ReopenedShare                float64       // of the operations are in PROCESSING once more within the hour after COMPLETED
	GroupShare                   float64       // of the operations send group messages, whose outcomes no stat tells
	FallbackShare                float64       // of the operations try a second channel for some messages
	UnaddressableShare           float64       // of the operations have recipients without an address
	BadShare                     float64       // of the operations are bad campaigns: 30% of their messages fail

	// Messages.
	FailedShare, UndeliveredShare, ReadShare float64
	DeliveredIncludesRead                    bool // a message read still counts as delivered; the reference does not say

	// After the end.
	LateShare float64       // of an operation's messages, on average, get their outcome after COMPLETED
	LateFor   time.Duration // outcomes and reads go on changing for so long after the end

	Troubles []Trouble
}

// DefaultWorldSettings are those of an account of ten operations a minute with
// a little of everything.
func DefaultWorldSettings() WorldSettings {
	return WorldSettings{
		Seed:               1,
		Rate:               10,
		Retention:          168 * time.Hour,
		MinRecipients:      1,
		MaxRecipients:      10_000,
		Lifetime:           3 * time.Minute,
		LifetimeSpread:     0.8,
		ScheduledShare:     0.1,
		ScheduledAhead:     24 * time.Hour,
		CanceledShare:      0.01,
		GroupShare:         0.03,
		FallbackShare:      0.1,
		UnaddressableShare: 0.05,
		BadShare:           0.002,
		FailedShare:        0.01,
		UndeliveredShare:   0.03,
		ReadShare:          0.4,
		LateShare:          0.02,
		LateFor:            6 * time.Hour,
	}
}

// DayCurve is a Curve that swings around 1 once a day: 1 + amplitude at the
// peak hour (UTC), 1 - amplitude twelve hours later.
func DayCurve(amplitude, peakHour float64) func(time.Time) float64 {
	return func(minute time.Time) float64 {
		hour := float64(minute.UnixMilli()%dayMillis) / (dayMillis / 24)
		return 1 + amplitude*math.Cos((hour-peakHour)*2*math.Pi/24)
	}
}

// Bursts is a Curve that is factor for the first length of each period, and 1
// otherwise.
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
	hourMillis   = 60 * minuteMillis
	dayMillis    = 24 * hourMillis
)

// World is a Source that is computed, not stored. See the package comment.
type World struct {
	s                 WorldSettings
	seed              uint64
	epoch, until      int64 // milliseconds, as all plain integers of time here
	retention         int64
	recipients, ahead logRange
	lifetime, later   int64

	mu          sync.Mutex // held while trouble changes
	lastTrouble int
	trouble     atomic.Pointer[[]trouble]
	live        liveIndex
}

// NewWorld returns a world, or an error that names the setting that makes no
// sense.
func NewWorld(s WorldSettings) (*World, error) {
	for _, share := range []struct {
		name  string
		value float64
	}{
		{"lifetime spread", s.LifetimeSpread}, {"scheduled", s.ScheduledShare}, {"canceled", s.CanceledShare},
		{"reopened", s.ReopenedShare}, {"group", s.GroupShare}, {"fallback", s.FallbackShare},
		{"unaddressable", s.UnaddressableShare}, {"bad campaign", s.BadShare}, {"failed", s.FailedShare},
		{"undelivered", s.UndeliveredShare}, {"read", s.ReadShare}, {"late", s.LateShare},
	} {
		if !isShare(share.value) {
			return nil, fmt.Errorf("%s share %v is not from 0 to 1", share.name, share.value)
		}
	}
	if s.MinRecipients == 0 {
		s.MinRecipients = 1
	}
	if s.MaxRecipients == 0 {
		s.MaxRecipients = max(10_000, s.MinRecipients)
	}
	if s.Retention == 0 {
		s.Retention = 168 * time.Hour
	}
	if s.Lifetime == 0 {
		s.Lifetime = 3 * time.Minute
	}
	if s.ScheduledAhead == 0 {
		s.ScheduledAhead = 24 * time.Hour
	}
	switch {
	case !(s.Rate >= 0 && s.Rate <= 1e6):
		return nil, fmt.Errorf("rate %v is not from 0 to 1000000 operations a minute", s.Rate)
	case s.MinRecipients < 1 || s.MaxRecipients < s.MinRecipients:
		return nil, fmt.Errorf("recipients from %d to %d make no range above 0", s.MinRecipients, s.MaxRecipients)
	case s.Retention < time.Minute:
		return nil, fmt.Errorf("retention %v is under a minute", s.Retention)
	case s.Lifetime < time.Second:
		return nil, fmt.Errorf("lifetime %v is under a second", s.Lifetime)
	case s.ScheduledAhead < time.Second:
		return nil, fmt.Errorf("operations are scheduled %v ahead, under a second", s.ScheduledAhead)
	case s.LateFor < 0:
		return nil, fmt.Errorf("changes for %v after the end", s.LateFor)
	}
	w := &World{
		s: s, seed: s.Seed,
		epoch: 0, until: forever,
		retention:  s.Retention.Milliseconds(),
		recipients: newLogRange(int64(s.MinRecipients), int64(s.MaxRecipients)),
		ahead:      newLogRange(min(minuteMillis, s.ScheduledAhead.Milliseconds()), s.ScheduledAhead.Milliseconds()),
		lifetime:   s.Lifetime.Milliseconds(),
		later:      s.LateFor.Milliseconds(),
	}
	if !s.Epoch.IsZero() {
		w.epoch = s.Epoch.UnixMilli()
	}
	if !s.Until.IsZero() {
		w.until = s.Until.UnixMilli()
	}
	for _, t := range s.Troubles {
		if _, err := w.AddTrouble(t); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// MustWorld is NewWorld for settings that are known to be right; it panics
// when they are not.
func MustWorld(s WorldSettings) *World {
	w, err := NewWorld(s)
	if err != nil {
		panic(err)
	}
	return w
}

// Settings returns what the world was made with, defaults filled in.
func (w *World) Settings() WorldSettings { return w.s }

// Operations yields what a brute-force count needs: every operation created in
// [from, to) and kept, as it stands at now, the oldest first. It uses no index.
func (w *World) Operations(now, from, to time.Time) iter.Seq[twilio.Operation] {
	return func(yield func(twilio.Operation) bool) {
		at := now.UnixMilli()
		low, high := w.span(at, Filter{From: from, To: to})
		for m := floorDiv(low, minuteMillis); m*minuteMillis < high; m++ {
			n := w.count(m)
			for i := range n {
				c := w.derive(m, i, n)
				if c.created >= low && c.created < high && !yield(c.operation(at)) {
					return
				}
			}
		}
	}
}

// Sums adds up the operations created in [from, to), as they stand at now.
func (w *World) Sums(now, from, to time.Time) Sums {
	return SumOf(w.Operations(now, from, to))
}

// List implements Source. A minute that the filter does not touch costs
// nothing, and one without live operations next to nothing when the filter
// asks for those.
func (w *World) List(now time.Time, f Filter, newestFirst bool) iter.Seq[twilio.Operation] {
	return func(yield func(twilio.Operation) bool) {
		at := now.UnixMilli()
		low, high := w.span(at, f)
		if low >= high {
			return
		}
		first, last := floorDiv(low, minuteMillis), floorDiv(high-1, minuteMillis)
		var indices []uint32
		for k := range last - first + 1 {
			m := first + k
			if newestFirst {
				m = last - k
			}
			n := w.count(m)
			count := n
			if f.Status.Live() {
				indices = w.live.minute(w, m, at, indices[:0])
				count = len(indices)
			}
			for j := range count {
				i := j
				if newestFirst {
					i = count - 1 - j
				}
				if f.Status.Live() {
					i = int(indices[i])
				}
				c := w.derive(m, i, n)
				if c.created < low || c.created >= high || f.Status != "" && c.status(at) != f.Status {
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
	created, i, ok := parseID(id)
	if !ok {
		return twilio.Operation{}, false
	}
	at := now.UnixMilli()
	low, high := w.span(at, Filter{})
	if created < low || created >= high {
		return twilio.Operation{}, false
	}
	m := floorDiv(created, minuteMillis)
	n := w.count(m)
	if i >= n {
		return twilio.Operation{}, false
	}
	c := w.derive(m, i, n)
	if c.created != created || c.id() != id {
		return twilio.Operation{}, false
	}
	return c.operation(at), true
}

// span is the part of a filter's time, in milliseconds, from which there can
// be operations: kept, and created by now.
func (w *World) span(at int64, f Filter) (low, high int64) {
	low, high = max(w.epoch, at-w.retention), min(w.until, at+1)
	if !f.From.IsZero() {
		low = max(low, ceilMillis(f.From))
	}
	if !f.To.IsZero() {
		high = min(high, ceilMillis(f.To))
	}
	return low, high
}

func ceilMillis(t time.Time) int64 {
	return t.Add(time.Millisecond - time.Nanosecond).UnixMilli()
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// count is the number of operations created in a minute, those before the
// epoch and after the end included.
func (w *World) count(minute int64) int {
	rate := w.s.Rate
	if w.s.Curve != nil {
		rate *= max(0, w.s.Curve(time.UnixMilli(minute*minuteMillis).UTC()))
	}
	if w.s.Uniform {
		// Fractions add up to whole operations over the minutes.
		return int(math.Floor(float64(minute+1)*rate) - math.Floor(float64(minute)*rate))
	}
	r := newRandom(w.seed, streamArrivals, uint64(minute)) //nolint:gosec // hashed, not counted
	return r.poisson(rate)
}

// Streams keep the draws for different things apart.
const (
	streamArrivals = iota + 1
	streamOperation
	streamID
	streamContent
)

// derive computes when operation i of the n of a minute was created, begins
// and ends; what it holds is left to operation.
func (w *World) derive(minute int64, i, n int) campaign {
	r := newRandom(w.seed, streamOperation, uint64(minute)<<24^uint64(i)) //nolint:gosec // hashed, not counted
	c := campaign{w: w, random: r, index: i}
	c.created = minute*minuteMillis + w.offset(&r, i, n)
	c.start = c.created

	processing := w.lifetime
	if w.s.LifetimeSpread > 0 {
		processing = int64(float64(w.lifetime) * (1 + w.s.LifetimeSpread*(2*r.float()-1)))
	}
	c.processing = max(processing, ticks)
	scheduled, canceled, when := r.float(), r.float(), r.float()
	if scheduled < w.s.ScheduledShare {
		c.start += r.logBetween(w.ahead)
		c.scheduled = true
	}
	c.release = c.start
	c.lastTick = ticks
	c.stuckAt = forever
	if canceled < w.s.CanceledShare {
		if c.scheduled {
			c.canceled = true
			c.canceledAt = c.created + 1 + int64(when*float64(c.start-c.created-1))
			c.end, c.final = c.canceledAt, c.canceledAt
			return c
		}
		c.canceled = true
		c.lastTick = 1 + int64(when*(ticks-2))
	}
	length := c.processing * c.lastTick / ticks
	c.end = c.start + length

	for _, t := range w.troubles() {
		if t.Kind != TroubleStuck {
			continue
		}
		if until, on := t.at(c.start); on && t.hits(c.random) {
			c.stuckAt = length * 2 / 5
			c.release = max(until, c.start+c.stuckAt)
			c.end = c.release + length - c.stuckAt
			break
		}
	}
	c.final = c.end
	if w.s.ReopenedShare > 0 && !c.canceled && r.float() < w.s.ReopenedShare {
		c.reopened = c.end + r.between(minuteMillis, hourMillis)
		c.final = c.reopened + r.between(minuteMillis/2, 3*minuteMillis)
	}
	return c
}

// offset is when within its minute operation i of n is created. Each has a
// slot of its own, so that they come in order; at random within it, but rather
// often on the second, where the kinds of bounds differ.
func (w *World) offset(r *random, i, n int) int64 {
	low, high := int64(i)*minuteMillis/int64(n), int64(i+1)*minuteMillis/int64(n)
	u, onSecond := r.float(), r.float()
	if w.s.Uniform {
		return low
	}
	if second := (low + 999) / 1000 * 1000; second < high && onSecond < 1./8 {
		return second
	}
	return low + int64(u*float64(high-low))
}

// liveIndex remembers, minute by minute, which operations may still be live,
// so that asking for the few live ones does not derive all of them. Operations
// only ever leave it; time that goes backwards starts an hour anew.
type liveIndex struct {
	mu    sync.Mutex
	hours map[int64]*liveHour
}

type liveHour struct {
	at      int64 // what is missing had ended by then
	minutes [60][]uint32
}

const (
	pruneEvery   = 30_000 // milliseconds of the world's time
	maxLiveHours = 24 * 32
)

func (x *liveIndex) forget() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.hours = nil
}

// minute appends the indices, ascending, of a minute's operations that may be
// live at this time.
func (x *liveIndex) minute(w *World, minute, at int64, indices []uint32) []uint32 {
	hour := floorDiv(minute, 60)
	x.mu.Lock()
	defer x.mu.Unlock()
	h := x.hours[hour]
	if h == nil || at < h.at {
		h = x.build(w, hour, at)
	}
	live := &h.minutes[minute-hour*60]
	if at-h.at >= pruneEvery {
		h.prune(w, hour, at)
	}
	return append(indices, *live...)
}

func (x *liveIndex) build(w *World, hour, at int64) *liveHour {
	if x.hours == nil || len(x.hours) >= maxLiveHours {
		x.hours = map[int64]*liveHour{}
	}
	for old := range x.hours {
		if (old+1)*hourMillis < at-w.retention {
			delete(x.hours, old)
		}
	}
	h := &liveHour{at: at}
	for k := range h.minutes {
		minute := hour*60 + int64(k)
		n := w.count(minute)
		for i := range n {
			if c := w.derive(minute, i, n); c.final > at {
				h.minutes[k] = append(h.minutes[k], uint32(i))
			}
		}
	}
	x.hours[hour] = h
	return h
}

func (h *liveHour) prune(w *World, hour, at int64) {
	for k, live := range h.minutes {
		if len(live) == 0 {
			continue
		}
		minute := hour*60 + int64(k)
		n := w.count(minute)
		kept := live[:0]
		for _, i := range live {
			if c := w.derive(minute, int(i), n); c.final > at {
				kept = append(kept, i)
			}
		}
		if len(kept) < cap(live)/4 {
			kept = append([]uint32(nil), kept...)
		}
		h.minutes[k] = kept
	}
	h.at = at
}
