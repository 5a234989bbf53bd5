package e2e

import (
	"flag"
	"os"
	"testing"
)

// TestMain lets all parallel tests run at a time, however few processors there
// are: they wait for servers far more than they work.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "32"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}
