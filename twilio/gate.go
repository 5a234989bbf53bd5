package twilio

import (
	"container/list"
	"context"
	"fmt"
	"math"
	"sync"
	"time"
)

// A priority is what a request is for. The lower it is, the sooner the request goes out.
type priority int

const (
	refreshing priority = iota // the lists that a refresh reads
	probing                    // single operations, which somebody waits for
	sampling                   // messages, which nobody waits for

	priorities
)

// maxAside is the most requests under way at the same time that are not a refresh's.
const maxAside = 4

// A gate lets the requests of an account out, one after the other: no more at the same time and no sooner after each
// other than is allowed. A request that waits has no place in the order yet. It gets one when it can be sent at once, so
// that those that give up cost the others nothing.
//
// While a refresh reads lists, all other requests together get at most half of the pace: of a refresh's request and a
// probe's, which wait at the same time, they go in turn, the refresh's first. Samples wait for both.
type gate struct {
	mu        sync.Mutex    // guards what follows
	interval  time.Duration // from one request to the next; 0 = no pace
	places    int           // most requests under way
	aside     int           // most of them that are not a refresh's
	lists     int           // that refreshes read
	flying    [priorities]int
	waiting   [priorities]list.List // of *ticket, the oldest first
	next      time.Time             // when the pace allows the next request
	nextAside time.Time             // when it allows the next that is not a refresh's, while lists are read
	probed    bool                  // the last request was not a refresh's
	timer     *time.Timer           // lets out who may go later; nil before the first
}

// A ticket is a request that waits.
type ticket struct {
	admitted chan struct{} // closed when the request may be sent

	// The gate's pace before the request was let out, and after.
	before, after time.Time
}

// newGate returns a gate for requests a second (0 = no limit) and requests in flight (0 = no limit).
func newGate(rate float64, inFlight int) *gate {
	g := &gate{}
	g.set(rate, inFlight)
	return g
}

// set changes the pace. Requests that are under way go on.
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

// begin notes that a refresh begins to read a list (+1), or ends (-1).
func (g *gate) begin(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lists += n
	g.admit() // while no list is read, the others may go sooner
}

// enter waits until a request may be sent, or until ctx ends. Whoever has entered must leave.
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
	case <-t.admitted: // in the same instant
		g.unused(t)
		g.flying[p]--
	default:
		g.waiting[p].Remove(place)
	}
	g.admit()
	return nil, ctx.Err()
}

// leave frees the place of a request that has ended.
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

// unused gives the pace back what a request took of it, unless another one has been let out since. g.mu is held.
func (g *gate) unused(t *ticket) {
	if g.next.Equal(t.after) {
		g.next = t.before
	}
}

// admit lets out all who may go now, and has the timer do it for the next one. g.mu is held.
func (g *gate) admit() {
	for {
		p, at, ok := g.first()
		if !ok {
			return
		}
		now := time.Now()
		if at.After(now) {
			g.admitAt(at.Sub(now))
			return
		}
		g.letOut(p, now)
	}
}

// admitAt has admit look again later. g.mu is held.
func (g *gate) admitAt(wait time.Duration) {
	if g.timer != nil {
		g.timer.Stop()
	}
	g.timer = time.AfterFunc(wait, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.admit()
	})
}

// first returns whose request is the next to go, and when; false, if there is none or no place is free. g.mu is held.
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
	// Of a refresh and a probe, the refresh is first unless the request before was its own.
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

// letOut lets out the request that has waited longest. g.mu is held.
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
