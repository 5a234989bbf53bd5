package twilio

import (
	"sync"
	"time"
)

const (
	minSkew   = 2 * time.Second // less may be rounding, as a Date has whole seconds, or latency
	maxSkew   = time.Hour       // if it is more, the Date is probably wrong
	skewAgree = time.Minute     // answers agree if their skews differ by no more
)

// A clock estimates how far the API's clock is ahead of the local one, from the Date headers of its answers. Both are
// wall clocks: the monotonic clock stands still while a machine sleeps and does not follow a clock that is set.
type clock struct {
	mu      sync.Mutex
	skew    time.Duration
	known   bool
	doubted time.Duration // skew of the last answer if doubt is set
	doubt   bool          // the last answer did not agree with the previous ones
}

// observe takes in the Date of an answer that arrived at the local time. An answer that disagrees with the previous
// ones changes nothing, unless it is the second in a row and agrees with the first. observe returns true when the skew
// has become too large to be corrected.
func (c *clock) observe(date, local time.Time) (tooLarge bool) {
	c.mu.Lock()
	defer c.mu.Unlock()

	skew := date.Round(0).Sub(local.Round(0))
	agrees := func(with time.Duration) bool { return (skew - with).Abs() <= skewAgree }
	isConfirmed := c.doubt && agrees(c.doubted)
	if c.known && !agrees(c.skew) && !isConfirmed {
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

// offset returns the skew; false before the first answer.
func (c *clock) offset() (time.Duration, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.skew, c.known
}

// at returns the API's time at a local time.
func (c *clock) at(local time.Time) time.Time {
	local = local.Round(0)
	skew, _ := c.offset()
	if skew.Abs() < minSkew || skew.Abs() > maxSkew {
		return local
	}
	return local.Add(skew)
}
