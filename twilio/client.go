package twilio

import (
	"context"
	"fmt"
	"hash/maphash"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
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
)

// Request is what the hook Options.Observe is told of each HTTP request, a retry being a request of its own.
type Request struct {
	Endpoint Endpoint
	Code     int           // HTTP status; 0 when there was no answer, or a 200 broke off
	Duration time.Duration // from when it was sent until its body was read
}

// Options configure a Client.
type Options struct {
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

// maxPages is the most pages read of one list. At the usual 10 requests a second they take three hours, at 1,000
// operations each they hold twice what an account could create in the 7 days the API keeps at 80 a second: a longer
// list is one that does not end.
const maxPages = 100_000

// Client reads the API of one account. It is safe for concurrent use. All requests share one rate limit, and a 429 or
// 503 to one holds back all.
//
// A client has no goroutines of its own and needs no closing. Idle connections are the transport's.
type Client struct {
	options   Options
	list      *url.URL // of the list of operations
	gate      *gate
	cooldown  *cooldown
	shared    time.Duration // what requests of others had waited when the cooldown came to be shared
	clock     clock
	sanitizer sanitizer
	way       step // of each request

	// Tests set these before the first request.
	backoff  func(attempt int) time.Duration
	maxPages int
}

// NewClient returns a client for one account.
func NewClient(o Options) *Client {
	base := *o.BaseURL
	// Credentials are the transport's: those in a URL end up in errors.
	base.User, base.RawQuery, base.Fragment = nil, "", ""
	if o.Logger == nil {
		o.Logger = log.NewNopLogger()
	}
	if o.Proxy == nil {
		o.Proxy = http.ProxyFromEnvironment
	}
	c := &Client{
		options:  o,
		list:     base.JoinPath("Messages", "Operations"),
		gate:     newGate(o.RateLimit, o.InFlight),
		cooldown: newCooldown(),
		backoff:  backoff,
		maxPages: maxPages,
	}
	c.way = c.steps()
	return c
}

// SharePace makes the client one with another of the same account: all their requests together keep to the other's rate
// limit and requests in flight, and to what the API told either of them. It must be called before the first request.
func (c *Client) SharePace(with *Client) {
	c.gate = with.gate
	c.ShareCooldown(with)
}

// ShareCooldown makes the client wait for what the API told another client of the same account. It must be called
// before the first request.
func (c *Client) ShareCooldown(with *Client) {
	c.cooldown = with.cooldown
	c.shared = c.cooldown.throttled()
}

var pages = sync.Pool{New: func() any { return new(Page) }}

// Pages reads the list page by page, from the first to the one without a next token. It yields a page, or one error and
// then ends. A page is valid until the next is asked for or the loop ends: its memory is used again.
//
// The error wraps an *Error, *ThrottledError, *NetworkError, *SecretError, *DecodeError, *PaginationError,
// ErrBodyTooLarge or ErrHeaderTooLarge, or else that of ctx.
func (c *Client) Pages(ctx context.Context, q Query) iter.Seq2[*Page, error] {
	return func(yield func(*Page, error) bool) {
		c.gate.begin(+1)
		defer c.gate.begin(-1)
		seen := newTokens()
		for n, token := 1, ""; ; n++ {
			page, err := c.page(ctx, q, token)
			if err == nil {
				token = page.Next
				err = c.checkToken(seen, n, token)
			}
			if err != nil {
				yield(nil, err)
				return
			}

			more := yield(page, nil)
			pages.Put(page)
			if !more || token == "" {
				return
			}
		}
	}
}

// page reads the page of a token.
func (c *Client) page(ctx context.Context, q Query, token string) (*Page, error) {
	var page *Page // taken when there is something to decode
	err := c.get(ctx, &request{
		endpoint: EndpointList,
		priority: refreshing,
		url:      c.listURL(q, token),
		decode: func(body io.Reader) error {
			if page == nil {
				page, _ = pages.Get().(*Page)
			}
			return decodePage(body, page)
		},
	})
	return page, err
}

// checkToken refuses the token of the page after the n-th, if the list does not end.
func (c *Client) checkToken(seen *tokens, n int, token string) error {
	switch {
	case token == "": // the last page
		return nil
	case !seen.add(token):
		return fmt.Errorf("%s: %w", EndpointList, &PaginationError{Page: n})
	case n == c.maxPages:
		return fmt.Errorf("%s: %w", EndpointList, &PaginationError{Page: n, Limit: n})
	}
	return nil
}

// tokens are the page tokens of a list that were seen. They may be long: what is kept is a hash of each.
type tokens struct {
	seed maphash.Seed
	seen map[uint64]bool
}

func newTokens() *tokens { return &tokens{maphash.MakeSeed(), map[uint64]bool{}} }

// add returns false if a token was seen before.
func (t *tokens) add(token string) bool {
	hash := maphash.String(t.seed, token)
	if t.seen[hash] {
		return false
	}
	t.seen[hash] = true
	return true
}

// listURL is the URL of the page of a token, "" for the first. The filters go with every token: whether the API
// remembers them is not documented.
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
		decode:   func(body io.Reader) error { return decodeOperation(body, &op) },
	})
	if err == nil && op.ID != id {
		err = fmt.Errorf("%s: %w", EndpointFetch, &DecodeError{Pointer: "/id", Problem: "another operation's"})
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
