package web

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"twilio_operations_exporter/collector"
	"twilio_operations_exporter/collector/window"
	"twilio_operations_exporter/twilio"
)

// severity says how bad something is, as the severity of an alert does.
type severity int

// The severities, from best to worst.
const (
	quiet   severity = iota
	waiting          // nothing is known yet
	warning
	critical
)

// String returns the severity's class in the style sheet.
func (l severity) String() string { return [...]string{"quiet", "waiting", "warning", "critical"}[l] }

// Sign returns a sign of the severity, as not everybody can see its color.
func (l severity) Sign() string { return [...]string{"✓", "…", "▲", "✕"}[l] }

// Mark returns the severity as a sign and a word.
func (l severity) Mark() string {
	return l.Sign() + " " + [...]string{"Quiet", "Waiting", "Warning", "Critical"}[l]
}

// Thresholds from which something is wrong. Shares are percentages, those of messages being of messages delivered or
// lost.
const (
	minOutcomes = 100 // least number of messages delivered or lost, or of recipients, for a share to mean something
	minBad      = 10  // least number of bad ones among them

	failedWarning, failedCritical           = 5, 10
	undeliveredWarning, undeliveredCritical = 10, 25
	unaddressableWarning                    = 10

	stuckCritical = 6 * time.Hour    // without an update; a warning from window.StuckAfter on
	blindCritical = 30 * time.Minute // without current numbers
)

// thresholdsView are the thresholds as the page shows them.
type thresholdsView struct {
	FailingPercent, MinMessages, MinOutcomes, MinBad                                             int
	FailedWarning, FailedCritical, UndeliveredWarning, UndeliveredCritical, UnaddressableWarning int
	StuckAfter, StuckCritical                                                                    string
}

func newThresholdsView() thresholdsView {
	return thresholdsView{
		FailingPercent:       100 / window.FailingOneIn,
		MinMessages:          window.FailingMinMessages,
		MinOutcomes:          minOutcomes,
		MinBad:               minBad,
		FailedWarning:        failedWarning,
		FailedCritical:       failedCritical,
		UndeliveredWarning:   undeliveredWarning,
		UndeliveredCritical:  undeliveredCritical,
		UnaddressableWarning: unaddressableWarning,
		StuckAfter:           roughly(window.StuckAfter),
		StuckCritical:        roughly(stuckCritical),
	}
}

// finding is one thing that is wrong with an account.
type finding struct {
	Level severity
	Text  string // what follows the account's name and a colon
}

// findings returns what is wrong with an account. That it has no current numbers comes first.
func findings(settings *collector.Settings, status *collector.Status, now time.Time) []finding {
	all := []finding{blindness(settings, status, now)}
	if status.Current { // otherwise nobody knows
		all = append(all, failing(status.Snapshot), stuck(status, now))
		for _, s := range shares(status.Snapshot, nounOf(settings.Resource)) {
			all = append(all, s.worst(status.Snapshot))
		}
	}
	return slices.DeleteFunc(all, func(f finding) bool { return f.Level == quiet })
}

// failing says how many campaigns are failing.
func failing(s *window.Snapshot) finding {
	switch {
	case s.FailingNow == 0:
		return finding{}
	case failingInFlight(s) > 0:
		return finding{warning, count(s.FailingNow, "campaign") + " failing now"}
	default:
		return finding{warning, count(s.FailingNow, "campaign") + " failing in the last hour"}
	}
}

// stuck says how many campaigns are stuck, and for how long.
func stuck(status *collector.Status, now time.Time) finding {
	s := status.Snapshot
	if s.AllStuck == 0 || len(s.Stuck) == 0 {
		return finding{}
	}

	longest := apiTime(status, now).Sub(s.Stuck[0].UpdatedAt)
	l := warning
	if longest >= stuckCritical {
		l = critical
	}
	what := number(s.AllStuck)
	if s.FailingNow == 0 { // otherwise the finding before this one has the noun
		what = count(s.AllStuck, "campaign")
	}
	upTo := ""
	if s.AllStuck > 1 {
		upTo = "up to "
	}
	return finding{l, fmt.Sprintf("%s stuck for %s%s", what, upTo, roughly(longest))}
}

// failingInFlight returns how many failing operations can still be stopped.
func failingInFlight(s *window.Snapshot) (n int64) {
	for i := range s.Statuses {
		if s.Statuses[i].Status.Live() {
			n += s.Statuses[i].Failing
		}
	}
	return n
}

// apiTime returns the present time by the API's clock.
func apiTime(status *collector.Status, now time.Time) time.Time {
	return status.Snapshot.Time.Add(now.Sub(status.Succeeded))
}

// blindness says whether the numbers are missing or old, and why.
func blindness(settings *collector.Settings, status *collector.Status, now time.Time) finding {
	why := obstacle(settings, status, now)
	if status.Snapshot == nil {
		return unread(settings, status, why)
	}

	since := now.Sub(status.Succeeded)
	missing := "no current numbers for " + roughly(since)
	refused := status.Err != nil && status.Reason.Label == "auth"
	switch {
	case !status.Current && why != "":
		return finding{critical, fmt.Sprintf("%s (%s)", missing, why)}
	case !status.Current && settings.Interval == 0:
		return finding{warning, missing + " (no scrape)"}
	case !status.Current:
		return finding{critical, missing + " (a refresh is under way)"}
	case why == "":
		return finding{}
	case refused || since >= blindCritical:
		return finding{critical, fmt.Sprintf("numbers are %s old (%s)", roughly(since), why)}
	default:
		return finding{warning, fmt.Sprintf("numbers are %s old (%s)", roughly(since), why)}
	}
}

// unread says what keeps an account from its first numbers.
func unread(settings *collector.Settings, status *collector.Status, why string) finding {
	switch {
	case why != "":
		return finding{critical, fmt.Sprintf("no numbers yet (%s)", why)}
	case status.Phase == collector.PhaseReading:
		return finding{waiting, "first read under way" + readSoFar(status)}
	case settings.Interval == 0:
		return finding{waiting, "no numbers before the first scrape"}
	default:
		return finding{waiting, "first read has not begun"}
	}
}

// obstacle says what keeps numbers from being refreshed, "" if nothing does.
func obstacle(settings *collector.Settings, status *collector.Status, now time.Time) string {
	failed := status.Err != nil
	switch {
	case throttled(settings, status), failed && status.Phase == collector.PhaseThrottled:
		return "throttled by Twilio for another " + roughly(status.RetryAt.Sub(now))
	case failed:
		return causeOf(status.Reason)
	}
	return ""
}

// throttled reports whether the API throttles the account for so long that its numbers get old.
func throttled(settings *collector.Settings, status *collector.Status) bool {
	if status.Phase != collector.PhaseThrottled {
		return false
	}
	oldest := status.RetryAt.Sub(status.Succeeded)
	return status.Snapshot == nil || oldest > 2*settings.Interval
}

// readSoFar says how far the first refresh is.
func readSoFar(s *collector.Status) string {
	if s.PagesExpected == 0 {
		return ""
	}
	return fmt.Sprintf(" (%d%%)", min(99, 100*s.PagesRead/s.PagesExpected))
}

// causes say in a few words why a refresh failed, by the label of its reason.
var causes = map[string]string{
	"auth":         "credentials refused",
	"secret":       "secret not readable",
	"rate_limited": "throttled by Twilio",
	"timeout":      "timeout",
	"server":       "Twilio's API is failing",
	"network":      "no connection to Twilio",
	"decode":       "an unexpected answer",
	"pagination":   "an endless list",
	"request":      "requests refused",
	"other":        "refreshes are failing",
}

func causeOf(r collector.Reason) string {
	if cause, ok := causes[r.Label]; ok {
		return cause
	}
	return strings.ReplaceAll(r.Label, "_", " ")
}

// share is a part of what an account has sent, with its thresholds.
type share struct {
	text              string // follows the percentage
	part, of          func(s *twilio.Stats) int64
	figure            func(p *period) *figure // where a period has it
	warning, critical int64                   // percent; 0 = never
}

// shares returns the shares that are looked at. The snapshot tells how reads are counted: see readApart.
func shares(s *window.Snapshot, sent noun) []share {
	apart := readApart(sumOf(s))
	ended := func(s *twilio.Stats) int64 {
		o := outcomesOf(s, apart)
		return o.ended()
	}
	stat := func(of twilio.Stat) func(*twilio.Stats) int64 {
		return func(s *twilio.Stats) int64 { return s[of] }
	}
	return []share{
		{
			text: "of " + sent.Many() + " failed",
			part: stat(twilio.Failed), of: ended,
			figure:  func(p *period) *figure { return &p.Failed },
			warning: failedWarning, critical: failedCritical,
		},
		{
			text: "of " + sent.Many() + " undelivered",
			part: stat(twilio.Undelivered), of: ended,
			figure:  func(p *period) *figure { return &p.Undelivered },
			warning: undeliveredWarning, critical: undeliveredCritical,
		},
		{
			text: "of recipients unaddressable",
			part: stat(twilio.Unaddressable), of: stat(twilio.Recipients),
			figure:  func(p *period) *figure { return &p.Unaddressable },
			warning: unaddressableWarning,
		},
	}
}

// sumOf returns the totals of a snapshot over all statuses.
func sumOf(s *window.Snapshot) *window.Totals {
	all := &window.Totals{}
	for i := range s.Statuses {
		all.Operations += s.Statuses[i].Operations
		all.Failing += s.Statuses[i].Failing
		all.Stats.Add(&s.Statuses[i].Stats)
	}
	return all
}

const quarter = 15 * time.Minute

// worst returns the finding about the last hour, or about its last quarter if that is worse: trouble may have just
// begun.
func (s *share) worst(snapshot *window.Snapshot) (worst finding) {
	for _, period := range []time.Duration{time.Hour, quarter} {
		sums := lately(snapshot, period)
		part := s.part(&sums)
		of := s.of(&sums)
		if l := s.level(part, of); l > worst.Level {
			worst = finding{l, fmt.Sprintf("%s %s in the last %s", percent(part, of), s.text, lastOf(period))}
		}
	}
	return worst
}

// level returns the severity of a share.
func (s *share) level(part, of int64) severity {
	if of < minOutcomes || part < minBad {
		return quiet
	}
	percent := 100 * float64(part) / float64(of)
	switch {
	case s.critical > 0 && percent > float64(s.critical):
		return critical
	case percent > float64(s.warning):
		return warning
	}
	return quiet
}

func lastOf(period time.Duration) string {
	if period == time.Hour {
		return "hour"
	}
	return roughly(period)
}

// lately sums the stats of operations created in the last period of a snapshot.
func lately(s *window.Snapshot, period time.Duration) (sum twilio.Stats) {
	since := s.Time.Add(-period)
	for i := range s.Minutes {
		if s.Minutes[i].Start.Add(time.Minute).After(since) {
			sum.Add(&s.Minutes[i].Stats)
		}
	}
	return sum
}
