package simulator

import "time"

// EmailWorldSettings returns the settings of an account that sends three campaigns a minute by e-mail. They are those
// of DefaultWorldSettings without what e-mails do not have, such as a second channel.
func EmailWorldSettings() WorldSettings {
	s := DefaultWorldSettings()
	s.Rate = 3
	s.GroupShare, s.FallbackShare, s.UnaddressableShare = 0, 0, 0
	s.DeliveredIncludesRead = true
	s.SentIncludesDelivered = true
	return s
}

// DemoEmailWorld returns the settings of the e-mails of --demo, for a demo that starts at that time. Campaigns failed
// in the week before, but nothing goes wrong while it runs.
func DemoEmailWorld(start time.Time) WorldSettings {
	s := EmailWorldSettings()
	s.Seed = 2025
	s.Rate = 3
	s.Curve = DayCurve(0.4, 10)
	s.MaxRecipients = 5_000
	s.ScheduledShare = 0.1
	s.ScheduledAhead = 6 * time.Hour

	quiet := firstTurn(start).Add(-demoBeforeTheStart)
	s.Troubles = []Trouble{{
		Kind:       TroubleUndelivered,
		Recipients: 3_000,
		Rate:       1. / 5,
		From:       quiet.Add(-week),
		To:         quiet,
		Every:      40 * time.Minute,
		For:        time.Minute,
	}}
	return s
}
