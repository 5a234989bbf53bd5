package config

import (
	"fmt"
	"math"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/prometheus/common/model"

	"twilio_operations_exporter/internal/sanitize"
)

// input is a value and where it came from.
type input struct {
	place  string // "accounts.yml:3: "; none of a flag
	name   string // "--twilio.timeout", "interval"
	value  string
	hidden bool // it may hold a secret, if only by mistake

	// Of flags: whether the command line has it, its environment variable, and its value where neither has one.
	isSet             bool
	env, defaultValue string
}

func (in input) where() string { return in.place + in.name }

// show is the one place that decides which values errors and warnings show.
func (in input) show() string {
	if in.hidden && in.value != "" {
		return fmt.Sprintf("<%d characters, not shown>", utf8.RuneCountInString(in.value))
	}
	return sanitize.Quote(in.value)
}

func (in input) bad(want string) error {
	return fmt.Errorf("%s: %s is not %s", in.where(), in.show(), want)
}

// setting is a value of an account that has a default. One row defines the flag, its environment variable, its key in
// the file and its validation.
type setting struct {
	flag, env, key string // key "": a flag only
	defaultValue   string
	help           string
	want           string // completes "X is not …"
	hidden         bool   // see input
	set            func(a *Account, value string) bool
}

var settings = []setting{
	{
		flag: "twilio.base-url", env: "TWILIO_BASE_URL", key: "base_url", defaultValue: "https://comms.twilio.com/v1",
		help:   "Base URL of the Twilio API. Credentials are sent to this host only.",
		want:   "an http or https URL without credentials, query and fragment, such as https://comms.twilio.com/v1",
		hidden: true,
		set:    func(a *Account, v string) bool { return setBaseURL(&a.BaseURL, v) },
	},
	{
		flag: "twilio.timeout", defaultValue: "30s",
		help: "Timeout of a single HTTP request, including reading the response body.",
		want: "a duration above 0, such as 30s",
		set:  func(a *Account, v string) bool { return setDuration(&a.Timeout, v, 1, math.MaxInt64) },
	},
	{
		flag: "twilio.max-retries", defaultValue: "4",
		help: "Maximum number of retries per request.",
		want: "a whole number from 0 to 100",
		set:  func(a *Account, v string) bool { return setInt(&a.MaxRetries, v, 0, 100) },
	},
	{
		flag: "twilio.rate-limit", key: "rate_limit", defaultValue: "10",
		help: "Maximum number of requests per second and account. 0 disables the limit.",
		want: "a number of requests a second, 0 (no limit) or more",
		set:  func(a *Account, v string) bool { return setFloat(&a.RateLimit, v, 0, math.MaxFloat64) },
	},
	{
		flag: "collector.interval", key: "interval", defaultValue: "1m",
		help: "Interval between background refreshes of an account. 0s refreshes on each scrape instead.",
		want: "a duration of at least 100ms, such as 1m, or 0s to refresh on each scrape",
		set: func(a *Account, v string) bool {
			return setDuration(&a.Interval, v, 0, 0) || setDuration(&a.Interval, v, minInterval, math.MaxInt64)
		},
	},
	{
		flag: "collector.window", key: "window", defaultValue: "24h",
		help: "How far back to count operations, by creation time, from 1m to 168h. " +
			"Choose it longer than you schedule ahead.",
		want: "a duration from 1m to 168h (Twilio keeps operations for 7 days)",
		set:  func(a *Account, v string) bool { return setDuration(&a.Window, v, time.Minute, maxWindow) },
	},
	{
		flag: "collector.page-size", key: "page_size", defaultValue: "1000",
		help: "Number of operations to request per page, at most 1000.",
		want: "a whole number from 1 to 1000",
		set:  func(a *Account, v string) bool { return setInt(&a.PageSize, v, 1, 1000) },
	},
	{
		flag: "collector.concurrency", key: "concurrency", defaultValue: "4",
		help: "Maximum number of concurrent requests per account.",
		want: "a whole number from 1 to 1000",
		set:  func(a *Account, v string) bool { return setInt(&a.Concurrency, v, 1, 1000) },
	},
	{
		flag: "collector.max-staleness", key: "max_staleness", defaultValue: "0.1",
		help: "Maximum staleness of finished operations, as a fraction of their age, from 0 to 1. " +
			"0 reads the whole window on every refresh.",
		want: "a number from 0 to 1",
		set:  func(a *Account, v string) bool { return setFloat(&a.MaxStaleness, v, 0, 1) },
	},
	{
		flag: "collector.refresh-timeout", defaultValue: "15m",
		help: "Timeout of a whole refresh of an account.",
		want: "a duration above 0, such as 15m",
		set:  func(a *Account, v string) bool { return setDuration(&a.RefreshTimeout, v, 1, math.MaxInt64) },
	},
	{
		flag: "collector.max-age", defaultValue: "10m",
		help: "How long to export the last good gauges while refreshes fail, at least two intervals.",
		want: "a duration above 0, such as 10m",
		set:  func(a *Account, v string) bool { return setDuration(&a.MaxAge, v, 1, math.MaxInt64) },
	},
	{
		flag: "collector.named-operations", defaultValue: "3",
		help: "Maximum number of failing and of stuck operations per account to export by ID, at most 20.",
		want: "a whole number from 0 to 20",
		set:  func(a *Account, v string) bool { return setInt(&a.Named, v, 0, 20) },
	},
}

// validName holds for what can be a label value that people can read.
func validName(s string) bool {
	return utf8.ValidString(s) && strings.TrimSpace(s) != "" && !strings.ContainsFunc(s, unicode.IsControl)
}

func validListenAddress(address string) bool {
	if strings.HasPrefix(address, "vsock://") {
		return true // exporter-toolkit's own
	}
	host, port, err := net.SplitHostPort(address)
	return err == nil && !strings.ContainsFunc(host, unicode.IsSpace) && validPort(port, 0)
}

func validPort(port string, low uint64) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n >= low
}

// validHost checks what url.Parse does not: that there is a host, the range of the port, and "host:".
func validHost(u *url.URL) bool {
	return u.Hostname() != "" && !strings.HasSuffix(u.Host, ":") && (u.Port() == "" || validPort(u.Port(), 1))
}

func setBaseURL(to *url.URL, s string) bool {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || !validHost(u) ||
		u.User != nil || u.RawQuery != "" || u.ForceQuery || strings.Contains(s, "#") {
		return false
	}
	*to = *u
	return true
}

// setDuration accepts the formats of Go and of Prometheus: 1h30m, 1.5h, 7d.
func setDuration(to *time.Duration, s string, low, high time.Duration) bool {
	d, err := time.ParseDuration(s)
	if err != nil {
		var m model.Duration
		m, err = model.ParseDuration(s)
		d = time.Duration(m)
	}
	if err != nil || d < low || d > high {
		return false
	}
	*to = d
	return true
}

func setInt(to *int, s string, low, high int) bool {
	n, err := strconv.Atoi(s)
	if err != nil || n < low || n > high {
		return false
	}
	*to = n
	return true
}

func setFloat(to *float64, s string, low, high float64) bool {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !(f >= low && f <= high) { // the form that is false for NaN
		return false
	}
	*to = f
	return true
}
