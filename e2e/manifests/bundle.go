// Package manifests checks the files in deploy/k8s and deploy/helm as a cluster would. kustomize and Helm build them, the
// API server's own code decodes, defaults and validates them, and then they are checked against each other and against
// what the exporter offers. Run its tests with -count=1, as go test does not notice changes of files outside the module
// and would repeat an old result.
package manifests

import (
	"errors"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// Bundle holds the decoded objects of a kustomization or a chart.
type Bundle struct {
	Objects []runtime.Object
}

// of returns the objects of one type in a bundle.
func of[T runtime.Object](b *Bundle) []T {
	var out []T
	for _, o := range b.Objects {
		if t, ok := o.(T); ok {
			out = append(out, t)
		}
	}
	return out
}

// maxApplySize is the largest object that `kubectl apply` can keep in the annotation last-applied-configuration.
const maxApplySize = 256 << 10

// Build runs kustomize on dir like `kubectl apply -k`, with the same restrictions on what may be read, and returns what
// the API server would store. The error joins everything that the server would refuse or warn about.
func Build(dir string) (*Bundle, error) {
	docs, err := kustomize(dir)
	if err != nil {
		return nil, err
	}
	return decode(docs)
}

func kustomize(dir string) ([][]byte, error) {
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		return nil, fmt.Errorf("kustomize: %w", err)
	}
	var docs [][]byte
	for _, r := range resources.Resources() {
		doc, err := r.AsYAML()
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", r.GetKind(), r.GetName(), err)
		}
		docs = append(docs, doc)
	}
	return docs, nil
}

// decode returns what the API server would store of these objects in YAML.
func decode(docs [][]byte) (*Bundle, error) {
	b := &Bundle{}
	var errs []error
	for _, doc := range docs {
		var named unstructured.Unstructured
		if err := yaml.Unmarshal(doc, &named.Object); err != nil {
			errs = append(errs, err)
			continue
		}

		name := named.GetKind() + " " + named.GetName()
		if asJSON, err := named.MarshalJSON(); err != nil || len(asJSON) >= maxApplySize {
			errs = append(errs, fmt.Errorf("%s: %d bytes, too large for kubectl apply (%w)", name, len(asJSON), err))
		}
		obj, err := admit(doc)
		if err == nil {
			b.Objects = append(b.Objects, obj)
			one := Bundle{Objects: []runtime.Object{obj}}
			for _, w := range one.workloads() {
				err = errors.Join(podSecurity(w.pod), admitPod(&w))
			}
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	return b, errors.Join(errs...)
}

// workload is a Deployment or a StatefulSet.
type workload struct {
	name, namespace string
	replicas        int32
	pod             *corev1.PodTemplateSpec
	deployment      *appsv1.Deployment  // or
	statefulSet     *appsv1.StatefulSet // the other is nil
}

func (b *Bundle) workloads() []workload {
	var out []workload
	for _, o := range b.Objects {
		switch o := o.(type) {
		case *appsv1.Deployment:
			out = append(out, workload{"Deployment " + o.Name, o.Namespace, *o.Spec.Replicas, &o.Spec.Template, o, nil})
		case *appsv1.StatefulSet:
			out = append(out, workload{"StatefulSet " + o.Name, o.Namespace, *o.Spec.Replicas, &o.Spec.Template, nil, o})
		}
	}
	return out
}
