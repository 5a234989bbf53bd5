package systemd

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/goreleaser/nfpm/v2"
	"github.com/goreleaser/nfpm/v2/files"
	"sigs.k8s.io/yaml"

	"twilio_operations_exporter/e2e/manifests/internal/host"

	// What goreleaser makes packages with.
	_ "github.com/goreleaser/nfpm/v2/deb"
	_ "github.com/goreleaser/nfpm/v2/rpm"
)

// makePackage makes the package of a format as goreleaser does of what
// .goreleaser.yaml says, and returns its file. Artifacts is where
// deploy/packages/generate has written.
func makePackage(t *testing.T, format, version, artifacts string) string {
	t.Helper()
	root := host.Root(t)
	var release struct {
		NFPMs []map[string]any `json:"nfpms"`
	}
	if err := yaml.Unmarshal([]byte(read(t, filepath.Join(root, ".goreleaser.yaml"))), &release); err != nil {
		t.Fatal(err)
	}
	if len(release.NFPMs) != 1 {
		t.Fatalf("%d kinds of packages, want 1", len(release.NFPMs))
	}
	settings := release.NFPMs[0]
	settings["name"], settings["version"], settings["arch"] = settings["package_name"], version, runtime.GOARCH
	bindir := settings["bindir"].(string)

	for _, key := range []string{"package_name", "formats", "bindir", "mtime"} {
		if _, ok := settings[key]; !ok {
			t.Errorf("packages have no %s", key)
		}
		delete(settings, key)
	}

	doc, err := yaml.Marshal(settings)
	if err != nil {
		t.Fatal(err)
	}
	config, err := nfpm.Parse(strings.NewReader(string(doc)))
	if err != nil {
		t.Fatal(err)
	}
	info, err := config.Get(format)
	if err != nil {
		t.Fatal(err)
	}
	place := func(src string) string {
		if rest, ok := strings.CutPrefix(src, "artifacts/"); ok {
			return filepath.Join(artifacts, rest)
		}
		return filepath.Join(root, src)
	}

	for _, c := range info.Contents {
		c.Source = place(c.Source)
	}
	info.Scripts.PostInstall = place(info.Scripts.PostInstall)
	info.Scripts.PreRemove = place(info.Scripts.PreRemove)
	info.Scripts.PostRemove = place(info.Scripts.PostRemove)
	info.Contents = append(info.Contents, &files.Content{
		Source: host.Exporter(t), Destination: filepath.Join(bindir, "twilio_operations_exporter"),
		FileInfo: &files.ContentFileInfo{Mode: 0o755},
	})

	packager, err := nfpm.Get(format)
	if err != nil {
		t.Fatal(err)
	}
	info = nfpm.WithDefaults(info)
	name := filepath.Join(t.TempDir(), packager.ConventionalFileName(info))
	f, err := os.Create(name) //nolint:gosec // in a directory of its own
	if err != nil {
		t.Fatal(err)
	}
	if err := packager.Package(info, f); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return name
}

// generated is where the man page and the completions are.
func generated(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), filepath.Join("deploy", "packages", "generate"), dir)
	cmd.Dir = host.Root(t)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

// packaged are the files that both kinds of package bring.
var packaged = []string{
	"/etc/twilio_operations_exporter/environment",
	"/usr/bin/twilio_operations_exporter",
	"/usr/lib/systemd/system/twilio_operations_exporter.service",
	"/usr/lib/systemd/system/twilio_operations_exporter.socket",
	"/usr/share/bash-completion/completions/twilio_operations_exporter",
	"/usr/share/doc/twilio-operations-exporter/accounts.conf",
	"/usr/share/doc/twilio-operations-exporter/copyright",
	"/usr/share/man/man1/twilio_operations_exporter.1.gz",
}

// TestPackage installs the package on Debian, sets it up, upgrades and removes it.
func TestPackage(t *testing.T) {
	const unit = "/usr/lib/systemd/system/" + service
	artifacts := generated(t)
	first := makePackage(t, "deb", "1.0.0", artifacts)
	second := makePackage(t, "deb", "1.0.1", artifacts)
	m := bootPackages(t, first, second)

	m.run("dpkg", "--no-triggers", "--force-unsafe-io", "--install", "/run/units/"+filepath.Base(first))
	for _, file := range append(slices.Clone(packaged), "/usr/share/zsh/vendor-completions/_twilio_operations_exporter") {
		if _, err := m.try("test", "-s", file); err != nil {
			t.Errorf("no %s", file)
		}
	}

	if got := m.run("systemctl", "show", service, "--value", "-p", "FragmentPath"); "/usr"+strings.TrimPrefix(got, "/usr") != unit {
		t.Errorf("the unit is %q, want %q", got, unit)
	}
	if out, err := m.try("systemctl", "is-active", service); err == nil {
		t.Errorf("started without an account: %s", out)
	}

	for script, want := range map[string]string{
		"complete -p twilio_operations_exporter": "_twilio_operations_exporter",
		"COMP_WORDS=(twilio_operations_exporter --web.h); COMP_CWORD=1; _twilio_operations_exporter_bash_autocomplete; " +
			"echo ${COMPREPLY[@]}": "--web.health-listen-address",
	} {
		out := m.run("bash", "-c", ". /usr/share/bash-completion/completions/twilio_operations_exporter; "+script)
		if !strings.Contains(out, want) {
			t.Errorf("%s: %q, want %q in it", script, out, want)
		}
	}

	// As README.md says.
	address := freeAddress(t)
	const dir = "/etc/twilio_operations_exporter/"
	m.run("sh", "-c", "printf '"+strings.ReplaceAll(account+options("--web.listen-address="+address), "\n", `\n`)+
		"' > "+dir+"environment")
	m.run("sh", "-c", "umask 077; printf 'not a secret' > "+dir+"auth-token")
	m.run("systemctl", "enable", "--now", service)
	eventually(t, "the packaged service answers", func() bool { return get(t, address) != "" })
	before := m.run("systemctl", "show", service, "--value", "-p", "MainPID")

	m.run("dpkg", "--no-triggers", "--force-unsafe-io", "--install", "/run/units/"+filepath.Base(second))
	eventually(t, "the service is restarted by an upgrade", func() bool {
		pid := m.run("systemctl", "show", service, "--value", "-p", "MainPID")
		return pid != before && pid != "0" && get(t, address) != ""
	})

	if got := m.run("cat", dir+"environment"); !strings.Contains(got, address) {
		t.Errorf("an upgrade has replaced the environment file:\n%s", got)
	}

	m.run("dpkg", "--no-triggers", "--force-unsafe-io", "--remove", "twilio-operations-exporter")
	if out, err := m.try("systemctl", "is-active", service); err == nil {
		t.Errorf("still running after the removal: %s", out)
	}
	for _, file := range []string{unit, "/usr/bin/twilio_operations_exporter"} {
		if _, err := m.try("test", "-e", file); err == nil {
			t.Errorf("%s is left behind", file)
		}
	}

	m.run("test", "-e", dir+"environment")
	m.run("dpkg", "--no-triggers", "--force-unsafe-io", "--purge", "twilio-operations-exporter")
	if _, err := m.try("test", "-e", dir+"environment"); err == nil {
		t.Error("a purge leaves the environment file behind")
	}
	m.run("test", "-e", dir+"auth-token")
}

// TestRPM reads what a system with RPM would install.
func TestRPM(t *testing.T) {
	host.Need(t, map[string]string{"rpm": "rpm"})
	file := makePackage(t, "rpm", "1.0.0", generated(t))
	rpm := func(args ...string) string {
		t.Helper()
		//nolint:gosec // a query
		out, err := exec.CommandContext(t.Context(), "rpm", append([]string{"--query", "--package", file}, args...)...).Output()
		if err != nil {
			t.Fatalf("rpm %v: %v", args, err)
		}
		return strings.TrimSpace(string(out))
	}

	want := append(slices.Clone(packaged), "/usr/share/zsh/site-functions/_twilio_operations_exporter")
	slices.Sort(want)
	if got := strings.Fields(rpm("--list")); !slices.Equal(got, want) {
		t.Errorf("files\n%v, want\n%v", got, want)
	}
	if got := rpm("--configfiles"); got != "/etc/twilio_operations_exporter/environment" {
		t.Errorf("files that an upgrade keeps: %q", got)
	}
	if got := rpm("--queryformat", "[%{FILENAMES} %{FILEFLAGS:fflags}\n]"); !strings.Contains(got, "environment cn") {
		t.Errorf("the environment file is replaced by an upgrade:\n%s", got)
	}

	for file, mode := range map[string]string{"/usr/bin/twilio_operations_exporter": "0100755", packaged[0]: "0100644"} {
		if got := rpm("--dump"); !regexp.MustCompile(fmt.Sprintf(`(?m)^%s \S+ \S+ \S+ %s root root`, file, mode)).MatchString(got) {
			t.Errorf("%s: want mode %s and root in\n%s", file, mode, got)
		}
	}

	if scripts := rpm("--scripts"); !strings.Contains(scripts, "postinstall") || !strings.Contains(scripts, "disable --now") {
		t.Errorf("scripts:\n%s", scripts)
	}
}

// TestManPage has man read the page.
func TestManPage(t *testing.T) {
	host.Need(t, map[string]string{"man": "man-db"})
	page := filepath.Join(generated(t), "twilio_operations_exporter.1")
	cmd := exec.CommandContext(t.Context(), "man", "--warnings", "--local-file", page) //nolint:gosec // written here
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "MANWIDTH=200")
	var warnings strings.Builder
	cmd.Stderr = &warnings
	out, err := cmd.Output()
	if err != nil || warnings.Len() > 0 {
		t.Fatalf("%v\n%s", err, &warnings)
	}
	if first, _, _ := strings.Cut(string(out), "\n"); !strings.HasPrefix(first, "twilio_operations_exporter(1)") {
		t.Errorf("begins with %q", first)
	}

	for _, want := range []string{"NAME", "SYNOPSIS", "--twilio.auth-token-file=FILE", "healthcheck"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}
