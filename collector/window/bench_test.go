package window

import (
	"math/rand/v2"
	"runtime"
	"syscall"
	"testing"
	"time"

	"twilio_operations_exporter/twilio"
)

// benchAccount is one of 600 operations a minute, each in flight for a while, whose window was refreshed often enough
// that times of reading have spread.
func benchAccount(length, inFlight time.Duration) (api *fakeAPI, w *Window) {
	o := Options{
		Length: length, Interval: time.Minute, MaxStaleness: 0.1, PageSize: 1000, Concurrency: 4, Named: 5,
	}
	api = &fakeAPI{}
	rnd := rand.New(rand.NewPCG(1, 1))
	now := time.Now()
	for i := range int(length.Minutes()) * 600 {
		op := newOperation(rnd, now.Add(-length+time.Duration(i)*time.Minute/600), twilio.StatusCompleted)
		moveStats(rnd, op, op.CreatedAt)
		switch {
		case now.Sub(op.CreatedAt) < inFlight:
			op.Status = twilio.StatusProcessing
		case i%50 == 0:
			op.Status = twilio.StatusCanceled
		}
		api.byTime = append(api.byTime, op)
	}
	return api, New(o)
}

// BenchmarkRefresh reads a day of 864,000 operations from memory.
func BenchmarkRefresh(b *testing.B) {
	b.Run("first", func(b *testing.B) {
		api, w := benchAccount(24*time.Hour, 3*time.Minute)
		o := w.options
		b.ReportAllocs()
		for b.Loop() {
			if err := New(o).Refresh(b.Context(), api, &Progress{}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("steady", func(b *testing.B) {
		api, w := benchAccount(24*time.Hour, 3*time.Minute)
		if err := w.Refresh(b.Context(), api, &Progress{}); err != nil {
			b.Fatal(err)
		}
		var asleep time.Duration
		awake := w.clock.monotonic
		w.clock.monotonic = func() time.Duration { return awake() + asleep }
		b.ReportAllocs()
		for b.Loop() {
			asleep += time.Minute
			if err := w.Refresh(b.Context(), api, &Progress{}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkState saves a window and writes its state, and reads one. What a write costs at most is promised, in CPU time.
func BenchmarkState(b *testing.B) {
	for _, tt := range []struct {
		name             string
		length, inFlight time.Duration
	}{
		{"day", 24 * time.Hour, 3 * time.Minute},
		{"week", 7*24*time.Hour - time.Hour, 32 * time.Minute},
	} {
		api, w := benchAccount(tt.length, tt.inFlight)
		if err := w.Refresh(b.Context(), api, &Progress{}); err != nil {
			b.Fatal(err)
		}
		api = nil // a garbage collector is not to look after it
		runtime.GC()
		data, err := w.Save().MarshalBinary()
		if err != nil {
			b.Fatal(err)
		}

		b.Run("write/"+tt.name, func(b *testing.B) {
			b.ReportAllocs()
			began := cpuTime(b)
			for b.Loop() {
				if _, err := w.Save().MarshalBinary(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric((cpuTime(b)-began).Seconds()*1000/float64(b.N), "cpu-ms/op")
			b.ReportMetric(float64(len(data)), "bytes")
		})
		b.Run("read/"+tt.name, func(b *testing.B) {
			b.ReportAllocs()
			began := cpuTime(b)
			for b.Loop() {
				var s State
				if err := s.UnmarshalBinary(data); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric((cpuTime(b)-began).Seconds()*1000/float64(b.N), "cpu-ms/op")
		})
	}
}

// cpuTime is how long this process has computed.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
