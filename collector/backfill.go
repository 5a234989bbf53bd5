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

// past is the past of an account, from which its earlier counters are computed.
type past struct {
	settings *Settings
	label    string // account="…"
	window   window.State
	read     time.Time // end of the refresh
}

// WriteBackfill writes, as OpenMetrics, what the counters would have been at each minute of the window if the exporter
// had run all along. Each operation counts in the minute of its creation, with the outcomes that its messages have by
// now. The last samples are at the end of the refresh. Accounts whose last refresh failed are left out. If no others
// are left, nothing is written.
//
// OpenMetrics wants a family to be in one piece, so each is written for all accounts. Nothing but the windows is held
// in memory.
func WriteBackfill(w io.Writer, rs []*Refresher) error {
	var accounts []past
	for _, r := range rs {
		v := r.view()
		if !v.up {
			continue
		}
		accounts = append(accounts, past{
			settings: &r.settings,
			label:    "account=" + quoteLabel(r.settings.Account),
			window:   r.window.Save(),
			read:     v.snapshot.Time,
		})
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

// write writes the samples of one counter: 0 at the beginning of the window, then one at the end of each minute. Each
// is repeated a millisecond later: a PromQL range excludes its start, so the increase over a whole hour would otherwise
// lack the first minute.
func (a *past) write(out *bufio.Writer, row *metric) {
	sums := &window.Snapshot{} // of the minutes so far
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
