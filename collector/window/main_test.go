package window

import (
	"flag"
	"runtime/debug"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if bench := flag.Lookup("test.bench"); bench.Value.String() == "" {
		// Simulated worlds are small and die young: collecting them took a third of the time.
		debug.SetGCPercent(400)
	}
	goleak.VerifyTestMain(m)
}
