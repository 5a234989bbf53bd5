package manifests

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"
)

// refreshTimeout is the default of --collector.refresh-timeout: so long can a
// pod stay unready.
const refreshTimeout = 15 * time.Minute

// Check holds the objects of a bundle against each other and against what the
// exporter offers: what each is valid by itself and still does not work
// together. External are the Secrets that come from outside, with their keys.
// The error joins everything that is wrong.
func (b *Bundle) Check(external map[string][]string) error {
	c := checker{Bundle: b, external: external}
	if len(b.Deployments) != 1 {
		c.addf("%d deployments, want 1", len(b.Deployments))
		return errors.Join(c.errs...)
	}
	c.pod = &b.Deployments[0].Spec.Template
	c.deployment(b.Deployments[0])
	c.container()
	c.references()
	c.services()
	c.monitors()
	c.policies()
	for _, p := range b.DisruptionBudgets {
		c.selects("PodDisruptionBudget "+p.Name, p.Spec.Selector, c.pod.Labels)
		if b.Deployments[0].Spec.Replicas == nil || *b.Deployments[0].Spec.Replicas < 2 {
			c.addf("PodDisruptionBudget %s: pointless with fewer than two replicas", p.Name)
		}
	}
	for _, n := range b.Namespaces {
		if n.Labels["pod-security.kubernetes.io/enforce"] != "restricted" {
			c.addf("Namespace %s: does not enforce the restricted pod security standard", n.Name)
		}
	}
	return errors.Join(c.errs...)
}

type checker struct {
	*Bundle
	external map[string][]string
	pod      *corev1.PodTemplateSpec
	errs     []error
}

func (c *checker) addf(format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf(format, args...))
}

// selects reports a selector that does not match these labels. One that
// matches everything is as wrong as one that matches nothing.
func (c *checker) selects(who string, selector *metav1.LabelSelector, set map[string]string) {
	s, err := metav1.LabelSelectorAsSelector(selector)
	switch {
	case err != nil:
		c.addf("%s: %w", who, err)
	case s.Empty():
		c.addf("%s: selector matches everything", who)
	case !s.Matches(labels.Set(set)):
		c.addf("%s: selector %s matches nothing: the labels are %s", who, s, labels.Set(set))
	}
}

func (c *checker) deployment(d *appsv1.Deployment) {
	if s := d.Spec.ProgressDeadlineSeconds; s == nil || time.Duration(*s)*time.Second <= refreshTimeout {
		c.addf("Deployment %s: progressDeadlineSeconds is not above the %s that a first read can take", d.Name, refreshTimeout)
	}
	if r := d.Spec.Replicas; (r == nil || *r == 1) && d.Spec.Strategy.Type != appsv1.RecreateDeploymentStrategyType {
		c.addf("Deployment %s: a rollout runs two exporters at the same time", d.Name)
	}
	for _, t := range c.pod.Spec.TopologySpreadConstraints {
		c.selects("topology spread over "+t.TopologyKey, t.LabelSelector, c.pod.Labels)
	}
	if a := c.pod.Spec.AutomountServiceAccountToken; a == nil || *a {
		c.addf("Deployment %s: mounts a service account token", d.Name)
	}
	named := func(s *corev1.ServiceAccount) bool { return s.Name == c.pod.Spec.ServiceAccountName }
	if i := slices.IndexFunc(c.ServiceAccounts, named); i < 0 {
		c.addf("Deployment %s: no ServiceAccount %q", d.Name, c.pod.Spec.ServiceAccountName)
	} else if a := c.ServiceAccounts[i].AutomountServiceAccountToken; a == nil || *a {
		c.addf("ServiceAccount %s: mounts its token", c.ServiceAccounts[i].Name)
	}
	if s := c.pod.Spec.SecurityContext; s == nil || s.RunAsUser == nil || *s.RunAsUser != UserID || s.FSGroup == nil || *s.FSGroup != UserID {
		c.addf("Deployment %s: does not run as the image's user, %d", d.Name, UserID)
	}
}

func (c *checker) container() {
	if n := len(c.pod.Spec.Containers); n != 1 {
		c.addf("%d containers, want 1", n)
		return
	}
	ct := &c.pod.Spec.Containers[0]

	repository, tag, ok := strings.Cut(path.Base(ct.Image), ":")
	if repository != ImageName {
		c.addf("image %q: want the name %s", ct.Image, ImageName)
	}
	if !ok || tag == "latest" {
		c.addf("image %q: not pinned to a version", ct.Image)
	}
	if s := ct.SecurityContext; s == nil || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem {
		c.addf("root file system is writable")
	}
	if !slices.ContainsFunc(ct.Ports, func(p corev1.ContainerPort) bool { return p.ContainerPort == ListenPort }) {
		c.addf("no container port %d", ListenPort)
	}
	for _, arg := range ct.Args {
		name, _, _ := strings.Cut(arg, "=")
		if !slices.Contains(Flags, name) {
			c.addf("argument %q: the exporter has no such flag", arg)
		}
	}
	for _, e := range ct.Env {
		if !slices.Contains(Environment, e.Name) {
			c.addf("variable %s: nothing reads it", e.Name)
		}
	}
	c.memory(ct)
	c.probe("startupProbe", ct.StartupProbe, healthyPath)
	c.probe("livenessProbe", ct.LivenessProbe, healthyPath)
	c.probe("readinessProbe", ct.ReadinessProbe, readyPath)
}

// memory wants a soft limit of the Go runtime that acts before the kernel does.
func (c *checker) memory(ct *corev1.Container) {
	i := slices.IndexFunc(ct.Env, func(e corev1.EnvVar) bool { return e.Name == "GOMEMLIMIT" })
	if i < 0 {
		c.addf("no GOMEMLIMIT")
		return
	}
	soft, err := resource.ParseQuantity(strings.TrimSuffix(ct.Env[i].Value, "B"))
	if err != nil {
		c.addf("GOMEMLIMIT %q: %w", ct.Env[i].Value, err)
		return
	}
	request, limit := ct.Resources.Requests.Memory(), ct.Resources.Limits.Memory()
	if soft.Cmp(*request) >= 0 || request.Cmp(*limit) > 0 {
		c.addf("memory: want GOMEMLIMIT %s < request %s <= limit %s", &soft, request, limit)
	}
}

func (c *checker) probe(name string, p *corev1.Probe, wantPath string) {
	if p == nil || p.HTTPGet == nil {
		c.addf("no %s over HTTP", name)
		return
	}
	if p.HTTPGet.Path != wantPath {
		c.addf("%s: path %s, want %s", name, p.HTTPGet.Path, wantPath)
	}
	if !c.hasPort(p.HTTPGet.Port) {
		c.addf("%s: no container port %s", name, p.HTTPGet.Port.String())
	}
	if p.TimeoutSeconds >= p.PeriodSeconds {
		c.addf("%s: timeout %ds is not below the period %ds", name, p.TimeoutSeconds, p.PeriodSeconds)
	}
}

func (c *checker) hasPort(p intstr.IntOrString) bool {
	for i := range c.pod.Spec.Containers {
		for _, have := range c.pod.Spec.Containers[i].Ports {
			if p.Type == intstr.String && have.Name == p.StrVal || p.Type == intstr.Int && have.ContainerPort == p.IntVal {
				return true
			}
		}
	}
	return false
}

// keys returns the keys of a Secret or ConfigMap, and whether there is one.
func (c *checker) keys(kind, name string) ([]string, bool) {
	if kind == "Secret" {
		if keys, ok := c.external[name]; ok {
			return keys, true
		}
		for _, s := range c.Secrets {
			if s.Name == name {
				return append(slices.Collect(maps.Keys(s.Data)), slices.Collect(maps.Keys(s.StringData))...), true
			}
		}
		return nil, false
	}
	for _, m := range c.ConfigMaps {
		if m.Name == name {
			return slices.Collect(maps.Keys(m.Data)), true
		}
	}
	return nil, false
}

func (c *checker) key(who, kind, name, key string) {
	keys, ok := c.keys(kind, name)
	switch {
	case !ok:
		c.addf("%s: no %s %s", who, kind, name)
	case key != "" && !slices.Contains(keys, key):
		c.addf("%s: %s %s has no key %s", who, kind, name, key)
	}
}

// references follows every reference to a Secret or ConfigMap, and every path
// of a file in arguments and in the accounts' configuration.
func (c *checker) references() {
	for i := range c.pod.Spec.Containers {
		ct := &c.pod.Spec.Containers[i]
		files := c.files(ct)
		for _, e := range ct.Env {
			switch f := e.ValueFrom; {
			case f == nil:
			case f.SecretKeyRef != nil:
				c.key("variable "+e.Name, "Secret", f.SecretKeyRef.Name, f.SecretKeyRef.Key)
			case f.ConfigMapKeyRef != nil:
				c.key("variable "+e.Name, "ConfigMap", f.ConfigMapKeyRef.Name, f.ConfigMapKeyRef.Key)
			default:
				c.addf("variable %s: comes from neither Secret nor ConfigMap", e.Name)
			}
		}
		for _, arg := range ct.Args {
			flag, file, _ := strings.Cut(arg, "=")
			if !strings.Contains(flag, "file") {
				continue
			}
			content, ok := files[file]
			if !ok {
				c.addf("argument %q: nothing is mounted there", arg)
			}
			if flag == "--config.file" {
				c.accounts(content, files)
			}
		}
	}
}

// files are what a container finds in its volumes: content by path, empty if it
// comes from outside.
func (c *checker) files(ct *corev1.Container) map[string]string {
	files := make(map[string]string)
	for _, m := range ct.VolumeMounts {
		if !m.ReadOnly || m.SubPath != "" {
			c.addf("volume mount %s: want it read-only and whole", m.MountPath)
		}
		i := slices.IndexFunc(c.pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name })
		if i < 0 {
			continue // the API server has refused it already
		}
		var kind, name string
		var items []corev1.KeyToPath
		switch v := c.pod.Spec.Volumes[i]; {
		case v.Secret != nil:
			kind, name, items = "Secret", v.Secret.SecretName, v.Secret.Items
		case v.ConfigMap != nil:
			kind, name, items = "ConfigMap", v.ConfigMap.Name, v.ConfigMap.Items
		default:
			c.addf("volume %s: neither Secret nor ConfigMap", v.Name)
			continue
		}
		c.key("volume "+m.Name, kind, name, "")
		if len(items) == 0 {
			keys, _ := c.keys(kind, name)
			for _, k := range keys {
				items = append(items, corev1.KeyToPath{Key: k, Path: k})
			}
		}
		for _, item := range items {
			c.key("volume "+m.Name, kind, name, item.Key)
			files[path.Join(m.MountPath, item.Path)] = c.content(kind, name, item.Key)
		}
	}
	return files
}

func (b *Bundle) content(kind, name, key string) string {
	for _, m := range b.ConfigMaps {
		if kind == "ConfigMap" && m.Name == name {
			return m.Data[key]
		}
	}
	for _, s := range b.Secrets {
		if kind == "Secret" && s.Name == name {
			return string(s.Data[key])
		}
	}
	return ""
}

// Program is how a bundle runs the exporter.
type Program struct {
	Args  []string
	Env   []string          // NAME=value
	Files map[string]string // content by path
}

// Program returns how the bundle runs the exporter, with its own Secrets and
// ConfigMaps filled in.
func (b *Bundle) Program() (*Program, error) {
	if len(b.Deployments) != 1 || len(b.Deployments[0].Spec.Template.Spec.Containers) != 1 {
		return nil, errors.New("want one deployment of one container")
	}
	c := checker{Bundle: b, pod: &b.Deployments[0].Spec.Template}
	ct := &c.pod.Spec.Containers[0]
	p := &Program{Args: ct.Args, Files: c.files(ct)}
	for _, e := range ct.Env {
		value := e.Value
		if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil {
			value = b.content("Secret", e.ValueFrom.SecretKeyRef.Name, e.ValueFrom.SecretKeyRef.Key)
		}
		p.Env = append(p.Env, e.Name+"="+value)
	}
	return p, errors.Join(c.errs...)
}

func (c *checker) accounts(content string, files map[string]string) {
	var config struct {
		Accounts []map[string]any `json:"accounts"`
	}
	if err := yaml.UnmarshalStrict([]byte(content), &config); err != nil {
		c.addf("accounts: %w", err)
		return
	}
	if len(config.Accounts) == 0 {
		c.addf("accounts: none")
	}
	for _, a := range config.Accounts {
		for key, value := range a {
			if !strings.HasSuffix(key, "_file") {
				continue
			}
			if _, ok := files[fmt.Sprint(value)]; !ok {
				c.addf("accounts: %v: %s: nothing is mounted at %v", a["name"], key, value)
			}
		}
	}
}

func (c *checker) services() {
	if len(c.Services) != 1 {
		c.addf("%d services, want 1", len(c.Services))
	}
	for _, s := range c.Services {
		c.selects("Service "+s.Name, &metav1.LabelSelector{MatchLabels: s.Spec.Selector}, c.pod.Labels)
		for _, p := range s.Spec.Ports {
			if !c.hasPort(p.TargetPort) {
				c.addf("Service %s: no container port %s", s.Name, p.TargetPort.String())
			}
			if p.Name == "" {
				c.addf("Service %s: port %d has no name", s.Name, p.Port)
			}
		}
	}
}

func (c *checker) monitors() {
	for _, m := range c.ServiceMonitors {
		who := "ServiceMonitor " + m.Name
		for _, s := range c.Services {
			c.selects(who, &m.Spec.Selector, s.Labels)
			if m.Namespace != s.Namespace {
				c.addf("%s: is in namespace %q, the service in %q", who, m.Namespace, s.Namespace)
			}
			for i := range m.Spec.Endpoints {
				e := &m.Spec.Endpoints[i]
				if !slices.ContainsFunc(s.Spec.Ports, func(p corev1.ServicePort) bool { return p.Name == e.Port }) {
					c.addf("%s: Service %s has no port %q", who, s.Name, e.Port)
				}
			}
		}
		for i := range m.Spec.Endpoints {
			c.endpoint(who, &m.Spec.Endpoints[i])
		}
	}
}

func (c *checker) endpoint(who string, e *monitoringv1.Endpoint) {
	if e.Path != metricsPath {
		c.addf("%s: path %q, want %s", who, e.Path, metricsPath)
	}
	interval, err := time.ParseDuration(string(e.Interval))
	if err != nil {
		c.addf("%s: interval: %w", who, err)
	}
	timeout, err := time.ParseDuration(string(e.ScrapeTimeout))
	if err != nil {
		c.addf("%s: scrapeTimeout: %w", who, err)
	}
	if timeout >= interval {
		c.addf("%s: scrapeTimeout %s is not below the interval %s", who, timeout, interval)
	}
	job := func(r monitoringv1.RelabelConfig) bool {
		return r.TargetLabel == "job" && r.Replacement != nil && *r.Replacement == JobName && len(r.SourceLabels) == 0
	}
	if !slices.ContainsFunc(e.RelabelConfigs, job) {
		c.addf("%s: the job label does not become %s, which rules and dashboards ask for", who, JobName)
	}
}

func (c *checker) policies() {
	for _, n := range c.NetworkPolicies {
		who := "NetworkPolicy " + n.Name
		c.selects(who, &n.Spec.PodSelector, c.pod.Labels)
		for _, want := range []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress} {
			if !slices.Contains(n.Spec.PolicyTypes, want) {
				c.addf("%s: does not restrict %s", who, want)
			}
		}
		var in []networkingv1.NetworkPolicyPort
		for _, r := range n.Spec.Ingress {
			if len(r.From) == 0 {
				c.addf("%s: lets everybody in", who)
			}
			in = append(in, r.Ports...)
		}
		for _, p := range in {
			if p.Port == nil {
				c.addf("%s: lets in on every port", who)
			} else if !c.hasPort(*p.Port) {
				c.addf("%s: no container port %s", who, p.Port.String())
			}
		}
		if len(in) == 0 {
			c.addf("%s: lets nobody in", who)
		}

		var out []string
		for _, r := range n.Spec.Egress {
			for _, p := range r.Ports {
				if p.Port != nil && p.Protocol != nil {
					out = append(out, string(*p.Protocol)+"/"+strconv.Itoa(p.Port.IntValue()))
				}
			}
			if len(r.Ports) == 0 {
				c.addf("%s: lets out to every port", who)
			}
		}
		slices.Sort(out)
		if want := []string{"TCP/443", "TCP/53", "UDP/53"}; !slices.Equal(out, want) {
			c.addf("%s: lets out to %v, want %v", who, out, want)
		}
	}
}
