package twilio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/go-kit/log/level"
)

// A request is one request of a caller, including its retries.
type request struct {
	endpoint Endpoint
	priority priority
	url      *url.URL
	decode   func(body io.Reader) error // decodes the body of a 200

	attempts int           // attempts sent so far
	header   http.Header   // of the attempt under way
	timeout  *pausingTimer // of the attempt under way
}

// A step handles a request, usually by adding something to what the next step does. It returns the status of a complete
// answer, or 0 if there was none, and an error unless the answer was a 200 that could be decoded.
type step func(ctx context.Context, r *request) (code int, err error)

// steps chains the steps of a request: each wraps those to its right.
func (c *Client) steps() step {
	return c.retried(c.inTurn(c.authenticated(c.observed(c.impersonal(c.explained(c.inTime(c.send)))))))
}

// get sends a request and retries it as allowed. r.decode is called again for each 200 whose body breaks off.
func (c *Client) get(ctx context.Context, r *request) error {
	isHTTP := r.url.Scheme == "http" || r.url.Scheme == "https"
	if !isHTTP || r.url.Host == "" {
		return errors.New("base URL: should be http or https, with a host")
	}

	if _, err := c.roundTrip(ctx, r); err != nil {
		return fmt.Errorf("%s: %w", r.endpoint, err)
	}
	return nil
}

// inTurn makes a request wait for the end of a cooldown, and for the gate.
func (c *Client) inTurn(next step) step {
	return func(ctx context.Context, r *request) (int, error) {
		for {
			if err := c.awaitCooldown(ctx, r); err != nil {
				return 0, err
			}
			ticket, err := c.gate.enter(ctx, r.priority)
			if err != nil {
				return 0, err
			}
			if !c.heldBack(r) {
				break
			}
			c.gate.leaveUnsent(r.priority, ticket) // a cooldown began while it waited
		}
		defer c.gate.leave(r.priority)

		r.attempts++
		return next(ctx, r)
	}
}

// awaitCooldown waits for the end of a cooldown. Samples do not wait but fail.
func (c *Client) awaitCooldown(ctx context.Context, r *request) error {
	if r.priority == sampling {
		return c.throttledSample()
	}
	return c.cooldown.wait(ctx)
}

// heldBack reports whether a cooldown holds a request back.
func (c *Client) heldBack(r *request) bool {
	if r.priority == sampling {
		return !c.MessagesRetryAt().IsZero()
	}
	return !c.cooldown.retryAt().IsZero()
}

// authenticated adds the current credentials to a request. The sanitizer learns them first, before anything can go
// wrong.
func (c *Client) authenticated(next step) step {
	return func(ctx context.Context, r *request) (int, error) {
		r.header = http.Header{}
		if c.options.Secret == nil {
			return next(ctx, r)
		}

		secret, err := c.options.Secret(ctx)
		if err == nil && len(secret) > MaxSecret {
			err = fmt.Errorf("longer than %d bytes", MaxSecret)
		}
		if err != nil {
			return 0, &SecretError{c.sanitizer.err(err)}
		}
		c.sanitizer.addUser(url.UserPassword(c.options.User, secret))

		req := http.Request{Header: r.header} // SetBasicAuth needs one, and sets the header
		req.SetBasicAuth(c.options.User, secret)
		return next(ctx, r)
	}
}

// observed reports each attempt to Options.Observe and the debug log.
func (c *Client) observed(next step) step {
	return func(ctx context.Context, r *request) (int, error) {
		start := time.Now()
		code, err := next(ctx, r)
		took := time.Since(start)

		if c.options.Observe != nil {
			c.options.Observe(Request{Endpoint: r.endpoint, Code: code, Duration: took})
		}
		_ = level.Debug(c.options.Logger).Log("msg", "API request", "endpoint", r.endpoint, "attempt", r.attempts,
			"code", code, "duration", took, "err", err)
		return code, err
	}
}

// inTime ends an attempt after Options.Timeout.
func (c *Client) inTime(next step) step {
	return func(ctx context.Context, r *request) (int, error) {
		limited, cancel := context.WithCancel(ctx)
		defer cancel()
		r.timeout = startTimer(c.options.Timeout, cancel)
		defer r.timeout.stop()

		code, err := next(limited, r)
		_, answered := errors.AsType[*Error](err)
		switch {
		case err == nil || answered:
			return code, err
		case ctx.Err() != nil:
			return 0, ctx.Err()
		case limited.Err() != nil:
			return 0, &NetworkError{timeoutError{c.options.Timeout}}
		}
		return code, err
	}
}

// A pausingTimer is a timeout that can be paused.
type pausingTimer struct {
	timer *time.Timer
	ends  time.Time
}

// startTimer returns a timer that calls f after d; 0 is never.
func startTimer(d time.Duration, f func()) *pausingTimer {
	if d == 0 {
		return nil
	}
	return &pausingTimer{time.AfterFunc(d, f), time.Now().Add(d)}
}

func (t *pausingTimer) stop() {
	if t != nil {
		t.timer.Stop()
	}
}

// pause stops the timer until resume is called. A timer that has ended stays ended.
func (t *pausingTimer) pause() (resume func()) {
	if t == nil || !t.timer.Stop() {
		return func() {}
	}
	left := time.Until(t.ends)
	return func() {
		t.ends = time.Now().Add(left)
		t.timer.Reset(left)
	}
}
