package simulator

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"twilio_operations_exporter/twilio"
)

// discard is a ResponseWriter that costs nothing.
type discard struct {
	header http.Header
	bytes  int64
}

func (d *discard) Header() http.Header { return d.header }
func (d *discard) WriteHeader(int)     {}
func (d *discard) Write(b []byte) (int, error) {
	d.bytes += int64(len(b))
	return len(b), nil
}

// BenchmarkPage serves pages of 1000 operations out of a day of a million.
func BenchmarkPage(b *testing.B) {
	s := DefaultWorldSettings()
	s.Rate = 700
	h := NewHandler(MustWorld(s), Settings{Now: at(noon)})
	for _, bb := range []struct {
		name   string
		filter string
		gzip   bool
	}{
		{name: "newest"},
		{
			name: "range",
			filter: "&startDate=" + noon.Add(-15*time.Hour).Format(time.RFC3339) + "&endDate=" +
				noon.Add(-14*time.Hour).Format(time.RFC3339),
		},
		{name: "processing", filter: "&status=PROCESSING"},
		{name: "scheduled", filter: "&status=SCHEDULED"},
		{name: "gzip", gzip: true},
	} {
		b.Run(bb.name, func(b *testing.B) {
			r := httptest.NewRequestWithContext(context.Background(), http.MethodGet,
				"/v1/Messages/Operations?pageSize=1000"+bb.filter, nil)
			if bb.gzip {
				r.Header.Set("Accept-Encoding", "gzip")
			}
			w := &discard{header: http.Header{}}
			h.ServeHTTP(w, r) // fills the index of live operations
			w.bytes = 0
			b.ReportAllocs()
			for b.Loop() {
				h.ServeHTTP(w, r)
			}
			b.ReportMetric(float64(w.bytes)/float64(b.N), "bytes/page")
		})
	}
}

// BenchmarkWorld derives operations.
func BenchmarkWorld(b *testing.B) {
	for _, status := range []twilio.Status{"", twilio.StatusProcessing} {
		b.Run(fmt.Sprintf("status=%s", status), func(b *testing.B) {
			w := MustWorld(WorldSettings{Rate: 600, Lifetime: 3 * time.Minute})
			n := 0
			for b.Loop() {
				for range w.List(noon, Filter{From: noon.Add(-time.Hour), Status: status}, true) {
					n++
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/operation")
		})
	}
}
