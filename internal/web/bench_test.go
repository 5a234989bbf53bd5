package web

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"

	"twilio_operations_exporter/internal/testutil"
	"twilio_operations_exporter/twilio"
)

const scrapers, scrapesEach = 16, 10 // in a turn

// constants are series that never change.
type constants []prometheus.Metric

// Describe implements prometheus.Collector.
func (c constants) Describe(ch chan<- *prometheus.Desc) {
	seen := map[*prometheus.Desc]bool{}
	for _, m := range c {
		if d := m.Desc(); !seen[d] {
			seen[d] = true
			ch <- d
		}
	}
}

// Collect implements prometheus.Collector.
func (c constants) Collect(ch chan<- prometheus.Metric) {
	for _, m := range c {
		ch <- m
	}
}

// bare is promhttp's handler with the same metrics of the process and, for each series of s, a constant one of the same
// size.
func bare(b *testing.B, s *Server) http.Handler {
	b.Helper()
	all, err := s.scrape(b.Context()).Gather()
	if err != nil {
		b.Fatal(err)
	}
	var series constants
	gauge := func(f *dto.MetricFamily, suffix string, value float64, labels []*dto.LabelPair, more ...string) {
		names, values := make([]string, 0, 4), make([]string, 0, 4)
		for _, l := range labels {
			names, values = append(names, l.GetName()), append(values, l.GetValue())
		}
		for i := 0; i+1 < len(more); i += 2 {
			names, values = append(names, more[i]), append(values, more[i+1])
		}
		series = append(
			series,
			prometheus.MustNewConstMetric(
				prometheus.NewDesc(f.GetName()+suffix, f.GetHelp(), names, nil), prometheus.GaugeValue, value, values...,
			),
		)
	}

	for _, f := range all {
		if strings.HasPrefix(f.GetName(), "go_") || strings.HasPrefix(f.GetName(), "process_") {
			continue
		}
		for _, m := range f.GetMetric() {
			h := m.GetHistogram()
			if h == nil {
				gauge(f, "", m.GetGauge().GetValue()+m.GetCounter().GetValue(), m.GetLabel())
				continue
			}

			gauge(f, "_sum", h.GetSampleSum(), m.GetLabel())
			gauge(f, "_count", float64(h.GetSampleCount()), m.GetLabel())
			gauge(f, "_bucket", float64(h.GetSampleCount()), m.GetLabel(), "le", "+Inf")
			for _, bucket := range h.GetBucket() {
				gauge(
					f, "_bucket", float64(bucket.GetCumulativeCount()), m.GetLabel(), "le",
					strconv.FormatFloat(bucket.GetUpperBound(), 'g', -1, 64),
				)
			}
		}
	}

	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), series,
	)
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true})
}

// scrapeLoop makes all scrapers scrape and returns how long that took.
func scrapeLoop(b *testing.B, client *http.Client, url string) time.Duration {
	b.Helper()
	var wg sync.WaitGroup
	begin := time.Now()
	for range scrapers {
		wg.Go(func() {
			for range scrapesEach {
				req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, url, http.NoBody)
				if err != nil {
					b.Error(err)
					return
				}

				req.Header.Set(scrapeTimeoutHeader, "10")
				resp, err := client.Do(req)
				if err != nil {
					b.Error(err)
					return
				}

				_, err = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
				if err != nil || resp.StatusCode != http.StatusOK {
					b.Errorf("%d, %v", resp.StatusCode, err)
					return
				}
			}
		})
	}

	wg.Wait()
	return time.Since(begin)
}

// BenchmarkScrape compares the scrapes a second of /metrics with those of a bare promhttp handler. It alternates
// between the two, so that other load on the machine affects both; "ratio" is the median.
func BenchmarkScrape(b *testing.B) {
	api := testutil.New(b,
		testutil.Operation(1, twilio.StatusCompleted, twilio.Stats{twilio.Total: 200, twilio.Delivered: 150, twilio.Failed: 50}),
		testutil.Operation(2, twilio.StatusProcessing, twilio.Stats{twilio.Total: 3, twilio.Queued: 3}),
	)

	s := testServer(b, api, "--log.level=error")
	refresh(b, s)
	ours, theirs := httptest.NewServer(s.Handler(b.Context())), httptest.NewServer(bare(b, s))
	defer ours.Close()
	defer theirs.Close()
	transport := &http.Transport{MaxIdleConnsPerHost: scrapers}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}

	scrapeLoop(b, client, ours.URL+"/metrics")
	scrapeLoop(b, client, theirs.URL)
	var ratios []float64
	var own, bare time.Duration
	turns := 0
	for b.Loop() {
		a, t := scrapeLoop(b, client, ours.URL+"/metrics"), scrapeLoop(b, client, theirs.URL)
		own, bare, turns = own+a, bare+t, turns+1
		ratios = append(ratios, t.Seconds()/a.Seconds())
	}

	slices.Sort(ratios)
	b.ReportMetric(ratios[len(ratios)/2], "ratio")
	b.ReportMetric(float64(turns*scrapers*scrapesEach)/own.Seconds(), "scrapes/s")
	b.ReportMetric(float64(turns*scrapers*scrapesEach)/bare.Seconds(), "bare-scrapes/s")
}
