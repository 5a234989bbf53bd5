package twilio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/hashicorp/go-retryablehttp"
	"github.com/prometheus/common/version"
	"golang.org/x/time/rate"
)

// Endpoint names an API endpoint in Request.
type Endpoint string

// The endpoints this client calls.
const (
	EndpointList  Endpoint = "list_operations"
	EndpointFetch Endpoint = "fetch_operation"
)

// Request is what the hook Options.Observe is told of each HTTP request, a
// retry being a request of its own.
type Request struct {
	Endpoint Endpoint
	Code     int           // HTTP status; 0 when there was no answer, or a 200 broke off
	Duration time.Duration // from when it was sent until its body was read
}

// Options configure a Client.
type Options struct {
	BaseURL    *url.URL          // such as https://comms.twilio.com/v1
	Transport  http.RoundTripper // adds the credentials; required
	Timeout    time.Duration     // of one HTTP request, body included, waiting before it not; 0 = none
	MaxRetries int               // after the first try of one request
	RateLimit  float64           // requests a second; 0 = no limit
	InFlight   int               // requests at the same time, at most; 0 = no limit
	Logger     log.Logger        // nil: silent
	Observe    func(Request)     // is told of each request that went out, by the goroutine that made it; nil: nobody is
}

// Query selects operations of the list. Zero values are not sent.
type Query struct {
	StartDate time.Time // created after
	EndDate   time.Time // created before
	Status    Status
	PageSize  int // 1 to 1000; the API's default is 50
}

// Page is one page of the list.
type Page struct {
	Operations []Operation
	Next       string // token of the next page, "" on the last one
}

// Client reads the API of one account. It is safe for concurrent use: all
// requests keep to one pace, and a 429 or 503 to one stops all.
type Client struct {
	options Options
	logger  log.Logger
	list    *url.URL // of the list of operations
	retry   *retryablehttp.Client
	limiter *rate.Limiter
	places  chan struct{} // for requests in flight; nil = no limit
	gate    *gate
	skew    atomic.Pointer[time.Duration]

	// Tests set these before the first request.
	backoff func(attempt int) time.Duration
}

// NewClient returns a client for one account.
func NewClient(o Options) *Client {
	base := *o.BaseURL
	// Credentials are the transport's: those in a URL end up in errors.
	base.User, base.RawQuery, base.Fragment = nil, "", ""

	limit := rate.Inf
	if o.RateLimit > 0 {
		limit = rate.Limit(o.RateLimit)
	}
	c := &Client{
		options: o,
		logger:  o.Logger,
		list:    base.JoinPath("Messages", "Operations"),
		limiter: rate.NewLimiter(limit, 1),
		gate:    newGate(),
		backoff: backoff,
	}
	if c.logger == nil {
		c.logger = log.NewNopLogger()
	}
	if o.InFlight > 0 {
		c.places = make(chan struct{}, o.InFlight)
	}
	c.retry = &retryablehttp.Client{
		HTTPClient: &http.Client{
			Transport:     c.chain(o.Transport),
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		// No Logger: it would log URLs. The hook and the handlers log.
		RequestLogHook: c.logRetry,
		RetryMax:       o.MaxRetries,
		CheckRetry:     checkRetry,
		Backoff:        c.wait,
		ErrorHandler:   retryablehttp.PassthroughErrorHandler,
	}
	return c
}

// KeepGate makes the client wait for what the API told another client of the
// same account. It must be called before the first request.
func (c *Client) KeepGate(from *Client) { c.gate = from.gate }

// Pages reads the list page by page, from the first to the one without a next
// token. It yields a page, or one error and then ends. A page is valid until
// the next is asked for.
//
// The error wraps an *Error, *ThrottledError, *NetworkError, *DecodeError,
// *BodyTooLargeError or *PaginationError, or else that of ctx.
func (c *Client) Pages(ctx context.Context, q Query) iter.Seq2[*Page, error] {
	return func(yield func(*Page, error) bool) {
		var page Page
		seen := map[string]bool{}
		for n, token := 1, ""; ; n, token = n+1, page.Next {
			err := c.get(ctx, EndpointList, c.listURL(q, token), func(body io.Reader) error { return decodePage(body, &page) })
			if err == nil && page.Next != "" && seen[page.Next] {
				err = fmt.Errorf("%s: %w", EndpointList, &PaginationError{Page: n})
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(&page, nil) || page.Next == "" {
				return
			}
			seen[page.Next] = true
		}
	}
}

// listURL is the URL of the page of a token, "" for the first. The filters go
// with every token: whether the API remembers them is not documented.
func (c *Client) listURL(q Query, token string) *url.URL {
	v := url.Values{}
	if !q.StartDate.IsZero() {
		v.Set("startDate", q.StartDate.UTC().Format(time.RFC3339Nano))
	}
	if !q.EndDate.IsZero() {
		v.Set("endDate", q.EndDate.UTC().Format(time.RFC3339Nano))
	}
	if q.Status != "" {
		v.Set("status", string(q.Status))
	}
	if q.PageSize != 0 {
		v.Set("pageSize", strconv.Itoa(q.PageSize))
	}
	if token != "" {
		v.Set("pageToken", token)
	}
	u := *c.list
	// A space as + is right in forms only, as %20 everywhere.
	u.RawQuery = strings.ReplaceAll(v.Encode(), "+", "%20")
	return &u
}

// FetchOperation reads one operation. An id that is not of the documented form
// is refused with ErrInvalidOperationID; other errors are those of Pages.
func (c *Client) FetchOperation(ctx context.Context, id string) (Operation, error) {
	if !ValidOperationID(id) {
		return Operation{}, fmt.Errorf("%w: %q", ErrInvalidOperationID, tidy(id, maxErrorText))
	}
	var op Operation
	err := c.get(ctx, EndpointFetch, c.list.JoinPath(url.PathEscape(id)), func(body io.Reader) error { return decodeOperation(body, &op) })
	if err == nil && op.ID != id {
		err = fmt.Errorf("%s: %w", EndpointFetch, &DecodeError{Pointer: "/id", Problem: "another operation's"})
	}
	if err != nil {
		return Operation{}, err
	}
	return op, nil
}

// get sends a request, as often as it may, and has decode read the body of a
// 200, each time from the start where an attempt breaks off.
func (c *Client) get(ctx context.Context, endpoint Endpoint, u *url.URL, decode func(io.Reader) error) error {
	call := &call{endpoint: endpoint, decode: decode}
	err := c.send(context.WithValue(ctx, callKey{}, call), call, u)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil && call.failure != "":
		return fmt.Errorf("%s: %w (last failure: %s)", endpoint, err, call.failure)
	case call.attempts > 1:
		return fmt.Errorf("%s: %w (%d attempts)", endpoint, err, call.attempts)
	}
	return fmt.Errorf("%s: %w", endpoint, err)
}

// send has the body of a 200 decoded; anything else is an error.
func (c *Client) send(ctx context.Context, call *call, u *url.URL) error {
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return errors.New("base URL: should be http or https, with a host")
	}
	req, err := retryablehttp.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Accept-Encoding", "gzip")
	req.Header.Set("User-Agent", version.ComponentUserAgent("twilio_operations_exporter"))

	resp, err := c.retry.Do(req)
	var inURL *url.Error
	switch {
	case errors.As(err, &inURL):
		return inURL.Err // the URL holds nothing but the query
	case err != nil:
		return err
	}
	_ = resp.Body.Close() // it has been read
	if deadline, ok := ctx.Deadline(); ok && c.gate.retryAt().After(deadline) && resp.StatusCode != http.StatusOK {
		return &ThrottledError{RetryAt: c.gate.retryAt(), StatusCode: resp.StatusCode}
	}
	if resp.StatusCode != http.StatusOK {
		return &Error{StatusCode: resp.StatusCode, Details: decodeErrors(call.refusal, secretsOf(resp.Request))}
	}
	return nil
}

// logRetry is retryablehttp's hook before each attempt.
func (c *Client) logRetry(_ retryablehttp.Logger, req *http.Request, retry int) {
	if retry == 0 {
		return
	}
	call := callOf(req)
	_ = level.Warn(c.logger).Log("msg", "Retrying an API request", "endpoint", call.endpoint,
		"retry", retry, "of", c.options.MaxRetries, "because", call.failure)
}

// ignoredSkew is what a Date header cannot tell from none: it has whole seconds
// and has travelled.
const ignoredSkew = 2 * time.Second

// Now is the API's clock: local time plus Skew, where that is 2 s or more.
func (c *Client) Now() time.Time {
	now := time.Now()
	if skew, ok := c.Skew(); ok && skew.Abs() >= ignoredSkew {
		return now.Add(skew)
	}
	return now
}

// Skew is the API's clock minus the local one, as seen in the Date header of
// the last 200 answer; false before the first.
func (c *Client) Skew() (time.Duration, bool) {
	skew := c.skew.Load()
	if skew == nil {
		return 0, false
	}
	return *skew, true
}

// RetryAt is the local time before which no request goes out, because the API
// said so with a 429 or 503; zero when requests may go out.
func (c *Client) RetryAt() time.Time { return c.gate.retryAt() }

// Throttled is the time, since the client was made, in which at least one
// request waited because the API said so.
func (c *Client) Throttled() time.Duration { return c.gate.throttled() }
