package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.uber.org/goleak"

	"twilio_operations_exporter/twilio"
	"twilio_operations_exporter/twilio/simulator"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) { cleanUp(code) }))
}

// testOperation returns operation n of a status, created a while ago.
func testOperation(n int, status twilio.Status, stats twilio.Stats) twilio.Operation {
	created := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
	return twilio.Operation{
		ID: fmt.Sprintf("comms_operation_0%025d", n), Status: status, Stats: stats,
		CreatedAt: created, UpdatedAt: created.Add(time.Minute),
	}
}

// testAPI is a simulated API with a fixed list.
type testAPI struct {
	*simulator.Handler
	url  string
	gate sync.RWMutex
}

// hold keeps requests waiting, before the simulator sees them, until release.
func (a *testAPI) hold() (release func()) {
	a.gate.Lock()
	return sync.OnceFunc(a.gate.Unlock)
}

func (a *testAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.gate.RLock()
	defer a.gate.RUnlock()
	a.Handler.ServeHTTP(w, r)
}

func newTestAPI(tb testing.TB, ops ...twilio.Operation) *testAPI {
	tb.Helper()
	h := simulator.MustHandler(simulator.NewStatic(ops...), simulator.Settings{AccountSID: testSID, AuthToken: testToken})
	a := &testAPI{Handler: h}
	s := httptest.NewServer(a)
	a.url = s.URL + "/v1"
	tb.Cleanup(func() {
		h.Close()
		s.CloseClientConnections()
		s.Close()
	})
	return a
}

// testSite is a site that runs against api.
func testSite(tb testing.TB, api *testAPI, args ...string) *site {
	tb.Helper()
	for name, value := range map[string]string{
		"TWILIO_ACCOUNT_SID": testSID, "TWILIO_AUTH_TOKEN": testToken, "TWILIO_BASE_URL": api.url,
		"TWILIO_API_KEY": "", "TWILIO_API_SECRET": "",
	} {
		switch tb := tb.(type) {
		case *testing.T:
			tb.Setenv(name, value)
		case *testing.B:
			tb.Setenv(name, value)
		}
	}
	c, err := configure(append([]string{"--twilio.rate-limit=0", "--twilio.max-retries=0"}, args...), io.Discard)
	if err != nil {
		tb.Fatal(err)
	}
	return runSite(tb, c)
}

func runSite(tb testing.TB, c *ValidatedConfig) *site {
	tb.Helper()
	s, _, err := newSite(c, tb.Output())
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.accounts.start(ctx, never)
	tb.Cleanup(func() {
		s.accounts.stop()
		cancel()
	})
	return s
}

// refresh refreshes every account once.
func refresh(tb testing.TB, s *site) {
	tb.Helper()
	for _, a := range s.accounts.list() {
		if err := a.refresher.Refresh(tb.Context()); err != nil {
			tb.Errorf("account %s: %v", a.config.Account, err)
		}
	}
}

// get asks the site's handler; header is "Name: value" pairs.
func get(tb testing.TB, s *site, method, path string, header ...string) *httptest.ResponseRecorder {
	tb.Helper()
	r := httptest.NewRequestWithContext(tb.Context(), method, path, http.NoBody)
	for _, h := range header {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	s.handler().ServeHTTP(w, r)
	return w
}

// samples are the lines of an exposition without comments.
func samples(text string) (lines []string) {
	scanner := bufio.NewScanner(strings.NewReader(text))
	for scanner.Scan() {
		if line := scanner.Text(); line != "" && !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	return lines
}

func wantLines(tb testing.TB, text string, want ...string) {
	tb.Helper()
	lines := samples(text)
	for _, w := range want {
		if !slices.Contains(lines, w) {
			tb.Errorf("%q is missing in\n%s", w, strings.Join(lines, "\n"))
		}
	}
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
	api := newTestAPI(t,
		testOperation(1, twilio.StatusCompleted, twilio.Stats{Total: 200, Delivered: 150, Failed: 50}),
		testOperation(2, twilio.StatusProcessing, twilio.Stats{Total: 3, Queued: 3}),
	)
	s := testSite(t, api)

	before := get(t, s, http.MethodGet, "/metrics")
	if before.Code != http.StatusOK {
		t.Fatalf("status %d", before.Code)
	}
	wantLines(t, before.Body.String(), `twilio_up{account="`+testSID+`"} 0`, `twilio_messages_total{account="`+testSID+`"} 0`)
	if strings.Contains(before.Body.String(), "twilio_operations{") {
		t.Error("operations are counted before they are read")
	}

	refresh(t, s)
	text := get(t, s, http.MethodGet, "/metrics")
	wantLines(t, text.Body.String(),
		`twilio_up{account="`+testSID+`"} 1`,
		`twilio_operations{account="`+testSID+`",status="COMPLETED"} 1`,
		`twilio_operations{account="`+testSID+`",status="CANCELED"} 0`,
		`twilio_operation_messages{account="`+testSID+`",status="COMPLETED"} 200`,
		`twilio_operation_messages_queued{account="`+testSID+`",status="PROCESSING"} 3`,
		`twilio_operations_failing{account="`+testSID+`",status="COMPLETED"} 1`,
		`twilio_exporter_refreshes_total{account="`+testSID+`",result="success"} 1`,
		`twilio_exporter_config_last_reload_successful 1`,
	)
	got := families(t, text.Body.String())
	for _, name := range []string{
		"twilio_exporter_build_info", "go_goroutines", "process_start_time_seconds",
		"twilio_exporter_config_last_reload_success_timestamp_seconds",
	} {
		if got[name] == nil {
			t.Errorf("%s is missing", name)
		}
	}
	for name, f := range got {
		if !strings.HasPrefix(name, "twilio_") || strings.HasSuffix(name, "_build_info") || strings.Contains(name, "_config_") {
			continue
		}
		for _, m := range f.GetMetric() {
			if !slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool { return l.GetName() == "account" && l.GetValue() == testSID }) {
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
	for _, want := range []string{`twilio_messages_created{account="` + testSID + `"} `, "# EOF\n"} {
		if !strings.Contains(open.Body.String(), want) {
			t.Errorf("%q is missing in OpenMetrics", want)
		}
	}
}

// TestScrapesCostNothing holds that only /metrics in on-scrape mode and /probe
// make requests.
func TestScrapesCostNothing(t *testing.T) {
	api := newTestAPI(t, testOperation(1, twilio.StatusCompleted, twilio.Stats{Total: 1}))
	s := testSite(t, api)
	refresh(t, s)
	before := api.Requests().Started()
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
	if after := api.Requests().Started(); after != before {
		t.Errorf("%d requests", after-before)
	}
}

func TestOnScrapeSharesARefresh(t *testing.T) {
	api := newTestAPI(t, testOperation(1, twilio.StatusCompleted, twilio.Stats{Total: 1}))
	s := testSite(t, api, "--collector.interval=0s")
	get(t, s, http.MethodGet, "/metrics")
	alone := api.Requests().Started()

	release := api.hold()
	const scrapes = 100
	bodies := make([]string, scrapes)
	var wg sync.WaitGroup
	for i := range bodies {
		wg.Go(func() { bodies[i] = get(t, s, http.MethodGet, "/metrics").Body.String() })
	}
	waitFor(t, "all scrapes to wait", func() bool { return blockedIn("collector.(*Refresher).Refresh(") == scrapes })
	release()
	wg.Wait()
	for _, body := range bodies {
		wantLines(t, body, `twilio_up{account="`+testSID+`"} 1`, `twilio_exporter_refreshes_total{account="`+testSID+`",result="success"} 2`)
	}
	if got := api.Requests().Started() - alone; got > alone {
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
	api := newTestAPI(t, testOperation(1, twilio.StatusCompleted, twilio.Stats{Total: 7}))
	s := testSite(t, api, "--collector.interval=0s", "--web.scrape-timeout-offset=100ms")
	good := get(t, s, http.MethodGet, "/metrics", scrapeTimeoutHeader+": 60")
	wantLines(t, good.Body.String(), `twilio_up{account="`+testSID+`"} 1`)

	api.Faults().MustAdd(simulator.Fault{Kind: simulator.FaultHang})
	begin := time.Now()
	late := get(t, s, http.MethodGet, "/metrics", scrapeTimeoutHeader+": 0.4")
	if took := time.Since(begin); took < 300*time.Millisecond || took > 400*time.Millisecond {
		t.Errorf("took %v, want 300 to 400 ms", took)
	}
	wantLines(t, late.Body.String(),
		`twilio_up{account="`+testSID+`"} 0`,
		`twilio_operation_messages{account="`+testSID+`",status="COMPLETED"} 7`,
	)
	if w := get(t, s, http.MethodGet, "/-/healthy"); w.Code != http.StatusOK {
		t.Errorf("healthy: %d", w.Code)
	}
	if w := get(t, s, http.MethodGet, "/-/ready"); w.Code != http.StatusOK {
		t.Errorf("ready: %d", w.Code)
	}
}

func TestReady(t *testing.T) {
	api := newTestAPI(t, testOperation(1, twilio.StatusCompleted, twilio.Stats{Total: 7}))
	s := testSite(t, api)
	if w := get(t, s, http.MethodGet, "/-/ready"); w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), `"`+testSID+`": waiting to begin`) {
		t.Errorf("before: %d %s", w.Code, w.Body)
	}
	api.Faults().MustAdd(simulator.Fault{Kind: simulator.FaultStatus, Status: http.StatusInternalServerError})
	if err := s.accounts.list()[0].refresher.Refresh(t.Context()); err == nil {
		t.Fatal("no error")
	}
	if w := get(t, s, http.MethodGet, "/-/ready"); w.Code != http.StatusOK {
		t.Errorf("after a failed refresh: %d %s", w.Code, w.Body)
	}
}

func TestProgress(t *testing.T) {
	for want, pages := range map[string][2]int{
		"waiting to begin":                {0, 0},
		"reading, 3 pages so far":         {3, 0},
		"reading, 120 of about 865 pages": {120, 865},
		"reading, 900 of about 900 pages": {900, 865},
		"reading, 0 of about 865 pages":   {0, 865},
	} {
		if got := progress(pages[0], pages[1]); got != want {
			t.Errorf("%v: %q, want %q", pages, got, want)
		}
	}
}

func TestPaths(t *testing.T) {
	api := newTestAPI(t)
	for name, tc := range map[string]struct {
		args         []string
		method, path string
		code         int
		body         string
	}{
		"healthy":          {nil, http.MethodGet, "/-/healthy", http.StatusOK, "Healthy.\n"},
		"healthy by HEAD":  {nil, http.MethodHead, "/-/healthy", http.StatusOK, "Healthy.\n"},
		"healthy by POST":  {nil, http.MethodPost, "/-/healthy", http.StatusMethodNotAllowed, "Method Not Allowed\n"},
		"reload off":       {nil, http.MethodPost, "/-/reload", http.StatusForbidden, "Reloading by request is off: start with --web.enable-lifecycle, or send SIGHUP.\n"},
		"reload by GET":    {[]string{"--web.enable-lifecycle"}, http.MethodGet, "/-/reload", http.StatusMethodNotAllowed, "Method Not Allowed\n"},
		"reload, no file":  {[]string{"--web.enable-lifecycle"}, http.MethodPost, "/-/reload", http.StatusOK, "Reloaded.\n"},
		"unknown":          {nil, http.MethodGet, "/nowhere", http.StatusNotFound, "404 page not found\n"},
		"pprof off":        {nil, http.MethodGet, "/debug/pprof/cmdline", http.StatusNotFound, "404 page not found\n"},
		"other path":       {[]string{"--web.telemetry-path=/m"}, http.MethodGet, "/metrics", http.StatusNotFound, "404 page not found\n"},
		"requests off mux": {nil, http.MethodGet, "/debug/requests", http.StatusNotFound, "404 page not found\n"},
	} {
		t.Run(name, func(t *testing.T) {
			w := get(t, testSite(t, api, tc.args...), tc.method, tc.path)
			if w.Code != tc.code || w.Body.String() != tc.body {
				t.Errorf("%d %q, want %d %q", w.Code, w.Body, tc.code, tc.body)
			}
			if w.Header().Get("X-Content-Type-Options") != "nosniff" {
				t.Error("browsers may guess the type")
			}
		})
	}
	s := testSite(t, api, "--web.enable-pprof", "--web.telemetry-path=/m")
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/goroutine?debug=1", "/m"} {
		if w := get(t, s, http.MethodGet, path); w.Code != http.StatusOK {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
}

// TestPatient holds that a long wait for the API outlives the server's
// deadlines, and that the answer does not.
func TestPatient(t *testing.T) {
	proceed := make(chan struct{})
	mux := http.NewServeMux()
	mux.Handle("/patient", patient(func(w http.ResponseWriter, r *http.Request) {
		<-proceed
		answering(w)
		say(w, http.StatusOK, "gone: %v", r.Context().Err())
	}))
	mux.HandleFunc("/hasty", func(w http.ResponseWriter, _ *http.Request) {
		<-proceed
		say(w, http.StatusOK, "late")
	})
	server := newServer(mux, slog.New(slog.DiscardHandler))
	server.ReadTimeout, server.WriteTimeout = 50*time.Millisecond, 50*time.Millisecond
	s := httptest.NewUnstartedServer(nil)
	s.Config = server
	s.Start()
	defer s.Close()
	time.AfterFunc(200*time.Millisecond, func() { close(proceed) })

	var wg sync.WaitGroup
	wg.Go(func() {
		if body, err := fetchURL(t.Context(), s.URL+"/patient"); err != nil || body != "gone: <nil>\n" {
			t.Errorf("patient: %q, %v", body, err)
		}
	})
	wg.Go(func() {
		if body, err := fetchURL(t.Context(), s.URL+"/hasty"); err == nil {
			t.Errorf("the server has no deadline: %q", body)
		}
	})
	wg.Wait()
}

func fetchURL(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", err
	}
	req.Close = true // leaves no idle connection, hence no goroutine
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%w %d", errStatus, resp.StatusCode)
	}
	return string(b), err
}

// errStatus is any status but 200.
var errStatus = errors.New("status")

// waitFor polls; what is waited for has no channel to say so.
func waitFor(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			tb.Fatalf("waited in vain for %s", what)
		case <-tick.C:
		}
	}
}
