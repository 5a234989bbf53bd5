package apptest

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"

	"twilio_operations_exporter/internal/config"
	"twilio_operations_exporter/internal/testutil"
)

// webConfigWithPassword is a file for --web.config.file with the password "test".
func webConfigWithPassword(t *testing.T) string {
	t.Helper()
	return testutil.WriteFile(
		t, "web.yml", "basic_auth_users:\n  prom: $2y$04$L7J0m4pJ5bQnRv8m4b6mUe2y9wB0yQe9mC3mYQH9n3Q2b5u0m8bqG\n",
	)
}

// TestHealthListener checks that probes need no password on the listener, and that it serves nothing else.
func TestHealthListener(t *testing.T) {
	t.Parallel()
	for name, host := range map[string]string{"IPv4": "127.0.0.1", "IPv6": "::1"} {
		t.Run(name, func(t *testing.T) {
			p := serve(t, accountEnv(testutil.New(t)), "--web.config.file", webConfigWithPassword(t),
				"--web.health-listen-address="+net.JoinHostPort(host, "0"))
			address := healthAddress(t, p)
			health := "http://" + address

			testutil.WaitFor(t, "the first refresh", func() bool {
				_, err := testutil.Get(t.Context(), health+"/-/ready")
				return err == nil
			})

			if body, err := testutil.Get(t.Context(), health+"/-/healthy"); body != "Healthy.\n" || err != nil {
				t.Errorf("answer %q, error %v", body, err)
			}
			for _, path := range []string{"/", "/metrics", "/-/reload", "/probe", "/sd/operations", "/debug/pprof/"} {
				if _, err := testutil.Get(t.Context(), health+path); err == nil || err.Error() != "status 404" {
					t.Errorf("%s: %v", path, err)
				}
			}

			if _, err := testutil.Get(t.Context(), p.url+"/-/healthy"); err == nil || err.Error() != "status 401" {
				t.Errorf("without a password: %v", err)
			}

			check := execute(t, nil, "healthcheck", address)
			if status := check.end(); status != 0 || check.log.String() != "" {
				t.Errorf("status %d, stderr %q", status, check.log.String())
			}
		})
	}
}

// healthAddress returns the address on which the program listens for health checks.
func healthAddress(t *testing.T, p *program) string {
	t.Helper()
	address := regexp.MustCompile(`msg="listening for health checks" address=(\S+)`)
	found := address.FindStringSubmatch(p.log.String())
	if found == nil {
		t.Fatalf("no address in the log: %s", p.log.String())
	}
	return found[1]
}

// TestHealthListenerForAnybody checks that the listener, which needs no password, names no accounts, and has the same
// limits of requests as the other one.
func TestHealthListenerForAnybody(t *testing.T) {
	t.Parallel()
	api := testutil.New(t)
	release := api.Hold()
	defer release()
	p := serve(t, accountEnv(api), "--web.health-listen-address=127.0.0.1:0")
	address := healthAddress(t, p)

	body, err := testutil.Get(t.Context(), "http://"+address+"/-/ready")
	if want := "Not ready, waiting for the first refresh:\n1 of 1 accounts\n"; body != want || err == nil {
		t.Errorf("answer %q, error %v, want %q", body, err, want)
	}
	body, err = testutil.Get(t.Context(), p.url+"/-/ready")
	if !strings.Contains(body, testutil.SID) || err == nil {
		t.Errorf("answer %q, error %v, which does not name the account to those who may see it", body, err)
	}

	for head, want := range map[string]string{
		"Content-Length: 100\r\n":                         "HTTP/1.1 413 Request Entity Too Large\r\n",
		"X-Long: " + strings.Repeat("x", 68<<10) + "\r\n": "HTTP/1.1 431 Request Header Fields Too Large\r\n",
	} {
		conn, dialErr := new(net.Dialer).DialContext(t.Context(), "tcp", address)
		if dialErr != nil {
			t.Fatal(dialErr)
		}
		_, _ = io.WriteString(conn, "GET /-/healthy HTTP/1.1\r\nHost: exporter\r\n"+head+"\r\n") // it may be refused in the middle
		status, readErr := bufio.NewReader(conn).ReadString('\n')
		_ = conn.Close()
		if status != want || readErr != nil {
			t.Errorf("%.20s: status %q, error %v, want %q", head, status, readErr, want)
		}
	}
}

// TestHealthcheckOfAnything checks that no answer takes much memory, and that the error is one short line.
func TestHealthcheckOfAnything(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ answer, want string }{
		"long status": {
			"HTTP/1.1 503 " + strings.Repeat("s", 50<<10) + "\r\nContent-Length: 0\r\n\r\n",
			`answered 503 Service Unavailable: ""`,
		},
		"long header": {"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20) + "\r\n\r\n", "response headers exceeded"},
		"no HTTP":     {strings.Repeat("x", 50<<10) + "\r\n", "malformed HTTP response"},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			var serving sync.WaitGroup
			defer serving.Wait()
			defer func() { _ = l.Close() }()
			serving.Go(func() {
				conn, acceptErr := l.Accept()
				if acceptErr != nil {
					return
				}
				defer func() { _ = conn.Close() }()
				// To net/http, what comes before the request is another error.
				_, requestErr := http.ReadRequest(bufio.NewReader(conn))
				if requestErr != nil {
					t.Error(requestErr)
				}
				_, _ = io.WriteString(conn, tt.answer)
			})

			p := execute(t, nil, "healthcheck", l.Addr().String())
			status, stderr := p.end(), p.log.String()
			if status != 1 || !strings.Contains(stderr, tt.want) || len(stderr) > 500 {
				t.Errorf("status %d, %d bytes on stderr: %.500q, want %q", status, len(stderr), stderr, tt.want)
			}
		})
	}
}

// TestHealthcheck checks the exit status of the command, and the line that says what is wrong.
func TestHealthcheck(t *testing.T) {
	t.Parallel()
	closed, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := closed.Addr().String()
	_ = closed.Close()
	mux := http.NewServeMux()
	mux.HandleFunc("/-/healthy", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "Healthy.\n") })
	mux.HandleFunc("/stalled", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, "The refresh loop is stalled: \"a\"\n")
	})

	mux.HandleFunc("/password", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) })
	mux.Handle("/moved", http.RedirectHandler("/-/healthy", http.StatusFound))
	server := httptest.NewServer(mux)
	defer server.Close()
	for name, tc := range map[string]struct {
		address string
		want    string // none if healthy
	}{
		"healthy":    {strings.TrimPrefix(server.URL, "http://"), ""},
		"URL":        {server.URL, ""},
		"stalled":    {server.URL + "/stalled", `/stalled answered 503 Service Unavailable: "The refresh loop is stalled: \"a\""`},
		"password":   {server.URL + "/password", "answered 401 Unauthorized: with TLS or authentication, use --web.health-listen-address"},
		"redirect":   {server.URL + "/moved", "answered 302 Found"},
		"nobody":     {nobody, "connection refused: check that the exporter listens there"},
		"TLS":        {"https://" + nobody, "connection refused: check that the exporter listens there"},
		"no address": {"exporter:99999", "healthcheck: <14-character value, not shown> is not an address or URL"},
	} {
		t.Run(name, func(t *testing.T) {
			// A proxy is of no use to a check of this host.
			p := execute(t, []string{"HTTP_PROXY=http://192.0.2.1:1", "TWILIO_ACCOUNT_SID=nonsense"}, "healthcheck", tc.address)
			status, stderr := p.end(), p.log.String()
			if tc.want == "" {
				if status != 0 || stderr != "" {
					t.Errorf("status %d: %s", status, stderr)
				}
				return
			}
			if status != 1 || !strings.HasPrefix(stderr, config.ProgramName+": error: healthcheck: ") ||
				!strings.Contains(stderr, tc.want) || strings.Count(stderr, "\n") != 1 {
				t.Errorf("status %d: %s", status, stderr)
			}
		})
	}
}
