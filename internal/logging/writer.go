package logging

import (
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// maxQueued is how many lines wait to be written; further ones are dropped.
const maxQueued = 1024

// Writer writes lines without ever making its caller wait: where the log cannot be written, such as to a pipe that
// nobody reads, the program goes on. Lines that do not fit in the queue are dropped and counted.
type Writer struct {
	lines   chan []byte // nil is the last
	dropped atomic.Int64
	ended   chan struct{}

	report atomic.Pointer[func(w io.Writer, lines int64)] // of dropped lines
}

// NewWriter returns a Writer to w, which it writes to from a goroutine of its own until Close.
func NewWriter(w io.Writer) *Writer {
	q := &Writer{lines: make(chan []byte, maxQueued), ended: make(chan struct{})}
	q.ReportDropped(func(w io.Writer, lines int64) { _, _ = fmt.Fprintf(w, "%d log lines dropped\n", lines) })
	go q.run(w)
	return q
}

// ReportDropped sets how to say that lines were dropped, as soon as others can be written again.
func (q *Writer) ReportDropped(report func(w io.Writer, lines int64)) { q.report.Store(&report) }

func (q *Writer) run(w io.Writer) {
	defer close(q.ended)
	for line := <-q.lines; line != nil; line = <-q.lines {
		_, _ = w.Write(line) // there is no place to say that it failed
		if n := q.dropped.Swap(0); n > 0 {
			(*q.report.Load())(w, n)
		}
	}
}

// Write implements io.Writer. It never fails and never waits.
func (q *Writer) Write(line []byte) (int, error) {
	select {
	case q.lines <- append([]byte{}, line...): // the caller uses its memory again
	default:
		q.dropped.Add(1)
	}
	return len(line), nil
}

// Close waits until everything written before is written, for timeout at most. It is called once; later lines are lost.
func (q *Writer) Close(timeout time.Duration) {
	go func() { q.lines <- nil }() // once there is room
	select {
	case <-q.ended:
	case <-time.After(timeout):
	}
}
