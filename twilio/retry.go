package twilio

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/go-kit/log/level"
)

const (
	backoffBase = 500 * time.Millisecond
	backoffMax  = 30 * time.Second
)

// retried retries a request as long as that may help and Options.MaxRetries allows it.
func (c *Client) retried(next step) step {
	return func(ctx context.Context, r *request) (int, error) {
		var last error // of the previous attempt
		for {
			code, err := next(ctx, r)
			switch {
			case err == nil:
				return code, nil
			case ctx.Err() != nil && last != nil:
				return code, fmt.Errorf("%w (last failure: %v)", err, last) //nolint:errorlint // it is ctx's
			case r.priority == sampling, !retryable(err), r.attempts > c.options.MaxRetries:
				return code, withAttempts(err, r.attempts)
			}
			last = err

			_ = level.Warn(c.options.Logger).Log("msg", "retrying an API request", "endpoint", r.endpoint,
				"retry", r.attempts, "max_retries", c.options.MaxRetries, "reason", err)
			if throttles(code) {
				continue // inTurn waits for the cooldown
			}
			select {
			case <-time.After(c.backoff(r.attempts - 1)):
			case <-ctx.Done():
			}
		}
	}
}

// withAttempts adds to an error the number of attempts, if there was more than one.
func withAttempts(err error, attempts int) error {
	if attempts <= 1 {
		return err
	}
	return fmt.Errorf("%w (%d attempts)", err, attempts)
}

// retryable reports whether a retry may help. Only errors known to pass are retried: the API forbids to repeat a
// request that ended in a 500.
func retryable(err error) bool {
	if api, ok := errors.AsType[*Error](err); ok {
		ofGateway := api.StatusCode == http.StatusBadGateway || api.StatusCode == http.StatusGatewayTimeout
		return ofGateway || throttles(api.StatusCode)
	}
	network, ok := errors.AsType[*NetworkError](err)
	return ok && network.Temporary()
}

// throttles reports whether an answer with this status starts a cooldown.
func throttles(code int) bool {
	return code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable
}

// backoff doubles with each attempt, the first being 0. Half of it is random.
func backoff(attempt int) time.Duration {
	d := min(backoffBase<<min(attempt, 16), backoffMax)
	return d/2 + jitter(d/2)
}

// jitter returns a random duration in [0, limit).
func jitter(limit time.Duration) time.Duration {
	return rand.N(limit) //nolint:gosec // it need not be secret
}
