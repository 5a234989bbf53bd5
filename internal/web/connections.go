package web

import (
	"crypto/tls"
	"math"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// What clients can have at a time. It bounds the memory that they take, and leaves refreshes enough descriptors.
const (
	maxConnections = 192
	// maxQuiet is how many of them can be without a request: those that are idle, and those on which a request has not come
	// whole. net/http may take 1.5 MB for a header of maxHeader bytes.
	maxQuiet   = 20
	maxStreams = 4        // requests on one connection, over HTTP/2
	maxFrame   = 16 << 10 // bytes, over HTTP/2: a connection keeps a buffer of its longest one
	maxFields  = 100      // of the header of a request
)

// How long a connection keeps its place where others wait for one, after anything has happened on it. One that is idle
// gives it up at once. On a slow processor, the handshake of TLS alone takes a while.
const (
	newPatience    = 500 * time.Millisecond
	activePatience = 30 * time.Second
)

var patience = map[http.ConnState]time.Duration{http.StateNew: newPatience, http.StateActive: activePatience}

// connections are those of a server. Where there are too many, one on which nothing happens makes room for the next.
type connections struct {
	mu      sync.Mutex
	moved   sync.Cond    // what follows has changed
	open    []connection // the one on which nothing has happened for longest is the first
	served  int          // those that are open, and those that were cut off and are still worked on
	stopped bool
}

type connection struct {
	net.Conn
	state http.ConnState // StateActive from when a request has come whole until it is answered
	since time.Time
}

func newConnections() *connections {
	c := new(connections)
	c.moved.L = &c.mu
	return c
}

// changed is a server's ConnState. The server accepts no other connection before it has returned from a new one.
func (c *connections) changed(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if state == http.StateNew {
		c.makeRoom()
		c.served++
		c.open = append(c.open, connection{conn, state, time.Now()})
		return
	}

	i := slices.IndexFunc(c.open, func(o connection) bool { return o.Conn == conn })
	if i >= 0 { // else it was cut off
		c.open = slices.Delete(c.open, i, i+1)
	}
	switch {
	case state == http.StateClosed || state == http.StateHijacked:
		c.served--
	case i >= 0:
		c.open = append(c.open, connection{conn, state, time.Now()})
	}
	c.moved.Broadcast()
}

// makeRoom waits until there is room for another connection, and cuts off the one that makes room first. c.mu is held.
func (c *connections) makeRoom() {
	for !c.stopped {
		quiet := 0
		for _, o := range c.open {
			if o.state != http.StateActive {
				quiet++
			}
		}
		if quiet < maxQuiet && len(c.open) < maxConnections {
			break
		}
		i, left := c.first(quiet >= maxQuiet)
		if left > 0 {
			timer := time.AfterFunc(left, c.moved.Broadcast)
			c.moved.Wait()
			timer.Stop()
			continue
		}
		cut(c.open[i].Conn)
		c.open = slices.Delete(c.open, i, i+1)
	}
	for c.served >= maxConnections && !c.stopped {
		c.moved.Wait()
	}
}

// first is the connection, or the quiet connection, that makes room first, and how long it has until then.
func (c *connections) first(quiet bool) (index int, left time.Duration) {
	left = math.MaxInt64
	for i, o := range c.open {
		if quiet && o.state == http.StateActive {
			continue
		}
		wait := patience[o.state] - time.Since(o.since)
		if wait < left {
			index = i
			left = wait
		}
	}
	return index, left
}

// stop lets all connections in: nobody waits for room any more.
func (c *connections) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
	c.moved.Broadcast()
}

// wait waits until no connection is served any more.
func (c *connections) wait() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.served > 0 {
		c.moved.Wait()
	}
}

// cut closes a connection at once. TLS would send a last word, and wait until the client takes it.
func cut(conn net.Conn) {
	if secured, ok := conn.(*tls.Conn); ok {
		conn = secured.NetConn()
	}
	_ = conn.Close()
}
