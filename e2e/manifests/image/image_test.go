// Package image builds the image of the Dockerfile and runs it as its user.
//
// No registry is asked: the base images are made here under their names, with
// what the real ones are known for. The Go toolchain and the module cache are
// the machine's.
package image

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"twilio_operations_exporter/e2e/manifests"
	"twilio_operations_exporter/e2e/manifests/internal/host"
)

const (
	image   = manifests.ImageName
	program = "/usr/bin/twilio_operations_exporter"
)

// buildah is one store of images that goes with the test.
type buildah struct {
	t    *testing.T
	args []string
}

func newBuildah(t *testing.T) *buildah {
	t.Helper()
	host.NeedRoot(t, "to mount an image and to run as its user")
	host.Need(t, map[string]string{"buildah": "buildah", "runc": "runc"})
	dir := t.TempDir()
	policy := filepath.Join(dir, "policy.json")
	writeFile(t, policy, `{"default": [{"type": "insecureAcceptAnything"}]}`)
	// Without configuration of the machine's: overlay file systems do not work everywhere, and base images go by full
	// names.
	t.Setenv("CONTAINERS_REGISTRIES_CONF", filepath.Join(dir, "registries.conf"))
	writeFile(t, filepath.Join(dir, "registries.conf"), "unqualified-search-registries = []\n")
	return &buildah{t, []string{
		"--root", filepath.Join(dir, "root"), "--runroot", filepath.Join(dir, "run"),
		"--storage-driver", "vfs",
	}}
}

func (b *buildah) run(command string, args ...string) string {
	b.t.Helper()
	all := append(append(slices.Clone(b.args), command), args...)
	for attempt := 1; ; attempt++ {
		cmd := exec.CommandContext(b.t.Context(), "buildah", all...)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err == nil {
			return strings.TrimSpace(string(out))
		}
		// On a busy machine, the kernel can take too long to let go of the pages
		// of the copy of itself that buildah runs: its failure, not the image's.
		if attempt == 5 || !strings.Contains(stderr.String(), "sealing memfd copy: Device or resource busy") {
			b.t.Fatalf("buildah %s: %v\n%s%s", strings.Join(all, " "), err, out, &stderr)
		}
	}
}

func (b *buildah) build(args ...string) {
	b.t.Helper()
	// Docker's format: the other has no health checks.
	b.run("bud", append([]string{"--isolation", "chroot", "--pull-never", "--format", "docker"}, args...)...)
}

// bases makes the images that the Dockerfile starts from, as far as it uses
// them, and returns the volumes that stand for the rest.
func (b *buildah) bases(dockerfile string) []string {
	b.t.Helper()
	from := regexp.MustCompile(`(?m)^FROM (?:--platform=\S+ )?(\S+)`).FindAllStringSubmatch(dockerfile, -1)
	if len(from) != 2 {
		b.t.Fatalf("the Dockerfile starts from %d images, want the toolchain's and the final one", len(from))
	}
	host.Need(b.t, map[string]string{"busybox": "busybox-static"})
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		b.t.Fatal(err)
	}

	golang := b.t.TempDir()
	copyFile(b.t, busybox, filepath.Join(golang, "bin", "busybox"), 0o755)
	if err := os.Symlink("busybox", filepath.Join(golang, "bin", "sh")); err != nil {
		b.t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(golang, "tmp"), 0o700); err != nil {
		b.t.Fatal(err)
	}
	// Modules come from the cache, and from nowhere else.
	writeFile(b.t, filepath.Join(golang, "Dockerfile"),
		"FROM scratch\nCOPY . /\nENV PATH=/usr/local/go/bin:/bin GOPATH=/go GOCACHE=/cache GOTOOLCHAIN=local GOPROXY=off\n")
	b.build("--tag", from[0][1], golang)

	static := b.t.TempDir()
	writeFile(b.t, filepath.Join(static, "etc", "passwd"),
		"root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n")
	writeFile(b.t, filepath.Join(static, "Dockerfile"),
		"FROM scratch\nCOPY etc /etc\nUSER 65532\nENV PATH=/usr/bin:/bin\n")
	b.build("--tag", from[1][1], static)

	env := strings.Split(output(b.t, "go", "env", "GOROOT", "GOMODCACHE", "GOCACHE"), "\n")
	return []string{
		"--volume", env[0] + ":/usr/local/go:ro",
		"--volume", env[1] + ":/go/pkg/mod",
		"--volume", env[2] + ":/cache",
	}
}

// withoutDigests returns a Dockerfile of the repository that takes its bases by
// their tags: the digests are those of the real ones.
func withoutDigests(t *testing.T, name string) string {
	t.Helper()
	doc, err := os.ReadFile(filepath.Join(host.Root(t), name))
	if err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile(`@sha256:\w+`).ReplaceAllString(string(doc), "")
}

// image is one that was built, with its files mounted.
type builtImage struct {
	t      *testing.T
	root   string
	config struct {
		User         string
		Entrypoint   []string
		ExposedPorts map[string]struct{}
		Labels       map[string]string
	}
	healthcheck []string
}

func (b *buildah) open(name string) *builtImage {
	b.t.Helper()
	img := &builtImage{t: b.t}
	var inspected struct {
		OCIv1 struct {
			Config json.RawMessage `json:"config"`
		}
		Docker struct {
			Config struct {
				Healthcheck struct{ Test []string }
			} `json:"config"`
		}
	}

	if err := json.Unmarshal([]byte(b.run("inspect", "--type", "image", name)), &inspected); err != nil {
		b.t.Fatal(err)
	}
	if err := json.Unmarshal(inspected.OCIv1.Config, &img.config); err != nil {
		b.t.Fatal(err)
	}
	img.healthcheck = inspected.Docker.Config.Healthcheck.Test
	container := b.run("from", "--pull-never", name)
	img.root = b.run("mount", container)
	b.t.Cleanup(func() {
		// The test's context has ended.
		cmd := exec.CommandContext(context.Background(), "buildah", append(slices.Clone(b.args), "umount", container)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			b.t.Errorf("buildah umount: %v\n%s", err, out)
		}
	})
	return img
}

// command is the entry point as the image's user, with nothing of the machine
// but its network.
func (i *builtImage) command(args ...string) *exec.Cmd {
	return i.commandAs(manifests.UserID, manifests.UserID, args...)
}

func (i *builtImage) commandAs(user, group uint32, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(i.t.Context(), i.config.Entrypoint[0], args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Chroot:     i.root,
		Credential: &syscall.Credential{Uid: user, Gid: group},
	}
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/bin"}
	return cmd
}

func (i *builtImage) output(args ...string) string {
	i.t.Helper()
	out, err := i.command(args...).CombinedOutput()
	if err != nil {
		i.t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return string(out)
}

func TestImage(t *testing.T) {
	root := host.Root(t)
	b := newBuildah(t)
	dockerfile := filepath.Join(t.TempDir(), "Dockerfile")
	writeFile(t, dockerfile, withoutDigests(t, "Dockerfile"))
	volumes := b.bases(withoutDigests(t, "Dockerfile"))
	// The build gets no network: everything must be in the cache.
	download := exec.CommandContext(t.Context(), "go", "mod", "download")
	download.Dir = root
	if out, err := download.CombinedOutput(); err != nil {
		t.Fatalf("go mod download: %v\n%s", err, out)
	}
	b.build(append(volumes, "--file", dockerfile, "--build-arg", "VERSION=1.2.3", "--build-arg", "REVISION=0123abc",
		"--build-arg", "BRANCH=main", "--build-arg", "BUILD_DATE=2026-01-02", "--tag", image+":1.2.3", root)...)
	img := b.open(image + ":1.2.3")

	t.Run("config", func(t *testing.T) { img.checkConfig(t) })
	for label, want := range map[string]string{
		"title": "twilio_operations_exporter", "licenses": "Apache-2.0",
		"version": "1.2.3", "revision": "0123abc", "created": "2026-01-02",
	} {
		if got := img.config.Labels["org.opencontainers.image."+label]; got != want {
			t.Errorf("label %s is %q, want %q", label, got, want)
		}
	}

	t.Run("version", func(t *testing.T) {
		got := img.output("--version")
		for _, want := range []string{"version 1.2.3", "branch: main", "revision: 0123abc", "2026-01-02"} {
			if !strings.Contains(got, want) {
				t.Errorf("no %q in\n%s", want, got)
			}
		}
	})

	t.Run("flags", func(t *testing.T) {
		// What the manifests are checked against is what the program has.
		var got []string
		flags := regexp.MustCompile(`(?m)^ {2,6}(?:-\w, )?--(?:\[no-\])?([\w.-]+)`)
		for _, m := range flags.FindAllStringSubmatch(img.output("--help"), -1) {
			got = append(got, "--"+m[1])
		}
		slices.Sort(got)
		if !slices.Equal(slices.Compact(got), manifests.Flags) {
			t.Errorf("flags:\n%v, want\n%v", got, manifests.Flags)
		}
	})

	t.Run("demo", func(t *testing.T) { img.demo(t, manifests.UserID, manifests.UserID) })
	// As OpenShift runs it: a user of the namespace's range, of the group root.
	t.Run("demo as another user", func(t *testing.T) { img.demo(t, 1000680000, 0) })
	t.Run("manifests", img.manifests)
	t.Run("release", func(t *testing.T) {
		// As goreleaser lays it out: a directory a platform.
		dir := t.TempDir()
		copyFile(t, filepath.Join(img.root, program),
			filepath.Join(dir, "linux", runtime.GOARCH, "twilio_operations_exporter"), 0o755)
		copyFile(t, filepath.Join(root, "LICENSE"), filepath.Join(dir, "LICENSE"), 0o644)
		writeFile(t, filepath.Join(dir, "Dockerfile"), withoutDigests(t, "Dockerfile.release"))
		b.build("--platform", "linux/"+runtime.GOARCH, "--tag", image+":release", dir)
		released := b.open(image + ":release")
		released.checkConfig(t)
		if got, want := released.output("--version"), img.output("--version"); got != want {
			t.Errorf("version %q, want %q", got, want)
		}
	})
}

func (i *builtImage) checkConfig(t *testing.T) {
	t.Helper()
	if want := fmt.Sprintf("%d:%d", manifests.UserID, manifests.UserID); i.config.User != want {
		t.Errorf("user %q, want %q", i.config.User, want)
	}
	if want := []string{program}; !slices.Equal(i.config.Entrypoint, want) {
		t.Errorf("entry point %v, want %v", i.config.Entrypoint, want)
	}
	if want := []string{"CMD", program, "healthcheck"}; !slices.Equal(i.healthcheck, want) {
		t.Fatalf("health check %q, want %q", i.healthcheck, want)
	}
	if _, ok := i.config.ExposedPorts[fmt.Sprintf("%d/tcp", manifests.ListenPort)]; !ok {
		t.Errorf("ports %v, want %d/tcp", i.config.ExposedPorts, manifests.ListenPort)
	}
	info, err := os.Stat(filepath.Join(i.root, program))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o755 {
		t.Errorf("mode of %s: %s", program, info.Mode())
	}
	license := filepath.Join(i.root, "usr", "share", "doc", "twilio_operations_exporter", "LICENSE")
	if _, err := os.Stat(license); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(i.root, "src")); err == nil {
		t.Error("the image holds the source")
	}
}

// demo starts the image as `docker run IMAGE --demo` would, reads its metrics,
// and stops it.
func (i *builtImage) demo(t *testing.T, user, group uint32) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	address := freeAddress(t)
	cmd := i.commandAs(user, group, "--demo", "--web.listen-address="+address)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	kill := func() error { return errors.Join(cmd.Process.Kill(), <-done) }

	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for up := false; !up; {
		select {
		case err := <-done:
			t.Fatalf("ended by itself: %v\n%s", err, &stderr)
		case <-ctx.Done():
			t.Fatalf("no twilio_up 1 in time; %v\n%s", kill(), &stderr)
		case <-tick.C:
			up = scrapeUp(ctx, address)
		}
	}

	check := func() error {
		return i.commandAs(user, group, append(slices.Clone(i.healthcheck[2:]), address)...).Run()
	}
	if err := check(); err != nil {
		t.Errorf("a running exporter is unhealthy: %v", err)
	}
	defer func() {
		if err := check(); err == nil {
			t.Error("an exporter that has ended is healthy")
		}
	}()

	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("stopped with %v\n%s", err, &stderr)
		}
	case <-time.After(time.Minute):
		t.Errorf("does not stop; %v", kill())
	}
}

func scrapeUp(ctx context.Context, address string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", http.NoBody)
	if err != nil {
		return false
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer func() { _ = res.Body.Close() }()

	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "twilio_up{") && strings.HasSuffix(lines.Text(), " 1") {
			return true
		}
	}
	return false
}

// manifests runs the image with arguments, variables and files of each way of
// deploying it, and lets the program judge them.
func (i *builtImage) manifests(t *testing.T) {
	deploy := host.CopyDeploy(t)
	for _, overlay := range []string{"example", "example-accounts", "example-sharded"} {
		t.Run(overlay, func(t *testing.T) {
			b, err := manifests.Build(filepath.Join(deploy, "k8s", "overlays", overlay))
			if err != nil {
				t.Fatal(err)
			}
			p, err := b.Program()
			if err != nil {
				t.Fatal(err)
			}

			for file, content := range p.Files {
				writeFile(t, filepath.Join(i.root, file), content)
				if err := os.Chmod(filepath.Join(i.root, file), 0o444); err != nil { //nolint:gosec // the image's user reads it
					t.Fatal(err)
				}
			}

			i.makeVolume(t, p.Args)
			cmd := i.command(append(slices.Clone(p.Args), "--config.check")...)
			cmd.Env = append(cmd.Env, p.Env...)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %v\n%s", p.Args, err, out)
			}

			// And it does judge.
			cmd = i.command(append(slices.Clone(p.Args), "--config.check", "--collector.window=1s")...)
			cmd.Env = append(cmd.Env, p.Env...)
			if out, err := cmd.CombinedOutput(); err == nil {
				t.Errorf("a window of 1s passes\n%s", out)
			}
		})
	}
}

// makeVolume makes the directory that a volume is mounted at for the state of the accounts.
func (i *builtImage) makeVolume(t *testing.T, args []string) {
	t.Helper()
	for _, arg := range args {
		path, isStorage := strings.CutPrefix(arg, "--storage.path=")
		if !isStorage {
			continue
		}
		dir := filepath.Join(i.root, path)
		err := errors.Join(os.MkdirAll(dir, 0o755), os.Chmod(dir, 0o777)) //nolint:gosec // the image's user writes to it
		if err != nil {
			t.Fatal(err)
		}
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).Output()
	if err != nil {
		t.Fatalf("%s %v: %v", name, args, err)
	}
	return strings.TrimSpace(string(out))
}

func writeFile(t *testing.T, file, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil { //nolint:gosec // the image\'s user passes through
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func copyFile(t *testing.T, from, to string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil { //nolint:gosec // the image\'s user passes through
		t.Fatal(err)
	}
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}
