package config

import (
	"fmt"
	"math"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/prometheus/common/model"

	"twilio_operations_exporter/collector"
	"twilio_operations_exporter/internal/sanitize"
	"twilio_operations_exporter/twilio"
)

// input is a value and where it came from.
type input struct {
	place  string // such as "accounts.yml:3: "; "" for a flag
	name   string // such as "--twilio.timeout" or "interval"
	value  string
	hidden bool // it may hold a secret, if only by mistake

	// For flags: whether the command line sets it, its environment variable, and its value if neither sets it.
	isSet             bool
	env, defaultValue string
}

func (in input) where() string { return in.place + in.name }

// show returns the value for errors and warnings, or a description of one that must not be shown.
func (in input) show() string {
	if in.hidden && in.value != "" {
		return fmt.Sprintf("<%d-character value, not shown>", utf8.RuneCountInString(in.value))
	}
	return sanitize.Quote(in.value)
}

func (in input) bad(want string) error {
	return fmt.Errorf("%s: %s is not %s", in.where(), in.show(), want)
}

// setting is a setting of an account that has a default. One row defines the flag, its environment variable, its key in
// the file and its validation.
type setting struct {
	flag, env, key string // key "" = not in the file
	defaultValue   string
	placeholder    string // what --help shows if there is no default
	help           string
	set            func(a *Account, in input) error
}

const (
	defaultBaseURL = "https://comms.twilio.com/v1"
	longInterval   = model.Duration(5 * time.Minute)
)

var settings = []setting{
	{
		flag: "twilio.base-url", env: "TWILIO_BASE_URL", key: "base_url", defaultValue: defaultBaseURL,
		help: "Base URL of the Twilio API. Credentials are sent to this host only.",
		set:  func(a *Account, in input) error { return in.setBaseURL(&a.BaseURL) },
	},
	{
		flag: "twilio.resource", key: "resource", defaultValue: string(twilio.Messages),
		help: "Operations to read. One of: messages, emails.",
		set: func(a *Account, in input) error {
			return in.setOneOf((*string)(&a.Resource), string(twilio.Messages), string(twilio.Emails))
		},
	},
	{
		flag: "twilio.timeout", defaultValue: "30s",
		help: "Timeout of a single HTTP request, including reading the response body.",
		set: func(a *Account, in input) error {
			return in.setDuration(&a.Timeout, 1, math.MaxInt64, "above 0, such as 30s")
		},
	},
	{
		flag: "twilio.max-retries", defaultValue: "4",
		help: "Maximum number of retries per request.",
		set:  func(a *Account, in input) error { return in.setInt(&a.MaxRetries, 0, 100) },
	},
	{
		flag: "twilio.rate-limit", key: "rate_limit", defaultValue: "10",
		help: "Maximum number of requests per second per account. 0 disables the limit.",
		set: func(a *Account, in input) error {
			return in.setFloat(&a.RateLimit, math.MaxFloat64, "of requests a second, 0 (no limit) or more")
		},
	},
	{
		flag: "collector.interval", key: "interval", defaultValue: "1m",
		help: "Interval between background refreshes of an account. 0s refreshes on each scrape instead.",
		set: func(a *Account, in input) error {
			isZero := in.setDuration(&a.Interval, 0, 0, "") == nil
			if isZero {
				return nil
			}
			return in.setDuration(&a.Interval, minInterval, math.MaxInt64,
				"of at least 100ms, such as 1m, or 0s to refresh on each scrape")
		},
	},
	{
		flag: "collector.window", key: "window", defaultValue: "24h",
		help: "How far back to count operations, by creation time, from 1m to 168h. " +
			"Choose it longer than you schedule ahead.",
		set: func(a *Account, in input) error {
			return in.setDuration(&a.Window, time.Minute, maxWindow, "from 1m to 168h (Twilio keeps operations for 7 days)")
		},
	},
	{
		flag: "collector.page-size", key: "page_size", defaultValue: "1000",
		help: "Number of operations to request per page, from 1 to 1000.",
		set:  func(a *Account, in input) error { return in.setInt(&a.PageSize, 1, 1000) },
	},
	{
		flag: "collector.concurrency", key: "concurrency", defaultValue: "4",
		help: "Maximum number of concurrent requests per account.",
		set:  func(a *Account, in input) error { return in.setInt(&a.Concurrency, 1, 1000) },
	},
	{
		flag: "collector.max-staleness", key: "max_staleness", defaultValue: "0.1",
		help: "Maximum staleness of finished operations, as a fraction of their age, from 0 to 1. " +
			"0 reads the whole window on every refresh.",
		set: func(a *Account, in input) error { return in.setFloat(&a.MaxStaleness, 1, "from 0 to 1") },
	},
	{
		flag: "collector.refresh-timeout", defaultValue: "15m",
		help: "Timeout of a whole refresh of an account.",
		set: func(a *Account, in input) error {
			return in.setDuration(&a.RefreshTimeout, 1, math.MaxInt64, "above 0, such as 15m")
		},
	},
	{
		flag: "collector.max-age", defaultValue: "10m",
		help: "How long to export the last good gauges while refreshes fail; never less than two intervals.",
		set: func(a *Account, in input) error {
			return in.setDuration(&a.MaxAge, 1, math.MaxInt64, "above 0, such as 10m")
		},
	},
	{
		flag: "collector.named-operations", defaultValue: "3",
		help: "Maximum number of failing operations, and of stuck ones, to export by ID per account, from 0 to 20.",
		set:  func(a *Account, in input) error { return in.setInt(&a.Named, 0, 20) },
	},
	{
		flag: "collector.failure-samples", defaultValue: "5",
		help: "Number of lost messages to look up for the reason, for each failing operation exported by ID, from 0 to 20.",
		set:  func(a *Account, in input) error { return in.setInt(&a.Samples, 0, 20) },
	},
	{
		flag: "collector.operation-tags", placeholder: "KEY,…",
		help: "Comma-separated keys of message tags to export as labels of twilio_named_operation_info, at most 5. " +
			"Choose tags that all messages of an operation have in common.",
		set: func(a *Account, in input) error { return in.setTags(&a.Tags) },
	},
}

// validName reports whether s can be the name of an account, which is the value of a label.
func validName(s string) bool {
	return twilio.IsPrintable(s) && strings.TrimSpace(s) != ""
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

// validHost reports whether a URL has a host, and a valid port or none. url.Parse accepts "host:" and port 99999.
func validHost(u *url.URL) bool {
	portIsMissing := strings.HasSuffix(u.Host, ":")
	portIsValid := u.Port() == "" || validPort(u.Port(), 1)
	return u.Hostname() != "" && !portIsMissing && portIsValid
}

func (in input) setBaseURL(to *url.URL) error {
	in.hidden = true // it may hold credentials
	const want = "an http or https URL without credentials, query and fragment, such as " + defaultBaseURL

	u, err := url.Parse(in.value)
	if err != nil {
		return in.bad(want)
	}
	isHTTP := u.Scheme == "http" || u.Scheme == "https"
	hasMore := u.User != nil || u.RawQuery != "" || u.ForceQuery || strings.Contains(in.value, "#")
	if !isHTTP || hasMore || !validHost(u) {
		return in.bad(want)
	}
	*to = *u
	return nil
}

// setDuration accepts the formats of Go and of Prometheus: 1h30m, 1.5h, 7d.
func (in input) setDuration(to *time.Duration, low, high time.Duration, want string) error {
	d, err := time.ParseDuration(in.value)
	if err != nil {
		var m model.Duration
		m, err = model.ParseDuration(in.value)
		d = time.Duration(m)
	}

	bad := in.bad("a duration " + want)
	switch {
	case err != nil:
		return in.suggestUnit(bad, low, high)
	case d < low || d > high:
		return bad
	}
	*to = d
	return nil
}

// suggestUnit adds to the error of a duration the unit that is probably missing.
func (in input) suggestUnit(bad error, low, high time.Duration) error {
	units := []string{"s", "m", "h"}
	if low >= time.Minute {
		units = []string{"h", "m", "s"}
	}

	for _, unit := range units {
		meant, err := time.ParseDuration(in.value + unit)
		if err == nil && meant >= low && meant <= high {
			return fmt.Errorf("%w: add a unit: %s%s", bad, in.value, unit)
		}
	}
	return bad
}

// checkInterval refuses an interval above the window, as operations would come and go unseen, and warns of a long one.
// in is what sets the interval.
func (a *Account) checkInterval(in input) (warnings []string, err error) {
	interval := model.Duration(a.Interval)
	window := model.Duration(a.Window)
	switch {
	case interval > window:
		return nil, fmt.Errorf("%s: %s is longer than the window, which is %s: lower the interval or raise the window",
			in.where(), interval, window)
	case interval > longInterval:
		return []string{fmt.Sprintf("%s: %s is above 5m: alerts work with up to 30m, but resolve later: see docs/alerts.md",
			in.where(), interval)}, nil
	}
	return nil, nil
}

// checkBaseURL warns of a base URL that looks cut short.
func (a *Account) checkBaseURL() (warnings []string) {
	if strings.HasSuffix(strings.TrimSuffix(a.BaseURL.Path, "/"), "/v1") {
		return nil
	}
	return []string{fmt.Sprintf("account %q: the base URL does not end in /v1: want one such as %s", a.Account, defaultBaseURL)}
}

func (in input) setInt(to *int, low, high int) error {
	n, err := strconv.Atoi(in.value)
	if err != nil || n < low || n > high {
		return in.bad(fmt.Sprintf("a whole number from %d to %d", low, high))
	}
	*to = n
	return nil
}

// setFloat accepts numbers from 0 to high.
func (in input) setFloat(to *float64, high float64, want string) error {
	f, err := strconv.ParseFloat(in.value, 64)
	inRange := f >= 0 && f <= high // false for NaN
	if err != nil || !inRange {
		return in.bad("a number " + want)
	}
	*to = f
	return nil
}

// maxTagKey is the most characters that the key of a tag may have, as documented.
const maxTagKey = 128

// setTags accepts a comma-separated list of tag keys.
func (in input) setTags(to *collector.OperationTags) error {
	*to = collector.OperationTags{}
	if in.value == "" {
		return nil
	}

	keys := strings.Split(in.value, ",")
	if len(keys) > len(to) {
		return in.bad(fmt.Sprintf("a list of at most %d tag keys, such as campaign,team", len(to)))
	}

	labels := map[string]string{} // keys by label
	for i, key := range keys {
		key = strings.TrimSpace(key)
		if !validName(key) || utf8.RuneCountInString(key) > maxTagKey {
			return in.bad("a comma-separated list of tag keys, such as campaign,team")
		}

		label := collector.TagLabel(key)
		if other, taken := labels[label]; taken {
			return fmt.Errorf("%s: the tags %s and %s would both be the label %s: leave one of them out",
				in.where(), sanitize.Quote(other), sanitize.Quote(key), label)
		}
		labels[label] = key
		to[i] = key
	}
	return nil
}

func (in input) setOneOf(to *string, values ...string) error {
	if !slices.Contains(values, in.value) {
		return in.bad("one of: " + strings.Join(values, ", "))
	}
	*to = in.value
	return nil
}
