package window

import "time"

// A clock tells the time since a window was made, restarts included. It goes as fast as the faster of the local clocks:
// the monotonic one stands still while the machine is suspended, and the other can be set back.
type clock struct {
	monotonic func() time.Duration
	wall      func() time.Time

	now      time.Duration
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

// tell returns the time, and keeps where the local clocks are.
func (c *clock) tell() time.Duration {
	mono, wall := c.monotonic(), c.wall()
	passed := max(mono-c.lastMono, wall.Sub(c.lastWall))

	c.now += passed
	c.lastMono = mono
	c.lastWall = wall
	return c.now
}

// resume goes on from a time that another clock told at a time of the wall clock: what has passed since is to this clock
// as if the machine had been suspended. It returns false, and takes nothing to have passed, if the wall clock is before.
func (c *clock) resume(now time.Duration, wall time.Time) bool {
	c.now = now
	if wall.After(c.lastWall) {
		return false
	}
	c.lastWall = wall
	return true
}
