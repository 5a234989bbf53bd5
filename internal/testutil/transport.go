package testutil

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"syscall"
)

// Transport returns a RoundTripper that calls a handler directly, whatever the host. If the handler panics with
// http.ErrAbortHandler, the error is that of the request's context or, if it has not ended, of a reset connection.
func Transport(h http.Handler) http.RoundTripper { return transport{h} }

type transport struct{ handler http.Handler }

// RoundTrip implements http.RoundTripper.
func (t transport) RoundTrip(r *http.Request) (response *http.Response, err error) {
	defer func() {
		p := recover()
		cause := r.Context().Err()
		switch {
		case p != nil && p != http.ErrAbortHandler: //nolint:errorlint // as net/http compares it
			panic(p)
		case cause != nil:
			response, err = nil, cause
		case p != nil:
			response, err = nil, fmt.Errorf("simulated connection: %w", syscall.ECONNRESET)
		}
	}()

	err = r.Context().Err()
	if err != nil {
		return nil, err
	}

	w := httptest.NewRecorder()
	t.handler.ServeHTTP(w, r)
	response = w.Result()
	response.Request = r
	return response, nil
}
