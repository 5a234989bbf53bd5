package sanitize

import (
	"strings"
	"testing"
)

func TestQuote(t *testing.T) {
	for value, want := range map[string]string{
		"":                             `""`,
		"a\nb":                         `"a\nb"`,
		"me@host":                      `"me@host"`,
		"http://me:hunter2@host/path":  `"…@host/path"`,
		"http:/me:hunter2@host":        `"…@host"`,
		"me:hunter2@proxy:3128":        `"…@proxy:3128"`,
		"http://me:hunter2\n@host":     `"…@host"`,
		"http://me:hunt@er2@host":      `"…@host"`,
		strings.Repeat("é", 101):       `"` + strings.Repeat("é", 100) + `…"`,
		"a" + strings.Repeat("é", 101): `"a` + strings.Repeat("é", 99) + `…"`,
	} {
		if got := Quote(value); got != want {
			t.Errorf("%q: got %s, want %s", value, got, want)
		}
	}
}

func TestOneLine(t *testing.T) {
	for s, want := range map[string]string{"": "", "one": "one", "one\ntwo\r\n\tthree\n": "one; two; three", "a\u2028b\u202ec\u0085d": "a; b; c; d"} {
		if got := OneLine(s); got != want {
			t.Errorf("%q: got %q, want %q", s, got, want)
		}
	}
}
