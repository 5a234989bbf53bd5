package main

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/http/pprof"
	"strconv"
	"strings"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"twilio_operations_exporter/collector"
)

const (
	scrapeTimeoutHeader = "X-Prometheus-Scrape-Timeout-Seconds"
	// writeTimeout is for an answer, from the moment it is known.
	writeTimeout = 30 * time.Second
	readTimeout  = 10 * time.Second
	idleTimeout  = 2 * time.Minute
)

// newServer returns the server without an address. There is no default mux in
// it, which any library could have added to.
func newServer(h http.Handler, logger *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		ErrorLog:          serverLog(logger),
	}
}

// stopTimeout is well within the 5 seconds in which the program promises
// to end: what is under way has been told to stop, and only says goodbye.
const stopTimeout = 2 * time.Second

// stopServer lets what is under way end. That ctx has ended is why it stops, so
// that stopping needs a context of its own.
func stopServer(ctx context.Context, server *http.Server) {
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if err := server.Shutdown(stopping); err != nil {
		_ = server.Close()
	}
}

func (s *site) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle(s.config.TelemetryPath, patient(s.metrics))
	mux.Handle("GET /probe", patient(s.probe))
	mux.HandleFunc("GET /-/healthy", s.healthy)
	mux.HandleFunc("GET /-/ready", s.ready)
	mux.HandleFunc("POST /-/reload", s.reloadNow)
	mux.HandleFunc("GET /{$}", s.landing)
	if s.config.EnablePprof {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		mux.ServeHTTP(w, r)
	})
}

// patient takes the server's deadlines off a request that may rightly wait for
// the API for long: the write deadline would cut the answer, and when the read
// deadline passes, net/http takes the client for gone. The handler sets the
// write deadline again once it has something to write (see answering).
func patient(h http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w)
		// Not every ResponseWriter has deadlines (HTTP/2 has them per stream, a
		// recorder has none): then there is none to lift.
		_ = c.SetReadDeadline(time.Time{})
		_ = c.SetWriteDeadline(time.Time{})
		h(w, r)
	})
}

// answering sets the deadline for an answer that is known now.
func answering(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
}

// scrape serves one scrape at a time. It is kept for the next one, as making a
// registry costs more than using it.
type scrape struct {
	registry *prometheus.Registry
	handler  http.Handler
	accounts prometheus.Collector // of this scrape
}

// Describe implements prometheus.Collector: whatever the accounts, the
// descriptions are the same.
func (*scrape) Describe(ch chan<- *prometheus.Desc) {
	collector.Scrape(context.Background(), nil).Describe(ch)
}

// Collect implements prometheus.Collector.
func (s *scrape) Collect(ch chan<- prometheus.Metric) {
	s.accounts.Collect(ch)
}

// newScrape returns a scrape of what the exporter knows about itself and of
// accounts that are to be set.
func newScrape(own []prometheus.Collector, logger log.Logger) *scrape {
	s := &scrape{registry: prometheus.NewRegistry()}
	s.registry.MustRegister(own...)
	s.registry.MustRegister(s)
	s.handler = promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{
		ErrorLog: scrapeLog{logger},
		// What can be read is served: a scrape that fails looks like an exporter
		// that is down.
		ErrorHandling:                       promhttp.ContinueOnError,
		EnableOpenMetrics:                   true,
		EnableOpenMetricsTextCreatedSamples: true,
	})
	return s
}

// scrape reads the accounts as ctx allows and hands over what shows them. The
// exporter's own metrics are read after that, so that they include it.
func (s *site) scrape(ctx context.Context, show func(*scrape)) {
	one, _ := s.scrapes.Get().(*scrape)
	one.accounts = collector.Scrape(ctx, s.accounts.refreshers())
	show(one)
	one.accounts = nil // keeps no account that has gone
	s.scrapes.Put(one)
}

func (s *site) metrics(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := s.withScrapeTimeout(r)
	defer cancel()
	s.scrape(ctx, func(one *scrape) { //nolint:contextcheck // promhttp has the request's
		answering(w)
		one.handler.ServeHTTP(w, r)
	})
}

// withScrapeTimeout returns the request's context, bound by what Prometheus
// says it will wait. A header without sense is no bound.
func (s *site) withScrapeTimeout(r *http.Request) (context.Context, context.CancelFunc) {
	header := r.Header.Get(scrapeTimeoutHeader)
	timeout, err := scrapeTimeout(header, s.config.ScrapeTimeoutOffset)
	if err != nil {
		level.Debug(s.logger).Log("msg", "scrape timeout ignored", "header", shown(header), "err", err)
	}
	if timeout == 0 {
		return r.Context(), func() {}
	}
	return context.WithTimeout(r.Context(), timeout)
}

// scrapeTimeout is how long a scrape may take: the header's seconds less
// offset, or half of them where that would leave nothing; 0 without a header.
func scrapeTimeout(header string, offset time.Duration) (time.Duration, error) {
	if header == "" {
		return 0, nil
	}
	seconds, err := strconv.ParseFloat(header, 64)
	if err != nil {
		return 0, fmt.Errorf("not a number of seconds: %w", err)
	}
	if math.IsNaN(seconds) || seconds < time.Nanosecond.Seconds()*2 || seconds > time.Duration(math.MaxInt64).Seconds()/2 {
		return 0, fmt.Errorf("no time to wait: %v s", seconds)
	}
	timeout := time.Duration(seconds * float64(time.Second))
	if timeout <= offset {
		return timeout / 2, nil
	}
	return timeout - offset, nil
}

// scrapeLog takes promhttp's messages.
type scrapeLog struct{ log.Logger }

// Println implements promhttp.Logger.
func (l scrapeLog) Println(v ...any) {
	logger := level.Debug(l) // a client that went away, once a metric family
	if len(v) > 0 && strings.HasPrefix(fmt.Sprint(v[0]), "error gathering") {
		logger = level.Error(l)
	}
	logger.Log("msg", "answering a scrape", "err", oneLine(fmt.Sprintln(v...)))
}

// say answers with one line of text.
func say(w http.ResponseWriter, code int, format string, args ...any) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = fmt.Fprintf(w, format+"\n", args...)
}

func (s *site) healthy(w http.ResponseWriter, _ *http.Request) {
	var stuck []string
	for _, a := range s.accounts.list() {
		if !a.refresher.Healthy() {
			stuck = append(stuck, fmt.Sprintf("%q", a.config.Account))
		}
	}
	if len(stuck) > 0 {
		say(w, http.StatusServiceUnavailable, "The refresh loop does not tick: %s", strings.Join(stuck, ", "))
		return
	}
	say(w, http.StatusOK, "Healthy.")
}

func (s *site) ready(w http.ResponseWriter, _ *http.Request) {
	var waiting []string
	for _, a := range s.accounts.list() {
		if a.refresher.Ready() {
			continue
		}
		read, expected := a.refresher.Progress()
		waiting = append(waiting, fmt.Sprintf("%q: %s", a.config.Account, progress(read, expected)))
	}
	if len(waiting) > 0 {
		say(w, http.StatusServiceUnavailable, "Not ready, the first refresh is under way:\n%s", strings.Join(waiting, "\n"))
		return
	}
	say(w, http.StatusOK, "Ready.")
}

// progress says how far a refresh is.
func progress(read, expected int) string {
	switch {
	case read == 0 && expected == 0:
		return "waiting to begin"
	case expected == 0:
		return fmt.Sprintf("reading, %d pages so far", read)
	default:
		return fmt.Sprintf("reading, %d of about %d pages", read, max(read, expected))
	}
}

func (s *site) reloadNow(w http.ResponseWriter, _ *http.Request) {
	if !s.config.EnableLifecycle {
		say(w, http.StatusForbidden, "Reloading by request is off: start with --web.enable-lifecycle, or send SIGHUP.")
		return
	}
	if err := s.reload(); err != nil {
		say(w, http.StatusInternalServerError, "Reload failed, nothing has changed: %s", err)
		return
	}
	say(w, http.StatusOK, "Reloaded.")
}
