// Package host gets what the tests need from the machine: Debian's packages,
// and the exporter built from this tree.
package host

import (
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

// NeedRoot skips a test that only root can run. Where ROOT_SKIPS names a file,
// the test's name is added to it, so that whoever runs all tests can tell how many
// were skipped: go test is silent about those of a package that passes.
func NeedRoot(t testing.TB, why string) {
	t.Helper()
	if os.Getuid() == 0 {
		return
	}
	if name := os.Getenv("ROOT_SKIPS"); name != "" {
		//nolint:gosec // whoever runs the tests says where
		f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		if _, err := f.WriteString(t.Name() + ": needs root, " + why + "\n"); err != nil {
			t.Fatal(err)
		}
	}

	t.Skip("needs root, " + why)
}

// Need makes sure that commands exist; packages says which of Debian's packages
// each comes from. Missing ones are installed where that can be done, and the
// test fails elsewhere: a check that nobody notices missing is none.
func Need(t testing.TB, packages map[string]string) {
	t.Helper()
	missing := lacking(packages)
	if len(missing) == 0 {
		return
	}
	install := append([]string{"apt-get", "-o", "DPkg::Lock::Timeout=300", "install", "--yes", "--no-install-recommends"},
		missing...)
	line := strings.Join(install, " ")
	if _, err := exec.LookPath("apt-get"); err != nil || os.Getuid() != 0 {
		t.Fatalf("missing; on Debian, as root: %s", line)
	}
	// Package lists can be missing or old: once more after fetching them.
	if run(t, install) != nil {
		if err := run(t, []string{"apt-get", "-o", "DPkg::Lock::Timeout=300", "update"}); err != nil {
			t.Fatalf("apt-get update: %v", err)
		}
		if err := run(t, install); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
	}

	if missing = lacking(packages); len(missing) > 0 {
		t.Fatalf("still missing after %s: %v", line, missing)
	}
}

func lacking(packages map[string]string) []string {
	var missing []string
	for command, pkg := range packages {
		if _, err := exec.LookPath(command); err != nil {
			missing = append(missing, pkg)
		}
	}
	slices.Sort(missing)
	return slices.Compact(missing)
}

func run(t testing.TB, args []string) error {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...) //nolint:gosec // fixed commands
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Logf("%s:\n%s", strings.Join(args, " "), out)
	}
	return err
}

// Root is the root of the repository.
func Root(t testing.TB) string {
	t.Helper()
	_, file, _, _ := runtime.Caller(0)
	root, err := filepath.Abs(filepath.Join(filepath.Dir(file), "..", "..", "..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

var secretFile = regexp.MustCompile(`(?m)^ +- (secrets/\S+)$`)

// CopyDeploy copies deploy/ elsewhere, as a user would, puts the secrets there that
// the overlays want and the repository does not hold, and returns its path.
func CopyDeploy(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "deploy")
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(Root(t), "deploy"))); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(filepath.Join(dir, "k8s", "overlays"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != "kustomization.yaml" {
			return err
		}
		doc, err := os.ReadFile(path) //nolint:gosec // in the copy
		if err != nil {
			return err
		}

		for _, m := range secretFile.FindAllStringSubmatch(string(doc), -1) {
			file := filepath.Join(filepath.Dir(path), m[1])
			if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil { //nolint:gosec // in the copy
				return err
			}
			if err := os.WriteFile(file, []byte("not a secret\n"), 0o600); err != nil { //nolint:gosec // in the copy
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

var (
	buildOnce sync.Once
	buildDir  string
	errBuild  error
)

// Exporter builds the exporter, once for a test binary, and returns its path.
func Exporter(t testing.TB) string {
	t.Helper()
	buildOnce.Do(func() {
		if buildDir, errBuild = os.MkdirTemp("", "exporter"); errBuild != nil {
			return
		}
		//nolint:gosec // fixed but for a directory of its own
		cmd := exec.CommandContext(context.Background(), "go", "build", "-o", buildDir, ".")
		cmd.Dir = Root(t)
		cmd.Stderr = os.Stderr
		errBuild = cmd.Run()
	})
	if errBuild != nil {
		t.Fatalf("the exporter does not build: %v", errBuild)
	}
	return filepath.Join(buildDir, "twilio_operations_exporter")
}

// Run runs the tests and removes what Exporter built. TestMain calls it.
func Run(m *testing.M) int {
	code := m.Run()
	if buildDir != "" {
		if err := os.RemoveAll(buildDir); err != nil && code == 0 {
			return 1
		}
	}
	return code
}
