package web

import (
	"errors"
	"net/http"
	"regexp"
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
	)
	s, _ := testFileServer(t, api, "\"<script>alert('x')</script>\"", "plain")
	unread := get(t, s, http.MethodGet, "/")
	if text := unread.Body.String(); !strings.Contains(text, "No numbers yet.") || strings.Contains(text, "COMPLETED") {
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
		"&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;", `<th scope="row"><a href="#account-plain">plain</a></th>`, `id="account-plain"`,
		`<meta http-equiv="refresh" content="30">`,
		`<span class="state fresh">fresh 2</span>`, `<td data-label="Window">1d</td>`,
		`<td data-label="Messages" class="n">2,003</td>`,
		"1,500 (75%)", "100 (5%)", "400 (20%)", "Failing operations", "Processing, longest without an update",
		`<a href="probe?account=plain&amp;target=` + testutil.Operation(1, "", twilio.Stats{}).ID + `" rel="nofollow">`,
		`<td data-label="Share lost" class="n">25%</td>`,
		testutil.Operation(1, "", twilio.Stats{}).ID, testutil.Operation(2, "", twilio.Stats{}).ID,
		`href="metrics"`, `href="-/ready"`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	if regexp.MustCompile(`(?i)<script|javascript:|\son\w+=|https?://|url\(`).MatchString(text) {
		t.Errorf("scripts or external resources:\n%s", text)
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

func TestAccountView(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	settings := collector.Settings{Account: "a", Interval: time.Minute, Window: 24 * time.Hour}
	snapshot := &window.Snapshot{Statuses: []window.StatusSums{
		{Status: twilio.StatusCompleted, Totals: window.Totals{
			Operations: 1234, Stats: twilio.Stats{twilio.Total: 3_000_000, twilio.Delivered: 2_000_000, twilio.Read: 2_999_999, twilio.Failed: 1},
		}},
		{Status: twilio.StatusCanceled},
	}}
	for name, tc := range map[string]struct {
		settings collector.Settings
		status   collector.Status
		want     []string
	}{
		"starting": {
			settings, collector.Status{State: collector.StateStarting, NextRefresh: now.Add(90 * time.Second)},
			[]string{">starting<", ">in 1m30s<", ">none yet<", `"Operations" class="n">–<`, `"Failed" class="n">–<`, "No numbers yet.", ">none<"},
		},
		"reading": {
			settings, collector.Status{State: collector.StateReading, PagesRead: 40, PagesExpected: 100},
			[]string{">first read 40%<", `"Next refresh">now<`},
		},
		"reading more than expected": {
			settings, collector.Status{State: collector.StateReading, PagesRead: 101, PagesExpected: 100},
			[]string{">first read 99%<"},
		},
		"reading, how far unknown": {settings, collector.Status{State: collector.StateReading}, []string{">first read<"}},
		"failing": {
			settings, collector.Status{
				State: collector.StateFailing, FailingSince: now.Add(-time.Hour), Err: errors.New("401:\nno"), Reason: collector.Reasons()[0],
				Succeeded: now.Add(-26 * time.Hour), Snapshot: snapshot,
			},
			[]string{
				">failing since 11:00:00 UTC (1h)<", `<span class="error">401:; no</span><br>Check the account SID`,
				"As of 1d2h ago. Too old: no longer exported", ">1d2h ago, 2026-02-28 10:00:00 UTC<",
			},
		},
		"throttled": {
			settings, collector.Status{State: collector.StateThrottled, RetryAt: now.Add(13 * time.Hour)},
			[]string{">throttled by Twilio until 2026-03-02 01:00:00 UTC<"},
		},
		"fresh": {
			settings, collector.Status{
				State: collector.StateFresh, Succeeded: now.Add(-5 * time.Second), Snapshot: snapshot, Current: true, Requests: 1865,
			},
			[]string{
				">fresh<", "As of 5s ago.</p>", ">1,865<", `"Operations" class="n">1,234<`, `"Messages" class="n">3,000,000<`,
				`"Delivered" class="n">2,999,999 (&gt;99.9%)<`, `"Failed" class="n">1 (&lt;0.1%)<`,
				`CANCELED</th><td data-label="Operations" class="n">0</td><td data-label="Failing" class="n">0</td>` +
					`<td data-label="Messages" class="n">0</td><td data-label="Delivered" class="n">0<`,
			},
		},
		"on each scrape": {
			collector.Settings{}, collector.Status{State: collector.StateFresh, Snapshot: &window.Snapshot{}},
			[]string{">at the next scrape<", `"Delivered" class="n">0<`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var text strings.Builder
			page := pageView{Now: now, Accounts: []accountView{newAccountView(tc.settings, tc.status)}}
			if err := landingTemplate.Execute(&text, page); err != nil {
				t.Fatal(err)
			}
			for _, want := range tc.want {
				if !strings.Contains(text.String(), want) {
					t.Errorf("%q is missing in\n%s", want, text.String())
				}
			}
		})
	}
}

func TestNumberAndPercent(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1234: "-1,234", -123: "-123"} {
		if got := number(n); got != want {
			t.Errorf("number(%d) = %q, want %q", n, got, want)
		}
	}
	for want, of := range map[string][2]int64{
		"–": {1, 0}, "0%": {0, 5}, "100%": {5, 5}, "<0.1%": {1, 1_000_000}, ">99.9%": {999_999, 1_000_000}, "33.3%": {1, 3}, "200%": {
			2, 1,
		},
	} {
		if got := percent(of[0], of[1]); got != want {
			t.Errorf("percent(%d, %d) = %q, want %q", of[0], of[1], got, want)
		}
	}
}
