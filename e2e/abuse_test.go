package e2e

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// TestManyScrapers lets 60 clients ask for the metrics of 200 accounts without reading them, and 40 more at once that
// do: the latter get theirs, and memory stays bounded. It is 187 MB with 200 and 100 clients as well.
func TestManyScrapers(t *testing.T) {
	names := make([]string, 200)
	for i := range names {
		names[i] = fmt.Sprintf("good-%d", i)
	}
	server := httptest.NewServer(newFleet(names))
	defer server.Close()
	defer server.CloseClientConnections()
	p := startFleet(t, "exporter", server, names, "--collector.interval=5s")
	refreshed(t, p, names, `twilio_exporter_refreshes_total{account=%q,result="success"}`)
	before := peakMemory(t, p)

	for range 60 {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", p.address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		_ = conn.(*net.TCPConn).SetReadBuffer(4096)
		_, _ = io.WriteString(conn, "GET /metrics HTTP/1.1\r\nHost: exporter\r\n\r\n")
		if _, err := conn.Read(make([]byte, 1)); err != nil {
			t.Errorf("no answer begins: %v", err)
		}
	}
	var parallel sync.WaitGroup
	for range 40 {
		parallel.Go(func() {
			if _, err := get(t.Context(), p.url("/metrics")); err != nil {
				t.Error(err)
			}
		})
	}
	parallel.Wait()
	peak := peakMemory(t, p)
	t.Logf("at most %d MB resident, %d before", peak/1e6, before/1e6)
	if peak > 240e6 {
		t.Errorf("%d MB resident, want at most 240", peak/1e6)
	}
}

// TestHostileAPI has four requests in flight that get an answer without end: the refreshes fail, and the program stays
// small.
func TestHostileAPI(t *testing.T) {
	for _, tt := range []struct{ name, head, more string }{
		{"white space", "", " \n"},
		{"a string", `{"x":"`, "a"},
		{"an id", `{"operations":[{"id":"`, "a"},
		{"strings", `{"x":[["a"`, `,"` + strings.Repeat("a", 1000) + `"`},
	} {
		for _, how := range []string{"plain", "gzip", "HTTP/2"} {
			t.Run(tt.name+", "+how, func(t *testing.T) {
				t.Parallel()
				server := httptest.NewUnstartedServer(endless(tt.head, tt.more, how == "gzip"))
				server.EnableHTTP2 = how == "HTTP/2"
				if server.EnableHTTP2 {
					server.StartTLS()
				} else {
					server.Start()
				}
				defer server.Close()
				defer server.CloseClientConnections()
				names := []string{"a", "b", "c", "d"}
				p := startFleet(t, "exporter", server, names, "--collector.interval=1s")
				refreshed(t, p, names, `twilio_exporter_refresh_errors_total{account=%q,reason="decode"}`)
				peak := peakMemory(t, p)
				t.Logf("at most %d MB resident", peak/1e6)
				if peak > 64e6 {
					t.Errorf("%d MB resident, want at most 64", peak/1e6)
				}
			})
		}
	}
}

// endless answers with head and then more, again and again.
func endless(head, more string, zip bool) http.Handler {
	start, chunk := []byte(head), bytes.Repeat([]byte(more), 1<<20/len(more))
	if zip {
		start, chunk = zipped(start), zipped(chunk) // streams in a row are one
	}
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if zip {
			w.Header().Set("Content-Encoding", "gzip")
		}
		_, err := w.Write(start)
		for err == nil {
			_, err = w.Write(chunk)
		}
	})
}

func zipped(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write(b)
	_ = w.Close()
	return out.Bytes()
}

// refreshed waits until a counter of every account has moved.
func refreshed(t *testing.T, p *process, names []string, counter string) {
	t.Helper()
	eventually(t, "every account's refresh", func() error {
		samples := scrapeSamples(t, p.url("/metrics"))
		for _, name := range names {
			if sampleOf(t, samples, fmt.Sprintf(counter, name)) == 0 {
				return fmt.Errorf("%s has not ended one", name)
			}
		}
		return nil
	})
}

// peakMemory is the most memory that a process has had resident, in bytes.
func peakMemory(t *testing.T, p *process) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, value, _ := strings.Cut(string(status), "VmHWM:")
	kibibytes, err := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kibibytes * 1024
}
