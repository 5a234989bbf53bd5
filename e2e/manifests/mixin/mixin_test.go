// Package mixin evaluates deploy/mixin.
package mixin

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-jsonnet"
	"sigs.k8s.io/yaml"

	"twilio_operations_exporter/e2e/manifests/internal/host"
)

type group struct {
	Name  string           `json:"name"`
	Rules []map[string]any `json:"rules"`
}

type ruleFile struct {
	Groups []group `json:"groups"`
}

func evaluate(t *testing.T, snippet string, into any) {
	t.Helper()
	vm := jsonnet.MakeVM()
	vm.Importer(&jsonnet.FileImporter{JPaths: []string{host.Root(t)}})
	out, err := vm.EvaluateAnonymousSnippet("test.jsonnet", snippet)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(out), into); err != nil {
		t.Fatal(err)
	}
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(host.Root(t), "deploy", pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("no %s: %v", pattern, err)
	}
	return files
}

// TestMixin wants every group of every rule file in the mixin, each where mixins
// have it, and every dashboard.
func TestMixin(t *testing.T) {
	var got struct {
		Alerts, Rules ruleFile
		Dashboards    map[string]any
	}

	evaluate(t, `local m = import 'deploy/mixin/mixin.libsonnet';
		{Alerts: m.prometheusAlerts, Rules: m.prometheusRules, Dashboards: m.grafanaDashboards}`, &got)

	groups := make(map[string]group)
	for _, g := range append(got.Alerts.Groups, got.Rules.Groups...) {
		if _, ok := groups[g.Name]; ok {
			t.Errorf("the group %s is there twice", g.Name)
		}
		groups[g.Name] = g
	}

	for _, g := range got.Rules.Groups {
		for _, rule := range g.Rules {
			if _, ok := rule["alert"]; ok {
				t.Errorf("an alert among the rules: %v", rule["alert"])
			}
		}
	}

	for _, file := range glob(t, "prometheus/rules/*.yml") {
		var want ruleFile
		doc, err := os.ReadFile(file) //nolint:gosec // of this repository
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.Unmarshal(doc, &want); err != nil {
			t.Fatal(err)
		}

		for _, g := range want.Groups {
			if !reflect.DeepEqual(groups[g.Name], g) {
				t.Errorf("%s: the group %s differs in the mixin", filepath.Base(file), g.Name)
			}
			delete(groups, g.Name)
		}
	}

	if len(groups) > 0 {
		t.Errorf("groups of no file: %v", groups)
	}

	titles := make(map[any]any)
	for _, dashboard := range got.Dashboards {
		titles[dashboard.(map[string]any)["uid"]] = dashboard
	}
	for _, file := range glob(t, "grafana/dashboards/*.json") {
		var want map[string]any
		doc, err := os.ReadFile(file) //nolint:gosec // of this repository
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(doc, &want); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(titles[want["uid"]], any(want)) {
			t.Errorf("%s differs in the mixin, or is not there", filepath.Base(file))
		}
		delete(titles, want["uid"])
	}

	if len(titles) > 0 {
		t.Errorf("%d dashboards of no file", len(titles))
	}
}

// TestMixinConfig evaluates what README.md shows.
func TestMixinConfig(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join(host.Root(t), "deploy", "mixin", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	snippet := regexp.MustCompile("(?s)```jsonnet\n(.*?)```").FindSubmatch(doc)
	if snippet == nil {
		t.Fatal("README.md shows nothing")
	}
	var got map[string]json.RawMessage
	evaluate(t, string(snippet[1]), &got)
	if len(got) < 5 {
		t.Errorf("%d files, want rules, alerts and dashboards", len(got))
	}
	var rules ruleFile
	if err := json.Unmarshal(got["rules.json"], &rules); err != nil {
		t.Fatal(err)
	}

	seen := make(map[string]any)
	for _, g := range rules.Groups {
		for _, rule := range g.Rules {
			name := rule["record"].(string)
			labels, _ := rule["labels"].(map[string]any)
			if severity, ok := labels["severity"].(string); ok {
				name += " " + severity
			}
			if name == "twilio:links:info" {
				name += " " + labels["runbook_base"].(string) + " " + labels["dashboard_base"].(string)
			}
			seen[name] = rule["expr"]
		}
	}

	for name, want := range map[string]string{
		"twilio:messages_failed_share:threshold warning":                                  "vector(0.02)",
		"twilio:messages_failed_share:threshold critical":                                 "vector(0.05)",
		"twilio:share_minimum:threshold":                                                  "vector(100)",
		"twilio:links:info https://wiki.example.com/runbooks https://grafana.example.com": "vector(1)",
	} {
		if got, ok := seen[name].(string); !ok || strings.TrimSpace(got) != want {
			t.Errorf("%s is %v, want %s", name, seen[name], want)
		}
	}
}
