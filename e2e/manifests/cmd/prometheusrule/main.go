// Command prometheusrule writes the PrometheusRule objects of deploy/k8s from
// the rule files of deploy/prometheus. It is run in e2e/manifests.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"twilio_operations_exporter/e2e/manifests"
)

func main() {
	if err := run(filepath.Join("..", "..")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(root string) error {
	doc, err := manifests.PrometheusRules(filepath.Join(root, manifests.RulesDir))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(root, manifests.PrometheusRuleFile), doc, 0o644) //nolint:gosec // read by everybody
}
