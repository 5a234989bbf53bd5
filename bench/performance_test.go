//go:build linux

package bench

import (
	"flag"
	"testing"
)

var (
	full  = flag.Bool("full", false, "measure at life's size instead of a hundredth of it")
	write = flag.String("write", "", "write the figures into this document; needs -full")
)

// TestPerformance measures what a refresh costs, holds what does not depend on
// the machine, and writes the document when asked to.
func TestPerformance(t *testing.T) {
	if *readerName != "" {
		runReader(t, *readerName, *readerAPI, scaleOf(*full))
		return
	}

	if *write != "" && !*full {
		t.Fatal("-write needs -full: a hundredth of life's size is nothing to show")
	}
	var r report
	t.Run("requests", func(t *testing.T) { r.costs = testRequests(t) })
	t.Run("restarts", func(t *testing.T) { r.restarts = testRestarts(t) })
	t.Run("readers", func(t *testing.T) { r.readers = testReaders(t, *full) })
	if *full {
		t.Run("first refresh", func(t *testing.T) { r.first = firstRefresh(t) })
	}
	if *write != "" && !t.Failed() {
		r.write(t, *write)
	}
}
