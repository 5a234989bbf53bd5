package twilio

import (
	"container/list"
	"context"
	"fmt"
	"math"
	"sync"
	"time"
)

// A priority is the purpose of a request. Lower ones go out first.
type priority int

const (
	refreshing priority = iota // lists of operations, for a refresh
	probing                    // single operations, which somebody waits for
	sampling                   // messages, which nobody waits for

	priorities
)

// maxAside is the most requests in flight that are not a refresh's.
const maxAside = 4

// A gate lets out the requests of an account at the allowed pace, and no more than allowed at the same time. A waiting
// request takes nothing of the pace until it can be sent, so requests that give up cost the others nothing.
//
// While a refresh reads lists, all other requests together get at most half of the pace: if requests of a refresh and
// probes are waiting, they take turns, the refresh first. Samples wait for both.
type gate struct {
	mu        sync.Mutex    // guards what follows
	interval  time.Duration // between two requests; 0 = no limit
	places    int           // most requests in flight
	aside     int           // most of these that are not a refresh's
	lists     int           // lists that refreshes are reading
	flying    [priorities]int
	waiting   [priorities]list.List // of *ticket, the oldest first
	next      time.Time             // when the pace allows the next request
	nextAside time.Time             // when it allows the next one that is not a refresh's, while lists are being read
	probed    bool                  // the last request was not a refresh's
	timer     *time.Timer           // calls admit when the next request may go; nil before the first
}

// A ticket is a waiting request.
type ticket struct {
	admitted chan struct{} // closed when the request may be sent

	// gate.next before and after the request was let out.
	before, after time.Time
}

// newGate returns a gate for so many requests a second (0 = no limit) and requests in flight (0 = no limit).
func newGate(rate float64, inFlight int) *gate {
	g := &gate{}
	g.set(rate, inFlight)
	return g
}

// set changes the pace and the limit of requests in flight. It does not affect requests in flight.
func (g *gate) set(rate float64, inFlight int) {
	g.mu.Lock()
	defer g.mu.Unlock()

	g.interval = 0
	if rate > 0 {
		g.interval = time.Duration(float64(time.Second) / rate)
	}
	g.places = inFlight
	if inFlight == 0 {
		g.places = math.MaxInt
	}

	g.aside = min(maxAside, max(g.places/2, 1))
	g.admit()
}

// countList records that a refresh begins (+1) or ceases (-1) to read a list.
func (g *gate) countList(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lists += n
	g.admit() // without a list, other requests may go sooner
}

// enter waits until a request may be sent, or until ctx ends. Each successful call needs a call of leave or
// leaveUnsent.
func (g *gate) enter(ctx context.Context, p priority) (*ticket, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	t := &ticket{admitted: make(chan struct{})}

	g.mu.Lock()
	if deadline, ok := ctx.Deadline(); ok && g.next.After(deadline) {
		g.mu.Unlock()
		return nil, fmt.Errorf("%w: the rate limit allows no request in time", context.DeadlineExceeded)
	}
	place := g.waiting[p].PushBack(t)
	g.admit()
	g.mu.Unlock()

	select {
	case <-t.admitted:
		return t, nil
	case <-ctx.Done():
	}

	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-t.admitted: // at the same time
		g.unused(t)
		g.flying[p]--
	default:
		g.waiting[p].Remove(place)
	}
	g.admit()
	return nil, ctx.Err()
}

// leave frees the place of a request that is done.
func (g *gate) leave(p priority) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.flying[p]--
	g.admit()
}

// leaveUnsent frees the place of a request that was not sent after all.
func (g *gate) leaveUnsent(p priority, t *ticket) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.unused(t)
	g.flying[p]--
	g.admit()
}

// unused gives back what a request took of the pace, unless another one has been let out since. g.mu is held.
func (g *gate) unused(t *ticket) {
	if g.next.Equal(t.after) {
		g.next = t.before
	}
}

// admit lets out all requests that may go now, and sets the timer for the next one. g.mu is held.
func (g *gate) admit() {
	for {
		p, at, ok := g.first()
		if !ok {
			return
		}
		now := time.Now()
		if at.After(now) {
			g.admitAfter(at.Sub(now))
			return
		}
		g.letOut(p, now)
	}
}

// admitAfter calls admit again after a while. g.mu is held.
func (g *gate) admitAfter(wait time.Duration) {
	if g.timer != nil {
		g.timer.Stop()
	}
	g.timer = time.AfterFunc(wait, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.admit()
	})
}

// first returns the priority of the next request to go, and when it may; false if none is waiting or no place is free.
// g.mu is held.
func (g *gate) first() (p priority, at time.Time, ok bool) {
	aside := g.flying[probing] + g.flying[sampling]
	if g.flying[refreshing]+aside >= g.places {
		return 0, time.Time{}, false
	}

	atAside := g.next
	if g.lists > 0 && g.nextAside.After(g.next) {
		atAside = g.nextAside
	}

	refreshes := g.waiting[refreshing].Len() > 0
	probes := g.waiting[probing].Len() > 0 && aside < g.aside
	samples := g.waiting[sampling].Len() > 0 && aside < g.aside && g.flying[sampling] == 0
	// A refresh goes before a probe, unless it has just had its turn.
	turnOfProbe := probes && !g.probed && !atAside.After(g.next)

	switch {
	case refreshes && !turnOfProbe:
		return refreshing, g.next, true
	case probes:
		return probing, atAside, true
	case samples:
		return sampling, atAside, true
	}
	return 0, time.Time{}, false
}

// letOut lets out the request of this priority that has waited longest. g.mu is held.
func (g *gate) letOut(p priority, now time.Time) {
	t, _ := g.waiting[p].Remove(g.waiting[p].Front()).(*ticket)
	t.before = g.next
	t.after = now.Add(g.interval)
	g.next = t.after

	g.flying[p]++
	g.probed = p != refreshing
	if g.probed {
		g.nextAside = now.Add(2 * g.interval)
	}
	close(t.admitted)
}
