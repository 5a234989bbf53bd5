package manifests

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"
)

// crdFiles are the modules that hold the YAML of the custom resources' schemas,
// by API group.
var crdFiles = map[string]struct{ module, dir string }{
	"monitoring.coreos.com": {
		"github.com/prometheus-operator/prometheus-operator@v0.85.0", "example/prometheus-operator-crd",
	},
	"external-secrets.io": {"github.com/external-secrets/external-secrets@v1.3.2", "config/crds/bases"},
}

// customResource is the compiled schema of a kind.
type customResource struct {
	structural *structuralschema.Structural
	validator  validation.SchemaValidator
	cel        *cel.Validator
}

var customResources sync.Map // func() (*customResource, error), by schema.GroupVersionKind

func customResourceOf(gvk schema.GroupVersionKind) (*customResource, error) {
	load, _ := customResources.LoadOrStore(gvk, sync.OnceValues(func() (*customResource, error) { return loadCRD(gvk) }))
	return load.(func() (*customResource, error))()
}

func loadCRD(gvk schema.GroupVersionKind) (*customResource, error) {
	files := crdFiles[gvk.Group]
	// Outside this module: as a requirement of it, each would bring hundreds more.
	//nolint:gosec // of the table above
	download := exec.CommandContext(context.Background(), "go", "mod", "download", "-json", files.module)
	download.Dir = os.TempDir()
	out, err := download.Output()
	if err != nil {
		return nil, fmt.Errorf("go mod download %s: %w\n%s", files.module, err, out)
	}
	var module struct{ Dir string }
	err = yaml.Unmarshal(out, &module)
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("%s_%ss.yaml", gvk.Group, strings.ToLower(gvk.Kind))
	doc, err := os.ReadFile(filepath.Join(module.Dir, files.dir, name)) //nolint:gosec // a module's own file
	if err != nil {
		return nil, fmt.Errorf("no schema of a %s: %w", gvk, err)
	}
	var v1 apiextensionsv1.CustomResourceDefinition
	err = yaml.UnmarshalStrict(doc, &v1)
	if err != nil {
		return nil, err
	}
	var crd apiextensions.CustomResourceDefinition
	err = apiextensionsv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(&v1, &crd, nil)
	if err != nil {
		return nil, err
	}
	crv, err := apiextensions.GetSchemaForVersion(&crd, gvk.Version)
	if err != nil {
		return nil, err
	}
	structural, err := structuralschema.NewStructural(crv.OpenAPIV3Schema)
	if err != nil {
		return nil, err
	}
	validator, _, err := validation.NewSchemaValidator(crv.OpenAPIV3Schema)
	if err != nil {
		return nil, err
	}
	return &customResource{structural, validator, cel.NewValidator(structural, true, celconfig.PerCallLimit)}, nil
}

// admitCustom does for custom resources what admit does for Kubernetes' own.
func admitCustom(doc []byte, gvk schema.GroupVersionKind) (runtime.Object, error) {
	cr, err := customResourceOf(gvk)
	if err != nil {
		return nil, err
	}
	var obj map[string]any
	if err := yaml.UnmarshalStrict(doc, &obj); err != nil {
		return nil, err
	}

	var errs []error
	unknown := pruning.PruneWithOptions(obj, cr.structural, true,
		structuralschema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
	for _, path := range unknown {
		errs = append(errs, fmt.Errorf("unknown field %q", path))
	}
	defaulting.Default(obj, cr.structural)
	for _, err := range validation.ValidateCustomResource(nil, obj, cr.validator) {
		errs = append(errs, err)
	}
	for _, err := range listtype.ValidateListSetsAndMaps(nil, cr.structural, obj) {
		errs = append(errs, err)
	}
	if cr.cel != nil {
		celErrs, _ := cr.cel.Validate(context.Background(), nil, cr.structural, obj, nil, celconfig.RuntimeCELCostBudget)
		for _, err := range celErrs {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}

	switch gvk.Kind {
	case monitoringv1.ServiceMonitorsKind:
		typed := &monitoringv1.ServiceMonitor{}
		return typed, yaml.UnmarshalStrict(doc, typed)
	case monitoringv1.PodMonitorsKind:
		typed := &monitoringv1.PodMonitor{}
		return typed, yaml.UnmarshalStrict(doc, typed)
	case monitoringv1.PrometheusRuleKind:
		typed := &monitoringv1.PrometheusRule{}
		return typed, yaml.UnmarshalStrict(doc, typed)
	}
	return &unstructured.Unstructured{Object: obj}, nil
}
