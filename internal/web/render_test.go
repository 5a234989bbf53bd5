package web

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"twilio_operations_exporter/internal/testutil"
	"twilio_operations_exporter/twilio"
)

// TestSlowReaders holds that readers who do not read hold a bounded amount of
// memory, and keep nobody else from a whole answer.
func TestSlowReaders(t *testing.T) {
	const size, readers = 2 << 20, 50 // 100 MB
	r := newRenderer()
	var rendered atomic.Int32
	large := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		rendered.Add(1)
		_, _ = w.Write(make([]byte, size))
	})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.render(w, req, 1, large)
	}))
	const buffered = 4 << 10 // by the system, which would take whole answers
	server.Config.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		if err := conn.(*net.TCPConn).SetWriteBuffer(buffered); err != nil {
			t.Error(err)
		}
		return ctx
	}
	server.Start()
	t.Cleanup(server.Close) // after those of the connections
	most, started := 0, 0
	look := func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if most, started = max(most, r.held), len(r.answers); r.held > maxHeld {
			t.Errorf("%d bytes are held for %d readers", r.held, len(r.answers))
		}
	}
	var d net.Dialer
	for n := range readers {
		conn, err := d.DialContext(t.Context(), "tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if err = conn.(*net.TCPConn).SetReadBuffer(buffered); err != nil {
			t.Fatal(err)
		}
		if _, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: exporter\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		testutil.WaitFor(t, "the answer to be written", func() bool {
			look()
			return int(rendered.Load()) == n+1 && started == min(n+1, maxHeld/size)
		})
	}
	body, err := testutil.Get(t.Context(), server.URL)
	if err != nil || len(body) != size {
		t.Errorf("a reader who reads got %d bytes, %v", len(body), err)
	}
	look()
	if most < maxHeld/2 {
		t.Errorf("no more than %d bytes were held: this test tests nothing", most)
	}
}

// TestPieces holds that a text in pieces is what was written, and takes no more memory than that.
func TestPieces(t *testing.T) {
	line := []byte("twilio_operation_messages_delivered{account=\"marketing\",status=\"COMPLETED\"} 1234567\n")
	const lines = 100_000
	var p pieces
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range lines {
		n, err := p.Write(line)
		if n != len(line) || err != nil {
			t.Fatalf("wrote %d, error %v", n, err)
		}
	}
	runtime.ReadMemStats(&after)

	size := lines * len(line)
	taken := int(after.TotalAlloc - before.TotalAlloc) //nolint:gosec // some megabytes
	if taken > size*11/10 || p.size() > size+pieceSize {
		t.Errorf("%d bytes take %d, and are said to take %d", size, taken, p.size())
	}
	if got := bytes.Join(p, nil); !bytes.Equal(got, bytes.Repeat(line, lines)) {
		t.Errorf("%d bytes of %d, or others", len(got), size)
	}
	large := pieces{}
	_, _ = large.Write(make([]byte, 3*pieceSize))
	if _, _ = large.Write(nil); len(large) != 3 {
		t.Errorf("%d pieces", len(large))
	}
}

// TestFewAreRenderedAtOnce holds that scrapes are rendered a few at a time, however small they are.
func TestFewAreRenderedAtOnce(t *testing.T) {
	const scrapes, atOnce = 30, renderedAtOnce / leastRendered
	r := newRenderer()
	var rendering, most atomic.Int32
	release := make(chan struct{})
	h := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		now := rendering.Add(1)
		defer rendering.Add(-1)
		for seen := most.Load(); now > seen && !most.CompareAndSwap(seen, now); seen = most.Load() {
		}
		<-release
	})
	var all sync.WaitGroup
	for range scrapes {
		req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
		all.Go(func() { r.render(httptest.NewRecorder(), req, 1, h) })
	}
	testutil.WaitFor(t, "the others to wait", func() bool {
		return rendering.Load() == atOnce && blockedIn("semaphore.(*Weighted).Acquire(") == scrapes-atOnce
	})
	close(release)
	all.Wait()
	if n := most.Load(); n != atOnce {
		t.Errorf("%d at a time, want %d", n, atOnce)
	}
}

// TestScrapesTakeTurns holds that scrapes wait for their turn, and are answered
// with 200 however long it takes to come.
func TestScrapesTakeTurns(t *testing.T) {
	api := testutil.New(t, testutil.Operation(1, twilio.StatusCompleted, twilio.Stats{twilio.Total: 7}))
	s := testServer(t, api)
	refresh(t, s)
	if err := s.renderer.places.Acquire(t.Context(), renderedAtOnce); err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	h := s.Handler(t.Context())
	answers := make([]*httptest.ResponseRecorder, 100)
	var wg sync.WaitGroup
	for i := range answers {
		answers[i] = httptest.NewRecorder()
		ctx := t.Context()
		if i == 0 {
			ctx = gone
		}
		r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/metrics", http.NoBody)
		r.Header.Set(scrapeTimeoutHeader, "0.001")
		wg.Go(func() { h.ServeHTTP(answers[i], r) })
	}
	waiting := func(n int) func() bool {
		return func() bool { return blockedIn("web.(*renderer).render(") == n }
	}
	testutil.WaitFor(t, "all to wait", waiting(len(answers)))
	cancel()
	testutil.WaitFor(t, "the one that is gone not to wait", waiting(len(answers)-1))
	// What waits holds no numbers: those of now are shown.
	refresh(t, s)
	s.renderer.places.Release(renderedAtOnce)
	wg.Wait()
	for _, w := range answers[1:] {
		if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "\ntwilio_up{") {
			t.Fatalf("%d %.100s", w.Code, w.Body)
		}
		if !strings.Contains(w.Body.String(), `result="success"} 2`) {
			t.Fatal("numbers of before its turn are shown")
		}
	}
	if answers[0].Code == http.StatusOK {
		t.Errorf("an empty exposition for one that is gone: %s", answers[0].Body)
	}
}
