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

// maxPages is the most pages read of one list. At the usual 10 requests a second they take three hours, at 1,000
// operations each they hold twice what an account could create in the 7 days the API keeps at 80 a second: a longer
// list is one that does not end.
const maxPages = 100_000

// A listing is a list of the API, of which Page is a page.
type listing[Page any] struct {
	endpoint Endpoint
	priority priority
	url      *url.URL
	query    url.Values // without pageToken
	pool     *sync.Pool // of *Page
	decode   func(body io.Reader, p *Page) error
	next     func(*Page) string // token of the page that follows, "" for none
}

// readList reads a list page by page, from the first to the one without a next token. It yields a page, or one error and
// then ends. A page is valid until the next is asked for or the loop ends: its memory is used again.
func readList[Page any](ctx context.Context, c *Client, l *listing[Page]) iter.Seq2[*Page, error] {
	return func(yield func(*Page, error) bool) {
		if l.priority == refreshing {
			c.gate.begin(+1)
			defer c.gate.begin(-1)
		}
		seen := newTokens()
		for n, token := 1, ""; ; n++ {
			page, err := l.read(ctx, c, token)
			if err == nil {
				token = l.next(page)
				err = seen.check(n, token, c.maxPages)
				if err != nil {
					err = fmt.Errorf("%s: %w", l.endpoint, err)
				}
			}
			if err != nil {
				yield(nil, err)
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

// read reads the page of a token, "" for the first.
func (l *listing[Page]) read(ctx context.Context, c *Client, token string) (*Page, error) {
	var page *Page // taken when there is something to decode
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

// pageURL is the URL of the page of a token. The filters go with every token: whether the API remembers them is not
// documented.
func pageURL(list *url.URL, filters url.Values, token string) *url.URL {
	query := filters.Encode()
	if token != "" {
		query += "&" + url.Values{"pageToken": {token}}.Encode()
	}
	u := *list
	// A space as + is right in forms only, as %20 everywhere.
	u.RawQuery = strings.TrimPrefix(strings.ReplaceAll(query, "+", "%20"), "&")
	return &u
}

// tokens are the page tokens of a list that were seen. They may be long: what is kept is a hash of each.
type tokens struct {
	seed maphash.Seed
	seen map[uint64]bool
}

func newTokens() *tokens { return &tokens{maphash.MakeSeed(), map[uint64]bool{}} }

// check refuses the token of the page after the n-th, if the list does not end: after most pages, or where it goes in
// circles.
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
