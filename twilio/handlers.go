package twilio

import (
	"compress/flate"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"golang.org/x/time/rate"
)

const (
	errorBodyLimit = 64 << 10 // bytes looked at of any other answer
	backoffBase    = 500 * time.Millisecond
	backoffMax     = 30 * time.Second
)

// A call is one request of a caller, with its retries. It travels in the
// context of the HTTP request, for the handlers.
type call struct {
	endpoint Endpoint
	attempts int                        // that went out
	failure  string                     // why the last one is to be retried
	decode   func(body io.Reader) error // of a 200
	refusal  []byte                     // body of the last answer that was none
	sanitize sanitizer
}

type callKey struct{}

func callOf(req *http.Request) *call {
	c, _ := req.Context().Value(callKey{}).(*call)
	return c
}

// handler is one link of the chain that an attempt runs through.
type handler func(*http.Request) (*http.Response, error)

// RoundTrip makes a handler an http.RoundTripper.
func (h handler) RoundTrip(req *http.Request) (*http.Response, error) { return h(req) }

// chain puts the handlers around the transport. The order matters: an attempt
// waits first, and only then its time runs; headers are read as soon as they
// are there, so that a cooldown starts before a slow body has been read.
func (c *Client) chain(transport http.RoundTripper) http.RoundTripper {
	var h http.RoundTripper = c.readHeaders(transport)
	h = c.readWhole(h)
	h = c.observe(h)
	return c.rateLimit(h)
}

// rateLimit holds a request back until the cooldown is over and it is its turn.
func (c *Client) rateLimit(next http.RoundTripper) handler {
	return func(req *http.Request) (*http.Response, error) {
		ctx := req.Context()
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		for {
			if err := c.cooldown.wait(ctx); err != nil {
				return nil, err
			}
			resp, again, err := c.turn(req, next)
			if !again {
				return resp, err
			}
		}
	}
}

// turn waits until fewer than InFlight requests are under way and for the rate
// limit, and sends the request, unless a cooldown has started meanwhile.
func (c *Client) turn(req *http.Request, next http.RoundTripper) (resp *http.Response, again bool, err error) {
	ctx := req.Context()
	if callOf(req).endpoint == EndpointFetch && c.lists.Load() > 0 {
		if err = pace(ctx, c.fetchLimiter); err != nil {
			return nil, false, err
		}
	}
	if err = acquire(ctx, c.inFlight); err != nil {
		return nil, false, err
	}
	defer release(c.inFlight)
	if err = pace(ctx, c.limiter); err != nil {
		return nil, false, err
	}
	if !c.cooldown.retryAt().IsZero() {
		return nil, true, nil
	}
	resp, err = next.RoundTrip(req)
	return resp, false, err
}

// pace waits for the limiter, or until ctx ends.
func pace(ctx context.Context, limiter *rate.Limiter) error {
	err := limiter.Wait(ctx)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return fmt.Errorf("%w: the rate limit leaves no request before it", context.DeadlineExceeded)
}

// acquire takes one of the places of a semaphore; nil has no limit.
func acquire(ctx context.Context, semaphore chan struct{}) error {
	if semaphore == nil {
		return nil
	}
	select {
	case semaphore <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func release(semaphore chan struct{}) {
	if semaphore != nil {
		<-semaphore
	}
}

// observe counts and times attempts.
func (c *Client) observe(next http.RoundTripper) handler {
	return func(req *http.Request) (*http.Response, error) {
		call := callOf(req)
		call.attempts++
		start := time.Now()
		resp, err := next.RoundTrip(req)
		r := Request{Endpoint: call.endpoint, Duration: time.Since(start)}
		var decode *DecodeError
		switch {
		case err == nil:
			r.Code = resp.StatusCode
		case errors.As(err, &decode):
			r.Code = http.StatusOK // it came whole, whatever it says
		}
		if c.options.Observe != nil {
			c.options.Observe(r)
		}
		_ = level.Debug(c.logger).Log("msg", "API request", "endpoint", r.Endpoint, "attempt", call.attempts,
			"code", r.Code, "duration", r.Duration, "err", err)
		return resp, err
	}
}

// readWhole gives an attempt its time and reads the body into the call within
// it, so that a body that breaks off fails the attempt as a lost connection
// does. What leaves it is sanitized.
func (c *Client) readWhole(next http.RoundTripper) handler {
	return func(req *http.Request) (*http.Response, error) {
		ctx, cancel := req.Context(), context.CancelFunc(func() {})
		if c.options.Timeout > 0 {
			ctx, cancel = context.WithTimeout(ctx, c.options.Timeout)
		}
		defer cancel()

		call := callOf(req)
		if proxy, err := c.options.Proxy(req); err == nil && proxy != nil {
			call.sanitize.addUser(proxy.User)
		}
		resp, err := next.RoundTrip(req.WithContext(httptrace.WithClientTrace(ctx, call.sanitize.trace())))
		if err == nil {
			err = readBody(resp, call)
		}
		var decode *DecodeError
		var tooLarge *BodyTooLargeError
		switch {
		case err == nil:
			return resp, nil
		case req.Context().Err() != nil:
			return nil, req.Context().Err()
		case ctx.Err() != nil:
			return nil, &NetworkError{timeoutError{c.options.Timeout}}
		case errors.As(err, &decode):
			call.sanitize.decodeError(decode)
			return nil, decode
		case errors.As(err, &tooLarge):
			return nil, tooLarge
		}
		return nil, &NetworkError{call.sanitize.err(err)}
	}
}

// readBody reads and closes the body of resp: of a 200 it is decoded as it
// comes, so that no answer is held whole. Of any other answer it takes what it
// can get: its status decides, whatever becomes of its body.
func readBody(resp *http.Response, call *call) error {
	defer func() {
		_ = resp.Body.Close()
		resp.Body = http.NoBody
	}()
	body, release, err := decompress(resp)
	if err == nil {
		defer release()
	}
	if resp.StatusCode != http.StatusOK {
		call.refusal = nil
		if err == nil {
			call.refusal, _ = io.ReadAll(io.LimitReader(body, errorBodyLimit))
		}
		return nil
	}
	if err != nil {
		return err
	}
	err = call.decode(body)
	var corrupt flate.CorruptInputError
	if errors.As(err, &corrupt) || errors.Is(err, gzip.ErrHeader) || errors.Is(err, gzip.ErrChecksum) {
		return &DecodeError{Problem: "corrupt gzip"}
	}
	return err
}

var gzipReaders sync.Pool

// decompress returns the body as it was before compression. That the client
// asks for gzip itself has a reason: the transport may be set up not to.
func decompress(resp *http.Response) (body io.Reader, release func(), err error) {
	switch encoding := resp.Header.Get("Content-Encoding"); strings.ToLower(encoding) {
	case "", "identity":
		return resp.Body, func() {}, nil
	case "gzip":
		z, ok := gzipReaders.Get().(*gzip.Reader)
		if !ok {
			z = new(gzip.Reader)
		}
		switch err := z.Reset(resp.Body); {
		case err == nil:
			return z, func() { gzipReaders.Put(z) }, nil
		case errors.Is(err, io.EOF):
			return http.NoBody, func() {}, nil // nothing, compressed or not
		case errors.Is(err, gzip.ErrHeader):
			return nil, nil, &DecodeError{Problem: "corrupt gzip"}
		default:
			return nil, nil, err
		}
	default:
		return nil, nil, &DecodeError{Problem: "content encoding " + encoding + ", which nobody asked for"}
	}
}

// readHeaders takes from an answer's headers what concerns all later requests.
func (c *Client) readHeaders(next http.RoundTripper) handler {
	return func(req *http.Request) (*http.Response, error) {
		resp, err := next.RoundTrip(req)
		if err != nil {
			return nil, err
		}
		// A redirect is an answer like any other; without a Location
		// http.Client has nothing to follow, nor to stumble over.
		resp.Header.Del("Location")
		date, dateErr := http.ParseTime(resp.Header.Get("Date"))
		switch resp.StatusCode {
		case http.StatusOK:
			if dateErr == nil && c.clock.observe(date, time.Now()) {
				_ = level.Warn(c.logger).Log("msg", "clocks differ by more than an hour, not correcting for it",
					"local", time.Now().UTC().Format(time.RFC3339), "api", date.UTC().Format(time.RFC3339))
			}
		case http.StatusTooManyRequests, http.StatusServiceUnavailable:
			if dateErr != nil {
				date = c.Now()
			}
			c.throttle(callOf(req), resp, date)
		}
		return resp, nil
	}
}

// throttle starts or extends the cooldown after a 429 or 503 of that date.
func (c *Client) throttle(call *call, resp *http.Response, date time.Time) {
	header := resp.Header.Values("Retry-After")
	wait, ok := retryAfter(header, date)
	logger := log.With(c.logger, "endpoint", call.endpoint, "code", resp.StatusCode)
	if wait > maxRetryAfter {
		_ = level.Warn(logger).Log("msg", "Retry-After is longer than an hour, waiting an hour",
			"retry_after", call.sanitize.text(strings.Join(header, ", "), maxErrorText))
		wait = maxRetryAfter
	}
	if ok {
		wait += jitter(100*time.Millisecond + min(wait/20, 2*time.Second))
	} else {
		wait = c.backoff(call.attempts - 1)
	}
	until := time.Now().Add(wait)
	if c.cooldown.extend(until, resp.StatusCode) {
		_ = level.Warn(logger).Log("msg", "API is throttling, pausing requests", "until", until.UTC().Format(time.RFC3339))
	}
}

// checkRetry is retryablehttp's CheckRetry: whether an attempt is made again.
// It is a list of what is, so that nothing unforeseen is: the API forbids to
// repeat what ended in a 500.
func checkRetry(ctx context.Context, resp *http.Response, err error) (bool, error) {
	call, _ := ctx.Value(callKey{}).(*call)
	var network *NetworkError
	switch {
	case errors.As(err, &network):
		call.failure = network.Error()
		return network.retryable(), nil
	case err != nil:
		return false, nil //nolint:nilerr // the client has it, this is not about errors of the check
	}
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		call.failure = (&Error{StatusCode: resp.StatusCode}).Error()
		return true, nil
	}
	return false, nil
}

// retryable tells what may pass from what stays until somebody mends it.
func (e *NetworkError) retryable() bool {
	var (
		certificate *tls.CertificateVerificationError
		authority   x509.UnknownAuthorityError
		host        x509.HostnameError
		invalid     x509.CertificateInvalidError
		file        *fs.PathError // of a secret or a certificate
	)
	return !errors.As(e.Err, &certificate) && !errors.As(e.Err, &authority) && !errors.As(e.Err, &host) &&
		!errors.As(e.Err, &invalid) && !errors.As(e.Err, &file) && !errors.Is(e.Err, http.ErrSchemeMismatch)
}

// wait is retryablehttp's Backoff. A 429 or 503 has started a cooldown, which
// the next attempt waits for together with all others.
func (c *Client) wait(_, _ time.Duration, attempt int, resp *http.Response) time.Duration {
	if resp != nil && (resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable) {
		return 0
	}
	return c.backoff(attempt)
}

// backoff doubles with each attempt, from 0; half of it is chance.
func backoff(attempt int) time.Duration {
	d := backoffMax
	if attempt < 16 {
		d = min(backoffBase<<attempt, backoffMax)
	}
	return d/2 + jitter(d/2)
}

// jitter is a random time from 0 to less than limit.
func jitter(limit time.Duration) time.Duration {
	return rand.N(limit) //nolint:gosec // nobody gains by guessing it
}
