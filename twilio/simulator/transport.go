package simulator

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"syscall"
)

// Transport returns a RoundTripper that calls a handler in this process: the
// client sees the handler's answers, streamed, whatever host it asks, and no
// socket is opened. A handler that panics with http.ErrAbortHandler looks like
// a reset connection. Answers are compressed only if the request says so
// itself.
func Transport(h http.Handler) http.RoundTripper { return transport{h} }

type transport struct{ handler http.Handler }

// RoundTrip implements http.RoundTripper.
func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		closeBody(r)
		return nil, err
	}
	// As with a server, the handler's context ends when the client has gone.
	ctx, cancel := context.WithCancel(r.Context())
	served := r.Clone(ctx)
	served.RequestURI = r.URL.RequestURI()
	served.RemoteAddr = "127.0.0.1:0"
	if served.Host == "" {
		served.Host = r.URL.Host
	}
	if served.Body == nil {
		served.Body = http.NoBody
	}
	body, pipe := io.Pipe()
	stop := context.AfterFunc(ctx, func() { _ = pipe.CloseWithError(context.Cause(ctx)) })
	w := &answerWriter{
		header: http.Header{}, pipe: pipe, request: r, answered: make(chan *http.Response, 1),
		body: &answerBody{PipeReader: body, cancel: func() { stop(); cancel() }},
	}
	gone := make(chan error, 1)
	go func() {
		defer closeBody(r)
		defer func() {
			err := errReset
			switch p := recover(); {
			case p == nil:
				err = nil
				w.WriteHeader(http.StatusOK)
			case p != http.ErrAbortHandler: //nolint:errorlint // what net/http compares, too
				err = fmt.Errorf("handler panicked: %v", p)
			case r.Context().Err() != nil:
				// Aborted because the client has given up: then it is told so.
				err = r.Context().Err()
			}
			_ = pipe.CloseWithError(err)
			gone <- err
		}()
		t.handler.ServeHTTP(w, served)
	}()
	var err error
	select {
	case response := <-w.answered:
		return response, nil
	case err = <-gone:
	case <-ctx.Done():
		err = r.Context().Err()
	}
	select { // it may have answered and gone
	case response := <-w.answered:
		return response, nil
	default:
	}
	_ = w.body.Close()
	return nil, err
}

var errReset = fmt.Errorf("simulated connection: %w", syscall.ECONNRESET)

func closeBody(r *http.Request) {
	if r.Body != nil {
		_ = r.Body.Close()
	}
}

// answerWriter hands the answer over when its header is written, and its body
// as it is written.
type answerWriter struct {
	header   http.Header
	pipe     *io.PipeWriter
	body     *answerBody
	request  *http.Request
	once     sync.Once
	answered chan *http.Response
}

// Header implements http.ResponseWriter.
func (w *answerWriter) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter.
func (w *answerWriter) WriteHeader(code int) {
	w.once.Do(func() {
		length, err := strconv.ParseInt(w.header.Get("Content-Length"), 10, 64)
		if err != nil {
			length = -1
		}
		w.answered <- &http.Response{
			Status:        strconv.Itoa(code) + " " + http.StatusText(code),
			StatusCode:    code,
			Proto:         "HTTP/1.1",
			ProtoMajor:    1,
			ProtoMinor:    1,
			Header:        w.header.Clone(),
			Body:          w.body,
			ContentLength: length,
			Request:       w.request,
		}
	})
}

// Write implements http.ResponseWriter.
func (w *answerWriter) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.pipe.Write(b)
}

// Flush implements http.Flusher: nothing is held back.
func (w *answerWriter) Flush() { w.WriteHeader(http.StatusOK) }

type answerBody struct {
	*io.PipeReader
	cancel func()
}

// Close lets the handler know that nobody reads on.
func (b *answerBody) Close() error {
	b.cancel()
	return b.PipeReader.Close()
}
