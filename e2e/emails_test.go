package e2e

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"twilio_operations_exporter/twilio"
	"twilio_operations_exporter/twilio/simulator"
)

// TestEmailsAndReasons runs the binary with the messages and the e-mails of one account. Each must have its own
// numbers, and a failing campaign of messages its reasons and tags.
func TestEmailsAndReasons(t *testing.T) {
	t.Parallel()
	operation := func(n int, stats twilio.Stats) twilio.Operation {
		return twilio.Operation{
			ID: fmt.Sprintf("comms_operation_0%025d", n), Status: twilio.StatusProcessing, Stats: stats,
			CreatedAt: time.Now().Add(-time.Minute), UpdatedAt: time.Now(),
		}
	}

	messages := simulator.NewStatic(operation(1, twilio.Stats{
		twilio.Total: 1000, twilio.Recipients: 1000, twilio.Attempts: 1000, twilio.Unaddressable: 1,
		twilio.Delivered: 600, twilio.Failed: 300, twilio.Undelivered: 99,
	}))

	emails := simulator.NewStatic(operation(2, twilio.Stats{
		twilio.Total: 500, twilio.Sent: 500, twilio.Delivered: 400, twilio.Read: 250, twilio.Undelivered: 100,
	}))
	api := simulator.NewHandler(messages, simulator.Settings{
		Emails: emails, EmailsWithoutAttempts: true,
		AccountSID: simulator.DemoAccountSID, AuthToken: simulator.DemoAuthToken,
	})

	server := httptest.NewServer(api)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})

	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "token"), []byte(simulator.DemoAuthToken))
	account := func(name, resource string) any {
		return map[string]any{
			"name": name, "account_sid": simulator.DemoAccountSID, "auth_token_file": "token",
			"base_url": server.URL + "/v1", "resource": resource,
		}
	}

	file := filepath.Join(dir, "accounts.yml")
	writeYAML(t, file, map[string]any{"accounts": []any{account("texts", "messages"), account("letters", "emails")}})
	exporter := start(t, "the exporter", "exporter", nil, "--config.file="+file, "--web.listen-address=127.0.0.1:0",
		"--collector.interval=10s", "--collector.operation-tags=campaign,team")

	const sampled = `twilio_named_operation_messages_sampled{account="texts",operation="comms_operation_00000000000000000000000001"} 5`
	page := ""
	eventually(t, "numbers and reasons", func() error {
		body, err := get(t.Context(), exporter.url("/metrics"))
		page = string(body)
		switch {
		case err != nil:
			return err
		case !strings.Contains(page, "\n"+sampled+"\n"):
			return errors.New("not all reasons yet")
		case !strings.Contains(page, "\n"+`twilio_up{account="letters"} 1`):
			return errors.New("no e-mails yet")
		}
		return nil
	})

	for _, want := range []string{
		`twilio_account_info{account="texts",account_sid="` + simulator.DemoAccountSID + `",resource="messages"} 1`,
		`twilio_account_info{account="letters",account_sid="` + simulator.DemoAccountSID + `",resource="emails"} 1`,
		`twilio_operation_messages{account="texts",status="PROCESSING"} 1000`,
		`twilio_operation_messages{account="letters",status="PROCESSING"} 500`,
		`twilio_operation_messages_read{account="letters",status="PROCESSING"} 250`,
		`twilio_operation_attempts{account="letters",status="PROCESSING"} 0`,
		`twilio_operations_failing{account="letters",status="PROCESSING"} 1`,
		`twilio_operation_recipients_unaddressable{account="texts",status="PROCESSING"} 1`,
		sampled,
		`twilio_exporter_api_requests_total{account="texts",code="200",endpoint="list_messages"} 2`,
		`twilio_exporter_api_requests_total{account="texts",code="200",endpoint="fetch_message"} 5`,
	} {
		if !strings.Contains(page, "\n"+want+"\n") {
			t.Errorf("%q is missing", want)
		}
	}

	for _, wrong := range []string{
		`unaddressable{account="letters"`, `unaddressable_total{account="letters"`, `sampled{account="letters"`,
		`tag_campaign=""`, simulator.Personal,
	} {
		if strings.Contains(page, wrong) {
			t.Errorf("%q is there", wrong)
		}
	}

	if !strings.Contains(page, `twilio_named_operation_info{account="texts",operation="comms_operation_00000000000000000000000001",tag_campaign="`) {
		t.Error("the tags are missing")
	}

	probe, err := get(t.Context(), exporter.url("/probe?account=letters&target=comms_operation_00000000000000000000000002"))
	if err != nil || !strings.Contains(string(probe), "twilio_probe_messages_read{") || strings.Contains(string(probe), "unaddressable") {
		t.Errorf("error %v, probe:\n%s", err, probe)
	}
	targets, err := get(t.Context(), exporter.url("/sd/operations?account=letters"))
	if err != nil || !strings.Contains(string(targets), "comms_operation_00000000000000000000000002") {
		t.Errorf("error %v, targets %s", err, targets)
	}
	if t.Failed() {
		t.Log(page)
	}
}
