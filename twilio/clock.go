package twilio

import (
	"sync"
	"time"
)

const (
	minSkew   = 2 * time.Second // a Date has whole seconds and has travelled
	maxSkew   = time.Hour       // beyond this it is more likely that the Date is wrong
	skewAgree = time.Minute     // how far two answers may be apart and still agree
)

// A clock estimates how far the API's clock is ahead of the local one, from the Date headers of its answers. Both are
// wall clocks: the monotonic clock stands still while a machine sleeps and does not follow a clock that is set.
type clock struct {
	mu      sync.Mutex
	skew    time.Duration
	known   bool
	doubted time.Duration // skew of the last answer, if it did not agree with those before
	doubt   bool
}

// observe takes in an answer's Date, which came at the local time. An answer that does not agree with those before it
// changes nothing, unless it is the second in a row and agrees with the first. It returns true when the skew has become
// too large to be corrected.
func (c *clock) observe(date, local time.Time) (tooLarge bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	skew := date.Round(0).Sub(local.Round(0))
	agrees := func(with time.Duration) bool { return (skew - with).Abs() <= skewAgree }
	if c.known && !agrees(c.skew) && (!c.doubt || !agrees(c.doubted)) {
		c.doubted = skew
		c.doubt = true
		return false
	}

	tooLarge = skew.Abs() > maxSkew && c.skew.Abs() <= maxSkew
	c.skew = skew
	c.known = true
	c.doubt = false
	return tooLarge
}

// offset is the skew, false before the first answer.
func (c *clock) offset() (time.Duration, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.skew, c.known
}

// at is the API's time at a local time.
func (c *clock) at(local time.Time) time.Time {
	local = local.Round(0)
	if skew, _ := c.offset(); skew.Abs() >= minSkew && skew.Abs() <= maxSkew {
		return local.Add(skew)
	}
	return local
}
