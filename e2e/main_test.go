package e2e

import (
	"flag"
	"os"
	"testing"
)

// TestMain lets all parallel tests run at the same time, however few cores there are, as they mostly wait for servers.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "32"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}
