package systemd

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"twilio_operations_exporter/e2e/manifests/internal/host"
)

// bootScript starts a systemd that sees the units of the directory $1 and no
// others, in namespaces of its own but the network's. It ends with its parent. If
// $3 is "writable", what it changes below /usr and /var is gone with it, too.
const bootScript = `
mount -t tmpfs tmpfs /mnt
mount -t cgroup2 cgroup2 /mnt
mkdir /mnt/$2
echo $$ > /mnt/$2/cgroup.procs
exec unshare --mount --pid --fork --kill-child --uts --ipc --cgroup --mount-proc sh -ec '
	mount -t tmpfs tmpfs /run
	cp -r $1 /run/units
	if [ "$2" = writable ]; then
		for dir in usr var; do
			mkdir -p /run/layers/$dir/upper /run/layers/$dir/work
			mount -t overlay overlay -o lowerdir=/$dir,upperdir=/run/layers/$dir/upper,workdir=/run/layers/$dir/work /$dir
		done
	else
		mount -t tmpfs -o mode=755 tmpfs /var/lib
	fi
	mount -t tmpfs -o mode=1777 tmpfs /tmp
	mkdir -p /run/etc/systemd
	cp /etc/passwd /etc/group /etc/nsswitch.conf /run/etc
	mount --bind /run/etc /etc
	cp -r /run/units/etc/. /etc
	cp -r /run/units /etc/systemd/system
	mount -t tmpfs tmpfs /usr/lib/systemd/system
	mount -t tmpfs tmpfs /usr/local/bin
	if [ -d /run/units/bin ]; then cp /run/units/bin/* /usr/local/bin; fi
	umount -R -l /sys/fs/cgroup
	mount -t cgroup2 cgroup2 /sys/fs/cgroup
	mount --make-rshared /
	container=test exec /usr/lib/systemd/systemd --system --unit=test.target --log-target=console --show-status=no
' sh "$1" "$3"
`

// machine is one that systemd has booted.
type machine struct {
	t   *testing.T
	pid string // of systemd
}

// boot starts the shipped units on a systemd of their own: wanted of them, with
// these files in /etc/twilio_operations_exporter. Units by these names may be
// among the files; they go to /etc/systemd/system.
func boot(t *testing.T, wanted string, files map[string]string) *machine {
	t.Helper()
	host.NeedRoot(t, "to start a systemd")
	dir := units(t)
	for name, content := range files {
		if strings.Contains(name, ".conf") || strings.HasSuffix(name, ".socket") {
			write(t, filepath.Join(dir, name), content)
			continue
		}
		file := filepath.Join(dir, "etc", "twilio_operations_exporter", name)
		write(t, file, content)
		for _, f := range []string{file, filepath.Dir(file), filepath.Dir(filepath.Dir(file))} {
			if err := os.Chmod(f, 0o755); err != nil { //nolint:gosec // as the README installs them
				t.Fatal(err)
			}
		}
	}

	program, err := os.ReadFile(host.Exporter(t))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "bin", "twilio_operations_exporter"), string(program))
	//nolint:gosec // a program
	if err := os.Chmod(filepath.Join(dir, "bin", "twilio_operations_exporter"), 0o755); err != nil {
		t.Fatal(err)
	}

	return bootDir(t, dir, wanted, "")
}

// bootPackages starts a systemd without the shipped units, which finds these files
// in /run/units, to install them.
func bootPackages(t *testing.T, packages ...string) *machine {
	t.Helper()
	host.NeedRoot(t, "to start a systemd")
	host.Need(t, map[string]string{"systemctl": "systemd", "dpkg": "dpkg"})
	dir := t.TempDir()
	for _, file := range packages {
		write(t, filepath.Join(dir, filepath.Base(file)), read(t, file))
	}
	if err := os.Mkdir(filepath.Join(dir, "etc"), 0o755); err != nil { //nolint:gosec // becomes /etc
		t.Fatal(err)
	}
	return bootDir(t, dir, "", "writable")
}

func bootDir(t *testing.T, dir, wanted, mode string) *machine {
	t.Helper()
	for _, target := range []string{"basic", "multi-user", "network-online", "shutdown", "sockets", "sysinit"} {
		write(t, filepath.Join(dir, target+".target"), "[Unit]\n")
	}
	write(t, filepath.Join(dir, "test.target"), "[Unit]\nWants="+wanted+"\n")
	write(t, filepath.Join(dir, service+".d", "test.conf"),
		"[Service]\nStandardOutput=append:/run/log.txt\nStandardError=append:/run/log.txt\n")

	group := fmt.Sprintf("exporter-test-%d", os.Getpid())
	var log bytes.Buffer
	//nolint:gosec,noctx // killed below
	cmd := exec.Command("unshare", "--mount", "sh", "-ec", bootScript, "sh", dir, group, mode)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("systemd: %s", &log)
		}
		remove := "mount -t cgroup2 cgroup2 /mnt; until find /mnt/" + group +
			" -depth -type d -exec rmdir {} + 2> /dev/null; do sleep 0.1; done"
		//nolint:gosec // the test's context has ended
		removed := exec.CommandContext(context.Background(), "unshare", "--mount", "timeout", "60", "sh", "-c", remove)
		if out, err := removed.CombinedOutput(); err != nil {
			t.Errorf("control group %s: %v\n%s", group, err, out)
		}
	})

	m := &machine{t: t}
	children := fmt.Sprintf("/proc/%d/task/%[1]d/children", cmd.Process.Pid)
	eventually(t, "systemd boots", func() bool {
		pid, err := os.ReadFile(children)
		m.pid = strings.TrimSpace(string(pid))
		if err != nil || m.pid == "" {
			return false
		}
		out, err := m.try("systemctl", "is-active", "test.target")
		return err == nil && out == "active"
	})
	return m
}

func (m *machine) try(args ...string) (string, error) {
	all := append([]string{"--target", m.pid, "--mount", "--pid"}, args...)
	out, err := exec.CommandContext(m.t.Context(), "nsenter", all...).CombinedOutput() //nolint:gosec // fixed commands
	return strings.TrimSpace(string(out)), err
}

func (m *machine) run(args ...string) string {
	m.t.Helper()
	out, err := m.try(args...)
	if err != nil {
		log, _ := m.try("cat", "/run/log.txt")
		m.t.Fatalf("%v: %v\n%s\n%s", args, err, out, log)
	}
	return out
}

// eventually waits for what another process does.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			t.Fatal("not in time: " + what)
		case <-tick.C:
		}
	}
}

// freeAddress is one on which nobody listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// get returns the body of /metrics, or nothing. Each call makes a connection.
func get(t *testing.T, address string) string {
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/metrics", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return ""
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		return ""
	}
	return string(body)
}

const account = "TWILIO_ACCOUNT_SID=AC00000000000000000000000000000000\n"

// options are OPTIONS of the environment file: with an API that nobody serves.
func options(more string) string {
	return "OPTIONS=--twilio.base-url=http://127.0.0.1:1/v1 " + more + "\n"
}

// families are the names of the metrics in the text format.
func families(text string) []string {
	names := make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\S+)`).FindAllStringSubmatch(text, -1) {
		names[m[1]] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// TestSandbox wants every metric in the sandbox that there is outside of it.
func TestSandbox(t *testing.T) {
	inside, outside := freeAddress(t), freeAddress(t)
	m := boot(t, service, map[string]string{
		"auth-token": "not a secret", "environment": account + options("--web.listen-address="+inside),
	})
	token := filepath.Join(t.TempDir(), "auth-token")
	write(t, token, "not a secret")
	cmd := exec.CommandContext(t.Context(), host.Exporter(t), //nolint:gosec // built here
		"--twilio.account-sid=AC00000000000000000000000000000000", "--twilio.auth-token-file="+token,
		"--twilio.base-url=http://127.0.0.1:1/v1", "--web.listen-address="+outside,
		"--storage.path="+filepath.Join(t.TempDir(), "states"))

	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() }) // killed with the test's context
	var got, want []string
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("in the sandbox\n%v\noutside\n%v", got, want)
		}
	})

	eventually(t, "the same metrics in the sandbox and outside", func() bool {
		got, want = families(get(t, inside)), families(get(t, outside))
		return slices.Contains(want, "process_start_time_seconds") && slices.Equal(got, want)
	})

	// In the sandbox, its user writes where the state is, and nowhere else.
	const state = "/var/lib/twilio_operations_exporter"
	pid := m.run("systemctl", "show", service, "--value", "-p", "MainPID")
	writes := func(dir string) bool {
		user := m.run("stat", "-c", "%u:%g", "/proc/"+pid)
		uid, gid, _ := strings.Cut(user, ":")
		_, err := m.try("nsenter", "--target", pid, "--mount", "--root", "--setuid", uid, "--setgid", gid,
			"touch", dir+"/written-by-a-test")
		return err == nil
	}

	if !writes(state) {
		t.Errorf("the service cannot write to %s", state)
	}
	for _, dir := range []string{"/", "/etc", "/etc/twilio_operations_exporter", "/usr", "/var", "/var/lib", "/root", "/home"} {
		if writes(dir) {
			t.Errorf("the service can write to %s", dir)
		}
	}

	// A configuration that no restart mends must not restart for ever.
	values := strings.Fields(m.run("systemctl", "show", service, "--value",
		"-p", "RestartUSec", "-p", "StartLimitIntervalUSec", "-p", "StartLimitBurst"))
	burst, err := strconv.Atoi(values[2])
	if err != nil {
		t.Fatal(err)
	}
	pause, interval := duration(t, values[0]), duration(t, values[1])
	if pause*time.Duration(burst) >= interval {
		t.Errorf("%d starts, one every %s, never fill the interval of %s", burst, pause, interval)
	}
}

func duration(t *testing.T, s string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(strings.TrimSuffix(s, "in")) // systemd's 10min
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestReload wants an account that is added to accounts.yml to be there after
// systemctl reload.
func TestReload(t *testing.T) {
	const entry = "- {name: %s, account_sid: AC00000000000000000000000000000000, auth_token_file: /run/credentials/" +
		service + "/marketing}\n"
	accounts := "accounts:\n" + fmt.Sprintf(entry, "marketing")
	address := freeAddress(t)
	m := boot(t, service, map[string]string{
		service + ".d/accounts.conf": read(t, filepath.Join(host.Root(t), "deploy", "systemd", "accounts.conf")),
		"environment":                options("--web.listen-address=" + address),
		"marketing":                  "not a secret",
		"accounts.yml":               accounts,
	})

	up := func(name string) func() bool {
		return func() bool { return strings.Contains(get(t, address), `twilio_up{account="`+name+`"}`) }
	}
	eventually(t, "marketing is there", up("marketing"))
	accounts += fmt.Sprintf(entry, "support")
	m.run("sh", "-c", "printf '%s' '"+accounts+"' > /etc/twilio_operations_exporter/accounts.yml")
	m.run("systemctl", "reload", service)
	eventually(t, "support is there", up("support"))
}

// TestSocket stops the service again and again, and wants an answer each time:
// systemd holds the port, and starts the service for whoever connects.
func TestSocket(t *testing.T) {
	const socket = "twilio_operations_exporter.socket"
	address := freeAddress(t)
	shipped := read(t, filepath.Join(host.Root(t), "deploy", "systemd", socket))
	m := boot(t, socket, map[string]string{
		socket:        strings.Replace(shipped, "ListenStream=9861", "ListenStream="+address, 1),
		"auth-token":  "not a secret",
		"environment": account + options("--web.systemd-socket"),
	})

	for i := range 8 {
		if get(t, address) == "" {
			log, _ := m.try("cat", "/run/log.txt")
			t.Fatalf("no answer after %d stops\n%s", i, log)
		}
		m.run("systemctl", "stop", service)
	}
}
