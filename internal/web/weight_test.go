package web

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"twilio_operations_exporter/collector"
	"twilio_operations_exporter/collector/window"
	"twilio_operations_exporter/internal/testutil"
	"twilio_operations_exporter/twilio"
)

// busySnapshot is one of a large account with all there can be to see.
func busySnapshot(troubled bool) *window.Snapshot {
	var all window.Totals
	bars := func(n int, length time.Duration) []window.Bar {
		bars := make([]window.Bar, n)
		for i := range bars {
			k := int64(7919 * (i + 1) % 4001)
			bars[i] = window.Bar{Start: noon.Add(time.Duration(i-n+1) * length), Totals: window.Totals{
				Operations: 525, Stats: twilio.Stats{
					twilio.Total: 148_000 + k, twilio.Recipients: 150_000 + k, twilio.Unaddressable: 1_200 + k/4,
					twilio.Delivered: 139_000 + k, twilio.Read: 40_000, twilio.Undelivered: 4_400 + k/2, twilio.Failed: 1_700 + k/3,
					twilio.Canceled: 600, twilio.Queued: 1_000, twilio.Sent: 500,
				},
			}}
			all.Operations += bars[i].Operations
			all.Stats.Add(&bars[i].Stats)
		}
		return bars
	}
	s := &window.Snapshot{Time: noon, Minutes: bars(61, time.Minute), BarLength: 15 * time.Minute}
	all = window.Totals{}
	s.Bars = bars(97, s.BarLength)
	for _, status := range []twilio.Status{
		twilio.StatusScheduled, twilio.StatusProcessing, twilio.StatusCompleted, twilio.StatusCanceled,
	} {
		s.Statuses = append(s.Statuses, window.StatusSums{Status: status, Totals: all})
	}

	op := func(n int) *twilio.Operation {
		op := testutil.Operation(n, twilio.StatusProcessing, twilio.Stats{twilio.Total: 9_500, twilio.Failed: 4_700, twilio.Undelivered: 300})
		op.CreatedAt = noon.Add(-6 * time.Hour)
		op.UpdatedAt = noon.Add(-5*time.Hour - 7*time.Minute)
		return &op
	}
	s.OldestScheduled = op(0)
	if !troubled {
		return s
	}
	s.FailingNow = 1_213
	s.AllStuck = 117
	for i := range 5 {
		s.Failing = append(s.Failing, op(i))
		s.Stuck = append(s.Stuck, op(i))
	}
	s.Statuses[1].Failing = 30
	return s
}

// pagesOf are pages of so many accounts: all quiet, all in trouble, all without current numbers, and a mixture.
func pagesOf(n int) map[string]func() []*accountView {
	accounts := func(status func(i int) collector.Status) func() []*accountView {
		return func() []*accountView {
			all := make([]*accountView, n)
			for i := range all {
				settings := collector.Settings{
					Account: fmt.Sprintf("marketing-%04d", i), Interval: time.Minute, Window: 24 * time.Hour,
				}
				all[i] = newAccountView(i, settings, status(i), noon)
				all[i].RateLimit = 10
			}
			return all
		}
	}
	quietOnes, troubled := busySnapshot(false), busySnapshot(true)
	fresh := func(s *window.Snapshot) collector.Status {
		return collector.Status{
			Phase: collector.PhaseFresh, Snapshot: s, Current: true, Requests: 45,
			Succeeded: noon.Add(-5 * time.Second), NextRefresh: noon.Add(55 * time.Second),
		}
	}
	blind := collector.Status{
		Phase: collector.PhaseFailing, Snapshot: troubled, Succeeded: noon.Add(-12 * time.Minute),
		Err: errors.New("list_operations: dial tcp: no route to host"), Reason: collector.Reasons()[4],
	}
	mixture := []collector.Status{blind, fresh(troubled), fresh(quietOnes)} // one in 20 of each kind that is not quiet
	return map[string]func() []*accountView{
		"quiet":   accounts(func(int) collector.Status { return fresh(quietOnes) }),
		"failing": accounts(func(int) collector.Status { return fresh(troubled) }),
		"blind":   accounts(func(int) collector.Status { return blind }),
		"mixed": accounts(func(i int) collector.Status {
			return mixture[min(i%20, 2)]
		}),
	}
}

// A page stays within 300 KB, whatever is wrong with however many accounts.
func TestPageWeight(t *testing.T) {
	for _, n := range []int{1, 40, 1000, 2000} {
		for name, accounts := range pagesOf(n) {
			text := render(t, accounts())
			t.Logf("%d accounts, %s: %d KB", n, name, len(text)/1000)
			if len(text) > 300_000 {
				t.Errorf("%d accounts, %s: %d bytes", n, name, len(text))
			}
			if strings.Contains(text, "no value") {
				t.Errorf("%d accounts, %s: something is missing", n, name)
			}
		}
	}
}

func BenchmarkPage(b *testing.B) {
	for _, n := range []int{1, 40, 1000} {
		for name, accounts := range pagesOf(n) {
			b.Run(fmt.Sprintf("accounts=%d/%s", n, name), func(b *testing.B) {
				size := 0
				for b.Loop() {
					size = len(render(b, accounts()))
				}
				b.ReportMetric(float64(size)/1000, "KB")
			})
		}
	}
}
