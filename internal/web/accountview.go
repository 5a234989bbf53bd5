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
	Level    severity // of the worst of them
	number   int      // of the account on the page
	Told     bool     // in the page's first line: what is wrong

	FailingSince string   // when the first refresh failed, of those that have failed since a success
	Age          string   // of the numbers
	Stale        string   // the same where it is more than it should be
	Staleness    severity // how bad that is
	// Periods are the numbers of the last hour and of the window; nil before the first success.
	Periods []period

	// What follows is there in full only.

	Pictures  []*picture
	Failing   failingView
	Stuck     listView
	Scheduled *scheduledView
	ByStatus  []period

	// Spark is there in a row only.
	Spark template.HTML
}

// newAccountView says how account number i of a page stands.
func newAccountView(i int, settings collector.Settings, status collector.Status, now time.Time) *accountView {
	v := &accountView{
		Settings: settings, Status: status, Sent: nounOf(settings.Resource), number: i, Findings: find(&settings, &status, now),
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

// Sentence is what is wrong, after the account's name and a colon.
func (v *accountView) Sentence() string {
	texts := make([]string, len(v.Findings))
	for i := range v.Findings {
		texts[i] = v.Findings[i].Text
	}
	return strings.Join(texts, ", ") + "."
}

// Short is Sentence, of the first two things that are wrong.
func (v *accountView) Short() string {
	if len(v.Findings) <= 2 {
		return v.Sentence()
	}
	return v.Findings[0].Text + ", " + v.Findings[1].Text + ", and more."
}

// Progress says how far the first read is, "" where none is under way.
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

// figure is a number and the share that it is.
type figure struct {
	N     int64
	Share string   // "" where there is none
	Level severity // of the share, where that is looked at
}

func newPeriod(name string, totals *window.Totals, apart bool) period {
	o := outcomesOf(&totals.Stats, apart)
	of := func(part, all int64) figure {
		if part == 0 || all == 0 {
			return figure{N: part}
		}
		return figure{N: part, Share: percent(part, all)}
	}
	return period{
		Name: name, Operations: totals.Operations, Failing: totals.Failing, Messages: totals.Stats[twilio.Total],
		Delivered: of(o.delivered, o.ended()), Undelivered: of(o.undelivered, o.ended()), Failed: of(o.failed, o.ended()),
		Unaddressable: of(totals.Stats[twilio.Unaddressable], totals.Stats[twilio.Recipients]),
		Canceled:      o.canceled, OnTheirWay: o.onTheirWay,
	}
}

// sumUp makes what the numbers of a row are.
func (v *accountView) sumUp(spark bool) {
	snapshot := v.Status.Snapshot
	if snapshot == nil {
		return
	}

	all := sumOf(snapshot)
	apart := readApart(all)
	hour := snapshot.LastHour()
	last := newPeriod("last hour", &hour, apart)
	for i, s := range shares(snapshot, v.Sent) {
		figure := []*figure{&last.Failed, &last.Undelivered, &last.Unaddressable}[i]
		figure.Level = s.level(s.part(&hour.Stats), s.of(&hour.Stats))
	}
	v.Periods = []period{last, newPeriod("last "+age(v.Settings.Window), all, apart)}

	if p := newPicture("", "", v.Sent, snapshot.Bars, snapshot.BarLength, apart); p != nil && spark {
		v.Spark = p.Spark()
	}
}

// drawInFull makes all there is to see of an account.
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

// HasUnaddressable reports whether there is such a thing in what the account sends.
func (v *accountView) HasUnaddressable() bool {
	return v.Settings.Resource.Stats()[twilio.Unaddressable].JSON != ""
}

// operationView is a row of a list of operations.
type operationView struct {
	*twilio.Operation
	Account          string
	Sent             noun
	Created, Updated string // how long ago
	Lost             string // the share of its messages that failed or are undelivered
	Reasons          []reasonView
	Tags             string // "" for none
}

func (v *accountView) newOperationView(op *twilio.Operation, now time.Time) operationView {
	o := operationView{
		Operation: op, Account: v.Settings.Account, Sent: v.Sent,
		Created: age(now.Sub(op.CreatedAt)), Updated: age(now.Sub(op.UpdatedAt)),
		Lost: percent(window.Lost(&op.Stats), op.Stats[twilio.Total]),
	}
	if found, ok := v.Sampled.Operation(op.ID); ok {
		o.Reasons = newReasonViews(&found)
		o.Tags = tagsOf(&found)
	}
	return o
}

// reasonView is why some of an operation's lost messages were lost.
type reasonView struct {
	Code    string // digits; "" where there is none
	What    string // the code, or what stands for it, and the channel
	Count   int64
	Of      int // messages looked up
	Message string
}

// maxReasons is how many reasons of an operation the page shows: the most frequent.
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

// Messages, Undelivered and Failed are the operation's.
func (v operationView) Messages() int64    { return v.Stats[twilio.Total] }
func (v operationView) Undelivered() int64 { return v.Stats[twilio.Undelivered] }
func (v operationView) Failed() int64      { return v.Stats[twilio.Failed] }

// Size is how many messages the operation has.
func (v operationView) Size() string { return count(v.Messages(), string(v.Sent)) }

// listView is a list of some of all operations of a kind.
type listView struct {
	Sent       noun
	Operations []operationView
	All        int64
}

func (v *accountView) newListView(ops []*twilio.Operation, all int64, now time.Time) listView {
	list := listView{Sent: v.Sent, All: all}
	for _, op := range ops {
		list.Operations = append(list.Operations, v.newOperationView(op, now))
	}
	return list
}

// Count says how many of how many are listed.
func (v listView) Count() string {
	if n := int64(len(v.Operations)); n < v.All {
		return number(n) + " of " + number(v.All)
	}
	return number(v.All)
}

// failingView are the failing operations: those about which something can still be done, and the others.
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

// scheduledView is the operation that has been scheduled for longest.
type scheduledView struct {
	operationView
	All int64 // operations that are scheduled
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

// Pace says how many requests the account may make.
func (v *accountView) Pace() string {
	if v.RateLimit == 0 {
		return "no limit"
	}
	return fmt.Sprintf("%v a second", v.RateLimit)
}

// Cooldown says until when the API lets no request through.
func (v *accountView) Cooldown(now time.Time) string {
	if v.Status.RetryAt.IsZero() {
		return "none"
	}
	return "until " + clock(v.Status.RetryAt, now)
}
