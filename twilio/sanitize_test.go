package twilio

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"
)

// The parts S3cret and p4ss show that the rest was not found where it is written
// differently: in URLs, Go strings, JSON pointers, lower case, base64.
const (
	hardUser   = "SKsecretkey"
	hardSecret = `S3cret~p4ss/"w\rd"é+S3cret`
)

var (
	plainSecret = regexp.MustCompile(`(?i)s3cret|p4ss|sksecretkey`)
	base64Run   = regexp.MustCompile(`[\w+/-]{12,}`)
)

// checkNoSecret fails the test if a text shows a part of the credentials.
func checkNoSecret(t *testing.T, text string) {
	t.Helper()
	if plainSecret.MatchString(text) {
		t.Errorf("shown: %s", text)
	}
	for _, run := range base64Run.FindAllString(text, -1) {
		for skip := range 4 {
			part := strings.NewReplacer("-", "+", "_", "/").Replace(run[skip:])
			b, _ := base64.RawStdEncoding.DecodeString(part[:len(part)/4*4])
			if plainSecret.Match(b) {
				t.Errorf("shown: %s, which holds %q", text, b)
			}
		}
	}
}

// rawServer answers the first request of each connection with exactly these bytes.
func rawServer(t *testing.T, answer string) (address string) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			var seen []byte
			for b := make([]byte, 4096); !bytes.HasSuffix(seen, []byte("\r\n\r\n")); {
				n, err := conn.Read(b)
				if seen = append(seen, b[:n]...); err != nil {
					break
				}
			}

			_, _ = io.WriteString(conn, answer)
			_ = conn.Close()
		}
	}()

	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return l.Addr().String()
}

// TestSecretsAreRedacted has a server send back the credentials wherever it can. They must not be in an error, in what
// it wraps, or in a log line.
func TestSecretsAreRedacted(t *testing.T) {
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	answer := func(status, header, body string) string {
		return fmt.Sprintf("HTTP/1.1 %s\r\n%sContent-Length: %d\r\n\r\n%s", status, header, len(body), body)
	}
	places := map[string]func(secret string) string{
		"no answer":   func(s string) string { return s + "\r\n\r\n" },
		"protocol":    func(s string) string { return s + " 200 OK\r\n\r\n" },
		"status":      func(s string) string { return answer(s, "", "") },
		"reason":      func(s string) string { return answer("400 "+s, "", "") },
		"header":      func(s string) string { return answer("200 OK", s+"\r\n", "{}") },
		"header name": func(s string) string { return answer("200 OK", s+" : x\r\n", "{}") },
		"lower case":  func(s string) string { return answer("200 OK", strings.ToLower(s)+" : x\r\n", "{}") },
		"length":      func(s string) string { return "HTTP/1.1 200 OK\r\nContent-Length: " + s + "\r\n\r\n" },
		"encoding":    func(s string) string { return answer("200 OK", "Content-Encoding: "+s+"\r\n", "{}") },
		"Retry-After": func(s string) string { return answer("429 x", "Retry-After: "+s+"\r\nRetry-After: 9999999\r\n", "") },
		"Date":        func(s string) string { return answer("200 OK", "Date: "+s+"\r\n", "{}") },
		"Location":    func(s string) string { return answer("302 Found", "Location: http://"+s+"@x/\r\n", "") },
		"member name": func(s string) string { return answer("200 OK", "", fmt.Sprintf(`{%q:{"x":<`, s)) },
		"member name, cut": func(s string) string {
			return answer("200 OK", "", fmt.Sprintf(`{%q:<`, strings.Repeat("x", maxPointer-10)+s))
		},
		"operation": func(s string) string {
			return answer("200 OK", "", fmt.Sprintf(`{"operations":[{"id":%q,"status":%[1]q,"createdAt":%[1]q`, s))
		},
		"400": func(s string) string {
			return answer("400 x", "", fmt.Sprintf(`{"errors":[{"code":1,"message":%q,"infoUrl":%[1]q,"context":%[1]q}]}`, s))
		},
		"401": func(s string) string {
			return answer("401 x", "", fmt.Sprintf(`{"code":1,"message":%q,"more_info":%[1]q}`, s))
		},
	}

	forms := map[string]string{
		"plain": hardSecret, "user": hardUser,
		"quoted": fmt.Sprintf("%q", hardSecret), "quoted twice": fmt.Sprintf("%q", fmt.Sprintf("%q", hardSecret)),
		"query": url.QueryEscape(hardSecret), "path": url.PathEscape(hardSecret),
		"credentials": b64(hardUser + ":" + hardSecret), "base64": b64(hardSecret),
		"base64, shifted": b64("Yousent" + hardSecret + "."), "base64, shifted more": b64("Yousent:" + hardSecret),
		"base64, shifted most": b64("Yousentit" + hardSecret),
	}

	for place, answer := range places {
		t.Run(place, func(t *testing.T) {
			for form, text := range forms {
				var logged bytes.Buffer
				transport := &http.Transport{DisableCompression: true}
				c := testClient(t, "http://"+rawServer(t, answer(text)), transport, withAuth(hardUser, hardSecret),
					withLog(&logged), func(o *Options) { o.MaxRetries = 1 })
				c.backoff = func(int) time.Duration { return 0 }
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute) // less than the Retry-After
				err := first(ctx, c)
				cancel()
				if err == nil {
					t.Fatalf("%s: no error", form)
				}
				checkNoSecret(t, deep(err))
				checkNoSecret(t, logged.String())
				transport.CloseIdleConnections()
			}
		})
	}
}

// TestSecretsAreRedactedOverHTTP2 does the same over HTTP/2, whose headers net/http handles elsewhere.
func TestSecretsAreRedactedOverHTTP2(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			t.Error("not HTTP/2")
		}
		_, password, _ := r.BasicAuth()
		w.WriteHeader(http.StatusBadRequest)
		_, _ = fmt.Fprintf(w, `{"errors":[{"code":1,"message":%q,"context":%q}]}`, password, r.Header.Get("Authorization"))
	}))

	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	err := first(t.Context(), testClient(t, server.URL, server.Client().Transport, withAuth(hardUser, hardSecret)))
	if err == nil || !strings.Contains(err.Error(), "1 "+redacted+" (at Basic "+redacted) {
		t.Errorf("got %v", err)
	}
	checkNoSecret(t, deep(err))
}

// TestProxySecretsAreRedacted checks that the credentials of a proxy are redacted, too: in its refusals, which are
// errors of the transport, and in errors about its URL.
func TestProxySecretsAreRedacted(t *testing.T) {
	basic := base64.StdEncoding.EncodeToString([]byte(hardUser + ":" + hardSecret))
	for _, reason := range []string{basic, hardSecret, hardUser + ":" + hardSecret, url.QueryEscape(hardSecret)} {
		address := rawServer(t, "HTTP/1.1 407 you sent "+reason+"\r\n\r\n")
		proxy := &url.URL{Scheme: "http", User: url.UserPassword(hardUser, hardSecret), Host: address}
		transport := &http.Transport{Proxy: http.ProxyURL(proxy)}
		c := testClient(t, "https://api.test", transport, func(o *Options) { o.MaxRetries, o.Proxy = 0, transport.Proxy })
		err := first(t.Context(), c)
		if err == nil || !strings.Contains(err.Error(), "you sent "+redacted) {
			t.Errorf("got %v", err)
		}
		checkNoSecret(t, deep(err))
		transport.CloseIdleConnections()
	}

	for _, bad := range []string{
		"http://u:S3cret@proxy:3128", "u:S3cret@proxy", "http:/u:S3cret@h", "http://u:S3\ncret p4ss@h", "://S3cret p4ss@h",
	} {
		transport := &http.Transport{Proxy: func(*http.Request) (*url.URL, error) {
			return nil, fmt.Errorf("invalid proxy %q: odd", bad)
		}}
		err := first(t.Context(), testClient(t, "https://api.test", transport, func(o *Options) { o.MaxRetries = 0 }))
		if err == nil || !strings.Contains(err.Error(), "invalid proxy") || !strings.Contains(err.Error(), "odd") {
			t.Errorf("%q: got %v", bad, err)
		}
		checkNoSecret(t, deep(err))
	}
}

// TestSanitizedErrorsKeepTheirCause checks that an error without a secret is not replaced.
func TestSanitizedErrorsKeepTheirCause(t *testing.T) {
	var s sanitizer
	s.add("s3cret")
	cause := &fs.PathError{Op: "open", Path: "/run/token", Err: fs.ErrNotExist}
	if err := s.err(fmt.Errorf("reading: %w", cause)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	err := s.err(fmt.Errorf("reading s3cret: %w", cause))
	if errors.Is(err, fs.ErrNotExist) || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("got %v", err)
	}
}

// TestKnownSecretsTakeLittle checks that a sanitizer needs little memory for a token, as there is one for each account.
func TestKnownSecretsTakeLittle(t *testing.T) {
	const accounts = 100
	heap := func() uint64 {
		var stats runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc
	}

	before := heap()
	known := make([]sanitizer, accounts)
	for i := range known {
		known[i].add(fmt.Sprintf("%032x", i*0x9E3779B1))
	}
	taken := (heap() - before) / accounts
	runtime.KeepAlive(known)
	t.Logf("%d bytes each", taken)
	if taken > 24<<10 {
		t.Errorf("%d bytes each, want at most 24 KiB", taken)
	}
}

// TestRefusedIDsHideSecrets checks that the error of an invalid id does not show credentials, which somebody may have
// pasted into the wrong field.
func TestRefusedIDsHideSecrets(t *testing.T) {
	const password = "0123456789abcdef0123456789abcdef"
	base, transport := testServer(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) })
	c := testClient(t, base, transport, withAuth("ACuser", password))
	_, _ = readAll(t, c) // the secret is known from the first request on

	_, ofOperation := c.FetchOperation(t.Context(), password)
	_, ofMessage := c.FetchMessage(t.Context(), password)
	for _, err := range []error{ofOperation, ofMessage} {
		if err == nil || strings.Contains(err.Error(), password) {
			t.Errorf("error %v", err)
		}
	}
}

// TestEscapesCutShort checks that a text may end in the middle of an escape.
func TestEscapesCutShort(t *testing.T) {
	var s sanitizer
	s.add("0123456789abcdef0123456789abcdef")
	for _, text := range []string{`\`, `\x`, `\x4`, `\u`, `\u123`, `\U1234567`, "%", "%4", "~", `a\`} {
		if got := s.text(text, maxErrorText); got != text {
			t.Errorf("%s became %s", text, got)
		}
	}
}
