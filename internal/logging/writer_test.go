package logging

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// lateReader is a pipe that is not read at first.
type lateReader struct {
	open    chan struct{}
	written strings.Builder
}

// Write implements io.Writer.
func (r *lateReader) Write(p []byte) (int, error) {
	<-r.open
	return r.written.Write(p)
}

// TestWriter checks that nothing waits for a log that cannot be written, and that dropped lines are counted.
func TestWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const lines = maxQueued + 100
		late := &lateReader{open: make(chan struct{})}
		q := NewWriter(late)
		New(q, "info", "json")
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
		dropped := fmt.Sprintf(`{"level":"warn","lines":%d,"msg":"log lines dropped`, lines-maxQueued-1)
		if !strings.Contains(got, dropped) || !strings.HasPrefix(got, "line 0\n") {
			t.Errorf("%.200s", got)
		}
	})
}

// TestStandard checks that no text written to the standard library's logger is shown, and that the fact is logged only
// at debug.
func TestStandard(t *testing.T) {
	for minLevel, want := range map[string]string{
		"info": "", "debug": `msg="message of a library, text omitted"`,
	} {
		var b strings.Builder
		logger, _ := New(&b, minLevel, "logfmt")
		_, _ = fmt.Fprint(Standard(logger), "Unsolicited response: Basic c2VjcmV0")
		if got := b.String(); !strings.Contains(got, want) || strings.Contains(got, "c2VjcmV0") || want == "" && got != "" {
			t.Errorf("%s: %s", minLevel, got)
		}
	}
}
