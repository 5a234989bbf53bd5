package web

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"twilio_operations_exporter/internal/account"
	"twilio_operations_exporter/internal/sanitize"
)

const (
	healthcheckTimeout = 5 * time.Second
	maxHealthAnswer    = 512 // bytes of an answer that are shown
)

// describe describes a list of accounts.
type describe func([]*account.Account) string

// handleHealth adds the paths for probes. stalled and waiting describe the accounts that are stalled and not ready.
func (s *Server) handleHealth(mux *http.ServeMux, stalled, waiting describe) {
	mux.HandleFunc("GET /-/healthy", func(w http.ResponseWriter, _ *http.Request) {
		list := slices.Clone(s.accounts.List())
		list = slices.DeleteFunc(list, func(a *account.Account) bool { return a.Refresher.Healthy() })
		if len(list) > 0 {
			writeText(w, http.StatusServiceUnavailable, "The refresh loop is stalled: %s", stalled(list))
			return
		}
		writeText(w, http.StatusOK, "Healthy.")
	})
	mux.HandleFunc("GET /-/ready", func(w http.ResponseWriter, _ *http.Request) {
		list := s.accounts.Waiting()
		if len(list) > 0 {
			writeText(w, http.StatusServiceUnavailable, "Not ready, waiting for the first refresh:\n%s", waiting(list))
			return
		}
		writeText(w, http.StatusOK, "Ready.")
	})
}

// howMany describes accounts by their number, without their names.
func (s *Server) howMany(accounts []*account.Account) string {
	return fmt.Sprintf("%d of %d accounts", len(accounts), len(s.accounts.List()))
}

// howFar describes accounts by the progress of their first refresh, with a line for each.
func howFar(accounts []*account.Account) string {
	lines := make([]string, len(accounts))
	for i, a := range accounts {
		status := a.Refresher.Status()
		lines[i] = fmt.Sprintf("%q: %s", a.Name(), progress(status.PagesRead, status.PagesExpected))
	}
	return strings.Join(lines, "\n")
}

// progress describes the progress of a refresh.
func progress(read, expected int) string {
	if expected == 0 {
		return "not started"
	}
	return fmt.Sprintf("%d of about %d pages read", read, max(read, expected))
}

// serveHealth serves health and readiness on an address of their own, without TLS and authentication, until stop is
// called. It names no accounts, as anybody may ask.
func (s *Server) serveHealth(ctx context.Context, logger *slog.Logger) (stop func(), err error) {
	address := s.settings.HealthListenAddress
	if address == "" {
		return func() {}, nil
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("--web.health-listen-address: %w: choose a free port and an address of this host", err)
	}
	logger.Info("listening for health checks", "address", l.Addr().String())

	mux := http.NewServeMux()
	s.handleHealth(mux, s.howMany, s.howMany)
	server, _ := newHTTPServer(bodiless(mux), logger)
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(l) }) // ends with Close
	return func() {
		_ = server.Close()
		serving.Wait()
	}, nil
}

// CheckHealth asks an exporter whether it is healthy. Redirects are not followed, and no proxy is used.
func CheckHealth(ctx context.Context, u *url.URL) error {
	ctx, cancel := context.WithTimeout(ctx, healthcheckTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return err
	}
	req.Close = true

	resp, err := (&http.Transport{MaxResponseHeaderBytes: maxHeader}).RoundTrip(req)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("healthcheck: %s did not answer within %v", u.Redacted(), healthcheckTimeout)
	case err != nil:
		// It may quote a long answer that is not HTTP.
		return fmt.Errorf("healthcheck: %s: %.200s: check that the exporter listens there", u.Redacted(), err.Error())
	}
	defer func() { _ = resp.Body.Close() }()

	status := strings.TrimSpace(fmt.Sprintf("%d %s", resp.StatusCode, http.StatusText(resp.StatusCode)))
	switch resp.StatusCode {
	case http.StatusOK:
		return nil // without reading the body
	case http.StatusUnauthorized, http.StatusBadRequest:
		return fmt.Errorf("healthcheck: %s answered %s: with TLS or authentication, use --web.health-listen-address",
			u.Redacted(), status)
	}
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, maxHealthAnswer)) // the status says enough
	return fmt.Errorf("healthcheck: %s answered %s: %s",
		u.Redacted(), status, sanitize.Quote(string(bytes.TrimSpace(answer))))
}
