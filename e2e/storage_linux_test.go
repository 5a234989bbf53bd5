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

	"twilio_operations_exporter/twilio/simulator"
)

// needRoot skips a test that mounts. Where ROOT_SKIPS names a file, the test's name is added to it: go test is silent
// about those that are skipped.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() == 0 {
		return
	}
	if name := os.Getenv("ROOT_SKIPS"); name != "" {
		f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		if _, err := f.WriteString(t.Name() + ": needs root, to mount\n"); err != nil {
			t.Fatal(err)
		}
	}
	t.Skip("needs root, to mount")
}

// smallDisk mounts a file system of half a megabyte.
func smallDisk(t *testing.T) string {
	t.Helper()
	needRoot(t)
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

// TestStorageFails has the directory of an exporter fail while it runs: scrapes and refreshes go on, it is logged once, and
// writing begins again by itself.
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
			stop := account.goOn(t)
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
				failures := strings.Count(p.log.String(), "state cannot be written")
				ends := strings.Count(p.log.String(), "state is written again")
				// While the disk is full, a smaller state may fit in between.
				if failures == 0 || ends < failures {
					return fmt.Errorf("began to fail %d times, and ended to %d times", failures, ends)
				}
				return nil
			})
			if n := strings.Count(p.log.String(), "state cannot be written"); what == "read-only" && n != 1 {
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

// TestStorageCannotBeUsed holds that an exporter ends with one line if it cannot write its directory at the start.
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
			path := smallDisk(t)
			if err := errors.Join(os.Chmod(filepath.Dir(path), 0o755), os.Chmod(path, 0o700)); err != nil {
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
			if tt.user != 0 {
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
