package twilio

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestRetries checks what is retried, how often, after which wait, and with which result.
func TestRetries(t *testing.T) {
	lost := errors.New("connection reset by peer")
	tests := []struct {
		name     string
		answers  []int // statuses; 0 is a lost connection; the last one goes on
		sent     []time.Duration
		codes    []int
		err      int // status of the *Error wanted
		contains []string
	}{
		{name: "200", answers: []int{200}, sent: []time.Duration{0}},
		{name: "502 passes", answers: []int{502, 502, 200}, sent: []time.Duration{0, 1, 3}},
		{name: "504 passes", answers: []int{504, 200}, sent: []time.Duration{0, 1}},
		{name: "503 passes", answers: []int{503, 200}, sent: []time.Duration{0, 1}},
		{name: "429 passes", answers: []int{429, 200}, sent: []time.Duration{0, 1}},
		{name: "a lost connection passes", answers: []int{0, 200}, sent: []time.Duration{0, 1}},
		{name: "of all kinds", answers: []int{0, 502, 429, 504, 200}, sent: []time.Duration{0, 1, 3, 7, 15}},
		{
			name:     "429 stays",
			answers:  []int{429},
			sent:     []time.Duration{0, 1, 3, 7, 15},
			err:      429,
			contains: []string{"429 Too Many Requests", "(5 attempts)"},
		},
		{
			name:     "502 stays",
			answers:  []int{502},
			sent:     []time.Duration{0, 1, 3, 7, 15},
			err:      502,
			contains: []string{"502 Bad Gateway", "(5 attempts)"},
		},
		{
			name:     "no connection at all",
			answers:  []int{0},
			sent:     []time.Duration{0, 1, 3, 7, 15},
			contains: []string{"connection reset by peer", "(5 attempts)"},
		},
		{
			name:     "500",
			answers:  []int{500},
			sent:     []time.Duration{0},
			err:      500,
			contains: []string{"fetch_operation: 500 Internal Server Error"},
		},
		{name: "502, then 500", answers: []int{502, 500}, sent: []time.Duration{0, 1}, err: 500},
	}

	for _, status := range []int{201, 204, 206, 301, 302, 304, 307, 308, 400, 401, 403, 404, 405, 408, 413, 418, 425, 501, 505, 520} {
		tests = append(tests, struct {
			name     string
			answers  []int
			sent     []time.Duration
			codes    []int
			err      int
			contains []string
		}{name: strconv.Itoa(status), answers: []int{status}, sent: []time.Duration{0}, err: status})
	}

	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var codes []int
				api := newFakeAPI(func(n int, req *http.Request) (*http.Response, error) {
					status := tt.answers[min(n, len(tt.answers))-1]
					codes = append(codes, status)
					if status == 0 {
						return nil, lost
					}
					return answer(req, status, one, "Location", "https://elsewhere.test/%zz"), nil
				})

				observed := &records{}
				c := testClient(t, "https://api.test/v1", api, withObserve(observed))
				op, err := c.FetchOperation(t.Context(), oneDecoded.ID)

				var apiErr *Error
				var network *NetworkError
				switch codes[len(codes)-1] {
				case 200:
					if err != nil || op != oneDecoded {
						t.Errorf("got %+v, %v", op, err)
					}
				case 0:
					if !errors.As(err, &network) || !errors.Is(err, lost) {
						t.Errorf("got %v, want a *NetworkError", err)
					}
				default:
					if !errors.As(err, &apiErr) || apiErr.StatusCode != tt.err {
						t.Errorf("got %v, want status %d", err, tt.err)
					}
				}

				for _, s := range tt.contains {
					if !strings.Contains(err.Error(), s) {
						t.Errorf("%q lacks %q", err, s)
					}
				}

				var sent []time.Duration
				for _, at := range api.requests() {
					sent = append(sent, at/time.Second)
				}
				if !slices.Equal(sent, tt.sent) {
					t.Errorf("sent at %d s, want %d", sent, tt.sent)
				}
				if got := observed.codes(); !slices.Equal(got, codes) {
					t.Errorf("observed %v, want %v", got, codes)
				}
			})
		})
	}
}

// TestNoRetry checks that failures that do not pass by themselves are not retried.
func TestNoRetry(t *testing.T) {
	for _, failure := range []error{
		&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}},
		&fs.PathError{Op: "open", Path: "/run/secrets/token", Err: fs.ErrNotExist},
	} {
		t.Run(fmt.Sprintf("%T", failure), func(t *testing.T) {
			api := newFakeAPI(
				func(int, *http.Request) (*http.Response, error) { return nil, fmt.Errorf("reading: %w", failure) },
			)
			c := testClient(t, "https://api.test", api)
			err := first(t.Context(), c)
			var network *NetworkError
			if !errors.As(err, &network) || network.Temporary() {
				t.Errorf("got %T %v", err, err)
			}
			if n := len(api.requests()); n != 1 {
				t.Errorf("%d requests", n)
			}
		})
	}

	t.Run("real servers", func(t *testing.T) {
		quiet := slog.NewLogLogger(slog.DiscardHandler, 0)
		secure := httptest.NewUnstartedServer(http.NotFoundHandler())
		secure.Config.ErrorLog = quiet
		secure.StartTLS()
		defer secure.Close()
		plain := httptest.NewServer(http.NotFoundHandler())
		defer plain.Close()

		for base, want := range map[string]string{
			secure.URL: "certificate",
			strings.Replace(plain.URL, "http", "https", 1): "server gave HTTP response to HTTPS client",
		} {
			observed := &records{}
			transport := &http.Transport{}
			err := first(t.Context(), testClient(t, base, transport, withObserve(observed)))
			if err == nil || !strings.Contains(err.Error(), want) || len(observed.codes()) != 1 {
				t.Errorf("%d requests, got %v, want %s", len(observed.codes()), err, want)
			}
			transport.CloseIdleConnections()
		}
	})

	for _, base := range []string{"ftp://api.test", "api.test/v1", "https:///v1"} {
		t.Run(base, func(t *testing.T) {
			api := newFakeAPI(func(int, *http.Request) (*http.Response, error) { return nil, errors.New("asked") })
			err := first(t.Context(), testClient(t, base, api))
			if err == nil || len(api.requests()) != 0 {
				t.Errorf("got %v after %d requests", err, len(api.requests()))
			}
		})
	}
}

func TestMaxRetriesZero(t *testing.T) {
	for _, status := range []int{429, 502, 503} {
		synctest.Test(t, func(t *testing.T) {
			api := newFakeAPI(func(_ int, req *http.Request) (*http.Response, error) {
				return answer(req, status, "", "Retry-After", "5"), nil
			})
			c := testClient(t, "https://api.test", api, func(o *Options) { o.MaxRetries = 0 })
			var apiErr *Error
			if err := first(t.Context(), c); !errors.As(err, &apiErr) || apiErr.StatusCode != status {
				t.Errorf("got %v", err)
			}
			if len(api.requests()) != 1 || time.Since(api.start) != 0 {
				t.Errorf("%d requests in %v", len(api.requests()), time.Since(api.start))
			}
		})
	}
}

// TestTimeoutOfOneAttempt checks that Options.Timeout applies to each attempt by itself and does not include waiting at
// the gate.
func TestTimeoutOfOneAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newFakeAPI(func(n int, req *http.Request) (*http.Response, error) {
			switch n {
			case 1: // no header in time
				<-req.Context().Done()
				return nil, req.Context().Err()
			case 2: // no body in time
				resp := answer(req, 200, "")
				resp.Body = io.NopCloser(stalled{req.Context()})
				return resp, nil
			case 3:
				return answer(req, 429, "", "Retry-After", "3600"), nil
			}

			<-time.After(9 * time.Second)
			return answer(req, 200, one), nil
		})

		observed := &records{}
		c := testClient(t, "https://api.test", api, withObserve(observed), func(o *Options) { o.Timeout = 10 * time.Second })
		if _, err := c.FetchOperation(t.Context(), oneDecoded.ID); err != nil {
			t.Fatal(err)
		}
		if got := observed.codes(); !slices.Equal(got, []int{0, 0, 429, 200}) {
			t.Errorf("observed %v", got)
		}

		for i, want := range []time.Duration{10 * time.Second, 10 * time.Second, 0, 9 * time.Second} {
			if got := observed.list[i].Duration; got != want {
				t.Errorf("attempt %d took %v, want %v", i+1, got, want)
			}
		}
	})
}

// A reader that gives nothing until its context ends.
type stalled struct{ ctx context.Context } //nolint:containedctx // as a body has

func (s stalled) Read([]byte) (int, error) {
	<-s.ctx.Done()
	return 0, s.ctx.Err()
}

func TestTimeoutIsNotTheCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newFakeAPI(func(_ int, req *http.Request) (*http.Response, error) {
			<-req.Context().Done()
			return nil, req.Context().Err()
		})

		c := testClient(t, "https://api.test", api, func(o *Options) { o.Timeout = 10 * time.Second })

		err := first(t.Context(), c)
		var network *NetworkError
		if !errors.As(err, &network) || !network.Timeout() || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("attempts timed out, got %v", err)
		}
		if want := "list_operations: no complete answer within 10s (5 attempts)"; err.Error() != want {
			t.Errorf("got %q, want %q", err, want)
		}

		// The caller's deadline, here while an attempt is under way and there
		// while one is waited for.
		for _, after := range []time.Duration{5 * time.Second, 10500 * time.Millisecond} {
			ctx, cancel := context.WithTimeout(t.Context(), after)
			start := time.Now()
			err = first(ctx, c)
			if !errors.Is(err, context.DeadlineExceeded) || errors.As(err, &network) {
				t.Errorf("the caller's deadline passed, got %T %v", err, err)
			}
			if d := time.Since(start); d != after {
				t.Errorf("ended after %v, want %v", d, after)
			}
			if after > 10*time.Second && !strings.Contains(err.Error(), "last failure: no complete answer within 10s") {
				t.Errorf("%q does not say what failed before", err)
			}
			cancel()
		}
	})
}

func TestCancelIsPrompt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newFakeAPI(func(n int, req *http.Request) (*http.Response, error) {
			if n == 1 {
				return answer(req, 502, ""), nil
			}
			<-req.Context().Done()
			return nil, req.Context().Err()
		})

		c := testClient(t, "https://api.test", api)
		for _, after := range []time.Duration{500 * time.Millisecond, 2 * time.Second, 0} { // in backoff, under way, before
			ctx, cancel := context.WithCancel(t.Context())
			start := time.Now()
			if after == 0 {
				cancel()
			}
			stop := time.AfterFunc(after, cancel)
			if err := first(ctx, c); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			if d := time.Since(start); d != after {
				t.Errorf("ended after %v, want %v", d, after)
			}
			stop.Stop()
			cancel()
		}

		if n := len(api.requests()); n != 2 {
			t.Errorf("%d requests", n)
		}
	})
}

// TestSkew checks which answers set the clock; clock_test.go has the rest.
func TestSkew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ahead time.Duration
		status := 200
		api := newFakeAPI(func(_ int, req *http.Request) (*http.Response, error) {
			return answer(req, status, one, "Date", time.Now().Add(ahead).UTC().Format(http.TimeFormat)), nil
		})
		var log bytes.Buffer
		c := testClient(t, "https://api.test", api, withLog(&log))
		if _, ok := c.Skew(); ok || !c.Now().Equal(time.Now()) {
			t.Error("knows the API's clock without an answer")
		}

		for i, tt := range []struct {
			status      int
			ahead       time.Duration
			skew, moved time.Duration
			warnings    int
		}{
			{200, time.Minute, time.Minute, time.Minute, 0},
			{404, 30 * time.Minute, time.Minute, time.Minute, 0}, // only a 200 counts
			{404, 30 * time.Minute, time.Minute, time.Minute, 0},
			{200, 48 * time.Hour, time.Minute, time.Minute, 0},
			{200, 48 * time.Hour, 48 * time.Hour, 0, 1},
			{200, 48 * time.Hour, 48 * time.Hour, 0, 1},
			{200, 0, 48 * time.Hour, 0, 1},
			{200, 0, 0, 0, 1},
		} {
			status, ahead = tt.status, tt.ahead
			_, _ = c.FetchOperation(t.Context(), oneDecoded.ID)
			if skew, ok := c.Skew(); !ok || skew != tt.skew {
				t.Errorf("answer %d: skew %v %v, want %v", i+1, skew, ok, tt.skew)
			}
			if moved := time.Until(c.Now()); moved != tt.moved {
				t.Errorf("answer %d: now moved by %v, want %v", i+1, moved, tt.moved)
			}
			if n := strings.Count(log.String(), "clocks differ"); n != tt.warnings {
				t.Errorf("answer %d: %d warnings, want %d\n%s", i+1, n, tt.warnings, &log)
			}
		}
	})
}
