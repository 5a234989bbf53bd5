package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"twilio_operations_exporter/internal/testutil"
)

// Generous, because they only decide how long a failure takes: the machine may
// be building something else. A single condition waits no longer than patience.
const (
	patience     = 3 * time.Minute
	pollInterval = 100 * time.Millisecond
	toolTimeout  = 20 * time.Minute // promtool computes weeks, minute by minute
	buildTimeout = 25 * time.Minute
)

// project is the root of the exporter's module.
const project = ".."

// tool is a program that is built once, into the cache directory.
type tool struct {
	module string   // folder of the module that pins it
	pkg    string   // package
	flags  []string // of go build
}

var tools = map[string]tool{
	"exporter":      {module: project, pkg: "twilio_operations_exporter"},
	"exporter-race": {module: project, pkg: "twilio_operations_exporter", flags: []string{"-race"}},
	// The tag is upstream's: without all service discoveries the build takes
	// half the time, and one that cannot be fetched everywhere is left out.
	"prometheus": {
		module: ".", pkg: "github.com/prometheus/prometheus/cmd/prometheus", flags: []string{"-tags=remove_all_sd"},
	},
	"promtool": {
		module: ".", pkg: "github.com/prometheus/prometheus/cmd/promtool", flags: []string{"-tags=remove_all_sd"},
	},
	"alertmanager": {module: "alertmanager", pkg: "github.com/prometheus/alertmanager/cmd/alertmanager"},
	"amtool":       {module: "alertmanager", pkg: "github.com/prometheus/alertmanager/cmd/amtool"},
}

var building sync.Map // of name: func() (string, error)

// toolPath builds a tool, unless the right version is already there, and returns its file.
func toolPath(t *testing.T, name string) string {
	t.Helper()
	once, _ := building.LoadOrStore(name, sync.OnceValues(func() (string, error) { return build(name) }))
	file, err := once.(func() (string, error))()
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func build(name string) (string, error) {
	which, ok := tools[name]
	if !ok {
		return "", fmt.Errorf("there is no tool %q", name)
	}
	dir, err := binaries(which)
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, name)
	unlock, err := lockFile(file + ".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	ctx, cancel := context.WithTimeout(context.Background(), buildTimeout)
	defer cancel()
	// go build looks at the file's build id: one that is up to date stays.
	args := slices.Concat([]string{"build", "-o", file}, which.flags, []string{which.pkg})
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = which.module
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go %s in %s: %w\n%s", strings.Join(args, " "), which.module, err, out)
	}
	return file, nil
}

// binaries returns the directory of a tool's file.
func binaries(which tool) (dir string, err error) {
	if which.module == project {
		// Not shared: every working tree has an exporter of its own.
		dir, err = filepath.Abs("bin")
	} else {
		dir, err = os.UserCacheDir()
		dir = filepath.Join(dir, "twilio_operations_exporter_e2e", runtime.Version())
	}
	if err != nil {
		return "", err
	}
	return dir, os.MkdirAll(dir, 0o750)
}

// lockFile keeps two test runs from building the same file at the same time.
func lockFile(name string) (unlock func(), err error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil // the lock goes with the descriptor
}

// runTool runs a tool and returns all its output.
func runTool(t *testing.T, dir string, stdin []byte, name string, args ...string) (string, error) {
	t.Helper()
	file := toolPath(t, name)
	ctx, cancel := context.WithTimeout(t.Context(), toolTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, file, args...)
	cmd.Dir = dir
	cmd.Stdin = bytes.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// process is a server that runs until the end of the test or until it is stopped.
type process struct {
	name    string
	cmd     *exec.Cmd
	log     testutil.Log
	ended   chan struct{}
	address string // once it listens
}

// start starts a tool and waits until it logs its address. The end of its log is shown if the test fails.
func start(t *testing.T, name, toolName string, env []string, args ...string) *process {
	t.Helper()
	file := toolPath(t, toolName)
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), file, args...)
	p := &process{name: name, cmd: cmd, ended: make(chan struct{})}
	p.cmd.Env = append([]string{"HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH")}, env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	p.cmd.SysProcAttr = processAttributes()
	started := make(chan error, 1)
	go func() {
		defer close(p.ended)
		// The kernel ends the server when the thread that started it ends, so
		// that none outlives a test that is killed: that thread stays here.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait() // the status is in ProcessState
		}
	}()

	if err := <-started; err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("the last lines of %s:\n%s", name, p.logTail(40))
		}
	})

	eventually(t, name+" to listen", func() error {
		select {
		case <-p.ended:
			t.Fatalf("%s has ended:\n%s", name, p.logTail(40))
		default:
		}
		m := listening.FindStringSubmatch(p.log.String())
		if m == nil {
			return errors.New("it has not said where")
		}
		p.address = m[1]
		return nil
	})
	return p
}

var listening = regexp.MustCompile(`"?Listening on"?.* address=(127\.0\.0\.1:[1-9]\d*)`)

func (p *process) url(path string) string { return "http://" + p.address + path }

// kill kills the process and all its children.
func (p *process) kill() {
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.ended
}

// stop stops the process like an operator.
func (p *process) stop(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.ended:
	case <-time.After(patience):
		t.Fatalf("%s did not stop", p.name)
	}
}

// logTail returns the end of its log.
func (p *process) logTail(lines int) string {
	all := strings.SplitAfter(p.log.String(), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "")
}

// eventually polls until the condition returns no error, and fails with the last one.
func eventually(t *testing.T, what string, condition func() error) {
	t.Helper()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		err := condition()
		if err == nil {
			return
		}
		select {
		case <-deadline.C:
			t.Fatalf("waited %v for %s: %v", patience, what, err)
		case <-ticker.C:
		}
	}
}
