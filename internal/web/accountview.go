package web

import (
	"fmt"
	"html/template"
	"maps"
	"slices"
	"strings"
	"time"

	"twilio_operations_exporter/collector"
	"twilio_operations_exporter/collector/window"
	"twilio_operations_exporter/internal/sanitize"
	"twilio_operations_exporter/twilio"
)

// accountView is an account as the page shows it: in full, or as a row of a table.
type accountView struct {
	Settings  collector.Settings
	Status    collector.Status
	Sampled   collector.Sampled
	RateLimit float64 // requests a second; 0 = no limit
	Sent      noun    // what it sends

	Findings []finding
	Level    severity // of the worst finding
	number   int      // unique on the page
	Told     bool     // whether the headline has the findings

	FailingSince string   // when the first refresh failed since the last success
	Age          string   // of the numbers
	Stale        string   // Age, if that is more than it should be
	Staleness    severity // how bad that is
	Periods      []period // the last hour and the window; nil before the first success

	// Only an account shown in full has these.
	Pictures  []*picture
	Failing   failingView
	Stuck     listView
	Scheduled *scheduledView
	ByStatus  []period

	// Only a row has this.
	Spark template.HTML
}

// newAccountView returns the view of an account without its numbers. i is its number on the page.
func newAccountView(i int, settings collector.Settings, status collector.Status, now time.Time) *accountView {
	v := &accountView{
		Settings: settings,
		Status:   status,
		Sent:     nounOf(settings.Resource),
		number:   i,
		Findings: findings(&settings, &status, now),
	}
	for _, f := range v.Findings {
		v.Level = max(v.Level, f.Level)
	}
	if status.Err != nil {
		v.FailingSince = clock(status.FailingSince, now)
	}
	if status.Snapshot == nil {
		return v
	}

	v.Age = age(now.Sub(status.Succeeded))
	switch {
	case !status.Current:
		v.Stale, v.Staleness = v.Age, critical
	case status.Err != nil || throttled(&settings, &status):
		v.Stale, v.Staleness = v.Age, warning
	}
	return v
}

// Sentence says what is wrong. It follows the account's name and a colon.
func (v *accountView) Sentence() string {
	texts := make([]string, len(v.Findings))
	for i := range v.Findings {
		texts[i] = v.Findings[i].Text
	}
	return strings.Join(texts, ", ") + "."
}

// Short is Sentence with at most two findings.
func (v *accountView) Short() string {
	if len(v.Findings) <= 2 {
		return v.Sentence()
	}
	return v.Findings[0].Text + ", " + v.Findings[1].Text + ", and more."
}

// Progress says how far the first read is, or "" if that is not under way.
func (v *accountView) Progress() string {
	if v.Status.Phase != collector.PhaseReading {
		return ""
	}
	return "Numbers and charts appear at the end of the first read: " +
		progress(v.Status.PagesRead, v.Status.PagesExpected) + "."
}

// period is a line of numbers.
type period struct {
	Name       string
	Operations int64
	Failing    int64
	Messages   int64

	Delivered, Undelivered, Failed, Unaddressable figure
	Canceled, OnTheirWay                          int64
}

// figure is a number and its share of another.
type figure struct {
	N     int64
	Share string   // "" if there is none
	Level severity // of the share; see sumUp
}

// newPeriod returns a line of these totals. apart says how reads are counted: see readApart.
func newPeriod(name string, totals *window.Totals, apart bool) period {
	o := outcomesOf(&totals.Stats, apart)
	of := func(part, all int64) figure {
		if part == 0 || all == 0 {
			return figure{N: part}
		}
		return figure{N: part, Share: percent(part, all)}
	}
	return period{
		Name:          name,
		Operations:    totals.Operations,
		Failing:       totals.Failing,
		Messages:      totals.Stats[twilio.Total],
		Delivered:     of(o.delivered, o.ended()),
		Undelivered:   of(o.undelivered, o.ended()),
		Failed:        of(o.failed, o.ended()),
		Unaddressable: of(totals.Stats[twilio.Unaddressable], totals.Stats[twilio.Recipients]),
		Canceled:      o.canceled,
		OnTheirWay:    o.onTheirWay,
	}
}

// sumUp adds the numbers of a row and, if wanted, its spark.
func (v *accountView) sumUp(spark bool) {
	snapshot := v.Status.Snapshot
	if snapshot == nil {
		return
	}

	all := sumOf(snapshot)
	apart := readApart(all)
	hour := snapshot.LastHour()
	last := newPeriod("last hour", &hour, apart)
	for _, s := range shares(snapshot, v.Sent) {
		s.figure(&last).Level = s.level(s.part(&hour.Stats), s.of(&hour.Stats))
	}
	v.Periods = []period{last, newPeriod("last "+age(v.Settings.Window), all, apart)}

	if !spark {
		return
	}
	p := newPicture("", "", v.Sent, snapshot.Bars, snapshot.BarLength, apart)
	if p != nil {
		v.Spark = p.Spark()
	}
}

// drawInFull adds everything that is shown of an account in full.
func (v *accountView) drawInFull(now time.Time) {
	v.sumUp(false)
	snapshot := v.Status.Snapshot
	if snapshot == nil {
		return
	}

	apart := readApart(sumOf(snapshot))
	id := func(of string) string { return fmt.Sprintf("picture-%d-%s", v.number, of) }
	v.Pictures = []*picture{
		newPicture(id("window"), age(v.Settings.Window), v.Sent, snapshot.Bars, snapshot.BarLength, apart),
		newPicture(id("hour"), "hour", v.Sent, snapshot.Minutes, time.Minute, apart),
	}
	if v.Stale != "" {
		for _, p := range v.Pictures {
			if p != nil {
				p.End = snapshot.Time.UTC().Format("15:04")
			}
		}
	}
	v.Pictures = slices.DeleteFunc(v.Pictures, func(p *picture) bool { return p == nil })

	at := apiTime(&v.Status, now)
	v.Failing = v.newFailingView(at)
	v.Stuck = v.newListView(snapshot.Stuck, snapshot.AllStuck, at)
	v.Scheduled = v.newScheduledView(at)
	for i := range snapshot.Statuses {
		s := &snapshot.Statuses[i]
		v.ByStatus = append(v.ByStatus, newPeriod(string(s.Status), &s.Totals, apart))
	}
}

// HasUnaddressable reports whether what the account sends has recipients without an address.
func (v *accountView) HasUnaddressable() bool {
	return v.Settings.Resource.Stats()[twilio.Unaddressable].JSON != ""
}

// operationView is a row of a list of operations.
type operationView struct {
	*twilio.Operation
	Account          string
	Sent             noun
	Created, Updated string // how long ago
	Lost             string // share of its messages that failed or are undelivered
	Reasons          []reasonView
	Tags             string // "" if it has none
}

func (v *accountView) newOperationView(op *twilio.Operation, now time.Time) operationView {
	o := operationView{
		Operation: op,
		Account:   v.Settings.Account,
		Sent:      v.Sent,
		Created:   age(now.Sub(op.CreatedAt)),
		Updated:   age(now.Sub(op.UpdatedAt)),
		Lost:      percent(window.Lost(&op.Stats), op.Stats[twilio.Total]),
	}
	found, ok := v.Sampled.Operation(op.ID)
	if ok {
		o.Reasons = newReasonViews(&found)
		o.Tags = tagsOf(&found)
	}
	return o
}

// reasonView is one reason for which messages of an operation were lost.
type reasonView struct {
	Code    string // digits; "" if there is none
	What    string // code and channel, in words if necessary
	Count   int64
	Of      int // messages looked up
	Message string
}

// maxReasons is how many of an operation's reasons the page shows, the most frequent first.
const maxReasons = 3

func newReasonViews(found *collector.SampledOperation) (views []reasonView) {
	for _, e := range found.Errors[:min(len(found.Errors), maxReasons)] {
		view := reasonView{Code: e.Code, What: e.Code, Count: e.Count, Of: len(found.Messages), Message: e.Text}
		switch e.Code {
		case collector.NoError:
			view.Code, view.What = "", "no error code"
		case twilio.Other:
			view.Code, view.What = "", "other"
		}
		if e.Channel != collector.NoError {
			view.What += " on " + e.Channel
		}
		views = append(views, view)
	}
	return views
}

func tagsOf(found *collector.SampledOperation) string {
	var tags []string
	for _, key := range slices.Sorted(maps.Keys(found.Tags)) {
		tags = append(tags, key+"="+sanitize.OneLine(found.Tags[key]))
	}
	return strings.Join(tags, ", ")
}

// Messages is the number of the operation's messages.
func (v operationView) Messages() int64 { return v.Stats[twilio.Total] }

// Undelivered is the number of those that are undelivered.
func (v operationView) Undelivered() int64 { return v.Stats[twilio.Undelivered] }

// Failed is the number of those that failed.
func (v operationView) Failed() int64 { return v.Stats[twilio.Failed] }

// Size says how many messages the operation has.
func (v operationView) Size() string { return count(v.Messages(), string(v.Sent)) }

// listView is a list of operations, which may be only some of a kind.
type listView struct {
	Sent       noun
	Operations []operationView
	All        int64 // number of all operations of the kind
}

func (v *accountView) newListView(ops []*twilio.Operation, all int64, now time.Time) listView {
	list := listView{Sent: v.Sent, All: all}
	for _, op := range ops {
		list.Operations = append(list.Operations, v.newOperationView(op, now))
	}
	return list
}

// Count says how many operations there are and, if not all are listed, how many are.
func (v listView) Count() string {
	listed := int64(len(v.Operations))
	if listed < v.All {
		return number(listed) + " of " + number(v.All)
	}
	return number(v.All)
}

// failingView are the failing operations: those in flight or younger than an hour, and older ones.
type failingView struct{ Now, Older listView }

func (v *accountView) newFailingView(now time.Time) failingView {
	s := v.Status.Snapshot
	inFlightOrYoung := func(op *twilio.Operation) bool {
		return op.Status.Live() || !op.CreatedAt.Before(s.Time.Add(-time.Hour).Truncate(time.Minute))
	}
	older := slices.IndexFunc(s.Failing, func(op *twilio.Operation) bool { return !inFlightOrYoung(op) })
	if older < 0 {
		older = len(s.Failing)
	}
	return failingView{
		Now:   v.newListView(s.Failing[:older], s.FailingNow, now),
		Older: v.newListView(s.Failing[older:], sumOf(s).Failing-s.FailingNow, now),
	}
}

// scheduledView is the operation that has been scheduled longest.
type scheduledView struct {
	operationView
	All int64 // number of scheduled operations
}

func (v *accountView) newScheduledView(now time.Time) *scheduledView {
	s := v.Status.Snapshot
	if s.OldestScheduled == nil {
		return nil
	}

	scheduled := &scheduledView{operationView: v.newOperationView(s.OldestScheduled, now)}
	for i := range s.Statuses {
		if s.Statuses[i].Status == twilio.StatusScheduled {
			scheduled.All = s.Statuses[i].Operations
		}
	}
	return scheduled
}

// Succeeded says when the last refresh succeeded.
func (v *accountView) Succeeded(now time.Time) string {
	if v.Status.Succeeded.IsZero() {
		return "none yet"
	}
	return age(now.Sub(v.Status.Succeeded)) + " ago, " + clock(v.Status.Succeeded, now)
}

// Next says when the next refresh is.
func (v *accountView) Next(now time.Time) string {
	switch {
	case v.Settings.Interval == 0:
		return "at the next scrape"
	case v.Status.NextRefresh.After(now):
		return "in " + age(v.Status.NextRefresh.Sub(now))
	default:
		return "now"
	}
}

// Pace says how many requests a second the account may make.
func (v *accountView) Pace() string {
	if v.RateLimit == 0 {
		return "no limit"
	}
	return fmt.Sprintf("%v a second", v.RateLimit)
}

// Cooldown says until when the API throttles the account.
func (v *accountView) Cooldown(now time.Time) string {
	if v.Status.RetryAt.IsZero() {
		return "none"
	}
	return "until " + clock(v.Status.RetryAt, now)
}
