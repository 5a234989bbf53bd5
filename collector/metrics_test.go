package collector

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/expfmt"

	"twilio_operations_exporter/collector/window"
	"twilio_operations_exporter/twilio"
)

// fixed is an account as one scrape shows it. All samples differ.
func fixed() scraped {
	created := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
	restarted := created.Add(time.Hour)
	at := created.Add(2 * time.Hour)
	s := settings()
	s.Account, s.Window = `marketing "EU"`, 24*time.Hour
	s.AccountSID, s.Tags = "AC0123", OperationTags{"campaign", "cost-center"}
	snapshot := &window.Snapshot{}

	for i, status := range []twilio.Status{"SCHEDULED", "PROCESSING", "COMPLETED", "CANCELED", "PAUSED"} {
		n := int64(i+1) * 1000
		sums := window.StatusSums{Status: status, Totals: window.Totals{Operations: n, Failing: n + 1, Stats: twilio.Stats{
			twilio.Total: n + 2, twilio.Recipients: n + 3, twilio.Attempts: n + 4, twilio.Unaddressable: n + 5, twilio.Scheduled: n + 6, twilio.Queued: n + 7,
			twilio.Sent: n + 8, twilio.Delivered: n + 9, twilio.Read: n + 10, twilio.Undelivered: n + 11, twilio.Failed: n + 12, twilio.Canceled: n + 13,
		}}}
		if status.Live() {
			sums.OldestCreated = created.Add(time.Duration(i) * time.Minute)
			sums.OldestUpdated = created.Add(time.Duration(i)*time.Minute + 1500*time.Millisecond)
		}
		snapshot.Statuses = append(snapshot.Statuses, sums)
	}

	snapshot.Created = 3100
	snapshot.Grown = twilio.Stats{
		twilio.Total: 111, twilio.Recipients: 222, twilio.Unaddressable: 333, twilio.Attempts: 444, twilio.Delivered: 555, twilio.Read: 666, twilio.Undelivered: 777,
		twilio.Failed: 888, twilio.Canceled: 999, twilio.Queued: 1, twilio.Scheduled: 2, twilio.Sent: 3,
	}

	for i := range 4 {
		op := &twilio.Operation{
			ID: fmt.Sprint("comms_operation_", i), Status: twilio.StatusProcessing,
			CreatedAt: created.Add(time.Duration(i) * time.Second), UpdatedAt: created.Add(time.Duration(i) * time.Hour),
			Stats: twilio.Stats{twilio.Total: 1000 + int64(i), twilio.Delivered: 500, twilio.Undelivered: 100, twilio.Failed: 200},
		}
		snapshot.Failing = append(snapshot.Failing, op)
		if i > 1 {
			snapshot.Stuck = append(snapshot.Stuck, op)
		}
	}

	empty := settings()
	empty.Account, empty.Tags = "starting", s.Tags
	read := &view{
		settings: &s, created: created, started: restarted, up: true, succeeded: at, throttled: 90 * time.Second,
		skew: -1500 * time.Millisecond, skewKnown: true, snapshot: snapshot,
		results: map[string]int{"success": 1001, "error": 9}, errors: zeroErrors(),
	}

	read.errors["server"], read.errors["network"] = 5, 4
	starting := &view{
		settings: &empty, created: restarted, started: restarted, snapshot: &window.Snapshot{},
		results: map[string]int{"success": 0, "error": 0}, errors: zeroErrors(),
	}

	read.sampled = Sampled{}.with(snapshot.Failing[0], []SampledMessage{
		{ID: "1", Code: "30007", Channel: "SMS", Tags: map[string]string{"campaign": "spring \"26\"", "cost-center": "7"}},
		{ID: "2", Code: "30007", Channel: "SMS", Tags: map[string]string{"campaign": "spring \"26\"", "cost-center": "8"}},
		{ID: "3", Code: NoError, Channel: "RCS", Tags: map[string]string{"campaign": "spring \"26\""}},
	}, at)

	read.sampled = read.sampled.with(snapshot.Failing[3], []SampledMessage{{ID: "4", Code: "30003", Channel: "SMS"}}, at) // not named
	read.collected = collectAll(read).all
	starting.collected = collectAll(starting).all
	return scraped{read, starting}
}

// fixedEmails is the same as an account of e-mails.
func fixedEmails() scraped {
	emails := *fixed()[0]
	s := *emails.settings
	s.Resource = twilio.Emails
	emails.settings, emails.sampled = &s, Sampled{}
	emails.collected = collectAll(&emails).all
	return scraped{&emails}
}

// TestHelpOfEmails checks that no HELP text of an account of e-mails speaks only of messages.
func TestHelpOfEmails(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(fixedEmails())
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		help := strings.ToLower(family.GetHelp())
		if strings.Contains(help, "message") && !strings.Contains(help, "e-mail") {
			t.Errorf("%s: %s", family.GetName(), family.GetHelp())
		}
	}
}

func TestExposition(t *testing.T) {
	for _, tt := range []struct {
		file    string
		of      scraped
		format  expfmt.Format
		options []expfmt.EncoderOption
	}{
		{"exposition.txt", fixed(), expfmt.NewFormat(expfmt.TypeTextPlain), nil},
		{"exposition.openmetrics", fixed(), expfmt.NewFormat(expfmt.TypeOpenMetrics), []expfmt.EncoderOption{expfmt.WithCreatedLines()}},
		{"emails.txt", fixedEmails(), expfmt.NewFormat(expfmt.TypeTextPlain), nil},
	} {
		t.Run(tt.file, func(t *testing.T) {
			reg := prometheus.NewPedanticRegistry()
			reg.MustRegister(tt.of)
			families, err := reg.Gather()
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			e := expfmt.NewEncoder(&got, tt.format, tt.options...)

			for _, f := range families {
				if err = e.Encode(f); err != nil {
					t.Fatal(err)
				}
			}

			if c, ok := e.(expfmt.Closer); ok {
				if err = c.Close(); err != nil {
					t.Fatal(err)
				}
			}

			file := filepath.Join("testdata", tt.file)
			if update() {
				if err = os.WriteFile(file, got.Bytes(), 0o600); err != nil {
					t.Fatal(err)
				}
			}

			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got.String()); diff != "" {
				t.Errorf("not %s, which -update writes anew (-want +got):\n%s", file, diff)
			}
		})
	}
}

func TestLint(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	m := NewMetrics(reg).Account("test")
	m.Observe(twilio.Request{Endpoint: twilio.EndpointList, Code: 200, Duration: time.Second})
	m.Observe(twilio.Request{Endpoint: twilio.EndpointFetch, Duration: time.Second})
	reg.MustRegister(fixed())
	problems, err := testutil.GatherAndLint(reg)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestDescribe(t *testing.T) {
	described := make(map[*prometheus.Desc]bool)
	descs := make(chan *prometheus.Desc, 1000)
	fixed().Describe(descs)
	close(descs)
	for d := range descs {
		if described[d] {
			t.Errorf("%v is described twice", d)
		}
		described[d] = true
	}

	sent := make(map[*prometheus.Desc]bool)
	samples := make(chan prometheus.Metric, 1000)
	fixed().Collect(samples)
	close(samples)
	for m := range samples {
		if !described[m.Desc()] {
			t.Errorf("%v is sent and not described", m.Desc())
		}
		sent[m.Desc()] = true
	}

	for d := range described {
		if !sent[d] {
			t.Errorf("%v is described and not sent", d)
		}
	}
}

func TestOwnMetrics(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	own := NewMetrics(reg)
	m := own.Account("a")
	own.Account("b")
	for _, r := range []twilio.Request{
		{Endpoint: twilio.EndpointList, Code: 200, Duration: time.Second},
		{Endpoint: twilio.EndpointList, Code: 200, Duration: time.Second},
		{Endpoint: twilio.EndpointList, Code: 503},
		{Endpoint: twilio.EndpointFetch, Code: 404},
		{Endpoint: twilio.EndpointList, Code: 299},
		{Endpoint: twilio.EndpointList, Code: 999},
		{Endpoint: twilio.EndpointList},
	} {
		m.Observe(r)
	}

	m.operations.Add(7)
	const want = `
# HELP twilio_exporter_api_requests_total Requests to the API, including retries, by HTTP status code; "other" for unregistered codes, "error" if there was no complete response.
# TYPE twilio_exporter_api_requests_total counter
twilio_exporter_api_requests_total{account="a",code="200",endpoint="list_operations"} 2
twilio_exporter_api_requests_total{account="a",code="404",endpoint="fetch_operation"} 1
twilio_exporter_api_requests_total{account="a",code="503",endpoint="list_operations"} 1
twilio_exporter_api_requests_total{account="a",code="error",endpoint="list_operations"} 1
twilio_exporter_api_requests_total{account="a",code="other",endpoint="list_operations"} 2
twilio_exporter_api_requests_total{account="b",code="200",endpoint="list_operations"} 0
# HELP twilio_exporter_operations_read_total Operations decoded from responses of the API, counted each time they are read.
# TYPE twilio_exporter_operations_read_total counter
twilio_exporter_operations_read_total{account="a"} 7
twilio_exporter_operations_read_total{account="b"} 0
`

	if err := testutil.GatherAndCompare(reg, strings.NewReader(want),
		"twilio_exporter_api_requests_total", "twilio_exporter_operations_read_total"); err != nil {
		t.Error(err)
	}

	own.Remove("a")
	own.Remove("b")
	if n, err := testutil.GatherAndCount(reg); n != 0 || err != nil {
		t.Errorf("%d series are left, error %v", n, err)
	}
}

// TestUndocumentedStatuses checks that up to 16 undocumented statuses keep their names, and that any text can be a
// label.
func TestUndocumentedStatuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		names := []twilio.Status{`quo"te`, "new \"line\"", `back\slash`, "caf\u00e9", "other"}
		for i := range 12 {
			names = append(names, twilio.Status(fmt.Sprint("STATUS_", i)))
		}
		late := []twilio.Status{"LATE_1", "LATE_2", "LATE_3"}
		g := newRig(t, nil)

		var ops []twilio.Operation
		for i, status := range append(append(names[:17:17], late...), names...) {
			ops = append(ops, twilio.Operation{
				ID: fmt.Sprint("comms_operation_", i), Status: status,
				CreatedAt: time.Now().Add(-time.Duration(1 + i)), UpdatedAt: time.Now(), Stats: twilio.Stats{twilio.Total: 1},
			})
		}

		g.list.set(ops...)
		for range 2 {
			_ = g.RefreshOnce(t.Context())
			got := g.scrape(t.Context())
			want := map[string]float64{"twilio_up": 1, "twilio_operations/LATE_1": none, "twilio_operations/COMPLETED": 0}
			for _, name := range names {
				want["twilio_operations/"+string(name)] = 2
			}
			want["twilio_operations/other"] += float64(len(late))
			g.want(got, want)

			n := 0
			for name := range got {
				if strings.HasPrefix(name, "twilio_operations/") {
					n++
				}
			}

			if n != 4+16+1 {
				t.Errorf("%d statuses, want 21", n)
			}
		}

		// One that is gone is not shown, and has its name when it comes back.
		g.list.set(ops[0])
		wait(time.Minute)
		_ = g.RefreshOnce(t.Context())
		g.want(
			g.scrape(t.Context()),
			map[string]float64{
				"twilio_operations/STATUS_0": none,
				"twilio_operations/other":    none,
				`twilio_operations/quo"te`:   1,
			},
		)
	})
}
