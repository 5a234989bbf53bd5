package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/rulefmt"
	"go.yaml.in/yaml/v3"
)

func TestPrometheusFiles(t *testing.T) {
	t.Parallel()
	rules := glob(t, filepath.Join(prometheusFiles, "rules", "*.yml"))
	tests := glob(t, filepath.Join(prometheusFiles, "tests", "*.yml"))
	dir, err := filepath.Abs(prometheusFiles)
	if err != nil {
		t.Fatal(err)
	}

	for name, args := range map[string][]string{
		"check config": {"check", "config", "prometheus.yml"},
		"check rules":  append([]string{"check", "rules"}, within(t, dir, rules)...),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if out, err := runTool(t, dir, nil, "promtool", args...); err != nil {
				t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
			}
		})
	}

	// A file at a time, so that all processors have work.
	for _, file := range within(t, dir, tests) {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			if out, err := runTool(t, dir, nil, "promtool", "test", "rules", file); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}

	t.Run("an account in place of the example", func(t *testing.T) {
		t.Parallel()
		// As people do: the name of an account of theirs, and no figure.
		theirs := t.TempDir()
		copyTree(t, dir, theirs)
		for _, name := range []string{filepath.Join("rules", "thresholds.yml"), filepath.Join("tests", "messages.yml")} {
			file := filepath.Join(theirs, name)
			text := strings.NewReplacer("account: example", "account: sms-eu", `account="example"`, `account="sms-eu"`,
				"account=example", "account=sms-eu", "of example has", "of sms-eu has", "account example was", "account sms-eu was").
				Replace(string(readFile(t, file)))
			writeFile(t, file, []byte(text))
		}

		args := []string{"test", "rules", "--run=^SCHEDULED for longer", filepath.Join("tests", "messages.yml")}
		if out, err := runTool(t, theirs, nil, "promtool", args...); err != nil || !strings.Contains(out, "SUCCESS") {
			t.Errorf("%v\n%s", err, out)
		}
	})

	t.Run("a wrong copy", func(t *testing.T) {
		t.Parallel()
		// A rule that cannot fire: the test about exporters that are down must
		// miss its alert.
		wrong := t.TempDir()
		copyTree(t, dir, wrong)
		file := filepath.Join(wrong, "rules", "alerts.yml")
		right := string(readFile(t, file))
		args := []string{"test", "rules", "--run=^down, ", filepath.Join("tests", "exporter.yml")}
		if out, err := runTool(t, wrong, nil, "promtool", args...); err != nil || !strings.Contains(out, "SUCCESS") {
			t.Fatalf("the right copy: %v\n%s", err, out)
		}
		text := strings.ReplaceAll(right, "(instance:up:last == 0)", `(instance:up:last{job="nobody's"} == 0)`)
		if text == right {
			t.Fatal("the copy is not wrong")
		}
		writeFile(t, file, []byte(text))
		if out, err := runTool(t, wrong, nil, "promtool", args...); err == nil {
			t.Errorf("a rule that cannot fire passed its test:\n%s", out)
		}
		writeFile(t, file, []byte(strings.Replace(right, "expr: |", "expr: | ) +", 1)))
		if out, err := runTool(t, wrong, nil, "promtool", "check", "config", "prometheus.yml"); err == nil {
			t.Errorf("rules that are no PromQL passed:\n%s", out)
		}
	})
}

// within returns files relative to dir.
func within(t *testing.T, dir string, files []string) []string {
	t.Helper()
	names := make([]string, len(files))
	for i, file := range files {
		absolute, err := filepath.Abs(file)
		if err != nil {
			t.Fatal(err)
		}
		if names[i], err = filepath.Rel(dir, absolute); err != nil {
			t.Fatal(err)
		}
	}
	return names
}

// TestAlertsAreTested checks that each alerting rule fires in one of promtool's unit tests, and is silent in another.
func TestAlertsAreTested(t *testing.T) {
	t.Parallel()
	tests := readRuleTests(t)
	var alerts []rulefmt.Rule
	for _, group := range ruleGroups(t, filepath.Join(prometheusFiles, "rules")) {
		for i := range group.Rules {
			if group.Rules[i].Alert != "" {
				alerts = append(alerts, group.Rules[i])
			}
		}
	}

	for _, problem := range untested(alerts, tests) {
		t.Error(problem)
	}
	wrong := rulefmt.Rule{Alert: "TwilioNeverTested", Labels: map[string]string{"severity": "warning"}}
	if problems := untested([]rulefmt.Rule{wrong}, tests); len(problems) != 1 {
		t.Errorf("an alert without a test was not noticed: %v", problems)
	}
	if problems := untested(alerts[:1], ruleTests{}); len(problems) != 2 {
		t.Errorf("an alert that is never silent was not noticed: %v", problems)
	}

	for i := range alerts {
		page := filepath.Join(project, "deploy", "runbooks", alerts[i].Alert+".md")
		if !strings.HasSuffix(alerts[i].Annotations["runbook_url"], "/"+filepath.Base(page)) {
			t.Errorf("%s has the runbook %q", alerts[i].Alert, alerts[i].Annotations["runbook_url"])
		}
		if text := readFile(t, page); !bytes.Contains(text, []byte(alerts[i].Alert)) {
			t.Errorf("%s is not about %s", page, alerts[i].Alert)
		}
	}
}

var anyAlert = regexp.MustCompile(`^count_over_time\(ALERTS\[\d+h\]\)$`)

func untested(alerts []rulefmt.Rule, tests ruleTests) []string {
	var problems []string
	for i := range alerts {
		rule := &alerts[i]
		fires, silent := false, false
		for _, test := range tests.Tests {
			for _, e := range test.Expressions {
				// No alert at all, then not this one.
				silent = silent || anyAlert.MatchString(e.Expr) && len(e.Expected) == 0
			}

			for _, a := range test.Alerts {
				if a.Alertname != rule.Alert {
					continue
				}
				if len(a.Expected) == 0 {
					silent = true
				}
				for _, expected := range a.Expected {
					fires = fires || includes(expected.Labels, rule.Labels)
				}
			}
		}

		if !fires {
			problems = append(problems, fmt.Sprintf("no unit test in which %s with %v fires", rule.Alert, rule.Labels))
		}
		if !silent {
			problems = append(problems, fmt.Sprintf("no unit test in which %s is silent", rule.Alert))
		}
	}
	return problems
}

func TestAlertmanagerFiles(t *testing.T) {
	t.Parallel()
	shipped := filepath.Join(alertmanagerFiles, "alertmanager.yml")
	file := filepath.Join(t.TempDir(), "alertmanager.yml")
	writeFile(t, file, uncommented(t, shipped))
	for _, name := range []string{shipped, file} {
		if out, err := runTool(t, "", nil, "amtool", "check-config", name); err != nil {
			t.Errorf("amtool check-config: %v\n%s", err, out)
		}
	}

	var cases []struct {
		Name, Receiver string
		Labels         map[string]string
	}

	err := yaml.Unmarshal(readFile(t, filepath.Join(alertmanagerFiles, "routes_test.yml")), &cases)
	if err != nil || len(cases) == 0 {
		t.Fatalf("routes_test.yml has %d cases: %v", len(cases), err)
	}
	route := func(t *testing.T, receiver string, labels map[string]string) (string, error) {
		t.Helper()
		args := []string{"config", "routes", "test", "--config.file=" + file, "--verify.receivers=" + receiver}
		for _, name := range slices.Sorted(maps.Keys(labels)) {
			args = append(args, name+"="+labels[name])
		}
		return runTool(t, "", nil, "amtool", args...)
	}

	reached := map[string]bool{}
	for _, c := range cases {
		reached[c.Receiver] = true
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			if out, err := route(t, c.Receiver, c.Labels); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}

	if out, err := runTool(t, "", nil, "amtool", "config", "routes", "test", "--config.file="+shipped,
		"--verify.receivers=default", "alertname=TwilioFailedShareHigh", "severity=critical"); err != nil {
		t.Errorf("as it is shipped: %v\n%s", err, out)
	}

	if out, err := route(t, "nobody", cases[0].Labels); err == nil {
		t.Errorf("a wrong receiver was not noticed:\n%s", out)
	}
	var config struct{ Receivers []struct{ Name string } }
	if err := yaml.Unmarshal(readFile(t, file), &config); err != nil {
		t.Fatal(err)
	}

	for _, r := range config.Receivers {
		if !reached[r.Name] {
			t.Errorf("no case reaches the receiver %s", r.Name)
		}
	}
}

// TestInhibition sends pairs of alerts to an Alertmanager and checks whether the second is muted.
func TestInhibition(t *testing.T) {
	t.Parallel()
	var cases []struct {
		Name           string
		Source, Target map[string]string
		Muted          bool
	}

	err := yaml.Unmarshal(readFile(t, filepath.Join(alertmanagerFiles, "inhibition_test.yml")), &cases)
	if err != nil || len(cases) == 0 {
		t.Fatalf("inhibition_test.yml has %d cases: %v", len(cases), err)
	}
	p := startPager(t, 1)
	for i, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			// All cases are there at a time; by its job each is a world of its own.
			place := fmt.Sprintf("case %d", i+1)
			source, target := with(c.Source, "job", place), with(c.Target, "job", place)
			p.send(t, target, source)
			// Alertmanager takes alerts one by one: when it mutes this pair, which
			// every configuration of ours does, it knows the one before.
			canary := map[string]string{"alertname": "TwilioCanary", "severity": "critical", "job": place}
			muted := with(canary, "severity", "warning")
			p.send(t, muted, canary)
			eventually(t, "the canaries", func() error {
				if is, err := p.mutes(t, muted); err != nil || !is {
					return fmt.Errorf("not muted: %w", err)
				}
				return nil
			})

			is, err := p.mutes(t, target)
			if err != nil {
				t.Fatal(err)
			}
			if is != c.Muted {
				t.Errorf("muted is %v, want %v: %v by %v", is, c.Muted, c.Target, c.Source)
			}
		})
	}
}

// send sends alerts to Alertmanager.
func (p *pager) send(t *testing.T, labels ...map[string]string) {
	t.Helper()
	var alerts []any
	for _, l := range labels {
		alerts = append(alerts, map[string]any{"labels": l, "endsAt": time.Now().Add(time.Hour)})
	}
	body, err := json.Marshal(alerts)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.alertmanager.url("/api/v2/alerts"),
		bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	if _, err := do(request); err != nil {
		t.Fatal(err)
	}
}

// mutes reports whether Alertmanager mutes an alert because of another one.
func (p *pager) mutes(t *testing.T, labels map[string]string) (bool, error) {
	t.Helper()
	alerts, err := p.alerts(t.Context(), labels)
	if err != nil {
		return false, err
	}
	if len(alerts) != 1 {
		return false, errors.New("it is not there once")
	}
	return len(alerts[0].Status.InhibitedBy) > 0, nil
}
