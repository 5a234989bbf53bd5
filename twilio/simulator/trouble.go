package simulator

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// TroubleKind says what goes wrong with an operation.
type TroubleKind string

// What can go wrong.
const (
	TroubleFailing       TroubleKind = "failing"       // messages end as failed
	TroubleUndelivered   TroubleKind = "undelivered"   // messages end as undelivered, as in a carrier's outage
	TroubleUnaddressable TroubleKind = "unaddressable" // recipients have no address that matches the sender's
	TroubleStuck         TroubleKind = "stuck"         // operations stay in PROCESSING, without an update, while the trouble lasts
)

// TroubleKinds are all kinds.
func TroubleKinds() []TroubleKind {
	return []TroubleKind{TroubleFailing, TroubleUndelivered, TroubleUnaddressable, TroubleStuck}
}

// Trouble goes wrong for a share of the operations that begin to send within
// its time. Operations that began before are not touched, so switching trouble
// on or off never changes what was seen before.
type Trouble struct {
	Kind  TroubleKind
	Share float64       // of the operations, 0 to 1
	Rate  float64       // of such an operation's messages or recipients, 0 to 1; means nothing when stuck
	From  time.Time     // first occurrence
	To    time.Time     // end of it all; zero: open
	Every time.Duration // recurs so often; 0: one occurrence, From to To
	For   time.Duration // length of each occurrence, with Every
}

func (t *Trouble) validate() error {
	switch {
	case !slices.Contains(TroubleKinds(), t.Kind):
		return fmt.Errorf("trouble kind %q is none of %q", t.Kind, TroubleKinds())
	case !isShare(t.Share):
		return fmt.Errorf("trouble share %v is not from 0 to 1", t.Share)
	case !isShare(t.Rate):
		return fmt.Errorf("trouble rate %v is not from 0 to 1", t.Rate)
	case t.Every < 0 || t.For < 0 || t.For > t.Every:
		return fmt.Errorf("trouble that lasts %v cannot recur every %v", t.For, t.Every)
	}
	return nil
}

func isShare(x float64) bool { return x >= 0 && x <= 1 }

const forever = math.MaxInt64 / 4 // in milliseconds; leaves room for additions

// trouble is a Trouble in the units in which operations are derived.
type trouble struct {
	Trouble
	id          int
	from, to    int64 // milliseconds
	every, last int64
}

func newTrouble(id int, t Trouble) trouble {
	c := trouble{Trouble: t, id: id, from: t.From.UnixMilli(), to: forever, every: t.Every.Milliseconds(), last: t.For.Milliseconds()}
	if t.From.IsZero() {
		c.from = 0
	}
	if !t.To.IsZero() {
		c.to = t.To.UnixMilli()
	}
	return c
}

// at says whether the trouble is on at this time, and when that occurrence ends.
func (t *trouble) at(ms int64) (until int64, on bool) {
	if ms < t.from || ms >= t.to {
		return 0, false
	}
	if t.every == 0 {
		return t.to, true
	}
	phase := (ms - t.from) % t.every
	return min(t.to, ms-phase+t.last), phase < t.last
}

// hits says whether the trouble is that of the operation with this seed.
func (t *trouble) hits(operation random) bool {
	r := newRandom(uint64(operation), uint64(t.id)) //nolint:gosec // an id, not a quantity
	return r.float() < t.Share
}

// AddTrouble switches trouble on and returns the number by which to end it. A
// zero From means that it has always been there.
func (w *World) AddTrouble(t Trouble) (int, error) {
	if err := t.validate(); err != nil {
		return 0, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lastTrouble++
	all := append(slices.Clone(w.troubles()), newTrouble(w.lastTrouble, t))
	w.trouble.Store(&all)
	// Operations that had ended may now be stuck.
	w.live.forget()
	return w.lastTrouble, nil
}

// EndTrouble ends one trouble, or all for number 0, at this time: operations
// that have begun to send keep theirs, stuck ones go on. It returns how many
// it ended.
func (w *World) EndTrouble(number int, at time.Time) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	all, ended := slices.Clone(w.troubles()), 0
	for i := range all {
		t := &all[i]
		if (number == 0 || t.id == number) && t.to > at.UnixMilli() {
			t.To = at
			t.to = at.UnixMilli()
			ended++
		}
	}
	w.trouble.Store(&all)
	return ended
}

// NumberedTrouble is a Trouble with the number that ends it.
type NumberedTrouble struct {
	Number int
	Trouble
}

// Troubles returns all trouble there has been, ended or not.
func (w *World) Troubles() []NumberedTrouble {
	all := w.troubles()
	list := make([]NumberedTrouble, len(all))
	for i := range all {
		list[i] = NumberedTrouble{all[i].id, all[i].Trouble}
	}
	return list
}

func (w *World) troubles() []trouble {
	if p := w.trouble.Load(); p != nil {
		return *p
	}
	return nil
}
