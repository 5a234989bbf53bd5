package collector

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"slices"

	"twilio_operations_exporter/collector/window"
	"twilio_operations_exporter/twilio"
)

// Reason is a kind of error that ends a refresh.
type Reason struct {
	Label  string // value of the label reason of twilio_exporter_refresh_errors_total
	Cause  string // what happened
	Remedy string // what to do about it

	is func(error) bool
}

// Reasons returns the table of reasons, from which the values of the label, hints in the log, remedies on the landing
// page and docs/troubleshooting.md come.
func Reasons() []Reason { return slices.Clone(reasons[:]) }

// reasons are in the order in which ReasonOf tries them.
var reasons = [...]Reason{
	{
		"auth", "The API refused the credentials (401 or 403).",
		"Check that the account SID is right, that the auth token, or the API key and its secret, belong to it, " +
			"and that they contain no quotes or white space. A secret file is read again at the next refresh.",
		func(err error) bool { return errors.Is(err, twilio.ErrUnauthorized) },
	},
	{
		"secret", "The secret could not be read: its file is missing, empty or unreadable, or holds something else.",
		"Check that the file of --twilio.auth-token-file or --twilio.api-secret-file (auth_token_file or api_secret_file in a " +
			"configuration file) exists, is readable and holds the secret. It is read again at the next refresh.",
		has[*twilio.SecretError],
	},
	{
		"rate_limited", "The API answered 429 or 503 and asked to wait for longer than the refresh may take.",
		"Lower --twilio.rate-limit or --collector.concurrency, and look for other programs that use the account.",
		func(err error) bool { return errors.Is(err, twilio.ErrThrottled) },
	},
	{
		"timeout", "A request took longer than --twilio.timeout, or the refresh longer than --collector.refresh-timeout.",
		"Check the latency to the API, then raise the timeout. A first refresh takes at least its number of pages divided by --twilio.rate-limit.",
		func(err error) bool {
			network, ok := errors.AsType[net.Error](err)
			return errors.Is(err, context.DeadlineExceeded) || ok && network.Timeout()
		},
	},
	{
		"server", "The API failed (5xx).",
		"Check status.twilio.com. The next refresh tries again.",
		func(err error) bool { return statusOf(err) >= http.StatusInternalServerError },
	},
	{
		"network", "The API did not answer, or not completely: name resolution, proxy, TLS, a firewall or the connection failed.",
		"Check that this host, or its proxy, can reach the API.",
		has[net.Error],
	},
	{
		"decode", "The answer is not the JSON that the API documents.",
		"Check --twilio.base-url, and whether a proxy answers in place of the API.",
		func(err error) bool {
			tooLarge := errors.Is(err, twilio.ErrBodyTooLarge) || errors.Is(err, twilio.ErrHeaderTooLarge)
			return tooLarge || has[*twilio.DecodeError](err) || statusOf(err)/100 == 2
		},
	},
	{
		"pagination", "The list led back to a page that was already read, or did not end before a limit.",
		"The next refresh tries again. If the account has that many operations, shorten --collector.window. " +
			"Otherwise, if it persists, report it to Twilio.",
		func(err error) bool { return has[*twilio.PaginationError](err) || has[*window.TooManyError](err) },
	},
	{
		"request", "The API refused the request (3xx or 4xx).",
		"Check --twilio.base-url.",
		func(err error) bool { return statusOf(err) >= http.StatusMultipleChoices },
	},
	{
		"other", "Something else, such as a certificate file that cannot be read.",
		"See the error.",
		func(error) bool { return true },
	},
}

// ReasonOf returns the reason of an error that ended a refresh.
func ReasonOf(err error) Reason {
	// A certificate file that cannot be read would look like an error of the network.
	if has[*fs.PathError](err) && !has[*twilio.SecretError](err) {
		return reasons[len(reasons)-1]
	}
	return reasons[slices.IndexFunc(reasons[:], func(r Reason) bool { return r.is(err) })]
}

// statusOf returns the HTTP status of an error answer of the API, or 0 for any other error.
func statusOf(err error) int {
	if api, ok := errors.AsType[*twilio.Error](err); ok {
		return api.StatusCode
	}
	return 0
}

// has reports whether err is or wraps an error of a type.
func has[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}
