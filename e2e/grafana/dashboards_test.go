package grafana

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

const (
	deploy   = "../../deploy"
	runbooks = "../../deploy/runbooks"
)

// load returns the dashboards' contents by file, a checker for them, and the rules.
func load(t *testing.T) (map[string][]byte, *checker) {
	t.Helper()
	files, err := filepath.Glob(deploy + "/grafana/dashboards/*.json")
	if err != nil || len(files) != 3 {
		t.Fatalf("dashboards are %q, %v", files, err)
	}
	contents, uids := map[string][]byte{}, []string(nil)

	for _, file := range files {
		content, readErr := os.ReadFile(filepath.Clean(file))
		if readErr != nil {
			t.Fatal(readErr)
		}
		var d dashboard
		if jsonErr := json.Unmarshal(content, &d); jsonErr != nil {
			t.Fatalf("%s: %v", file, jsonErr)
		}
		if slices.Contains(uids, d.UID) {
			t.Errorf("%s: uid %s is taken", file, d.UID)
		}
		contents[filepath.Base(file)], uids = content, append(uids, d.UID)
	}

	r, err := readRules(deploy + "/prometheus/rules")
	if err != nil {
		t.Fatal(err)
	}
	c, err := newChecker(r, runbooks, uids)
	if err != nil {
		t.Fatal(err)
	}
	return contents, c
}

func TestDashboards(t *testing.T) {
	contents, c := load(t)
	for file, content := range contents {
		t.Run(file, func(t *testing.T) {
			if err := c.check(content); err != nil {
				t.Error(err)
			}
		})
	}
}

// Each metric that the exporter has is drawn, or read by a rule.
func TestEveryMetricIsUsed(t *testing.T) {
	contents, c := load(t)
	used := slices.Clone(c.rules.reads)
	for _, content := range contents {
		for name := range ofExporter() {
			if regexp.MustCompile(`\b` + name + `\b`).Match(content) {
				used = append(used, name)
			}
		}
	}

	for name := range ofExporter() {
		// A histogram's quantiles are drawn, from one form of it or the other.
		if !slices.Contains(used, strings.TrimSuffix(strings.TrimSuffix(name, "_sum"), "_count")) {
			t.Errorf("%s is used nowhere", name)
		}
	}
}

// Wrong copies of the dashboards are found out, each by the check that is there for it.
func TestWrongCopies(t *testing.T) {
	for _, tt := range []struct {
		name, old, new string // the first old becomes new
		want           string
	}{
		{"misspelt metric", "twilio_messages_total{", "twilio_mesages_total{", "there is no metric twilio_mesages_total"},
		{
			"misspelt record", "account:twilio_operations_failing:sum{", "account:twilio_operation_failing:sum{",
			"there is no metric account:twilio_operation_failing:sum",
		},
		{
			"label that a metric does not have", `account=~\"$account\",status=`, `account=~\"$account\",state=`,
			"has no label state",
		},
		{"broken expression", "topk(10, max_over_time(", "topk(10 max_over_time(", "parse error"},
		{"unknown variable", "[$__rate_interval]", "[$__rat_interval]", "unknown variable"},
		{"fixed range of a rate", "[$__rate_interval]", "[5m]", "not over $__rate_interval"},
		{"hard-coded data source", `"uid": "${datasource}"`, `"uid": "PBFA97CFB590B2093"`, "is not ${datasource}"},
		{"misspelt option of a panel", `"graphMode"`, `"graphMod"`, "additional properties 'graphMod' not allowed"},
		{"value that an option does not take", `"colorMode": "value"`, `"colorMode": "valu"`, "value must be one of"},
		{"misspelt custom field", `"lineWidth"`, `"lineWith"`, "additional properties 'lineWith' not allowed"},
		{"number as text", `"schemaVersion": 42`, `"schemaVersion": "42"`, "want number"},
		{"unknown override", `"id": "custom.lineStyle"`, `"id": "custom.lineStile"`, "value must be"},
		{
			"override for a series that is not there", `"options": "Delivered"`, `"options": "Deliverd"`,
			`override for "Deliverd"`,
		},
		{"panel out of the grid", `"w": 24`, `"w": 25`, "does not fit into the grid"},
		{"overlapping panels", `"h": 8`, `"h": 9`, "overlap"},
		{"second panel of an id", `"id": 2,`, `"id": 1,`, "not the only one"},
		{"no unit", `"unit": "percentunit"`, `"unit": ""`, "no unit"},
		{
			"no description", `"description": "Share of failed`, `"description": "", "x": "Share of failed`,
			"additional properties 'x' not allowed",
		},
		{"panel about all accounts", `=~\"$account\"`, `=~\".+\"`, "no query asks for the accounts chosen"},
		{"link to no dashboard", `"/d/twilio-exporter"`, `"/d/twilio-exporters"`, "there is no dashboard twilio-exporters"},
		{
			"link to no runbook", "${runbooks}/TwilioFailedShareHigh.md", "${runbooks}/TwilioFailedShare.md",
			"TwilioFailedShare.md: no such file",
		},
		{"accounts of one color", `"palette-classic-by-name"`, `"continuous-BlPu"`, "cannot be told apart"},
		{"whole SIDs", `"id": "renameByRegex"`, `"id": "merge"`, "shows its whole SID"},
		{"account of one value", `"multi": true`, `"multi": false`, "must take several values"},
		{"all clusters but none", `"allValue": ".*"`, `"allValue": ".+"`, "want .* for series without that label"},
		{"variable that is asked once", `"refresh": 2`, `"refresh": 1`, "template-on-time-change-reload-rule"},
		{"no variable job", `"name": "job"`, `"name": "jobs"`, "template-job-rule"},
		{"query of every job", `job=~\"$job\",`, ``, "target-job-rule"},
		{"made for sharing", `"annotations": {`, `"__inputs": [], "annotations": {`, "__inputs"},
		{"untidy", "  \"annotations\"", "\t\"annotations\"", "not as Grafana exports it"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			contents, c := load(t)
			content := contents["operations.json"]
			count := 1
			if tt.name == "panel about all accounts" {
				count = -1
			}
			wrong := bytes.Replace(content, []byte(tt.old), []byte(tt.new), count)
			if bytes.Equal(wrong, content) {
				t.Fatalf("%s is not in the dashboard", tt.old)
			}
			err := c.check(wrong)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("found %v, want %q", err, tt.want)
			}
		})
	}
}

// Rules that an alert's table links from have their runbooks, and a missing one is found out.
func TestMissingRunbook(t *testing.T) {
	contents, c := load(t)
	c.rules.alerts = append(c.rules.alerts, "TwilioNew")
	err := c.check(contents["operations.json"])
	if err == nil || !strings.Contains(err.Error(), "TwilioNew.md: no such file") {
		t.Errorf("found %v, want the missing runbook", err)
	}
}

func decode(t *testing.T, file string, into any) {
	t.Helper()
	content, err := os.ReadFile(filepath.Clean(file))
	if err != nil {
		t.Fatal(err)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	decoder.KnownFields(true)
	if err := decoder.Decode(into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

// The keys are those of Grafana's documentation of provisioning.
func TestProvisioning(t *testing.T) {
	var sources struct {
		APIVersion  int `yaml:"apiVersion"`
		Datasources []struct {
			Name, Type, Access, URL string
			IsDefault               bool `yaml:"isDefault"`
			JSONData                struct {
				HTTPMethod   string `yaml:"httpMethod"`
				TimeInterval string `yaml:"timeInterval"`
				ManageAlerts bool   `yaml:"manageAlerts"`
			} `yaml:"jsonData"`
		}
	}

	decode(t, deploy+"/grafana/provisioning/datasources/prometheus.yml", &sources)
	if len(sources.Datasources) != 1 || sources.Datasources[0].Type != "prometheus" {
		t.Fatalf("data sources are %+v, want one Prometheus", sources.Datasources)
	}

	var prometheus struct {
		Global struct {
			ScrapeInterval string `yaml:"scrape_interval"`
		}
	}

	content, err := os.ReadFile(deploy + "/prometheus/prometheus.yml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(content, &prometheus); err != nil {
		t.Fatal(err)
	}
	if got, want := sources.Datasources[0].JSONData.TimeInterval, prometheus.Global.ScrapeInterval; got != want {
		t.Errorf("timeInterval is %s, but Prometheus scrapes every %s", got, want)
	}

	var providers struct {
		APIVersion int `yaml:"apiVersion"`
		Providers  []struct {
			Name, Folder, Type    string
			AllowUIUpdates        bool `yaml:"allowUiUpdates"`
			DisableDeletion       bool `yaml:"disableDeletion"`
			UpdateIntervalSeconds int  `yaml:"updateIntervalSeconds"`
			Options               struct{ Path string }
		}
	}

	decode(t, deploy+"/grafana/provisioning/dashboards/twilio.yml", &providers)
	if len(providers.Providers) != 1 || providers.Providers[0].Type != "file" ||
		!filepath.IsAbs(providers.Providers[0].Options.Path) {
		t.Errorf("providers are %+v, want one of files", providers.Providers)
	}
}
