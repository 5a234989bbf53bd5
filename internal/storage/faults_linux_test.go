package storage

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// childMode makes this test binary another process, which uses the directory that childPath names.
const (
	childMode = "STORAGE_TEST_CHILD"
	childPath = "STORAGE_TEST_PATH"
)

func TestMain(m *testing.M) {
	switch mode := os.Getenv(childMode); mode {
	case "":
		goleak.VerifyTestMain(m)
	default:
		if err := child(mode, os.Getenv(childPath)); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
}

// child is the main function of the other process. It prints a line when it has opened the directory, and one for each
// write.
func child(mode, path string) error {
	if mode == "full" { // files can have no more bytes, as on a device without a free block
		signal.Ignore(unix.SIGXFSZ)
		limit := &unix.Rlimit{}
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, limit); err != nil {
			return err
		}
	}

	d, err := Open(path, version)
	if err != nil {
		return err
	}
	fmt.Println("open")
	for n := 1; mode == "write" && err == nil; n++ {
		content := fmt.Appendf(nil, "%09d%s", n, strings.Repeat("x", 1e5))
		err = d.Write(name, identity, content)
		fmt.Println(n)
	}

	_, waitErr := io.Copy(io.Discard, os.Stdin) // until the parent ends
	return errors.Join(err, waitErr, d.Close())
}

type process struct {
	cmd   *exec.Cmd
	stdin io.Closer
	lines *bufio.Scanner
}

func start(t *testing.T, mode, path string) *process {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childMode+"="+mode, childPath+"="+path)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return &process{cmd, stdin, bufio.NewScanner(stdout)}
}

func (p *process) line() string {
	p.lines.Scan()
	return p.lines.Text()
}

// kill kills the process and returns the last line that it printed.
func (p *process) kill(last string) string {
	_ = p.cmd.Process.Kill()
	for p.lines.Scan() {
		last = p.lines.Text()
	}
	_ = p.cmd.Wait()
	return last
}

func TestSecondProcess(t *testing.T) {
	path := t.TempDir()
	first := start(t, "hold", path)
	if line := first.line(); line != "open" {
		t.Fatal(line)
	}
	d, err := Open(path, version)
	if !errors.Is(err, ErrInUse) {
		t.Fatalf("a second process got %v, error %v", d, err)
	}
	if want := fmt.Sprintf("%q is used by another process: stop that one, or choose another directory", path); err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
	first.kill("")
	open(t, path) // the lock has gone with the process
}

// TestKilled kills a process again and again while it writes. A read must return the last write that it reported, or
// the one that was under way.
func TestKilled(t *testing.T) {
	path := t.TempDir()
	for round := range 20 {
		p := start(t, "write", path)
		last := ""
		for range 2 + round {
			last = p.line()
		}
		told, err := strconv.Atoi(p.kill(last))
		if err != nil {
			t.Fatal(err)
		}

		d := open(t, path)
		content, err := d.Read(name, identity)
		if err != nil {
			t.Fatal(err)
		}
		written, err := strconv.Atoi(string(content[:9]))
		if err != nil || written != told && written != told+1 || len(content) != 9+1e5 {
			t.Errorf("read write %d of %d bytes (error %v), want %d or the one after it", written, len(content), err, told)
		}
		if got := files(t, path); len(got) != 1 {
			t.Errorf("files %q", got)
		}
		_ = d.Close()
	}
}

// publicDir returns a directory of the test that the user nobody can use.
func publicDir(t *testing.T) string {
	t.Helper()
	path := t.TempDir()
	if err := errors.Join(os.Chmod(filepath.Dir(path), 0o755), os.Chmod(path, 0o777)); err != nil {
		t.Fatal(err)
	}
	return path
}

// asNobody runs f without the rights of root.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	if os.Getuid() != 0 {
		f()
		return
	}

	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const nobody = 65534
	if err := unix.Setfsuid(nobody); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Setfsuid(0) }()
	f()
}

// TestCannotBeUsed checks that the error of a directory that cannot be used is one line with its path, the fault and
// the remedy.
func TestCannotBeUsed(t *testing.T) {
	for what, tt := range map[string]struct {
		prepare func(path string) error
		want    string
	}{
		"a file": {func(path string) error { return os.WriteFile(path, nil, 0o600) }, "not a directory"},
		"a FIFO": {func(path string) error { return unix.Mkfifo(path, 0o600) }, "not a directory"},
		"a symlink to nothing": {
			func(path string) error { return os.Symlink(path+".none", path) }, "not a directory",
		},
		"in a directory of another user": {
			func(path string) error { return os.Chmod(filepath.Dir(path), 0o755) }, "permission denied",
		},
		"of another user": {func(path string) error { return os.Mkdir(path, 0o500) }, "permission denied"},
		"used before, and of another user": {
			func(path string) error {
				err := os.Mkdir(path, 0o755)
				return errors.Join(err, os.WriteFile(filepath.Join(path, lockName), nil, 0o644), os.Chmod(path, 0o555))
			}, "permission denied",
		},
		"with a FIFO for a lock": {
			func(path string) error {
				return errors.Join(os.Mkdir(path, 0o777), unix.Mkfifo(filepath.Join(path, lockName), 0o666))
			}, "not a regular file",
		},
	} {
		t.Run(what, func(t *testing.T) {
			path := filepath.Join(publicDir(t), "states")
			if err := tt.prepare(path); err != nil {
				t.Fatal(err)
			}
			asNobody(t, func() {
				d, err := Open(path, version)
				if err == nil {
					t.Fatalf("opened: %v", d)
				}
				for _, want := range []string{strconv.Quote(path) + " cannot be used: ", tt.want, "choose a directory"} {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("no %q in %q", want, err)
					}
				}
				if strings.Contains(err.Error(), "\n") {
					t.Errorf("more than a line: %q", err)
				}
				if got := Check(path); got == nil || !strings.Contains(got.Error(), tt.want) {
					t.Errorf("Check: %v, want %q", got, tt.want)
				}
			})
		})
	}

	t.Run("full", func(t *testing.T) {
		path := t.TempDir()
		p := start(t, "full", path)
		line := p.line()
		p.kill("")
		if !strings.Contains(line, "file too large") || !strings.Contains(line, "with free space") {
			t.Errorf("line %q", line)
		}
		if got := files(t, path); got != nil {
			t.Errorf("files %q", got)
		}
	})
}

func TestSymlinkToADirectory(t *testing.T) {
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(t.TempDir(), link); err != nil {
		t.Fatal(err)
	}
	d := open(t, link)
	write(t, d, name, "state")
	wantContent(t, d, name, "state")
}

// TestOddFiles checks that whatever is in the place of a state is set aside, without blocking or taking memory.
func TestOddFiles(t *testing.T) {
	for what, prepare := range map[string]func(state string) error{
		"a gigabyte": func(state string) error {
			return errors.Join(os.WriteFile(state, []byte(magic+"3\n"), 0o600), os.Truncate(state, 1<<30))
		},
		"a FIFO": func(state string) error { return unix.Mkfifo(state, 0o600) },
		"a symlink to a state": func(state string) error {
			return os.Symlink(state+".before", state)
		},
		"a symlink to a device": func(state string) error { return os.Symlink("/dev/zero", state) },
		"a symlink to nothing":  func(state string) error { return os.Symlink(state+".none", state) },
		"an empty directory":    func(state string) error { return os.Mkdir(state, 0o700) },
		"a directory":           func(state string) error { return os.MkdirAll(filepath.Join(state, "sub"), 0o700) },
		"a socket": func(state string) error {
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
			if err != nil {
				return err
			}
			dir, err := os.Open(filepath.Dir(state)) // a socket's path must be short
			if err != nil {
				return err
			}
			short := fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(state))
			return errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: short}), unix.Close(fd), dir.Close())
		},
		"a file of another user": func(state string) error { return os.WriteFile(state, []byte(magic), 0o000) },
	} {
		t.Run(what, func(t *testing.T) {
			path := publicDir(t)
			state := filepath.Join(path, stateName(name))
			asNobody(t, func() {
				d := open(t, path)
				write(t, d, name, "state")
				_ = d.Close()
			})

			if err := errors.Join(os.Rename(state, state+".before"), prepare(state)); err != nil {
				t.Fatal(err)
			}
			asNobody(t, func() {
				d := open(t, path)
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				_ = wantDiscarded(t, d, Unreadable)
				runtime.ReadMemStats(&after)
				if taken := after.TotalAlloc - before.TotalAlloc; taken > 1<<20 {
					t.Errorf("reading it took %d bytes", taken)
				}
				if _, err := os.Lstat(state + badSuffix); err != nil {
					t.Error(err)
				}
				write(t, d, name, "another")
				wantContent(t, d, name, "another")

				// The next one is set aside in its place.
				if err := os.WriteFile(state, []byte("odd"), 0o600); err != nil {
					t.Fatal(err)
				}
				_ = wantDiscarded(t, d, Corrupt)
				kept, err := os.ReadFile(state + badSuffix)
				if string(kept) != "odd" && what != "a directory" { // which is not empty
					t.Errorf("set aside is %q, error %v", kept, err)
				}
			})
		})
	}
}

// TestOddFileStays checks that the next write replaces what could not be set aside.
func TestOddFileStays(t *testing.T) {
	path := t.TempDir()
	d := open(t, path)
	state := filepath.Join(path, stateName(name))
	err := errors.Join(os.WriteFile(state, []byte("odd"), 0o600), os.MkdirAll(filepath.Join(state+badSuffix, "sub"), 0o700))
	if err != nil {
		t.Fatal(err)
	}
	if discarded := wantDiscarded(t, d, Corrupt); discarded.File != state {
		t.Errorf("it is now %s", discarded.File)
	}
	write(t, d, name, "another")
	wantContent(t, d, name, "another")
}

// TestDirectoryComesAndGoes checks that writing resumes by itself once the directory can be used again.
func TestDirectoryComesAndGoes(t *testing.T) {
	for what, tt := range map[string]struct {
		harm func(path string) error
		heal func(path string) error // nil where the next write does
	}{
		"removed": {harm: os.RemoveAll},
		"emptied": {harm: func(path string) error { return os.Remove(filepath.Join(path, lockName)) }},
		"renamed and back": {
			harm: func(path string) error {
				return errors.Join(os.Rename(path, path+".away"), os.WriteFile(path, nil, 0o600))
			},
			heal: func(path string) error { return errors.Join(os.Remove(path), os.Rename(path+".away", path)) },
		},
		"read-only": {
			harm: func(path string) error { return os.Chmod(path, 0o555) },
			heal: func(path string) error { return os.Chmod(path, 0o700) },
		},
	} {
		t.Run(what, func(t *testing.T) {
			path := filepath.Join(publicDir(t), "states")
			asNobody(t, func() {
				d := open(t, path)
				write(t, d, name, "before")
				if err := tt.harm(path); err != nil {
					t.Fatal(err)
				}
				err := d.Write(name, identity, []byte("meanwhile"))
				if failed := err != nil; failed != (tt.heal != nil) {
					t.Errorf("a write returned %v", err)
				}
				if tt.heal != nil {
					if err := tt.heal(path); err != nil {
						t.Fatal(err)
					}
					wantContent(t, d, name, "before")
				}

				write(t, d, name, "after")
				wantContent(t, d, name, "after")
				if _, err := Open(path, version); !errors.Is(err, ErrInUse) {
					t.Errorf("the lock is lost: %v", err)
				}
			})
		})
	}
}

// TestTakenOver checks that a process does not touch its directory after that was replaced by one that another process
// uses.
func TestTakenOver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "states")
	d := open(t, path)
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	other := start(t, "hold", path)
	if line := other.line(); line != "open" {
		t.Fatal(line)
	}
	if err := d.Write(name, identity, []byte("state")); !errors.Is(err, ErrInUse) {
		t.Errorf("written beside another process: %v", err)
	}
	if got := files(t, path); got != nil {
		t.Errorf("files %q", got)
	}
	other.kill("")
	write(t, d, name, "state")
	wantContent(t, d, name, "state")
}
