package collector

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"twilio_operations_exporter/collector/window"
)

// past is what an account's counters would have been.
type past struct {
	settings *Settings
	label    string // account="…"
	window   window.State
	read     time.Time // the end of the refresh
}

// WriteBackfill writes, as OpenMetrics, what the counters would have been at each minute of the window, had the exporter
// run all the time: each operation counts in the minute in which it was created, with all that has become of it by now.
// The last samples are of the end of the refresh. Accounts whose last refresh has failed are left out; where there is no
// other, nothing is written.
//
// Families go through all accounts, as OpenMetrics has it. No more is held in memory than the windows are.
func WriteBackfill(w io.Writer, rs []*Refresher) error {
	var accounts []past
	for _, r := range rs {
		v := r.view()
		if v.up {
			label := "account=" + quoteLabel(r.settings.Account)
			accounts = append(accounts, past{&r.settings, label, r.window.Save(), v.snapshot.Time})
		}
	}
	if len(accounts) == 0 {
		return nil
	}

	out := bufio.NewWriter(w)
	for i := range metrics {
		row := &metrics[i]
		if !row.backfill {
			continue
		}
		family := strings.TrimSuffix(row.name, "_total")
		_, _ = fmt.Fprintf(out, "# HELP %s %s\n# TYPE %s counter\n", family, row.help, family)
		for i := range accounts {
			accounts[i].write(out, row)
		}
	}
	_, _ = out.WriteString("# EOF\n")
	return out.Flush() // returns the first error of all
}

// write writes the samples of one counter: 0 at the beginning of the window, and one at the end of each minute. Each comes
// a second time a millisecond later: a range of PromQL leaves off what is at its beginning, so that the increase over a
// whole hour would lack its first minute.
func (a *past) write(out *bufio.Writer, row *metric) {
	sums := &window.Snapshot{} // up to a time
	v := &view{settings: a.settings, snapshot: sums}
	samples := func(at time.Time) {
		row.generate(v, func(value float64, _ ...string) {
			seconds := strconv.FormatFloat(Unix(at), 'f', -1, 64)
			_, _ = fmt.Fprintf(out, "%s{%s} %.0f %s\n", row.name, a.label, value, seconds)
		})
	}
	for minute, totals := range a.window.Minutes(a.read) {
		samples(minute)
		samples(minute.Add(time.Millisecond))
		sums.Created += totals.Operations
		sums.Grown.Add(&totals.Stats)
	}
	samples(a.read)
}

// quoteLabel quotes the value of a label as OpenMetrics does.
func quoteLabel(value string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(value) + `"`
}
