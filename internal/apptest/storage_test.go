package apptest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"twilio_operations_exporter/internal/testutil"
	"twilio_operations_exporter/twilio"
)

// TestRestart checks that the first scrape of a program that was killed shows what the last one showed, before it asks
// the API for anything, and that no second program uses its directory.
func TestRestart(t *testing.T) {
	t.Parallel()
	operation := testutil.Operation(1, twilio.StatusProcessing, twilio.Stats{twilio.Total: 7})
	api := testutil.New(t, operation)
	path := filepath.Join(t.TempDir(), "states")
	args := []string{"--storage.path=" + path, "--collector.interval=100ms", "--twilio.max-retries=0"}
	label := fmt.Sprintf(`{account=%q}`, testutil.SID)

	first := serve(t, accountEnv(api), args...)
	testutil.WaitFor(t, "the first refresh", func() bool { return first.scrape()["twilio_up"+label] == "1" })
	api.List.Update(operation.ID, func(op *twilio.Operation) { op.Stats[twilio.Total] += 5 })
	testutil.WaitFor(t, "what was sent", func() bool { return first.scrape()["twilio_messages_total"+label] == "5" })

	second := execute(t, accountEnv(api), append(args, "--web.listen-address=127.0.0.1:0")...)
	line := fmt.Sprintf("error: --storage.path: %q is used by another process: stop that one, or choose another directory\n", path)
	if status := second.end(); status != 1 || !strings.HasSuffix(second.log.String(), line) {
		t.Errorf("status %d, log %s", status, second.log.String())
	}

	release := api.Hold()
	defer release()
	first.signal(syscall.SIGKILL)
	first.end()
	api.List.Update(operation.ID, func(op *twilio.Operation) { op.Stats[twilio.Total] += 3 })
	again := serve(t, accountEnv(api), args...)
	values := again.scrape()

	for name, want := range map[string]string{
		"twilio_up" + label: "0", "twilio_messages_total" + label: "5",
		fmt.Sprintf(`twilio_operation_messages{account=%q,status="PROCESSING"}`, testutil.SID): "12",
	} {
		if values[name] != want {
			t.Errorf("%s is %q at the first scrape, want %s", name, values[name], want)
		}
	}

	release()
	testutil.WaitFor(t, "what was sent meanwhile", func() bool {
		values := again.scrape()
		return values["twilio_up"+label] == "1" && values["twilio_messages_total"+label] == "8"
	})
}

// TestStatesOfSingleRuns checks that runs that only print, and the demo, keep nothing unless told to. If they are, they
// resume from the previous run.
func TestStatesOfSingleRuns(t *testing.T) {
	t.Parallel()
	operation := testutil.Operation(1, twilio.StatusProcessing, twilio.Stats{twilio.Total: 7})
	for name, tt := range map[string]struct {
		args         []string
		first, again string // in what is printed
	}{
		"once": {
			[]string{"--once"},
			fmt.Sprintf("twilio_messages_total{account=%q} 0\n", testutil.SID),
			fmt.Sprintf("twilio_messages_total{account=%q} 5\n", testutil.SID),
		},
		"backfill": {
			[]string{"--backfill"},
			fmt.Sprintf("twilio_messages_total{account=%q} 7 ", testutil.SID),
			fmt.Sprintf("twilio_messages_total{account=%q} 12 ", testutil.SID),
		},
		"demo": {
			[]string{"--demo", "--once"},
			"twilio_exporter_refreshes_total{account=\"demo\",result=\"success\"} 1\n",
			"twilio_exporter_refreshes_total{account=\"demo\",result=\"success\"} 2\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			api := testutil.New(t, operation)
			dir := t.TempDir()
			run := func(want string, args ...string) {
				t.Helper()
				setup := func(p *program) {
					p.cmd.Dir = dir
					p.cmd.Env = append(p.cmd.Env, "HOME="+dir)
				}
				p := executeWith(t, setup, accountEnv(api), append(args, tt.args...)...)
				if status := p.end(); status != 0 || !strings.Contains(p.stdout.String(), want) {
					t.Errorf("status %d, no %q in %s\n%s", status, want, p.stdout.String(), p.log.String())
				}
			}

			run(tt.first)
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("it left %v (error %v)", left, err)
			}

			run(tt.first, "--storage.path=states")
			api.List.Update(operation.ID, func(op *twilio.Operation) { op.Stats[twilio.Total] += 5 })
			run(tt.again, "--storage.path=states")
		})
	}
}
