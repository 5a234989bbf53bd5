package manifests

import (
	"os/exec"
	"path/filepath"
	"testing"

	"twilio_operations_exporter/e2e/manifests/internal/host"
)

func yamllint(t *testing.T, files ...string) (string, error) {
	t.Helper()
	host.Need(t, map[string]string{"yamllint": "yamllint"})
	args := append([]string{"--strict", "--config-file", filepath.Join(root, ".yamllint.yaml")}, files...)
	out, err := exec.CommandContext(t.Context(), "yamllint", args...).CombinedOutput()
	return string(out), err
}

func TestYAMLLint(t *testing.T) {
	if out, err := yamllint(t, filepath.Join(root, "deploy"), filepath.Join(root, ".goreleaser.yaml")); err != nil {
		t.Errorf("%v\n%s", err, out)
	}

	mistake := filepath.Join(t.TempDir(), "mistake.yaml")
	write(t, mistake, "a: 1\na: 2\n")
	if out, err := yamllint(t, mistake); err == nil {
		t.Errorf("a key given twice passes\n%s", out)
	}
}
