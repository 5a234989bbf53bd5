// Package web serves the metrics, the landing page and the endpoints for operating the program.
package web

import (
	"context"
	"fmt"
	stdlog "log"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"
	toolkit "github.com/prometheus/exporter-toolkit/web"

	"twilio_operations_exporter/internal/account"
	"twilio_operations_exporter/internal/config"
	"twilio_operations_exporter/internal/sanitize"
)

const (
	writeTimeout = 30 * time.Second // for a response, without the time in which it waits for the API
	readTimeout  = 10 * time.Second
	idleTimeout  = 2 * time.Minute
	// maxHeader is how many bytes the header of a request may have. net/http adds 4 KiB to what it is told.
	maxHeader = 64<<10 - 4<<10
	// stopTimeout is well below the 5 seconds within which the program ends: what is in flight has been cancelled.
	stopTimeout = 2 * time.Second
)

// newHTTPServer returns a server without an address. It does not use the default mux, to which any library may add.
func newHTTPServer(h http.Handler, logger *slog.Logger) (*http.Server, *connections) {
	conns := newConnections()
	return &http.Server{
		Handler:           fewFields(h),
		ErrorLog:          stdlog.New(serverLog{logger}, "", 0),
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams, MaxReadFrameSize: maxFrame},
		ConnState:         conns.changed,
	}, conns
}

// fewFields refuses requests with many header fields: an empty one takes far more memory than it is long.
func fewFields(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fields := 0
		for _, values := range r.Header {
			fields += len(values)
		}
		if fields > maxFields {
			w.Header().Set("Connection", "close")
			code := http.StatusRequestHeaderFieldsTooLarge
			writeText(w, code, "%s.", http.StatusText(code))
			return
		}
		h.ServeHTTP(w, r)
	})
}

// serverLog takes net/http's messages. Most are about one client's connection, such as a failed TLS handshake.
type serverLog struct{ *slog.Logger }

// Write implements io.Writer.
func (l serverLog) Write(message []byte) (int, error) {
	text := sanitize.OneLine(string(message))
	severity := slog.LevelDebug
	if strings.HasPrefix(text, "http: panic serving") || strings.HasPrefix(text, "http: Accept error") {
		severity = slog.LevelError
	}
	l.Log(context.Background(), severity, text)
	return len(message), nil
}

// Server is the HTTP interface of the program.
type Server struct {
	settings config.Web
	accounts *account.Manager
	registry *prometheus.Registry // of the exporter itself: what does not depend on a scrape
	process  *prometheus.Registry // of Go and the process
	logger   log.Logger
	started  time.Time
	renderer *renderer
}

// New returns a server that shows the accounts, and what the registry holds.
func New(settings config.Web, accounts *account.Manager, registry *prometheus.Registry, logger log.Logger) *Server {
	return &Server{
		settings: settings,
		accounts: accounts,
		registry: registry,
		process:  newProcessRegistry(),
		logger:   logger,
		started:  time.Now(),
		renderer: newRenderer(),
	}
}

// Handler returns the handler of all paths. Accounts that a reload starts run until ctx ends.
func (s *Server) Handler(ctx context.Context) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET "+s.settings.TelemetryPath, withoutDeadlines(s.metrics))
	mux.Handle("GET /probe", withoutDeadlines(s.probe))
	mux.HandleFunc("GET /sd/operations", s.operations)
	s.handleHealth(mux, someNames, howFar)

	// A page of another origin must not make a browser reload.
	mux.Handle("POST /-/reload", http.NewCrossOriginProtection().Handler(
		http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { s.reload(ctx, w) }),
	))
	mux.HandleFunc("GET /{$}", s.landing)
	if s.settings.EnablePprof {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}

	return bodiless(mux)
}

// bodiless refuses requests with a body, whatever their path.
func bodiless(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if r.ContentLength != 0 {
			refuseBody(w)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// refuseBody answers a request with a body, which no endpoint needs. net/http would read what comes of it before it
// writes a response, and hold the response for as long.
func refuseBody(w http.ResponseWriter) {
	c := http.NewResponseController(w)
	_ = c.EnableFullDuplex() // writes without reading; HTTP/2 does so anyway
	w.Header().Set("Connection", "close")
	writeText(w, http.StatusRequestEntityTooLarge, "A request must not have a body.")
}

// withoutDeadlines lifts the server's deadlines for a request that may wait for the API for long: the write deadline
// would cut off the response, and when the read deadline passes, net/http cancels the request. The handler calls
// setDeadlines once it has something to write.
func withoutDeadlines(h http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w)
		// An error means that there is no deadline to lift, as in a recorder.
		_ = c.SetReadDeadline(time.Time{})
		_ = c.SetWriteDeadline(time.Time{})
		h(w, r)
	})
}

// setDeadlines sets the deadlines of a response that is written now, and of what is read after it.
func setDeadlines(w http.ResponseWriter) {
	c := http.NewResponseController(w)
	now := time.Now()
	_ = c.SetReadDeadline(now.Add(readTimeout))
	_ = c.SetWriteDeadline(now.Add(writeTimeout))
}

// writeText responds with a line of plain text.
func writeText(w http.ResponseWriter, code int, format string, args ...any) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = fmt.Fprintf(w, format+"\n", args...)
}

func (s *Server) reload(ctx context.Context, w http.ResponseWriter) {
	if !s.settings.EnableLifecycle {
		writeText(w, http.StatusForbidden, "Reloading over HTTP is disabled: start with --web.enable-lifecycle, or send SIGHUP.")
		return
	}
	if err := s.accounts.Reload(ctx); err != nil {
		writeText(w, http.StatusInternalServerError, "Reload failed, keeping the previous configuration: %s", err)
		return
	}
	writeText(w, http.StatusOK, "Reloaded.")
}

// Serve listens on the addresses of flags and serves until ctx ends. It calls onListening once, with an address for
// browsers on this host, when all listeners are open and before the first request.
//
// Whoever was accepted gets a response. http.Server.Shutdown would drop connections whose first request it has not read
// yet, and where systemd holds the port, the client of such a connection is the only one to notice a restart. One that
// sends no request, or keeps an idle HTTP/2 connection, is cut off after stopTimeout.
func (s *Server) Serve(
	ctx context.Context, flags *toolkit.FlagConfig, logger *slog.Logger, onListening func(address string),
) error {
	stopHealth, err := s.serveHealth(ctx, logger)
	if err != nil {
		return err
	}
	defer stopHealth()

	server, conns := newHTTPServer(s.Handler(ctx), logger)

	var once sync.Once
	// exporter-toolkit opens the listeners (TCP, vsock or systemd's) and serves on them in one call; net/http asks for
	// the base context in between. That it is ctx ends requests that wait for the API.
	server.BaseContext = func(l net.Listener) context.Context {
		once.Do(func() { onListening(localAddress(l.Addr())) })
		context.AfterFunc(ctx, func() {
			server.SetKeepAlivesEnabled(false)
			conns.stop()
			_ = l.Close()
		})
		return ctx
	}

	guardWebConfig(server, *flags.WebConfigFile, logger)

	err = toolkit.ListenAndServe(server, flags, logger)
	if ctx.Err() == nil {
		if *flags.WebSystemdSocket {
			return fmt.Errorf("--web.systemd-socket: %w: start the program from a systemd socket unit", err)
		}
		return fmt.Errorf("--web.listen-address: %w: choose a free port and an address of this host", err)
	}

	stopping, stopped := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	go func() {
		defer stopped()
		conns.wait()
	}()
	<-stopping.Done()
	_ = server.Close()
	return nil
}

// guardWebConfig has a server refuse connections and requests while a file that exporter-toolkit reads for each of them
// cannot be read at once, such as a FIFO or a device: reading it would not end.
func guardWebConfig(server *http.Server, file string, logger *slog.Logger) {
	if file == "" {
		return
	}
	server.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		if err := config.CheckWebConfig(file); err != nil {
			logger.Error("connection refused", "err", err)
			_ = conn.Close()
		}
		return ctx
	}

	// For a request, exporter-toolkit reads the file itself alone.
	readable := func() bool {
		info, err := os.Stat(file)
		if err == nil && !info.Mode().IsRegular() {
			logger.Error("--web.config.file is not a regular file", "file", file)
			return false
		}
		return true // exporter-toolkit tells of other errors
	}
	// exporter-toolkit has put its handler before the server's when the server asks for this.
	baseContext := server.BaseContext
	var once sync.Once
	server.BaseContext = func(l net.Listener) context.Context {
		once.Do(func() {
			authenticated := server.Handler
			server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if !readable() {
					http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
					return
				}
				authenticated.ServeHTTP(w, r)
			})
		})
		return baseContext(l)
	}
}

// localAddress is the address of a listener as a browser on this host takes it.
func localAddress(a net.Addr) string {
	if tcp, ok := a.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		return net.JoinHostPort("localhost", strconv.Itoa(tcp.Port))
	}
	return a.String()
}

// ServeLocal serves h on a free port of the loopback interface until the program ends, and returns the base URL of an
// API there.
func ServeLocal(ctx context.Context, h http.Handler) (*url.URL, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	server, _ := newHTTPServer(h, slog.New(slog.DiscardHandler))
	go func() { _ = server.Serve(l) }()
	return &url.URL{Scheme: "http", Host: l.Addr().String(), Path: "/v1"}, nil
}
