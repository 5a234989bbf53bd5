package testutil

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
)

func TestTransport(t *testing.T) {
	called := false
	ctx, cancel := context.WithCancel(t.Context())
	client := &http.Client{Transport: Transport(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		called = true
		switch r.URL.Path {
		case "/reset":
			panic(http.ErrAbortHandler)
		case "/canceled":
			cancel()
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, r.Host+r.URL.Path)
	}))}

	ask := func(ctx context.Context, path string) (int, string, error) {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://api.test"+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(r)
		if err != nil {
			return 0, "", err
		}
		defer func() { _ = response.Body.Close() }()
		b, err := io.ReadAll(response.Body)
		return response.StatusCode, string(b), err
	}

	code, body, err := ask(t.Context(), "/path")
	if err != nil || code != http.StatusTeapot || !strings.HasSuffix(body, "/path") {
		t.Errorf("%d %q, %v", code, body, err)
	}
	if _, _, err := ask(t.Context(), "/reset"); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("reset: %v", err)
	}
	if _, _, err := ask(ctx, "/canceled"); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled while it is served: %v", err)
	}
	called = false
	if _, _, err := ask(ctx, "/path"); !errors.Is(err, context.Canceled) || called {
		t.Errorf("canceled before: %v, handler called: %v", err, called)
	}
}
