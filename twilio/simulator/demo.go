package simulator

import "time"

// Credentials of a Demo.
const (
	DemoAccountSID = "AC00000000000000000000000000000001"
	DemoAuthToken  = "demo" // of an account that does not exist
)

// DemoWorld are the settings of the account that --demo shows: 35 operations a
// minute on average, over the day between 25 and 45, more at the full hour,
// some of them scheduled ahead, with its last days full from the start and now
// and then something wrong.
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
	s.Troubles = []Trouble{
		// A carrier is out for a while.
		{Kind: TroubleUndelivered, Share: 0.5, Rate: 0.35, From: time.Unix(0, 0), Every: 3 * time.Hour, For: 12 * time.Minute},
		// A template is refused.
		{Kind: TroubleFailing, Share: 0.15, Rate: 0.3, From: time.Unix(4_000, 0), Every: 5 * time.Hour, For: 20 * time.Minute},
		// Somebody sends from a number that matches few of the recipients'.
		{Kind: TroubleUnaddressable, Share: 0.3, Rate: 0.5, From: time.Unix(9_000, 0), Every: 7 * time.Hour, For: 15 * time.Minute},
		// A few campaigns hang until somebody kicks them.
		{Kind: TroubleStuck, Share: 0.02, From: time.Unix(2_000, 0), Every: 4 * time.Hour, For: 50 * time.Minute},
	}
	return s
}

// Demo returns a handler over a new DemoWorld, which accepts DemoAccountSID and
// DemoAuthToken. A nil clock is the system's.
func Demo(now func() time.Time) *Handler {
	return MustHandler(MustWorld(DemoWorld()), Settings{Now: now, AccountSID: DemoAccountSID, AuthToken: DemoAuthToken})
}
