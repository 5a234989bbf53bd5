package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"twilio_operations_exporter/twilio"
	"twilio_operations_exporter/twilio/simulator"
)

// TestDemo scrapes the demo with the unchanged rules, including their durations. Only the example account in
// thresholds.yml is replaced by the demo's, so that it has every limit.
func TestDemo(t *testing.T) {
	t.Parallel()
	// The limit as in the deployments; a panel shows it.
	demo := start(t, "the demo", "exporter", []string{"GOMEMLIMIT=128MiB"}, "--demo", "--web.listen-address=127.0.0.1:0")
	now := time.Now()
	usual := func(account string, settings simulator.WorldSettings) usualHour {
		day := totals(simulator.MustWorld(settings).Sums(now, now.Add(-24*time.Hour), now))
		return usualHour{account, float64(day[twilio.Delivered]) / 24, float64(day[twilio.Attempts]) / 24}
	}

	past := history(1, now, usual("demo", simulator.DemoWorld(now)), usual("demo-emails", simulator.DemoEmailWorld(now)))
	s := startStack(t, "Prometheus", 1, []string{demo.address}, "", past,
		func(dir string) { limitByAccount(t, dir, "demo") })

	t.Run("in time", func(t *testing.T) {
		t.Run("targets are up", func(t *testing.T) {
			t.Parallel()
			eventually(t, "the target to be up", func() error { return targetsUp(t.Context(), s, 1) })
		})

		t.Run("rules work", func(t *testing.T) {
			t.Parallel()
			checkRuleHealth(t, s)
		})

		t.Run("recording rules yield", func(t *testing.T) {
			t.Parallel()
			records := slices.DeleteFunc(recorded(t, filepath.Join(prometheusFiles, "rules")), func(record string) bool {
				// Only of campaigns that fail, or are stuck, at this moment: TestTrouble has some.
				return record == "account_operation:twilio_failing_operation_messages_lost:recent" ||
					record == "account_operation:twilio_stuck_operation_idle_seconds:max" ||
					slices.Contains(farApart, record) // TestAlertTimes has them
			})
			eventually(t, "every recording rule", func() error { return barren(t.Context(), s, records) })
			if err := barren(t.Context(), s, []string{"account:twilio_upp:max5m"}); err == nil {
				t.Error("a rule that yields nothing was not noticed")
			}
		})

		t.Run("accounts of e-mails are known", func(t *testing.T) {
			t.Parallel()
			eventually(t, "the resources of the accounts", func() error { return emailsKnown(t.Context(), s) })
		})

		for _, d := range dashboards(t) {
			if d.probes() {
				continue
			}
			t.Run(d.file, func(t *testing.T) {
				t.Parallel()
				checkPanels(t, s, &d)
			})
		}
	})

	t.Run("metrics", func(t *testing.T) {
		page, err := get(t.Context(), demo.url("/metrics"))
		if err != nil {
			t.Fatal(err)
		}
		checkMetrics(t, page)
		checkNames(t, append(probed(t), page)...)
	})
}

// limitByAccount gives an account the optional thresholds, as thresholds.yml tells users to.
func limitByAccount(t *testing.T, dir, account string) {
	t.Helper()
	file := filepath.Join(dir, "rules", "thresholds.yml")
	before := string(readFile(t, file))
	after := strings.ReplaceAll(before, "{account: example}", "{account: "+account+"}")
	if after == before {
		t.Fatalf("%s has no account to put another name in place of", file)
	}
	writeFile(t, file, []byte(after))
}

// emailsKnown returns an error unless exactly the demo's account of e-mails is exempt from what only messages have.
func emailsKnown(ctx context.Context, s *stack) error {
	var problems []error
	for account, want := range map[string]bool{"demo-emails": true, "demo": false, ".+": false, "nobody": false} {
		got, err := s.emails(ctx, map[string]string{"account": account})
		if err == nil && got != want {
			err = fmt.Errorf("whether %s is of e-mails: %t", account, got)
		}
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

// targetsUp returns an error unless there are this many targets and all are up.
func targetsUp(ctx context.Context, s *stack, want int) error {
	found, err := s.query(ctx, fmt.Sprintf("up{job=%q}", job))
	if err != nil {
		return err
	}
	if len(found) != want {
		return fmt.Errorf("%d targets, not %d", len(found), want)
	}

	for _, one := range found {
		if one.value != 1 {
			return fmt.Errorf("%v is down", one.labels)
		}
	}
	return nil
}

// barren returns an error if recording rules have no series.
func barren(ctx context.Context, s *stack, records []string) error {
	var problems []error
	for _, record := range records {
		found, err := s.query(ctx, record)
		if err == nil && len(found) == 0 {
			err = fmt.Errorf("%s has no series", record)
		}
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

// checkRuleHealth waits until every rule has been evaluated without an error.
func checkRuleHealth(t *testing.T, s *stack) {
	t.Helper()
	want := 0
	for _, group := range ruleGroups(t, filepath.Join(s.dir, "rules")) {
		want += len(group.Rules)
	}
	eventually(t, "all rules to have been evaluated", func() error {
		var answer struct {
			Groups []struct {
				Name  string
				Rules []struct{ Name, Health, LastError string }
			}
		}

		if err := s.ask(t.Context(), "/api/v1/rules", nil, "", &answer); err != nil {
			return err
		}
		n := 0
		for _, group := range answer.Groups {
			for _, rule := range group.Rules {
				n++
				if rule.Health != "ok" {
					return fmt.Errorf("%s in %s is %s: %s", rule.Name, group.Name, rule.Health, rule.LastError)
				}
			}
		}

		if n != want {
			return fmt.Errorf("%d rules of %d", n, want)
		}
		return nil
	})
}

// checkPanels waits until every query of a dashboard has a result.
func checkPanels(t *testing.T, s *stack, d *dashboard) {
	t.Helper()
	eventually(t, "all panels of "+d.file, func() error {
		problems, err := emptyPanels(t.Context(), s, d)
		if err == nil && len(problems) > 0 {
			err = errors.New(strings.Join(problems, "\n"))
		}
		return err
	})

	// A misspelt metric in a panel is noticed.
	wrong := dashboard{file: d.file, variables: d.variables}
	misspelt := strings.NewReplacer(
		"twilio_operations", "twilio_operatoins", "twilio_probe_messages", "twilio_probe_mesages")
	for _, e := range d.expressions {
		if text := misspelt.Replace(e.text); text != e.text && !mayBeEmpty(e.text) {
			wrong.expressions = []expression{{e.where, text}}
		}
	}

	problems, err := emptyPanels(t.Context(), s, &wrong)
	if err != nil || len(problems) != 1 {
		t.Errorf("the wrong copy %v was not noticed: %v, %v", wrong.expressions, problems, err)
	}

	// So is a variable that offers nothing, but for a label cluster that nothing has.
	for query, good := range map[string]bool{
		`label_values(up, cluster)`:                 true,
		`label_values(upp, cluster)`:                false,
		`label_values(up{job="nobody's"}, cluster)`: false,
		`label_values(cluster)`:                     false,
		`label_values(up, clutser)`:                 false,
	} {
		wrong := dashboard{file: d.file, variables: []variable{{Name: "cluster", Type: "query", AllValue: ".*", Query: query}}}
		if _, err := wrong.values(t.Context(), s); (err == nil) != good {
			t.Errorf("the variable %s: %v", query, err)
		}
	}
}

// checkMetrics checks a page of metrics with promtool's linter.
func checkMetrics(t *testing.T, page []byte) {
	t.Helper()
	if out, err := runTool(t, "", page, "promtool", "check", "metrics"); err != nil {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
	const wrong = "# HELP twilio_messages Messages.\n# TYPE twilio_messages counter\ntwilio_messages 1\n"
	if out, err := runTool(t, "", []byte(wrong), "promtool", "check", "metrics"); err == nil {
		t.Errorf("promtool does not object to a counter without _total:\n%s", out)
	}
}

// probed returns the answers about an operation, and about one that the API does not know, as only a failed probe has a
// reason. It adds the page of an exporter that keeps its state, as the demo does not.
func probed(t *testing.T) [][]byte {
	t.Helper()
	a := startAccount(t, "probed", fastWorld(99), accountWindow, "--storage.path="+filepath.Join(t.TempDir(), "states"))
	probe := func(id string, success int) []byte {
		page, err := get(t.Context(), a.exporter.url("/probe?target="+url.QueryEscape(id)))
		if err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf(`(?m)^twilio_probe_success\b.* %d$`, success)
		if !regexp.MustCompile(want).Match(page) {
			t.Fatalf("the probe of %s does not have the success %d:\n%s", id, success, page)
		}
		return page
	}

	now := time.Now()
	for op := range a.world.Operations(now, now.Add(-time.Minute), now) {
		page, err := get(t.Context(), a.exporter.url("/metrics"))
		if err != nil {
			t.Fatal(err)
		}
		return [][]byte{page, probe(op.ID, 1), probe("comms_operation_00000000000000000000000000", 0)}
	}

	t.Fatal("no operation within a minute")
	return nil
}
