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

// retried sends a request again, as long as it may help and Options.MaxRetries allows it.
func (c *Client) retried(next step) step {
	return func(ctx context.Context, r *request) (int, error) {
		var last error // of the attempt before
		for {
			code, err := next(ctx, r)
			switch {
			case err == nil:
				return code, nil
			case ctx.Err() != nil && last != nil:
				return code, fmt.Errorf("%w (last failure: %v)", err, last) //nolint:errorlint // it is ctx's
			case r.priority == sampling || !retryable(err):
				return code, attempted(r, err)
			case r.attempts > c.options.MaxRetries:
				return code, attempted(r, err)
			}
			last = err

			_ = level.Warn(c.options.Logger).Log("msg", "retrying an API request", "endpoint", r.endpoint,
				"retry", r.attempts, "max_retries", c.options.MaxRetries, "reason", err)
			if throttles(code) {
				continue // to the cooldown
			}
			select {
			case <-time.After(c.backoff(r.attempts - 1)):
			case <-ctx.Done():
			}
		}
	}
}

// attempted adds to an error how often a request was sent, if it was more than once.
func attempted(r *request, err error) error {
	if r.attempts <= 1 {
		return err
	}
	return fmt.Errorf("%w (%d attempts)", err, r.attempts)
}

// retryable lists what is sent again, so that nothing unforeseen is: the API forbids to repeat what ended in a 500.
func retryable(err error) bool {
	if api, ok := errors.AsType[*Error](err); ok {
		passes := api.StatusCode == http.StatusBadGateway || api.StatusCode == http.StatusGatewayTimeout
		return passes || throttles(api.StatusCode)
	}
	network, ok := errors.AsType[*NetworkError](err)
	return ok && network.Temporary()
}

// throttles tells whether an answer of that status starts a cooldown.
func throttles(code int) bool {
	return code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable
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
