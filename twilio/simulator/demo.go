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

// The course of a demo, in turns. In each of them a campaign begins to fail and ends. By then another, which began before
// the turn, has had no update for so long that it is stuck; it goes on before the turn ends. Times are from the beginning
// of a turn. The first begins within a minute of the start.
const (
	demoTurn = 20 * time.Minute

	demoFailing        = 4_000 // recipients
	demoFailingRate    = 0.8
	demoStuck          = 1_500            // recipients
	demoStuckFrom      = -4 * time.Minute // its creation: it hangs within three minutes of that
	demoStuckFor       = 19 * time.Minute // until it goes on
	stuckAfter         = 10 * time.Minute // without an update: when the exporter calls it stuck
	demoBeforeTheStart = 75 * time.Minute // nothing of what went wrong before is of the last hour
)

// DemoWorld returns the settings of the account that --demo shows, of a demo that starts at that time: 35 operations a
// minute on average, over the day between 25 and 45, more at the full hour, some scheduled ahead, and some in trouble.
// Nothing is wrong in the first minute; then things go wrong in turns.
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
		// The week before, campaigns failed, too.
		{
			Kind: TroubleFailing, Recipients: 1_500, Rate: 1. / 3, From: quiet.Add(-week), To: quiet,
			Every: 40 * time.Minute, For: time.Minute,
		},
		// A carrier has an outage.
		{
			Kind: TroubleUndelivered, Share: 0.5, Rate: 0.35, From: quiet.Add(-week - outage), Every: 3 * time.Hour, For: outage,
		},
		// Somebody sends from a number that matches few of the recipients'.
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

// firstTurn is when the first turn of a demo begins.
func firstTurn(start time.Time) time.Time { return start.Truncate(time.Minute).Add(time.Minute) }

// Demo is a handler over a DemoWorld, which accepts DemoAccountSID and DemoAuthToken.
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

// DemoEvent is something that happens in a demo, for those who watch it.
type DemoEvent struct {
	At        time.Time
	Text      string
	Operation string // its id
}

// Tell tells of what happens from the start of the demo on, when it happens, until ctx ends.
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

// turn is what happens in a turn that begins then, in order.
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

// first is the first campaign created in a minute.
func (w *World) first(minute time.Time) campaign {
	m := minute.UnixMilli() / minuteMillis
	return w.derive(m, 0, w.count(m))
}
