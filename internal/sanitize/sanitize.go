// Package sanitize makes text from outside safe for log lines and errors.
package sanitize

import (
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// maxQuoted is the most bytes of a value that Quote shows.
const maxQuoted = 200

// userinfo matches the part of a URL, or of something meant to be one, that may hold a password.
var userinfo = regexp.MustCompile(`(?s)^.*[/:].*@`)

// Quote quotes a value for an error message, on one line. It cuts it to maxQuoted bytes and removes the password of a
// URL.
func Quote(value string) string {
	value = userinfo.ReplaceAllString(value, "…@")
	if len(value) > maxQuoted {
		value = strings.ToValidUTF8(value[:maxQuoted], "") + "…"
	}
	return strconv.Quote(value)
}

// OneLine joins the lines of a message and removes characters that are not seen, such as those that turn the text after
// them around.
func OneLine(s string) string {
	unseen := func(r rune) bool { return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) }
	return strings.Join(strings.FieldsFunc(s, unseen), "; ")
}
