package twilio

import (
	"compress/flate"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/common/version"
	"golang.org/x/time/rate"
)

const (
	maxErrorBody = 64 << 10 // bytes read of an answer other than 200
	backoffBase  = 500 * time.Millisecond
	backoffMax   = 30 * time.Second
)

// A request is what a caller asks for, with its retries.
type request struct {
	endpoint Endpoint
	url      *url.URL
	decode   func(body io.Reader) error // of a 200
	attempts int                        // that went out
	sanitize sanitizer
}

// get sends a request, as often as it may, and has decode read the body of a 200, each time from the start where an
// attempt breaks off.
func (c *Client) get(ctx context.Context, endpoint Endpoint, u *url.URL, decode func(io.Reader) error) error {
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return errors.New("base URL: should be http or https, with a host")
	}
	r := &request{endpoint: endpoint, url: u, decode: decode}
	var last error // of the attempt before
	for {
		err := c.attempt(ctx, r)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil && last != nil:
			return fmt.Errorf("%s: %w (last failure: %v)", endpoint, err, last) //nolint:errorlint // it is ctx's
		case !retryable(err) || r.attempts > c.options.MaxRetries:
			if r.attempts > 1 {
				return fmt.Errorf("%s: %w (%d attempts)", endpoint, err, r.attempts)
			}
			return fmt.Errorf("%s: %w", endpoint, err)
		}
		last = err
		_ = level.Warn(c.options.Logger).Log("msg", "retrying an API request", "endpoint", endpoint,
			"retry", r.attempts, "max_retries", c.options.MaxRetries, "reason", err)
		if api, ok := errors.AsType[*Error](err); ok && api.throttles() {
			continue // to the cooldown
		}
		select {
		case <-time.After(c.backoff(r.attempts - 1)):
		case <-ctx.Done():
		}
	}
}

// retryable lists what is sent again, so that nothing unforeseen is: the API forbids to repeat what ended in a 500.
func retryable(err error) bool {
	if api, ok := errors.AsType[*Error](err); ok {
		return api.throttles() || api.StatusCode == http.StatusBadGateway || api.StatusCode == http.StatusGatewayTimeout
	}
	network, ok := errors.AsType[*NetworkError](err)
	return ok && network.Temporary()
}

// throttles tells whether the answer starts a cooldown.
func (e *Error) throttles() bool {
	return e.StatusCode == http.StatusTooManyRequests || e.StatusCode == http.StatusServiceUnavailable
}

// attempt waits for its turn, sends the request once and reads the answer.
func (c *Client) attempt(ctx context.Context, r *request) error {
	if err := c.turn(ctx, r.endpoint); err != nil {
		return err
	}
	defer c.inFlight.Release(1)
	r.attempts++
	start := time.Now()
	code, err := c.exchange(ctx, r)
	took := time.Since(start)
	if c.options.Observe != nil {
		c.options.Observe(Request{Endpoint: r.endpoint, Code: code, Duration: took})
	}
	_ = level.Debug(c.options.Logger).Log("msg", "API request", "endpoint", r.endpoint, "attempt", r.attempts,
		"code", code, "duration", took, "err", err)
	return err
}

// turn waits until there is no cooldown, fewer than InFlight requests are under way, and the rate limit allows another.
func (c *Client) turn(ctx context.Context, endpoint Endpoint) error {
	if endpoint == EndpointFetch && c.lists.Load() > 0 {
		if err := pace(ctx, c.fetchLimiter); err != nil {
			return err
		}
	}
	for {
		if err := c.cooldown.wait(ctx); err != nil {
			return err
		}
		if err := c.inFlight.Acquire(ctx, 1); err != nil {
			return err
		}
		err := pace(ctx, c.limiter)
		if err == nil && c.cooldown.retryAt().IsZero() { // it may have started meanwhile
			return nil
		}
		c.inFlight.Release(1)
		if err != nil {
			return err
		}
	}
}

// exchange sends a request and reads the answer, within Options.Timeout. A body that breaks off fails it as a lost
// connection does. The code is that of the answer, 0 without a whole one. No error holds text that was not sanitized.
func (c *Client) exchange(ctx context.Context, r *request) (code int, err error) {
	limited, cancel := context.WithTimeout(ctx, c.options.Timeout)
	defer cancel()
	limited = httptrace.WithClientTrace(limited, r.sanitize.trace())
	req, err := http.NewRequestWithContext(limited, http.MethodGet, r.url.String(), http.NoBody)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Accept-Encoding", "gzip")
	req.Header.Set("User-Agent", version.ComponentUserAgent("twilio_operations_exporter"))
	if proxy, _ := c.options.Proxy(req); proxy != nil { // the transport tells of its error
		r.sanitize.addUser(proxy.User)
	}
	// The transport itself, without an http.Client: no redirect is followed.
	resp, err := c.options.Transport.RoundTrip(req)
	if err == nil {
		c.readHeaders(r, resp)
		err = readBody(r, resp)
	}
	if err == nil {
		return http.StatusOK, nil
	}
	if api, ok := errors.AsType[*Error](err); ok {
		if beyond := c.cooldown.beyond(ctx); beyond != nil && api.throttles() {
			return api.StatusCode, beyond
		}
		return api.StatusCode, api
	}
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	if limited.Err() != nil {
		return 0, &NetworkError{timeoutError{c.options.Timeout}}
	}
	if decode, ok := errors.AsType[*DecodeError](err); ok { // it came whole, whatever it says
		r.sanitize.decodeError(decode)
		return http.StatusOK, decode
	}
	if errors.Is(err, ErrBodyTooLarge) {
		return 0, ErrBodyTooLarge
	}
	if record, ok := errors.AsType[tls.RecordHeaderError](err); ok && string(record.RecordHeader[:]) == "HTTP/" {
		return 0, &NetworkError{http.ErrSchemeMismatch}
	}
	return 0, &NetworkError{r.sanitize.err(err)}
}

// readHeaders takes from an answer what concerns all later requests. It is read before the body, which may be slow.
func (c *Client) readHeaders(r *request, resp *http.Response) {
	now := time.Now()
	date, err := http.ParseTime(resp.Header.Get("Date"))
	switch resp.StatusCode {
	case http.StatusOK:
		if err == nil && c.clock.observe(date, now) {
			_ = level.Warn(c.options.Logger).Log("msg", "clocks differ by more than an hour, not correcting for it",
				"local", now.UTC().Format(time.RFC3339), "api", date.UTC().Format(time.RFC3339))
		}
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		if err != nil {
			date = c.Now()
		}
		header := resp.Header.Values("Retry-After")
		logger := log.With(c.options.Logger, "endpoint", r.endpoint, "code", resp.StatusCode)
		wait, ok := retryAfter(header, date)
		if wait > maxRetryAfter {
			_ = level.Warn(logger).Log("msg", "Retry-After is longer than an hour, waiting an hour",
				"retry_after", r.sanitize.text(strings.Join(header, ", "), maxErrorText))
			wait = maxRetryAfter
		}
		if ok {
			wait += jitter(100*time.Millisecond + min(wait/20, 2*time.Second))
		} else {
			wait = c.backoff(r.attempts - 1)
		}
		until := now.Add(wait)
		if c.cooldown.extend(until, resp.StatusCode) {
			_ = level.Warn(logger).Log("msg", "API is throttling, pausing requests", "until", until.UTC().Format(time.RFC3339))
		}
	}
}

// readBody reads and closes the body of resp: of a 200 it is decoded as it comes, so that no answer is held whole. Any
// other answer is an *Error, whatever becomes of its body.
func readBody(r *request, resp *http.Response) error {
	defer resp.Body.Close() //nolint:errcheck // it was read, or reading failed
	body, err := decompress(resp)
	if resp.StatusCode != http.StatusOK {
		var text []byte
		if err == nil {
			text, _ = io.ReadAll(io.LimitReader(body, maxErrorBody))
		}
		return &Error{StatusCode: resp.StatusCode, Details: decodeErrors(text, &r.sanitize)}
	}
	if err == nil {
		err = r.decode(body)
	}
	_, corrupt := errors.AsType[flate.CorruptInputError](err)
	if corrupt || errors.Is(err, gzip.ErrHeader) || errors.Is(err, gzip.ErrChecksum) {
		return &DecodeError{Problem: "corrupt gzip"}
	}
	return err
}

// decompress returns the body as it was before compression. That the client asks for gzip itself has a reason: the
// transport may be set up not to.
func decompress(resp *http.Response) (io.Reader, error) {
	switch encoding := resp.Header.Get("Content-Encoding"); strings.ToLower(encoding) {
	case "", "identity":
		return resp.Body, nil
	case "gzip":
		body, err := gzip.NewReader(resp.Body)
		if errors.Is(err, io.EOF) {
			return http.NoBody, nil // nothing, compressed or not
		}
		return body, err
	default:
		return nil, &DecodeError{Problem: "content encoding " + encoding + ", which nobody asked for"}
	}
}

// pace waits for the limiter, or until ctx ends.
func pace(ctx context.Context, limiter *rate.Limiter) error {
	if limiter.Wait(ctx) != nil && ctx.Err() == nil {
		return fmt.Errorf("%w: the rate limit leaves no request before it", context.DeadlineExceeded)
	}
	return ctx.Err()
}

// backoff doubles with each attempt, from 0; half of it is chance.
func backoff(attempt int) time.Duration {
	d := min(backoffBase<<min(attempt, 16), backoffMax)
	return d/2 + jitter(d/2)
}

// jitter is a random time from 0 to less than limit.
func jitter(limit time.Duration) time.Duration {
	return rand.N(limit) //nolint:gosec // nobody gains by guessing it
}
