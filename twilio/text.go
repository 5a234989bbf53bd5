package twilio

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// tidy makes text of the other side fit for a log line: one line, no invisible
// characters, at most limit bytes.
func tidy(s string, limit int) string {
	long := len(s) > limit
	if long {
		s = s[:limit]
		for s != "" {
			if r, n := utf8.DecodeLastRuneInString(s); r != utf8.RuneError || n != 1 {
				break
			}
			s = s[:len(s)-1] // half a character
		}
	}
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if long {
		s += "…"
	}
	return s
}
