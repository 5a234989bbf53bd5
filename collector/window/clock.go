package window

import "time"

// A clock tells the time since a window was made, including that between restarts. It goes as fast as the faster of the
// local clocks: the monotonic one stands still while the machine is suspended, and the wall clock can be set back.
type clock struct {
	monotonic func() time.Duration
	wall      func() time.Time

	now      time.Duration // as told last, when the local clocks showed:
	lastMono time.Duration
	lastWall time.Time
}

func newClock() clock {
	start := time.Now()
	return clock{
		monotonic: func() time.Duration { return time.Since(start) },
		wall:      func() time.Time { return time.Now().Round(0) },
		lastWall:  start.Round(0),
	}
}

// tell moves the clock on, and returns the time.
func (c *clock) tell() time.Duration {
	mono, wall := c.monotonic(), c.wall()
	passed := max(mono-c.lastMono, wall.Sub(c.lastWall))

	c.now += passed
	c.lastMono = mono
	c.lastWall = wall
	return c.now
}

// resume goes on from a time that another clock told when the wall clock showed wall. What has passed since counts as if
// the machine had been suspended. If the wall clock shows an earlier time now, nothing has passed, and ok is false.
func (c *clock) resume(now time.Duration, wall time.Time) (ok bool) {
	c.now = now
	if wall.After(c.lastWall) {
		return false
	}
	c.lastWall = wall
	return true
}
