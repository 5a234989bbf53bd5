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
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"

	// The module that holds the CRDs' YAML: an import keeps it in go.mod.
	_ "github.com/prometheus-operator/prometheus-operator/pkg/versionutil"
)

const (
	monitoringGroup = "monitoring.coreos.com"
	operatorModule  = "github.com/prometheus-operator/prometheus-operator"
)

// crdDir is where the operator's module keeps its CRDs.
var crdDir = sync.OnceValues(func() (string, error) {
	out, err := exec.CommandContext(context.Background(), "go", "list", "-m", "-f", "{{.Dir}}", operatorModule).Output()
	if err != nil {
		return "", fmt.Errorf("go list %s: %w", operatorModule, err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "example", "prometheus-operator-crd"), nil
})

// customResource is the schema of one kind, compiled.
type customResource struct {
	structural *structuralschema.Structural
	validator  validation.SchemaValidator
	cel        *cel.Validator
}

// customResources are the operator's kinds that the manifests use.
var customResources = sync.OnceValues(func() (map[string]*customResource, error) {
	out := make(map[string]*customResource)
	for _, kind := range []string{monitoringv1.ServiceMonitorsKind, monitoringv1.PrometheusRuleKind} {
		cr, err := loadCRD(monitoringv1.SchemeGroupVersion.WithKind(kind))
		if err != nil {
			return nil, fmt.Errorf("CRD of %s: %w", kind, err)
		}
		out[kind] = cr
	}
	return out, nil
})

func loadCRD(gvk schema.GroupVersionKind) (*customResource, error) {
	dir, err := crdDir()
	if err != nil {
		return nil, err
	}
	doc, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("%s_%ss.yaml", gvk.Group, strings.ToLower(gvk.Kind)))) //nolint:gosec // a module's own file
	if err != nil {
		return nil, err
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

// admitCustom does for the operator's kinds what admit does for Kubernetes'.
func admitCustom(doc []byte, gvk schema.GroupVersionKind) (runtime.Object, error) {
	crs, err := customResources()
	if err != nil {
		return nil, err
	}
	cr, ok := crs[gvk.Kind]
	if !ok || gvk.Version != monitoringv1.Version {
		return nil, fmt.Errorf("nobody here knows how to validate a %s", gvk)
	}
	var obj map[string]any
	if err := yaml.UnmarshalStrict(doc, &obj); err != nil {
		return nil, err
	}

	var errs []error
	unknown := pruning.PruneWithOptions(obj, cr.structural, true, structuralschema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
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

	var typed runtime.Object = &monitoringv1.PrometheusRule{}
	if gvk.Kind == monitoringv1.ServiceMonitorsKind {
		typed = &monitoringv1.ServiceMonitor{}
	}
	return typed, yaml.UnmarshalStrict(doc, typed)
}
