package manifests

//go:generate go run ./cmd/prometheusrule
//go:generate go run ./cmd/chartfiles

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	// RulesDir holds the rule files, from the root of the repository.
	RulesDir = "deploy/prometheus/rules"
	// PrometheusRuleFile is generated from them.
	PrometheusRuleFile = "deploy/k8s/components/prometheusrule/prometheusrule.yaml"
)

// PrometheusRules returns a PrometheusRule for each rule file in dir, ordered by name and with comments. kustomize
// cannot do that: it can put a file into a ConfigMap, but not into the spec of another object.
func PrometheusRules(dir string) ([]byte, error) {
	var files []string
	for _, pattern := range []string{"*.yml", "*.yaml"} {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return nil, err
		}
		files = append(files, found...)
	}

	if len(files) == 0 {
		return nil, fmt.Errorf("%s: no rule files", dir)
	}

	var out bytes.Buffer
	fmt.Fprintf(&out, "# Generated from %s by e2e/manifests/cmd/prometheusrule; edit those.\n", RulesDir)
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))
		if strings.HasSuffix(name, "_test") {
			continue
		}
		doc, err := os.ReadFile(file) //nolint:gosec // found in the directory asked for
		if err != nil {
			return nil, err
		}
		var spec yaml.Node
		if err = yaml.Unmarshal(doc, &spec); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		rule, err := prometheusRule(name, &spec)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		out.WriteString("---\n")
		enc := yaml.NewEncoder(&out)
		enc.SetIndent(2)
		if err := errors.Join(enc.Encode(rule), enc.Close()); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), nil
}

func prometheusRule(name string, doc *yaml.Node) (*yaml.Node, error) {
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, errors.New("not a rule file")
	}
	spec := doc.Content[0]
	if len(spec.Content) != 2 || spec.Content[0].Value != "groups" {
		return nil, errors.New("want the key groups and no other")
	}

	// A name of its own for each file: recording.yml is no unique name in a cluster.
	name = strings.ReplaceAll(strings.TrimPrefix(name, "twilio_operations_exporter"), "_", "-")
	name = strings.TrimSuffix("twilio-operations-exporter-"+strings.Trim(name, "-"), "-")
	var rule yaml.Node
	head := fmt.Sprintf(prometheusRuleHead, name, ImageName)
	if err := yaml.Unmarshal([]byte(head), &rule); err != nil {
		return nil, err
	}
	// Joined as nodes: by way of values, comments would be lost.
	object := rule.Content[0]
	object.Content[len(object.Content)-1] = spec
	return &rule, nil
}

const prometheusRuleHead = `apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: %s
  labels:
    app.kubernetes.io/name: %s
spec: {}
`
