package web

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"

	"twilio_operations_exporter/internal/testutil"
	"twilio_operations_exporter/twilio"
	"twilio_operations_exporter/twilio/simulator"
)

// example is an example body of the reference. It is decoded independently of the client, by the names in the
// reference.
type example struct {
	ID        string             `json:"id"`
	Status    twilio.Status      `json:"status"`
	Stats     map[string]float64 `json:"stats"`
	CreatedAt time.Time          `json:"createdAt"`
	UpdatedAt time.Time          `json:"updatedAt"`
}

// TestProbeExamples checks that the probe of each documented example has exactly its numbers.
func TestProbeExamples(t *testing.T) {
	files, err := filepath.Glob("../../twilio/testdata/operation-*.json")
	if err != nil || len(files) < 4 {
		t.Fatalf("examples: %q, %v", files, err)
	}
	names := map[string]string{
		"total":         "messages",
		"recipients":    "recipients",
		"attempts":      "attempts",
		"unaddressable": "recipients_unaddressable",
		"scheduled":     "messages_scheduled",
		"queued":        "messages_queued",
		"sent":          "messages_sent",
		"delivered":     "messages_delivered",
		"read":          "messages_read",
		"undelivered":   "messages_undelivered",
		"failed":        "messages_failed",
		"canceled":      "messages_canceled",
	}

	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var e example
			if err := json.Unmarshal(b, &e); err != nil {
				t.Fatal(err)
			}
			stat := func(name string) int64 { return int64(e.Stats[name]) }
			s := testServer(t, testutil.New(t, twilio.Operation{
				ID:        e.ID,
				Status:    e.Status,
				CreatedAt: e.CreatedAt,
				UpdatedAt: e.UpdatedAt,
				Stats: twilio.Stats{
					twilio.Total:         stat("total"),
					twilio.Recipients:    stat("recipients"),
					twilio.Attempts:      stat("attempts"),
					twilio.Unaddressable: stat("unaddressable"),
					twilio.Scheduled:     stat("scheduled"),
					twilio.Queued:        stat("queued"),
					twilio.Sent:          stat("sent"),
					twilio.Delivered:     stat("delivered"),
					twilio.Read:          stat("read"),
					twilio.Undelivered:   stat("undelivered"),
					twilio.Failed:        stat("failed"),
					twilio.Canceled:      stat("canceled"),
				},
			}))

			w := get(t, s, http.MethodGet, "/probe?target="+e.ID)
			if w.Code != http.StatusOK {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			text := w.Body.String()
			labels := fmt.Sprintf(`{account=%q,operation=%q`, testutil.SID, e.ID)
			want := []string{
				fmt.Sprintf(`twilio_probe_success{account=%q} 1`, testutil.SID),
				fmt.Sprintf(`twilio_probe_operation_info%s,status=%q} 1`, labels, e.Status),
			}

			if len(e.Stats) != len(names) {
				t.Fatalf("%d stats", len(e.Stats))
			}
			for name, value := range e.Stats {
				want = append(want, fmt.Sprintf("twilio_probe_%s%s} %v", names[name], labels, value))
			}
			testutil.WantSamples(t, text, want...)
			got := families(t, text)

			for name, at := range map[string]time.Time{"created": e.CreatedAt, "updated": e.UpdatedAt} {
				value := got["twilio_probe_operation_"+name+"_timestamp_seconds"].GetMetric()[0].GetGauge().GetValue()
				if want := float64(at.UnixMilli()) / 1000; value != want {
					t.Errorf("%s: %v, want %v", name, value, want)
				}
			}

			// Two without the operation, three about it, twelve stats: and nothing
			// under the names of /metrics.
			if len(got) != 5+len(names) {
				t.Errorf("%d families", len(got))
			}
			for name := range got {
				if !strings.HasPrefix(name, "twilio_probe_") {
					t.Errorf("family %s", name)
				}
			}
		})
	}
}

func TestProbeParameters(t *testing.T) {
	id := testutil.Operation(1, "", twilio.Stats{}).ID
	api := testutil.New(t, testutil.Operation(1, twilio.StatusCompleted, twilio.Stats{twilio.Total: 7}))
	one := testServer(t, api)
	two, _ := testFileServer(t, api, "a", "b")
	const usage = ": /probe?target=comms_operation_…&account=NAME\n"
	for name, tc := range map[string]struct {
		s     *Server
		query string
		code  int
		body  string // "": not compared
	}{
		"no target":    {one, "", http.StatusBadRequest, "want exactly one target, an operation ID" + usage},
		"empty target": {one, "target=", http.StatusBadRequest, "want exactly one target, an operation ID" + usage},
		"two targets": {
			one, "target=" + id + "&target=" + id, http.StatusBadRequest, "want exactly one target, an operation ID" + usage,
		},
		"a query that breaks off": {
			two, "target=" + id + "&account=a&account=b%", http.StatusBadRequest,
			`the query cannot be read: invalid URL escape "%"` + usage,
		},
		"bad target": {
			one, "target=..%2Fx", http.StatusBadRequest,
			`target "../x" is not an operation ID: want /probe?target=comms_operation_…&account=NAME` + "\n",
		},
		"two accounts": {
			one, "target=" + id + "&account=a&account=b", http.StatusBadRequest, "want at most one account" + usage,
		},
		"unknown account": {
			one, "target=" + id + "&account=x%0Ay", http.StatusBadRequest,
			`account "x\ny" is unknown: choose one of "` + testutil.SID + "\"\n",
		},
		"account needed": {
			two, "target=" + id, http.StatusBadRequest, `there are several accounts: choose one of "a", "b"` + usage,
		},
		"account":       {two, "target=" + id + "&account=b", http.StatusOK, ""},
		"own account":   {one, "target=" + id + "&account=" + testutil.SID, http.StatusOK, ""},
		"empty account": {one, "target=" + id + "&account=", http.StatusOK, ""},
	} {
		t.Run(name, func(t *testing.T) {
			before := api.Requests()
			w := get(t, tc.s, http.MethodGet, "/probe?"+tc.query)
			if w.Code != tc.code || tc.body != "" && w.Body.String() != tc.body {
				t.Errorf("%d %q, want %d %q", w.Code, w.Body, tc.code, tc.body)
			}
			if asked := api.Requests() - before; asked != 0 && tc.code != http.StatusOK {
				t.Errorf("%d requests for nonsense", asked)
			}
		})
	}

	if w := get(t, one, http.MethodPost, "/probe?target="+id); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", w.Code)
	}
}

func TestSomeNames(t *testing.T) {
	s, _ := testFileServer(t, testutil.New(t), strings.Split("abcdefghijkl", "")...)
	if got, want := someNames(
		s.accounts.List(),
	), `"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", 2 others`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestProbeFailures checks that an operation that cannot be read is success 0, without metrics of an operation.
func TestProbeFailures(t *testing.T) {
	one, two := testutil.Operation(1, "", twilio.Stats{}).ID, testutil.Operation(2, "", twilio.Stats{}).ID
	for name, tc := range map[string]struct {
		fault  simulator.Fault
		target string
		hangs  bool
		reason string
	}{
		"unknown":  {simulator.Fault{Kind: simulator.FaultLatency, Latency: 1}, two, false, "not_found"},
		"server":   {simulator.Fault{Kind: simulator.FaultStatus, Status: http.StatusInternalServerError}, one, false, "server"},
		"HTML":     {simulator.Fault{Kind: simulator.FaultHTML}, one, false, "decode"},
		"too slow": {simulator.Fault{Kind: simulator.FaultHang}, one, true, "timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			api := testutil.New(t, testutil.Operation(1, twilio.StatusCompleted, twilio.Stats{twilio.Total: 7}))
			s := testServer(t, api)
			api.Faults().MustAdd(tc.fault)
			var timeout []string
			if tc.hangs {
				timeout = []string{scrapeTimeoutHeader + ": 0.2"}
			}
			w := get(t, s, http.MethodGet, "/probe?target="+tc.target, timeout...)
			testutil.WaitFor(t, "the request that nobody waits for to be dropped", func() bool {
				n := api.InFlight()
				return n == 0
			})

			lines := testutil.Samples(w.Body.String())
			if w.Code != http.StatusOK || len(lines) != 3 ||
				!slices.Contains(lines, fmt.Sprintf(`twilio_probe_success{account=%q} 0`, testutil.SID)) ||
				!slices.Contains(lines, fmt.Sprintf(`twilio_probe_error_info{account=%q,reason=%q} 1`, testutil.SID, tc.reason)) {
				t.Errorf("%d %q", w.Code, lines)
			}
		})
	}
}

// TestProbeDebug checks that debug=true answers with the log of the probe, as blackbox_exporter does, without secrets.
func TestProbeDebug(t *testing.T) {
	one, two := testutil.Operation(1, "", twilio.Stats{}).ID, testutil.Operation(2, "", twilio.Stats{}).ID
	s := testServer(t, testutil.New(t, testutil.Operation(1, twilio.StatusCompleted, twilio.Stats{twilio.Total: 7})))
	logged := new(testutil.Log)
	s.logger = level.NewFilter(log.NewLogfmtLogger(logged), level.AllowInfo())
	for name, tc := range map[string]struct {
		query string
		want  []string
		log   string // of the exporter itself
	}{
		"good": {
			"target=" + one + "&debug=true",
			[]string{
				"Logs for the probe:\n", `msg="probe started" account=` + testutil.SID + " operation=" + one + " timeout=",
				`msg="probe succeeded" status=COMPLETED`, "\nMetrics that would have been returned:\n", "} 7\n",
			}, "",
		},
		"bad": {
			"target=" + two + "&debug=true",
			[]string{"level=error time=", `msg="probe failed" reason=not_found err="fetch_operation: 404`, `reason="not_found"} 1`},
			`level=info account=` + testutil.SID + " operation=" + two + ` msg="probe of an unknown operation" err="fetch_operation: 404`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			logged.Reset()
			w := get(t, s, http.MethodGet, "/probe?"+tc.query, scrapeTimeoutHeader+": 10")
			for _, want := range tc.want {
				if !strings.Contains(w.Body.String(), want) {
					t.Errorf("%q is not in the answer:\n%s", want, w.Body)
				}
			}

			if !strings.HasPrefix(logged.String(), tc.log) || tc.log == "" && logged.String() != "" {
				t.Errorf("logged %q, want %q", logged, tc.log)
			}
			if strings.Contains(w.Body.String(), testutil.Token) {
				t.Errorf("it shows the secret:\n%s", w.Body)
			}
		})
	}

	if w := get(t, s, http.MethodGet, "/probe?target="+one+"&debug=yes"); w.Code != http.StatusBadRequest {
		t.Errorf("debug=yes: %d %s", w.Code, w.Body)
	}
}

func TestProbesShareAFetch(t *testing.T) {
	api := testutil.New(t, testutil.Operation(1, twilio.StatusCompleted, twilio.Stats{twilio.Total: 7}))
	s := testServer(t, api)
	release := api.Hold()
	const probes = 50
	var wg sync.WaitGroup
	for range probes {
		wg.Go(func() {
			w := get(t, s, http.MethodGet, "/probe?target="+testutil.Operation(1, "", twilio.Stats{}).ID)
			testutil.WantSamples(t, w.Body.String(), fmt.Sprintf(`twilio_probe_success{account=%q} 1`, testutil.SID))
		})
	}

	testutil.WaitFor(t, "all probes to wait", func() bool { return blockedIn("account.(*Account).Fetch(") == probes })
	release()
	wg.Wait()
	if got := api.Requests(); got != 1 {
		t.Errorf("%d requests", got)
	}
}

// TestProbeKeepsTheCooldown checks that after a 429 a probe waits like every request of its account.
func TestProbeKeepsTheCooldown(t *testing.T) {
	api := testutil.New(t, testutil.Operation(1, twilio.StatusCompleted, twilio.Stats{twilio.Total: 7}))
	s := testServer(t, api, "--web.scrape-timeout-offset=100ms")
	api.Faults().MustAdd(
		simulator.Fault{Kind: simulator.FaultStatus, Status: http.StatusTooManyRequests, RetryAfter: time.Hour, Count: 1},
	)
	if err := s.accounts.List()[0].Refresher.Refresh(t.Context()); err == nil {
		t.Fatal("no error")
	}
	w := get(
		t, s, http.MethodGet, "/probe?target="+testutil.Operation(1, "", twilio.Stats{}).ID, scrapeTimeoutHeader+": 0.3",
	)
	testutil.WantSamples(t, w.Body.String(), fmt.Sprintf(`twilio_probe_success{account=%q} 0`, testutil.SID))
	if got := api.Requests(); got != 1 {
		t.Errorf("%d requests", got)
	}
}

// TestManyProbes checks that hundreds of probes, of an API that does not answer them, do not keep refreshes from
// succeeding, and leave nothing behind once their scrapers have gone.
func TestManyProbes(t *testing.T) {
	const probes, rounds = 300, 3
	api := testutil.New(t, testutil.Operation(1, twilio.StatusCompleted, twilio.Stats{twilio.Total: 7}))
	api.Faults().MustAdd(simulator.Fault{Kind: simulator.FaultHang, Endpoint: twilio.EndpointFetch})
	s := testServer(t, api)
	h := s.Handler(t.Context())
	refresh(t, s)
	before := runtime.NumGoroutine()

	for range rounds {
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for n := range probes {
			wg.Go(func() {
				id := testutil.Operation(n, "", twilio.Stats{}).ID
				r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/probe?target="+id, http.NoBody)
				h.ServeHTTP(httptest.NewRecorder(), r)
			})
		}

		testutil.WaitFor(t, "all probes to wait", func() bool { return blockedIn("account.(*Account).Fetch(") == probes })
		if n := runtime.NumGoroutine() - before; n > 2*probes+50 {
			t.Errorf("%d goroutines for %d probes", n, probes)
		}
		refresh(t, s)
		if n := api.InFlight(); n > 4 {
			t.Errorf("%d fetches at a time", n)
		}
		cancel()
		wg.Wait()
	}

	testutil.WaitFor(t, "the probes to be gone", func() bool {
		n := api.InFlight()
		return n == 0 && runtime.NumGoroutine() <= before+50 // a few idle connections
	})

	refresh(t, s)
}
