package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"twilio_operations_exporter/twilio/simulator"
)

// inNamespace runs a test once more, as the root of a namespace of its own, if it is not root's: only root may mount.
// It reports whether that was done.
func inNamespace(t *testing.T) bool {
	t.Helper()
	if os.Getuid() == 0 {
		return false
	}

	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+strings.ReplaceAll(t.Name(), "/", "$/^")+"$")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}

	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("as root of a user namespace: %v (where there are none, run the tests as root)\n%s", err, out)
	}
	return true
}

// smallDisk mounts a file system of half a megabyte.
func smallDisk(t *testing.T) string {
	t.Helper()
	path := t.TempDir()
	if err := syscall.Mount("states", path, "tmpfs", 0, "size=512k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(path, syscall.MNT_DETACH) })
	return path
}

// fillUp writes until there is no free space.
func fillUp(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(filepath.Join(path, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = f.Write(make([]byte, 512))
	}
	_ = f.Close()
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
}

// readOnly changes whether a mounted file system can be written.
func readOnly(t *testing.T, path string, is bool) {
	t.Helper()
	flags := uintptr(syscall.MS_REMOUNT)
	if is {
		flags |= syscall.MS_RDONLY
	}
	if err := syscall.Mount("", path, "", flags, ""); err != nil {
		t.Fatal(err)
	}
}

// TestStorageFails has the directory of an exporter fail while it runs: scrapes and refreshes go on, it is logged once,
// and writing begins again by itself.
func TestStorageFails(t *testing.T) {
	t.Parallel()
	for what, tt := range map[string]struct {
		harm, heal func(t *testing.T, path string)
	}{
		"full": {
			fillUp,
			func(t *testing.T, path string) {
				t.Helper()
				if err := os.Remove(filepath.Join(path, "filler")); err != nil {
					t.Fatal(err)
				}
			},
		},
		"read-only": {
			func(t *testing.T, path string) { t.Helper(); readOnly(t, path, true) },
			func(t *testing.T, path string) { t.Helper(); readOnly(t, path, false) },
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			if inNamespace(t) {
				return
			}
			path := smallDisk(t)
			account := newGrowing(1, 300)
			r, _ := newRestarting(t, account, "--collector.interval=100ms", "--storage.path="+path)
			p := r.start()
			writeErrors := func() float64 { return r.mustScrape(p)["twilio_exporter_storage_write_errors_total"] }
			eventually(t, "the first refresh", func() error {
				if up := sumOf(r.mustScrape(p), "twilio_up"); up != 1 {
					return fmt.Errorf("twilio_up is %v", up)
				}
				return nil
			})

			stop := account.goOn(t, 20*time.Millisecond)
			defer stop()

			tt.harm(t, path)
			if what == "read-only" {
				eventually(t, "several failed writes", func() error { return atLeast(writeErrors(), 5) })
			} else {
				// What is there already may be replaced by less: the state must grow first.
				eventually(t, "several failed writes", func() error {
					fillUp(t, path)
					return atLeast(writeErrors(), 5)
				})
			}

			samples := r.mustScrape(p)
			if sumOf(samples, "twilio_up") != 1 || sumOf(samples, "twilio_messages_total") == 0 {
				t.Errorf("refreshes do not go on: %s", p.log.String())
			}

			tt.heal(t, path)
			eventually(t, "the end of it", func() error {
				failures := strings.Count(p.log.String(), "failed to write state")
				ends := strings.Count(p.log.String(), "writing state succeeded again")
				// While the disk is full, a smaller state may fit in between.
				if failures == 0 || ends < failures {
					return fmt.Errorf("began to fail %d times, and ended to %d times", failures, ends)
				}
				return nil
			})

			if n := strings.Count(p.log.String(), "failed to write state"); what == "read-only" && n != 1 {
				t.Errorf("logged %d times:\n%s", n, p.log.String())
			}
			p.kill()
			p = r.start()
			r.mustScrape(p) // compares with what was seen before
		})
	}
}

func atLeast(got, want float64) error {
	if got < want {
		return fmt.Errorf("%v, want %v", got, want)
	}
	return nil
}

// TestStorageCannotBeUsed checks that an exporter ends with one line if it cannot write its directory at the start.
func TestStorageCannotBeUsed(t *testing.T) {
	t.Parallel()
	bin := toolPath(t, "exporter")
	account, _ := newRestarting(t, simulator.NewStatic())
	for what, tt := range map[string]struct {
		prepare func(t *testing.T) (path string)
		user    uint32
		want    string
	}{
		"full":      {func(t *testing.T) string { t.Helper(); p := smallDisk(t); fillUp(t, p); return p }, 0, "no space left on device"},
		"read-only": {func(t *testing.T) string { t.Helper(); p := smallDisk(t); readOnly(t, p, true); return p }, 0, "read-only file system"},
		"of another user": {func(t *testing.T) string {
			t.Helper()
			path := t.TempDir()
			mode := os.FileMode(0o700)
			if os.Getuid() != 0 {
				mode = 0 // as good as another's
			}
			if err := errors.Join(os.Chmod(filepath.Dir(path), 0o755), os.Chmod(path, mode)); err != nil {
				t.Fatal(err)
			}
			return path
		}, 65534, "permission denied"},
		"a FIFO": {func(t *testing.T) string {
			t.Helper()
			path := filepath.Join(t.TempDir(), "fifo")
			if err := syscall.Mkfifo(path, 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		}, 0, "not a directory"},
	} {
		t.Run(what, func(t *testing.T) {
			if tt.user == 0 && inNamespace(t) {
				return
			}
			path := tt.prepare(t)
			// Another user cannot reach the working tree.
			dir := t.TempDir()
			program := filepath.Join(dir, "exporter")
			content, err := os.ReadFile(bin)
			if err == nil {
				err = errors.Join(os.WriteFile(program, content, 0o755), os.Chmod(dir, 0o755), os.Chmod(filepath.Dir(dir), 0o755))
			}
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), program, "--web.listen-address=127.0.0.1:0", "--storage.path="+path)
			cmd.Env = account.env
			if tt.user != 0 && os.Getuid() == 0 {
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: tt.user, Gid: tt.user}}
			}
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			err = cmd.Run()
			lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
			last := lines[len(lines)-1]
			if cmd.ProcessState.ExitCode() != 1 || len(lines) > 2 {
				t.Errorf("error %v: %s", err, &stderr)
			}

			for _, want := range []string{fmt.Sprintf("error: --storage.path: %q cannot be used: ", path), tt.want, ": choose a directory"} {
				if !strings.Contains(last, want) {
					t.Errorf("no %q in %q", want, last)
				}
			}
		})
	}
}
