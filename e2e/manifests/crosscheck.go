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
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"
)

// refreshTimeout is the default of --collector.refresh-timeout. A pod may be unready for so long.
const refreshTimeout = 15 * time.Minute

// Check checks the objects of a bundle against each other and against what the exporter offers: each may be valid by
// itself and still not work with the others. external are Secrets from elsewhere with their keys, and directories with
// the files that something else writes into them in the pod. The error joins everything that is wrong.
func (b *Bundle) Check(external map[string][]string) error {
	c := checker{Bundle: b, external: maps.Clone(external)}
	pods := make(map[string]labelled)
	for _, w := range b.workloads() {
		pods[w.name] = labelled{w.namespace, w.pod.Labels}
	}
	if len(pods) == 0 {
		c.addf("nothing runs the exporter")
	}
	c.custom()
	c.services(pods)
	c.monitors(pods)
	c.policies(pods)
	for _, p := range of[*policyv1.PodDisruptionBudget](b) {
		c.selects("PodDisruptionBudget "+p.Name, p.Namespace, p.Spec.Selector, pods)
	}

	for _, w := range b.workloads() {
		c.workload(w)
		c.storage(w)
		c.container()
		c.references()
	}

	for _, n := range of[*corev1.Namespace](b) {
		if n.Labels["pod-security.kubernetes.io/enforce"] != "restricted" {
			c.addf("Namespace %s: does not enforce the restricted pod security standard", n.Name)
		}
	}

	groups := make(map[string]bool)
	for _, r := range of[*monitoringv1.PrometheusRule](b) {
		for i := range r.Spec.Groups {
			if name := r.Spec.Groups[i].Name; groups[name] {
				c.addf("PrometheusRule %s: the group %s is there twice", r.Name, name)
			} else {
				groups[name] = true
			}
		}
	}
	return errors.Join(c.errs...)
}

type checker struct {
	*Bundle
	external map[string][]string
	pod      *corev1.PodTemplateSpec // of the workload that is looked at
	errs     []error
}

func (c *checker) addf(format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf(format, args...))
}

// labelled is something that a selector can select.
type labelled struct {
	namespace string
	labels    labels.Set
}

// selects returns which of the candidates a selector matches. It must match exactly one, as two instances in a
// namespace must not take each other's pods.
func (c *checker) selects(who, namespace string, selector *metav1.LabelSelector,
	candidates map[string]labelled) string {
	s, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		c.addf("%s: %w", who, err)
		return ""
	}

	var found []string
	for name, l := range candidates {
		if l.namespace == namespace && s.Matches(l.labels) {
			found = append(found, name)
		}
	}

	slices.Sort(found)
	switch {
	case s.Empty():
		c.addf("%s: selector matches everything", who)
	case len(found) == 0:
		c.addf("%s: selector %s matches nothing of %v", who, s, candidates)
	case len(found) > 1:
		c.addf("%s: selector %s matches all of %v", who, s, found)
	default:
		return found[0]
	}
	return ""
}

// once reports candidates that are selected by none or by several.
func (c *checker) once(who string, candidates map[string]labelled, selected []string) {
	for name := range candidates {
		if n := len(slices.DeleteFunc(slices.Clone(selected), func(s string) bool { return s != name })); n != 1 {
			c.addf("%s: selected by %d of kind %s, want 1", name, n, who)
		}
	}
}

func (c *checker) workload(w workload) {
	c.pod = w.pod
	switch {
	case w.deployment != nil:
		if s := w.deployment.Spec.ProgressDeadlineSeconds; s == nil || time.Duration(*s)*time.Second <= refreshTimeout {
			c.addf("%s: progressDeadlineSeconds is not above the %s that a first read can take", w.name, refreshTimeout)
		}
		if w.replicas == 1 && w.deployment.Spec.Strategy.Type != appsv1.RecreateDeploymentStrategyType {
			c.addf("%s: a rollout runs two exporters at the same time", w.name)
		}
	case w.statefulSet != nil:
		headless := func(s *corev1.Service) bool {
			return s.Name == w.statefulSet.Spec.ServiceName && s.Spec.ClusterIP == corev1.ClusterIPNone
		}
		if !slices.ContainsFunc(of[*corev1.Service](c.Bundle), headless) {
			c.addf("%s: no headless Service %q", w.name, w.statefulSet.Spec.ServiceName)
		}
		c.shards(w)
	}

	if w.replicas < 2 && len(of[*policyv1.PodDisruptionBudget](c.Bundle)) > 0 {
		c.addf("%s: a PodDisruptionBudget is pointless with fewer than two replicas", w.name)
	}
	for _, t := range c.pod.Spec.TopologySpreadConstraints {
		c.selects("topology spread over "+t.TopologyKey, "", t.LabelSelector, map[string]labelled{w.name: {"", c.pod.Labels}})
	}
	needsToken := c.pod.Annotations[vaultAgent] == "true"
	if a := c.pod.Spec.AutomountServiceAccountToken; a == nil || *a != needsToken {
		c.addf("%s: mounts a service account token, or does not and the Vault agent needs it", w.name)
	}
	accounts := of[*corev1.ServiceAccount](c.Bundle)
	named := func(s *corev1.ServiceAccount) bool { return s.Name == c.pod.Spec.ServiceAccountName }
	if i := slices.IndexFunc(accounts, named); i < 0 {
		c.addf("%s: no ServiceAccount %q", w.name, c.pod.Spec.ServiceAccountName)
	} else if a := accounts[i].AutomountServiceAccountToken; a == nil || *a && !needsToken {
		c.addf("ServiceAccount %s: mounts its token", accounts[i].Name)
	}

	c.ids(w)
}

const storageFlag = "--storage.path="

// storage checks that the directory of the state is on a writable volume that no two pods share.
func (c *checker) storage(w workload) {
	ct := &c.pod.Spec.Containers[0]
	for _, arg := range ct.Args {
		dir, ok := strings.CutPrefix(arg, storageFlag)
		if !ok {
			continue
		}
		mounted := func(m corev1.VolumeMount) bool { return m.MountPath == dir && !m.ReadOnly }
		i := slices.IndexFunc(ct.VolumeMounts, mounted)
		if i < 0 {
			c.addf("%s: argument %q: no volume that can be written is there", w.name, arg)
			continue
		}

		name := ct.VolumeMounts[i].Name
		if w.statefulSet != nil {
			claims := w.statefulSet.Spec.VolumeClaimTemplates
			if slices.ContainsFunc(claims, func(p corev1.PersistentVolumeClaim) bool { return p.Name == name }) {
				continue
			}
		}

		j := slices.IndexFunc(c.pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == name })
		if j < 0 {
			c.addf("%s: no volume %s", w.name, name)
			continue
		}

		switch v := c.pod.Spec.Volumes[j]; {
		case v.EmptyDir != nil:
		case v.PersistentVolumeClaim != nil:
			claim := v.PersistentVolumeClaim.ClaimName
			named := func(p *corev1.PersistentVolumeClaim) bool { return p.Name == claim }
			if _, external := c.external[claim]; !external && !slices.ContainsFunc(of[*corev1.PersistentVolumeClaim](c.Bundle), named) {
				c.addf("%s: no PersistentVolumeClaim %s", w.name, claim)
			}
			if w.replicas > 1 || w.statefulSet != nil {
				c.addf("%s: several pods use the claim %s", w.name, claim)
			}
		default:
			c.addf("%s: the volume %s cannot keep the state", w.name, name)
		}
	}
}

// vaultAgent is the annotation by which the Vault agent is put into a pod.
const vaultAgent = "vault.hashicorp.com/agent-inject"

// ids checks that the pod runs as the image's user and group, or leaves all ids to the cluster.
func (c *checker) ids(w workload) {
	s := c.pod.Spec.SecurityContext
	if s == nil {
		c.addf("%s: no security context", w.name)
		return
	}

	for _, id := range []*int64{s.RunAsUser, s.RunAsGroup, s.FSGroup} {
		if id != nil && *id != UserID {
			c.addf("%s: does not run as the image's user, %d", w.name, UserID)
		}
		if (id == nil) != (s.FSGroup == nil) {
			c.addf("%s: has some of the ids and lacks others", w.name)
		}
	}
}

// shards checks that each process knows its index and the number of shards.
func (c *checker) shards(w workload) {
	var total, index string
	for _, e := range c.pod.Spec.Containers[0].Env {
		switch {
		case e.Name == "TWILIO_SHARD_TOTAL":
			total = e.Value
		case e.Name == "TWILIO_SHARD_INDEX" && e.ValueFrom != nil && e.ValueFrom.FieldRef != nil:
			index = e.ValueFrom.FieldRef.FieldPath
		}
	}

	if total != strconv.Itoa(int(w.replicas)) {
		c.addf("%s: TWILIO_SHARD_TOTAL is %q with %d replicas", w.name, total, w.replicas)
	}
	if want := "metadata.labels['" + appsv1.PodIndexLabel + "']"; index != want {
		c.addf("%s: TWILIO_SHARD_INDEX is from %q, want %s", w.name, index, want)
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
		if !slices.Contains(Flags, strings.Replace(name, "--no-", "--", 1)) {
			c.addf("argument %q: the exporter has no such flag", arg)
		}
	}

	for _, e := range ct.Env {
		if !slices.Contains(Environment, e.Name) {
			c.addf("variable %s: nothing reads it", e.Name)
		}
	}

	c.memory(ct)
	c.probePort(ct)
	c.probe("startupProbe", ct.StartupProbe, healthyPath)
	c.probe("livenessProbe", ct.LivenessProbe, healthyPath)
	c.probe("readinessProbe", ct.ReadinessProbe, readyPath)
}

// memory checks that the Go runtime's soft limit is below what the kernel enforces.
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

// probePort checks that probes use a port that needs neither TLS nor a password.
func (c *checker) probePort(ct *corev1.Container) {
	protected, want := false, "metrics"
	for _, arg := range ct.Args {
		flag, value, _ := strings.Cut(arg, "=")
		switch flag {
		case "--web.config.file":
			protected = true
		case "--web.health-listen-address":
			want = "health"
			port := value[strings.LastIndex(value, ":")+1:]
			named := func(p corev1.ContainerPort) bool {
				return p.Name == want && strconv.Itoa(int(p.ContainerPort)) == port
			}
			if !slices.ContainsFunc(ct.Ports, named) {
				c.addf("argument %q: no container port of the name %s", arg, want)
			}
		}
	}

	if protected && want != "health" {
		c.addf("probes meet TLS or ask for a page that needs a password: no --web.health-listen-address")
	}
	for _, p := range []*corev1.Probe{ct.StartupProbe, ct.LivenessProbe, ct.ReadinessProbe} {
		if p != nil && p.HTTPGet != nil && want == "health" && p.HTTPGet.Port.StrVal != want {
			c.addf("probe of %s: port %s, want %s", p.HTTPGet.Path, p.HTTPGet.Port.String(), want)
		}
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
	if !hasPort(c.pod, p.HTTPGet.Port) {
		c.addf("%s: no container port %s", name, p.HTTPGet.Port.String())
	}
	if p.TimeoutSeconds >= p.PeriodSeconds {
		c.addf("%s: timeout %ds is not below the period %ds", name, p.TimeoutSeconds, p.PeriodSeconds)
	}
}

func hasPort(pod *corev1.PodTemplateSpec, p intstr.IntOrString) bool {
	for i := range pod.Spec.Containers {
		for _, have := range pod.Spec.Containers[i].Ports {
			if p.Type == intstr.String && have.Name == p.StrVal || p.Type == intstr.Int && have.ContainerPort == p.IntVal {
				return true
			}
		}
	}
	return false
}

// hasPort reports whether a workload has a port. It is true for an unknown workload, which is reported elsewhere.
func (c *checker) hasPort(workload string, p intstr.IntOrString) bool {
	for _, w := range c.workloads() {
		if w.name == workload {
			return hasPort(w.pod, p)
		}
	}
	return true
}

// keys returns the keys of a Secret or ConfigMap, and whether there is one.
func (c *checker) keys(kind, name string) ([]string, bool) {
	if kind == "Secret" {
		if keys, ok := c.external[name]; ok {
			return keys, true
		}
		for _, s := range of[*corev1.Secret](c.Bundle) {
			if s.Name == name {
				return append(slices.Collect(maps.Keys(s.Data)), slices.Collect(maps.Keys(s.StringData))...), true
			}
		}
		return nil, false
	}

	for _, m := range of[*corev1.ConfigMap](c.Bundle) {
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

// references follows all references to Secrets and ConfigMaps, and all paths of files in arguments and in the accounts'
// configuration.
func (c *checker) references() {
	for i := range c.pod.Spec.Containers {
		ct := &c.pod.Spec.Containers[i]
		files := c.files(ct)
		for _, e := range ct.Env {
			switch f := e.ValueFrom; {
			case f == nil, f.FieldRef != nil:
			case f.SecretKeyRef != nil:
				c.key("variable "+e.Name, "Secret", f.SecretKeyRef.Name, f.SecretKeyRef.Key)
			case f.ConfigMapKeyRef != nil:
				c.key("variable "+e.Name, "ConfigMap", f.ConfigMapKeyRef.Name, f.ConfigMapKeyRef.Key)
			default:
				c.addf("variable %s: comes from neither Secret, ConfigMap nor field", e.Name)
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

			switch {
			case flag == "--config.file" && content != "":
				c.accounts(content, files)
			case flag == "--web.config.file" && content != "":
				c.webConfig(path.Dir(file), content, files)
			}
		}
	}
}

// files returns what a container finds in its volumes: contents by path, empty if they come from elsewhere.
func (c *checker) files(ct *corev1.Container) map[string]string {
	files := make(map[string]string)
	for dir, names := range c.external {
		for _, name := range names {
			if strings.HasPrefix(dir, "/") {
				files[path.Join(dir, name)] = ""
			}
		}
	}

	for _, m := range ct.VolumeMounts {
		if slices.Contains(ct.Args, storageFlag+m.MountPath) {
			continue
		}
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
		case v.CSI != nil:
			if _, ok := c.external[m.MountPath]; !ok {
				c.addf("volume %s: nobody knows what the driver puts into %s", v.Name, m.MountPath)
			}
			continue
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
	for _, m := range of[*corev1.ConfigMap](b) {
		if kind == "ConfigMap" && m.Name == name {
			return m.Data[key]
		}
	}
	for _, s := range of[*corev1.Secret](b) {
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
	workloads := b.workloads()
	if len(workloads) != 1 || len(workloads[0].pod.Spec.Containers) != 1 {
		return nil, errors.New("want one workload of one container")
	}
	c := checker{Bundle: b, pod: workloads[0].pod}
	ct := &c.pod.Spec.Containers[0]
	p := &Program{Args: ct.Args, Files: c.files(ct)}

	for _, e := range ct.Env {
		value := e.Value
		switch f := e.ValueFrom; {
		case f != nil && f.SecretKeyRef != nil:
			value = b.content("Secret", f.SecretKeyRef.Name, f.SecretKeyRef.Key)
		case f != nil && f.FieldRef != nil:
			value = "0" // of the first pod
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

// webConfig checks that the files named in a web.yml exist, and that a monitor presents what it asks for.
func (c *checker) webConfig(dir, content string, files map[string]string) {
	var config struct {
		TLS struct {
			Cert string `json:"cert_file"`
			Key  string `json:"key_file"`
		} `json:"tls_server_config"`
		Users map[string]string `json:"basic_auth_users"`
	}

	if err := yaml.UnmarshalStrict([]byte(content), &config); err != nil {
		c.addf("web configuration: %w", err)
		return
	}

	for _, file := range []string{config.TLS.Cert, config.TLS.Key} {
		if _, ok := files[path.Join(dir, file)]; file != "" && !ok {
			c.addf("web configuration: no file %s beside it", file)
		}
	}

	for _, m := range of[*monitoringv1.ServiceMonitor](c.Bundle) {
		e := &m.Spec.Endpoints[0]
		if https := e.Scheme != nil && strings.EqualFold(string(*e.Scheme), "https"); https != (config.TLS.Cert != "") {
			c.addf("ServiceMonitor %s: https is %t, and of the web configuration %t", m.Name, https, !https)
		}
		if (e.BasicAuth != nil) != (len(config.Users) > 0) {
			c.addf("ServiceMonitor %s: a password is given, or asked for, and not both", m.Name)
			continue
		}
		if e.BasicAuth != nil {
			c.key("ServiceMonitor "+m.Name, "Secret", e.BasicAuth.Username.Name, e.BasicAuth.Username.Key)
			c.key("ServiceMonitor "+m.Name, "Secret", e.BasicAuth.Password.Name, e.BasicAuth.Password.Key)
		}
	}
}

func (c *checker) services(pods map[string]labelled) {
	var selected []string
	for _, s := range of[*corev1.Service](c.Bundle) {
		who := "Service " + s.Name
		name := c.selects(who, s.Namespace, &metav1.LabelSelector{MatchLabels: s.Spec.Selector}, pods)
		selected = append(selected, name)
		for _, p := range s.Spec.Ports {
			if !c.hasPort(name, p.TargetPort) {
				c.addf("%s: no container port %s", who, p.TargetPort.String())
			}
			if p.Name == "" {
				c.addf("%s: port %d has no name", who, p.Port)
			}
		}
	}

	c.once("Service", pods, selected)
}

func (c *checker) monitors(pods map[string]labelled) {
	for _, m := range of[*monitoringv1.PodMonitor](c.Bundle) {
		who := "PodMonitor " + m.Name
		name := c.selects(who, m.Namespace, &m.Spec.Selector, pods)
		for _, e := range m.Spec.PodMetricsEndpoints {
			if e.Port == nil || !c.hasPort(name, intstr.FromString(*e.Port)) {
				c.addf("%s: no container port %v", who, e.Port)
			}
			c.scrape(who, e.Path, e.Interval, e.ScrapeTimeout, e.HonorLabels, e.RelabelConfigs)
		}
		if len(of[*monitoringv1.ServiceMonitor](c.Bundle)) > 0 {
			c.addf("%s: a ServiceMonitor scrapes the same pods", who)
		}
	}

	services := make(map[string]labelled)
	for _, s := range of[*corev1.Service](c.Bundle) {
		services[s.Name] = labelled{s.Namespace, s.Labels}
	}
	var selected []string
	for _, m := range of[*monitoringv1.ServiceMonitor](c.Bundle) {
		who := "ServiceMonitor " + m.Name
		name := c.selects(who, m.Namespace, &m.Spec.Selector, services)
		selected = append(selected, name)
		for _, s := range of[*corev1.Service](c.Bundle) {
			for i := range m.Spec.Endpoints {
				port := m.Spec.Endpoints[i].Port
				if s.Name == name && !slices.ContainsFunc(s.Spec.Ports, func(p corev1.ServicePort) bool { return p.Name == port }) {
					c.addf("%s: Service %s has no port %q", who, s.Name, port)
				}
			}
		}

		for i := range m.Spec.Endpoints {
			e := &m.Spec.Endpoints[i]
			c.scrape(who, e.Path, e.Interval, e.ScrapeTimeout, e.HonorLabels, e.RelabelConfigs)
		}
	}

	if len(selected) > 0 {
		c.once("ServiceMonitor", services, selected)
	}
}

// custom checks custom resources that are kept as they are, without a Go type.
func (c *checker) custom() {
	for _, u := range of[*unstructured.Unstructured](c.Bundle) {
		who := u.GetKind() + " " + u.GetName()
		switch u.GetKind() {
		case "ExternalSecret":
			name, _, _ := unstructured.NestedString(u.Object, "spec", "target", "name")
			data, _, _ := unstructured.NestedSlice(u.Object, "spec", "data")
			keys := []string{}
			for _, d := range data {
				keys = append(keys, fmt.Sprint(d.(map[string]any)["secretKey"]))
			}
			if c.external == nil {
				c.external = make(map[string][]string)
			}
			c.external[name] = keys
		case "ScrapeConfig":
			if p, _, _ := unstructured.NestedString(u.Object, "spec", "metricsPath"); p != probePath {
				c.addf("%s: path %q, want %s", who, p, probePath)
			}
			sds, _, _ := unstructured.NestedSlice(u.Object, "spec", "httpSDConfigs")
			relabelings, _, _ := unstructured.NestedSlice(u.Object, "spec", "relabelings")
			for _, entry := range append(sds, relabelings...) {
				m := entry.(map[string]any)
				if u, ok := m["url"].(string); ok {
					c.address(who, strings.Split(strings.TrimPrefix(u, "http://"), "/")[0])
				}
				if m["targetLabel"] == "__address__" {
					c.address(who, fmt.Sprint(m["replacement"]))
				}
			}
		}
	}
}

// address checks that NAME.NAMESPACE.svc:PORT is the address of a Service.
func (c *checker) address(who, address string) {
	for _, s := range of[*corev1.Service](c.Bundle) {
		for _, p := range s.Spec.Ports {
			if address == fmt.Sprintf("%s.%s.svc:%d", s.Name, s.Namespace, p.Port) {
				return
			}
		}
	}
	c.addf("%s: no Service at %s", who, address)
}

func (c *checker) scrape(who, page string, every, within monitoringv1.Duration, honorLabels bool,
	relabelings []monitoringv1.RelabelConfig,
) {
	if page != metricsPath {
		c.addf("%s: path %q, want %s", who, page, metricsPath)
	}
	if !honorLabels {
		c.addf("%s: honorLabels is not set: a label of the target would replace one of the metrics", who)
	}
	interval, err := time.ParseDuration(string(every))
	if err != nil {
		c.addf("%s: interval: %w", who, err)
	}
	timeout, err := time.ParseDuration(string(within))
	if err != nil {
		c.addf("%s: scrapeTimeout: %w", who, err)
	}
	if timeout >= interval {
		c.addf("%s: scrapeTimeout %s is not below the interval %s", who, timeout, interval)
	}
	job := func(r monitoringv1.RelabelConfig) bool {
		return r.TargetLabel == "job" && r.Replacement != nil && *r.Replacement == JobName && len(r.SourceLabels) == 0
	}
	if !slices.ContainsFunc(relabelings, job) {
		c.addf("%s: the job label does not become %s, which rules and dashboards ask for", who, JobName)
	}
}

func (c *checker) policies(pods map[string]labelled) {
	var selected []string
	for _, n := range of[*networkingv1.NetworkPolicy](c.Bundle) {
		who := "NetworkPolicy " + n.Name
		name := c.selects(who, n.Namespace, &n.Spec.PodSelector, pods)
		selected = append(selected, name)
		for _, want := range []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress} {
			if !slices.Contains(n.Spec.PolicyTypes, want) {
				c.addf("%s: does not restrict %s", who, want)
			}
		}

		var in []networkingv1.NetworkPolicyPort
		scraped := false
		for _, r := range n.Spec.Ingress {
			if len(r.From) == 0 {
				c.addf("%s: lets everybody in", who)
			}
			in = append(in, r.Ports...)
			for _, peer := range r.From {
				scraped = scraped || matches(peer.NamespaceSelector, nil) && matches(peer.PodSelector, prometheusPod)
			}
		}

		if !scraped {
			c.addf("%s: keeps out a Prometheus of another namespace", who)
		}
		for _, p := range in {
			if p.Port == nil {
				c.addf("%s: lets in on every port", who)
			} else if !c.hasPort(name, *p.Port) {
				c.addf("%s: no container port %s", who, p.Port.String())
			}
		}

		if len(in) == 0 {
			c.addf("%s: lets nobody in", who)
		}

		var out []string
		for _, r := range n.Spec.Egress {
			if slices.ContainsFunc(r.To, oneNamespace) {
				continue // an addition of an overlay
			}
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
		if want := []string{"TCP/443", "TCP/53", "TCP/5353", "UDP/53", "UDP/5353"}; !slices.Equal(out, want) {
			c.addf("%s: lets out to %v, want %v", who, out, want)
		}
	}

	if len(selected) > 0 {
		c.once("NetworkPolicy", pods, selected)
	}
}

func oneNamespace(p networkingv1.NetworkPolicyPeer) bool {
	return p.NamespaceSelector != nil && len(p.NamespaceSelector.MatchLabels) > 0
}

// prometheusPod is a label that pods of Prometheus have, however it is installed.
var prometheusPod = labels.Set{"app.kubernetes.io/name": "prometheus"}

func matches(selector *metav1.LabelSelector, set labels.Set) bool {
	s, err := metav1.LabelSelectorAsSelector(selector)
	return err == nil && s.Matches(set)
}
