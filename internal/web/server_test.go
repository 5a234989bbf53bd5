package web

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	toolkit "github.com/prometheus/exporter-toolkit/web"
	"go.uber.org/goleak"

	"twilio_operations_exporter/internal/account"
	"twilio_operations_exporter/internal/config"
	"twilio_operations_exporter/internal/logging"
	"twilio_operations_exporter/internal/testutil"
	"twilio_operations_exporter/twilio"
	"twilio_operations_exporter/twilio/simulator"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// testServer is a server of an account that reads api.
func testServer(tb testing.TB, api *testutil.API, args ...string) *Server {
	tb.Helper()
	testutil.SetEnv(tb, api.Env())
	return load(tb, args...)
}

// testFileServer is a server of the accounts of a file.
func testFileServer(tb testing.TB, api *testutil.API, accounts ...string) (*Server, *testutil.File) {
	tb.Helper()
	file := testutil.NewFile(tb, api, accounts...)
	testutil.SetEnv(tb, nil)
	return load(tb, "--config.file", file.Path, "--web.enable-lifecycle", "--log.level=warn"), file
}

func load(tb testing.TB, args ...string) *Server {
	tb.Helper()
	c, err := config.Load(append([]string{"--twilio.rate-limit=0", "--twilio.max-retries=0"}, args...), io.Discard)
	if err != nil {
		tb.Fatal(err)
	}
	return run(tb, c)
}

// run starts the accounts; those with an interval are refreshed by the test alone.
func run(tb testing.TB, c *config.ValidatedConfig) *Server {
	tb.Helper()
	logger, _ := logging.New(tb.Output(), c.Flags().LogLevel, c.Flags().LogFormat)
	registry := NewRegistry()
	accounts, err := account.NewManager(c, registry, logger)
	if err != nil {
		tb.Fatal(err)
	}
	const onDemand = 1000 * time.Hour
	accounts.Start(context.Background(), onDemand)
	tb.Cleanup(accounts.Stop)
	return New(c.Flags().Web, accounts, registry, logger)
}

// refresh refreshes every account once.
func refresh(tb testing.TB, s *Server) {
	tb.Helper()
	for _, r := range s.accounts.Refreshers() {
		if err := r.Refresh(tb.Context()); err != nil {
			tb.Error(err)
		}
	}
}

// get asks the handler; header is "Name: value" pairs.
func get(tb testing.TB, s *Server, method, path string, header ...string) *httptest.ResponseRecorder {
	tb.Helper()
	r := httptest.NewRequestWithContext(tb.Context(), method, path, http.NoBody)
	for _, h := range header {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	s.Handler(context.Background()).ServeHTTP(w, r)
	return w
}

func families(tb testing.TB, text string) map[string]*dto.MetricFamily {
	tb.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	f, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		tb.Fatalf("not an exposition: %v\n%s", err, text)
	}
	return f
}

func TestScrapeTimeout(t *testing.T) {
	for name, tc := range map[string]struct {
		header string
		offset time.Duration
		want   time.Duration
		bad    bool
	}{
		"none":              {"", time.Second, 0, false},
		"usual":             {"10", 500 * time.Millisecond, 9500 * time.Millisecond, false},
		"fraction":          {"0.75", 500 * time.Millisecond, 250 * time.Millisecond, false},
		"no offset":         {"10", 0, 10 * time.Second, false},
		"exponent":          {"1e1", 0, 10 * time.Second, false},
		"equal to offset":   {"0.5", 500 * time.Millisecond, 250 * time.Millisecond, false},
		"less than offset":  {"0.1", 500 * time.Millisecond, 50 * time.Millisecond, false},
		"zero":              {"0", 0, 0, true},
		"negative":          {"-1", 0, 0, true},
		"not a number":      {"NaN", 0, 0, true},
		"infinite":          {"+Inf", 0, 0, true},
		"too large":         {"1e300", 0, 0, true},
		"too small":         {"1e-300", 0, 0, true},
		"out of range":      {"1e999", 0, 0, true},
		"with a unit":       {"10s", 0, 0, true},
		"blank":             {" ", 0, 0, true},
		"two values joined": {"10, 10", 0, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := scrapeTimeout(tc.header, tc.offset)
			if got != tc.want || (err != nil) != tc.bad {
				t.Errorf("got %v, %v; want %v, bad %t", got, err, tc.want, tc.bad)
			}
		})
	}
}

func FuzzScrapeTimeout(f *testing.F) {
	for _, s := range []string{"", "10", "0.1", "-1", "NaN", "Inf", "1e300", "0x1p3", "10s"} {
		f.Add(s, int64(500*time.Millisecond))
	}
	f.Fuzz(func(t *testing.T, header string, offset int64) {
		if offset < 0 {
			return // validation lets none through
		}
		got, err := scrapeTimeout(header, time.Duration(offset))
		switch {
		case err != nil && got != 0, got < 0:
			t.Fatalf("%q: %v, %v", header, got, err)
		case err == nil && header != "" && got == 0:
			t.Fatalf("%q: no bound and no error", header)
		case got == 0:
			return
		}
		var seconds float64
		if _, err := fmt.Sscan(header, &seconds); err == nil && got.Seconds() > seconds*(1+1e-9)+1e-9 {
			t.Fatalf("%q: %v is longer than asked for", header, got)
		}
	})
}

func TestMetrics(t *testing.T) {
	api := testutil.New(t,
		testutil.Operation(1, twilio.StatusCompleted, twilio.Stats{twilio.Total: 200, twilio.Delivered: 150, twilio.Failed: 50}),
		testutil.Operation(2, twilio.StatusProcessing, twilio.Stats{twilio.Total: 3, twilio.Queued: 3}),
	)
	s := testServer(t, api)

	before := get(t, s, http.MethodGet, "/metrics")
	if before.Code != http.StatusOK {
		t.Fatalf("status %d", before.Code)
	}
	testutil.WantSamples(
		t, before.Body.String(), `twilio_up{account="`+testutil.SID+`"} 0`,
		`twilio_messages_total{account="`+testutil.SID+`"} 0`,
	)
	if strings.Contains(before.Body.String(), "twilio_operations{") {
		t.Error("operations are counted before they are read")
	}

	refresh(t, s)
	text := get(t, s, http.MethodGet, "/metrics")
	testutil.WantSamples(t, text.Body.String(),
		`twilio_up{account="`+testutil.SID+`"} 1`,
		`twilio_operations{account="`+testutil.SID+`",status="COMPLETED"} 1`,
		`twilio_operations{account="`+testutil.SID+`",status="CANCELED"} 0`,
		`twilio_operation_messages{account="`+testutil.SID+`",status="COMPLETED"} 200`,
		`twilio_operation_messages_queued{account="`+testutil.SID+`",status="PROCESSING"} 3`,
		`twilio_operations_failing{account="`+testutil.SID+`",status="COMPLETED"} 1`,
		`twilio_exporter_refreshes_total{account="`+testutil.SID+`",result="success"} 1`,
		`twilio_exporter_config_last_reload_successful 1`,
		`twilio_exporter_shard_info{shard="0",shards="1"} 1`,
	)
	got := families(t, text.Body.String())
	for _, name := range []string{
		"twilio_exporter_build_info", "go_goroutines", "process_start_time_seconds", "twilio_exporter_start_time_seconds",
		"twilio_exporter_config_last_reload_success_timestamp_seconds",
	} {
		if got[name] == nil {
			t.Errorf("%s is missing", name)
		}
	}
	for name, f := range got {
		if !strings.HasPrefix(name, "twilio_") || strings.HasSuffix(name, "_info") ||
			strings.HasSuffix(name, "_start_time_seconds") ||
			strings.Contains(name, "_config_") {
			continue
		}
		for _, m := range f.GetMetric() {
			if !slices.ContainsFunc(
				m.GetLabel(),
				func(l *dto.LabelPair) bool { return l.GetName() == "account" && l.GetValue() == testutil.SID },
			) {
				t.Errorf("%s: %v has no account", name, m)
			}
			if m.TimestampMs != nil {
				t.Errorf("%s has a timestamp", name)
			}
		}
	}
	problems, err := promlint.New(strings.NewReader(text.Body.String())).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("promlint: %v %v", problems, err)
	}

	open := get(t, s, http.MethodGet, "/metrics", "Accept: application/openmetrics-text; version=1.0.0")
	if ct := open.Header().Get("Content-Type"); !strings.HasPrefix(ct, "application/openmetrics-text") {
		t.Errorf("content type %q", ct)
	}
	for _, want := range []string{`twilio_messages_created{account="` + testutil.SID + `"} `, "# EOF\n"} {
		if !strings.Contains(open.Body.String(), want) {
			t.Errorf("%q is missing in OpenMetrics", want)
		}
	}
}

// TestScrapesCostNothing holds that only /metrics in on-scrape mode and /probe
// make requests.
func TestScrapesCostNothing(t *testing.T) {
	api := testutil.New(t, testutil.Operation(1, twilio.StatusCompleted, twilio.Stats{twilio.Total: 1}))
	s := testServer(t, api)
	refresh(t, s)
	before := api.Requests()
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			for _, path := range []string{"/metrics", "/", "/-/healthy", "/-/ready"} {
				if w := get(t, s, http.MethodGet, path); w.Code != http.StatusOK {
					t.Errorf("%s: %d %s", path, w.Code, w.Body)
				}
			}
		})
	}
	wg.Wait()
	if after := api.Requests(); after != before {
		t.Errorf("%d requests", after-before)
	}
}

func TestOnScrapeSharesARefresh(t *testing.T) {
	api := testutil.New(t, testutil.Operation(1, twilio.StatusCompleted, twilio.Stats{twilio.Total: 1}))
	s := testServer(t, api, "--collector.interval=0s")
	get(t, s, http.MethodGet, "/metrics")
	alone := api.Requests()

	release := api.Hold()
	const scrapes = 100
	bodies := make([]string, scrapes)
	var wg sync.WaitGroup
	for i := range bodies {
		wg.Go(func() { bodies[i] = get(t, s, http.MethodGet, "/metrics").Body.String() })
	}
	testutil.WaitFor(
		t, "all scrapes to wait", func() bool { return blockedIn("collector.(*Refresher).Refresh(") == scrapes },
	)
	release()
	wg.Wait()
	for _, body := range bodies {
		testutil.WantSamples(
			t, body, `twilio_up{account="`+testutil.SID+`"} 1`,
			`twilio_exporter_refreshes_total{account="`+testutil.SID+`",result="success"} 2`,
		)
	}
	if got := api.Requests() - alone; got > alone {
		t.Errorf("%d scrapes made %d requests, one alone makes %d", scrapes, got, alone)
	}
}

// blockedIn counts goroutines that wait in a select of a function.
func blockedIn(function string) (n int) {
	var stacks strings.Builder
	if err := pprof.Lookup("goroutine").WriteTo(&stacks, 2); err != nil {
		return -1
	}
	for stack := range strings.SplitSeq(stacks.String(), "\n\n") {
		head, _, _ := strings.Cut(stack, "\n")
		if strings.Contains(head, "[select") && strings.Contains(stack, function) {
			n++
		}
	}
	return n
}

// TestScrapeTimeoutIsKept holds that a scrape is answered in time, with the
// last good numbers, while the refresh goes on.
func TestScrapeTimeoutIsKept(t *testing.T) {
	api := testutil.New(t, testutil.Operation(1, twilio.StatusCompleted, twilio.Stats{twilio.Total: 7}))
	s := testServer(t, api, "--collector.interval=0s", "--web.scrape-timeout-offset=100ms")
	good := get(t, s, http.MethodGet, "/metrics", scrapeTimeoutHeader+": 60")
	testutil.WantSamples(t, good.Body.String(), `twilio_up{account="`+testutil.SID+`"} 1`)

	api.Faults().MustAdd(simulator.Fault{Kind: simulator.FaultHang})
	late := get(t, s, http.MethodGet, "/metrics", scrapeTimeoutHeader+": 0.2")
	testutil.WantSamples(t, late.Body.String(),
		`twilio_up{account="`+testutil.SID+`"} 0`,
		`twilio_operation_messages{account="`+testutil.SID+`",status="COMPLETED"} 7`,
		`twilio_exporter_refreshes_total{account="`+testutil.SID+`",result="error"} 0`, // it goes on
	)
	testutil.WaitFor(t, "the refresh to go on", func() bool {
		n := api.InFlight()
		return n == 1
	})
	if w := get(t, s, http.MethodGet, "/-/healthy"); w.Code != http.StatusOK {
		t.Errorf("healthy: %d", w.Code)
	}
	if w := get(t, s, http.MethodGet, "/-/ready"); w.Code != http.StatusOK {
		t.Errorf("ready: %d", w.Code)
	}
}

func TestReady(t *testing.T) {
	api := testutil.New(t, testutil.Operation(1, twilio.StatusCompleted, twilio.Stats{twilio.Total: 7}))
	s := testServer(t, api)
	w := get(t, s, http.MethodGet, "/-/ready")
	if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), `"`+testutil.SID+`": not started`) {
		t.Errorf("before: %d %s", w.Code, w.Body)
	}
	api.Faults().MustAdd(simulator.Fault{Kind: simulator.FaultStatus, Status: http.StatusInternalServerError})
	if err := s.accounts.List()[0].Refresher.Refresh(t.Context()); err == nil {
		t.Fatal("no error")
	}
	if w := get(t, s, http.MethodGet, "/-/ready"); w.Code != http.StatusOK {
		t.Errorf("after a failed refresh: %d %s", w.Code, w.Body)
	}
}

func TestProgress(t *testing.T) {
	for want, pages := range map[string][2]int{
		"not started":                 {0, 0},
		"120 of about 865 pages read": {120, 865},
		"900 of about 900 pages read": {900, 865},
		"0 of about 865 pages read":   {0, 865},
	} {
		if got := progress(pages[0], pages[1]); got != want {
			t.Errorf("%v: %q, want %q", pages, got, want)
		}
	}
}

func TestPaths(t *testing.T) {
	api := testutil.New(t)
	for name, tc := range map[string]struct {
		args         []string
		method, path string
		code         int
		body         string
	}{
		"healthy":         {nil, http.MethodGet, "/-/healthy", http.StatusOK, "Healthy.\n"},
		"healthy by HEAD": {nil, http.MethodHead, "/-/healthy", http.StatusOK, "Healthy.\n"},
		"healthy by POST": {nil, http.MethodPost, "/-/healthy", http.StatusMethodNotAllowed, "Method Not Allowed\n"},
		"reload off": {
			nil, http.MethodPost, "/-/reload", http.StatusForbidden,
			"Reloading over HTTP is disabled: start with --web.enable-lifecycle, or send SIGHUP.\n",
		},
		"reload by GET": {
			[]string{"--web.enable-lifecycle"}, http.MethodGet, "/-/reload", http.StatusMethodNotAllowed, "Method Not Allowed\n",
		},
		"reload, no file": {[]string{"--web.enable-lifecycle"}, http.MethodPost, "/-/reload", http.StatusOK, "Reloaded.\n"},
		"unknown":         {nil, http.MethodGet, "/nowhere", http.StatusNotFound, "404 page not found\n"},
		"pprof off":       {nil, http.MethodGet, "/debug/pprof/cmdline", http.StatusNotFound, "404 page not found\n"},
		"other path": {
			[]string{"--web.telemetry-path=/m"}, http.MethodGet, "/metrics", http.StatusNotFound, "404 page not found\n",
		},
		"requests off mux": {nil, http.MethodGet, "/debug/requests", http.StatusNotFound, "404 page not found\n"},
	} {
		t.Run(name, func(t *testing.T) {
			w := get(t, testServer(t, api, tc.args...), tc.method, tc.path)
			if w.Code != tc.code || w.Body.String() != tc.body {
				t.Errorf("%d %q, want %d %q", w.Code, w.Body, tc.code, tc.body)
			}
			if w.Header().Get("X-Content-Type-Options") != "nosniff" {
				t.Error("browsers may guess the type")
			}
		})
	}
	s := testServer(t, api, "--web.enable-pprof", "--web.telemetry-path=/m")
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/goroutine?debug=1", "/m"} {
		if w := get(t, s, http.MethodGet, path); w.Code != http.StatusOK {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
}

// pipeListener accepts connections within the process, so that a server can run
// by a simulated clock.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

// Accept implements net.Listener.
func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr implements net.Listener.
func (*pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// TestWithoutDeadlines holds that a long wait for the API outlives the server's
// deadlines, which other requests have.
func TestWithoutDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mux := http.NewServeMux()
		mux.Handle("/lifted", withoutDeadlines(func(w http.ResponseWriter, r *http.Request) {
			<-time.After(2 * writeTimeout)
			setDeadlines(w)
			writeText(w, http.StatusOK, "context: %v", r.Context().Err())
		}))
		mux.HandleFunc("/kept", func(w http.ResponseWriter, _ *http.Request) {
			<-time.After(2 * writeTimeout)
			writeText(w, http.StatusOK, "late")
		})
		l := newPipeListener()
		server, _ := newHTTPServer(mux, slog.New(slog.DiscardHandler))
		go func() { _ = server.Serve(l) }()
		defer func() { _ = server.Close() }()
		client := &http.Client{Transport: &http.Transport{DialContext: l.dial, DisableKeepAlives: true}}
		request := func(path string) (string, error) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://exporter"+path, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := client.Do(req)
			if err != nil {
				return "", err
			}
			defer func() { _ = resp.Body.Close() }()
			b, err := io.ReadAll(resp.Body)
			return string(b), err
		}
		if body, err := request("/lifted"); err != nil || body != "context: <nil>\n" {
			t.Errorf("lifted: %q, %v", body, err)
		}
		if body, err := request("/kept"); err == nil {
			t.Errorf("the server has no deadline: %q", body)
		}
	})
}

// TestStopAnswers stops a server that has accepted a connection and has not read its request yet.
func TestStopAnswers(t *testing.T) {
	s := testServer(t, testutil.New(t))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	addresses := make(chan string, 1)
	served := make(chan error, 1)
	flags := &toolkit.FlagConfig{
		WebListenAddresses: &[]string{"127.0.0.1:0"}, WebSystemdSocket: new(bool), WebConfigFile: new(string),
	}
	go func() {
		served <- s.Serve(ctx, flags, slog.New(slog.DiscardHandler), func(address string) { addresses <- address })
	}()
	address := <-addresses
	dial := func() (net.Conn, error) { return (&net.Dialer{}).DialContext(t.Context(), "tcp", address) }

	early, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = early.Close() }()
	const request = "GET /metrics HTTP/1.1\r\nHost: exporter\r\n\r\n"
	answer := func(c net.Conn) {
		t.Helper()
		if _, writeErr := io.WriteString(c, request); writeErr != nil {
			t.Fatal(writeErr)
		}
		r, readErr := http.ReadResponse(bufio.NewReader(c), nil)
		if readErr != nil {
			t.Fatal(readErr)
		}
		if closeErr := r.Body.Close(); closeErr != nil || r.StatusCode != http.StatusOK {
			t.Errorf("status %d, error %v", r.StatusCode, closeErr)
		}
	}
	// Once a later connection has its response, the early one has been accepted.
	late, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = late.Close() }()
	answer(late)

	stop()
	for err == nil { // until nobody listens
		var c net.Conn
		if c, err = dial(); err == nil {
			_ = c.Close()
		}
	}
	answer(early)
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestServeErrors(t *testing.T) {
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	t.Setenv("LISTEN_PID", "") // no sockets from systemd
	s := testServer(t, testutil.New(t))
	for name, tc := range map[string]struct {
		address        string
		socket         bool
		prefix, remedy string
	}{
		"port taken": {
			taken.Addr().String(), false, "--web.listen-address: listen tcp " + taken.Addr().String() + ": ",
			": choose a free port and an address of this host",
		},
		"address of another host": {
			"192.0.2.1:0", false, "--web.listen-address: listen tcp 192.0.2.1:0: ",
			": choose a free port and an address of this host",
		},
		"no sockets": {
			":0", true, "--web.systemd-socket: no socket activation file descriptors found",
			": start the program from a systemd socket unit",
		},
	} {
		t.Run(name, func(t *testing.T) {
			flags := &toolkit.FlagConfig{
				WebListenAddresses: &[]string{tc.address}, WebSystemdSocket: &tc.socket, WebConfigFile: new(string),
			}
			err := s.Serve(t.Context(), flags, slog.New(slog.DiscardHandler), func(address string) {
				t.Errorf("listening on %s", address)
			})
			if err == nil || !strings.HasPrefix(err.Error(), tc.prefix) || !strings.HasSuffix(err.Error(), tc.remedy) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// TestBodies holds that a request with a body is refused at once, whether or
// not the body comes, and before anything is rendered.
func TestBodies(t *testing.T) {
	s := testServer(t, testutil.New(t), "--web.enable-lifecycle")
	h := s.Handler(t.Context())
	for _, head := range []string{
		"GET /metrics HTTP/1.1\r\nHost: exporter\r\nContent-Length: 100\r\n",
		"GET / HTTP/1.1\r\nHost: exporter\r\nTransfer-Encoding: chunked\r\n",
		"POST /-/reload HTTP/1.1\r\nHost: exporter\r\nContent-Length: 1\r\n",
	} {
		synctest.Test(t, func(t *testing.T) {
			l := newPipeListener()
			server, _ := newHTTPServer(h, slog.New(slog.DiscardHandler))
			go func() { _ = server.Serve(l) }()
			defer func() { _ = server.Close() }()
			conn, err := l.dial(t.Context(), "", "")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			begin := time.Now()
			if _, err = io.WriteString(conn, head+"\r\n"); err != nil {
				t.Fatal(err)
			}
			status, err := bufio.NewReader(conn).ReadString('\n')
			if err != nil || status != "HTTP/1.1 413 Request Entity Too Large\r\n" {
				t.Errorf("%q: %q, %v", head, status, err)
			}
			if waited := time.Since(begin); waited != 0 {
				t.Errorf("%q: answered after %v", head, waited)
			}
		})
	}
}

// TestLongRequestHeaders holds that a header of more than 64 KiB is refused,
// and one that is shorter is not.
func TestLongRequestHeaders(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config, _ = newHTTPServer(http.NotFoundHandler(), slog.New(slog.DiscardHandler))
	server.Start()
	defer server.Close()
	for size, want := range map[int]int{60 << 10: http.StatusNotFound, 68 << 10: http.StatusRequestHeaderFieldsTooLarge} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Long", strings.Repeat("x", size))
		resp, err := server.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%d bytes: %d, want %d", size, resp.StatusCode, want)
		}
	}
}

// TestWebConfigFiles holds that connections and requests end while the file of the web configuration, or one that it names,
// is one that nobody can read.
func TestWebConfigFiles(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "web.yml")
	contents := map[string]string{
		"web.yml": "tls_server_config: {cert_file: crt, key_file: key, client_ca_file: ca}\n", "crt": "", "key": "", "ca": "",
	}
	write := func(name string) {
		t.Helper()
		path := filepath.Join(dir, name)
		_ = os.Remove(path)
		if err := os.WriteFile(path, []byte(contents[name]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name := range contents {
		write(name)
	}

	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.BaseContext = func(net.Listener) context.Context { return t.Context() }
	guardWebConfig(server.Config, file, slog.New(slog.DiscardHandler))
	server.Start()
	defer server.Close()
	get := func() int {
		t.Helper()
		resp, err := server.Client().Get(server.URL) //nolint:noctx // it ends at once
		if err != nil {
			return 0
		}
		_, _ = io.Copy(io.Discard, resp.Body) // so that the connection is used again
		_ = resp.Body.Close()
		return resp.StatusCode
	}

	for name := range contents {
		path := filepath.Join(dir, name)
		for what, replace := range map[string]func() error{
			"FIFO":   func() error { return syscall.Mkfifo(path, 0o600) },
			"device": func() error { return os.Symlink("/dev/zero", path) },
		} {
			if code := get(); code != http.StatusNotFound {
				t.Errorf("a file: %d", code)
			}
			if err := errors.Join(os.Remove(path), replace()); err != nil {
				t.Fatal(err)
			}
			want := http.StatusNotFound
			if path == file {
				want = http.StatusInternalServerError
			}
			if code := get(); code != want {
				t.Errorf("%s is a %s, on the connection that was open: %d", name, what, code)
			}
			server.Client().CloseIdleConnections()
			if code := get(); code != 0 {
				t.Errorf("%s is a %s, on a new connection: %d", name, what, code)
			}
			write(name)
		}
	}
}

// TestMethods holds that nothing but GET and HEAD reads, and that no other
// method costs a request.
func TestMethods(t *testing.T) {
	api := testutil.New(t, testutil.Operation(1, twilio.StatusCompleted, twilio.Stats{twilio.Total: 7}))
	s := testServer(t, api, "--collector.interval=0s", "--web.enable-pprof")
	paths := []string{
		"/metrics",
		"/probe?target=" + testutil.Operation(1, "", twilio.Stats{}).ID,
		"/sd/operations",
		"/",
		"/debug/pprof/symbol",
	}
	for _, path := range paths {
		for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions, "ODD"} {
			if w := get(t, s, method, path); w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD" {
				t.Errorf("%s %s: %d, Allow %q", method, path, w.Code, w.Header().Get("Allow"))
			}
		}
	}
	if n := api.Requests(); n != 0 {
		t.Errorf("%d requests", n)
	}
	for _, path := range paths[:2] {
		if w := get(t, s, http.MethodHead, path); w.Code != http.StatusOK {
			t.Errorf("HEAD %s: %d", path, w.Code)
		}
	}
}

func TestReloadFromAnotherOrigin(t *testing.T) {
	s, _ := testFileServer(t, testutil.New(t), "a")
	for header, code := range map[string]int{
		"Sec-Fetch-Site: cross-site":   http.StatusForbidden,
		"Origin: http://other.example": http.StatusForbidden,
		"Sec-Fetch-Site: same-origin":  http.StatusOK,
		"User-Agent: curl":             http.StatusOK,
	} {
		if w := get(t, s, http.MethodPost, "/-/reload", header); w.Code != code {
			t.Errorf("%s: %d, want %d", header, w.Code, code)
		}
	}
}

// TestServerLog holds at which level net/http's messages are logged: what is
// wrong with the program is an error, what is wrong with a client is not.
func TestServerLog(t *testing.T) {
	var b strings.Builder
	server, _ := newHTTPServer(
		http.NotFoundHandler(),
		slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug})),
	)
	for message, want := range map[string]string{
		"http: panic serving 127.0.0.1:1: oops\ngoroutine 1 [running]": `level=ERROR msg="http: panic serving 127.0.0.1:1: oops; goroutine 1 [running]"`,
		"http: Accept error: too many open files; retrying in 5ms":     "level=ERROR",
		"http: TLS handshake error from 127.0.0.1:1: EOF":              "level=DEBUG",
	} {
		b.Reset()
		server.ErrorLog.Print(message)
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is logged as %s", message, &b)
		}
	}
}

// TestReadyOnce holds that an account that a reload adds takes nothing away from
// readiness, whether or not somebody has asked before.
func TestReadyOnce(t *testing.T) {
	api := testutil.New(t, testutil.Operation(1, twilio.StatusCompleted, twilio.Stats{twilio.Total: 7}))
	s, file := testFileServer(t, api, "a", "b")
	if err := refresherOf(s, "a").Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	w, page := get(t, s, http.MethodGet, "/-/ready"), get(t, s, http.MethodGet, "/")
	if w.Code != http.StatusServiceUnavailable ||
		w.Body.String() != "Not ready, waiting for the first refresh:\n\"b\": not started\n" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	const missing = "Not ready: waiting for the first refresh of &#34;b&#34;."
	if !strings.Contains(page.Body.String(), missing) {
		t.Errorf("%q is missing in\n%s", missing, page.Body)
	}
	refresh(t, s)
	file.Write("a", "b", "hanging")
	if err := s.accounts.Reload(context.Background()); err != nil {
		t.Fatal(err)
	}
	w, page = get(t, s, http.MethodGet, "/-/ready"), get(t, s, http.MethodGet, "/")
	if w.Code != http.StatusOK {
		t.Errorf("after a reload: %d %s", w.Code, w.Body)
	}
	if strings.Contains(page.Body.String(), "Not ready") {
		t.Error("the page does not agree")
	}
}

// TestFamiliesAreDisjoint holds that no metric family is both an account's and
// the exporter's own: a scrape joins the two without looking.
func TestFamiliesAreDisjoint(t *testing.T) {
	api := testutil.New(t, testutil.Operation(1, twilio.StatusCompleted, twilio.Stats{twilio.Total: 200, twilio.Failed: 100}))
	s := testServer(t, api)
	refresh(t, s)
	all, err := s.scrape(t.Context()).Gather()
	if err != nil {
		t.Fatal(err)
	}
	for i := 1; i < len(all); i++ {
		if all[i-1].GetName() >= all[i].GetName() {
			t.Errorf("%s comes before %s", all[i-1].GetName(), all[i].GetName())
		}
	}
	if len(all) < 50 {
		t.Errorf("%d families", len(all))
	}
}
