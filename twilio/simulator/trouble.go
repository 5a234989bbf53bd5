package simulator

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// TroubleKind says what goes wrong with an operation.
type TroubleKind string

// The kinds of trouble.
const (
	TroubleFailing       TroubleKind = "failing"       // messages fail
	TroubleUndelivered   TroubleKind = "undelivered"   // messages are not delivered, as in a carrier's outage
	TroubleUnaddressable TroubleKind = "unaddressable" // recipients have no address that matches the sender's
	TroubleStuck         TroubleKind = "stuck"         // operations stay in PROCESSING without updates while the trouble lasts
)

var troubleKinds = []TroubleKind{TroubleFailing, TroubleUndelivered, TroubleUnaddressable, TroubleStuck}

// Trouble makes a share of the operations go wrong that start to send while it lasts. It does not affect operations
// that started before, so adding or ending trouble never changes what was seen before.
type Trouble struct {
	Kind  TroubleKind   `json:"kind"`
	Share float64       `json:"share"` // of the operations, 0 to 1
	Rate  float64       `json:"rate"`  // of such an operation's messages or recipients, 0 to 1; ignored by TroubleStuck
	From  time.Time     `json:"from"`  // start of the first occurrence; zero = the beginning of time
	To    time.Time     `json:"to"`    // end of the last occurrence; zero = never
	Every time.Duration `json:"every"` // from one occurrence to the next; 0 = there is only one
	For   time.Duration `json:"for"`   // duration of an occurrence; 0 = until To

	// Recipients, if not 0, makes only one operation in each occurrence go wrong, whatever Share is: the first one created
	// in the minute in which the occurrence starts. That operation has this many recipients.
	Recipients int64 `json:"recipients"`

	number uint64 // makes its random numbers differ from those of other trouble
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

// end returns when the last occurrence ends, in milliseconds.
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

// hits reports whether it makes an operation go wrong, and until when. An operation with trouble of its own has no
// other.
func (t *Trouble) hits(c *campaign) (until int64, hit bool) {
	since := c.start - t.From.UnixMilli()
	until = t.end()
	if since < 0 || c.start >= until {
		return 0, false
	}

	if t.Every > 0 {
		since %= t.Every.Milliseconds() // since the start of an occurrence
		until = min(until, c.start-since+t.For.Milliseconds())
	}
	if c.start >= until {
		return 0, false
	}

	if t.Recipients > 0 {
		return until, c.index == 0 && t.startsIn(c.created/minuteMillis)
	}
	r := newRandom(uint64(c.random), t.number)
	return until, c.planned == 0 && r.float() < t.Share
}

// startsIn reports whether an occurrence starts in a minute.
func (t *Trouble) startsIn(minute int64) bool {
	since := minute*minuteMillis - t.From.UnixMilli()
	isFirst := since == 0
	isLater := since > 0 && t.Every > 0 && since%t.Every.Milliseconds() == 0
	return isFirst || isLater
}

// AddTrouble adds trouble. If it is invalid, the error names the field.
func (w *World) AddTrouble(t Trouble) error {
	err := t.validate()
	if err != nil {
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

// EndTrouble ends all trouble at this time. Operations that have started to send keep theirs, except that stuck ones go
// on.
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
