package web

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"twilio_operations_exporter/twilio"
)

// number writes n with commas between the thousands.
func number(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// count writes how many there are of a thing.
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

// Many is the noun in the plural.
func (n noun) Many() string { return string(n) + "s" }

// Title is the noun in the plural, at the beginning of a heading.
func (n noun) Title() string { return strings.ToUpper(string(n[:1])) + n.Many()[1:] }

// percent writes part of total in percent. It is 0% or 100% only where that is exact.
func percent(part, total int64) string {
	p := math.Round(1000*float64(part)/float64(total)) / 10
	switch {
	case total <= 0:
		return "–"
	case p == 0 && part > 0:
		return "<0.1%"
	case p == 100 && part < total:
		return ">99.9%"
	}
	return strconv.FormatFloat(p, 'f', -1, 64) + "%"
}

const day = 24 * time.Hour

// roughly writes a duration in its largest unit, rounded down.
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

// age writes a duration in its two largest units at most, but for seconds, rounded down.
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

// clock writes a time of the day of now without the date.
func clock(t, now time.Time) string {
	if t.Truncate(day).Equal(now.Truncate(day)) {
		return t.UTC().Format("15:04:05 UTC")
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}
