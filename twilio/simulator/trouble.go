package simulator

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// TroubleKind says what goes wrong with an operation.
type TroubleKind string

// Kinds of trouble.
const (
	TroubleFailing       TroubleKind = "failing"       // messages end as failed
	TroubleUndelivered   TroubleKind = "undelivered"   // messages end as undelivered, as in a carrier's outage
	TroubleUnaddressable TroubleKind = "unaddressable" // recipients have no address that matches the sender's
	TroubleStuck         TroubleKind = "stuck"         // operations stay in PROCESSING, without an update, while the trouble lasts
)

var troubleKinds = []TroubleKind{TroubleFailing, TroubleUndelivered, TroubleUnaddressable, TroubleStuck}

// Trouble makes a share of the operations go wrong that start to send within its time. Operations that started before
// are not affected, so adding or ending trouble never changes what was seen before.
type Trouble struct {
	Kind  TroubleKind   `json:"kind"`
	Share float64       `json:"share"` // of the operations, 0 to 1
	Rate  float64       `json:"rate"`  // of such an operation's messages or recipients, 0 to 1; ignored when stuck
	From  time.Time     `json:"from"`  // start of the first occurrence; zero: always
	To    time.Time     `json:"to"`    // end of the last occurrence; zero: none
	Every time.Duration `json:"every"` // from one occurrence to the next; 0: there is one
	For   time.Duration `json:"for"`   // length of each occurrence; 0: until To

	// Recipients, if not 0, makes this the trouble of one operation in each occurrence, whatever Share says: the first
	// created in the minute in which the occurrence starts, which then has so many recipients.
	Recipients int64 `json:"recipients"`

	number uint64 // keeps the draws of different trouble apart
}

func (t *Trouble) validate() error {
	switch {
	case !slices.Contains(troubleKinds, t.Kind):
		return fmt.Errorf("trouble kind %q is none of %q", t.Kind, troubleKinds)
	case !isShare(t.Share) || !isShare(t.Rate):
		return fmt.Errorf("trouble share %v or rate %v is not from 0 to 1", t.Share, t.Rate)
	case t.Every < 0 || t.For < 0 || t.Every > 0 && (t.For == 0 || t.For > t.Every):
		return fmt.Errorf("trouble for %v cannot recur every %v", t.For, t.Every)
	case t.Recipients < 0 || t.Recipients > 0 && (t.From.UnixMilli()%minuteMillis != 0 || t.Every%time.Minute != 0):
		return fmt.Errorf("trouble of one operation of %d recipients must start at whole minutes", t.Recipients)
	}
	return nil
}

func isShare(x float64) bool { return x >= 0 && x <= 1 }

const forever = math.MaxInt64 / 4 // in milliseconds; leaves room for additions

// end is when the last occurrence ends, in milliseconds.
func (t *Trouble) end() int64 {
	end := int64(forever)
	if !t.To.IsZero() {
		end = t.To.UnixMilli()
	}
	if t.Every == 0 && t.For > 0 {
		end = min(end, t.From.Add(t.For).UnixMilli())
	}
	return end
}

// hits says whether this is the trouble of an operation, and until when. One with trouble of its own has no other.
func (t *Trouble) hits(c *campaign) (until int64, hit bool) {
	since, until := c.start-t.From.UnixMilli(), t.end()
	if since < 0 || c.start >= until {
		return 0, false
	}
	if t.Every > 0 {
		since %= t.Every.Milliseconds()
		until = min(until, c.start-since+t.For.Milliseconds())
	}
	if t.Recipients > 0 {
		return until, c.start < until && c.index == 0 && t.startsIn(c.created/minuteMillis)
	}
	r := newRandom(uint64(c.random), t.number)
	return until, c.start < until && c.planned == 0 && r.float() < t.Share
}

// startsIn says whether an occurrence starts at a minute.
func (t *Trouble) startsIn(minute int64) bool {
	since := minute*minuteMillis - t.From.UnixMilli()
	return since == 0 || since > 0 && t.Every > 0 && since%t.Every.Milliseconds() == 0
}

// AddTrouble adds trouble, or returns an error that names the wrong field.
func (w *World) AddTrouble(t Trouble) error {
	if err := t.validate(); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	all := slices.Clone(*w.trouble.Load())
	t.number = uint64(len(all)) + 1
	all = append(all, t)
	w.trouble.Store(&all)
	return nil
}

// EndTrouble ends all trouble at this time: operations that have started to send keep theirs, stuck ones go on.
func (w *World) EndTrouble(at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := slices.Clone(*w.trouble.Load())
	for i := range all {
		if all[i].end() > at.UnixMilli() {
			all[i].To = at
		}
	}
	w.trouble.Store(&all)
}
