package twilio

import (
	"context"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// maxRetryAfter bounds how long a Retry-After is obeyed: one wrong answer must not stop an account for a day.
const maxRetryAfter = time.Hour

// A cooldown holds back all requests of an account while the API throttles it. Its times have monotonic clock readings,
// so setting the local clock does not move them.
type cooldown struct {
	mu      sync.Mutex
	until   time.Time
	status  int           // of the answer that set until
	changed chan struct{} // closed and replaced when until changes

	waiting int           // requests that wait now
	since   time.Time     // when the first of them began to wait, unless another was waiting then
	waited  time.Duration // total before since
}

func newCooldown() *cooldown { return &cooldown{changed: make(chan struct{})} }

// extend makes the cooldown last at least until then, and reports whether that starts it.
func (c *cooldown) extend(until time.Time, status int) (starts bool) {
	c.mu.Lock()
	defer c.mu.Unlock()

	starts = !time.Now().Before(c.until)
	if until.After(c.until) {
		c.until = until
		c.status = status
		close(c.changed)
		c.changed = make(chan struct{})
	}
	return starts
}

// retryAt returns when the cooldown ends, or zero if there is none.
func (c *cooldown) retryAt() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !time.Now().Before(c.until) {
		return time.Time{}
	}
	return c.until
}

// lasting returns a *ThrottledError if the cooldown is not over.
func (c *cooldown) lasting() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !time.Now().Before(c.until) {
		return nil
	}
	return &ThrottledError{RetryAt: c.until, StatusCode: c.status}
}

// beyond returns a *ThrottledError if the cooldown outlasts ctx's deadline.
func (c *cooldown) beyond(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if deadline, ok := ctx.Deadline(); ok && c.until.After(deadline) {
		return &ThrottledError{RetryAt: c.until, StatusCode: c.status}
	}
	return nil
}

// wait waits for the end of the cooldown. It returns an error as soon as that is after ctx's deadline.
func (c *cooldown) wait(ctx context.Context) error {
	if c.retryAt().IsZero() {
		return ctx.Err()
	}
	if err := c.beyond(ctx); err != nil {
		return err
	}

	c.count(+1)
	defer c.count(-1)
	for {
		c.mu.Lock()
		left := time.Until(c.until)
		changed := c.changed
		c.mu.Unlock()

		if left <= 0 {
			return nil
		}
		select {
		case <-time.After(left):
		case <-changed:
			if err := c.beyond(ctx); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// count records that a request begins (+1) or ceases (-1) to wait.
func (c *cooldown) count(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()

	if c.waiting == 0 {
		c.since = time.Now()
	}
	c.waiting += n
	if c.waiting == 0 {
		c.waited += time.Since(c.since)
	}
}

// throttled returns for how long at least one request has waited, up to now.
func (c *cooldown) throttled() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting > 0 {
		return c.waited + time.Since(c.since)
	}
	return c.waited
}

// retryAfter returns how long the headers Retry-After of an answer say to wait, 0 or more; false if none makes sense.
// Of several values, which only a proxy could have added, the longest counts. Dates are relative to date, the answer's
// own clock.
func retryAfter(headers []string, date time.Time) (wait time.Duration, ok bool) {
	for _, header := range headers {
		values := strings.Split(header, ",")
		values = append(values, header) // a date, which has a comma
		for _, value := range values {
			parsed, valid := parseRetryAfter(value, date)
			if valid {
				wait = max(wait, parsed)
				ok = true
			}
		}
	}
	return wait, ok
}

// parseRetryAfter parses a number of seconds, which may have decimals, or an HTTP date.
func parseRetryAfter(value string, date time.Time) (wait time.Duration, ok bool) {
	value = strings.TrimPrefix(strings.TrimSpace(value), "+")
	at, err := http.ParseTime(value)
	if err == nil {
		return at.Sub(date), true
	}

	const longest = 1e9                                   // seconds
	isDecimal := strings.Trim(value, "0123456789.") == "" // ParseFloat accepts more
	seconds, err := strconv.ParseFloat(value, 64)
	isHuge := math.IsInf(seconds, 1)
	if !isDecimal || err != nil && !isHuge {
		return 0, false
	}
	return time.Duration(min(seconds, longest) * float64(time.Second)), true
}
