package twilio

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// token has the length of a real one.
const token = "0123456789abcdefFEDCBA9876543210"

// TestBadSecrets checks that what cannot be a secret is refused before anything is sent, and is not shown.
func TestBadSecrets(t *testing.T) {
	for name, secret := range map[string]func(context.Context) (string, error){
		"too long":   func(context.Context) (string, error) { return strings.Repeat("s3cret(", 150_000), nil },
		"a byte":     func(context.Context) (string, error) { return strings.Repeat("s", MaxSecret+1), nil },
		"unreadable": func(context.Context) (string, error) { return "", errors.New("open token: no such file") },
	} {
		t.Run(name, func(t *testing.T) {
			api := newFakeAPI(func(int, *http.Request) (*http.Response, error) { return nil, errors.New("asked") })
			c := testClient(t, "https://api.test", api, func(o *Options) { o.Secret = secret })
			err := first(t.Context(), c)
			if _, ok := errors.AsType[*SecretError](err); !ok || len(api.requests()) != 0 {
				t.Errorf("%d requests, got %v", len(api.requests()), err)
			}
			if len(err.Error()) > 100 || strings.Contains(err.Error(), "s3cret(") {
				t.Errorf("shown: %.200s", err)
			}
		})
	}

	longest := strings.Repeat("s", MaxSecret)
	api := newFakeAPI(func(_ int, req *http.Request) (*http.Response, error) { return answer(req, 200, pageOf("")), nil })
	if err := first(t.Context(), testClient(t, "https://api.test", api, withAuth("AC1", longest))); err != nil {
		t.Errorf("the longest secret: %v", err)
	}
}

// TestSecretsAreKnownBeforeDialling checks that errors from before a request is written are sanitized, too.
func TestSecretsAreKnownBeforeDialling(t *testing.T) {
	transport := roundTripper(func(*http.Request) (*http.Response, error) {
		return nil, fmt.Errorf("x509: certificate is valid for %s.test, not api.test", token)
	})
	noRetry := func(o *Options) { o.MaxRetries = 0 }
	err := first(t.Context(), testClient(t, "https://api.test", transport, withAuth("AC1", token), noRetry))
	if err == nil || strings.Contains(deep(err), token) || !strings.Contains(err.Error(), redacted) {
		t.Errorf("got %v", err)
	}
}

// TestEchoes sends back a token in ways that only a malicious upstream would choose.
func TestEchoes(t *testing.T) {
	b64 := base64.StdEncoding.EncodeToString([]byte("AC1:" + token))
	wrapped := func(s string, width int) string {
		return strings.Join(slices.Collect(func(yield func(string) bool) {
			for part := range slices.Chunk([]byte(s), width) {
				if !yield(string(part)) {
					return
				}
			}
		}), "\n")
	}

	var percent strings.Builder
	for _, b := range []byte(token) {
		fmt.Fprintf(&percent, "%%%02x", b)
	}
	for name, echo := range map[string]string{
		"plain":                token,
		"lower case":           strings.ToLower(token),
		"without its end":      token[:20],
		"without its start":    token[12:],
		"a part":               token[5:17],
		"spaced":               strings.Join(strings.Split(token, ""), " "),
		"base64":               b64,
		"base64, wrapped":      wrapped(b64, 16),
		"base64 for URLs":      base64.URLEncoding.EncodeToString([]byte("?AC1:" + token)),
		"base64 of a part":     base64.StdEncoding.EncodeToString([]byte(token[3:25])),
		"hex":                  hex.EncodeToString([]byte(token)),
		"hex in capitals":      strings.ToUpper(hex.EncodeToString([]byte(token))),
		"percent":              percent.String(),
		"percent twice":        url.QueryEscape(percent.String()),
		"tabs":                 token[:16] + "\t" + token[16:],
		"tabs, quoted":         fmt.Sprintf("%q", token[:16]+"\t"+token[16:]),
		"no-break space":       token[:16] + "\u00a0" + token[16:],
		"no-break, quoted":     fmt.Sprintf("%q", token[:16]+"\u00a0"+token[16:]),
		"escaped as in JSON":   fmt.Sprintf(`\u%04x%s`, token[0], token[1:]),
		"invisible characters": strings.Join(strings.Split(token, ""), "\u200b"),
	} {
		t.Run(name, func(t *testing.T) {
			var s sanitizer
			s.add(token)
			got := s.text("before "+echo+" after", maxErrorText)
			if !strings.HasPrefix(got, "before ") || !strings.HasSuffix(got, " after") {
				t.Errorf("too much is gone: %s", got)
			}
			// Of base64 and of what is cut, less than minPart bytes may be left.
			left := strings.NewReplacer("before", "", "after", "", redacted, "", " ", "").Replace(got)
			if len(left) > minPart || !strings.Contains(got, redacted) {
				t.Errorf("left: %s", got)
			}
		})
	}

	t.Run("over two errors", func(t *testing.T) {
		var s sanitizer
		s.add(token)
		for _, at := range []int{3, 8, 16, 29} {
			body := fmt.Sprintf(`{"errors":[{"code":1,"message":"a %s","context":"c"},{"code":2,"message":"%s b","context":"c"}]}`,
				token[:at], token[at:])
			details := decodeErrors([]byte(body), &s)
			shown := details[0].Message + details[1].Message
			if strings.Contains(shown, token[:at]) || strings.Contains(shown, token[at:]) {
				t.Errorf("cut at %d: %+v", at, details)
			}
		}
	})

	t.Run("names", func(t *testing.T) {
		var s sanitizer
		s.add(token)
		for name, want := range map[string]bool{
			oneDecoded.ID: false, "PROCESSING": false, token: true, "x" + token[7:19]: true,
			"comms_operation_" + strings.ToLower(token): true, token[:11]: false,
			hex.EncodeToString([]byte(token))[:40]: true, b64: true,
		} {
			if got := s.holds(name); got != want {
				t.Errorf("%s: %v, want %v", name, got, want)
			}
		}

		for _, member := range []string{oneDecoded.ID, "PROCESSING"} {
			body := pageOf("", strings.Replace(one, member, token, 1))
			err := decodePage(strings.NewReader(body), Messages, &s, new(Page))
			if err == nil || !strings.Contains(err.Error(), "holds the credentials") {
				t.Errorf("instead of %s: %v", member, err)
			}
		}
	})
}

// TestShortSecrets checks that a short secret, such as in a test, is found as a whole and does not affect names.
func TestShortSecrets(t *testing.T) {
	var s sanitizer
	s.add("demo")
	if got := s.text("a demo, DEMO", maxErrorText); got != "a <secret>, <secret>" {
		t.Errorf("got %s", got)
	}
	if s.holds("comms_operation_demo") {
		t.Error("a name by chance")
	}
}

// TestLongSecretsAreSearchedFor checks that the time to search a text depends only on its length.
func TestLongSecretsAreSearchedFor(t *testing.T) {
	var s sanitizer
	secret := strings.Repeat("(?:[^)]*", MaxSecret/8)
	s.add(secret)
	text := s.text(strings.Repeat("x", 100)+secret+strings.Repeat("y", 1<<20), maxErrorText)
	if strings.Contains(text, "(?:") {
		t.Errorf("got %s", text)
	}
}

// headerServer answers with so many lines of header, each with line bytes.
func headerServer(t *testing.T, http2 bool, line, lines int) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for n := range lines {
			w.Header().Add(fmt.Sprintf("X-%d", n%10), strings.Repeat("h", line))
		}
		_, _ = io.WriteString(w, pageOf(""))
	}))
	server.EnableHTTP2 = http2
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

// TestLongHeaders checks that the header of an answer is bounded, however it is sent, and that one that is too long is
// not asked for again.
func TestLongHeaders(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		for _, tt := range []struct {
			name        string
			line, lines int
			refused     bool
		}{
			{"50 KiB", 1 << 10, 50, false},
			{"100 lines", 1 << 10, 100, true},
			{"one line", 100 << 10, 1, true},
			{"a million short ones", 1, 100_000, true},
		} {
			t.Run(fmt.Sprintf("%s, HTTP/2 %v", tt.name, http2), func(t *testing.T) {
				server := headerServer(t, http2, tt.line, tt.lines)
				trusting, _ := server.Client().Transport.(*http.Transport)
				transport := NewTransport(trusting.TLSClientConfig.Clone(), nil)
				defer transport.CloseIdleConnections()
				observed := &records{}
				noRetry := func(o *Options) { o.MaxRetries = 0 }
				err := first(t.Context(), testClient(t, server.URL, transport, withObserve(observed), noRetry))
				// HTTP/2 has errors of the connection for some of it.
				if (err != nil) != tt.refused || !http2 && errors.Is(err, ErrHeaderTooLarge) != tt.refused {
					t.Errorf("got %v", err)
				}
				if n := len(observed.codes()); n != 1 {
					t.Errorf("%d requests", n)
				}
			})
		}
	}
}

// TestEmptyGzipMembers checks that many empty gzip members are refused.
func TestEmptyGzipMembers(t *testing.T) {
	member := compressed(t, nil)
	for _, status := range []int{200, 400} {
		var requests int
		base, transport := testServer(t, func(w http.ResponseWriter, _ *http.Request) {
			requests++
			w.Header().Set("Content-Encoding", "gzip")
			w.WriteHeader(status)
			for chunk := bytes.Repeat(member, 1000); ; {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		})

		err := first(t.Context(), testClient(t, base, transport, func(o *Options) { o.Timeout = 0 }))
		api, _ := errors.AsType[*Error](err)
		switch {
		case status == 200 && (err == nil || !strings.Contains(err.Error(), "empty gzip")),
			status == 400 && api == nil, requests != 1:
			t.Errorf("%d: %d requests, got %v", status, requests, err)
		}
	}
}

// TestTurns checks that answers are decoded in turn if turns are few, that waiting for a turn does not time out, and
// that a slow answer does not keep its turn.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := NewTurns(1)
		slow := slices.Concat([]byte(`{"x":[["`), bytes.Repeat([]byte(`y","`), readAhead), []byte(`"]],`), []byte(pageOf("")[1:]))
		api := newFakeAPI(func(n int, req *http.Request) (*http.Response, error) {
			if n > 1 {
				return answer(req, 200, pageOf("")), nil
			}
			resp := answer(req, 200, "")
			resp.Body = io.NopCloser(io.MultiReader(
				bytes.NewReader(slow[:readAhead+1000]), after(10*time.Second), bytes.NewReader(slow[readAhead+1000:]),
			))
			return resp, nil
		})

		client := func() *Client {
			return testClient(t, "https://api.test", api, func(o *Options) { o.Decoding, o.Timeout = turns, 20*time.Second })
		}
		var wg sync.WaitGroup
		begin := time.Now()
		wg.Go(func() {
			if err := first(t.Context(), client()); err != nil {
				t.Error(err)
			}
			if took := time.Since(begin); took != 10*time.Second {
				t.Errorf("the slow one took %v", took)
			}
		})

		synctest.Wait()
		for range 3 {
			wg.Go(func() {
				if err := first(t.Context(), client()); err != nil {
					t.Error(err)
				}
				if took := time.Since(begin); took != patience {
					t.Errorf("the others took %v", took)
				}
			})
		}

		wg.Wait()

		// A turn that does not come within Options.Timeout.
		if err := turns.places.Acquire(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Minute, func() { turns.places.Release(1) })
		if err := first(t.Context(), client()); err != nil {
			t.Error(err)
		}
	})
}

// after returns an empty reader that ends after a while.
func after(d time.Duration) io.Reader {
	return readerFunc(func([]byte) (int, error) {
		<-time.After(d)
		return 0, io.EOF
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
