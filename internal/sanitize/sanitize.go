// Package sanitize makes text from outside fit for log lines and errors.
package sanitize

import (
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// maxQuoted is how many bytes of a value Quote shows.
const maxQuoted = 200

// userinfo is the part of a URL, or of what was meant to be one, that may hold a password.
var userinfo = regexp.MustCompile(`(?s)^.*[/:].*@`)

// Quote quotes a value for an error message: on one line, at most maxQuoted bytes long, without the password of a URL.
func Quote(value string) string {
	value = userinfo.ReplaceAllString(value, "…@")
	if len(value) > maxQuoted {
		value = strings.ToValidUTF8(value[:maxQuoted], "") + "…"
	}
	return strconv.Quote(value)
}

// OneLine joins the lines of a message and removes control characters.
func OneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, unicode.IsControl), "; ")
}
