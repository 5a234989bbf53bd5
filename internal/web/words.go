package web

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"twilio_operations_exporter/twilio"
)

// number formats n with commas between thousands.
func number(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// count is "1 thing" or "n things".
func count(n int64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return number(n) + " " + thing + "s"
}

// noun is what an account sends, in the singular.
type noun string

func nounOf(r twilio.Resource) noun {
	if r == twilio.Emails {
		return "e-mail"
	}
	return "message"
}

// Many returns the plural.
func (n noun) Many() string { return string(n) + "s" }

// Title returns the plural with a capital letter.
func (n noun) Title() string { return strings.ToUpper(string(n[:1])) + n.Many()[1:] }

// percent formats part as a percentage of total. It is 0% or 100% only if that is exact.
func percent(part, total int64) string {
	if total <= 0 {
		return "–"
	}
	p := math.Round(1000*float64(part)/float64(total)) / 10
	switch {
	case p == 0 && part > 0:
		return "<0.1%"
	case p == 100 && part < total:
		return ">99.9%"
	}
	return strconv.FormatFloat(p, 'f', -1, 64) + "%"
}

const day = 24 * time.Hour

// roughly formats a duration in its largest unit, rounded down.
func roughly(d time.Duration) string {
	d = max(0, d)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 2*day:
		return fmt.Sprintf("%d h", d/time.Hour)
	default:
		return fmt.Sprintf("%d days", d/day)
	}
}

// age formats a duration in its largest unit or, above an hour, its two largest units, rounded down.
func age(d time.Duration) string {
	rest, least := time.Duration(0), time.Minute
	switch {
	case d < time.Hour:
	case d < 2*day:
		rest = d % time.Hour
	default:
		rest = d % day
		least = time.Hour
	}
	if rest < least {
		return roughly(d)
	}
	return roughly(d) + " " + roughly(rest)
}

// clock formats a time, with its date unless that is today.
func clock(t, now time.Time) string {
	if t.Truncate(day).Equal(now.Truncate(day)) {
		return t.UTC().Format("15:04:05 UTC")
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}
