package e2e

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestCampaignDiscovery enables the job twilio_campaign of prometheus.yml. A real Prometheus must find the campaigns in
// flight, probe them, and forget them.
func TestCampaignDiscovery(t *testing.T) {
	t.Parallel()
	settings := fastWorld(41)
	settings.Rate, settings.Lifetime = 4, 20*time.Second
	settings.MinRecipients, settings.MaxRecipients = 2000, 2000
	settings.BadShare = 1 // the dashboard says why messages are lost
	a := startAccount(t, "discovered", settings, accountWindow)
	s := startStack(t, "Prometheus (discovery)", 1, []string{a.exporter.address}, "", "", func(dir string) {
		file := filepath.Join(dir, "prometheus.yml")
		text := switchOn(t, string(readFile(t, file)), "twilio_campaign")
		for before, after := range map[string]string{
			"http://localhost:9861/sd/": a.exporter.url("/sd/"),
			"localhost:9861  #":         a.exporter.address + "  #",
			"refresh_interval: 1m":      "refresh_interval: 1s",
		} {
			if !strings.Contains(text, before) {
				t.Fatalf("%s has no %q", file, before)
			}
			text = strings.ReplaceAll(text, before, after)
		}

		writeFile(t, file, []byte(text))
	})

	var campaign string
	eventually(t, "a campaign to be probed", func() error {
		found, err := s.query(t.Context(), `twilio_probe_success{job="twilio_campaign"} == 1`)
		if err != nil {
			return err
		}
		if len(found) == 0 {
			return errors.New("no probe has succeeded")
		}
		campaign = found[0].labels["instance"]
		return nil
	})

	if !strings.HasPrefix(campaign, "comms_operation_") {
		t.Errorf("the instance is %q, not the campaign", campaign)
	}
	// In the past, because it may have ended.
	found, err := s.query(t.Context(), fmt.Sprintf(
		`last_over_time(twilio_probe_messages{instance=%q,account=%q}[5m]) == 2000`, campaign, a.name))
	if err != nil || len(found) != 1 {
		t.Errorf("the messages of %s: %v, %v", campaign, found, err)
	}

	for _, d := range dashboards(t) {
		if d.probes() {
			checkPanels(t, s, &d)
		}
	}

	eventually(t, campaign+" to be forgotten", func() error {
		found, err := s.query(t.Context(), fmt.Sprintf(`up{job="twilio_campaign",instance=%q}`, campaign))
		if err == nil && len(found) > 0 {
			err = errors.New("it is still a target")
		}
		return err
	})
}

// switchOn uncomments a job in prometheus.yml.
func switchOn(t *testing.T, config, job string) string {
	t.Helper()
	head := "  # - job_name: " + job + "\n"
	before, after, ok := strings.Cut(config, head)
	if !ok {
		t.Fatalf("prometheus.yml has no job %s to switch on", job)
	}
	var b strings.Builder
	b.WriteString(before + strings.Replace(head, "# ", "", 1))
	inside := true

	for line := range strings.Lines(after) {
		rest, commented := strings.CutPrefix(line, "  #   ")
		if inside = inside && commented; inside {
			line = "    " + rest
		}
		b.WriteString(line)
	}
	return b.String()
}

func TestSwitchOn(t *testing.T) {
	t.Parallel()
	const before = "jobs:\n  # Says what.\n  # - job_name: a\n  #   b: c\n  #   d:\n  #     - e\n\n" +
		"  # - job_name: f\n  #   g: h\n"
	const after = "jobs:\n  # Says what.\n  - job_name: a\n    b: c\n    d:\n      - e\n\n  # - job_name: f\n  #   g: h\n"
	if got := switchOn(t, before, "a"); got != after {
		t.Errorf("got\n%s\nwant\n%s", got, after)
	}
}
