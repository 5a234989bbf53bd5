package twilio

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// maxRetryAfter caps what a Retry-After asks for, so that no number overflows.
const maxRetryAfter = 365 * 24 * time.Hour

// gate keeps every request of an account back while the API wants none.
type gate struct {
	mu     sync.Mutex
	until  time.Time     // closed before this
	status int           // of the answer that closed it
	moved  chan struct{} // closed, and replaced, when until changes

	waiting int           // requests that wait now
	since   time.Time     // start of the time in which some did without a break
	waited  time.Duration // all such times before
}

func newGate() *gate { return &gate{moved: make(chan struct{})} }

// close shuts the gate until then, if it is not shut for longer already, and
// reports whether it was open before.
func (g *gate) close(until time.Time, status int) (wasOpen bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	wasOpen = !time.Now().Before(g.until)
	if until.After(g.until) {
		g.until, g.status = until, status
		close(g.moved)
		g.moved = make(chan struct{})
	}
	return wasOpen
}

// retryAt is the time at which the gate opens, zero if it is open.
func (g *gate) retryAt() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !time.Now().Before(g.until) {
		return time.Time{}
	}
	return g.until
}

// wait returns when the gate is open. It returns a *ThrottledError as soon as
// it is plain that this will be after ctx's deadline.
func (g *gate) wait(ctx context.Context) error {
	waiting := false
	defer func() {
		if waiting {
			g.count(-1)
		}
	}()
	for {
		g.mu.Lock()
		until, status, moved := g.until, g.status, g.moved
		g.mu.Unlock()

		left := time.Until(until)
		if left <= 0 {
			return nil
		}
		if deadline, ok := ctx.Deadline(); ok && until.After(deadline) {
			return &ThrottledError{RetryAt: until, StatusCode: status}
		}
		if !waiting {
			waiting = true
			g.count(+1)
		}
		timer := time.NewTimer(left)
		select {
		case <-timer.C:
		case <-moved: // later than it was, maybe later than ctx allows
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
		timer.Stop()
	}
}

// count notes that a request starts (+1) or ends (-1) to wait.
func (g *gate) count(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.waiting == 0 {
		g.since = time.Now()
	}
	g.waiting += n
	if g.waiting == 0 {
		g.waited += time.Since(g.since)
	}
}

// throttled is the time in which at least one request waited, up to now.
func (g *gate) throttled() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.waiting > 0 {
		return g.waited + time.Since(g.since)
	}
	return g.waited
}

// retryAfter is how long an answer asks to wait, 0 to maxRetryAfter; false
// without a Retry-After that makes sense. A date is read against date, the
// answer's own clock.
func retryAfter(header string, date time.Time) (time.Duration, bool) {
	header = strings.TrimSpace(header)
	seconds, err := strconv.ParseUint(header, 10, 64)
	switch {
	case err == nil && seconds < uint64(maxRetryAfter/time.Second):
		return time.Duration(seconds) * time.Second, true
	case err == nil || errors.Is(err, strconv.ErrRange):
		return maxRetryAfter, true
	}
	at, err := http.ParseTime(header)
	if err != nil {
		return 0, false
	}
	return min(max(at.Sub(date), 0), maxRetryAfter), true
}
