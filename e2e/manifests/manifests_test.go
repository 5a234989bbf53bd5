package manifests

import (
	"bytes"
	"cmp"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"sigs.k8s.io/yaml"
)

var root = filepath.Join("..", "..")

// The Secret that a user of the base makes by hand.
var handmade = map[string][]string{"twilio-operations-exporter": {"account-sid", "auth-token"}}

// copyDeploy copies deploy/ elsewhere, as a user would, and puts the secrets
// there that the examples ask for and the repository does not hold.
func copyDeploy(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "deploy")
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(root, "deploy"))); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"example/secrets/auth-token", "example-accounts/secrets/marketing", "example-accounts/secrets/support"} {
		write(t, filepath.Join(dir, "k8s", "overlays", secret), "not a secret\n")
	}
	return dir
}

func write(t *testing.T, file, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// overlay writes an overlay of the base with these components, in the
// namespace of its Secret.
func overlay(t *testing.T, deploy string, components ...string) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("resources: [../../base]\ncomponents:\n")
	for _, c := range components {
		b.WriteString("  - ../../components/" + c + "\n")
	}
	dir := filepath.Join(deploy, "k8s", "overlays", "test")
	write(t, filepath.Join(dir, "kustomization.yaml"), b.String())
	return dir
}

// verdict builds and checks a kustomization.
func verdict(dir string, external map[string][]string) error {
	b, err := Build(dir)
	if err != nil {
		return err
	}
	return b.Check(external)
}

func TestKustomizations(t *testing.T) {
	apiKey := map[string][]string{"twilio-operations-exporter": {"account-sid", "api-key", "api-secret"}}
	for _, tc := range []struct {
		name       string
		dir        string   // below deploy/k8s, or
		components []string // of an overlay made here
		external   map[string][]string
		want       map[string]int // objects of a kind; all others: none
	}{
		{
			name: "base", dir: "base", external: handmade,
			want: map[string]int{"Deployment": 1, "Service": 1, "ServiceAccount": 1, "NetworkPolicy": 1},
		}, {
			name: "example", dir: "overlays/example",
			want: map[string]int{
				"Deployment": 1, "Service": 1, "ServiceAccount": 1, "NetworkPolicy": 1, "Namespace": 1,
				"Secret": 1, "ConfigMap": 2, "ServiceMonitor": 1, "PrometheusRule": ruleFiles(t),
			},
		}, {
			name: "several accounts", dir: "overlays/example-accounts",
			want: map[string]int{
				"Deployment": 1, "Service": 1, "ServiceAccount": 1, "NetworkPolicy": 1, "Namespace": 1,
				"Secret": 1, "ConfigMap": 3, "ServiceMonitor": 1, "PrometheusRule": ruleFiles(t),
			},
		}, {
			name: "API key", components: []string{"api-key"}, external: apiKey,
			want: map[string]int{"Deployment": 1, "Service": 1, "ServiceAccount": 1, "NetworkPolicy": 1},
		}, {
			name: "pair", components: []string{"pair"}, external: handmade,
			want: map[string]int{"Deployment": 1, "Service": 1, "ServiceAccount": 1, "NetworkPolicy": 1, "PodDisruptionBudget": 1},
		}, {
			name: "pair with an API key", components: []string{"pair", "api-key"}, external: apiKey,
			want: map[string]int{"Deployment": 1, "Service": 1, "ServiceAccount": 1, "NetworkPolicy": 1, "PodDisruptionBudget": 1},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			deploy := copyDeploy(t)
			dir := filepath.Join(deploy, "k8s", tc.dir)
			if tc.components != nil {
				dir = overlay(t, deploy, tc.components...)
			}
			b, err := Build(dir)
			if err != nil {
				t.Fatal(err)
			}
			if err := b.Check(tc.external); err != nil {
				t.Error(err)
			}
			if got := b.count(); !maps.Equal(got, tc.want) {
				t.Errorf("objects: %v, want %v", got, tc.want)
			}
		})
	}
}

func (b *Bundle) count() map[string]int {
	all := map[string]int{
		"Deployment": len(b.Deployments), "Service": len(b.Services), "ServiceAccount": len(b.ServiceAccounts),
		"Secret": len(b.Secrets), "ConfigMap": len(b.ConfigMaps), "Namespace": len(b.Namespaces),
		"NetworkPolicy": len(b.NetworkPolicies), "PodDisruptionBudget": len(b.DisruptionBudgets),
		"ServiceMonitor": len(b.ServiceMonitors), "PrometheusRule": len(b.PrometheusRules),
	}
	maps.DeleteFunc(all, func(_ string, n int) bool { return n == 0 })
	return all
}

// TestMistakesAreSeen makes one mistake at a time in a copy of deploy/: a check
// that passes whatever it looks at is no check.
func TestMistakesAreSeen(t *testing.T) {
	const (
		base     = "k8s/base/"
		example  = "k8s/overlays/example"
		accounts = "k8s/overlays/example-accounts"
		monitor  = "k8s/components/prometheus-operator/servicemonitor.yaml"
		rules    = "k8s/components/prometheus-operator/prometheusrule.yaml"
	)
	for _, tc := range []struct {
		name     string
		file     string
		old, new string
		overlay  string // example if empty
		want     string // in the error
	}{
		// What the API server says.
		{"misspelled field", base + "deployment.yaml", "terminationGracePeriodSeconds:", "terminationGraceSeconds:", "", `unknown field "spec.template.spec.terminationGraceSeconds"`},
		{"misspelled field of a service", base + "service.yaml", "publishNotReadyAddresses:", "publishNotReadyAddress:", "", `unknown field "spec.publishNotReadyAddress"`},
		{"value of a wrong type", base + "deployment.yaml", `value: "2"`, "value: 2", "", "cannot unmarshal number"},
		{"unknown strategy", base + "deployment.yaml", "type: Recreate", "type: Replace", "", "spec.strategy: Unsupported value"},
		{"selector that leaves out its own pods", base + "deployment.yaml", "matchLabels:\n      app.kubernetes.io/name: twilio-operations-exporter", "matchLabels:\n      app.kubernetes.io/name: other", "", "selector` does not match template `labels`"},
		{"limit below the request", base + "deployment.yaml", "memory: 128Mi", "memory: 32Mi", "", "must be less than or equal to memory limit"},
		{"mount of no volume", base + "deployment.yaml", "volumes:\n        - name: credentials", "volumes:\n        - name: credential", "", "volumeMounts[0].name"},
		{"CIDR with host bits", base + "networkpolicy.yaml", "169.254.20.10/32", "169.254.20.10/24", "", "bits set beyond the prefix length"},

		// What pod security admission says.
		{"root user", base + "deployment.yaml", "runAsUser: 65532", "runAsUser: 0", "", "must not set runAsUser=0"},
		{"root allowed", base + "deployment.yaml", "runAsNonRoot: true", "runAsNonRoot: false", "", "runAsNonRoot"},
		{"privilege escalation", base + "deployment.yaml", "allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true", "", "allowPrivilegeEscalation"},
		{"capabilities kept", base + "deployment.yaml", "drop:\n                - ALL", "drop:\n                - NET_RAW", "", "unrestricted capabilities"},
		{"no seccomp profile", base + "deployment.yaml", "type: RuntimeDefault", "type: Unconfined", "", "seccompProfile"},
		{"path of the host", base + "deployment.yaml", "volumes:\n", "volumes:\n        - name: host\n          hostPath: {path: /etc}\n", "", "hostPath"},

		// What the operator's CRDs say.
		{"misspelled field of a ServiceMonitor", monitor, "scrapeTimeout:", "scrapeTimeOut:", "", `unknown field "spec.endpoints[0].scrapeTimeOut"`},
		{"duration with no unit", monitor, "interval: 30s", "interval: '30'", "", "spec.endpoints[0].interval"},
		{"unknown relabelling action", monitor, "action: labeldrop", "action: drop_label", "", "spec.endpoints[0].relabelings[2].action"},
		{"ServiceMonitor without selector", monitor, "  selector:\n    matchLabels:\n      app.kubernetes.io/name: twilio-operations-exporter\n", "", "", "spec.selector"},
		{"misspelled field of a rule", rules, "annotations:", "annotation:", "", "unknown field"},
		{"rule with a bad duration", rules, "  for: 5m", "  for: 5 minutes", "", ".for: Invalid value"},

		// What no object shows by itself.
		{"service that selects nothing", base + "service.yaml", "selector:\n    app.kubernetes.io/name: twilio-operations-exporter", "selector:\n    app.kubernetes.io/name: twilio", "", "Service twilio-operations-exporter: selector app.kubernetes.io/name=twilio matches nothing"},
		{"monitor that selects nothing", monitor, "matchLabels:\n      app.kubernetes.io/name: twilio-operations-exporter", "matchLabels:\n      app.kubernetes.io/name: twilio", "", "ServiceMonitor twilio-operations-exporter: selector app.kubernetes.io/name=twilio matches nothing"},
		{"policy for nothing", base + "networkpolicy.yaml", "podSelector:\n    matchLabels:\n      app.kubernetes.io/name: twilio-operations-exporter", "podSelector:\n    matchLabels:\n      app.kubernetes.io/name: twilio", "", "NetworkPolicy twilio-operations-exporter: selector app.kubernetes.io/name=twilio matches nothing"},
		{"policy for every pod", base + "networkpolicy.yaml", "podSelector:\n    matchLabels:\n      app.kubernetes.io/name: twilio-operations-exporter", "podSelector: {}", "", "selector matches everything"},
		{"monitor of an unknown port", monitor, "port: metrics", "port: http-metrics", "", `no port "http-metrics"`},
		{"service to an unknown port", base + "service.yaml", "targetPort: metrics", "targetPort: http", "", "no container port http"},
		{"policy on an unknown port", base + "networkpolicy.yaml", "port: metrics", "port: 9090", "", "no container port 9090"},
		{"no DNS", base + "networkpolicy.yaml", "protocol: UDP\n          port: 53", "protocol: UDP\n          port: 5353", "", "lets out to [TCP/443 TCP/53 UDP/5353]"},
		{"everybody in", base + "networkpolicy.yaml", "    - from:\n        - namespaceSelector: {}\n          podSelector:\n            matchLabels:\n              app.kubernetes.io/name: prometheus\n        - namespaceSelector:\n            matchLabels:\n              kubernetes.io/metadata.name: monitoring\n      ports:", "    - ports:", "", "lets everybody in"},
		{"probe of an unknown port", base + "deployment.yaml", "path: /-/ready\n              port: metrics", "path: /-/ready\n              port: web", "", "readinessProbe: no container port web"},
		{"probe of an unknown path", base + "deployment.yaml", "path: /-/ready", "path: /ready", "", "readinessProbe: path /ready"},
		{"slow first read killed", base + "deployment.yaml", "livenessProbe:\n            httpGet:\n              path: /-/healthy", "livenessProbe:\n            httpGet:\n              path: /-/ready", "", "livenessProbe: path /-/ready"},
		{"probe slower than its period", base + "deployment.yaml", "timeoutSeconds: 3", "timeoutSeconds: 5", "", "timeout 5s is not below the period 5s"},
		{"scrape slower than its interval", monitor, "scrapeTimeout: 10s", "scrapeTimeout: 30s", "", "scrapeTimeout 30s is not below the interval 30s"},
		{"scrape of an unknown path", monitor, "path: /metrics", "path: /prometheus", "", `path "/prometheus"`},
		{"job that nobody asks for", monitor, "replacement: twilio_operations", "replacement: twilio_exporter", "", "job label"},
		{"rollout given up too early", base + "deployment.yaml", "progressDeadlineSeconds: 1200", "progressDeadlineSeconds: 600", "", "progressDeadlineSeconds"},
		{"two exporters during a rollout", base + "deployment.yaml", "type: Recreate", "type: RollingUpdate", "", "two exporters"},
		{"unknown flag", base + "deployment.yaml", "--twilio.auth-token-file", "--twilio.token-file", "", "no such flag"},
		{"unknown variable", base + "deployment.yaml", "name: TWILIO_ACCOUNT_SID", "name: TWILIO_SID", "", "variable TWILIO_SID"},
		{"secret in no mount", base + "deployment.yaml", "auth-token-file=/etc/twilio/", "auth-token-file=/run/secrets/", "", "nothing is mounted there"},
		{"key that the Secret lacks", base + "deployment.yaml", "key: account-sid", "key: sid", "", "has no key sid"},
		{"Secret that there is not", base + "deployment.yaml", "secretName: twilio-operations-exporter", "secretName: twilio", "", "no Secret twilio"},
		{"rotated secret never seen", base + "deployment.yaml", "mountPath: /etc/twilio\n", "mountPath: /etc/twilio/auth-token\n              subPath: auth-token\n", "", "want it read-only and whole"},
		{"account whose secret is not mounted", accounts + "/accounts.yml", "secrets/marketing", "secrets/sales", accounts, "nothing is mounted at /etc/twilio/secrets/sales"},
		{"accounts file not mounted", "k8s/components/accounts/deployment.yaml", "config/accounts.yml", "accounts.yml", accounts, "nothing is mounted there"},
		{"soft memory limit above the hard one", base + "deployment.yaml", "value: 56MiB", "value: 560MiB", "", "GOMEMLIMIT"},
		{"writable root file system", base + "deployment.yaml", "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "", "root file system is writable"},
		{"token mounted", base + "deployment.yaml", "automountServiceAccountToken: false", "automountServiceAccountToken: true", "", "mounts a service account token"},
		{"token in the account", base + "serviceaccount.yaml", "automountServiceAccountToken: false", "automountServiceAccountToken: true", "", "mounts its token"},
		{"other user than the image's", base + "deployment.yaml", "runAsUser: 65532", "runAsUser: 1000", "", "does not run as the image's user"},
		{"unknown service account", base + "deployment.yaml", "serviceAccountName: twilio-operations-exporter", "serviceAccountName: twilio", "", `no ServiceAccount "twilio"`},
		{"image of another name", base + "deployment.yaml", "image: twilio-operations-exporter:", "image: twilio-exporter:", "", "want the name twilio-operations-exporter"},
		{"image of no version", example + "/kustomization.yaml", "newTag: 0.1.0", "newTag: latest", "", "not pinned"},
		{"namespace that enforces nothing", example + "/namespace.yaml", "enforce: restricted", "enforce: baseline", "", "does not enforce"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			deploy := copyDeploy(t)
			// The dashboards are large, and none of these mistakes is in them.
			for _, d := range []string{"operations.json", "exporter.json"} {
				write(t, filepath.Join(deploy, "grafana", "dashboards", d), "{}")
			}
			file := filepath.Join(deploy, tc.file)
			doc, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Contains(doc, []byte(tc.old)) {
				t.Fatalf("%s does not hold %q: the mistake cannot be made", tc.file, tc.old)
			}
			write(t, file, strings.Replace(string(doc), tc.old, tc.new, 1))

			err = verdict(filepath.Join(deploy, cmp.Or(tc.overlay, example)), nil)
			if err == nil {
				t.Fatal("nobody noticed")
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error does not hold %q:\n%v", tc.want, err)
			}
		})
	}
}

func TestApplyHasALimit(t *testing.T) {
	deploy := copyDeploy(t)
	write(t, filepath.Join(deploy, "grafana", "dashboards", "operations.json"), strings.Repeat(`{"a": 1}`, maxApplySize/8))
	_, err := Build(filepath.Join(deploy, "k8s", "overlays", "example"))
	if err == nil || !strings.Contains(err.Error(), "too large for kubectl apply") {
		t.Errorf("error %v, want one that says too large", err)
	}
}

func TestDisruptionBudgetNeedsAPair(t *testing.T) {
	deploy := copyDeploy(t)
	dir := overlay(t, deploy, "pair")
	file := filepath.Join(deploy, "k8s", "components", "pair", "deployment.yaml")
	doc, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	write(t, file, strings.Replace(string(doc), "replicas: 2", "replicas: 1", 1))
	if err := verdict(dir, handmade); err == nil || !strings.Contains(err.Error(), "pointless") {
		t.Errorf("error %v, want one that says pointless", err)
	}
}

// TestDashboardsAreUnchanged wants the ConfigMaps to hold the very files that
// Grafana's own provisioning reads.
func TestDashboardsAreUnchanged(t *testing.T) {
	b, err := Build(filepath.Join(copyDeploy(t), "k8s", "overlays", "example"))
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(root, "deploy", "grafana", "dashboards", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	want := sets.New[string]()
	for _, f := range files {
		doc, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		want.Insert(string(doc))
	}
	got := sets.New[string]()
	for _, m := range b.ConfigMaps {
		if m.Labels["grafana_dashboard"] != "1" {
			t.Errorf("ConfigMap %s lacks the label that Grafana's sidecar looks for", m.Name)
		}
		for _, v := range m.Data {
			got.Insert(v)
		}
	}
	if want.Len() == 0 || !got.Equal(want) {
		t.Errorf("%d dashboards in ConfigMaps, %d files; not the same", got.Len(), want.Len())
	}
}

func ruleFiles(t *testing.T) int {
	t.Helper()
	doc, err := PrometheusRules(filepath.Join(root, RulesDir))
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Count(doc, []byte("\n---\n"))
}

// TestPrometheusRulesAreGenerated fails where the rule files have changed since
// cmd/prometheusrule ran.
func TestPrometheusRulesAreGenerated(t *testing.T) {
	want, err := PrometheusRules(filepath.Join(root, RulesDir))
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(root, PrometheusRuleFile))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is stale: run `go generate` in e2e/manifests", PrometheusRuleFile)
	}
}

// TestPrometheusRulesHoldEveryRule compares what a cluster gets with what
// Prometheus reads, by meaning.
func TestPrometheusRulesHoldEveryRule(t *testing.T) {
	b, err := Build(filepath.Join(copyDeploy(t), "k8s", "overlays", "example"))
	if err != nil {
		t.Fatal(err)
	}
	var got []monitoringv1.RuleGroup
	for _, r := range b.PrometheusRules {
		got = append(got, r.Spec.Groups...)
	}
	var want []monitoringv1.RuleGroup
	files, err := filepath.Glob(filepath.Join(root, RulesDir, "*.yml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		doc, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var spec monitoringv1.PrometheusRuleSpec
		if err := yaml.UnmarshalStrict(doc, &spec); err != nil {
			t.Fatal(err)
		}
		want = append(want, spec.Groups...)
	}
	byName := func(a, b monitoringv1.RuleGroup) int { return strings.Compare(a.Name, b.Name) }
	slices.SortFunc(got, byName)
	slices.SortFunc(want, byName)
	gotYAML, wantYAML := marshal(t, got), marshal(t, want)
	if len(want) == 0 || gotYAML != wantYAML {
		t.Errorf("groups in the cluster:\n%s\nin the files:\n%s", gotYAML, wantYAML)
	}
}

func marshal(t *testing.T, v any) string {
	t.Helper()
	doc, err := yaml.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(doc)
}

func TestPrometheusRules(t *testing.T) {
	const group = "groups:\n  # Why.\n  - name: a\n    rules: &r\n      - record: x\n        expr: |\n          1\n  - name: b\n    rules: *r\n"
	for _, tc := range []struct {
		name    string
		files   map[string]string
		want    []string // in the output, in this order
		wantErr string
	}{
		{"one file", map[string]string{"recording.yml": group}, []string{"name: twilio-operations-exporter-recording", "# Why.", "- name: a", "expr: |"}, ""},
		{"own prefix not doubled", map[string]string{"twilio_operations_exporter_alerts.yaml": group}, []string{"name: twilio-operations-exporter-alerts"}, ""},
		{"unit tests left out", map[string]string{"a.yml": group, "a_test.yml": "tests: []"}, []string{"name: twilio-operations-exporter-a"}, ""},
		{"no files", nil, nil, "no rule files"},
		{"not YAML", map[string]string{"a.yml": "groups: ["}, nil, "a.yml"},
		{"a list", map[string]string{"a.yml": "- a"}, nil, "not a rule file"},
		{"another key", map[string]string{"a.yml": group + "tests: []\n"}, nil, "groups and no other"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, content := range tc.files {
				write(t, filepath.Join(dir, name), content)
			}
			doc, err := PrometheusRules(dir)
			if tc.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wantErr) {
					t.Fatalf("error %v, want one with %q", err, tc.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			rest := string(doc)
			for _, want := range tc.want {
				_, after, ok := strings.Cut(rest, want)
				if !ok {
					t.Errorf("no %q in\n%s", want, doc)
				}
				rest = after
			}
		})
	}
}
