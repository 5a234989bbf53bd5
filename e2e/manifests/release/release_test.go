// Package release checks what goreleaser is told, as far as that can be seen
// without building everything: what goes into an archive, and that binaries and
// images are the same whoever makes them.
package release

import (
	"debug/buildinfo"
	"encoding/json"
	"io/fs"
	"maps"
	"os"
	"os/exec"
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

func TestMain(m *testing.M) { os.Exit(host.Run(m)) }

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
	SBOMs []struct {
		Cmd  string   `json:"cmd"`
		Args []string `json:"args"`
	} `json:"sboms"`
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
// the stack, but no secret; and nothing that differs from one packing of a commit
// to the next.
func TestArchive(t *testing.T) {
	dir := t.TempDir()
	want := make(map[string]bool)
	if err := os.CopyFS(filepath.Join(dir, "deploy"), os.DirFS(filepath.Join(host.Root(t), "deploy"))); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(filepath.Join(dir, "deploy"), func(path string, d fs.DirEntry, err error) error {
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

// TestSBOM makes the SBOM as goreleaser does, in dist, and wants each module of the
// binary and the standard library in it, each with its licence.
func TestSBOM(t *testing.T) {
	dir := t.TempDir()
	dist := filepath.Join(dir, "dist")
	if err := os.Mkdir(dist, 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "LICENSE"), []byte(read(t, "LICENSE")), 0o600); err != nil {
		t.Fatal(err)
	}
	//nolint:gosec // fixed but for the directory
	build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, "bin", "licenses"), "../cmd/licenses")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	sbom := load(t).SBOMs[0]
	program := host.Exporter(t)

	var args []string
	for _, arg := range sbom.Args {
		args = append(args, os.Expand(arg, func(name string) string {
			return map[string]string{"artifact": program, "document": "sbom.cdx.json"}[name]
		}))
	}

	cmd := exec.CommandContext(t.Context(), filepath.Join(dist, sbom.Cmd), args...) //nolint:gosec // of this repository
	cmd.Dir = dist
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}

	type component struct {
		Name, Version string
		Licenses      []any
	}

	var document struct {
		BOMFormat  string
		Metadata   struct{ Component component }
		Components []component
	}

	doc, err := os.ReadFile(filepath.Join(dist, "sbom.cdx.json")) //nolint:gosec // in a directory of its own
	if err == nil {
		err = json.Unmarshal(doc, &document)
	}
	if err != nil || document.BOMFormat != "CycloneDX" {
		t.Fatalf("format %q, error %v", document.BOMFormat, err)
	}

	var got []string
	for _, c := range append(document.Components, document.Metadata.Component) {
		got = append(got, c.Name+" "+c.Version)
		if len(c.Licenses) == 0 {
			t.Errorf("%s has no licence", c.Name)
		}
	}

	info, err := buildinfo.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"stdlib " + strings.TrimPrefix(info.GoVersion, "go"), info.Main.Path + " " + info.Main.Version}
	for _, dep := range info.Deps {
		want = append(want, dep.Path+" "+dep.Version)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the SBOM has\n%v\nthe binary\n%v", got, want)
	}
}

// TestMakeRelease wants make release to refuse what is not exactly a tagged commit,
// in one line, and to call goreleaser otherwise.
func TestMakeRelease(t *testing.T) {
	const published, tried = "release --clean", "release --clean --snapshot"
	for _, tc := range []struct {
		name  string
		tag   string
		dirty bool
		args  []string
		want  string
	}{
		{name: "tag", tag: "v1.2.3", want: published},
		{name: "no tag", want: "no tag v... on HEAD"},
		{name: "tag of something else", tag: "docs", want: "no tag v... on HEAD"},
		{name: "dirty", tag: "v1.2.3", dirty: true, want: "the tree differs from its tag"},
		{name: "a try", dirty: true, args: []string{"SNAPSHOT=1"}, want: tried},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			git := func(args ...string) {
				t.Helper()
				args = append([]string{"-c", "user.name=test", "-c", "user.email=test@example.com"}, args...)
				cmd := exec.CommandContext(t.Context(), "git", args...) //nolint:gosec // fixed
				cmd.Dir = dir
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("git %v: %v\n%s", args, err, out)
				}
			}

			git("init", "--quiet")
			if err := os.WriteFile(filepath.Join(dir, "Makefile"), []byte(read(t, "Makefile")), 0o600); err != nil {
				t.Fatal(err)
			}
			git("add", ".")
			git("commit", "--quiet", "--message", "test")
			if tc.tag != "" {
				git("tag", tc.tag)
			}
			if tc.dirty {
				if err := os.WriteFile(filepath.Join(dir, "new"), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}

			// In place of go run: echo.
			args := append([]string{"--silent", "release", "GO=echo"}, tc.args...)
			cmd := exec.CommandContext(t.Context(), "make", args...) //nolint:gosec // fixed
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), "MAKEFLAGS=", "MAKELEVEL=") // of the make that runs this test
			var stderr strings.Builder
			cmd.Stderr = &stderr
			out, err := cmd.Output()
			if strings.HasPrefix(tc.want, published) {
				_, got, _ := strings.Cut(strings.TrimSpace(string(out)), " release ")
				if err != nil || "release "+got != tc.want {
					t.Errorf("error %v, goreleaser gets %q\n%s", err, out, &stderr)
				}
				return
			}

			refusal, _, _ := strings.Cut(stderr.String(), "\n")
			if err == nil || len(out) > 0 || !strings.HasPrefix(refusal, tc.want) {
				t.Errorf("error %v, output %q, refusal %q, want %q", err, out, refusal, tc.want)
			}
		})
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

// TestBases wants the images that ours start from pinned by digest.
func TestBases(t *testing.T) {
	pinned := regexp.MustCompile(`^FROM (--platform=\S+ )?\S+:[\w.-]+@sha256:[0-9a-f]{64}( AS \w+)?$`)
	for _, dockerfile := range []string{"Dockerfile", load(t).Dockers[0].Dockerfile} {
		from := regexp.MustCompile(`(?m)^FROM .*$`).FindAllString(read(t, dockerfile), -1)
		if len(from) == 0 {
			t.Errorf("%s starts from nothing", dockerfile)
		}
		for _, line := range from {
			if !pinned.MatchString(line) {
				t.Errorf("%s: no digest: %s", dockerfile, line)
			}
		}
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
// names it: the newest one of the changelog.
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
		"CHANGELOG.md":                    `(?m)^## ([\w.]+) / `,
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
