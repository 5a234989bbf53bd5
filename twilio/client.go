package twilio

import (
	"context"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/go-kit/log"
)

// Endpoint names an API endpoint in Request.
type Endpoint string

// The endpoints this client calls.
const (
	EndpointList  Endpoint = "list_operations"
	EndpointFetch Endpoint = "fetch_operation"

	EndpointListMessages Endpoint = "list_messages"
	EndpointFetchMessage Endpoint = "fetch_message"
)

// Request describes an HTTP request to the hook Options.Observe. A retry is a request of its own.
type Request struct {
	Endpoint Endpoint
	Code     int           // HTTP status; 0 if there was no answer, or no complete 200
	Duration time.Duration // from sending the request until the body was read
}

// Options configure a Client.
type Options struct {
	Resource   Resource          // what kind of operations is read; "" = Messages
	BaseURL    *url.URL          // such as https://comms.twilio.com/v1
	Transport  http.RoundTripper // see NewTransport; required
	Timeout    time.Duration     // of one HTTP request, including the body, excluding client-side queueing; 0 = none
	MaxRetries int               // most retries of a request
	RateLimit  float64           // requests a second; 0 = no limit
	InFlight   int               // most requests at the same time; 0 = no limit
	Logger     log.Logger        // nil = no log
	Observe    func(Request)     // called after each request, by the goroutine that made it; may be nil

	// User and Secret are sent as basic authentication. The secret, of at most 4 KiB, is read for each request. If it is
	// nil, no credentials are sent.
	User   string
	Secret func(context.Context) (string, error)

	// Decoding bounds how many answers are decoded at the same time by all clients that share it; nil = no bound.
	Decoding *Turns

	// Proxy must be the one that the transport uses, so that its credentials can be kept out of errors; nil =
	// http.ProxyFromEnvironment.
	Proxy func(*http.Request) (*url.URL, error)
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

// Client reads the API of one account. It is safe for concurrent use. All requests share one rate limit, and a 429 or
// 503 to one of them holds back all.
//
// A client has no goroutines of its own and needs no closing. Idle connections belong to the transport.
type Client struct {
	options   Options
	base      *url.URL
	list      *url.URL // of the list of operations
	gate      *gate
	clock     clock
	sanitizer sanitizer
	roundTrip step // does all steps of a request

	cooldown        *cooldown
	sampleCooldown  *cooldown     // holds back only requests for messages
	throttledBefore time.Duration // what the cooldown had counted when this client came to share it

	// Tests set these before the first request.
	backoff  func(attempt int) time.Duration
	maxPages int
}

// NewClient returns a client for one account.
func NewClient(o Options) *Client {
	if o.Logger == nil {
		o.Logger = log.NewNopLogger()
	}
	if o.Proxy == nil {
		o.Proxy = http.ProxyFromEnvironment
	}

	base := *o.BaseURL
	base.User = nil // credentials in a URL end up in errors
	base.RawQuery = ""
	base.Fragment = ""

	c := &Client{
		options:        o,
		base:           &base,
		list:           base.JoinPath(o.Resource.row().path, "Operations"),
		gate:           newGate(o.RateLimit, o.InFlight),
		cooldown:       newCooldown(),
		sampleCooldown: newCooldown(),
		backoff:        backoff,
		maxPages:       maxPages,
	}
	c.roundTrip = c.steps()
	return c
}

// SharePace makes the client share rate limit, limit of requests in flight and cooldown with another client of the same
// account. It must be called before the first request.
func (c *Client) SharePace(with *Client) {
	c.gate = with.gate
	c.ShareCooldown(with)
}

// SetPace changes the rate limit in requests a second and the limit of requests in flight, of the client and of those
// that share its pace. 0 = no limit.
func (c *Client) SetPace(rate float64, inFlight int) { c.gate.set(rate, inFlight) }

// ShareCooldown makes the client share the cooldown of another client of the same account. It must be called before the
// first request.
func (c *Client) ShareCooldown(with *Client) {
	c.cooldown = with.cooldown
	c.sampleCooldown = with.sampleCooldown
	c.throttledBefore = c.cooldown.throttled()
}

var pages = sync.Pool{New: func() any { return new(Page) }}

// Pages reads the list of operations page by page, up to the one without a next token. It ends after the first error. A
// page is valid only until the next iteration, as its memory is reused.
//
// The error wraps an *Error, *ThrottledError, *NetworkError, *SecretError, *DecodeError, *PaginationError,
// ErrBodyTooLarge or ErrHeaderTooLarge, or else the error of ctx.
func (c *Client) Pages(ctx context.Context, q Query) iter.Seq2[*Page, error] {
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

	return readList(ctx, c, &listing[Page]{
		endpoint: EndpointList,
		priority: refreshing,
		url:      c.list,
		query:    v,
		pool:     &pages,
		decode: func(body io.Reader, p *Page) error {
			return decodePage(body, c.options.Resource, &c.sanitizer, p)
		},
		next: func(p *Page) string { return p.Next },
	})
}

// FetchOperation reads one operation. At most four are fetched at the same time, or half of Options.InFlight if that is
// less. While a list is being read, they get at most half of the rate limit.
//
// An id that is not of the documented form is refused with ErrInvalidOperationID; other errors are those of Pages.
func (c *Client) FetchOperation(ctx context.Context, id string) (Operation, error) {
	if !ValidOperationID(id) {
		return Operation{}, fmt.Errorf("%w: %q", ErrInvalidOperationID, c.sanitizer.text(id, maxErrorText))
	}

	var op Operation
	err := c.get(ctx, &request{
		endpoint: EndpointFetch,
		priority: probing,
		url:      c.list.JoinPath(url.PathEscape(id)),
		decode: func(body io.Reader) error {
			op = Operation{} // an earlier attempt may have set it
			return decodeOperation(body, c.options.Resource, &c.sanitizer, &op)
		},
	})
	if err == nil && op.ID != id {
		err = fmt.Errorf("%s: %w", EndpointFetch, &DecodeError{Pointer: "/id", Problem: "belongs to another operation"})
	}
	if err != nil {
		return Operation{}, err
	}
	return op, nil
}

// Now returns the time by the API's clock: the local wall clock plus Skew, if that is from 2 s to an hour.
func (c *Client) Now() time.Time { return c.clock.at(time.Now()) }

// Skew returns how far the API's clock is ahead of the local one, by the Date headers of 200 answers; false before the
// first. An answer that differs from the previous ones by more than a minute counts only if the next one agrees with
// it.
func (c *Client) Skew() (time.Duration, bool) { return c.clock.offset() }

// RetryAt returns the local time before which no request goes out because of a 429 or 503; zero if requests may go out.
func (c *Client) RetryAt() time.Time { return c.cooldown.retryAt() }

// Throttled returns for how long at least one request, or a caller of AwaitRetry, has waited because of a 429 or 503
// since the client was made.
func (c *Client) Throttled() time.Duration { return c.cooldown.throttled() - c.throttledBefore }

// AwaitRetry waits until RetryAt, until d has passed or until ctx ends. The wait counts in Throttled.
func (c *Client) AwaitRetry(ctx context.Context, d time.Duration) {
	c.cooldown.count(+1)
	defer c.cooldown.count(-1)

	ctx, cancel := context.WithTimeout(ctx, min(d, time.Until(c.RetryAt())))
	defer cancel()
	<-ctx.Done()
}
