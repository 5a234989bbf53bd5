package window

import (
	"context"
	"iter"
	"math/rand/v2"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"twilio_operations_exporter/twilio"
)

// benchAPI is an account of 600 operations a minute, each in flight for a while. Its pages are of 1000, newest first, and
// cost next to nothing.
type benchAPI struct {
	now    time.Time
	byTime []twilio.Operation // newest first
}

func newBenchAPI(length, inFlight time.Duration) *benchAPI {
	a := &benchAPI{now: time.Now()}
	rnd := rand.New(rand.NewPCG(1, 1))
	for i := range int(length.Minutes()) * 600 {
		created := a.now.Add(-time.Duration(i) * time.Minute / 600)
		op := newOperation(rnd, created, twilio.StatusCompleted)
		moveStats(rnd, op, created)
		switch {
		case a.now.Sub(created) < inFlight:
			op.Status = twilio.StatusProcessing
		case i%50 == 0:
			op.Status = twilio.StatusCanceled
		}
		a.byTime = append(a.byTime, op.Operation)
	}
	return a
}

func (a *benchAPI) Now() time.Time { return time.Now() }

func (a *benchAPI) Pages(_ context.Context, q twilio.Query) iter.Seq2[*twilio.Page, error] {
	before := func(t time.Time) int {
		i, _ := slices.BinarySearchFunc(a.byTime, t, func(op twilio.Operation, t time.Time) int {
			return t.Compare(op.CreatedAt)
		})
		return i
	}
	list := a.byTime[:before(q.StartDate)]
	if !q.EndDate.IsZero() {
		list = list[before(q.EndDate):]
	}
	if q.Status != "" {
		list = slices.DeleteFunc(slices.Clone(list[:min(len(list), 20_000)]), func(op twilio.Operation) bool {
			return op.Status != q.Status
		})
	}
	return func(yield func(*twilio.Page, error) bool) {
		for {
			page := &twilio.Page{Operations: list[:min(len(list), q.PageSize)]}
			list = list[len(page.Operations):]
			if len(list) > 0 {
				page.Next = "next"
			}
			if !yield(page, nil) || page.Next == "" {
				return
			}
		}
	}
}

func benchOptions(length time.Duration) Options {
	return Options{Length: length, Interval: time.Minute, MaxStaleness: 0.1, PageSize: 1000, Concurrency: 4, Named: 5}
}

// BenchmarkRefresh reads a day of 864,000 operations.
func BenchmarkRefresh(b *testing.B) {
	api := newBenchAPI(24*time.Hour, 3*time.Minute)
	b.Run("first", func(b *testing.B) {
		b.ReportAllocs()
		defer reportCPU(b)()
		for b.Loop() {
			if err := New(benchOptions(24*time.Hour)).Refresh(b.Context(), api, &Progress{}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("steady", func(b *testing.B) {
		w := New(benchOptions(24 * time.Hour))
		var asleep time.Duration
		awake := w.clock.monotonic
		w.clock.monotonic = func() time.Duration { return awake() + asleep }
		b.ReportAllocs()
		defer reportCPU(b)()
		for b.Loop() {
			if err := w.Refresh(b.Context(), api, &Progress{}); err != nil {
				b.Fatal(err)
			}
			asleep += time.Minute
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
		w := New(benchOptions(tt.length))
		if err := w.Refresh(b.Context(), newBenchAPI(tt.length, tt.inFlight), &Progress{}); err != nil {
			b.Fatal(err)
		}
		runtime.GC() // of what the API held
		data, err := w.Save().MarshalBinary()
		if err != nil {
			b.Fatal(err)
		}

		b.Run("write/"+tt.name, func(b *testing.B) {
			b.ReportAllocs()
			defer reportCPU(b)()
			for b.Loop() {
				if _, err := w.Save().MarshalBinary(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(data)), "bytes")
		})
		b.Run("read/"+tt.name, func(b *testing.B) {
			b.ReportAllocs()
			defer reportCPU(b)()
			for b.Loop() {
				var s State
				if err := s.UnmarshalBinary(data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// reportCPU reports the CPU time from now on to a call of what it returns.
func reportCPU(b *testing.B) (report func()) {
	b.Helper()
	began := cpuTime(b)
	return func() { b.ReportMetric((cpuTime(b)-began).Seconds()*1000/float64(b.N), "cpu-ms/op") }
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
