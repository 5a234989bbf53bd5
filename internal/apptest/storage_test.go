package apptest

import (
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"twilio_operations_exporter/internal/testutil"
	"twilio_operations_exporter/twilio"
)

// TestRestart holds that a program that was killed shows at its first scrape what it showed at its last, before it has
// asked the API anything, and that no second one uses its directory.
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
