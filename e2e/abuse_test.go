package e2e

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"twilio_operations_exporter/twilio/simulator"
)

// TestManyScrapers lets 60 clients ask for the metrics of 200 accounts without reading them, and 40 more at once that
// do: the latter get theirs, and memory stays bounded.
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

// hostileAnswers are answers that could take any amount of memory or time, each with the reason for which a refresh ends.
var hostileAnswers = []struct {
	name   string
	reason string
	answer http.HandlerFunc
}{
	{"header lines", "decode", func(w http.ResponseWriter, _ *http.Request) {
		for n := range 10_000 {
			w.Header()[fmt.Sprintf("X-%d", n)] = slices.Repeat([]string{""}, 100) // 10 MB
		}
	}},
	{"a header line", "decode", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Long", strings.Repeat("x", 10<<20))
	}},
	{"nested names", "decode", func(w http.ResponseWriter, _ *http.Request) {
		for range 60 {
			_, _ = fmt.Fprintf(w, `{"%s":`, strings.Repeat("a", 250_000))
		}
	}},
	{"empty gzip members", "decode", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		members := bytes.Repeat(zipped(nil), 10_000)
		for {
			if _, err := w.Write(members); err != nil {
				return
			}
		}
	}},
	{"an endless error", "server", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		w.WriteHeader(http.StatusInternalServerError)
		spaces := zipped(bytes.Repeat([]byte(" "), 1<<20))
		for {
			if _, err := w.Write(spaces); err != nil {
				return
			}
		}
	}},
}

// TestHostileAnswers holds that an account's memory is bounded under hostile
// answers, however many accounts get them.
func TestHostileAnswers(t *testing.T) {
	for _, tt := range hostileAnswers {
		for _, accounts := range []struct {
			number int
			most   int64
		}{{4, 64e6}, {20, 150e6}} {
			for _, http2 := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, %d accounts, HTTP/2 %v", tt.name, accounts.number, http2), func(t *testing.T) {
					server := httptest.NewUnstartedServer(tt.answer)
					server.Config.ErrorLog = log.New(io.Discard, "", 0)
					server.EnableHTTP2 = http2
					server.StartTLS()
					defer server.Close()
					defer server.CloseClientConnections()
					var names []string
					for i := range accounts.number {
						names = append(names, fmt.Sprintf("good-%d", i))
					}
					p := startFleet(t, "exporter", server, names, "--collector.interval=1s", "--twilio.max-retries=0")
					reason := tt.reason
					if http2 && strings.Contains(tt.name, "header") {
						reason = "" // HTTP/2 says so by an error of the connection, or of the answer
					}
					eventually(t, "every account's refresh to fail", func() error {
						samples := scrapeSamples(t, p.url("/metrics"))
						for _, name := range names {
							if failures(samples, name, reason) == 0 {
								return fmt.Errorf("%s has not failed", name)
							}
						}
						return nil
					})
					peak := peakMemory(t, p)
					t.Logf("at most %d MB resident", peak/1e6)
					if peak > accounts.most {
						t.Errorf("%d MB resident, want at most %d", peak/1e6, accounts.most/1e6)
					}
				})
			}
		}
	}
}

// failures is how many refreshes of an account have failed for a reason, or for any.
func failures(samples map[string]string, name, reason string) (n int) {
	for sample, value := range samples {
		if !strings.HasPrefix(sample, fmt.Sprintf("twilio_exporter_refresh_errors_total{account=%q,", name)) {
			continue
		}
		if reason == "" || strings.Contains(sample, fmt.Sprintf("reason=%q", reason)) {
			failed, _ := strconv.Atoi(value)
			n += failed
		}
	}
	return n
}

// TestHostileScrapers lets clients of an exporter with 200 accounts send what
// never ends: memory stays what it was, or nearly so.
func TestHostileScrapers(t *testing.T) {
	names := make([]string, 200)
	for i := range names {
		names[i] = fmt.Sprintf("good-%d", i)
	}
	server := httptest.NewServer(newFleet(names))
	defer server.Close()
	defer server.CloseClientConnections()
	p := startFleet(t, "exporter", server, names, "--collector.interval=1m")
	refreshed(t, p, names, `twilio_exporter_refreshes_total{account=%q,result="success"}`)
	before := peakMemory(t, p)
	for name, head := range map[string]string{
		"bodies that do not come":  "GET /metrics HTTP/1.1\r\nHost: exporter\r\nContent-Length: 100\r\n\r\n",
		"headers without an end":   "GET /metrics HTTP/1.1\r\nHost: exporter\r\nX-Long: " + strings.Repeat("x", 1<<20),
		"header lines without end": "GET /metrics HTTP/1.1\r\nHost: exporter\r\n" + strings.Repeat("X: y\r\n", 200_000),
	} {
		t.Run(name, func(t *testing.T) {
			for range 300 {
				conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", p.address)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = conn.Close() }()
				_ = conn.SetWriteDeadline(time.Now().Add(patience))
				_, _ = io.WriteString(conn, head) // it may be refused in the middle
			}
			if _, err := get(t.Context(), p.url("/metrics")); err != nil {
				t.Error(err)
			}
			peak := peakMemory(t, p)
			t.Logf("at most %d MB resident, %d before", peak/1e6, before/1e6)
			if peak-before > 64e6 {
				t.Errorf("%d MB more, want at most 64", (peak-before)/1e6)
			}
		})
	}
}

// startSecured starts an exporter of four accounts, whose API answers at once, with TLS.
func startSecured(t *testing.T) (p *process, client *http.Client) {
	t.Helper()
	names := []string{"good-0", "good-1", "good-2", "good-3"}
	server := httptest.NewServer(simulator.NewHandler(simulator.NewStatic(), simulator.Settings{}))
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	dir := t.TempDir()
	certificate, key := selfSigned(t, "exporter.example")
	writeFile(t, filepath.Join(dir, "tls.crt"), certificate)
	writeFile(t, filepath.Join(dir, "tls.key"), key)
	writeFile(t, filepath.Join(dir, "web.yml"), []byte("tls_server_config: {cert_file: tls.crt, key_file: tls.key}\n"))
	p = startFleet(t, "exporter", server, names, "--collector.interval=1s", "--web.config.file="+filepath.Join(dir, "web.yml"))

	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // loopback
		DisableKeepAlives: true,
	}
	return p, &http.Client{Transport: transport, Timeout: patience}
}

// secureSamples are the samples of a scrape by TLS.
func secureSamples(t *testing.T, p *process, client *http.Client) map[string]string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+p.address+"/metrics", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s, %v", response.Status, err)
	}
	return samplesOf(body)
}

// wantSmall checks that a hostile client does not make an exporter of four accounts large, nor ends its refreshes.
func wantSmall(t *testing.T, p *process, client *http.Client) {
	t.Helper()
	const refreshes = `twilio_exporter_refreshes_total{account="good-0",result="success"}`
	before := sampleOf(t, secureSamples(t, p, client), refreshes)
	eventually(t, "another refresh", func() error {
		if sampleOf(t, secureSamples(t, p, client), refreshes) == before {
			return errors.New("none has ended")
		}
		return nil
	})
	peak := peakMemory(t, p)
	t.Logf("at most %d MB resident", peak/1e6)
	if peak > 64e6 {
		t.Errorf("%d MB resident, want at most 64", peak/1e6)
	}
}

// hostileHTTP2 opens an HTTP/2 connection, on which nothing may be sent in a body.
func hostileHTTP2(t *testing.T, p *process) (*tls.Conn, *http2.Framer) {
	t.Helper()
	dialer := tls.Dialer{Config: &tls.Config{
		InsecureSkipVerify: true, //nolint:gosec // loopback
		NextProtos:         []string{"h2"},
	}}
	conn, err := dialer.DialContext(t.Context(), "tcp", p.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	framer := http2.NewFramer(conn, conn)
	_, err = io.WriteString(conn, http2.ClientPreface)
	if err == nil {
		err = framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	}
	if err != nil {
		t.Fatal(err)
	}
	return conn.(*tls.Conn), framer
}

// TestUnreadStreams lets clients ask for 2,000 scrapes, pages and lists of targets over HTTP/2, whatever the exporter says
// about how many may be under way, and read none.
func TestUnreadStreams(t *testing.T) {
	const clients, streams = 10, 200
	for _, path := range []string{"/metrics", "/", "/sd/operations"} {
		t.Run(path, func(t *testing.T) {
			p, client := startSecured(t)
			header := new(bytes.Buffer)
			encoder := hpack.NewEncoder(header)
			for _, f := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "exporter"}, {":path", path}} {
				_ = encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
			}

			var asking sync.WaitGroup
			var begun, refused atomic.Int32
			for range clients {
				conn, framer := hostileHTTP2(t, p)
				asking.Go(func() {
					for n := range uint32(streams) {
						_ = framer.WriteHeaders(http2.HeadersFrameParam{
							StreamID: 2*n + 1, BlockFragment: header.Bytes(), EndHeaders: true, EndStream: true,
						})
					}
				})
				asking.Go(func() {
					for answers := 0; answers < streams; {
						frame, err := framer.ReadFrame()
						if err != nil {
							t.Errorf("%d answers, then %v", answers, err)
							_ = conn.Close()
							return
						}
						switch frame.(type) {
						case *http2.HeadersFrame:
							begun.Add(1)
							answers++
						case *http2.RSTStreamFrame:
							refused.Add(1)
							answers++
						}
					}
				})
			}
			asking.Wait()
			t.Logf("%d answers began, %d were refused or cut off", begun.Load(), refused.Load())
			if begun.Load() < clients {
				t.Error("too few answers began: this test tests nothing")
			}
			wantSmall(t, p, client)
		})
	}
}

// TestStalledClients lets clients open 200 connections, and never send a whole request.
func TestStalledClients(t *testing.T) {
	const clients = 200
	manyFields := new(strings.Builder)
	manyFields.WriteString("GET /metrics HTTP/1.1\r\nHost: exporter\r\n")
	for n := 0; manyFields.Len() < 60<<10; n++ {
		fmt.Fprintf(manyFields, "%x:\r\n", n)
	}
	longFrame := append([]byte{0x0f, 0xff, 0xff, 0xee, 0, 0, 0, 0, 0}, make([]byte, 1<<20-2)...) // of 1 MB, less a byte

	for _, tt := range []struct {
		name     string
		protocol string // "": not even a handshake
		sent     string
	}{
		{"nothing", "", ""},
		{"a handshake alone", "http/1.1", ""},
		{"many fields", "http/1.1", manyFields.String()},
		{"a long field", "http/1.1", "GET /metrics HTTP/1.1\r\nHost: exporter\r\nX-Long: " + strings.Repeat("x", 60<<10)},
		{"HTTP/2 alone", "h2", http2.ClientPreface},
		{"a long frame", "h2", http2.ClientPreface + string(longFrame)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, client := startSecured(t)
			var stalled sync.WaitGroup
			t.Cleanup(stalled.Wait) // when the connections are closed
			for range clients {
				conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", p.address)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = conn.Close() })
				if tt.protocol == "" {
					continue
				}
				stalled.Go(func() {
					secured := tls.Client(conn, &tls.Config{
						InsecureSkipVerify: true, //nolint:gosec // loopback
						NextProtos:         []string{tt.protocol},
					})
					_, _ = io.WriteString(secured, tt.sent) // it may be cut off before
				})
			}
			wantSmall(t, p, client)
			open := sampleOf(t, secureSamples(t, p, client), "process_open_fds")
			if open > 500 {
				t.Errorf("%v descriptors are open, want at most 500", open)
			}
		})
	}
}

// TestCrowd lets 300 people look at the page and 100 servers scrape at once, each on a connection of its own: all get
// their answers.
func TestCrowd(t *testing.T) {
	p, client := startSecured(t)
	var asking sync.WaitGroup
	for i := range 400 {
		path := "/"
		if i%4 == 0 {
			path = "/metrics"
		}
		asking.Go(func() {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+p.address+path, http.NoBody)
			if err != nil {
				t.Error(err)
				return
			}
			response, err := client.Do(r)
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = response.Body.Close() }()
			_, err = io.Copy(io.Discard, response.Body)
			if err != nil || response.StatusCode != http.StatusOK {
				t.Errorf("%s: %s, %v", path, response.Status, err)
			}
		})
	}
	asking.Wait()
	wantSmall(t, p, client)
}

// TestAbandonedProbes lets clients ask for operations, and go away before the
// answer: the refreshes of the account go on.
func TestAbandonedProbes(t *testing.T) {
	names := []string{"good-0"}
	server := httptest.NewServer(newFleet(names))
	defer server.Close()
	defer server.CloseClientConnections()
	p := startFleet(t, "exporter", server, names, "--collector.interval=1s", "--collector.page-size=1000")
	refreshed(t, p, names, `twilio_exporter_refreshes_total{account=%q,result="success"}`)
	ctx, stop := context.WithCancel(t.Context())
	var probes sync.WaitGroup
	for loop := range 10 {
		probes.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				soon, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
				_, _ = get(soon, p.url(fmt.Sprintf("/probe?target=comms_operation_0%026d", loop*1000+n%1000)))
				cancel()
			}
		})
	}
	before := sampleOf(t, scrapeSamples(t, p.url("/metrics")), `twilio_exporter_refreshes_total{account="good-0",result="success"}`)
	eventually(t, "five refreshes beside the probes", func() error {
		now := sampleOf(t, scrapeSamples(t, p.url("/metrics")), `twilio_exporter_refreshes_total{account="good-0",result="success"}`)
		if now < before+5 {
			return fmt.Errorf("%v refreshes", now-before)
		}
		return nil
	})
	stop()
	probes.Wait()
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
