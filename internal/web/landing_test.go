package web

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"twilio_operations_exporter/collector"
	"twilio_operations_exporter/collector/window"
	"twilio_operations_exporter/internal/testutil"
	"twilio_operations_exporter/twilio"
)

func TestLandingPage(t *testing.T) {
	api := testutil.New(t,
		testutil.Operation(
			1, twilio.StatusCompleted, twilio.Stats{twilio.Total: 2000, twilio.Delivered: 1500, twilio.Failed: 400, twilio.Undelivered: 100},
		),
		testutil.Operation(2, twilio.StatusProcessing, twilio.Stats{twilio.Total: 3, twilio.Queued: 3}),
		testutil.Operation(3, twilio.StatusScheduled, twilio.Stats{twilio.Total: 1, twilio.Scheduled: 1}),
	)

	s, _ := testFileServer(t, api, "\"<script>alert('x')</script>\"", "plain")
	unread := get(t, s, http.MethodGet, "/")
	if text := unread.Body.String(); !strings.Contains(text, "first read has not begun") || strings.Contains(text, "COMPLETED") {
		t.Errorf("numbers before they are read:\n%s", text)
	}

	refresh(t, s)
	w := get(t, s, http.MethodGet, "/")
	text := w.Body.String()
	if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "text/html; charset=utf-8" ||
		!strings.HasPrefix(text, "<!DOCTYPE html>\n<html") {
		t.Errorf("%d %s: %.60s", w.Code, w.Header().Get("Content-Type"), text)
	}

	for _, want := range []string{
		`title="&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;"`,
		`<a class="name" href="./?account=plain" title="plain">plain</a>`, `id="account-plain"`,
		`<meta http-equiv="refresh" content="30">`,
		"2 accounts, 2 in trouble:",
		`<td data-label="Messages" class="n">2,004</td>`,
		`1,500 <span class="share">75%</span>`, `100 <span class="share">5%</span>`, `400 <span class="share">20%</span>`,
		"Failing now: 1, most messages lost first", "Stuck: 1, longest without an update first",
		`<a href="probe?account=plain&amp;target=` + testutil.Operation(1, "", twilio.Stats{}).ID + `" rel="nofollow">`,
		`<td data-label="Lost" class="n">25%</td>`,
		"Oldest of 1 scheduled, created 1 h ago, 1 message:",
		"Messages of the last 24 h, by creation time", "Messages of the last hour, by creation time",
		`href="metrics"`, `href="-/ready"`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}

	// Reasons may have been looked up by now, or not: they link to Twilio's pages.
	text = regexp.MustCompile(`<a href="https://www\.twilio\.com/docs/api/errors/\d+" rel="noreferrer">`).ReplaceAllString(text, "<a>")
	if regexp.MustCompile(`(?i)<script|javascript:|\son\w+=|https?://|url\(| style=`).MatchString(text) {
		t.Errorf("scripts, external resources or style that the policy does not admit:\n%s", text)
	}
	// The policy admits the very style that the page has.
	style := regexp.MustCompile(`(?s)<style>(.*?)</style>`).FindStringSubmatch(text)
	if len(style) != 2 || w.Header().Get("Content-Security-Policy") != contentSecurityPolicy(style[1]) {
		t.Errorf("policy %q", w.Header().Get("Content-Security-Policy"))
	}
	if strings.Contains(text, testutil.Token) {
		t.Error("a secret is on the page")
	}
}

func TestLandingPageOfOneAccount(t *testing.T) {
	api := testutil.New(t, testutil.Operation(1, twilio.StatusCompleted, twilio.Stats{twilio.Total: 7, twilio.Delivered: 7}))
	s, _ := testFileServer(t, api, "one", "two", "three", "four")
	refresh(t, s)
	for path, tc := range map[string]struct {
		code      int
		want, not string
	}{
		"/":             {http.StatusOK, "4 accounts. Nothing is wrong.", "data-label="},
		"/?account=two": {http.StatusOK, "1 account. Nothing is wrong.", "three"},
		"/?account=x":   {http.StatusNotFound, "There is no account &#34;x&#34;.", "three"},
	} {
		w := get(t, s, http.MethodGet, path)
		text, _, _ := strings.Cut(w.Body.String(), `<section id="plumbing">`)
		if w.Code != tc.code || !strings.Contains(text, tc.want) || strings.Contains(text, tc.not) {
			t.Errorf("%s: %d, want %d, %q and not %q in\n%s", path, w.Code, tc.code, tc.want, tc.not, text)
		}
	}
}

// The page of a shard says which part of the accounts it has.
func TestLandingPageOfAShard(t *testing.T) {
	api := testutil.New(t)
	file := testutil.NewFile(t, api, "one", "two", "three", "four")
	testutil.SetEnv(t, nil)
	own := 0
	for _, index := range []string{"0", "1"} {
		s := load(t, "--config.file", file.Path, "--shard.index", index, "--shard.total=2")
		n := len(s.accounts.List())
		own += n
		text := get(t, s, http.MethodGet, "/").Body.String()
		if want := fmt.Sprintf("Shard %s of 2: %d of 4 accounts", index, n); !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}

	if own != 4 {
		t.Errorf("%d accounts in both", own)
	}
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// hourOf is a snapshot at noon with these stats, of operations created five minutes before.
func hourOf(stats twilio.Stats) *window.Snapshot {
	totals := window.Totals{Operations: 3, Stats: stats}
	bars := make([]window.Bar, 61)
	for i := range bars {
		bars[i].Start = noon.Add(time.Duration(i-60) * time.Minute)
	}
	bars[55].Totals = totals
	return &window.Snapshot{
		Time:     noon,
		Statuses: []window.StatusSums{{Status: twilio.StatusProcessing}, {Status: twilio.StatusCompleted, Totals: totals}},
		Bars:     []window.Bar{{Start: noon.Add(-time.Hour), Totals: totals}}, BarLength: time.Hour,
		Minutes: bars,
	}
}

// with returns the snapshot after a change.
func with(s *window.Snapshot, change func(s *window.Snapshot)) *window.Snapshot {
	change(s)
	return s
}

func operations(n int, updated time.Duration) []*twilio.Operation {
	ops := make([]*twilio.Operation, n)
	for i := range ops {
		ops[i] = &twilio.Operation{
			ID: "comms_operation_x", Status: twilio.StatusProcessing, CreatedAt: noon.Add(-7 * time.Hour), UpdatedAt: noon.Add(-updated),
		}
	}
	return ops
}

// TestFindings checks the sentence that says what is wrong with an account.
func TestFindings(t *testing.T) {
	settings := collector.Settings{Account: "a", Interval: time.Minute, Window: 24 * time.Hour}
	onScrape := collector.Settings{Account: "a", Window: 24 * time.Hour}
	reason := func(label string) collector.Reason { return collector.Reason{Label: label} }
	failed := errors.New("it failed")
	now := noon.Add(5 * time.Second)
	fresh := func(s *window.Snapshot) collector.Status {
		return collector.Status{Phase: collector.PhaseFresh, Succeeded: noon, Snapshot: s, Current: true}
	}

	for name, tc := range map[string]struct {
		settings collector.Settings
		status   collector.Status
		level    severity
		want     string
	}{
		"starting":   {settings, collector.Status{Phase: collector.PhaseStarting}, waiting, "first read has not begun."},
		"no scrape":  {onScrape, collector.Status{Phase: collector.PhaseStarting}, waiting, "no numbers before the first scrape."},
		"first read": {settings, collector.Status{Phase: collector.PhaseReading}, waiting, "first read under way."},
		"first read, so far": {
			settings, collector.Status{Phase: collector.PhaseReading, PagesRead: 40, PagesExpected: 100},
			waiting, "first read under way (40%).",
		},
		"first read, of more than expected": {
			settings, collector.Status{Phase: collector.PhaseReading, PagesRead: 101, PagesExpected: 100},
			waiting, "first read under way (99%).",
		},
		"refused": {
			settings, collector.Status{Phase: collector.PhaseFailing, Err: failed, Reason: reason("auth")},
			critical, "no numbers yet (credentials refused).",
		},
		"throttled at first": {
			settings, collector.Status{Phase: collector.PhaseThrottled, RetryAt: now.Add(4 * time.Minute)},
			critical, "no numbers yet (throttled by Twilio for another 4 min).",
		},
		"throttled": {
			settings, collector.Status{
				Phase: collector.PhaseThrottled, RetryAt: now.Add(4 * time.Minute), Succeeded: now.Add(-3 * time.Minute),
				Snapshot: hourOf(twilio.Stats{}), Current: true,
			},
			warning, "numbers are 3 min old (throttled by Twilio for another 4 min).",
		},
		"throttled for no longer than an interval": {
			settings, collector.Status{
				Phase: collector.PhaseThrottled, RetryAt: now.Add(time.Minute), Succeeded: now, Snapshot: hourOf(twilio.Stats{}), Current: true,
			},
			quiet, ".",
		},
		"a refresh failed": {
			settings, collector.Status{
				Phase: collector.PhaseFailing, Err: failed, Reason: reason("timeout"), Succeeded: now.Add(-90 * time.Second),
				Snapshot: with(hourOf(twilio.Stats{}), func(s *window.Snapshot) { s.FailingNow = 2 }), Current: true,
			},
			warning, "numbers are 1 min old (timeout), 2 campaigns failing in the last hour.",
		},
		"refused later": {
			settings, collector.Status{
				Phase: collector.PhaseFailing, Err: failed, Reason: reason("auth"), Succeeded: now.Add(-90 * time.Second),
				Snapshot: hourOf(twilio.Stats{}), Current: true,
			},
			critical, "numbers are 1 min old (credentials refused).",
		},
		"too old": {
			settings, collector.Status{
				Phase: collector.PhaseFailing, Err: failed, Reason: reason("network"), Succeeded: now.Add(-12 * time.Minute),
				Snapshot: with(hourOf(twilio.Stats{}), func(s *window.Snapshot) { s.FailingNow = 2 }),
			},
			critical, "no current numbers for 12 min (no connection to Twilio).",
		},
		"too old, and nobody knows why": {
			settings, collector.Status{Phase: collector.PhaseFresh, Succeeded: now.Add(-12 * time.Minute), Snapshot: hourOf(twilio.Stats{})},
			critical, "no current numbers for 12 min (a refresh is under way).",
		},
		"nobody scrapes": {
			onScrape, collector.Status{Phase: collector.PhaseFresh, Succeeded: now.Add(-12 * time.Minute), Snapshot: hourOf(twilio.Stats{})},
			warning, "no current numbers for 12 min (no scrape).",
		},
		"nothing":     {settings, fresh(&window.Snapshot{Time: noon}), quiet, "."},
		"all is well": {settings, fresh(hourOf(twilio.Stats{twilio.Total: 1000, twilio.Delivered: 960, twilio.Failed: 40})), quiet, "."},
		"a campaign failing": {
			settings, fresh(with(hourOf(twilio.Stats{}), func(s *window.Snapshot) { s.FailingNow, s.Statuses[0].Failing = 1, 1 })),
			warning, "1 campaign failing now.",
		},
		"failing and stuck": {
			settings, fresh(with(hourOf(twilio.Stats{}), func(s *window.Snapshot) {
				s.FailingNow, s.Statuses[0].Failing = 30, 3
				s.AllStuck, s.Stuck = 1, operations(1, 2*time.Hour)
			})),
			warning, "30 campaigns failing now, 1 stuck for 2 h.",
		},
		"stuck for long": {
			settings, fresh(with(hourOf(twilio.Stats{}), func(s *window.Snapshot) { s.AllStuck, s.Stuck = 7, operations(5, 6*time.Hour) })),
			critical, "7 campaigns stuck for up to 6 h.",
		},
		"some failed": {
			settings, fresh(hourOf(twilio.Stats{twilio.Total: 1000, twilio.Delivered: 940, twilio.Failed: 60})),
			warning, "6% of messages failed in the last hour.",
		},
		"many failed": {
			settings, fresh(hourOf(twilio.Stats{twilio.Total: 1000, twilio.Delivered: 800, twilio.Failed: 110, twilio.Undelivered: 90})),
			critical, "11% of messages failed in the last hour.",
		},
		"many failed lately": {
			settings, fresh(with(hourOf(twilio.Stats{twilio.Total: 200, twilio.Failed: 200}), func(s *window.Snapshot) {
				s.Minutes[30].Stats = twilio.Stats{twilio.Total: 9800, twilio.Delivered: 9800}
			})),
			critical, "100% of messages failed in the last 15 min.",
		},
		"many of a handful failed": {
			settings, fresh(hourOf(twilio.Stats{twilio.Total: 99, twilio.Delivered: 9, twilio.Failed: 90})), quiet, ".",
		},
		"many undelivered": {
			settings, fresh(hourOf(twilio.Stats{twilio.Total: 1000, twilio.Read: 700, twilio.Undelivered: 300})),
			critical, "30% of messages undelivered in the last hour.",
		},
		"many unaddressable": {
			settings, fresh(hourOf(twilio.Stats{twilio.Recipients: 1000, twilio.Unaddressable: 900})),
			warning, "90% of recipients unaddressable in the last hour.",
		},
	} {
		t.Run(name, func(t *testing.T) {
			v := newAccountView(0, tc.settings, tc.status, now)
			if v.Level != tc.level || v.Sentence() != tc.want {
				t.Errorf("%s: %q, want %s: %q", v.Level, v.Sentence(), tc.level, tc.want)
			}
			// Whatever there is, there is a page of it.
			if text := render(t, []*accountView{v}); tc.level != quiet && !strings.Contains(text, "1 account.") {
				t.Errorf("the page does not say it:\n%s", text)
			}
		})
	}
}

// Every reason for which a refresh can fail is known to the first line.
func TestCauses(t *testing.T) {
	for _, r := range collector.Reasons() {
		if causes[r.Label] == "" {
			t.Errorf("%s has no cause", r.Label)
		}
	}
}

// render renders a page of accounts at noon.
func render(tb testing.TB, all []*accountView) string {
	tb.Helper()
	var text strings.Builder
	if err := landingTemplate.Execute(&text, newPageView(all, nil, noon)); err != nil {
		tb.Fatal(err)
	}
	return text.String()
}

// TestAccountView checks what an account's part of the page says besides the sentence.
func TestAccountView(t *testing.T) {
	settings := collector.Settings{Account: "a", Interval: time.Minute, Window: 24 * time.Hour}
	snapshot := hourOf(twilio.Stats{
		twilio.Total: 3_000_000, twilio.Delivered: 2_000_000, twilio.Read: 2_999_999, twilio.Failed: 1,
	})
	for name, tc := range map[string]struct {
		settings collector.Settings
		status   collector.Status
		want     []string
	}{
		"starting": {
			settings, collector.Status{Phase: collector.PhaseStarting, NextRefresh: noon.Add(90 * time.Second)},
			[]string{">in 1 min<", ">none yet<", ">none<"},
		},
		"reading": {
			settings, collector.Status{Phase: collector.PhaseReading, PagesRead: 40, PagesExpected: 100},
			[]string{"at the end of the first read: 40 of about 100 pages read.", `"Next refresh">now<`},
		},
		"too old": {
			settings, collector.Status{
				Phase: collector.PhaseFailing, Err: errors.New("401:\nno"), Reason: collector.Reasons()[0],
				Succeeded: noon.Add(-26 * time.Hour), FailingSince: noon.Add(-time.Hour), Snapshot: snapshot,
			},
			[]string{
				`Refreshes have failed since 11:00:00 UTC: <span class="error">401:; no</span>`, "Check that the account SID is right", `critical stale"`, "✕ 26 h old</strong></th>",
				"✕ 26 h old</strong></figcaption>", ">26 h ago, 2026-02-28 10:00:00 UTC<",
			},
		},
		"throttled": {
			settings, collector.Status{Phase: collector.PhaseThrottled, RetryAt: noon.Add(13 * time.Hour)},
			[]string{">until 2026-03-02 01:00:00 UTC<"},
		},
		"fresh": {
			settings, collector.Status{
				Phase: collector.PhaseFresh, Succeeded: noon.Add(-5 * time.Second), Snapshot: snapshot, Current: true, Requests: 1865,
			},
			[]string{
				"as of 5 s ago", ">1,865<", `"Operations" class="n">3<`, `"Messages" class="n">3,000,000<`,
				`"Delivered" class="n"><span>2,999,999 <span class="share">&gt;99.9%</span></span><`,
				`"Failed" class="n"><span>1 <span class="share">&lt;0.1%</span></span><`, `"Canceled" class="n">0<`,
				"Created in the", ">last hour<", ">last 24 h<",
			},
		},
		"a share that is wrong": {
			settings, collector.Status{
				Phase: collector.PhaseFresh, Succeeded: noon, Current: true,
				Snapshot: hourOf(twilio.Stats{twilio.Total: 100, twilio.Delivered: 80, twilio.Failed: 20}),
			},
			[]string{`20 <span class="share">20%</span> <strong class="mark critical">✕ Critical</strong>`},
		},
		"failing and stuck": {
			settings, collector.Status{
				Phase: collector.PhaseFresh, Succeeded: noon, Current: true,
				Snapshot: with(hourOf(twilio.Stats{}), func(s *window.Snapshot) {
					s.FailingNow = 4
					s.Statuses[1].Failing = 72
					s.Failing = []*twilio.Operation{
						{ID: "young", Status: twilio.StatusCompleted, CreatedAt: noon.Add(-time.Hour)},
						{ID: "in_flight", Status: twilio.StatusProcessing, CreatedAt: noon.Add(-9 * time.Hour)},
						{ID: "old", Status: twilio.StatusCompleted, CreatedAt: noon.Add(-16 * time.Hour)},
					}
					s.AllStuck, s.Stuck = 12, operations(5, 2*time.Hour)
				}),
			},
			[]string{
				"Failing now: 2 of 4, most messages lost first", "Failing earlier in the window: 1 of 68, most messages lost first",
				"Stuck: 5 of 12, longest without an update first", `"Created">16 h ago<`, `"Last update">2 h ago<`,
			},
		},
		"on each scrape": {
			collector.Settings{}, collector.Status{Phase: collector.PhaseFresh, Snapshot: &window.Snapshot{}, Current: true, Succeeded: noon},
			[]string{">at the next scrape<", `"Delivered" class="n"><span>0</span><`, "No messages in the window."},
		},
	} {
		t.Run(name, func(t *testing.T) {
			text := render(t, []*accountView{newAccountView(0, tc.settings, tc.status, noon)})
			for _, want := range tc.want {
				if !strings.Contains(text, want) {
					t.Errorf("%q is missing in\n%s", want, text)
				}
			}
		})
	}
}

// Why a failing operation loses messages, and whose it is, stands beside it.
func TestReasons(t *testing.T) {
	settings := collector.Settings{Account: "a", Interval: time.Minute, Window: 24 * time.Hour}
	status := collector.Status{
		Phase: collector.PhaseFresh, Succeeded: noon, Current: true,
		Snapshot: with(hourOf(twilio.Stats{twilio.Total: 5}), func(s *window.Snapshot) {
			s.FailingNow = 1
			s.Failing = []*twilio.Operation{{ID: "x", Status: twilio.StatusProcessing, CreatedAt: noon}}
		}),
	}

	page := func(found ...collector.SampledOperation) string {
		v := newAccountView(0, settings, status, noon)
		v.Sampled = collector.Sampled{Operations: found}
		return render(t, []*accountView{v})
	}

	text := page(collector.SampledOperation{
		ID: "x", Messages: []string{"1", "2", "3", "4", "5", "6", "7"},
		Errors: []collector.ErrorCount{
			{Code: "30007", Channel: "SMS", Count: 4, Text: "Message <filtered>"},
			{Code: collector.NoError, Channel: "RCS", Count: 1},
			{Code: twilio.Other, Channel: collector.NoError, Count: 1},
			{Code: "30003", Channel: "SMS", Count: 1},
		},
		Tags: map[string]string{"team": "growth", "campaign": "<b>spring</b>"},
	})

	for _, want := range []string{
		`<a href="https://www.twilio.com/docs/api/errors/30007" rel="noreferrer">30007 on SMS</a>:`,
		"4 of 7 looked up. Message &lt;filtered&gt;</span>", "no error code on RCS:", "other:", "1 of 7 looked up</span>",
		"campaign=&lt;b&gt;spring&lt;/b&gt;, team=growth</span>",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}

	if strings.Contains(text, "30003") {
		t.Errorf("more reasons than there is room for:\n%s", text)
	}
	for _, text := range []string{page(), page(collector.SampledOperation{ID: "y", Messages: []string{"1"}})} {
		if strings.Contains(text, "looked up") || strings.Contains(text, `class="why"`) {
			t.Errorf("reasons of an operation that was not looked up:\n%s", text)
		}
	}
}

// The page of e-mails speaks of e-mails, and of nothing that they do not have.
func TestPageOfEmails(t *testing.T) {
	settings := collector.Settings{Account: "a", Resource: twilio.Emails, Interval: time.Minute, Window: 24 * time.Hour}
	status := collector.Status{
		Phase: collector.PhaseFresh, Succeeded: noon, Current: true,
		Snapshot: hourOf(twilio.Stats{twilio.Total: 1000, twilio.Delivered: 800, twilio.Failed: 200, twilio.Sent: 800}),
	}

	text := render(t, []*accountView{newAccountView(0, settings, status, noon)})
	text, _, _ = strings.Cut(text, "What counts as wrong.")
	for _, want := range []string{
		"20% of e-mails failed in the last hour", "E-mails of the last 24 h, by creation time", ">E-mails</th>", `data-label="E-mails"`,
		"1,000 e-mails in 1 h", `data-label="On their way" class="n">0<`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}

	_, text, _ = strings.Cut(text, "<main>")
	if strings.Contains(strings.ToLower(text), "messages") || strings.Contains(text, "Unaddressable") {
		t.Errorf("messages or recipients on a page of e-mails:\n%s", text)
	}
}

// The page has colors where the alerts as shipped have severities.
func TestThresholdsAreThoseOfAlerts(t *testing.T) {
	rules, err := os.ReadFile(filepath.Join("..", "..", "deploy", "prometheus", "rules", "thresholds.yml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		record   string
		severity severity
		want     float64
	}{
		{"twilio:messages_failed_share:threshold", warning, failedWarning / 100.},
		{"twilio:messages_failed_share:threshold", critical, failedCritical / 100.},
		{"twilio:messages_undelivered_share:threshold", warning, undeliveredWarning / 100.},
		{"twilio:messages_undelivered_share:threshold", critical, undeliveredCritical / 100.},
		{"twilio:recipients_unaddressable_share:threshold", warning, unaddressableWarning / 100.},
		{"twilio:processing_idle_seconds:threshold", critical, stuckCritical.Seconds()},
		{"twilio:numbers_age_seconds:threshold", critical, blindCritical.Seconds()},
	} {
		pattern := `\n +- record: ` + tc.record + `\n +labels: \{severity: ` + tc.severity.String() + `\}\n +expr: vector\(([\d.]+)\)`
		m := regexp.MustCompile(pattern).FindSubmatch(rules)
		if m == nil {
			t.Errorf("no %s of severity %s", tc.record, tc.severity)
			continue
		}
		if got, err := strconv.ParseFloat(string(m[1]), 64); err != nil || got != tc.want {
			t.Errorf("%s of severity %s is %s, the page has %v", tc.record, tc.severity, m[1], tc.want)
		}
	}
}
