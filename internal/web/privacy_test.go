package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-kit/log"

	"twilio_operations_exporter/internal/account"
	"twilio_operations_exporter/internal/config"
	"twilio_operations_exporter/internal/testutil"
	"twilio_operations_exporter/twilio"
	"twilio_operations_exporter/twilio/simulator"
)

// TestPrivacy sends addresses and contents in every part of the answers about messages, and finds none of it in any
// output, at debug level, and in nothing that would be kept.
func TestPrivacy(t *testing.T) {
	const personal = "+" + simulator.Personal + "1234567"
	op := testutil.Operation(1, twilio.StatusProcessing, twilio.Stats{twilio.Total: 1000, twilio.Failed: 400, twilio.Undelivered: 200})
	number := regexp.MustCompile(`"code":\d+`)
	failure := regexp.MustCompile(`"code":\d+,"message":"[^"]*"`)
	replaced := func(old, with string) func([]byte) []byte {
		return func(body []byte) []byte { return bytes.ReplaceAll(body, []byte(old), []byte(with)) }
	}
	for name, tt := range map[string]struct {
		code   int                 // instead of the API's answer; 0: as it is
		change func([]byte) []byte // of the API's answer
		header string              // Content-Encoding
		found  bool                // reasons are found
	}{
		"as documented": {found: true},
		"texts of errors": {
			change: func(body []byte) []byte {
				return failure.ReplaceAll(body, []byte(`"code":30007,"message":"no way to `+personal+`"`))
			},
			found: true,
		},
		"different texts of errors": {
			change: func(body []byte) []byte {
				unique := strings.Map(func(r rune) rune { return 'a' + r%26 }, string(body[20:60]))
				return failure.ReplaceAll(body, []byte(`"code":30007,"message":"Dear `+unique+`"`))
			},
			found: true,
		},
		"codes":        {change: func(body []byte) []byte { return number.ReplaceAll(body, []byte(`"code":"`+personal+`"`)) }, found: true},
		"channels":     {change: replaced(`"channel":"SMS"`, `"channel":"`+personal+`"`), found: true},
		"tags":         {change: replaced(`"team":`, `"`+personal+`":"`+personal+`","team":`), found: true},
		"tag keys":     {change: replaced(`"tags":{`, `"tags":{"`+personal+`":{},`)},
		"ids":          {change: replaced(`"id":"comms_message_`, `"id":"`+personal+`_`)},
		"statuses":     {change: replaced(`"status":"`, `"status":"`+personal)},
		"names":        {change: replaced(`"to":`, `"to":{"`+personal+`":tru},"x":`)},
		"broken":       {change: func(body []byte) []byte { return append([]byte(personal), body...) }},
		"cut short":    {change: func(body []byte) []byte { return body[:len(body)/2] }},
		"deep":         {change: replaced(`"tags":`, strings.Repeat(`"`+personal+`":{`, 100)+`"tags":`)},
		"encoding":     {header: personal},
		"error bodies": {code: 500},
		"refusals":     {code: 403},
		"throttled":    {code: 429},
	} {
		t.Run(name, func(t *testing.T) {
			handler := simulator.NewHandler(simulator.NewStatic(op), simulator.Settings{NoGzip: true})
			seen := make(chan struct{}, 1000)
			api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.Contains(r.URL.Path, "/Operations") {
					handler.ServeHTTP(w, r)
					return
				}
				defer func() { seen <- struct{}{} }()
				if tt.code != 0 {
					w.WriteHeader(tt.code)
					_, _ = fmt.Fprintf(w, `{"errors":[{"code":20404,"message":"Dear %[1]s","infoUrl":"/%[1]s","context":"%[1]s"}]}`, personal)
					return
				}
				answer := httptest.NewRecorder()
				handler.ServeHTTP(answer, r)
				body := answer.Body.Bytes()
				if tt.change != nil {
					body = tt.change(body)
				}
				maps.Copy(w.Header(), answer.Header())
				w.Header().Del("Content-Length")
				if tt.header != "" {
					w.Header().Set("Content-Encoding", tt.header)
				}
				w.WriteHeader(answer.Code)
				_, _ = w.Write(body)
			}))
			defer func() {
				api.CloseClientConnections()
				api.Close()
			}()

			testutil.SetEnv(t, map[string]string{
				"TWILIO_ACCOUNT_SID": testutil.SID, "TWILIO_AUTH_TOKEN": testutil.Token, "TWILIO_BASE_URL": api.URL + "/v1",
			})
			path := t.TempDir()
			c, err := config.Load(
				[]string{"--twilio.rate-limit=0", "--collector.operation-tags=campaign,team", "--storage.path=" + path}, io.Discard,
			)
			if err != nil {
				t.Fatal(err)
			}
			logged := &testutil.Log{}
			registry := NewRegistry()
			logger := log.NewLogfmtLogger(logged) // of all levels
			accounts, err := account.NewManager(c, registry, logger)
			if err != nil {
				t.Fatal(err)
			}
			accounts.Start(context.Background(), 1000*time.Hour)
			defer accounts.Stop()
			s := New(c.Flags().Web, accounts, registry, logger)
			refresh(t, s)
			<-seen
			if tt.found {
				testutil.WaitFor(t, "reasons", func() bool {
					return strings.Contains(get(t, s, http.MethodGet, "/metrics").Body.String(), "twilio_named_operation_errors_sampled{")
				})
			} else {
				testutil.WaitFor(t, "the look-up's end", func() bool {
					return strings.Contains(logged.String(), "looking up lost messages failed") ||
						len(accounts.Refreshers()[0].Sampled().Operations) > 0
				})
			}
			refresh(t, s)

			var kept bytes.Buffer
			if err = json.NewEncoder(&kept).Encode(accounts.Refreshers()[0].Sampled()); err != nil {
				t.Fatal(err)
			}
			outputs := map[string]string{"state": kept.String(), "log": logged.String()}
			files, err := os.ReadDir(path)
			for _, file := range files {
				content, readErr := os.ReadFile(filepath.Join(path, file.Name()))
				err = errors.Join(err, readErr)
				outputs[file.Name()] = string(content)
			}
			if err != nil || len(files) != 2 { // the state and the lock
				t.Errorf("%d files are kept, error %v", len(files), err)
			}
			for _, path := range []string{"/metrics", "/", "/sd/operations", "/-/healthy", "/-/ready", "/probe?debug=true&target=" + op.ID} {
				outputs[path] = get(t, s, http.MethodGet, path).Body.String()
			}
			for output, text := range outputs {
				for _, secret := range []string{simulator.Personal, simulator.Personal[:5], "Dear"} {
					if strings.Contains(text, secret) {
						t.Errorf("%q is in %s:\n%s", secret, output, text)
					}
				}
			}
			if !strings.Contains(outputs["log"], "fetch_message") && !strings.Contains(outputs["log"], "list_messages") {
				t.Errorf("the log tells of no request for messages:\n%s", outputs["log"])
			}
			sampled := strings.Contains(outputs["/metrics"], "twilio_named_operation_errors_sampled{")
			if sampled != tt.found {
				t.Errorf("reasons found: %t", sampled)
			}
		})
	}
}
