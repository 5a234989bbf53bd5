//go:build linux

package bench

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"twilio_operations_exporter/twilio"
	"twilio_operations_exporter/twilio/simulator"
)

// first compares a first refresh with one page after another.
type first struct {
	operations              int
	plain, took             time.Duration
	plainRequests, requests int
}

func (f *first) faster() float64 { return f.plain.Seconds() / f.took.Seconds() }

// BenchmarkFirstRefresh reads 200,000 operations in pages of 1000 behind a real
// latency of 100 ms: one page after another, and as a first refresh with 8
// workers.
func BenchmarkFirstRefresh(b *testing.B) {
	var f first
	for b.Loop() {
		f = firstRefresh(b)
	}
	b.ReportMetric(f.faster(), "faster-by")
	b.ReportMetric(float64(f.requests), "requests")
	b.ReportMetric(float64(f.plainRequests), "plain-requests")
}

func firstRefresh(tb testing.TB) (f first) {
	tb.Helper()
	now := time.Now()
	world := simulator.MustWorld(simulator.WorldSettings{
		Rate: 200_000.0 / 1440, Uniform: true, Epoch: now.Add(-day + time.Minute), Until: now, MaxRecipients: 100,
	})
	handler := simulator.NewHandler(world, simulator.Settings{})
	handler.Faults().MustAdd(simulator.Fault{Kind: simulator.FaultLatency, Latency: latency})
	server := httptest.NewServer(handler)
	defer server.Close()
	base, err := url.Parse(server.URL + "/v1")
	if err != nil {
		tb.Fatal(err)
	}
	transport := &http.Transport{DialContext: new(net.Dialer).DialContext, MaxIdleConnsPerHost: 8}
	defer transport.CloseIdleConnections()
	client := twilio.NewClient(twilio.Options{BaseURL: base, Transport: transport})

	began := time.Now()
	for p, err := range client.Pages(tb.Context(), twilio.Query{PageSize: pageSize, StartDate: now.Add(-day)}) {
		if err != nil {
			tb.Fatal(err)
		}
		f.operations += len(p.Operations)
	}

	f.plain, f.plainRequests = time.Since(began), handler.Requests()

	s := settings(day)
	s.Concurrency = 8
	e := startExporter(tb.Context(), s, client)
	defer e.stop()
	ctx, cancel := context.WithTimeout(tb.Context(), 5*time.Minute)
	defer cancel()
	began = time.Now()
	if err := e.Refresh(ctx); err != nil {
		tb.Fatal(err)
	}
	f.took, f.requests = time.Since(began), handler.Requests()-f.plainRequests
	// By the promise: 6% more, or two a worker.
	if most := f.plainRequests + max(f.plainRequests*6/100, 2*s.Concurrency); f.requests > most {
		tb.Errorf("%d requests, a plain loop makes %d", f.requests, f.plainRequests)
	}
	tb.Logf("%d operations: %v in %d requests, a plain loop %v in %d: %.1f times as fast",
		f.operations, f.took, f.requests, f.plain, f.plainRequests, f.faster())
	return f
}
