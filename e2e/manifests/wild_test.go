package manifests

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"twilio_operations_exporter/e2e/manifests/internal/host"
)

// TestChartInTheWild renders what people do with charts, and wants the API server
// to take it, the objects to fit together, and the pod to be as asked.
func TestChartInTheWild(t *testing.T) {
	deploy := host.CopyDeploy(t)
	const sid = "twilio: {accountSid: AC0123456789abcdef0123456789abcdef}\n"
	fromCSI := map[string][]string{"/mnt/secrets": {"auth-token", "accounts.yml"}}
	const csi = `
extraVolumes: [{name: csi, csi: {driver: secrets-store.csi.k8s.io, readOnly: true}}]
extraVolumeMounts: [{name: csi, mountPath: /mnt/secrets, readOnly: true}]
`

	openshift := "podSecurityContext: {runAsUser: null, runAsGroup: null, fsGroup: null}\n"
	for _, tc := range []struct {
		name, values string
		release      string // twilio-operations-exporter if empty
		namespace    string // twilio if empty
		external     map[string][]string
		args         []string // of the container, no others
		secrets      []string // that are mounted, no others
	}{
		{
			name: "token of the Vault agent in extraArgs", external: fromVault,
			values: sid + "extraArgs: [--twilio.auth-token-file=/vault/secrets/auth-token]",
			args:   []string{"--twilio.auth-token-file=/vault/secrets/auth-token"},
		},
		{
			name: "token of the Vault agent", external: fromVault,
			values: "twilio: {accountSid: AC0123456789abcdef0123456789abcdef, authTokenFile: /vault/secrets/auth-token}",
			args:   []string{"--twilio.auth-token-file=/vault/secrets/auth-token"},
		},
		{
			name: "token of a CSI driver", external: fromCSI, values: csi + sid + "extraArgs: [--twilio.auth-token-file=/mnt/secrets/auth-token]",
			args: []string{"--twilio.auth-token-file=/mnt/secrets/auth-token"},
		},
		{
			name: "secret of an API key of a CSI driver", external: fromCSI,
			values: csi + "twilio: {accountSid: AC0123456789abcdef0123456789abcdef, " +
				"apiKey: SK0123456789abcdef0123456789abcdef, apiSecretFile: /mnt/secrets/auth-token}",
			args: []string{"--twilio.api-secret-file=/mnt/secrets/auth-token"},
		},
		{
			name: "accounts whose secrets are files", external: fromVault,
			values: "accounts: [{account_sid: AC0123456789abcdef0123456789abcdef, auth_token_file: /vault/secrets/auth-token}]",
			args:   []string{"--config.file=/etc/twilio/config/accounts.yml", "--config.auto-reload"},
		},
		{
			name: "file of accounts of a CSI driver", external: fromCSI, values: csi + "configFile: /mnt/secrets/accounts.yml",
			args: []string{"--config.file=/mnt/secrets/accounts.yml", "--config.auto-reload"},
		},
		{
			name: "file of accounts in extraArgs, sharded, without reload", external: fromCSI,
			values: csi + "extraArgs: [--config.file=/mnt/secrets/accounts.yml, --no-config.auto-reload]\nshards: 2",
			args:   []string{"--config.file=/mnt/secrets/accounts.yml", "--no-config.auto-reload"},
		},
		{
			name: "file of accounts in the Secret", external: map[string][]string{"s": {"accounts.yml", "a"}},
			values:  "{existingSecret: s, configFile: /etc/twilio/secrets/accounts.yml}",
			args:    []string{"--config.file=/etc/twilio/secrets/accounts.yml", "--config.auto-reload"},
			secrets: []string{"s"},
		},
		{
			name: "all from a Secret of variables", external: map[string][]string{"s": {"TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN"}},
			values: "{envFrom: [{secretRef: {name: s}}], twilio: {fromEnvironment: true}}",
		},
		{
			name: "token in a variable", external: map[string][]string{"s": {"token"}},
			values: sid + "extraEnv: [{name: TWILIO_AUTH_TOKEN, valueFrom: {secretKeyRef: {name: s, key: token}}}]",
		},
		{name: "demo", values: "extraArgs: [--demo]", args: []string{"--demo"}},
		{
			name: "OpenShift", external: handmade, values: openshift,
			args: []string{"--twilio.auth-token-file=/etc/twilio/auth-token"}, secrets: []string{release},
		},
		{
			name: "TLS in extraArgs", external: map[string][]string{release: {"account-sid", "auth-token"}, "w": {"own.yml"}},
			values: "extraArgs: [--web.config.file=/etc/w/own.yml]\nextraVolumes: [{name: w, secret: {secretName: w}}]\n" +
				"extraVolumeMounts: [{name: w, mountPath: /etc/w, readOnly: true}]",
			args: []string{
				"--twilio.auth-token-file=/etc/twilio/auth-token", "--web.health-listen-address=:9862",
				"--web.config.file=/etc/w/own.yml",
			},
			secrets: []string{release, "w"},
		},
		{
			name: "release and namespace of digits", release: "123", namespace: "456",
			values:   "serviceMonitor: {enabled: true}\nextraArgs: [--demo]\ngrafana: {dashboards: {enabled: true}}",
			external: nil, args: []string{"--demo"},
		},
		{
			name: "release that is a number to YAML", release: "1e3", namespace: "0x10", values: "extraArgs: [--demo]",
			args: []string{"--demo"},
		},
		{name: "release that is no string to YAML", release: "on", namespace: "null", values: "extraArgs: [--demo]", args: []string{"--demo"}},
		{
			name: "numbers and templates in values", args: []string{"--demo"},
			values: `
extraArgs: [--demo]
commonLabels: {cost-centre: 4711, release: "{{ .Release.Name }}"}
podLabels: {shift: true}
podAnnotations: {prometheus.io/port: 9861, template: "{{- with secret \"kv/twilio\" }}{{ end }}"}
annotations: {revision: 7}
nodeSelector: {zone: 3}
service: {labels: {n: 1}, annotations: {n: 1.5}}
serviceAccount: {annotations: {account: 123456789012}}
serviceMonitor: {enabled: true, additionalLabels: {release: 1}}
prometheusRule: {enabled: true, additionalLabels: {release: 1}, namespace: "789"}
grafana: {dashboards: {enabled: true, labels: {grafana_dashboard: 1}, annotations: {n: 1}}}
extraEnv: [{name: GOMAXPROCS, value: 4}]
global: {imageRegistry: registry.example.com, imagePullSecrets: [pull]}
`,
		},
		{
			name: "long release, sharded", release: "a-release-whose-name-is-as-long-as-helm-lets-it-be-53",
			values: twoAccounts + "shards: 2", external: map[string][]string{
				"a-release-whose-name-is-as-long-as-helm-lets-it-be-53-twilio-op-accounts": {"marketing", "support"},
			},
			args: []string{"--config.file=/etc/twilio/config/accounts.yml", "--config.auto-reload"},
			secrets: []string{
				"a-release-whose-name-is-as-long-as-helm-lets-it-be-53-twilio-op-accounts",
			},
		},
		{
			name:   "another port and path",
			values: "extraArgs: [--demo, '--web.listen-address=[::]:8080', --web.health-listen-address=:8081]",
			args:   []string{"--demo", "--web.listen-address=[::]:8080", "--web.health-listen-address=:8081"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			docs, err := renderAs(deploy, tc.values, cmp.Or(tc.release, release), cmp.Or(tc.namespace, chartNamespace))
			if err != nil {
				t.Fatal(err)
			}
			b, err := decode(docs)
			if err != nil {
				t.Fatal(err)
			}
			if tc.name != "another port and path" { // which is not the contract's
				if err := b.Check(tc.external); err != nil {
					t.Error(err)
				}
			}

			spec := b.workloads()[0].pod.Spec
			args := slices.Clone(spec.Containers[0].Args)
			kept := len(args)
			args = slices.DeleteFunc(args, func(arg string) bool { return strings.HasPrefix(arg, storageFlag) })
			kept -= len(args)
			if !slices.Equal(args, tc.args) {
				t.Errorf("arguments %q, want %q", args, tc.args)
			}
			if demo := slices.Contains(args, "--demo"); demo != (kept == 0) || kept > 1 {
				t.Errorf("%d arguments %s, want one, and none of a demo", kept, storageFlag)
			}

			var secrets []string
			for _, v := range spec.Volumes {
				if v.Secret != nil {
					secrets = append(secrets, v.Secret.SecretName)
				}
			}

			if !slices.Equal(secrets, tc.secrets) {
				t.Errorf("mounts %q, want %q", secrets, tc.secrets)
			}
		})
	}
}

// TestOpenShift checks the chart and the component to what restricted-v2 and the
// cluster's DNS ask for.
func TestOpenShift(t *testing.T) {
	deploy := host.CopyDeploy(t)
	h, err := chart(deploy, "podSecurityContext: {runAsUser: null, runAsGroup: null, fsGroup: null}")
	if err != nil {
		t.Fatal(err)
	}
	k, err := Build(overlay(t, deploy, "openshift"))
	if err != nil {
		t.Fatal(err)
	}

	for name, b := range map[string]*Bundle{"chart": h, "kustomize": k} {
		s := b.workloads()[0].pod.Spec.SecurityContext
		if s.RunAsUser != nil || s.RunAsGroup != nil || s.FSGroup != nil {
			t.Errorf("%s: ids are given: %v", name, s)
		}
		// A policy sees the port that the pods of openshift-dns listen on.
		for _, protocol := range []corev1.Protocol{corev1.ProtocolUDP, corev1.ProtocolTCP} {
			reached := func(p networkingv1.NetworkPolicyPort) bool {
				return *p.Protocol == protocol && p.Port.IntValue() == 5353
			}
			policy := of[*networkingv1.NetworkPolicy](b)[0]
			if !slices.ContainsFunc(policy.Spec.Egress[0].Ports, reached) {
				t.Errorf("%s: no egress to DNS at %s/5353", name, protocol)
			}
		}
	}
}

// TestLongNamesAreSeen wants a name that the pods of a StatefulSet cannot bear to be
// refused here, as in a cluster.
func TestLongNamesAreSeen(t *testing.T) {
	deploy := host.CopyDeploy(t)
	edit(t, filepath.Join(deploy, "helm", release, "templates", "_helpers.tpl"), "trunc 46", "trunc 57")
	docs, err := renderAs(deploy, twoAccounts+"shards: 2", strings.Repeat("x", 53), chartNamespace)
	if err != nil {
		t.Fatal(err)
	}
	_, err = decode(docs)
	seen(t, err, "must be no more than 63")
}

// TestChartWithoutItsFiles wants an error where rules or dashboards are asked for
// and are not there, as after a checkout without symbolic links of an older version.
func TestChartWithoutItsFiles(t *testing.T) {
	for dir, values := range map[string]string{
		"rules":      "prometheusRule: {enabled: true}",
		"dashboards": "grafana: {dashboards: {enabled: true}}",
	} {
		deploy := host.CopyDeploy(t)
		path := filepath.Join(deploy, "helm", release, dir)
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		write(t, path, "../../somewhere")
		if _, err := render(deploy, ""); err != nil {
			t.Errorf("%s not asked for: %v", dir, err)
		}
		_, err := render(deploy, values)
		seen(t, err, "the chart has no files "+dir)
	}
}

// TestChartREADME renders each installation that the chart's README.md shows.
func TestChartREADME(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join(root, "deploy", "helm", release, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]map[string][]string{
		"Plain":                         handmade,
		"With an existing Secret":       {"twilio-credentials": {"account-sid", "auth-token"}},
		"With a file from Vault or CSI": fromVault,
		"On OpenShift":                  handmade,
		"With TLS and a password":       {release: {"account-sid", "auth-token"}, "twilio-web": {"web.yml", "tls.crt", "tls.key"}},
		"Several accounts and shards":   accountSecrets,
	}

	deploy := host.CopyDeploy(t)
	sections := regexp.MustCompile("(?s)\n### ([^\n]+)\n.*?\n```yaml\n(.*?)```\n").FindAllSubmatch(doc, -1)
	for _, section := range sections {
		title, values := string(section[1]), string(section[2])
		external, ok := want[title]
		if !ok {
			t.Errorf("nobody here knows the installation %q", title)
			continue
		}

		delete(want, title)
		b, rendering := chart(deploy, values)
		if rendering != nil {
			t.Errorf("%s: %v", title, rendering)
			continue
		}

		if wrong := b.Check(external); wrong != nil {
			t.Errorf("%s: %v", title, wrong)
		}
	}

	if len(want) > 0 {
		t.Errorf("not shown: %v", want)
	}

	// What the table says is a value is one.
	values, err := os.ReadFile(filepath.Join(root, "deploy", "helm", release, "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := bytes.Cut(doc, []byte("| other charts | here |"))
	rows := regexp.MustCompile("(?m)^\\| .* \\| (`[^|]*`) \\|").FindAllSubmatch(table, -1)
	if len(rows) < 20 {
		t.Errorf("%d rows of values, want 20 or more", len(rows))
	}

	for _, row := range rows {
		for _, name := range regexp.MustCompile("`([^`]+)`").FindAllSubmatch(row[1], -1) {
			keys := strings.Split(string(name[1]), ".")
			last := keys[len(keys)-1]
			if !regexp.MustCompile(fmt.Sprintf(`(?m)^ *%s:`, regexp.QuoteMeta(last))).Match(values) {
				t.Errorf("the table names %s, which values.yaml does not have", name[1])
			}
		}
	}
}
