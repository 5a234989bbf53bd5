package e2e

import (
	"fmt"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/common/model"

	"twilio_operations_exporter/twilio"
	"twilio_operations_exporter/twilio/simulator"
)

// TestBackfill loads what --backfill prints into a real Prometheus as deploy/prometheus/README.md says: on its first day,
// queries about the days before have answers, and these are right.
func TestBackfill(t *testing.T) {
	t.Parallel()
	const sid = "AC0123456789abcdef0123456789abcdef"
	world := simulator.MustWorld(simulator.WorldSettings{Seed: 4, Rate: 10, MaxRecipients: 200})
	server := httptest.NewServer(simulator.NewHandler(world, simulator.Settings{AccountSID: sid, AuthToken: fleetToken}))
	t.Cleanup(server.Close)
	token := filepath.Join(t.TempDir(), "token")
	writeFile(t, token, []byte(fleetToken))

	account := []string{
		"--twilio.account-sid=" + sid, "--twilio.auth-token-file=" + token, "--twilio.base-url=" + server.URL + "/v1",
		"--twilio.rate-limit=0", "--collector.window=72h", "--log.level=error",
	}
	history, err := runTool(t, "", nil, "exporter", append(account, "--backfill")...)
	if err != nil {
		t.Fatalf("%v\n%.2000s", err, history)
	}
	exporter := start(t, "the exporter", "exporter", nil, append(account[:len(account)-1], "--web.listen-address=127.0.0.1:0")...)

	s := startStack(t, "Prometheus (backfill)", 1, []string{exporter.address}, "", "", func(dir string) {
		file := filepath.Join(dir, "history.om")
		writeFile(t, file, []byte(history))
		out, err := runTool(t, dir, nil, "promtool", "tsdb", "create-blocks-from", "openmetrics", "--quiet",
			"--label=job="+job, "--label=instance="+exporter.address, file, "data")
		if err != nil {
			t.Fatalf("create-blocks-from openmetrics: %v\n%s", err, out)
		}
	})

	at := func(expr string, when time.Time) (float64, error) {
		var found model.Vector
		values := url.Values{"query": {expr}, "time": {when.Format(time.RFC3339)}}
		if err := s.ask(t.Context(), "/api/v1/query", values, "vector", &found); err != nil {
			return 0, err
		}
		if len(found) != 1 {
			return 0, fmt.Errorf("%s has %d values", expr, len(found))
		}
		return float64(found[0].Value), nil
	}
	hour := time.Now().Add(-48 * time.Hour).Truncate(time.Hour)
	for i := range 24 {
		end := hour.Add(time.Duration(i) * time.Hour)
		truth := totals(world.Sums(time.Now(), end.Add(-time.Hour), end))
		for name, stat := range map[string]twilio.Stat{
			"twilio_messages_total": twilio.Total, "twilio_messages_delivered_total": twilio.Delivered,
			"twilio_messages_failed_total": twilio.Failed, "twilio_attempts_total": twilio.Attempts,
		} {
			got, err := at(fmt.Sprintf(`round(increase(%s{job=%q,instance=%q}[1h]))`, name, job, exporter.address), end)
			if err != nil || got != float64(truth[stat]) {
				t.Errorf("%s grows by %v (error %v) in the hour to %v, want %d", name, got, err, end, truth[stat])
			}
		}
	}

	// Where the past ends, the live counters begin at 0, and nothing is counted twice.
	eventually(t, "a scrape after the first refresh", func() error {
		up, err := at(`twilio_up`, time.Now())
		if err == nil && up != 1 {
			err = fmt.Errorf("twilio_up is %v", up)
		}
		return err
	})
	resets, err := at(`resets(twilio_messages_total[1h])`, time.Now())
	if err != nil || resets != 1 {
		t.Errorf("%v resets, error %v", resets, err)
	}

	// The recorded series of the past, for some hours of it.
	rules := filepath.Join(s.dir, "rules", "recording.yml")
	from, to := time.Now().Add(-25*time.Hour), time.Now().Add(-23*time.Hour)
	out, err := runTool(t, s.dir, nil, "promtool", "tsdb", "create-blocks-from", "rules", "--url="+s.prometheus.url(""),
		"--start="+from.Format(time.RFC3339), "--end="+to.Format(time.RFC3339), "--output-dir=data", rules)
	if err != nil {
		t.Fatalf("create-blocks-from rules: %v\n%s", err, out)
	}
	for _, record := range historyRecords {
		eventually(t, record, func() error {
			_, err := at(record, time.Now().Add(-24*time.Hour))
			return err
		})
	}
}
