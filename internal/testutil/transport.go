package testutil

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"syscall"
)

// Transport returns a RoundTripper that calls a handler in this process, whatever the host, and opens no socket. A
// handler that panics with http.ErrAbortHandler looks like a reset connection, unless the request's context has ended.
func Transport(h http.Handler) http.RoundTripper { return transport{h} }

type transport struct{ handler http.Handler }

// RoundTrip implements http.RoundTripper.
func (t transport) RoundTrip(r *http.Request) (response *http.Response, err error) {
	defer func() {
		p := recover()
		switch cause := r.Context().Err(); {
		case p != nil && p != http.ErrAbortHandler: //nolint:errorlint // as net/http compares it
			panic(p)
		case cause != nil:
			response, err = nil, cause
		case p != nil:
			response, err = nil, fmt.Errorf("simulated connection: %w", syscall.ECONNRESET)
		}
	}()

	if err := r.Context().Err(); err != nil {
		return nil, err
	}

	w := httptest.NewRecorder()
	t.handler.ServeHTTP(w, r)
	response = w.Result()
	response.Request = r
	return response, nil
}
