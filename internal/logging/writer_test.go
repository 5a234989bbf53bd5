package logging

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// lateReader is a pipe that somebody may read at last.
type lateReader struct {
	open    chan struct{}
	written strings.Builder
}

// Write implements io.Writer.
func (r *lateReader) Write(p []byte) (int, error) {
	<-r.open
	return r.written.Write(p)
}

// TestWriter holds that a log that cannot be written keeps nobody waiting, and
// that what was dropped is counted.
func TestWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const lines = maxQueued + 100
		late := &lateReader{open: make(chan struct{})}
		q := NewWriter(late)
		line := make([]byte, 0, 16)
		for n := range lines {
			line = fmt.Appendf(line[:0], "line %d\n", n)
			if written, err := q.Write(line); written != len(line) || err != nil {
				t.Fatal(written, err)
			}
			if n == 0 {
				synctest.Wait() // it is being written, in vain
			}
		}
		begin := time.Now()
		q.Close(time.Second)
		if took := time.Since(begin); took != time.Second {
			t.Errorf("it waited %v for a log that cannot be written", took)
		}
		close(late.open)
		<-q.ended
		got := late.written.String()
		if n := strings.Count(got, "line "); n != maxQueued+1 {
			t.Errorf("%d lines", n)
		}
		if !strings.Contains(got, fmt.Sprintf(" lines=%d\n", lines-maxQueued-1)) || !strings.HasPrefix(got, "line 0\n") {
			t.Errorf("%.200s", got)
		}
	})
}
