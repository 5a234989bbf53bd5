package simulator

import (
	"context"
	"time"
)

// Credentials of a Demo.
const (
	DemoAccountSID = "AC00000000000000000000000000000001"
	DemoAuthToken  = "demo" // of an account that does not exist
)

// A demo consists of turns, the first of which begins within a minute of the start. In each turn, a campaign begins to
// fail, and ends. Then another one, created before the turn, is stuck, as it has had no update for long enough. It
// continues before the turn ends.
const (
	demoTurn = 20 * time.Minute

	demoFailing     = 4_000 // recipients
	demoFailingRate = 0.8

	demoStuck     = 1_500            // recipients
	demoStuckFrom = -4 * time.Minute // creation, from the beginning of the turn; updates end within three minutes of it
	demoStuckFor  = 19 * time.Minute // from its creation until it continues
	stuckAfter    = 10 * time.Minute // without an update, the exporter calls an operation stuck

	demoBeforeTheStart = 75 * time.Minute // nothing goes wrong so long before the start, as that would show in the last hour
)

// DemoWorld returns the settings of the account of --demo, for a demo that starts at that time. It creates 35
// operations a minute on average, from 25 to 45 depending on the hour and more at its beginning. Some are scheduled
// ahead, and some are in trouble. Nothing is wrong in the first minute; then the turns begin.
func DemoWorld(start time.Time) WorldSettings {
	s := DefaultWorldSettings()
	s.Seed = 2024
	s.Rate = 35
	day, burst := DayCurve(0.3, 14), Bursts(2.5, time.Hour, 4*time.Minute)
	s.Curve = func(minute time.Time) float64 { return day(minute) * burst(minute) }

	s.MaxRecipients = 2_000
	s.BadShare = 0
	s.ScheduledShare = 0.05
	s.ScheduledAhead = 6 * time.Hour
	s.DeliveredIncludesRead = true

	turn := firstTurn(start)
	quiet := turn.Add(-demoBeforeTheStart)
	s.Troubles = []Trouble{
		// A template is refused.
		{Kind: TroubleFailing, Recipients: demoFailing, Rate: demoFailingRate, From: turn, Every: demoTurn, For: time.Minute},
		// A campaign hangs.
		{Kind: TroubleStuck, Recipients: demoStuck, From: turn.Add(demoStuckFrom), Every: demoTurn, For: demoStuckFor},
		// In the week before, campaigns failed, too.
		{
			Kind: TroubleFailing, Recipients: 1_500, Rate: 1. / 3, From: quiet.Add(-week), To: quiet,
			Every: 40 * time.Minute, For: time.Minute,
		},
		// A carrier has an outage.
		{
			Kind: TroubleUndelivered, Share: 0.5, Rate: 0.35, From: quiet.Add(-week - outage), Every: 3 * time.Hour, For: outage,
		},
		// Somebody sends from an address that few recipients can be reached from.
		{
			Kind: TroubleUnaddressable, Share: 0.3, Rate: 0.5, From: quiet.Add(-week - 2*time.Hour), Every: 7 * time.Hour, For: outage,
		},
	}
	return s
}

const (
	week   = 7 * 24 * time.Hour
	outage = 12 * time.Minute
)

// firstTurn returns when the first turn of a demo begins.
func firstTurn(start time.Time) time.Time { return start.Truncate(time.Minute).Add(time.Minute) }

// Demo is a handler of a DemoWorld. It accepts DemoAccountSID and DemoAuthToken.
type Demo struct {
	*Handler
	world *World
	start time.Time
}

// NewDemo returns a demo that starts now.
func NewDemo() *Demo { return newDemo(time.Now()) }

func newDemo(start time.Time) *Demo {
	world := MustWorld(DemoWorld(start))
	handler := NewHandler(world, Settings{
		Emails:     MustWorld(DemoEmailWorld(start)),
		AccountSID: DemoAccountSID,
		AuthToken:  DemoAuthToken,
	})
	return &Demo{handler, world, start}
}

// DemoEvent is something worth watching that happens in a demo.
type DemoEvent struct {
	At        time.Time
	Text      string
	Operation string // id
}

// Tell calls tell for each event when it happens, from the start of the demo on, until ctx ends.
func (d *Demo) Tell(ctx context.Context, tell func(DemoEvent)) {
	for turn := firstTurn(d.start); ; turn = turn.Add(demoTurn) {
		for _, event := range d.turn(turn) {
			select {
			case <-time.After(time.Until(event.At)):
				tell(event)
			case <-ctx.Done():
				return
			}
		}
	}
}

// turn returns the events of a turn, in order.
func (d *Demo) turn(begins time.Time) []DemoEvent {
	failing := d.world.first(begins)
	stuck := d.world.first(begins.Add(demoStuckFrom))
	last, lastUpdate := latest(stuck.lastTick, stuck.release-1, stuck.tickTime)
	nextUpdate := stuck.tickTime(last + 1)

	return []DemoEvent{
		{time.UnixMilli(failing.created), "a campaign begins to fail", failing.id()},
		{time.UnixMilli(failing.end), "the failing campaign has ended", failing.id()},
		{time.UnixMilli(lastUpdate).Add(stuckAfter), "a campaign is stuck: no update for 10 minutes", stuck.id()},
		{time.UnixMilli(nextUpdate), "the stuck campaign continues", stuck.id()},
	}
}

// first returns the first campaign created in a minute.
func (w *World) first(minute time.Time) campaign {
	m := minute.UnixMilli() / minuteMillis
	return w.derive(m, 0, w.count(m))
}
