// Package manifests holds the files of deploy/k8s to what a cluster would say
// of them: they are built by kustomize, decoded, defaulted and validated by the
// API server's own code, and then checked against each other and against what
// the exporter offers. Run its tests with -count=1: go does not see changes of
// files outside the module, and would repeat an old result.
package manifests

import (
	"errors"
	"fmt"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// Bundle is what one kustomization yields, decoded.
type Bundle struct {
	Deployments       []*appsv1.Deployment
	Services          []*corev1.Service
	ServiceAccounts   []*corev1.ServiceAccount
	Secrets           []*corev1.Secret
	ConfigMaps        []*corev1.ConfigMap
	Namespaces        []*corev1.Namespace
	NetworkPolicies   []*networkingv1.NetworkPolicy
	DisruptionBudgets []*policyv1.PodDisruptionBudget
	ServiceMonitors   []*monitoringv1.ServiceMonitor
	PrometheusRules   []*monitoringv1.PrometheusRule
}

// maxApplySize is what `kubectl apply` can keep of an object in the annotation
// last-applied-configuration.
const maxApplySize = 256 << 10

// Build runs kustomize on dir as `kubectl apply -k` does, with the same
// restrictions on what may be read, and returns what the API server would
// store. The error joins everything that the server would refuse or warn of.
func Build(dir string) (*Bundle, error) {
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		return nil, fmt.Errorf("kustomize: %w", err)
	}

	b := &Bundle{}
	var errs []error
	for _, r := range resources.Resources() {
		name := r.GetKind() + " " + r.GetName()
		doc, err := r.AsYAML()
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
			continue
		}
		asJSON, err := r.MarshalJSON()
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
		if len(asJSON) >= maxApplySize {
			errs = append(errs, fmt.Errorf("%s: %d bytes, too large for kubectl apply", name, len(asJSON)))
		}
		if err := b.add(doc); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	return b, errors.Join(errs...)
}

func (b *Bundle) add(doc []byte) error {
	obj, err := admit(doc)
	if err != nil {
		return err
	}
	switch o := obj.(type) {
	case *appsv1.Deployment:
		b.Deployments = append(b.Deployments, o)
		return podSecurity(&o.Spec.Template)
	case *corev1.Service:
		b.Services = append(b.Services, o)
	case *corev1.ServiceAccount:
		b.ServiceAccounts = append(b.ServiceAccounts, o)
	case *corev1.Secret:
		b.Secrets = append(b.Secrets, o)
	case *corev1.ConfigMap:
		b.ConfigMaps = append(b.ConfigMaps, o)
	case *corev1.Namespace:
		b.Namespaces = append(b.Namespaces, o)
	case *networkingv1.NetworkPolicy:
		b.NetworkPolicies = append(b.NetworkPolicies, o)
	case *policyv1.PodDisruptionBudget:
		b.DisruptionBudgets = append(b.DisruptionBudgets, o)
	case *monitoringv1.ServiceMonitor:
		b.ServiceMonitors = append(b.ServiceMonitors, o)
	case *monitoringv1.PrometheusRule:
		b.PrometheusRules = append(b.PrometheusRules, o)
	default:
		return fmt.Errorf("no checks for objects of type %T", obj)
	}
	return nil
}
