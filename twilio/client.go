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

// Request is what the hook Options.Observe is told of each HTTP request, a retry being a request of its own.
type Request struct {
	Endpoint Endpoint
	Code     int           // HTTP status; 0 when there was no answer, or a 200 broke off
	Duration time.Duration // from when it was sent until its body was read
}

// Options configure a Client.
type Options struct {
	Resource   Resource          // whose operations are read; "" = Messages
	BaseURL    *url.URL          // such as https://comms.twilio.com/v1
	Transport  http.RoundTripper // see NewTransport; required
	Timeout    time.Duration     // of one HTTP request, including the body, excluding client-side queueing; 0 = none
	MaxRetries int               // maximum retries per request
	RateLimit  float64           // requests a second; 0 = no limit
	InFlight   int               // maximum requests at the same time; 0 = no limit
	Logger     log.Logger        // nil: silent
	Observe    func(Request)     // called after each request, by the goroutine that made it; may be nil

	// User and Secret are sent as basic authentication. The secret, of at most 4 KiB, is read for each request; nil: no
	// credentials are sent.
	User   string
	Secret func(context.Context) (string, error)

	// Decoding is shared with other clients, to bound how many answers are decoded at a time; nil = no bound.
	Decoding *Turns

	// Proxy is the transport's, whose credentials are kept out of errors; nil stands for http.ProxyFromEnvironment.
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
// 503 to one holds back all.
//
// A client has no goroutines of its own and needs no closing. Idle connections are the transport's.
type Client struct {
	options  Options
	base     *url.URL
	list     *url.URL // of the list of operations
	gate     *gate
	cooldown *cooldown

	// sampleCooldown holds back requests for messages alone.
	sampleCooldown *cooldown

	shared    time.Duration // what requests of others had waited when the cooldown came to be shared
	clock     clock
	sanitizer sanitizer
	roundTrip step // takes each request all the way

	// Tests set these before the first request.
	backoff  func(attempt int) time.Duration
	maxPages int
}

// NewClient returns a client for one account.
func NewClient(o Options) *Client {
	base := *o.BaseURL
	// Credentials are the transport's: those in a URL end up in errors.
	base.User = nil
	base.RawQuery = ""
	base.Fragment = ""
	if o.Logger == nil {
		o.Logger = log.NewNopLogger()
	}
	if o.Proxy == nil {
		o.Proxy = http.ProxyFromEnvironment
	}
	c := &Client{
		options:  o,
		base:     &base,
		list:     base.JoinPath(o.Resource.row().path, "Operations"),
		gate:     newGate(o.RateLimit, o.InFlight),
		cooldown: newCooldown(),
		backoff:  backoff,
		maxPages: maxPages,

		sampleCooldown: newCooldown(),
	}
	c.roundTrip = c.steps()
	return c
}

// SharePace makes the client one with another of the same account: all their requests together keep to the other's rate
// limit and requests in flight, and to what the API told either of them. It must be called before the first request.
func (c *Client) SharePace(with *Client) {
	c.gate = with.gate
	c.ShareCooldown(with)
}

// SetPace changes the requests a second (0 = no limit) and the requests in flight (0 = no limit) of the client, and of
// those that share its pace.
func (c *Client) SetPace(rate float64, inFlight int) { c.gate.set(rate, inFlight) }

// ShareCooldown makes the client wait for what the API told another client of the same account. It must be called
// before the first request.
func (c *Client) ShareCooldown(with *Client) {
	c.cooldown = with.cooldown
	c.sampleCooldown = with.sampleCooldown
	c.shared = c.cooldown.throttled()
}

var pages = sync.Pool{New: func() any { return new(Page) }}

// Pages reads the list of operations page by page, from the first to the one without a next token. It yields a page, or
// one error and then ends. A page is valid until the next is asked for or the loop ends: its memory is used again.
//
// The error wraps an *Error, *ThrottledError, *NetworkError, *SecretError, *DecodeError, *PaginationError,
// ErrBodyTooLarge or ErrHeaderTooLarge, or else that of ctx.
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

// FetchOperation reads one operation. At most four are fetched at the same time, fewer where Options.InFlight is below
// eight, and while a list is read they get at most half of the rate limit. What waits is dropped when ctx ends.
//
// An id that is not of the documented form is refused with ErrInvalidOperationID; other errors are those of Pages.
func (c *Client) FetchOperation(ctx context.Context, id string) (Operation, error) {
	if !ValidOperationID(id) {
		return Operation{}, fmt.Errorf("%w: %q", ErrInvalidOperationID, oneLine(id, maxErrorText))
	}

	var op Operation
	err := c.get(ctx, &request{
		endpoint: EndpointFetch,
		priority: probing,
		url:      c.list.JoinPath(url.PathEscape(id)),
		decode: func(body io.Reader) error {
			op = Operation{} // of an attempt before
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

// Now is the API's clock: the local wall clock plus Skew, where that is at least 2 s and at most an hour.
func (c *Client) Now() time.Time { return c.clock.at(time.Now()) }

// Skew is how far the API's clock is ahead of the local one, by the Date headers of 200 answers; false before the
// first. An answer that differs by more than a minute from those before it does not count unless the next one agrees
// with it.
func (c *Client) Skew() (time.Duration, bool) { return c.clock.offset() }

// RetryAt is the local time before which no request goes out, because the API said so with a 429 or 503; zero when
// requests may go out.
func (c *Client) RetryAt() time.Time { return c.cooldown.retryAt() }

// Throttled is the time, since the client was made, in which at least one request or a caller of AwaitRetry waited
// because the API said so.
func (c *Client) Throttled() time.Duration { return c.cooldown.throttled() - c.shared }

// AwaitRetry waits until RetryAt, until d has passed or until ctx ends. The time is part of Throttled.
func (c *Client) AwaitRetry(ctx context.Context, d time.Duration) {
	c.cooldown.count(+1)
	defer c.cooldown.count(-1)
	ctx, cancel := context.WithTimeout(ctx, min(d, time.Until(c.RetryAt())))
	defer cancel()
	<-ctx.Done()
}
