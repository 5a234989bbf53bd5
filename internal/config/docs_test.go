package config

import (
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"twilio_operations_exporter/internal/testutil"
)

// usual are the flags in the README.
var usual = []string{
	"twilio.account-sid", "twilio.auth-token-file", "twilio.api-key", "twilio.api-secret-file", "twilio.rate-limit",
	"collector.interval", "collector.window", "collector.max-staleness", "collector.named-operations", "config.file",
}

// TestDocs compares the tables of flags in the documentation with the code.
func TestDocs(t *testing.T) {
	root := filepath.Join("..", "..")
	testutil.WantGenerated(t, filepath.Join(root, "docs", "configuration.md"), "flags",
		flagTable(func(string) bool { return true }))
	testutil.WantGenerated(t, filepath.Join(root, "README.md"), "flags",
		flagTable(func(name string) bool { return slices.Contains(usual, name) }))
	wantSchema(t, filepath.Join(root, "deploy", "accounts.schema.json"))
}

// flagTable returns the table of flags.
func flagTable(shown func(name string) bool) string {
	app, _ := newApplication(io.Discard)
	var b strings.Builder
	b.WriteString("| flag | environment | default | meaning |\n|---|---|---|---|\n")
	for _, f := range app.Model().Flags {
		if f.Hidden || !shown(f.Name) {
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
