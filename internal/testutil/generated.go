package testutil

import (
	"flag"
	"os"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write golden files and the generated sections of documents")

// Update reports whether to write files instead of comparing them.
func Update() bool { return *update }

// WantGenerated compares the section of a document between the comments NAME and /NAME with what the code generates.
// With -update, it writes the section.
func WantGenerated(tb testing.TB, file, name, want string) {
	tb.Helper()
	b, err := os.ReadFile(file) //nolint:gosec // G304: the test names it
	if err != nil {
		tb.Fatal(err)
	}

	section := regexp.MustCompile(`(?s)(<!-- ` + name + `:[^\n]*-->\n).*?(<!-- /` + name + ` -->)`)
	if !section.Match(b) {
		tb.Fatalf("%s has no section %s", file, name)
	}

	whole := section.ReplaceAllString(string(b), "${1}"+strings.ReplaceAll(want, "$", "$$")+"${2}")

	switch {
	case whole == string(b):
	case !*update:
		tb.Fatalf("%s: the section %s differs from the code: run make docs", file, name)
	default:
		if err := os.WriteFile(file, []byte(whole), 0o600); err != nil { //nolint:gosec // G703: the test names it
			tb.Fatal(err)
		}
	}
}

// Code returns a value as code in Markdown, and "" for "".
func Code(s string) string {
	if s == "" {
		return ""
	}
	return "`" + s + "`"
}

// Cell escapes text for a table in Markdown.
func Cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
