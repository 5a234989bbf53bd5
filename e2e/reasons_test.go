package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"twilio_operations_exporter/twilio"
	"twilio_operations_exporter/twilio/simulator"
)

// hostileMessages are APIs that answer what they like about lost messages: lists and single ones. Their texts have
// {failing} for the operation that was asked for, {other} for another one, and {token} for the account's secret.
var hostileMessages = []struct {
	name    string
	list    string
	message string
	endless bool // the list always has a next page
	found   bool // a reason is counted
}{
	{
		name:    "of another operation",
		list:    `{"id":"{id}","status":"FAILED","related":[{"name":"OPERATION","id":"{other}"}]}`,
		message: `{"id":"{id}","status":"FAILED","related":[{"name":"OPERATION","id":"{other}"}],"attempts":[{foreign}]}`,
	},
	{
		name:    "of another operation when they are fetched",
		list:    `{"id":"{id}","status":"FAILED","related":[{"name":"OPERATION","id":"{failing}"}]}`,
		message: `{"id":"{id}","status":"FAILED","related":[{"name":"OPERATION","id":"{other}"}],"attempts":[{foreign}]}`,
	},
	{
		name:    "without an end, of another operation",
		list:    `{"id":"{id}","status":"FAILED","related":[{"name":"OPERATION","id":"{other}"}]}`,
		endless: true,
	},
	{
		name:    "without an end",
		list:    `{"id":"{id}","status":"FAILED","related":[{"name":"OPERATION","id":"{failing}"}]}`,
		message: `{"id":"{id}","status":"FAILED","related":[{"name":"OPERATION","id":"{failing}"}],"attempts":[{"status":"FAILED","from":{"channel":"SMS"},"error":{"code":30007}}]}`,
		endless: true,
		found:   true,
	},
	{
		name: "ids that are paths",
		list: `{"id":"../../Accounts?x=1","status":"FAILED","related":[{"name":"OPERATION","id":"{failing}"}]}`,
	},
	{
		name: "ids that are long",
		list: `{"id":"` + strings.Repeat("a", 100_000) + `","status":"FAILED","related":[{"name":"OPERATION","id":"{failing}"}]}`,
	},
	{
		name: "ids that hold the token",
		list: `{"id":"comms_message_{token}","status":"FAILED","related":[{"name":"OPERATION","id":"{failing}"}]}`,
	},
	{
		name:    "another message than was asked for",
		list:    `{"id":"{id}","status":"FAILED","related":[{"name":"OPERATION","id":"{failing}"}]}`,
		message: `{"id":"comms_message_01h2xcejqtf2nbrexx3vqjhp99","status":"FAILED","related":[{"name":"OPERATION","id":"{failing}"}],"attempts":[{foreign}]}`,
	},
	{
		name: "personal texts",
		list: `{"id":"{id}","status":"FAILED","to":"{personal}","related":[{"name":"OPERATION","id":"{failing}"}]}`,
		message: `{"id":"{id}","status":"FAILED","to":{"address":"{personal}"},"content":{"text":"{personal}"},` +
			`"related":[{"name":"OPERATION","id":"{failing}"}],"tags":{"campaign":"{token}"},` +
			`"attempts":[{"status":"FAILED","from":{"channel":"SMS","address":"{personal}"},` +
			`"error":{"code":30007,"message":"to {personal} with {token}"}}]}`,
		found: true,
	},
}

const (
	personalNumber = "+15550001234"
	personalMail   = "jane@example.org"
	foreignCode    = "66666"
)

// TestHostileMessages checks that nothing is counted, shown or kept of what an API says about lost messages and should not.
func TestHostileMessages(t *testing.T) {
	for _, tt := range hostileMessages {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			created := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
			operation := func(n int, failed int64) twilio.Operation {
				stats := twilio.Stats{
					twilio.Total: 1000, twilio.Recipients: 1000, twilio.Attempts: 1000,
					twilio.Failed: failed, twilio.Delivered: 1000 - failed,
				}
				id := fmt.Sprintf("comms_operation_0%025d", n)
				return twilio.Operation{ID: id, Status: twilio.StatusCompleted, Stats: stats, CreatedAt: created, UpdatedAt: created}
			}
			failing, other := operation(1, 500), operation(2, 0)
			operations := simulator.NewHandler(simulator.NewStatic(failing, other), simulator.Settings{})

			var requests, pages atomic.Int32
			api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				path, isMessage := strings.CutPrefix(r.URL.EscapedPath(), "/v1/Messages")
				if !isMessage || strings.HasPrefix(path, "/Operations") {
					if r.URL.Path != "/v1/Messages/Operations" {
						t.Errorf("%s was asked for", r.URL)
					}
					operations.ServeHTTP(w, r)
					return
				}
				requests.Add(1)
				answer, id := tt.message, strings.TrimPrefix(path, "/")
				if path == "" {
					id = fmt.Sprintf("comms_message_01h2xcejqtf2nbrexx%010d", pages.Add(1))
					next := "null"
					if tt.endless {
						next = fmt.Sprintf(`"/v1/Messages?pageToken=%d"`, pages.Load())
					}
					answer = `{"messages":[` + tt.list + `],"pagination":{"next":` + next + `}}`
				}
				_, _ = strings.NewReplacer(
					"{id}", id, "{failing}", failing.ID, "{other}", other.ID, "{token}", fleetToken,
					"{personal}", personalNumber+" "+personalMail,
					"{foreign}", `{"status":"FAILED","from":{"channel":"SMS"},"error":{"code":`+foreignCode+`,"message":"foreign"}}`,
				).WriteString(w, answer)
			}))
			defer api.Close()
			defer api.CloseClientConnections()

			states := filepath.Join(t.TempDir(), "states")
			p := startFleet(t, "exporter", api, []string{"good-0"}, "--collector.interval=1s", "--log.level=debug",
				"--collector.operation-tags=campaign", "--storage.path="+states)
			const counted = `twilio_errors_sampled_total{account="good-0",channel="SMS",code="30007"}`
			eventually(t, "five refreshes after messages were looked up", func() error {
				samples := scrapeSamples(t, p.url("/metrics"))
				done := sampleOf(t, samples, `twilio_exporter_refreshes_total{account="good-0",result="success"}`)
				if done < 5 || requests.Load() == 0 {
					return fmt.Errorf("%v refreshes, %d requests for messages", done, requests.Load())
				}
				if tt.found && samples[counted] == "" {
					return errors.New("no reason is counted")
				}
				return nil
			})

			samples := scrapeSamples(t, p.url("/metrics"))
			for name, want := range map[string]float64{
				`twilio_up{account="good-0"}`:                                      1,
				`twilio_exporter_refreshes_total{account="good-0",result="error"}`: 0,
			} {
				if got := sampleOf(t, samples, name); got != want {
					t.Errorf("%s is %v, want %v", name, got, want)
				}
			}
			if n := requests.Load(); n > 60 {
				t.Errorf("%d requests for messages in less than 10 minutes", n)
			}
			if !tt.found {
				for sample := range samples {
					if strings.HasPrefix(sample, "twilio_errors_sampled_total{") || strings.HasPrefix(sample, "twilio_named_operation_errors_sampled{") {
						t.Errorf("counted: %s", sample)
					}
				}
			}

			// All that it says, and all that it keeps.
			var said bytes.Buffer
			for _, path := range []string{"/metrics", "/", "/sd/operations", "/?account=good-0"} {
				body, err := get(t.Context(), p.url(path))
				if err != nil {
					t.Error(err)
				}
				said.Write(body)
			}
			p.stop(t)
			_, _ = io.WriteString(&said, p.log.String())
			files, err := filepath.Glob(filepath.Join(states, "*.state"))
			if err != nil || len(files) != 1 {
				t.Fatalf("states %q, %v", files, err)
			}
			kept, err := os.ReadFile(files[0])
			if err != nil {
				t.Fatal(err)
			}
			said.Write(kept)
			for _, secret := range []string{fleetToken, personalNumber, personalMail, foreignCode} {
				if i := bytes.Index(said.Bytes(), []byte(secret)); i >= 0 {
					t.Errorf("it holds %s: …%q…", secret, said.Bytes()[max(0, i-100):i+len(secret)])
				}
			}
		})
	}
}
