package web

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"twilio_operations_exporter/collector"
	"twilio_operations_exporter/internal/sanitize"
)

const scrapeTimeoutHeader = "X-Prometheus-Scrape-Timeout-Seconds"

// NewRegistry returns a registry for the exporter's metrics about itself that do not depend on a scrape.
func NewRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	promauto.With(r).NewGauge(prometheus.GaugeOpts{
		Name: "twilio_exporter_start_time_seconds",
		Help: "Unix time at which the exporter started. Unlike process_start_time_seconds, it does not depend on /proc.",
	}).SetToCurrentTime()
	r.MustRegister(versioncollector.NewCollector("twilio_exporter"))
	return r
}

// newProcessRegistry returns a registry of the metrics that any Go program has.
func newProcessRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return r
}

// gather returns a gatherer of the metrics of accounts and registries. It takes nothing before it gathers, so a scrape
// that waits for its turn holds no numbers. Registries come last, so that they include a refresh that the scrape has
// caused.
func gather(accounts func() prometheus.Collector, registries ...*prometheus.Registry) prometheus.Gatherer {
	return prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		scraped := prometheus.NewRegistry()
		scraped.MustRegister(accounts())

		// No family is in two of them. prometheus.Gatherers would check and sort all series again, which takes a third of a
		// scrape.
		families, err := scraped.Gather()
		for _, registry := range registries {
			more, moreErr := registry.Gather()
			families = append(families, more...)
			err = errors.Join(err, moreErr)
		}

		byName := func(a, b *dto.MetricFamily) int { return cmp.Compare(a.GetName(), b.GetName()) }
		slices.SortFunc(families, byName)
		return families, err
	})
}

// scrape refreshes the accounts without an interval, for as long as ctx allows, and returns all metrics.
func (s *Server) scrape(ctx context.Context) prometheus.Gatherer {
	awaited := collector.Await(ctx, s.accounts.Refreshers())
	return gather(awaited.Views, s.registry, s.process)
}

func (s *Server) metrics(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := s.withScrapeTimeout(r)
	defer cancel()

	handler := s.exposition(s.scrape(ctx)) //nolint:contextcheck // it is derived from the request's
	s.renderer.render(w, r, len(s.accounts.List()), handler)
}

// exposition serves what g gathers, as text or OpenMetrics.
func (s *Server) exposition(g prometheus.Gatherer) http.Handler {
	return promhttp.HandlerFor(g, promhttp.HandlerOpts{
		ErrorLog: scrapeLog{s.logger},
		// If scrapes failed as a whole, the exporter would seem to be down.
		ErrorHandling:     promhttp.ContinueOnError,
		EnableOpenMetrics: true, EnableOpenMetricsTextCreatedSamples: true,
	})
}

// WriteOnce refreshes every account once and writes the metrics to w in the text format, even if accounts fail, whose
// errors it returns. It leaves out go_* and process_*, which would clash with those of node_exporter's textfile
// collector.
func (s *Server) WriteOnce(ctx context.Context, w io.Writer) error {
	refreshErr := s.accounts.RefreshOnce(ctx)
	if ctx.Err() != nil {
		return nil //nolint:nilerr // told to stop
	}

	accounts := func() prometheus.Collector { return collector.Current(s.accounts.Refreshers()) }
	families, err := gather(accounts, s.registry).Gather()
	for _, family := range families {
		_, writeErr := expfmt.MetricFamilyToText(w, family)
		if writeErr != nil {
			return errors.Join(refreshErr, err, writeErr)
		}
	}
	return errors.Join(refreshErr, err)
}

// withScrapeTimeout returns the request's context with the timeout that Prometheus announces. It ignores an invalid
// header.
func (s *Server) withScrapeTimeout(r *http.Request) (context.Context, context.CancelFunc) {
	header := r.Header.Get(scrapeTimeoutHeader)
	timeout, err := scrapeTimeout(header, s.settings.ScrapeTimeoutOffset)
	if err != nil {
		level.Debug(s.logger).Log("msg", "scrape timeout ignored", "header", sanitize.Quote(header), "err", err)
	}
	if timeout == 0 {
		return r.Context(), func() {}
	}
	return context.WithTimeout(r.Context(), timeout)
}

// scrapeTimeout returns how long a scrape may take: the seconds in the header minus offset, or half of them if nothing
// would be left; 0 without a header.
func scrapeTimeout(header string, offset time.Duration) (time.Duration, error) {
	if header == "" {
		return 0, nil
	}
	seconds, err := strconv.ParseFloat(header, 64)
	if err != nil {
		return 0, fmt.Errorf("not a number of seconds: %w", err)
	}

	const shortest, longest = 2 * time.Nanosecond, time.Duration(math.MaxInt64 / 2)
	inRange := seconds >= shortest.Seconds() && seconds <= longest.Seconds() // false for NaN
	if !inRange {
		return 0, fmt.Errorf("no time to wait: %v s", seconds)
	}

	timeout := time.Duration(seconds * float64(time.Second))
	if timeout <= offset {
		return timeout / 2, nil
	}
	return timeout - offset, nil
}

// scrapeLog logs promhttp's messages.
type scrapeLog struct{ log.Logger }

// Println implements promhttp.Logger.
func (l scrapeLog) Println(v ...any) {
	logger := level.Debug(l) // if the client went away, there is a message for each metric family
	if len(v) > 0 && strings.HasPrefix(fmt.Sprint(v[0]), "error gathering") {
		logger = level.Error(l)
	}
	logger.Log("msg", "error serving metrics", "err", sanitize.OneLine(fmt.Sprintln(v...)))
}
