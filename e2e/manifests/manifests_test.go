package manifests

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/sets"
	"sigs.k8s.io/yaml"

	"twilio_operations_exporter/e2e/manifests/internal/host"
)

var root = filepath.Join("..", "..")

// The Secret that a user of the base makes by hand.
var handmade = map[string][]string{"twilio-operations-exporter": {"account-sid", "auth-token"}}

// What the Vault agent writes, as it is told to by annotations.
var fromVault = map[string][]string{"/vault/secrets": {"auth-token"}}

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
	const base = "NetworkPolicy ServiceAccount Service"
	dashboards := strings.Repeat(" ConfigMap", len(dashboardFiles(t)))
	operator := " ServiceMonitor" + strings.Repeat(" PrometheusRule", ruleFiles(t))
	for _, tc := range []struct {
		name       string
		dir        string   // below deploy/k8s, or
		components []string // of an overlay made here
		external   map[string][]string
		want       string // kinds of the objects
	}{
		{"base", "base", nil, handmade, base + " Deployment"},
		{"example", "overlays/example", nil, nil, base + " Deployment Namespace Secret" + dashboards + operator},
		{
			"several accounts", "overlays/example-accounts", nil, nil,
			base + " Deployment Namespace Secret ConfigMap" + dashboards + operator,
		},
		{
			"two instances", "overlays/example-two-instances", nil, nil,
			base + " " + base + " Deployment Deployment Namespace Secret Secret ServiceMonitor" + dashboards + operator,
		},
		{
			"sharded", "overlays/example-sharded", nil, nil,
			base + " StatefulSet Namespace Secret ConfigMap" + dashboards + operator,
		},
		{
			"kube-prometheus-stack", "overlays/example-kube-prometheus-stack", nil, nil,
			base + " Deployment Namespace Secret AlertmanagerConfig ScrapeConfig" + dashboards + operator,
		},
		{
			"external secret", "overlays/example-external-secret", nil, nil,
			base + " Deployment Namespace ExternalSecret" + dashboards,
		},
		{
			"TLS and a password", "overlays/example-tls", nil, nil,
			base + " Deployment Namespace Secret Secret Secret" + dashboards + operator,
		},
		{
			"a token from the Vault agent", "overlays/example-vault", nil, fromVault,
			base + " Deployment Namespace" + dashboards + operator,
		},
		{"API key", "", []string{"api-key"}, apiKey, base + " Deployment"},
		{"claim", "", []string{"persistence"}, handmade, base + " Deployment PersistentVolumeClaim"},
		{
			"claims of shards", "", []string{"accounts", "sharded", "sharded-persistence"},
			map[string][]string{"twilio-operations-exporter-accounts": {"marketing", "support"}}, base + " StatefulSet ConfigMap",
		},
		{"OpenShift", "", []string{"openshift"}, handmade, base + " Deployment"},
		{"PodMonitor", "", []string{"podmonitor"}, handmade, base + " Deployment PodMonitor"},
		{"pair", "", []string{"pair"}, handmade, base + " Deployment PodDisruptionBudget"},
		{"pair with an API key", "", []string{"pair", "api-key"}, apiKey, base + " Deployment PodDisruptionBudget"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			deploy := host.CopyDeploy(t)
			dir := filepath.Join(deploy, "k8s", tc.dir)
			if tc.components != nil {
				dir = overlay(t, deploy, tc.components...)
				if slices.Contains(tc.components, "accounts") {
					edit(t, filepath.Join(dir, "kustomization.yaml"), "resources:", accountsFile+"resources:")
					write(t, filepath.Join(dir, "accounts.yml"), twoAccounts)
				}
			}

			b, err := Build(dir)
			if err != nil {
				t.Fatal(err)
			}
			if err := b.Check(tc.external); err != nil {
				t.Error(err)
			}
			want := strings.Fields(tc.want)
			slices.Sort(want)
			if got := b.kinds(); !slices.Equal(got, want) {
				t.Errorf("objects: %v, want %v", got, want)
			}
		})
	}
}

func (b *Bundle) kinds() []string {
	var out []string
	for _, o := range b.Objects {
		out = append(out, o.GetObjectKind().GroupVersionKind().Kind)
	}
	slices.Sort(out)
	return out
}

// TestMistakesAreSeen makes one mistake at a time in a copy of deploy/: a check
// that passes whatever it looks at is no check.
func TestMistakesAreSeen(t *testing.T) {
	const (
		base     = "k8s/base/"
		example  = "k8s/overlays/example"
		accounts = "k8s/overlays/example-accounts"
		monitor  = "k8s/components/servicemonitor/servicemonitor.yaml"
		rules    = "k8s/components/prometheusrule/prometheusrule.yaml"
		two      = "k8s/overlays/example-two-instances"
		sharded  = "k8s/overlays/example-sharded"
		claimed  = "k8s/overlays/test" // of the base, with the component persistence
		tls      = "k8s/overlays/example-tls"
		stack    = "k8s/overlays/example-kube-prometheus-stack"
		external = "k8s/overlays/example-external-secret"
	)

	templates := map[string]string{base + "deployment.yaml": "workload.yaml"}
	var inChart atomic.Int64
	t.Cleanup(func() {
		if n := inChart.Load(); n < 25 {
			t.Errorf("%d of the mistakes were made in the chart, too", n)
		}
	})

	for _, tc := range []struct {
		name     string
		file     string
		old, new string
		overlay  string // example if empty
		want     string // in the error
	}{
		// What the API server says.
		{
			"misspelled field", base + "deployment.yaml", "terminationGracePeriodSeconds:", "terminationGraceSeconds:", "",
			`unknown field "spec.template.spec.terminationGraceSeconds"`,
		},
		{
			"misspelled field of a service", base + "service.yaml", "publishNotReadyAddresses:", "publishNotReadyAddress:", "",
			`unknown field "spec.publishNotReadyAddress"`,
		},
		{"value of a wrong type", base + "deployment.yaml", `value: "2"`, "value: 2", "", "cannot unmarshal number"},
		{
			"unknown strategy", base + "deployment.yaml", "type: Recreate", "type: Replace", "",
			"spec.strategy: Unsupported value",
		},
		{
			"selector that leaves out its own pods", base + "deployment.yaml",
			"matchLabels:\n      app.kubernetes.io/name: twilio-operations-exporter",
			"matchLabels:\n      app.kubernetes.io/name: other", "", "selector` does not match template `labels`",
		},
		{
			"limit below the request", base + "deployment.yaml", "memory: 128Mi", "memory: 32Mi", "",
			"must be less than or equal to memory limit",
		},
		{
			"mount of no volume", base + "deployment.yaml", "volumes:\n        - name: credentials",
			"volumes:\n        - name: credential", "", "volumeMounts[0].name",
		},
		{
			"CIDR with host bits", base + "networkpolicy.yaml", "169.254.20.10/32", "169.254.20.10/24", "",
			"bits set beyond the prefix length",
		},

		// What pod security admission says.
		{"root user", base + "deployment.yaml", "runAsUser: 65532", "runAsUser: 0", "", "must not set runAsUser=0"},
		{"root allowed", base + "deployment.yaml", "runAsNonRoot: true", "runAsNonRoot: false", "", "runAsNonRoot"},
		{
			"privilege escalation", base + "deployment.yaml", "allowPrivilegeEscalation: false",
			"allowPrivilegeEscalation: true", "", "allowPrivilegeEscalation",
		},
		{
			"capabilities kept", base + "deployment.yaml", "drop:\n                - ALL", "drop:\n                - NET_RAW",
			"", "unrestricted capabilities",
		},
		{"no seccomp profile", base + "deployment.yaml", "type: RuntimeDefault", "type: Unconfined", "", "seccompProfile"},
		{
			"path of the host", base + "deployment.yaml", "volumes:\n",
			"volumes:\n        - name: host\n          hostPath: {path: /etc}\n", "", "hostPath",
		},

		// What the operator's CRDs say.
		{
			"misspelled field of a ServiceMonitor", monitor, "scrapeTimeout:", "scrapeTimeOut:", "",
			`unknown field "spec.endpoints[0].scrapeTimeOut"`,
		},
		{"duration with no unit", monitor, "interval: 30s", "interval: '30'", "", "spec.endpoints[0].interval"},
		{
			"unknown relabelling action", monitor, "action: labeldrop", "action: drop_label", "",
			"spec.endpoints[0].relabelings[2].action",
		},
		{
			"ServiceMonitor without selector", monitor,
			"  selector:\n    matchLabels:\n      app.kubernetes.io/name: twilio-operations-exporter\n", "", "", "spec.selector",
		},
		{"misspelled field of a rule", rules, "annotations:", "annotation:", "", "unknown field"},
		{"rule with a bad duration", rules, "  for: 5m", "  for: 5 minutes", "", ".for: Invalid value"},

		// What no object shows by itself.
		{
			"service that selects nothing", base + "service.yaml",
			"selector:\n    app.kubernetes.io/name: twilio-operations-exporter", "selector:\n    app.kubernetes.io/name: twilio",
			"", "Service twilio-operations-exporter: selector app.kubernetes.io/name=twilio matches nothing",
		},
		{
			"monitor that selects nothing", monitor, "matchLabels:\n      app.kubernetes.io/name: twilio-operations-exporter",
			"matchLabels:\n      app.kubernetes.io/name: twilio", "",
			"ServiceMonitor twilio-operations-exporter: selector app.kubernetes.io/name=twilio matches nothing",
		},
		{
			"policy for nothing", base + "networkpolicy.yaml",
			"podSelector:\n    matchLabels:\n      app.kubernetes.io/name: twilio-operations-exporter",
			"podSelector:\n    matchLabels:\n      app.kubernetes.io/name: twilio", "",
			"NetworkPolicy twilio-operations-exporter: selector app.kubernetes.io/name=twilio matches nothing",
		},
		{
			"policy for every pod", base + "networkpolicy.yaml",
			"podSelector:\n    matchLabels:\n      app.kubernetes.io/name: twilio-operations-exporter", "podSelector: {}", "",
			"selector matches everything",
		},
		{"monitor of an unknown port", monitor, "port: metrics", "port: http-metrics", "", `no port "http-metrics"`},
		{
			"service to an unknown port", base + "service.yaml", "targetPort: metrics", "targetPort: http", "",
			"no container port http",
		},
		{
			"policy on an unknown port", base + "networkpolicy.yaml", "port: metrics", "port: 9090", "",
			"no container port 9090",
		},
		{
			"no DNS", base + "networkpolicy.yaml", "protocol: UDP\n          port: 53\n",
			"protocol: UDP\n          port: 54\n", "", "lets out to [TCP/443 TCP/53 TCP/5353 UDP/5353 UDP/54]",
		},
		{
			"everybody in", base + "networkpolicy.yaml", "  ingress:\n", "  ingress:\n    - ports: [{port: metrics}]\n", "",
			"lets everybody in",
		},
		{
			"probe of an unknown port", base + "deployment.yaml", "path: /-/ready\n              port: metrics",
			"path: /-/ready\n              port: web", "", "readinessProbe: no container port web",
		},
		{
			"probe of an unknown path", base + "deployment.yaml", "path: /-/ready", "path: /ready", "",
			"readinessProbe: path /ready",
		},
		{
			"slow first read killed", base + "deployment.yaml",
			"livenessProbe:\n            httpGet:\n              path: /-/healthy",
			"livenessProbe:\n            httpGet:\n              path: /-/ready", "", "livenessProbe: path /-/ready",
		},
		{
			"probe slower than its period", base + "deployment.yaml", "timeoutSeconds: 3", "timeoutSeconds: 5", "",
			"timeout 5s is not below the period 5s",
		},
		{
			"scrape slower than its interval", monitor, "scrapeTimeout: 10s", "scrapeTimeout: 30s", "",
			"scrapeTimeout 30s is not below the interval 30s",
		},
		{"scrape of an unknown path", monitor, "path: /metrics", "path: /prometheus", "", `path "/prometheus"`},
		{
			"job that nobody asks for", monitor, "replacement: twilio_operations", "replacement: twilio_exporter", "",
			"job label",
		},
		{
			"rollout given up too early", base + "deployment.yaml", "progressDeadlineSeconds: 1200",
			"progressDeadlineSeconds: 600", "", "progressDeadlineSeconds",
		},
		{
			"two exporters during a rollout", base + "deployment.yaml", "type: Recreate", "type: RollingUpdate", "",
			"two exporters",
		},
		{
			"state in no volume", base + "deployment.yaml", "storage.path=/var/lib/", "storage.path=/var/cache/", "",
			"no volume that can be written",
		},
		{
			"state of two pods in one directory", "k8s/components/persistence/deployment.yaml",
			"spec:\n  template:", "spec:\n  replicas: 2\n  template:", claimed, "several pods use the claim",
		},
		{
			"no claim", "k8s/components/persistence/persistentvolumeclaim.yaml", "  name: twilio-operations-exporter\n",
			"  name: twilio\n", claimed, "no PersistentVolumeClaim twilio-operations-exporter",
		},
		{"unknown flag", base + "deployment.yaml", "--twilio.auth-token-file", "--twilio.token-file", "", "no such flag"},
		{
			"unknown variable", base + "deployment.yaml", "name: TWILIO_ACCOUNT_SID", "name: TWILIO_SID", "",
			"variable TWILIO_SID",
		},
		{
			"secret in no mount", base + "deployment.yaml", "auth-token-file=/etc/twilio/", "auth-token-file=/run/secrets/", "",
			"nothing is mounted there",
		},
		{"key that the Secret lacks", base + "deployment.yaml", "key: account-sid", "key: sid", "", "has no key sid"},
		{
			"Secret that there is not", base + "deployment.yaml", "secretName: twilio-operations-exporter", "secretName: twilio",
			"", "no Secret twilio",
		},
		{
			"rotated secret never seen", base + "deployment.yaml", "mountPath: /etc/twilio\n",
			"mountPath: /etc/twilio/auth-token\n              subPath: auth-token\n", "", "want it read-only and whole",
		},
		{
			"account whose secret is not mounted", accounts + "/accounts.yml", "secrets/marketing", "secrets/sales", accounts,
			"nothing is mounted at /etc/twilio/secrets/sales",
		},
		{
			"accounts file not mounted", "k8s/components/accounts/deployment.yaml", "config/accounts.yml", "accounts.yml",
			accounts, "nothing is mounted there",
		},
		{"soft memory limit above the hard one", base + "deployment.yaml", "value: 56MiB", "value: 560MiB", "", "GOMEMLIMIT"},
		{
			"writable root file system", base + "deployment.yaml", "readOnlyRootFilesystem: true",
			"readOnlyRootFilesystem: false", "", "root file system is writable",
		},
		{
			"token mounted", base + "deployment.yaml", "automountServiceAccountToken: false",
			"automountServiceAccountToken: true", "", "mounts a service account token",
		},
		{
			"token in the account", base + "serviceaccount.yaml", "automountServiceAccountToken: false",
			"automountServiceAccountToken: true", "", "mounts its token",
		},
		{
			"other user than the image's", base + "deployment.yaml", "runAsUser: 65532", "runAsUser: 1000", "",
			"does not run as the image's user",
		},
		{
			"unknown service account", base + "deployment.yaml", "serviceAccountName: twilio-operations-exporter",
			"serviceAccountName: twilio", "", `no ServiceAccount "twilio"`,
		},
		{
			"image of another name", base + "deployment.yaml", "image: twilio-operations-exporter:", "image: twilio-exporter:",
			"", "want the name twilio-operations-exporter",
		},
		{"image of no version", example + "/kustomization.yaml", "newTag: 0.2.0", "newTag: latest", "", "not pinned"},
		{
			"instances told apart by their names alone", two + "/eu/kustomization.yaml",
			"  - includeSelectors: true\n    pairs:", "  - pairs:", two,
			"matches all of [Deployment twilio-operations-exporter-eu Deployment twilio-operations-exporter-us]",
		},
		{
			"monitor of both instances", two + "/eu/kustomization.yaml", "kind: ServiceMonitor", "kind: PodMonitor", two,
			"ServiceMonitor twilio-operations-exporter-eu: " +
				"selector app.kubernetes.io/name=twilio-operations-exporter matches all of",
		},
		{
			"policy that keeps Prometheus out", base + "networkpolicy.yaml",
			"            matchExpressions:\n              - key: app.kubernetes.io/name\n" +
				"                operator: In\n                values: [prometheus]",
			"            matchLabels:\n              app.kubernetes.io/name: prometheus", two, "keeps out a Prometheus",
		},
		{
			"rules twice", two + "/eu/kustomization.yaml", "components/servicemonitor", "components/prometheus-operator", two,
			"is there twice",
		},
		{
			"number of shards that is not the replicas'", sharded + "/kustomization.yaml", "fieldPath: spec.replicas",
			"fieldPath: spec.revisionHistoryLimit", sharded, `TWILIO_SHARD_TOTAL is "3" with 5 replicas`,
		},
		{
			"index from another label", "k8s/components/sharded/statefulset.yaml", "apps.kubernetes.io/pod-index",
			"statefulset.kubernetes.io/pod-name", sharded, "TWILIO_SHARD_INDEX is from",
		},
		{
			"StatefulSet without its Service", "k8s/components/sharded/service.yaml", "clusterIP: None", "type: ClusterIP",
			sharded, "no headless Service",
		},
		{
			"misspelled field of a ScrapeConfig", stack + "/scrapeconfig.yaml", "httpSDConfigs", "httpSdConfigs", stack,
			`unknown field "spec.httpSdConfigs"`,
		},
		{
			"discovery at another place", stack + "/scrapeconfig.yaml", "url: http://twilio-operations-exporter.twilio.",
			"url: http://twilio-operations-exporter.monitoring.", stack,
			"no Service at twilio-operations-exporter.monitoring.svc:9861",
		},
		{
			"probe of another path", stack + "/scrapeconfig.yaml", "metricsPath: /probe", "metricsPath: /metrics", stack,
			`path "/metrics", want /probe`,
		},
		{
			"misspelled field of an AlertmanagerConfig", stack + "/alertmanagerconfig.yaml", "matchType", "matchtype", stack,
			"unknown field",
		},
		{
			"probes that need a password", "k8s/components/web-config/workload.yaml",
			"- op: add\n  path: /spec/template/spec/containers/0/args/-\n  value: --web.health-listen-address=:9862\n", "", tls,
			"probes meet TLS",
		},
		{
			"probes of the port that needs a password", "k8s/components/web-config/workload.yaml",
			"- op: replace\n  path: /spec/template/spec/containers/0/livenessProbe/httpGet/port\n  value: health\n", "", tls,
			"probe of /-/healthy: port metrics, want health",
		},
		{
			"listener for probes on another port", "k8s/components/web-config/workload.yaml", "containerPort: 9862",
			"containerPort: 9863", tls, "no container port of the name health",
		},
		{"certificate that is not there", tls + "/web.yml", "cert_file: tls.crt", "cert_file: cert.pem", tls, "no file cert.pem"},
		{"scrape without TLS", tls + "/kustomization.yaml", "value: https", "value: http", tls, "https is false"},
		{
			"scrape without a password", tls + "/kustomization.yaml", "endpoints/0/basicAuth", "endpoints/0/oauth2", tls,
			"unknown field",
		},
		{"password of no Secret", tls + "/kustomization.yaml", "key: username", "key: user", tls, "has no key user"},
		{
			"labels of the metrics replaced", monitor, "honorLabels: true", "honorLabels: false", "",
			"honorLabels is not set",
		},
		{
			"ExternalSecret without a key", external + "/externalsecret.yaml", "secretKey: auth-token", "secretKey: token",
			external, "has no key auth-token",
		},
		{
			"misspelled field of an ExternalSecret", external + "/externalsecret.yaml", "refreshInterval", "refresh", external,
			`unknown field "spec.refresh"`,
		},
		{
			"namespace that enforces nothing", example + "/namespace.yaml", "enforce: restricted", "enforce: baseline", "",
			"does not enforce",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			deploy := host.CopyDeploy(t)
			if tc.overlay == claimed {
				overlay(t, deploy, "persistence")
			}
			// The dashboards are large, and none of these mistakes is in them.
			for _, d := range dashboardFiles(t) {
				write(t, filepath.Join(deploy, "grafana", "dashboards", filepath.Base(d)), "{}")
			}
			edit(t, filepath.Join(deploy, tc.file), tc.old, tc.new)
			seen(t, verdict(filepath.Join(deploy, cmp.Or(tc.overlay, example)), nil), tc.want)

			// The chart is made of the same text where no value changes it, and its
			// default values are the same where one does.
			template := cmp.Or(templates[tc.file], path.Base(tc.file))
			for _, file := range []string{filepath.Join("templates", template), "values.yaml"} {
				file = filepath.Join(deploy, "helm", release, file)
				text, err := os.ReadFile(file)
				if err != nil || !bytes.Contains(text, []byte(tc.old)) || tc.overlay != "" {
					continue
				}
				inChart.Add(1)
				edit(t, file, tc.old, tc.new)
				b, err := chart(deploy, "serviceMonitor: {enabled: true}")
				if err == nil {
					err = b.Check(handmade)
				}
				if err == nil || !strings.Contains(err.Error(), "the specifications of the schema") {
					seen(t, err, tc.want)
				}
				break
			}
		})
	}
}

// TestScrapeConfig checks what a Prometheus without operator is given to the pods
// that the overlay makes.
func TestScrapeConfig(t *testing.T) {
	dir := filepath.Join(host.CopyDeploy(t), "k8s", "overlays", "example-external-secret")
	b, err := Build(dir)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile(filepath.Join(dir, "scrape-config.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Jobs []struct {
			Name      string `json:"job_name"`
			Discovery []struct {
				Namespaces struct {
					Names []string `json:"names"`
				} `json:"namespaces"`
				Selectors []struct {
					Label string `json:"label"`
				} `json:"selectors"`
			} `json:"kubernetes_sd_configs"`
			Relabel []struct {
				Source []string `json:"source_labels"`
				Regex  string   `json:"regex"`
			} `json:"relabel_configs"`
		} `json:"scrape_configs"`
	}

	if err := yaml.Unmarshal(doc, &file); err != nil {
		t.Fatal(err)
	}
	w, job := b.workloads()[0], file.Jobs[0]
	sd := job.Discovery[0]
	if job.Name != JobName || !slices.Equal(sd.Namespaces.Names, []string{w.namespace}) {
		t.Errorf("job %s in namespaces %v, want %s in %s", job.Name, sd.Namespaces.Names, JobName, w.namespace)
	}
	if s, err := labels.Parse(sd.Selectors[0].Label); err != nil || s.Empty() || !s.Matches(labels.Set(w.pod.Labels)) {
		t.Errorf("selector %v (%v) does not match %v", s, err, w.pod.Labels)
	}
	if port := job.Relabel[0]; !slices.Equal(port.Source, []string{"__meta_kubernetes_pod_container_port_name"}) ||
		!hasPort(w.pod, intstr.FromString(port.Regex)) {
		t.Errorf("keeps %v of %q, which is no port", port.Source, port.Regex)
	}
}

func seen(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want one with %q", err, want)
	}
}

// TestInhibition wants the AlertmanagerConfig to mute what deploy/alertmanager does.
func TestInhibition(t *testing.T) {
	var config struct {
		InhibitRules []struct {
			Source []string `json:"source_matchers"`
			Target []string `json:"target_matchers"`
			Equal  []string `json:"equal"`
		} `json:"inhibit_rules"`
	}

	type matchers []struct{ Name, MatchType, Value string }
	var object struct {
		Spec struct {
			InhibitRules []struct {
				SourceMatch, TargetMatch matchers
				Equal                    []string
			}
		}
	}

	deploy := filepath.Join(root, "deploy")
	for name, into := range map[string]any{
		filepath.Join(deploy, "alertmanager", "alertmanager.yml"):                                            &config,
		filepath.Join(deploy, "k8s", "overlays", "example-kube-prometheus-stack", "alertmanagerconfig.yaml"): &object,
	} {
		doc, err := os.ReadFile(name) //nolint:gosec // of this repository
		if err == nil {
			err = yaml.Unmarshal(doc, into)
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}

	var want, got []string
	for _, r := range config.InhibitRules {
		want = append(want, fmt.Sprint(r.Source, r.Target, r.Equal))
	}
	text := func(all matchers) (out []string) {
		for _, m := range all {
			out = append(out, fmt.Sprintf("%s%s%q", m.Name, m.MatchType, m.Value))
		}
		return out
	}

	for _, r := range object.Spec.InhibitRules {
		got = append(got, fmt.Sprint(text(r.SourceMatch), text(r.TargetMatch), r.Equal))
	}
	if len(want) == 0 || !slices.Equal(got, want) {
		t.Errorf("the AlertmanagerConfig mutes\n%s\nalertmanager.yml\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestApplyHasALimit(t *testing.T) {
	deploy := host.CopyDeploy(t)
	write(t, filepath.Join(deploy, "grafana", "dashboards", "operations.json"), strings.Repeat(`{"a": 1}`, maxApplySize/8))
	_, err := Build(filepath.Join(deploy, "k8s", "overlays", "example"))
	if err == nil || !strings.Contains(err.Error(), "too large for kubectl apply") {
		t.Errorf("error %v, want one that says too large", err)
	}
}

func TestDisruptionBudgetNeedsAPair(t *testing.T) {
	deploy := host.CopyDeploy(t)
	dir := overlay(t, deploy, "pair")
	edit(t, filepath.Join(deploy, "k8s", "components", "pair", "deployment.yaml"), "replicas: 2", "replicas: 1")
	if err := verdict(dir, handmade); err == nil || !strings.Contains(err.Error(), "pointless") {
		t.Errorf("error %v, want one that says pointless", err)
	}
}

// TestDashboardsAreUnchanged wants the ConfigMaps to hold the very files that
// Grafana's own provisioning reads.
func TestDashboardsAreUnchanged(t *testing.T) {
	b, err := Build(filepath.Join(host.CopyDeploy(t), "k8s", "overlays", "example"))
	if err != nil {
		t.Fatal(err)
	}
	want := sets.New[string]()
	for _, f := range dashboardFiles(t) {
		doc, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		want.Insert(string(doc))
	}

	got := sets.New[string]()
	for _, m := range of[*corev1.ConfigMap](b) {
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

func dashboardFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "deploy", "grafana", "dashboards", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no dashboards: %v", err)
	}
	return files
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
	b, err := Build(filepath.Join(host.CopyDeploy(t), "k8s", "overlays", "example"))
	if err != nil {
		t.Fatal(err)
	}
	var got []monitoringv1.RuleGroup
	for _, r := range of[*monitoringv1.PrometheusRule](b) {
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
	const group = "groups:\n  # Why.\n  - name: a\n    rules: &r\n      - record: x\n        expr: |\n          1\n" +
		"  - name: b\n    rules: *r\n"
	for _, tc := range []struct {
		name    string
		files   map[string]string
		want    []string // in the output, in this order
		wantErr string
	}{
		{
			"one file", map[string]string{"recording.yml": group},
			[]string{"name: twilio-operations-exporter-recording", "# Why.", "- name: a", "expr: |"}, "",
		},
		{
			"own prefix not doubled", map[string]string{"twilio_operations_exporter_alerts.yaml": group},
			[]string{"name: twilio-operations-exporter-alerts"}, "",
		},
		{
			"unit tests left out", map[string]string{"a.yml": group, "a_test.yml": "tests: []"},
			[]string{"name: twilio-operations-exporter-a"}, "",
		},
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
