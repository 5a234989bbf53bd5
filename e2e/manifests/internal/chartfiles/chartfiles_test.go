package chartfiles

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"twilio_operations_exporter/e2e/manifests/internal/host"
)

// TestChartFilesAreCopies fails where rules or dashboards have changed since
// cmd/chartfiles ran.
func TestChartFilesAreCopies(t *testing.T) {
	root := host.Root(t)
	stale, err := Stale(root)
	if err != nil {
		t.Fatal(err)
	}
	if len(stale) > 0 {
		t.Errorf("run `go generate` in e2e/manifests: the chart's copies differ: %v", stale)
	}

	// A link is equal to what it leads to, until it is copied elsewhere.
	for dir := range sources {
		info, err := os.Lstat(filepath.Join(root, chart, dir))
		if err != nil {
			t.Fatal(err)
		}
		if !info.IsDir() {
			t.Errorf("%s is not a directory: %s", dir, info.Mode())
		}
	}
}

func TestStaleFilesAreSeen(t *testing.T) {
	root := t.TempDir()
	if err := os.CopyFS(filepath.Join(root, "deploy"), os.DirFS(filepath.Join(host.Root(t), "deploy"))); err != nil {
		t.Fatal(err)
	}
	write := func(elem ...string) string {
		t.Helper()
		file := filepath.Join(append([]string{root, "deploy"}, elem...)...)
		if err := os.WriteFile(file, []byte("groups: []\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}

	write("prometheus", "rules", "alerts.yml")
	write("prometheus", "rules", "new.yml")
	changed := filepath.Join(root, chart, "rules", "alerts.yml")
	missing := filepath.Join(root, chart, "rules", "new.yml")
	foreign := write("helm", "twilio-operations-exporter", "dashboards", "foreign.json")
	got, err := Stale(root)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{changed, missing, foreign}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("stale: %v, want %v", got, want)
	}
	if err := Write(root); err != nil {
		t.Fatal(err)
	}
	if got, err := Stale(root); err != nil || len(got) > 0 {
		t.Errorf("stale after writing: %v, %v", got, err)
	}
}
