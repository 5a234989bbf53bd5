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
		c.until, c.status = until, status
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
		left, changed := time.Until(c.until), c.changed
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
	longest := func(d time.Duration) { wait, ok = max(wait, d), true }
	for _, header := range headers {
		if at, err := http.ParseTime(strings.TrimSpace(header)); err == nil {
			longest(at.Sub(date))
			continue
		}
		for part := range strings.SplitSeq(header, ",") {
			part = strings.TrimPrefix(strings.TrimSpace(part), "+")
			if strings.Trim(part, "0123456789.") != "" {
				continue // ParseFloat takes more than decimals
			}
			if s, err := strconv.ParseFloat(part, 64); err == nil || math.IsInf(s, 1) {
				longest(time.Duration(min(s, 1e9) * float64(time.Second)))
			}
		}
	}
	return wait, ok
}
