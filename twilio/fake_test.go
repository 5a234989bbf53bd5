package twilio

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-kit/log"
)

// answer returns an answer of a fake API. header alternates names and values.
func answer(req *http.Request, status int, body string, header ...string) *http.Response {
	resp := &http.Response{
		StatusCode:    status,
		Header:        http.Header{},
		Body:          io.NopCloser(bytes.NewBufferString(body)),
		ContentLength: int64(len(body)),
		Request:       req,
	}
	for pair := range slices.Chunk(header, 2) {
		resp.Header.Set(pair[0], pair[1])
	}
	return resp
}

// roundTripper is a function that implements http.RoundTripper.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// A fakeAPI answers requests in memory and records when each arrived. It is for synctest, whose clock does not advance
// while a real connection is in use.
type fakeAPI struct {
	answer func(n int, req *http.Request) (*http.Response, error) // n from 1

	mu    sync.Mutex
	start time.Time
	sent  []time.Duration // since start
}

func newFakeAPI(f func(n int, req *http.Request) (*http.Response, error)) *fakeAPI {
	return &fakeAPI{answer: f, start: time.Now()}
}

func (a *fakeAPI) RoundTrip(req *http.Request) (*http.Response, error) {
	a.mu.Lock()
	a.sent = append(a.sent, time.Since(a.start))
	n := len(a.sent)
	a.mu.Unlock()
	return a.answer(n, req)
}

func (a *fakeAPI) requests() []time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]time.Duration(nil), a.sent...)
}

// records keeps what Options.Observe is called with.
type records struct {
	mu   sync.Mutex
	list []Request
}

func (r *records) observe(q Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, q)
}

func (r *records) codes() []int {
	r.mu.Lock()
	defer r.mu.Unlock()
	var codes []int
	for _, q := range r.list {
		codes = append(codes, q.Code)
	}
	return codes
}

// testClient returns a client without a rate limit and with a fixed backoff.
func testClient(t testing.TB, base string, transport http.RoundTripper, change ...func(*Options)) *Client {
	t.Helper()
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	o := Options{BaseURL: u, Transport: transport, Timeout: 30 * time.Second, MaxRetries: 4}
	for _, f := range change {
		f(&o)
	}
	c := NewClient(o)
	c.backoff = func(attempt int) time.Duration { return time.Second << attempt }
	return c
}

func withObserve(r *records) func(*Options) {
	return func(o *Options) { o.Observe = r.observe }
}

func withAuth(user, password string) func(*Options) {
	return func(o *Options) {
		o.User = user
		o.Secret = func(context.Context) (string, error) { return password, nil }
	}
}

func withLog(w io.Writer) func(*Options) {
	return func(o *Options) { o.Logger = log.NewLogfmtLogger(log.NewSyncWriter(w)) }
}

// readAll reads the list and returns the ids of its operations.
func readAll(t testing.TB, c *Client) ([]string, error) {
	t.Helper()
	var ids []string
	for page, err := range c.Pages(t.Context(), Query{}) {
		if err != nil {
			return ids, err
		}
		for i := range page.Operations {
			ids = append(ids, page.Operations[i].ID)
		}
	}
	return ids, nil
}

// first reads one page and returns the error.
func first(ctx context.Context, c *Client) error {
	for _, err := range c.Pages(ctx, Query{}) {
		return err
	}
	return nil
}
