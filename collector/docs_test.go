package collector

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"twilio_operations_exporter/internal/testutil"
)

var update = testutil.Update // of golden files

// TestDocs compares the table of reasons in the documentation with the code.
func TestDocs(t *testing.T) {
	testutil.WantGenerated(t, filepath.Join("..", "docs", "troubleshooting.md"), "reasons", reasonTable())
}

func reasonTable() string {
	var b strings.Builder
	b.WriteString("| `reason` | cause | remedy |\n|---|---|---|\n")
	for _, r := range Reasons() {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", r.Label, testutil.Cell(r.Cause), testutil.Cell(r.Remedy))
	}
	return b.String()
}
