package collector

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"twilio_operations_exporter/twilio"
)

// TestBackfill checks that the past counters grow by what was created in each minute, from 0 at the start of the window
// to its sums at the end of the refresh, and that an account whose refresh failed has none.
func TestBackfill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		<-time.After(90 * time.Second) // to 00:01:30
		now := time.Now()
		short := func(name string) func(*Settings) {
			return func(s *Settings) { s.Account, s.Window = name, 3*time.Minute }
		}
		read := newRig(t, short(`quoted "\`))

		var ops []twilio.Operation
		for i, created := range []time.Duration{-4 * time.Minute, -150 * time.Second, -time.Minute, -50 * time.Second, -time.Second} {
			ops = append(ops, twilio.Operation{
				ID: fmt.Sprintf("comms_operation_%d", i), Status: twilio.StatusCompleted,
				CreatedAt: now.Add(created), UpdatedAt: now,
				Stats: twilio.Stats{twilio.Total: 10 << i, twilio.Failed: int64(i)},
			})
		}

		ops[4].Status = twilio.StatusProcessing
		read.list.set(ops...)
		failed := newRig(t, short("failed"), status(http.StatusUnauthorized))
		if err := read.RefreshOnce(t.Context()); err != nil {
			t.Fatal(err)
		}
		_ = failed.RefreshOnce(t.Context())

		var b bytes.Buffer
		if err := WriteBackfill(&b, []*Refresher{failed.Refresher, read.Refresher}); err != nil {
			t.Fatal(err)
		}
		at := func(minute int) int64 { return now.Truncate(time.Minute).Unix() + int64(minute)*60 }
		series := func(name string, values ...int) string {
			var lines strings.Builder
			line := func(value int, at string) {
				fmt.Fprintf(&lines, "%s{account=\"quoted \\\"\\\\\"} %d %s\n", name, value, at)
			}
			for i, value := range values[:len(values)-1] {
				line(value, strconv.FormatInt(at(i-3), 10))
				line(value, fmt.Sprintf("%d.001", at(i-3)))
			}
			line(values[len(values)-1], strconv.FormatInt(now.Unix(), 10))
			return lines.String()
		}

		for _, want := range []string{
			"# HELP twilio_messages Messages or e-mails: growth since the first refresh, across restarts if --storage.path is set.\n" +
				"# TYPE twilio_messages counter\n" + series("twilio_messages_total", 0, 0, 20, 140, 300) + "# HELP",
			series("twilio_messages_failed_total", 0, 0, 1, 6, 10) + "# ",
		} {
			if !strings.Contains(b.String(), want) {
				t.Errorf("not\n%s\nin\n%s", want, &b)
			}
		}

		if !strings.HasSuffix(b.String(), "\n# EOF\n") || strings.Count(b.String(), "# EOF") != 1 {
			t.Errorf("it ends in %q", b.String()[b.Len()-20:])
		}

		b.Reset()
		if err := WriteBackfill(&b, []*Refresher{failed.Refresher}); err != nil || b.Len() > 0 {
			t.Errorf("of nothing but a failed refresh: %q, error %v", &b, err)
		}
	})
}
