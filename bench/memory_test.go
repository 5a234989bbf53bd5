//go:build linux

package bench

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"twilio_operations_exporter/internal/testutil"
	"twilio_operations_exporter/twilio/simulator"
)

const megabyte = 1_000_000

// TestMemory runs the built program against the simulator, in a process each, and looks at the most memory that it ever
// had: with a first refresh of accounts of several sizes and lists of three kinds, and a few refreshes that follow it.
// The largest need -full.
func TestMemory(t *testing.T) {
	dir := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", dir+string(filepath.Separator),
		"twilio_operations_exporter", "twilio_operations_exporter/twilio/simulator/cmd/twilio_simulator")
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	const aWeek = 600 * 60 * 24 * 7 // 600 a minute, of which 19,200 are in flight

	for _, tt := range []struct {
		name       string
		operations int
		window     time.Duration
		lifetime   time.Duration
		list       []string // flags of the simulator
		most       int64    // MB
		full       bool     // with -full alone
	}{
		{"10,000", 10_000, day, 3 * time.Minute, nil, 30, false},
		{"100,000", 100_000, day, 3 * time.Minute, nil, 32, false},
		{"200,000 in no order", 200_000, day, 3 * time.Minute, []string{"--order=shuffled"}, 36, false},
		{"300,000 in 7 days", 300_000, 7 * day, 32 * time.Minute, []string{"--jitter=300ms"}, 38, false},
		{"500,000", 500_000, day, 3 * time.Minute, nil, 32, true},
		{"500,000 in no order", 500_000, day, 3 * time.Minute, []string{"--order=shuffled"}, 36, true},
		{"6 million", aWeek, 7 * day, 32 * time.Minute, nil, 46, true},
		{"6 million, almost in order", aWeek, 7 * day, 32 * time.Minute, []string{"--jitter=300ms"}, 46, true},
	} {
		if tt.full && !*full {
			continue
		}
		t.Run(tt.name, func(t *testing.T) {
			peak := peakOfProgram(t, dir, tt.operations, tt.window, tt.lifetime, tt.list...)
			if peak > tt.most*megabyte {
				t.Errorf("%d MB, want at most %d", peak/megabyte, tt.most)
			}
		})
	}
}

func peakOfProgram(t *testing.T, dir string, operations int, window, lifetime time.Duration, list ...string) int64 {
	t.Helper()
	const sid, token = "AC00000000000000000000000000000001", "token"
	args := append([]string{
		"--listen-address=127.0.0.1:0", "--account-sid=" + sid, "--auth-token=" + token, "--scheduled-share=0",
		fmt.Sprintf("--rate=%f", float64(operations)/window.Minutes()), "--window=" + window.String(),
		"--lifetime=" + lifetime.String(),
	}, list...)

	base := start(t, nil, regexp.MustCompile(`base URL: (http://\S+)`), filepath.Join(dir, "twilio_simulator"), args...)
	env := []string{"TWILIO_ACCOUNT_SID=" + sid, "TWILIO_AUTH_TOKEN=" + token, "TWILIO_BASE_URL=" + base.found}
	program := start(t, env,
		regexp.MustCompile(`Listening on.* address=(127\.0\.0\.1:\d+)`), filepath.Join(dir, "twilio_operations_exporter"),
		"--web.listen-address=127.0.0.1:0", "--twilio.rate-limit=0",
		"--collector.window="+window.String(), "--collector.interval=1s")

	refreshes := regexp.MustCompile(`(?m)^twilio_exporter_refreshes_total\{.*result="success"\} (\d+)$`)
	failures := regexp.MustCompile(`(?m)^twilio_exporter_refreshes_total\{.*result="error"\} [^0]`)
	counted := regexp.MustCompile(`(?m)^twilio_operations\{.*\} (\S+)$`)
	deadline := time.Now().Add(10 * time.Minute)
	for {
		metrics := get(t, "http://"+program.found+"/metrics")
		if failures.MatchString(metrics) {
			t.Fatalf("a refresh failed: %s", program.lines.String())
		}
		if m := refreshes.FindStringSubmatch(metrics); len(m) > 1 && number(t, m[1]) >= 3 {
			sum := 0.0
			for _, m := range counted.FindAllStringSubmatch(metrics, -1) {
				sum += number(t, m[1])
			}
			if share := sum / float64(operations); share < 0.95 || share > 1.05 {
				t.Errorf("it counts %.0f operations of about %d", sum, operations)
			}
			break
		}

		if time.Now().After(deadline) {
			t.Fatalf("no third refresh: %s", program.lines.String())
		}
		<-time.After(100 * time.Millisecond)
	}

	peak := peakMemory(t, program.pid)
	t.Logf("%d operations: %.1f MB", operations, float64(peak)/megabyte)
	return peak
}

func number(t *testing.T, s string) float64 {
	t.Helper()
	n, err := strconv.ParseFloat(s, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// process is one that this test has started and ends.
type process struct {
	pid   int
	found string // in its output
	lines testutil.Log
}

// start starts a program and waits until it has said what is looked for.
func start(t *testing.T, env []string, want *regexp.Regexp, file string, args ...string) *process {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), file, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = append([]string{"HOME=/nonexistent"}, env...), w, w
	err = cmd.Start()
	_ = w.Close()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{pid: cmd.Process.Pid}
	found, ended := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(ended)
		defer func() { _ = r.Close() }()
		for lines := bufio.NewScanner(r); lines.Scan(); {
			_, _ = fmt.Fprintln(&p.lines, lines.Text())
			if m := want.FindStringSubmatch(lines.Text()); m != nil {
				select {
				case found <- m[1]:
				default:
				}
			}
		}
		_ = cmd.Wait() // it is killed
	}()

	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})

	select {
	case p.found = <-found:
	case <-ended:
		t.Fatalf("%s has ended: %s", file, p.lines.String())
	case <-time.After(time.Minute):
		t.Fatalf("%s says nothing of %s: %s", file, want, p.lines.String())
	}
	return p
}

func get(t *testing.T, target string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: status %d, %v", target, resp.StatusCode, err)
	}
	return string(body)
}

// peakMemory is the most memory that a process has had resident, in bytes.
func peakMemory(t *testing.T, pid int) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kibibytes, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kibibytes * 1024
		}
	}

	t.Fatal("no VmHWM")
	return 0
}

// TestMemoryStaysFlat compares what is held after 8 and after 15 simulated days
// of a window of 7, and after 30 with -full: nothing may be left of what has left
// the window.
func TestMemoryStaysFlat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := simulator.MustWorld(simulator.WorldSettings{
			Rate: 1, Lifetime: 3 * time.Minute, LifetimeSpread: 0.5, ScheduledShare: 0.1, ScheduledAhead: day,
			MaxRecipients: 100,
		})

		client, _ := connect(world)
		s := settings(7 * day)
		s.PageSize, s.Interval = 10, time.Hour
		ages := []time.Duration{15 * day}
		if *full {
			s.Interval, ages = 20*time.Minute, append(ages, 30*day)
		}
		began := time.Now()
		e := startExporter(t.Context(), s, client)
		defer e.stop()
		heapAt := func(age time.Duration) float64 {
			<-time.After(time.Until(began.Add(age + s.Interval/2)))
			e.check(t)
			var m runtime.MemStats
			for range 2 { // what is pooled outlives one collection
				runtime.GC()
			}
			runtime.ReadMemStats(&m)
			return float64(m.HeapAlloc)
		}

		early := heapAt(8 * day)
		for _, age := range ages {
			late := heapAt(age)
			t.Logf("after 8 days %.0f kB, after %d days %.0f kB", early/1000, age/day, late/1000)
			if late > 1.1*early {
				t.Errorf("after %d days %.0f kB are held, after 8 days %.0f kB", age/day, late/1000, early/1000)
			}
		}
	})
}
