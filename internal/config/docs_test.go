package config

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"twilio_operations_exporter/internal/testutil"
)

// TestDocs compares the table of flags in the documentation with the code.
func TestDocs(t *testing.T) {
	testutil.WantGenerated(t, filepath.Join("..", "..", "docs", "configuration.md"), "flags", flagTable())
}

func flagTable() string {
	o := &options{settings: map[string]*string{}, isSet: map[string]*bool{}}
	var b strings.Builder
	b.WriteString("| flag | environment | default | meaning |\n|---|---|---|---|\n")
	for _, f := range newApplication(o, io.Discard).Model().Flags {
		if f.Hidden {
			continue
		}
		name := "`--" + f.Name + "`"
		if f.Short != 0 {
			name += ", `-" + string(f.Short) + "`"
		}
		defaultValue := strings.Join(f.Default, ",")
		if f.IsBoolFlag() && defaultValue == "false" {
			defaultValue = ""
		}
		fmt.Fprintf(
			&b, "| %s | %s | %s | %s |\n", name, testutil.Code(f.Envar), testutil.Code(defaultValue), testutil.Cell(f.Help),
		)
	}
	return b.String()
}
