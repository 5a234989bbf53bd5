//go:build linux

package bench

import (
	"fmt"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"twilio_operations_exporter/collector/window"
	"twilio_operations_exporter/internal/storage"
	"twilio_operations_exporter/twilio/simulator"
)

// restart is what a restart of an account costs, and what it costs to keep its state.
type restart struct {
	name            string
	window          time.Duration
	full            bool // with -full alone
	mostRequests    int
	mostBytes       int64
	mostCPU         time.Duration
	first, requests int // of a first refresh, and of that after a restart
	bytes           int64
	cpu             time.Duration
}

// testRestarts measures accounts of 600 operations a minute.
func testRestarts(t *testing.T) []restart {
	restarts := []restart{
		{name: "a day", window: day, mostRequests: 20, mostBytes: 500_000, mostCPU: 20 * time.Millisecond},
		{
			name: "7 days", window: 7 * day, full: true,
			mostRequests: 40, mostBytes: 4_000_000, mostCPU: 150 * time.Millisecond,
		},
	}

	for i := range restarts {
		r := &restarts[i]
		if r.full && !*full {
			continue
		}
		t.Run(r.name, func(t *testing.T) {
			r.countRequests(t)
			r.measureState(t)
			t.Logf("%d requests, %d for a first refresh; %d bytes, %v of CPU time each write", r.requests, r.first, r.bytes, r.cpu)
			if r.requests > r.mostRequests {
				t.Errorf("%d requests, want at most %d", r.requests, r.mostRequests)
			}
			if r.bytes > r.mostBytes {
				t.Errorf("%d bytes, want at most %d", r.bytes, r.mostBytes)
			}
			if *full && r.cpu > r.mostCPU {
				t.Errorf("%v of CPU time, want at most %v", r.cpu, r.mostCPU)
			}
		})
	}
	return restarts
}

// countRequests simulates a restart 10 seconds after a refresh, with rates and page sizes a hundredth of life's. One that
// comes a minute after it costs what that minute's refresh would have.
func (r *restart) countRequests(t *testing.T) {
	const scale = 100
	synctest.Test(t, func(t *testing.T) {
		world := simulator.MustWorld(simulator.WorldSettings{
			Rate: 600.0 / scale, Lifetime: 3 * time.Minute, LifetimeSpread: 0.5, MaxRecipients: 100,
		})
		client, handler := connect(world)
		s := settings(r.window)
		s.PageSize /= scale
		var state []byte
		e := newExporter(s, client)
		e.KeepStates(func(b []byte) { state = b })
		e.start(t.Context())
		<-time.After(5 * time.Second)
		r.first = handler.Requests()
		<-time.After(steadyAfter(&s))
		e.check(t)
		e.stop()

		<-time.After(5 * time.Second)
		before := handler.Requests()
		restarted := newExporter(s, client)
		if err := restarted.Resume(state); err != nil {
			t.Fatal(err)
		}
		restarted.start(t.Context())
		<-time.After(s.Interval / 2)
		restarted.check(t)
		restarted.stop()
		r.requests = handler.Requests() - before
	})
}

// measureState writes a state at life's size.
func (r *restart) measureState(t *testing.T) {
	now := time.Now()
	world := simulator.MustWorld(simulator.WorldSettings{
		Rate: 600, Lifetime: 3 * time.Minute, LifetimeSpread: 0.5, MaxRecipients: 100,
		Epoch: now.Add(-r.window - time.Hour), Until: now,
	})

	client, _ := connect(world)
	s := settings(r.window)
	w := window.New(window.Options{
		Length: s.Window, Interval: s.Interval, MaxStaleness: s.MaxStaleness,
		PageSize: s.PageSize, Concurrency: s.Concurrency, Named: 5,
	})

	if err := w.Refresh(t.Context(), client, &window.Progress{}); err != nil {
		t.Fatal(err)
	}
	dir, err := storage.Open(t.TempDir(), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dir.Close() }()

	const writes = 10
	before := cpuTime(t)
	for range writes {
		b, err := w.Save().MarshalBinary()
		if err == nil {
			err = dir.Write("account", fmt.Sprint(s.Account), b)
		}
		if err != nil {
			t.Fatal(err)
		}
	}

	r.cpu = (cpuTime(t) - before) / writes
	r.bytes = dir.Size()
}

// cpuTime is what this process has had of the processors.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
