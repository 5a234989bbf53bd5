package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"twilio_operations_exporter/twilio"
	"twilio_operations_exporter/twilio/simulator"
)

// newOperations lists ever new operations of a status, of the last hour, in pages of which each has a next one.
type newOperations struct {
	page []byte // of which the ids, and the token, are yet to be written
	last atomic.Int64
}

const (
	idsOnPage = 1000
	noDigits  = "0000000000000000000000000" // the end of an id, of as many digits
)

func listNewOperations(status twilio.Status) *newOperations {
	var ops []string
	for i := range idsOnPage {
		created := time.Now().Add(-time.Duration(i%60) * time.Minute).UTC().Format(time.RFC3339)
		ops = append(ops, fmt.Sprintf(`{"id":"comms_operation_0%s","status":%q,"createdAt":%q,"updatedAt":%q,"stats":`+
			`{"total":100,"recipients":100,"attempts":100,"unaddressable":0,"scheduled":0,"queued":0,"sent":0,"delivered":90,`+
			`"read":0,"undelivered":0,"failed":10,"canceled":0}}`, noDigits, status, created, created))
	}
	page := fmt.Sprintf(`{"operations":[%s],"pagination":{"next":"%s"}}`, strings.Join(ops, ","), noDigits)
	return &newOperations{page: []byte(page)}
}

func (a *newOperations) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	n := a.last.Add(idsOnPage + 1)
	page := bytes.Clone(a.page)
	for rest := page; ; n++ {
		i := bytes.Index(rest, []byte(noDigits))
		if i < 0 {
			break
		}
		digits := strconv.FormatInt(n, 10)
		copy(rest[i+len(noDigits)-len(digits):], digits)
		rest = rest[i+len(noDigits):]
	}
	_, _ = w.Write(page)
}

// TestListsWithoutEnd lists ever new operations, in flight or done, to many accounts at the same time: their refreshes
// fail, and memory is bounded.
func TestListsWithoutEnd(t *testing.T) {
	for _, tt := range []struct {
		accounts int
		status   twilio.Status
		most     int64 // bytes
	}{
		{4, twilio.StatusProcessing, 64e6},
		{20, twilio.StatusCompleted, 150e6},
	} {
		t.Run(fmt.Sprintf("%d accounts, %s", tt.accounts, tt.status), func(t *testing.T) {
			server := httptest.NewServer(listNewOperations(tt.status))
			defer server.Close()
			defer server.CloseClientConnections()
			var names []string
			for i := range tt.accounts {
				names = append(names, "good-"+strconv.Itoa(i))
			}
			p := startFleet(t, "exporter", server, names, "--collector.interval=5s", "--twilio.rate-limit=0")
			refreshed(t, p, names, `twilio_exporter_refresh_errors_total{account=%q,reason="pagination"}`)
			peak := peakMemory(t, p)
			t.Logf("at most %d MB resident", peak/1e6)
			if peak > tt.most {
				t.Errorf("%d MB resident, want at most %d", peak/1e6, tt.most/1e6)
			}
		})
	}
}

// TestManyInFlight has an account of which 300,000 operations are scheduled, and which keeps its state: they are
// counted, in little memory.
func TestManyInFlight(t *testing.T) {
	const scheduled = 300_000
	now := time.Now().Truncate(time.Second)
	ops := make([]twilio.Operation, scheduled)
	for i := range ops {
		created := now.Add(-time.Duration(i) * 200 * time.Millisecond)
		ops[i] = twilio.Operation{
			ID:        fmt.Sprintf("comms_operation_0%025d", i),
			Status:    twilio.StatusScheduled,
			Stats:     twilio.Stats{twilio.Total: 3, twilio.Scheduled: 3},
			CreatedAt: created,
			UpdatedAt: created,
		}
	}
	server := httptest.NewServer(simulator.NewHandler(simulator.NewStatic(ops...), simulator.Settings{}))
	defer server.Close()
	defer server.CloseClientConnections()

	names := []string{"good-0"}
	args := []string{"--collector.interval=1s", "--twilio.rate-limit=0", "--storage.path=" + t.TempDir()}
	p := startFleet(t, "exporter", server, names, args...)
	const refreshes = `twilio_exporter_refreshes_total{account="good-0",result="success"}`
	eventually(t, "three refreshes", func() error {
		samples := scrapeSamples(t, p.url("/metrics"))
		if n := sampleOf(t, samples, refreshes); n < 3 {
			return fmt.Errorf("%v refreshes", n)
		}
		messages := sampleOf(t, samples, `twilio_operation_messages{account="good-0",status="SCHEDULED"}`)
		if messages != 3*scheduled {
			t.Fatalf("%v messages, want %d", messages, 3*scheduled)
		}
		return nil
	})
	peak := peakMemory(t, p)
	t.Logf("at most %d MB resident", peak/1e6)
	if peak > 64e6 {
		t.Errorf("%d MB resident, want at most 64", peak/1e6)
	}
}
