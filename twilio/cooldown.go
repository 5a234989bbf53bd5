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

// maxRetryAfter is the longest that a Retry-After is obeyed: one wrong answer must not stop an account for a day.
const maxRetryAfter = time.Hour

// A cooldown holds back all requests of an account while the API throttles it. Its times have monotonic readings:
// setting the local clock does not move them.
type cooldown struct {
	mu      sync.Mutex
	until   time.Time
	status  int           // of the answer that started it
	changed chan struct{} // closed, and replaced, when until changes

	waiting int           // requests that wait now
	since   time.Time     // start of the time in which some did without a break
	waited  time.Duration // all such times before
}

func newCooldown() *cooldown { return &cooldown{changed: make(chan struct{})} }

// extend makes the cooldown last until then, unless it lasts longer already, and reports whether it starts with that.
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

// retryAt is when the cooldown ends, zero if there is none.
func (c *cooldown) retryAt() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !time.Now().Before(c.until) {
		return time.Time{}
	}
	return c.until
}

// lasting is a *ThrottledError if the cooldown is not over.
func (c *cooldown) lasting() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !time.Now().Before(c.until) {
		return nil
	}
	return &ThrottledError{RetryAt: c.until, StatusCode: c.status}
}

// beyond is a *ThrottledError if the cooldown lasts beyond ctx's deadline.
func (c *cooldown) beyond(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if deadline, ok := ctx.Deadline(); ok && c.until.After(deadline) {
		return &ThrottledError{RetryAt: c.until, StatusCode: c.status}
	}
	return nil
}

// wait returns when the cooldown is over, or an error as soon as that is known to be after ctx's deadline.
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

// count notes that a request starts (+1) or ends (-1) to wait.
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

// throttled is the time in which at least one request waited, up to now.
func (c *cooldown) throttled() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting > 0 {
		return c.waited + time.Since(c.since)
	}
	return c.waited
}

// retryAfter is how long an answer says to wait, 0 or more; false without a Retry-After that makes sense. Documented
// are seconds and an HTTP date; of several values, of which only a proxy could be the author, the longest counts. A
// date is read against date, the answer's own clock.
func retryAfter(headers []string, date time.Time) (wait time.Duration, ok bool) {
	for _, header := range headers {
		for _, value := range append(strings.Split(header, ","), header) { // the comma may be that of a date
			value = strings.TrimPrefix(strings.TrimSpace(value), "+")
			seconds, err := strconv.ParseFloat(value, 64)
			decimal := strings.Trim(value, "0123456789.") == "" // ParseFloat takes more than that
			if decimal && (err == nil || math.IsInf(seconds, 1)) {
				ok = true
				wait = max(wait, time.Duration(min(seconds, 1e9)*float64(time.Second)))
			}

			at, err := http.ParseTime(value)
			if err == nil {
				ok = true
				wait = max(wait, at.Sub(date))
			}
		}
	}
	return wait, ok
}
