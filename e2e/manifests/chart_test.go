package manifests

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/releaseutil"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"twilio_operations_exporter/e2e/manifests/internal/host"
)

const (
	release        = "twilio-operations-exporter"
	chartNamespace = "twilio"
)

// chart renders the chart of a copy of deploy/ with values in YAML, and returns
// what the API server would store.
func chart(deploy, values string) (*Bundle, error) {
	docs, err := render(deploy, values)
	if err != nil {
		return nil, err
	}
	return decode(docs)
}

// render renders the chart of a copy of deploy/ as `helm template` does.
func render(deploy, values string) ([][]byte, error) {
	return renderAs(deploy, values, release, chartNamespace)
}

func renderAs(deploy, values, name, namespace string) ([][]byte, error) {
	c, err := loader.Load(filepath.Join(deploy, "helm", release))
	if err != nil {
		return nil, err
	}
	v, err := chartutil.ReadValues([]byte(values))
	if err != nil {
		return nil, err
	}
	all, err := chartutil.ToRenderValues(c, v,
		chartutil.ReleaseOptions{Name: name, Namespace: namespace, Revision: 1, IsInstall: true}, nil)
	if err != nil {
		return nil, err
	}
	files, err := engine.Render(c, all)
	if err != nil {
		return nil, err
	}

	var docs [][]byte
	for name, content := range files {
		if filepath.Ext(name) == ".yaml" {
			docs = append(docs, split(content)...)
		}
	}
	return docs, nil
}

// split returns the objects of a text that has several.
func split(text string) [][]byte {
	var docs [][]byte
	for _, doc := range releaseutil.SplitManifests(text) {
		docs = append(docs, []byte(doc))
	}
	return docs
}

// asHelm is what an overlay adds to become what Helm renders.
const asHelm = `
namespace: twilio
labels:
  - includeSelectors: true
    pairs: {app.kubernetes.io/instance: twilio-operations-exporter}
    fields:
      - {kind: ServiceMonitor, path: spec/selector/matchLabels}
      - {kind: PodMonitor, path: spec/selector/matchLabels}
  - pairs:
      app.kubernetes.io/version: "0.2.0"
      app.kubernetes.io/managed-by: Helm
      helm.sh/chart: twilio-operations-exporter-0.2.0
`

const twoAccounts = `accounts:
- account_sid: AC00000000000000000000000000000000
  auth_token_file: /etc/twilio/secrets/marketing
  name: marketing
- account_sid: AC11111111111111111111111111111111
  api_key: SK11111111111111111111111111111111
  api_secret_file: /etc/twilio/secrets/support
  name: support
`

const accountsFile = `
generatorOptions: {disableNameSuffixHash: true, labels: {app.kubernetes.io/name: twilio-operations-exporter}}
configMapGenerator: [{name: twilio-operations-exporter-accounts, files: [accounts.yml]}]
`

var accountSecrets = map[string][]string{"twilio-operations-exporter-accounts": {"marketing", "support"}}

// TestChart wants of the chart, with these values, what kustomize makes of the
// base with these components.
func TestChart(t *testing.T) {
	for _, tc := range []struct {
		name, values string
		components   []string
		overlay      string
		external     map[string][]string
	}{
		{"default", "", nil, "", handmade},
		{
			"operator and Grafana",
			"{serviceMonitor: {enabled: true}, prometheusRule: {enabled: true}, grafana: {dashboards: {enabled: true}}}",
			[]string{"prometheus-operator", "grafana"}, "", handmade,
		},
		{
			"API key", "{twilio: {apiKey: true}}", []string{"api-key"}, "",
			map[string][]string{"twilio-operations-exporter": {"account-sid", "api-key", "api-secret"}},
		},
		{
			"OpenShift", "podSecurityContext: {runAsUser: null, runAsGroup: null, fsGroup: null}", []string{"openshift"}, "",
			handmade,
		},
		{"claim", "{persistence: {enabled: true}}", []string{"persistence"}, "", handmade},
		{
			"claims of shards", twoAccounts + "shards: 3\npersistence: {enabled: true}",
			[]string{"accounts", "sharded", "sharded-persistence"}, accountsFile, accountSecrets,
		},
		{"PodMonitor", "{podMonitor: {enabled: true}}", []string{"podmonitor"}, "", handmade},
		{
			"TLS and a password", "webConfig: {existingSecret: twilio-operations-exporter-web}", []string{"web-config"}, "",
			map[string][]string{
				"twilio-operations-exporter":     {"account-sid", "auth-token"},
				"twilio-operations-exporter-web": {"web.yml"},
			},
		},
		{"pair", "{replicaCount: 2}", []string{"pair"}, "", handmade},
		{"several accounts", twoAccounts, []string{"accounts"}, accountsFile, accountSecrets},
		{
			"sharded", twoAccounts + "shards: 3\nserviceMonitor: {enabled: true}",
			[]string{"accounts", "sharded", "servicemonitor"}, accountsFile, accountSecrets,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			deploy := host.CopyDeploy(t)
			dir := overlay(t, deploy, tc.components...)
			kustomization := filepath.Join(dir, "kustomization.yaml")
			edit(t, kustomization, "components:\n", map[bool]string{true: "", false: "components:\n"}[tc.components == nil])
			edit(t, kustomization, "resources:", tc.overlay+asHelm+"resources:")
			write(t, filepath.Join(dir, "accounts.yml"), twoAccounts)
			k, err := Build(dir)
			if err != nil {
				t.Fatal(err)
			}
			h, err := chart(deploy, tc.values)
			if err != nil {
				t.Fatal(err)
			}
			if err := h.Check(tc.external); err != nil {
				t.Error(err)
			}
			got, want := texts(t, h), texts(t, k)

			for _, name := range slices.Sorted(maps.Keys(got)) {
				if got[name] != want[name] {
					t.Errorf("%s: %s", name, difference(got[name], want[name]))
				}
			}

			for name := range want {
				if got[name] == "" {
					t.Errorf("the chart lacks %s", name)
				}
			}
		})
	}
}

// texts are a bundle's objects in YAML, with the lists sorted that are sets.
func texts(t *testing.T, b *Bundle) map[string]string {
	t.Helper()
	for _, w := range b.workloads() {
		spec := &w.pod.Spec
		slices.SortFunc(spec.Containers[0].Env, func(a, b corev1.EnvVar) int { return strings.Compare(a.Name, b.Name) })
		slices.SortFunc(spec.Volumes, func(a, b corev1.Volume) int { return strings.Compare(a.Name, b.Name) })
	}

	out := make(map[string]string)
	for _, o := range b.Objects {
		// Helm trims the end of an object, which may be that of a text.
		switch o := o.(type) {
		case *corev1.ConfigMap:
			for key, value := range o.Data {
				o.Data[key] = strings.TrimSpace(value)
			}
		case *monitoringv1.PrometheusRule:
			rules := o.Spec.Groups[len(o.Spec.Groups)-1].Rules
			for i := range rules {
				rules[i].Expr.StrVal = strings.TrimSpace(rules[i].Expr.StrVal)
			}
		}
		out[nameOf(t, o)] = marshal(t, o)
	}
	return out
}

// difference shows the first line in which two texts differ.
func difference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return fmt.Sprintf("line %d: the chart has %q, kustomize %q", i+1, g[i], w[i])
		}
	}
	return fmt.Sprintf("the chart has %d lines, kustomize %d", len(g), len(w))
}

func nameOf(t *testing.T, o runtime.Object) string {
	t.Helper()
	m, err := meta.Accessor(o)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s %s/%s", o.GetObjectKind().GroupVersionKind().Kind, m.GetNamespace(), m.GetName())
}

func edit(t *testing.T, file, old, replacement string) {
	t.Helper()
	doc, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(doc, []byte(old)) {
		t.Fatalf("%s does not hold %q", file, old)
	}
	write(t, file, strings.Replace(string(doc), old, replacement, 1))
}

// TestChartValues sets every value that changes an object, and looks for it.
func TestChartValues(t *testing.T) {
	const values = `
fullnameOverride: sms
image: {repository: registry.example.com/twilio-operations-exporter, digest: "sha256:0123"}
imagePullSecrets: [{name: pull}]
existingSecret: handmade
twilio: {accountSid: AC00000000000000000000000000000000}
extraArgs: [--collector.window=48h]
extraEnv: [{name: TWILIO_BASE_URL, value: "https://twilio.example.com/v1"}]
extraVolumes: [{name: ca, configMap: {name: ca}}]
extraVolumeMounts: [{name: ca, mountPath: /etc/ca, readOnly: true}]
resources: {requests: {memory: 96Mi}, limits: {memory: 192Mi}}
goMemoryLimit: 80MiB
podAnnotations: {example.com/team: sms}
podLabels: {example.com/team: sms}
nodeSelector: {kubernetes.io/arch: arm64}
tolerations: [{key: dedicated, operator: Exists}]
affinity: {nodeAffinity: {}}
priorityClassName: monitoring
serviceAccount: {name: exporter, annotations: {example.com/role: reader}}
service: {port: 80, annotations: {prometheus.io/scrape: "true"}}
networkPolicy:
  extraIngress: [{from: [{namespaceSelector: {matchLabels: {team: sms}}}]}]
  extraEgress: [{ports: [{protocol: TCP, port: 3128}]}]
serviceMonitor:
  enabled: true
  namespace: monitoring
  additionalLabels: {release: kube-prometheus-stack}
  relabelings: [{targetLabel: cluster, replacement: eu}]
  metricRelabelings: [{action: labeldrop, regex: operation}]
prometheusRule:
  enabled: true
  namespace: monitoring
  additionalLabels: {release: kube-prometheus-stack}
  thresholds: "groups: [{name: own, rules: []}]"
  runbookBase: "https://wiki.example.com/runbooks"
  dashboardBase: "https://grafana.example.com"
  landingBase: "https://exporter.example.com"
grafana:
  dashboards:
    enabled: true
    namespace: grafana
    labels: {dashboards: "yes"}
    annotations: {k8s-sidecar-target-directory: Twilio}
extraObjects:
- {apiVersion: v1, kind: ConfigMap, metadata: {name: ca}}
- |
  apiVersion: v1
  kind: ConfigMap
  metadata: {name: "{{ .Release.Name }}-text"}
`

	b, err := chart(host.CopyDeploy(t), values)
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for name, text := range texts(t, b) {
		all.WriteString(name + "\n" + text)
	}

	for _, want := range []string{
		"image: registry.example.com/twilio-operations-exporter@sha256:0123", "imagePullSecrets:", "secretName: handmade",
		"value: AC00000000000000000000000000000000", "--collector.window=48h", "value: https://twilio.example.com/v1",
		"mountPath: /etc/ca", "memory: 96Mi", "value: 80MiB", "example.com/team: sms", "kubernetes.io/arch: arm64",
		"key: dedicated", "nodeAffinity: {}", "priorityClassName: monitoring", "serviceAccountName: exporter",
		"example.com/role: reader", "port: 80\n", `prometheus.io/scrape: "true"`, "team: sms", "port: 3128",
		"ServiceMonitor monitoring/sms", "matchNames:\n    - twilio", "release: kube-prometheus-stack",
		"targetLabel: cluster", "regex: operation", "PrometheusRule monitoring/sms-thresholds", "name: own\n",
		"runbook_base: https://wiki.example.com/runbooks", "dashboard_base: https://grafana.example.com",
		"landing_base: https://exporter.example.com",
		"ConfigMap grafana/sms-dashboard-operations",
		`dashboards: "yes"`, "k8s-sidecar-target-directory: Twilio", "ConfigMap /ca", "ConfigMap /" + release + "-text",
	} {
		if !strings.Contains(all.String(), want) {
			t.Errorf("no %q", want)
		}
	}

	for _, unwanted := range []string{"key: account-sid", "record: twilio:share_minimum:threshold", "memory: 64Mi"} {
		if strings.Contains(all.String(), unwanted) {
			t.Errorf("%q is still there", unwanted)
		}
	}
}

func TestChartRefusesBadValues(t *testing.T) {
	for values, want := range map[string]string{
		"extraArg: [--demo]": "extraArg",
		"extraArgs: --demo":  "extraArgs",
		"serviceMonitor: {additionalLabel: {release: x}}":              "additionalLabel",
		"serviceMonitor: {interval: 30}":                               "interval",
		"shards: 0":                                                    "shards",
		"shards: 2":                                                    "give accounts",
		twoAccounts + "shards: 2\nreplicaCount: 2":                     "exclude each other",
		"replicaCount: 2\npersistence: {enabled: true}":                "used by one process",
		"serviceMonitor: {enabled: true}\npodMonitor: {enabled: true}": "scrape each pod twice",
		"configFile: /a\n" + twoAccounts:                               "exclude each other",
		"accounts: [{name: a, auth_token: not-to-be-here}]":            "auth_token",
		"twilio: {accountSid: marketing}":                              "accountSid",
		"goMemoryLimit: 1G":                                            "goMemoryLimit",
	} {
		if _, err := chart(host.CopyDeploy(t), values); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", values, err, want)
		}
	}
}

// TestChartSchema wants a schema for every value, and no other.
func TestChartSchema(t *testing.T) {
	dir := filepath.Join(root, "deploy", "helm", release)
	var schema, values map[string]any
	for name, into := range map[string]*map[string]any{"values.schema.json": &schema, "values.yaml": &values} {
		doc, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil && filepath.Ext(name) == ".json" {
			err = json.Unmarshal(doc, into)
		} else if err == nil {
			err = yaml.UnmarshalStrict(doc, into)
		}
		if err != nil {
			t.Fatal(err)
		}
	}

	var compare func(path string, schema, values map[string]any)
	compare = func(path string, schema, values map[string]any) {
		properties, closed := schema["properties"].(map[string]any)
		if !closed {
			return
		}
		if schema["additionalProperties"] != false {
			t.Errorf("%s: takes any key", path)
		}
		got, want := slices.Sorted(maps.Keys(properties)), slices.Sorted(maps.Keys(values))
		got = slices.DeleteFunc(got, func(s string) bool { return s == "global" }) // Helm's own
		if !slices.Equal(got, want) {
			t.Errorf("%s: schema of %v, values %v", path, got, want)
		}

		for key, v := range values {
			if object, ok := v.(map[string]any); ok {
				compare(path+"."+key, properties[key].(map[string]any), object)
			}
		}
	}

	compare("", schema, values)

	// An account has the keys that it has in the program's configuration file.
	keys := func(file string, path ...string) []string {
		t.Helper()
		doc, err := os.ReadFile(file) //nolint:gosec // of this repository
		if err != nil {
			t.Fatal(err)
		}
		var node map[string]any
		if err := json.Unmarshal(doc, &node); err != nil {
			t.Fatal(err)
		}
		for _, key := range path {
			node = node[key].(map[string]any)
		}
		return slices.Sorted(maps.Keys(node))
	}

	account := []string{"properties", "accounts", "items", "properties"}
	got := keys(filepath.Join(dir, "values.schema.json"), account...)
	if want := keys(filepath.Join(root, SchemaFile), account...); !slices.Equal(got, want) {
		t.Errorf("accounts have the keys %v, in the program's file %v", got, want)
	}
}
