package twilio

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestSamplesAreNotFelt checks that answers to requests for messages neither hold back refreshes nor set the clock, and
// that nothing is retried.
func TestSamplesAreNotFelt(t *testing.T) {
	for name, tt := range map[string]struct {
		status int
		header []string
		err    error // that the next sample gets without a request; nil: it is sent
	}{
		"429 with an hour":    {429, []string{"Retry-After", "3600"}, ErrThrottled},
		"503 with an hour":    {503, []string{"Retry-After", "3600"}, ErrThrottled},
		"429 without a time":  {429, nil, ErrThrottled},
		"502":                 {502, nil, nil},
		"another day's clock": {200, []string{"Date", "Mon, 02 Jan 2006 15:04:05 GMT"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				samples := 0
				api := newFakeAPI(func(_ int, req *http.Request) (*http.Response, error) {
					if strings.HasSuffix(req.URL.Path, "/Operations") {
						return answer(req, 200, `{"operations":[],"pagination":{"next":null}}`), nil
					}
					samples++
					return answer(req, tt.status, `{}`, tt.header...), nil
				})

				c := testClient(t, "http://api.test/v1", api)
				for range 2 {
					if _, err := c.FetchMessage(t.Context(), messageA); err == nil {
						t.Error("no error")
					}
				}

				wantSamples := 2
				if tt.err != nil {
					wantSamples = 1
					if _, err := c.FetchMessage(t.Context(), messageA); !errors.Is(err, tt.err) {
						t.Errorf("error %v, want %v", err, tt.err)
					}
					if c.MessagesRetryAt().IsZero() {
						t.Error("no time at which messages may be asked for again")
					}
				}

				if samples != wantSamples {
					t.Errorf("%d requests for messages, want %d", samples, wantSamples)
				}

				began := time.Now()
				if _, err := readAll(t, c); err != nil {
					t.Error(err)
				}
				_, known := c.Skew()
				if time.Since(began) != 0 || !c.RetryAt().IsZero() || c.Throttled() != 0 || known {
					t.Errorf("a refresh has felt it: it took %v", time.Since(began))
				}
			})
		})
	}
}

// TestSamplesHeedTheCooldown checks that no message is asked for while the API throttles refreshes.
func TestSamplesHeedTheCooldown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newFakeAPI(func(n int, req *http.Request) (*http.Response, error) {
			if n == 1 {
				return answer(req, 429, ``, "Retry-After", "60"), nil
			}
			return answer(req, 200, lost), nil
		})

		c := testClient(t, "http://api.test/v1", api, func(o *Options) { o.MaxRetries = 0 })
		if _, err := c.FetchOperation(t.Context(), operationA); !errors.Is(err, ErrThrottled) {
			t.Fatal(err)
		}
		if _, err := c.FetchMessage(t.Context(), messageA); !errors.Is(err, ErrThrottled) {
			t.Errorf("error %v", err)
		}
		<-time.After(2 * time.Minute)
		if _, err := c.FetchMessage(t.Context(), messageA); err != nil {
			t.Error(err)
		}
		if n := len(api.requests()); n != 2 {
			t.Errorf("%d requests", n)
		}
	})
}

// TestSamplesThatWaitHeedTheirCooldown checks that a sample waiting for another one is not sent if the API throttles
// that one.
func TestSamplesThatWaitHeedTheirCooldown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newFakeAPI(func(_ int, req *http.Request) (*http.Response, error) {
			<-time.After(time.Second)
			return answer(req, 429, ``, "Retry-After", "60"), nil
		})

		c := testClient(t, "http://api.test/v1", api)
		const samples = 3
		errs := make(chan error, samples)
		for range samples {
			go func() {
				_, err := c.FetchMessage(t.Context(), messageA)
				errs <- err
			}()
		}

		for range samples {
			if err := <-errs; err == nil {
				t.Error("no error")
			}
		}

		if n := len(api.requests()); n != 1 {
			t.Errorf("%d requests, want 1", n)
		}
	})
}

// TestErrorsOfSamplesHoldNoText checks that no error and no log line holds text of the answer to a request for a
// message.
func TestErrorsOfSamplesHoldNoText(t *testing.T) {
	const personal = "+15550001234"
	list := func(message string) string { return `{"messages":[` + message + `],"pagination":{"next":null}}` }
	for name, tt := range map[string]struct {
		status int
		body   string
		want   string // in the error
	}{
		"detail":  {400, `{"errors":[{"code":20404,"message":"to ` + personal + `","context":"$.` + personal + `"}]}`, "400 Bad Request: 20404"},
		"code":    {400, `{"errors":[{"code":` + personal[1:] + `,"message":"m"}]}`, "400 Bad Request"},
		"general": {403, `{"code":20003,"message":"` + personal + `"}`, "403 Forbidden: 20003"},
		"page":    {500, `<p>` + personal + `</p>`, "500"},
		"name": {
			200, `{"id":"m","status":"FAILED","tags":{"` + personal + `":{}}}`, // of one message: a list's are skipped
			"no messages",
		},
		"other name": {200, list(`{"id":"m","to":{"`+personal+`":`) + `}`, "/messages/0: not JSON"},
		"text":       {200, `\u` + personal, "not JSON"},
		"breaks off": {200, `{"messages":[{"content":"` + personal, "the JSON breaks off"},
		"status":     {200, list(`{"id":"m","status":{"` + personal + `":1}}`), "/messages/0/status: an object where a string should be"},
		"encoding":   {0, personal, "not the documented answer"},
		"no HTTP":    {-1, personal, "no complete answer"},
	} {
		t.Run(name, func(t *testing.T) {
			var logged bytes.Buffer
			transport := roundTripper(func(req *http.Request) (*http.Response, error) {
				switch tt.status {
				case -1:
					return nil, fmt.Errorf("malformed HTTP response %q", tt.body)
				case 0:
					return answer(req, 200, `{}`, "Content-Encoding", tt.body), nil
				}
				return answer(req, tt.status, tt.body), nil
			})

			c := testClient(t, "http://api.test/v1", transport, withLog(&logged))
			var err error
			for _, err = range c.Messages(t.Context(), MessageQuery{}) {
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			if _, fetchErr := c.FetchMessage(t.Context(), messageA); fetchErr == nil {
				t.Error("no error")
			} else if strings.Contains(fetchErr.Error(), personal[1:]) {
				t.Errorf("error %v", fetchErr)
			}
			if strings.Contains(fmt.Sprint(err), personal[1:]) || strings.Contains(logged.String(), personal[1:]) {
				t.Errorf("%q is in the error %v or the log\n%s", personal, err, &logged)
			}
			if !strings.Contains(logged.String(), "API request") {
				t.Errorf("the log is no debug log: %s", &logged)
			}
		})
	}
}
