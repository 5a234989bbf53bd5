package twilio

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A memoryListener accepts connections in memory, as synctest's clock does not advance while a real connection is in
// use.
type memoryListener struct {
	conns  chan *fadingConn // not accepted yet
	closed chan struct{}
}

func newMemoryListener() *memoryListener {
	return &memoryListener{make(chan *fadingConn, 10), make(chan struct{})}
}

func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *memoryListener) Addr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "unix"} }

func (l *memoryListener) Close() error {
	close(l.closed)
	return nil
}

// A fadingConn is the server's end of a connection. Once it is silent, nothing written to it arrives, as if a router
// had forgotten the connection.
type fadingConn struct {
	net.Conn
	silent atomic.Bool
}

func (c *fadingConn) Write(p []byte) (int, error) {
	if c.silent.Load() {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

// TestSilentConnection checks that an HTTP/2 connection that has gone silent is closed after pingAfter and pingTimeout,
// long before a request times out, and that the request is retried on a new one. A connection that is only slow is
// kept.
func TestSilentConnection(t *testing.T) {
	const thinking = 20 * time.Second // longer than pingAfter and pingTimeout
	for _, tt := range []struct {
		name   string
		silent bool
		conns  int
		took   time.Duration
	}{
		{"silent", true, 2, pingAfter + pingTimeout + time.Second}, // and a second before the retry
		{"slow", false, 1, thinking},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				unencrypted := new(http.Protocols)
				unencrypted.SetUnencryptedHTTP2(true)

				requests := 0
				api := &http.Server{
					Protocols:         unencrypted,
					ReadHeaderTimeout: time.Minute,
					Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						requests++
						if requests == 2 {
							select {
							case <-time.After(thinking):
							case <-r.Context().Done():
							}
						}
						if r.ProtoMajor != 2 {
							t.Errorf("asked by %s", r.Proto)
						}
						_, _ = io.WriteString(w, pageOf(""))
					}),
				}

				listener := newMemoryListener()
				go func() { _ = api.Serve(listener) }()
				defer func() { _ = api.Close() }()

				var conns []*fadingConn
				transport := NewTransport(nil, nil)
				transport.Protocols = unencrypted
				transport.DialContext = func(context.Context, string, string) (net.Conn, error) {
					client, server := net.Pipe()
					conns = append(conns, &fadingConn{Conn: server})
					listener.conns <- conns[len(conns)-1]
					return client, nil
				}
				defer transport.CloseIdleConnections()

				c := testClient(t, "http://api.test", transport, func(o *Options) { o.Timeout = time.Minute })
				if err := first(t.Context(), c); err != nil {
					t.Fatal(err)
				}
				conns[0].silent.Store(tt.silent)
				begin := time.Now()
				if err := first(t.Context(), c); err != nil {
					t.Error(err)
				}
				if took := time.Since(begin); took != tt.took || len(conns) != tt.conns {
					t.Errorf("took %v and %d connections, want %v and %d", took, len(conns), tt.took, tt.conns)
				}
			})
		})
	}
}
