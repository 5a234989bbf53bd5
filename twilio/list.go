package twilio

import (
	"context"
	"fmt"
	"hash/maphash"
	"io"
	"iter"
	"net/url"
	"strings"
	"sync"
)

// maxPages is the most pages that a list can have. With 1,000 operations each, they hold twice what an account creates
// in 7 days, which is how long the API keeps operations, at 80 a second. At 10 requests a second, reading them takes
// three hours.
const maxPages = 100_000

// A listing is a list of the API that consists of pages of the type Page.
type listing[Page any] struct {
	endpoint Endpoint
	priority priority
	url      *url.URL
	query    url.Values // without pageToken
	pool     *sync.Pool // of *Page
	decode   func(body io.Reader, p *Page) error
	next     func(*Page) string // token of the next page, "" on the last one
}

// readList reads a list page by page: see Client.Pages.
func readList[Page any](ctx context.Context, c *Client, l *listing[Page]) iter.Seq2[*Page, error] {
	return func(yield func(*Page, error) bool) {
		if l.priority == refreshing {
			c.gate.countList(+1)
			defer c.gate.countList(-1)
		}

		seen := newTokens()
		token := ""
		for n := 1; ; n++ {
			page, err := l.read(ctx, c, token)
			if err != nil {
				yield(nil, err)
				return
			}
			token = l.next(page)
			err = seen.check(n, token, c.maxPages)
			if err != nil {
				yield(nil, fmt.Errorf("%s: %w", l.endpoint, err))
				return
			}

			more := yield(page, nil)
			l.pool.Put(page)
			if !more || token == "" {
				return
			}
		}
	}
}

// read reads the page with this token, "" being the first.
func (l *listing[Page]) read(ctx context.Context, c *Client, token string) (*Page, error) {
	var page *Page // taken from the pool once there is something to decode
	err := c.get(ctx, &request{
		endpoint: l.endpoint,
		priority: l.priority,
		url:      pageURL(l.url, l.query, token),
		decode: func(body io.Reader) error {
			if page == nil {
				page, _ = l.pool.Get().(*Page)
			}
			return l.decode(body, page)
		},
	})
	return page, err
}

// pageURL returns the URL of the page with this token. The filters are sent with every token, as it is not documented
// whether the API remembers them.
func pageURL(list *url.URL, filters url.Values, token string) *url.URL {
	query := filters.Encode()
	if token != "" {
		query += "&" + url.Values{"pageToken": {token}}.Encode()
	}
	query = strings.TrimPrefix(query, "&")

	u := *list
	u.RawQuery = strings.ReplaceAll(query, "+", "%20") // + is a space only in forms, %20 is one everywhere
	return &u
}

// tokens are the page tokens of a list seen so far. Tokens may be long, so only their hashes are kept.
type tokens struct {
	seed maphash.Seed
	seen map[uint64]bool
}

func newTokens() *tokens { return &tokens{maphash.MakeSeed(), map[uint64]bool{}} }

// check takes in the token that page n names as the next. It returns an error if the list does not end: if the token
// was seen before, or n is most.
func (t *tokens) check(n int, token string, most int) error {
	if token == "" {
		return nil
	}
	hash := maphash.String(t.seed, token)
	if t.seen[hash] {
		return &PaginationError{Page: n}
	}
	if n == most {
		return &PaginationError{Page: n, Limit: n}
	}
	t.seen[hash] = true
	return nil
}
