//go:build linux

package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"twilio_operations_exporter/twilio"
	"twilio_operations_exporter/twilio/simulator"
)

// latency is what the API is taken to need for an answer, by the simulated
// clock. Nobody really waits for it.
const latency = 100 * time.Millisecond

// Each reader is measured in a process of its own, which is this test again.
var (
	readerName = flag.String("reader", "", "measure this reader, as the child of a test")
	readerAPI  = flag.String("reader.api", "", "host and port of the simulator that it reads")
)

const (
	readLoop     = "plain loop, encoding/json"
	readClient   = "plain loop, this project's client"
	readExporter = "this exporter"
)

var readerNames = []string{readLoop, readClient, readExporter}

// phase is what some refreshes took in a reader's process.
type phase struct {
	Refreshes  int
	Requests   int64
	Bytes      int64         // received, headers included
	CPU        time.Duration // user and system
	Allocs     uint64
	AllocBytes uint64
	Took       time.Duration // by the simulated clock: latency alone
}

// measured is what a reader's process reports.
type measured struct {
	First, Steady phase
	Operations    int   // counted by the first refresh
	Peak          int64 // resident bytes, of the whole life of the process
}

// testReaders measures a day of 600 operations a minute, or of a hundredth of
// that in pages of a hundredth.
func testReaders(t *testing.T, full bool) map[string]measured {
	api := serveSimulator(t, scaleOf(full))
	results := map[string]measured{}
	for _, name := range readerNames {
		args := []string{
			"-test.run=^TestPerformance$", "-reader=" + name, "-reader.api=" + api, fmt.Sprintf("-full=%t", full),
		}
		cmd := exec.CommandContext(t.Context(), os.Args[0], args...) //nolint:gosec // this program
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Run(); err != nil {
			t.Fatalf("%s: %v\n%s%s", name, err, &stdout, &stderr)
		}
		var m measured
		line, _, _ := strings.Cut(stdout.String(), "\n")
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, &stdout)
		}
		results[name] = m
		t.Logf("%s: %+v", name, m)
	}

	loop, exporter := results[readLoop], results[readExporter]
	for name, m := range results {
		// They begin at one time of the simulated clock, but one needs longer.
		if d := float64(m.Operations) / float64(loop.Operations); d < 0.99 || d > 1.01 {
			t.Errorf("%s counted %d operations, the plain loop %d", name, m.Operations, loop.Operations)
		}
	}

	if most := loop.First.Requests + max(loop.First.Requests/20, 4); exporter.First.Requests > most {
		t.Errorf("a first refresh made %d requests, a plain loop %d", exporter.First.Requests, loop.First.Requests)
	}
	requests := exporter.Steady.requests() / loop.Steady.requests()
	received := exporter.Steady.bytes() / loop.Steady.bytes()
	if requests > 0.065 || received > 0.065 {
		t.Errorf("a steady refresh takes %.1f%% of the requests and %.1f%% of the bytes", 100*requests, 100*received)
	}
	return results
}

func (p *phase) requests() float64 { return float64(p.Requests) / float64(p.Refreshes) }
func (p *phase) bytes() float64    { return float64(p.Bytes) / float64(p.Refreshes) }
func (p *phase) cpu() float64      { return p.CPU.Seconds() / float64(p.Refreshes) }
func (p *phase) allocs() float64   { return float64(p.Allocs) / float64(p.Refreshes) }

func scaleOf(full bool) int {
	if full {
		return 1
	}
	return 100
}

// clockHeader tells the simulator the time by the reader's simulated clock.
const clockHeader = "Simulated-Time"

// serveSimulator serves a world to the readers' processes and returns its host
// and port.
func serveSimulator(t *testing.T, scale int) string {
	t.Helper()
	var clock atomic.Pointer[time.Time]
	world := simulator.MustWorld(simulator.WorldSettings{
		Rate: 600 / float64(scale), Lifetime: 3 * time.Minute, LifetimeSpread: 0.5,
		FailedShare: 0.01, UndeliveredShare: 0.03, ReadShare: 0.4,
	})

	handler := simulator.NewHandler(world, simulator.Settings{Now: func() time.Time { return *clock.Load() }})
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			now, err := time.Parse(time.RFC3339Nano, r.Header.Get(clockHeader))
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			clock.Store(&now)
			handler.ServeHTTP(w, r)
		}),
		ReadHeaderTimeout: time.Minute,
	}

	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(listener) // until it is closed
	}()

	t.Cleanup(func() {
		_ = server.Close()
		<-ended
	})
	return listener.Addr().String()
}

// runReader is the child's part: it measures one reader and prints the result
// as the first line.
func runReader(t *testing.T, name, api string, scale int) {
	wire := newWire(t)
	synctest.Test(t, func(t *testing.T) {
		meter := &meter{wire: wire}
		base := &url.URL{Scheme: "http", Host: api, Path: "/v1"}
		size := pageSize / scale
		var m measured
		switch name {
		case readLoop:
			m = measureLoop(t, meter, func(ctx context.Context, since time.Time) (int, error) {
				return loopRefresh(ctx, &http.Client{Transport: wire}, base, size, since)
			})
		case readClient:
			client := twilio.NewClient(twilio.Options{BaseURL: base, Transport: wire})
			m = measureLoop(t, meter, func(ctx context.Context, since time.Time) (int, error) {
				return clientRefresh(ctx, client, size, since)
			})
		case readExporter:
			m = measureExporter(t, meter, twilio.NewClient(twilio.Options{BaseURL: base, Transport: wire}), size)
		default:
			t.Fatalf("there is no reader %q", name)
		}

		m.Peak = peakMemory(t, os.Getpid())
		line, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println(string(line))
	})
}

func measureLoop(t *testing.T, meter *meter, refresh func(context.Context, time.Time) (int, error)) (m measured) {
	t.Helper()
	run := func(refreshes int) (p phase) {
		meter.start()
		for range refreshes {
			n, err := refresh(t.Context(), time.Now().Add(-day))
			if err != nil {
				t.Fatal(err)
			}
			if m.Operations == 0 {
				m.Operations = n
			}
		}
		return meter.stop(refreshes)
	}

	m.First = run(1)
	m.Steady = run(2)
	return m
}

func measureExporter(t *testing.T, meter *meter, client *twilio.Client, size int) (m measured) {
	t.Helper()
	s := settings(day)
	s.PageSize = size
	meter.start()
	e := startExporter(t.Context(), s, client)
	defer e.stop()
	if err := e.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.First = meter.stop(1)
	m.Operations = e.operations(t)

	<-time.After(steadyAfter(&s))
	const refreshes = 30
	meter.start()
	<-time.After(refreshes * s.Interval)
	m.Steady = meter.stop(refreshes)
	// The same for both: what one refresh takes.
	status := e.Status()
	m.Steady.Took = status.Succeeded.Sub(status.Started) * refreshes
	e.check(t)
	return m
}

// page is what one would write for encoding/json.
type page struct {
	Operations []operation `json:"operations"`
	Pagination struct {
		Next string `json:"next"`
	} `json:"pagination"`
}

type operation struct {
	ID        string    `json:"id"`
	Status    string    `json:"status"`
	Stats     stats     `json:"stats"`
	CreatedAt time.Time `json:"createdAt"`
	UpdatedAt time.Time `json:"updatedAt"`
}

type stats struct {
	Total         int64 `json:"total"`
	Recipients    int64 `json:"recipients"`
	Attempts      int64 `json:"attempts"`
	Unaddressable int64 `json:"unaddressable"`
	Scheduled     int64 `json:"scheduled"`
	Queued        int64 `json:"queued"`
	Sent          int64 `json:"sent"`
	Delivered     int64 `json:"delivered"`
	Read          int64 `json:"read"`
	Undelivered   int64 `json:"undelivered"`
	Failed        int64 `json:"failed"`
	Canceled      int64 `json:"canceled"`
}

// loopRefresh reads all pages into one slice and adds up.
func loopRefresh(ctx context.Context, client *http.Client, base *url.URL, size int, since time.Time) (int, error) {
	var all []operation
	for token := ""; ; {
		q := url.Values{"pageSize": {strconv.Itoa(size)}, "startDate": {since.UTC().Format(time.RFC3339Nano)}}
		if token != "" {
			q.Set("pageToken", token)
		}
		u := base.JoinPath("Messages", "Operations")
		u.RawQuery = q.Encode()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
		if err != nil {
			return 0, err
		}
		resp, err := client.Do(req)
		if err != nil {
			return 0, err
		}
		var p page
		err = json.NewDecoder(resp.Body).Decode(&p)
		_ = resp.Body.Close()
		if err != nil {
			return 0, err
		}
		if resp.StatusCode != http.StatusOK {
			return 0, fmt.Errorf("status %d", resp.StatusCode)
		}
		all = append(all, p.Operations...)
		if token = p.Pagination.Next; token == "" {
			break
		}
	}

	sums := map[string]*stats{}
	for i := range all {
		s := sums[all[i].Status]
		if s == nil {
			s = new(stats)
			sums[all[i].Status] = s
		}
		s.Total += all[i].Stats.Total
		s.Delivered += all[i].Stats.Delivered
		s.Undelivered += all[i].Stats.Undelivered
		s.Failed += all[i].Stats.Failed
	}
	return len(all), nil
}

// clientRefresh is the same on this project's client.
func clientRefresh(ctx context.Context, client *twilio.Client, size int, since time.Time) (int, error) {
	var all []twilio.Operation
	for p, err := range client.Pages(ctx, twilio.Query{PageSize: size, StartDate: since}) {
		if err != nil {
			return 0, err
		}
		all = append(all, p.Operations...)
	}

	sums := map[twilio.Status]*twilio.Stats{}
	for i := range all {
		s := sums[all[i].Status]
		if s == nil {
			s = new(twilio.Stats)
			sums[all[i].Status] = s
		}
		s[twilio.Total] += all[i].Stats[twilio.Total]
		s[twilio.Delivered] += all[i].Stats[twilio.Delivered]
		s[twilio.Undelivered] += all[i].Stats[twilio.Undelivered]
		s[twilio.Failed] += all[i].Stats[twilio.Failed]
	}
	return len(all), nil
}

// meter measures phases of this process.
type meter struct {
	wire   *wire
	before phase
	began  time.Time
}

func (m *meter) read() phase {
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage) // fails for bad arguments only
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	return phase{
		Requests: m.wire.requests.Load(), Bytes: m.wire.bytes.Load(),
		CPU:    time.Duration(usage.Utime.Nano() + usage.Stime.Nano()),
		Allocs: memory.Mallocs, AllocBytes: memory.TotalAlloc,
	}
}

func (m *meter) start() { m.before, m.began = m.read(), time.Now() }

func (m *meter) stop(refreshes int) phase {
	p := m.read()
	p.Refreshes = refreshes
	p.Requests -= m.before.Requests
	p.Bytes -= m.before.Bytes
	p.CPU -= m.before.CPU
	p.Allocs -= m.before.Allocs
	p.AllocBytes -= m.before.AllocBytes
	p.Took = time.Since(m.began)
	return p
}

// wire is the transport of a reader whose clock is simulated. The clock stands
// still while a goroutine of the simulation waits for something outside of it,
// and a connection waits all the time: so connections stay outside.
type wire struct {
	free            chan *line
	requests, bytes atomic.Int64
}

// line is a goroutine outside that makes one request at a time.
type line struct {
	ask    chan *http.Request
	answer chan answer
}

type answer struct {
	resp *http.Response
	err  error
}

// newWire makes a wire; it must be made outside of the simulation.
func newWire(t *testing.T) *wire {
	t.Helper()
	const lines = 8
	w := &wire{free: make(chan *line, lines)}
	dialer := new(net.Dialer)
	transport := &http.Transport{
		MaxIdleConnsPerHost: lines,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := dialer.DialContext(ctx, network, address)
			return &countedConn{c, &w.bytes}, err
		},
	}

	var group sync.WaitGroup
	for range lines {
		l := &line{ask: make(chan *http.Request), answer: make(chan answer)}
		w.free <- l
		group.Go(func() {
			for req := range l.ask {
				resp, err := transport.RoundTrip(req) //nolint:bodyclose // the reader does
				l.answer <- answer{resp, err}
			}
		})
	}

	t.Cleanup(func() {
		for range lines {
			close((<-w.free).ask)
		}
		group.Wait()
		transport.CloseIdleConnections()
	})
	return w
}

// RoundTrip implements http.RoundTripper.
func (w *wire) RoundTrip(req *http.Request) (*http.Response, error) {
	<-time.After(latency)
	// The context is of the simulation, which the outside must not touch.
	out, err := http.NewRequestWithContext(context.Background(), req.Method, req.URL.String(), http.NoBody)
	if err != nil {
		return nil, err
	}
	out.Header = req.Header.Clone()
	out.Header.Set(clockHeader, time.Now().Format(time.RFC3339Nano))
	w.requests.Add(1)
	l := <-w.free
	l.ask <- out
	a := <-l.answer
	w.free <- l
	return a.resp, a.err
}

type countedConn struct {
	net.Conn
	received *atomic.Int64
}

func (c *countedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.received.Add(int64(n))
	return n, err
}
