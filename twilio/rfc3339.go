package twilio

import (
	"bytes"
	"regexp"
	"time"
)

// loose matches times that RFC 3339 allows and time.Time refuses: in lower case, or in a leap second.
var loose = regexp.MustCompile(`^[-\d]{10}[Tt]\d\d:\d\d:(60|\d\d)(\.\d+)?([Zz]|[-+]\d\d:\d\d)$`)

// parseTime parses a time as RFC 3339 defines it.
func parseTime(text []byte) (t time.Time, ok bool) {
	if len(text) > maxText {
		return t, false
	}
	if t.UnmarshalText(text) == nil {
		return t, isStrict(text)
	}
	if !loose.Match(text) {
		return t, false
	}

	const seconds = len("2006-01-02T15:04:") // where they begin
	strict := bytes.ToUpper(text)
	leap := time.Duration(0)
	if string(strict[seconds:seconds+2]) == "60" {
		copy(strict[seconds:], "59")
		leap = time.Second
	}
	err := t.UnmarshalText(strict)
	return t.Add(leap), err == nil && isStrict(strict)
}

// isStrict reports whether a time that package time accepts is one of RFC 3339. Package time also accepts an hour of
// one digit, a comma, and an offset of a day or more.
func isStrict(text []byte) bool {
	const hourEnds = len("2006-01-02T15")
	if text[hourEnds] != ':' || bytes.IndexByte(text, ',') >= 0 {
		return false
	}
	if text[len(text)-1] == 'Z' {
		return true
	}

	offset := text[len(text)-len("+01:00"):]
	hours := string(offset[1:3])
	minutes := string(offset[4:])
	return hours < "24" && minutes < "60"
}
