package logging

import (
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// maxQueued is the most lines that wait to be written.
const maxQueued = 1024

// Writer writes lines without blocking its caller, so the program goes on if the log is a pipe that nobody reads. Lines
// that do not fit in the queue are dropped and counted.
type Writer struct {
	lines   chan []byte // nil ends it
	dropped atomic.Int64
	ended   chan struct{}

	report atomic.Pointer[func(w io.Writer, lines int64)] // reports dropped lines
}

// NewWriter returns a Writer that writes to w, in a goroutine of its own, until Close.
func NewWriter(w io.Writer) *Writer {
	q := &Writer{lines: make(chan []byte, maxQueued), ended: make(chan struct{})}
	q.ReportDropped(func(w io.Writer, lines int64) { _, _ = fmt.Fprintf(w, "%d log lines dropped\n", lines) })
	go q.run(w)
	return q
}

// ReportDropped sets the function that reports dropped lines, once lines can be written again.
func (q *Writer) ReportDropped(report func(w io.Writer, lines int64)) { q.report.Store(&report) }

func (q *Writer) run(w io.Writer) {
	defer close(q.ended)
	for line := range q.lines {
		if line == nil {
			return
		}
		_, _ = w.Write(line) // there is nowhere to report an error
		dropped := q.dropped.Swap(0)
		if dropped > 0 {
			report := *q.report.Load()
			report(w, dropped)
		}
	}
}

// Write implements io.Writer. It never fails and never blocks.
func (q *Writer) Write(line []byte) (int, error) {
	select {
	case q.lines <- append([]byte{}, line...): // the caller may reuse its memory
	default:
		q.dropped.Add(1)
	}
	return len(line), nil
}

// Close waits until all lines so far are written, but no longer than timeout. Later lines are lost. It must be called
// only once.
func (q *Writer) Close(timeout time.Duration) {
	go func() { q.lines <- nil }() // the queue may be full
	select {
	case <-q.ended:
	case <-time.After(timeout):
	}
}
