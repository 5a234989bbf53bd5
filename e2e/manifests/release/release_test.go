// Package release checks what goreleaser is told, as far as that can be seen
// without building everything: what goes into an archive, and that binaries and
// images are the same whoever makes them.
package release

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goreleaser/fileglob"
	"sigs.k8s.io/yaml"

	"twilio_operations_exporter/e2e/manifests"
	"twilio_operations_exporter/e2e/manifests/internal/host"
)

type config struct {
	Builds []struct {
		GOOS    []string `json:"goos"`
		GOARCH  []string `json:"goarch"`
		LDFlags []string `json:"ldflags"`
	} `json:"builds"`
	Archives []struct {
		BuildsInfo info `json:"builds_info"`
		Files      []struct {
			Src  string `json:"src"`
			Info info   `json:"info"`
		} `json:"files"`
	} `json:"archives"`
	Dockers []struct {
		Images     []string          `json:"images"`
		Dockerfile string            `json:"dockerfile"`
		Labels     map[string]string `json:"labels"`
	} `json:"dockers_v2"`
}

type info struct {
	Owner string `json:"owner"`
	MTime string `json:"mtime"`
}

func load(t *testing.T) *config {
	t.Helper()
	var c config
	if err := yaml.Unmarshal([]byte(read(t, ".goreleaser.yaml")), &c); err != nil {
		t.Fatal(err)
	}
	if len(c.Builds) != 1 || len(c.Archives) != 1 || len(c.Dockers) != 1 {
		t.Fatalf("%d builds, %d archives, %d images, want one of each", len(c.Builds), len(c.Archives), len(c.Dockers))
	}
	return &c
}

func read(t *testing.T, name string) string {
	t.Helper()
	doc, err := os.ReadFile(filepath.Join(host.Root(t), name))
	if err != nil {
		t.Fatal(err)
	}
	return string(doc)
}

func TestPlatforms(t *testing.T) {
	b := load(t).Builds[0]
	if want := []string{"linux", "darwin", "windows"}; !slices.Equal(b.GOOS, want) {
		t.Errorf("goos %v, want %v", b.GOOS, want)
	}
	if want := []string{"amd64", "arm64"}; !slices.Equal(b.GOARCH, want) {
		t.Errorf("goarch %v, want %v", b.GOARCH, want)
	}
}

// TestArchive wants all of deploy/ in an archive, which alone is enough to run
// the stack, and the runbooks that its alerts name, but no secret; and nothing
// that differs from one packing of a commit to the next.
func TestArchive(t *testing.T) {
	dir := t.TempDir()
	want := make(map[string]bool)
	for _, top := range []string{"deploy", "docs/runbooks"} {
		if err := os.CopyFS(filepath.Join(dir, top), os.DirFS(filepath.Join(host.Root(t), top))); err != nil {
			t.Fatal(err)
		}
		err := filepath.WalkDir(filepath.Join(dir, top), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			rel, err := filepath.Rel(dir, path)
			want[filepath.ToSlash(rel)] = true
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	secret := filepath.Join(dir, "deploy", "k8s", "overlays", "example", "secrets")
	if err := os.Mkdir(secret, 0o750); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"auth-token", "auth.token"} {
		if err := os.WriteFile(filepath.Join(secret, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}

	got := make(map[string]bool)
	archive := load(t).Archives[0]
	fixed := info{Owner: "root", MTime: "{{ .CommitDate }}"}
	if archive.BuildsInfo != fixed {
		t.Errorf("the binary is packed with %v, want %v", archive.BuildsInfo, fixed)
	}
	for _, f := range archive.Files {
		pattern := f.Src
		if f.Info != fixed {
			t.Errorf("%s is packed with %v, want %v", pattern, f.Info, fixed)
		}
		if !strings.HasPrefix(pattern, "d") {
			continue
		}
		// As goreleaser calls it.
		files, err := fileglob.Glob(pattern, fileglob.WithFs(os.DirFS(dir)), fileglob.MatchDirectoryIncludesContents)
		if err != nil {
			t.Errorf("%s: %v", pattern, err)
		}
		if len(files) == 0 {
			t.Errorf("%s matches nothing", pattern)
		}
		for _, f := range files {
			got[f] = true
		}
	}
	for f := range maps.Keys(want) {
		if !got[f] {
			t.Errorf("not in the archive: %s", f)
		}
	}
	for f := range maps.Keys(got) {
		if !want[f] {
			t.Errorf("must not be in the archive: %s", f)
		}
	}
}

// TestStamps wants goreleaser and the Dockerfile to stamp the same variables.
func TestStamps(t *testing.T) {
	variable := regexp.MustCompile(`-X ([\w./]+)=`)
	names := func(s string) []string {
		var out []string
		for _, m := range variable.FindAllStringSubmatch(s, -1) {
			out = append(out, m[1])
		}
		return out
	}
	got, want := names(strings.Join(load(t).Builds[0].LDFlags, " ")), names(read(t, "Dockerfile"))
	if len(want) != 5 || !slices.Equal(got, want) {
		t.Errorf("goreleaser stamps %v, the Dockerfile %v", got, want)
	}
}

// TestDockerfiles wants the two images to differ in where the binary is from,
// and in nothing else.
func TestDockerfiles(t *testing.T) {
	last := func(dockerfile string) []string {
		lines := strings.Split(strings.TrimSpace(dockerfile), "\n")
		for i := len(lines) - 1; i >= 0; i-- {
			if strings.HasPrefix(lines[i], "FROM ") {
				return slices.DeleteFunc(lines[i:], func(l string) bool {
					return strings.HasPrefix(l, "#") || strings.HasPrefix(l, "ARG ") || strings.HasPrefix(l, "LABEL ") ||
						strings.Contains(l, "/twilio_operations_exporter /usr/bin/")
				})
			}
		}
		return nil
	}
	release := load(t).Dockers[0].Dockerfile
	got, want := last(read(t, release)), last(read(t, "Dockerfile"))
	if len(want) < 4 || !slices.Equal(got, want) {
		t.Errorf("%s ends in\n%s\nDockerfile in\n%s", release, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}

	var labels []string
	for _, m := range regexp.MustCompile(`(?m)^LABEL (\S+)=`).FindAllStringSubmatch(read(t, "Dockerfile"), -1) {
		labels = append(labels, m[1])
	}
	slices.Sort(labels)
	if got := slices.Sorted(maps.Keys(load(t).Dockers[0].Labels)); len(labels) < 5 || !slices.Equal(got, labels) {
		t.Errorf("goreleaser labels %v, the Dockerfile %v", got, labels)
	}
}

// TestImageNames wants one name and one version of the image wherever deploy/
// names it.
func TestImageNames(t *testing.T) {
	if got := load(t).Dockers[0].Images; len(got) != 1 || !strings.Contains(got[0], `"`+manifests.ImageName+`"`) {
		t.Errorf("goreleaser makes %v, want %s", got, manifests.ImageName)
	}
	versions := make(map[string][]string)
	files, err := filepath.Glob(filepath.Join(host.Root(t), "deploy", "k8s", "overlays", "*", "kustomization.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no overlays: %v", err)
	}
	patterns := map[string]string{
		"Dockerfile":                      manifests.ImageName + `:([\w.]+)`,
		"deploy/compose.yaml":             manifests.ImageName + `:([\w.]+)`,
		"deploy/k8s/base/deployment.yaml": manifests.ImageName + `:([\w.]+)`,
		"deploy/helm/" + manifests.ImageName + "/Chart.yaml": `appVersion: ([\w.]+)`,
	}
	for _, f := range files {
		patterns[strings.TrimPrefix(f, host.Root(t)+"/")] = `newTag: ([\w.]+)`
	}
	for file, pattern := range patterns {
		m := regexp.MustCompile(pattern).FindStringSubmatch(read(t, file))
		if m == nil {
			t.Errorf("%s: no version of the image", file)
			continue
		}
		versions[m[1]] = append(versions[m[1]], file)
	}
	if len(versions) != 1 {
		t.Errorf("versions of the image: %v", versions)
	}
}
