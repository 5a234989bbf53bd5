package simulator

import "time"

// Credentials of a Demo.
const (
	DemoAccountSID = "AC00000000000000000000000000000001"
	DemoAuthToken  = "demo" // of an account that does not exist
)

// DemoWorld returns the settings of the account that --demo shows: 35 operations a minute on average, over the day
// between 25 and 45, more at the full hour, some scheduled ahead, and some in trouble. At any time, from the first
// second of a run on, one campaign of the last hour has failed by a third, and one has been stuck in PROCESSING for
// over half an hour.
func DemoWorld() WorldSettings {
	s := DefaultWorldSettings()
	s.Seed = 2024
	s.Rate = 35
	day, burst := DayCurve(0.3, 14), Bursts(2.5, time.Hour, 4*time.Minute)
	s.Curve = func(minute time.Time) float64 { return day(minute) * burst(minute) }
	s.MaxRecipients = 2_000
	s.ScheduledShare = 0.05
	s.ScheduledAhead = 6 * time.Hour
	s.DeliveredIncludesRead = true
	at := func(hours, minutes int64) time.Time { return time.Unix(hours*3600+minutes*60, 0) }
	s.Troubles = []Trouble{
		// One campaign fails, of a template that is refused; two that hang take turns.
		{Kind: TroubleFailing, Recipients: 1_500, Rate: 1. / 3, From: at(0, 0), Every: 40 * time.Minute, For: time.Minute},
		{Kind: TroubleStuck, Recipients: 800, From: at(0, 10), Every: 4 * time.Hour, For: 170 * time.Minute},
		{Kind: TroubleStuck, Recipients: 600, From: at(2, 10), Every: 4 * time.Hour, For: 170 * time.Minute},
		// A carrier has an outage.
		{Kind: TroubleUndelivered, Share: 0.5, Rate: 0.35, From: at(0, 0), Every: 3 * time.Hour, For: 12 * time.Minute},
		// Somebody sends from a number that matches few of the recipients'.
		{Kind: TroubleUnaddressable, Share: 0.3, Rate: 0.5, From: at(2, 30), Every: 7 * time.Hour, For: 15 * time.Minute},
	}
	return s
}

// Demo returns a handler over a new DemoWorld, which accepts DemoAccountSID and DemoAuthToken.
func Demo() *Handler {
	return NewHandler(MustWorld(DemoWorld()), Settings{
		Emails:     MustWorld(DemoEmailWorld()),
		AccountSID: DemoAccountSID,
		AuthToken:  DemoAuthToken,
	})
}
