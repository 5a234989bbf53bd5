// Package systemd holds the units of deploy/systemd to systemd's own verdict,
// and their command lines to the exporter's.
package systemd

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"twilio_operations_exporter/e2e/manifests"
	"twilio_operations_exporter/e2e/manifests/internal/host"
)

const (
	service = "twilio_operations_exporter.service"
	program = "twilio_operations_exporter" // systemd looks for it in /usr/local/bin and /usr/bin
	// threshold is the highest exposure allowed, in tenths: just above what the
	// unit has, so that every setting counts.
	threshold = "12"
)

func TestMain(m *testing.M) { os.Exit(host.Run(m)) }

// units copies deploy/systemd elsewhere.
func units(t *testing.T) string {
	t.Helper()
	host.Need(t, map[string]string{"systemd-analyze": "systemd"})
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(host.Root(t), "deploy", "systemd"))); err != nil {
		t.Fatal(err)
	}
	return dir
}

func analyze(t *testing.T, args ...string) (string, error) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "systemd-analyze", args...).CombinedOutput()
	return string(out), err
}

func security(t *testing.T, unit string) (string, error) {
	t.Helper()
	return analyze(t, "security", "--offline=true", "--no-pager", "--threshold="+threshold, unit)
}

func read(t *testing.T, file string) string {
	t.Helper()
	doc, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(doc)
}

func edit(t *testing.T, file, old, replacement string) {
	t.Helper()
	doc := read(t, file)
	if !strings.Contains(doc, old) {
		t.Fatalf("%s does not hold %q", file, old)
	}
	write(t, file, strings.ReplaceAll(doc, old, replacement))
}

func write(t *testing.T, file, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestExposure(t *testing.T) {
	out, err := security(t, filepath.Join(units(t), service))
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	t.Log(lines[len(lines)-1])
}

func TestExposureIsMeasured(t *testing.T) {
	for _, setting := range []string{
		"DynamicUser=yes\n", "SystemCallFilter=@system-service\n", "CapabilityBoundingSet=\n",
	} {
		t.Run(strings.TrimSpace(setting), func(t *testing.T) {
			unit := filepath.Join(units(t), service)
			edit(t, unit, setting, "")
			if out, err := security(t, unit); err == nil {
				t.Errorf("passes without %s\n%s", setting, out)
			}
		})
	}
}

// verify wants no word of complaint about the units.
func verify(t *testing.T, dir string) string {
	t.Helper()
	// The installed program is not there: any other that can be run stands for it.
	edit(t, filepath.Join(dir, service), "ExecStart="+program, "ExecStart=/bin/true")
	dropIn := filepath.Join(dir, service+".d", "accounts.conf")
	write(t, dropIn, read(t, filepath.Join(dir, "accounts.conf")))
	edit(t, dropIn, "ExecStart="+program, "ExecStart=/bin/true")
	out, err := analyze(t, "verify", "--man=no", filepath.Join(dir, service),
		filepath.Join(dir, "twilio_operations_exporter.socket"))
	if err != nil {
		out += err.Error()
	}
	return out
}

func TestVerify(t *testing.T) {
	if out := verify(t, units(t)); out != "" {
		t.Error(out)
	}
}

func TestVerifySeesMistakes(t *testing.T) {
	for _, tc := range []struct{ name, file, old, new, want string }{
		{"misspelled setting", service, "DynamicUser=", "DynamicUsers=", "'DynamicUsers'"},
		{"bad value", service, "ProtectSystem=strict", "ProtectSystem=very", "protect system value"},
		{"unknown system call", service, "~@privileged", "~@privilege", "privilege"},
		{"misspelled setting of the drop-in", "accounts.conf", "MemoryMax=", "MaxMemory=", "MaxMemory"},
		{"port that is none", "twilio_operations_exporter.socket", "9861", "metrics", "metrics"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := units(t)
			edit(t, filepath.Join(dir, tc.file), tc.old, tc.new)
			if out := verify(t, dir); !strings.Contains(out, tc.want) {
				t.Errorf("no %q in %q", tc.want, out)
			}
		})
	}
}

// commandLine is how systemd would start the exporter with these units: the
// last ExecStart, the credentials' directory, and $OPTIONS split at spaces.
func commandLine(t *testing.T, environment, credentials string, files ...string) (args, env []string) {
	t.Helper()
	var line, options string
	for _, f := range files {
		for l := range strings.Lines(read(t, f)) {
			if v, ok := strings.CutPrefix(strings.TrimSpace(l), "ExecStart="); ok {
				line = v
			}
			if v, ok := strings.CutPrefix(strings.TrimSpace(l), "Environment="); ok {
				env = append(env, v)
			}
		}
	}

	for l := range strings.Lines(environment) {
		l = strings.TrimSpace(l)
		if l == "" || strings.HasPrefix(l, "#") {
			continue
		}
		env = append(env, l)
		if v, ok := strings.CutPrefix(l, "OPTIONS="); ok {
			options = v
		}
	}

	for _, a := range strings.Fields(line) {
		if a == "$OPTIONS" {
			args = append(args, strings.Fields(options)...)
			continue
		}
		args = append(args, strings.NewReplacer(
			"${CREDENTIALS_DIRECTORY}", credentials, "/etc/twilio_operations_exporter", credentials,
			"%S/twilio_operations_exporter", credentials).Replace(a))
	}
	return args, env
}

func TestCommandLines(t *testing.T) {
	exporter := host.Exporter(t)
	dir := units(t)
	unit, dropIn := filepath.Join(dir, service), filepath.Join(dir, "accounts.conf")
	environment := read(t, filepath.Join(dir, "environment"))
	credentials := t.TempDir()
	write(t, filepath.Join(credentials, "auth-token"), "not a secret\n")
	write(t, filepath.Join(credentials, "marketing"), "not a secret\n")
	write(t, filepath.Join(credentials, "accounts.yml"),
		"accounts:\n  - name: marketing\n    account_sid: AC00000000000000000000000000000000\n"+
			"    auth_token_file: "+filepath.Join(credentials, "marketing")+"\n")

	for _, tc := range []struct {
		name        string
		files       []string
		environment string
		want        bool
	}{
		{"one account", []string{unit}, environment, true},
		{"socket", []string{unit}, strings.Replace(environment, "OPTIONS=", "OPTIONS=--web.systemd-socket", 1), true},
		{"several accounts", []string{unit, dropIn}, "OPTIONS=--collector.interval=2m\n", true},
		{"no account", []string{unit}, "", false},
		{"several accounts, and one in the environment", []string{unit, dropIn}, environment, false},
		{"bad flag", []string{unit}, environment + "OPTIONS=--collector.windows=1h\n", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			args, env := commandLine(t, tc.environment, credentials, tc.files...)
			if args[0] != program {
				t.Errorf("starts %s", args[0])
			}
			for _, a := range args[1:] {
				if flag, _, _ := strings.Cut(a, "="); tc.want && !slices.Contains(manifests.Flags, flag) {
					t.Errorf("no such flag: %s", a)
				}
			}

			cmd := exec.CommandContext(t.Context(), exporter, append(args[1:], "--config.check")...)
			cmd.Env = env
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			if err := cmd.Run(); (err == nil) != tc.want {
				t.Errorf("%v: %v\n%s", args, err, &out)
			}
		})
	}
}
