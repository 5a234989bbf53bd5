package manifests

import (
	"context"
	"errors"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/warning"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/apis/core"
	"k8s.io/kubernetes/pkg/registry/apps/deployment"
	"k8s.io/kubernetes/pkg/registry/apps/statefulset"
	"k8s.io/kubernetes/pkg/registry/core/configmap"
	"k8s.io/kubernetes/pkg/registry/core/namespace"
	"k8s.io/kubernetes/pkg/registry/core/persistentvolumeclaim"
	"k8s.io/kubernetes/pkg/registry/core/pod"
	"k8s.io/kubernetes/pkg/registry/core/secret"
	"k8s.io/kubernetes/pkg/registry/core/service"
	"k8s.io/kubernetes/pkg/registry/core/serviceaccount"
	"k8s.io/kubernetes/pkg/registry/networking/networkpolicy"
	"k8s.io/kubernetes/pkg/registry/policy/poddisruptionbudget"
	podsecurity "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/yaml"

	// The API groups, in legacyscheme.
	_ "k8s.io/kubernetes/pkg/apis/apps/install"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	_ "k8s.io/kubernetes/pkg/apis/networking/install"
	_ "k8s.io/kubernetes/pkg/apis/policy/install"
)

// strategies are what the API server uses to create these objects.
var strategies = map[schema.GroupKind]rest.RESTCreateStrategy{
	{Group: "apps", Kind: "Deployment"}:                 deployment.Strategy,
	{Group: "apps", Kind: "StatefulSet"}:                statefulset.Strategy,
	{Group: "", Kind: "ConfigMap"}:                      configmap.Strategy,
	{Group: "", Kind: "Namespace"}:                      namespace.Strategy,
	{Group: "", Kind: "PersistentVolumeClaim"}:          persistentvolumeclaim.Strategy,
	{Group: "", Kind: "Pod"}:                            pod.Strategy,
	{Group: "", Kind: "Secret"}:                         secret.Strategy,
	{Group: "", Kind: "Service"}:                        service.Strategy,
	{Group: "", Kind: "ServiceAccount"}:                 serviceaccount.Strategy,
	{Group: "networking.k8s.io", Kind: "NetworkPolicy"}: networkpolicy.Strategy,
	{Group: "policy", Kind: "PodDisruptionBudget"}:      poddisruptionbudget.Strategy,
}

// admit admits an object in YAML like the API server on create with fieldValidation=Strict: unknown and duplicate
// fields, bad values and anything it would warn about are errors. It returns the object with defaults filled in.
func admit(doc []byte) (runtime.Object, error) {
	var kind metav1.TypeMeta
	if err := yaml.Unmarshal(doc, &kind); err != nil {
		return nil, err
	}
	gvk := kind.GroupVersionKind()
	if _, ok := crdFiles[gvk.Group]; ok {
		return admitCustom(doc, gvk)
	}
	strategy, ok := strategies[gvk.GroupKind()]
	if !ok {
		return nil, fmt.Errorf("nobody here knows how to validate a %s", gvk)
	}

	codecs := serializer.NewCodecFactory(legacyscheme.Scheme, serializer.EnableStrict)
	obj, _, err := codecs.UniversalDeserializer().Decode(doc, nil, nil)
	if err != nil {
		return nil, err
	}
	legacyscheme.Scheme.Default(obj)

	internal, err := legacyscheme.Scheme.ConvertToVersion(obj.DeepCopyObject(),
		schema.GroupVersion{Group: gvk.Group, Version: runtime.APIVersionInternal})
	if err != nil {
		return nil, err
	}
	om, err := meta.Accessor(internal)
	if err != nil {
		return nil, err
	}
	rest.FillObjectMetaSystemFields(om)
	// As the storage of Services does before it validates.
	if s, ok := internal.(*core.Service); ok && s.Spec.ClusterIP != "" && s.Spec.ClusterIPs == nil {
		s.Spec.ClusterIPs = []string{s.Spec.ClusterIP}
	}

	ns := om.GetNamespace()
	if ns == "" && strategy.NamespaceScoped() {
		ns = metav1.NamespaceDefault
		om.SetNamespace(ns)
	}

	var warnings warningRecorder
	ctx := warning.WithWarningRecorder(genericapirequest.WithNamespace(context.Background(), ns), &warnings)
	plural, _ := meta.UnsafeGuessKindToResource(gvk)
	ctx = genericapirequest.WithRequestInfo(ctx, &genericapirequest.RequestInfo{
		IsResourceRequest: true, Verb: "create",
		APIGroup: gvk.Group, APIVersion: gvk.Version, Resource: plural.Resource,
	})

	if err := rest.BeforeCreate(strategy, ctx, internal); err != nil {
		return nil, err
	}
	return obj, errors.Join(warnings...)
}

type warningRecorder []error

// AddWarning implements warning.Recorder.
func (r *warningRecorder) AddWarning(_, text string) {
	*r = append(*r, errors.New("warning: "+text))
}

// admitPod admits the pod that a controller makes of a template, with the name and labels that it would have: those of
// a workload may be valid while those of its pods are too long.
func admitPod(w *workload) error {
	made := &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: *w.pod.ObjectMeta.DeepCopy(),
		Spec:       *w.pod.Spec.DeepCopy(),
	}

	const hash = "5d7c9b8f6d"
	made.Namespace = w.namespace
	if w.statefulSet != nil {
		made.Name = w.statefulSet.Name + "-0"
		made.Labels[appsv1.ControllerRevisionHashLabelKey] = w.statefulSet.Name + "-" + hash
		made.Labels[appsv1.StatefulSetPodNameLabel] = made.Name
		made.Labels[appsv1.PodIndexLabel] = "0"
		for _, claim := range w.statefulSet.Spec.VolumeClaimTemplates {
			source := &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim.Name + "-" + made.Name}
			made.Spec.Volumes = append(made.Spec.Volumes, corev1.Volume{
				Name: claim.Name, VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: source},
			})
		}
	} else {
		made.Name = w.deployment.Name + "-" + hash + "-x7k2p"
		made.Labels[appsv1.DefaultDeploymentUniqueLabelKey] = hash
	}

	doc, err := yaml.Marshal(made)
	if err != nil {
		return err
	}
	_, err = admit(doc)
	return err
}

// podSecurity checks a pod against the Pod Security Standard `restricted`, like the admission plugin.
func podSecurity(template *corev1.PodTemplateSpec) error {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		return err
	}
	result := policy.AggregateCheckResults(evaluator.EvaluatePod(
		podsecurity.LevelVersion{Level: podsecurity.LevelRestricted, Version: podsecurity.LatestVersion()},
		&template.ObjectMeta, &template.Spec))
	if !result.Allowed {
		return fmt.Errorf("pod security, restricted: %s", result.ForbiddenDetail())
	}
	return nil
}
