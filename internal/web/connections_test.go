package web

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// pipeServer serves as the program does.
func pipeServer(tb testing.TB, h http.Handler) *pipeListener {
	tb.Helper()
	l := newPipeListener()
	server, conns := newHTTPServer(h, slog.New(slog.DiscardHandler))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(l)
	}()
	tb.Cleanup(func() {
		_ = server.Close()
		<-ended
		conns.wait()
	})
	return l
}

var ok = http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})

func mustDial(tb testing.TB, l *pipeListener) net.Conn {
	tb.Helper()
	conn, err := l.dial(tb.Context(), "", "")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	return conn
}

// status sends a request and returns the first line of the answer, or the error.
func status(conn net.Conn, header string) string {
	_, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: exporter\r\n"+header+"\r\n")
	if err != nil {
		return err.Error()
	}
	answer := bufio.NewReader(conn)
	line, err := answer.ReadString('\n')
	if err != nil {
		return err.Error()
	}
	for rest := line; rest != "\r\n" && err == nil; {
		rest, err = answer.ReadString('\n')
	}
	return strings.TrimSpace(line)
}

const statusOK = "HTTP/1.1 200 OK"

// TestQuietConnections checks that connections without a request make room for each other: one that is idle at once, one
// that has not sent a whole request after a while. One that is answered stays.
func TestQuietConnections(t *testing.T) {
	for name, sent := range map[string]string{"silent": "", "a header without an end": "GET / HTTP/1.1\r\nX-Long: "} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				l := pipeServer(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					if r.Header.Get("Wait") != "" {
						<-release
					}
				}))
				waiting := make(chan string)
				go func() { waiting <- status(mustDial(t, l), "Wait: 1\r\n") }()
				synctest.Wait()

				idle := mustDial(t, l)
				if got := status(idle, ""); got != statusOK {
					t.Fatal(got)
				}
				synctest.Wait()
				var silent []net.Conn
				for range maxQuiet - 1 {
					conn := mustDial(t, l)
					if _, err := io.WriteString(conn, sent); err != nil {
						t.Fatal(err)
					}
					silent = append(silent, conn)
				}
				synctest.Wait()

				isOpen := func(conn net.Conn) bool {
					_, err := io.WriteString(conn, "y")
					return err == nil
				}
				begin := time.Now()
				for range 10 {
					if got := status(mustDial(t, l), ""); got != statusOK {
						t.Errorf("one more: %s", got)
					}
					synctest.Wait()
				}
				if took := time.Since(begin); took != 0 || isOpen(idle) {
					t.Errorf("others got in after %v, and the idle one is open: %t", took, isOpen(idle))
				}

				silent = append(silent, mustDial(t, l))
				synctest.Wait()
				if got := status(mustDial(t, l), ""); got != statusOK {
					t.Errorf("one beside silent ones: %s", got)
				}
				if took := time.Since(begin); took != newPatience {
					t.Errorf("it got in after %v, want %v", took, newPatience)
				}
				if isOpen(silent[0]) || !isOpen(silent[len(silent)-1]) {
					t.Error("the first silent one is open, or the last one is not")
				}
				close(release)
				if got := <-waiting; got != statusOK {
					t.Errorf("the one that was to be answered: %s", got)
				}
			})
		})
	}
}

// TestBusyConnections checks that a connection too many waits while all others have requests, and gets in when one of them
// is answered, or when nothing has happened on it for long.
func TestBusyConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		l := pipeServer(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Wait") == "" {
				return
			}
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}))
		answers := make(chan string, maxConnections)
		for range maxConnections {
			conn := mustDial(t, l)
			go func() { answers <- status(conn, "Wait: 1\r\n") }()
			synctest.Wait()
		}
		late := make(chan string)
		ask := func() { late <- status(mustDial(t, l), "") }

		begin := time.Now()
		go ask()
		synctest.Wait()
		release <- struct{}{}
		if got := <-answers; got != statusOK {
			t.Errorf("the one that was answered: %s", got)
		}
		if got, took := <-late, time.Since(begin); got != statusOK || took != 0 {
			t.Errorf("the next one: %s, after %v", got, took)
		}

		go func() { answers <- status(mustDial(t, l), "Wait: 1\r\n") }()
		synctest.Wait()
		go ask()
		if got := <-late; got != statusOK {
			t.Errorf("the last one: %s", got)
		}
		if took := time.Since(begin); took != activePatience {
			t.Errorf("it got in after %v, want %v", took, activePatience)
		}
		close(release)
	})
}

// TestManyHeaderFields checks that a header of many small fields is refused.
func TestManyHeaderFields(t *testing.T) {
	l := pipeServer(t, ok)
	for fields, want := range map[int]string{
		maxFields:     statusOK,
		maxFields + 1: "HTTP/1.1 431 Request Header Fields Too Large",
	} {
		var names, values strings.Builder
		for i := range fields {
			fmt.Fprintf(&names, "X-%d:\r\n", i)
			values.WriteString("X:\r\n")
		}
		for _, header := range []string{names.String(), values.String()} {
			if got := status(mustDial(t, l), header); got != want {
				t.Errorf("%d fields: %s, want %s", fields, got, want)
			}
		}
	}
}
