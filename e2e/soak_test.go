package e2e

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"twilio_operations_exporter/twilio/simulator"
)

var soak = flag.Duration("soak", 20*time.Second, "length of TestSoak; from 2m on the exporter has the race detector")

// TestSoak runs the built program with 50 accounts whose API fails in ever other ways, while scrapers, slow ones among
// them, and probes, most of them abandoned, keep coming: what it holds does not grow. make test-long does so for ten
// minutes.
func TestSoak(t *testing.T) {
	program := "exporter"
	if *soak >= 2*time.Minute {
		program = "exporter-race"
	}
	var names []string
	for i := range 50 {
		names = append(names, fmt.Sprintf("good-%d", i))
	}
	api := newFleet(names)
	server := httptest.NewServer(api)
	defer server.Close()
	defer server.CloseClientConnections()
	p := startFleet(t, program, server, names,
		"--collector.interval=1s", "--collector.refresh-timeout=10s", "--twilio.timeout=2s", "--twilio.max-retries=1")

	ctx, cancel := context.WithTimeout(t.Context(), *soak)
	defer cancel()
	var load sync.WaitGroup
	every := func(seed uint64, pause time.Duration, f func(*rand.Rand)) {
		load.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, 4))
			for {
				select {
				case <-ctx.Done():
					return
				case <-time.After(pause):
					f(rnd)
				}
			}
		})
	}

	every(1, 50*time.Millisecond, func(rnd *rand.Rand) {
		faults := api.handlers[fleetSID(names[rnd.IntN(len(names))])].Faults()
		faults.Clear()
		switch fault := (simulator.Fault{Every: 1 + rnd.IntN(3)}); rnd.IntN(9) {
		case 0, 1:
			fault.Kind, fault.Status = simulator.FaultStatus, []int{401, 429, 500, 502, 503}[rnd.IntN(5)]
			fault.RetryAfter = time.Duration(rnd.IntN(3)) * time.Second
			faults.MustAdd(fault)
		case 2:
			fault.Kind, fault.Latency = simulator.FaultLatency, time.Duration(rnd.Int64N(int64(3*time.Second)))
			faults.MustAdd(fault)
		case 3:
			fault.Kind, fault.Offset = simulator.FaultDate, time.Duration(rnd.Int64N(int64(4*time.Hour)))-2*time.Hour
			faults.MustAdd(fault)
		case 4:
			fault.Kind = []simulator.FaultKind{
				simulator.FaultReset, simulator.FaultHang, simulator.FaultHTML, simulator.FaultRepeatToken,
			}[rnd.IntN(4)]
			faults.MustAdd(fault)
		}
	})

	every(2, 20*time.Millisecond, func(rnd *rand.Rand) { // probes; most give up at once
		patience, giveUp := context.WithTimeout(ctx, time.Duration(rnd.Int64N(int64(200*time.Millisecond))))
		defer giveUp()
		_, _ = get(patience, p.url(fmt.Sprintf("/probe?account=%s&target=comms_operation_0%025d",
			names[rnd.IntN(len(names))], rnd.IntN(1e9))))
	})

	for i := range 3 { // slow readers
		every(uint64(10+i), 100*time.Millisecond, func(rnd *rand.Rand) {
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", p.address)
			if err != nil {
				return
			}
			defer conn.Close() //nolint:errcheck // it is given up
			_, _ = io.WriteString(conn, "GET /metrics HTTP/1.1\r\nHost: exporter\r\n\r\n")
			_, _ = io.CopyN(io.Discard, conn, rnd.Int64N(5000))
			<-time.After(time.Duration(rnd.Int64N(int64(2 * time.Second))))
		})
	}

	every(20, 500*time.Millisecond, func(*rand.Rand) {
		for _, path := range []string{"/", "/-/healthy", "/sd/operations"} {
			_, _ = get(ctx, p.url(path))
		}
	})

	held := map[string][]float64{"go_goroutines": nil, "process_open_fds": nil, "process_resident_memory_bytes": nil}
	for ctx.Err() == nil {
		<-time.After(250 * time.Millisecond)
		samples := scrapeSamples(t, p.url("/metrics"))
		for name := range held {
			held[name] = append(held[name], sampleOf(t, samples, name))
		}
	}

	load.Wait()
	for name, values := range held {
		n := len(values)
		early, late := median(values[n/5:n/2]), median(values[n-n*3/10:])
		t.Logf("%s: %.0f, then %.0f", name, early, late)
		if late > 1.25*early+20 && name != "process_resident_memory_bytes" || late > 1.25*early+20e6 {
			t.Errorf("%s grows from %.0f to %.0f", name, early, late)
		}
	}

	for _, h := range api.handlers {
		h.Faults().Clear()
	}
	eventually(t, "all accounts to be read again", func() error {
		samples := scrapeSamples(t, p.url("/metrics"))
		for _, name := range names {
			if up := sampleOf(t, samples, `twilio_up{account="`+name+`"}`); up != 1 {
				return fmt.Errorf("twilio_up of %s is %v", name, up)
			}
		}
		return nil
	})

	if log := p.logTail(1 << 20); strings.Contains(log, "DATA RACE") || strings.Contains(log, "panic") {
		t.Error(log)
	}
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
