package twilio

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// testServer starts a real server, and returns a transport that leaves no connections behind. Like the transports that
// a client is given, it does not decompress by itself.
func testServer(t testing.TB, h http.HandlerFunc) (base string, transport *http.Transport) {
	t.Helper()
	s := httptest.NewServer(h)
	transport = &http.Transport{DisableCompression: true}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		s.Close()
	})
	return s.URL, transport
}

func TestRequest(t *testing.T) {
	var got *http.Request
	base, transport := testServer(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		_, _ = io.WriteString(w, pageOf(`"next":null`))
	})

	for path, want := range map[string]string{
		"":              "/Messages/Operations",
		"/":             "/Messages/Operations",
		"/v1":           "/v1/Messages/Operations",
		"/v1/":          "/v1/Messages/Operations",
		"/a/proxy/v1":   "/a/proxy/v1/Messages/Operations",
		"/a%2Fb/v1//":   "/a%2Fb/v1/Messages/Operations",
		"/v1?x=1#y":     "/v1/Messages/Operations",
		"/with%20space": "/with%20space/Messages/Operations",
	} {
		// Credentials in the base URL are not sent: they are the transport's.
		c := testClient(t, strings.Replace(base, "//", "//user:password@", 1)+path, transport)
		if _, err := readAll(t, c); err != nil {
			t.Fatal(err)
		}
		if got.Method != http.MethodGet || got.RequestURI != want {
			t.Errorf("base %q: %s %s, want %s", path, got.Method, got.RequestURI, want)
		}

		for name, want := range map[string]string{
			"Accept": "application/json", "Accept-Encoding": "gzip", "Authorization": "",
		} {
			if v := got.Header.Get(name); v != want {
				t.Errorf("%s: %q, want %q", name, v, want)
			}
		}

		if ua := got.UserAgent(); !strings.HasPrefix(ua, "twilio_operations_exporter/") {
			t.Errorf("User-Agent %q", ua)
		}
	}
}

// TestPages checks that every page is asked for with the filters and with the unchanged token.
func TestPages(t *testing.T) {
	tokens := []string{
		"a b+/&=%é\"?#", "..", "%41", "a+b", "a%2Bb", "日本語\n", strings.Repeat("x", 2000), "null", "\\", " ", ";,:@$",
	}
	berlin := time.FixedZone("", 2*60*60)
	q := Query{
		StartDate: time.Date(2026, 3, 1, 14, 0, 0, 0, berlin),
		EndDate:   time.Date(2026, 3, 2, 0, 0, 0, 120e6, time.UTC),
		Status:    StatusProcessing,
		PageSize:  7,
	}

	var requests int
	base, transport := testServer(t, func(w http.ResponseWriter, r *http.Request) {
		v, err := url.ParseQuery(r.URL.RawQuery)
		want := url.Values{
			"startDate": {"2026-03-01T12:00:00Z"},
			"endDate":   {"2026-03-02T00:00:00.12Z"},
			"status":    {"PROCESSING"},
			"pageSize":  {"7"},
		}

		if requests > 0 {
			want.Set("pageToken", tokens[requests-1])
		}
		if err != nil || v.Encode() != want.Encode() {
			t.Errorf("page %d: query %q, %v", requests+1, r.URL.RawQuery, err)
		}
		if strings.Contains(r.URL.RawQuery, "+") {
			t.Errorf("a + in %q is a space to some and a + to others", r.URL.RawQuery)
		}
		next := "null"
		if requests < len(tokens) {
			next = strconv.QuoteToGraphic(tokens[requests])
			next = strings.ReplaceAll(next, `\x`, `\u00`)
		}

		requests++
		// Also a page without operations may have a next one.
		_, _ = io.WriteString(w, pageOf(`"next":`+next, slices.Repeat([]string{one}, requests%3)...))
	})

	var sizes []int
	var nexts []string
	for page, err := range testClient(t, base, transport).Pages(t.Context(), q) {
		if err != nil {
			t.Fatal(err)
		}
		sizes, nexts = append(sizes, len(page.Operations)), append(nexts, page.Next)
	}

	if want := []int{1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0}; !slices.Equal(sizes, want) {
		t.Errorf("pages of %v, want %v", sizes, want)
	}
	if want := append(slices.Clone(tokens), ""); !slices.Equal(nexts, want) {
		t.Errorf("tokens %q", nexts)
	}
}

// TestPagesLeftEarly checks that leaving the loop ends the list, and that another loop starts over.
func TestPagesLeftEarly(t *testing.T) {
	var tokens []string
	base, transport := testServer(t, func(w http.ResponseWriter, r *http.Request) {
		tokens = append(tokens, r.URL.Query().Get("pageToken"))
		_, _ = io.WriteString(w, pageOf(fmt.Sprintf(`"next":"%d"`, len(tokens)), one))
	})

	pages := testClient(t, base, transport).Pages(t.Context(), Query{})
	for range 2 {
		n := 0
		for page, err := range pages {
			if err != nil || len(page.Operations) != 1 {
				t.Fatal(page, err)
			}
			n++
			if n == 2 {
				break
			}
		}
	}

	if want := []string{"", "1", "", "3"}; !slices.Equal(tokens, want) {
		t.Errorf("tokens asked for %q, want %q", tokens, want)
	}
}

func TestRepeatedToken(t *testing.T) {
	for name, tt := range map[string]struct {
		next  []string // in turn; the last one goes on
		pages int
	}{
		"the same":       {[]string{"a"}, 2},
		"cycle":          {[]string{"a", "b", "c", "a"}, 4},
		"cycle later on": {[]string{"a", "b", "c", "b"}, 4},
	} {
		t.Run(name, func(t *testing.T) {
			var n int
			base, transport := testServer(t, func(w http.ResponseWriter, _ *http.Request) {
				next := tt.next[min(n, len(tt.next)-1)]
				n++
				_, _ = io.WriteString(w, pageOf(`"next":"`+next+`"`, one))
			})

			ids, err := readAll(t, testClient(t, base, transport))
			var pagination *PaginationError
			if !errors.As(err, &pagination) || pagination.Page != tt.pages {
				t.Fatalf("got %v", err)
			}
			if n != tt.pages || len(ids) != tt.pages-1 {
				t.Errorf("%d requests, %d operations shown; want %d and one less", n, len(ids), tt.pages)
			}
		})
	}
}

// TestEndlessList checks that a list ends with an error if each page has a new token.
func TestEndlessList(t *testing.T) {
	var n int
	api := roundTripper(func(req *http.Request) (*http.Response, error) {
		n++
		return answer(req, 200, pageOf(fmt.Sprintf(`"next":"%d"`, n))), nil
	})

	c := testClient(t, "https://api.test", api)
	c.maxPages = 1000
	ids, err := readAll(t, c)
	var pagination *PaginationError
	if !errors.As(err, &pagination) || pagination.Limit != 1000 || n != 1000 || len(ids) != 0 {
		t.Errorf("%d requests, %v", n, err)
	}
	if want := "list_operations: the list does not end within 1000 pages"; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
}

func TestFetchOperation(t *testing.T) {
	var uris []string
	body := string(readTestdata(t, "operation-two-messages.json"))
	base, transport := testServer(t, func(w http.ResponseWriter, r *http.Request) {
		uris = append(uris, r.RequestURI)
		_, _ = io.WriteString(w, body)
	})

	c := testClient(t, base+"/v1", transport)
	const id = "comms_operation_01h2xcejqtf2nbrexx3vqjhp41"
	op, err := c.FetchOperation(t.Context(), id)
	if err != nil || op.ID != id || op.Stats[Attempts] != 4 {
		t.Errorf("got %+v, %v", op, err)
	}

	for _, bad := range []string{
		"", "x", "comms_operation_", id[:41], id + "/Errors", id + "?x", id + "\n", " " + id, "../" + id, strings.ToUpper(id),
		"comms_operation_81h2xcejqtf2nbrexx3vqjhp41", "comms_operation_01h2xcejqtf2nbrexx3vqjhpil", id + "0123456789", strings.Repeat("x", 1<<16),
	} {
		op, err = c.FetchOperation(t.Context(), bad)
		if !errors.Is(err, ErrInvalidOperationID) || op != (Operation{}) {
			t.Errorf("%.60q: %+v, %v", bad, op, err)
		}
		if s := err.Error(); len(s) > 400 || !strings.Contains(s, "comms_operation_01h9krwprkeee8fzqspvwy6nq8") {
			t.Errorf("message %.500q", s)
		}
	}

	if want := []string{"/v1/Messages/Operations/" + id}; !slices.Equal(uris, want) {
		t.Errorf("asked for %q, want %q", uris, want)
	}

	_, err = c.FetchOperation(t.Context(), id[:41]+"2")
	var decode *DecodeError
	if !errors.As(err, &decode) {
		t.Errorf("another operation's answer: %v", err)
	}
}

// TestNonsense checks that a page that is not as documented ends the list after one request, and that nothing of it is
// shown.
func TestNonsense(t *testing.T) {
	gzipped := compressed(t, []byte(pageOf(`"next":null`, one)))
	broken := slices.Clone(gzipped)
	broken[len(broken)-6] ^= 1 // in the checksum
	for name, tt := range map[string]struct {
		body     string
		encoding string
		want     string
	}{
		"HTML":              {"<html>login</html>", "", "list_operations: not the documented answer: not JSON: invalid character '<' at start of value"},
		"nothing":           {"", "", "list_operations: not the documented answer: empty"},
		"nothing, zipped":   {"", "gzip", "list_operations: not the documented answer: empty"},
		"a missing count":   {pageOf(`"next":"a"`, one, strings.Replace(one, "attempts", "tries", 1)), "", "list_operations: not the documented answer: /operations/1/stats: no attempts"},
		"not zipped":        {pageOf(``, one), "gzip", "list_operations: not the documented answer: corrupt gzip"},
		"broken checksum":   {string(broken), "gzip", "list_operations: not the documented answer: corrupt gzip"},
		"broken zip":        {string(gzipped[:20]) + strings.Repeat("\xff", 200), "gzip", "list_operations: not the documented answer: corrupt gzip"},
		"another encoding":  {"???", "br", "list_operations: not the documented answer: content encoding br, which was not requested"},
		"a single resource": {one, "", "list_operations: not the documented answer: no operations"},
	} {
		t.Run(name, func(t *testing.T) {
			var n int
			base, transport := testServer(t, func(w http.ResponseWriter, _ *http.Request) {
				n++
				if tt.encoding != "" {
					w.Header().Set("Content-Encoding", tt.encoding)
				}
				_, _ = io.WriteString(w, tt.body)
			})

			ids, err := readAll(t, testClient(t, base, transport))
			var decode *DecodeError
			if !errors.As(err, &decode) || err.Error() != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
			if n != 1 || len(ids) != 0 {
				t.Errorf("%d requests, %d operations shown", n, len(ids))
			}
		})
	}
}

func compressed(t testing.TB, b []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	if _, err := z.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestGzip(t *testing.T) {
	body := compressed(t, []byte(pageJSON(1000, "null")))
	base, transport := testServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept-Encoding") != "gzip" {
			t.Error("not asked for")
		}
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(body)
	})

	c := testClient(t, base, transport)
	for range 3 { // readers and buffers are used again
		ids, err := readAll(t, c)
		if err != nil || len(ids) != 1000 || ids[999] != testID(999) {
			t.Errorf("%d operations, %v", len(ids), err)
		}
	}
}

// TestBodyLimit checks that the limit applies to decompressed bytes, and is exact.
func TestBodyLimit(t *testing.T) {
	// A page that is padded to n bytes with a member nobody asked for.
	padded := func(n int) []byte {
		head, tail := `{"pad":[["`, `"]],`+pageOf(`"next":null`, one)[1:]
		full := strings.Repeat("a", 1<<17) + `","`
		left := n - len(head) - len(tail)
		return []byte(head + strings.Repeat(full, left/len(full)) + strings.Repeat("a", left%len(full)) + tail)
	}

	// Streams in a row are one: an array that does not end.
	strings1M := compressed(t, bytes.Repeat([]byte(`a","`), 1<<18))
	bomb := slices.Concat(compressed(t, []byte(`{"x":[["`)), bytes.Repeat(strings1M, 65))
	blank := bytes.Repeat(compressed(t, bytes.Repeat([]byte(" "), 1<<20)), 65)
	for _, tt := range []struct {
		name     string
		body     []byte
		encoding string
		want     string
	}{
		{"as long as may be", padded(maxBody), "", ""},
		{"a byte more", padded(maxBody + 1), "", "list_operations: the answer is longer than 16777216 bytes"},
		{"gzip bomb", bomb, "gzip", "list_operations: the answer is longer than 16777216 bytes"},
		{
			"gzip bomb of white space", blank, "gzip",
			"list_operations: not the documented answer: a value or white space of more than 262144 bytes",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var requests int
			base, transport := testServer(t, func(w http.ResponseWriter, _ *http.Request) {
				requests++
				if tt.encoding != "" {
					w.Header().Set("Content-Encoding", tt.encoding)
				}
				_, _ = w.Write(tt.body)
			})

			// However busy the machine is: no timeout.
			ids, err := readAll(t, testClient(t, base, transport, func(o *Options) { o.Timeout = 0 }))
			var got string
			if err != nil {
				got = err.Error()
			}
			if got != tt.want || requests != 1 {
				t.Errorf("%d requests, error %q, want %q", requests, got, tt.want)
			}
			if want := map[bool]int{true: 1}[tt.want == ""]; len(ids) != want {
				t.Errorf("%d operations, want %d", len(ids), want)
			}
		})
	}
}

// breakOff sends the first part of an answer and closes the connection.
func breakOff(t *testing.T, w http.ResponseWriter, status int, header, body string) {
	t.Helper()
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		t.Error(err)
		return
	}
	_, _ = fmt.Fprintf(conn, "HTTP/1.1 %d %s\r\n%s\r\n%s", status, http.StatusText(status), header, body)
	_ = conn.Close()
}

// TestBodyBreaksOff checks that a body that breaks off counts as a lost connection, whether its length was announced or
// not.
func TestBodyBreaksOff(t *testing.T) {
	page := pageOf(`"next":null`, one)
	zipped := string(compressed(t, []byte(page)))
	for name, tt := range map[string]struct{ header, body string }{
		"length":      {fmt.Sprintf("Content-Length: %d\r\n", len(page)), page[:len(page)-5]},
		"chunked":     {"Transfer-Encoding: chunked\r\n", fmt.Sprintf("%x\r\n%s\r\n", len(page), page)},
		"gzip":        {fmt.Sprintf("Content-Encoding: gzip\r\nContent-Length: %d\r\n", len(zipped)), zipped[:len(zipped)/2]},
		"gzip header": {fmt.Sprintf("Content-Encoding: gzip\r\nContent-Length: %d\r\n", len(zipped)), zipped[:3]},
		"no answer":   {},
	} {
		t.Run(name, func(t *testing.T) {
			var n int
			base, transport := testServer(t, func(w http.ResponseWriter, _ *http.Request) {
				n++
				switch {
				case n == 1 && tt.header == "":
					panic(http.ErrAbortHandler)
				case n == 1:
					breakOff(t, w, 200, tt.header, tt.body)
				default:
					_, _ = io.WriteString(w, page)
				}
			})

			observed := &records{}
			c := testClient(t, base, transport, withObserve(observed))
			c.backoff = func(int) time.Duration { return time.Millisecond }
			ids, err := readAll(t, c)
			if err != nil || len(ids) != 1 {
				t.Errorf("%d operations, %v", len(ids), err)
			}
			if n != 2 {
				t.Errorf("%d requests", n)
			}
			if got := observed.codes(); !slices.Equal(got, []int{0, 200}) {
				t.Errorf("observed %v", got)
			}
		})
	}
}

// TestErrorBodyBreaksOff checks that the status decides about a retry even if the body breaks off: a 500 must not be
// repeated.
func TestErrorBodyBreaksOff(t *testing.T) {
	var n int
	base, transport := testServer(t, func(w http.ResponseWriter, _ *http.Request) {
		n++
		breakOff(t, w, 500, "Content-Length: 1000\r\n", `{"errors":[`)
	})

	observed := &records{}
	_, err := readAll(t, testClient(t, base, transport, withObserve(observed)))
	var apiErr *Error
	if !errors.As(err, &apiErr) || apiErr.StatusCode != http.StatusInternalServerError || n != 1 {
		t.Errorf("%d requests, %v", n, err)
	}
	if got := observed.codes(); !slices.Equal(got, []int{500}) {
		t.Errorf("observed %v", got)
	}
}

func TestOneRequest(t *testing.T) {
	for status, file := range map[int]string{400: "error-400.json", 404: "error-404.json", 500: "error-500.json", 401: ""} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			body := `{"code":20003,"message":"Authenticate","more_info":"https://www.twilio.com/docs/errors/20003","status":401}`
			code := 20003
			if file != "" {
				body = string(readTestdata(t, file))
				code = map[int]int{400: 20404, 404: 20404, 500: 20500}[status]
			}

			var n atomic.Int64
			base, transport := testServer(t, func(w http.ResponseWriter, _ *http.Request) {
				n.Add(1)
				w.WriteHeader(status)
				_, _ = io.WriteString(w, body)
			})

			_, err := readAll(t, testClient(t, base, transport))
			var apiErr *Error
			if !errors.As(err, &apiErr) || apiErr.StatusCode != status ||
				len(apiErr.Details) != 1 || apiErr.Details[0].Code != code {
				t.Errorf("got %v", err)
			}

			if n.Load() != 1 {
				t.Errorf("%d requests", n.Load())
			}
		})
	}
}

// TestErrorInHTML checks that nothing of a proxy's page is shown.
func TestErrorInHTML(t *testing.T) {
	base, transport := testServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = fmt.Fprintf(w, "<html>You sent %s</html>", r.Header) //nolint:gosec // no browser reads it
	})
	_, err := readAll(t, testClient(t, base, transport, withAuth("AC1", "s3cret")))
	if want := "list_operations: 403 Forbidden"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	var elsewhere atomic.Int64
	other, _ := testServer(t, func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) })
	for _, status := range []int{301, 302, 303, 307, 308} {
		for _, location := range []string{other + "/v1/Messages/Operations", "/elsewhere", "http://%zz", ""} {
			var n int
			base, transport := testServer(t, func(w http.ResponseWriter, _ *http.Request) {
				n++
				if location != "" {
					w.Header().Set("Location", location)
				}
				w.WriteHeader(status)
			})

			_, err := readAll(t, testClient(t, base, transport, withAuth("AC1", "s3cret")))
			var apiErr *Error
			if !errors.As(err, &apiErr) || apiErr.StatusCode != status || n != 1 {
				t.Errorf("%d to %q: %d requests, %v", status, location, n, err)
			}
		}
	}

	if n := elsewhere.Load(); n != 0 {
		t.Errorf("%d requests went to another host", n)
	}
}

// TestSecretsStaySecret checks that the credentials are in no error and no log line, even if the server sends them
// back.
func TestSecretsStaySecret(t *testing.T) {
	const user, password = "ACuser", "s3cret-p4ss"
	basic := strings.TrimPrefix(func() string {
		req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
		req.SetBasicAuth(user, password)
		return req.Header.Get("Authorization")
	}(), "Basic ")

	closed, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	var answers atomic.Int64
	base, transport := testServer(t, func(w http.ResponseWriter, r *http.Request) {
		status := int(answers.Load())
		_, sent, _ := r.BasicAuth()
		if sent != password {
			t.Errorf("the password came as %q", sent)
		}
		switch status {
		case 0:
			panic(http.ErrAbortHandler)
		case 200:
			_, _ = fmt.Fprintf(w, `{"operations":[{"%s":"%s"}]}`, r.UserAgent(), sent) //nolint:gosec // as above
			return
		}

		w.WriteHeader(status)
		_, _ = fmt.Fprintf(
			w,
			`{"errors":[{"code":1,"message":"%s %s","infoUrl":"https://%[2]s/","context":"%[1]s"}]}`,
			r.Header.Get("Authorization"),
			sent,
		) //nolint:gosec // as above
	})

	var logged bytes.Buffer
	for _, s := range []int{0, 200, 301, 400, 401, 429, 500, 502, -1} {
		answers.Store(int64(s))
		withUser := strings.Replace(base, "http://", "http://"+user+":"+password+"@", 1)
		if s == -1 {
			withUser = "http://" + user + ":" + password + "@" + closed.Addr().String()
		}
		c := testClient(
			t,
			withUser,
			transport, withAuth(user, password),
			withLog(&logged),
			func(o *Options) { o.MaxRetries = 1 },
		)

		c.backoff = func(int) time.Duration { return time.Millisecond }
		_, err := readAll(t, c)
		if err == nil {
			t.Fatalf("%d: no error", s)
		}
		for _, text := range []string{err.Error(), fmt.Sprintf("%+v %#v", err, err), deep(err)} {
			if strings.Contains(text, password) || strings.Contains(text, basic) {
				t.Errorf("%d: %s", s, text)
			}
		}
	}

	if s := logged.String(); s == "" || strings.Contains(s, password) || strings.Contains(s, basic) ||
		strings.Contains(s, "Authorization") {
		t.Errorf("log:\n%s", s)
	}
}

// deep formats an error with everything that it wraps.
func deep(err error) string {
	var b strings.Builder
	for ; err != nil; err = errors.Unwrap(err) {
		_, _ = fmt.Fprintf(&b, "%+v %#v\n", err, err)
	}
	return b.String()
}

// TestConcurrentUse uses one client from many goroutines, for the race detector.
func TestConcurrentUse(t *testing.T) {
	var n atomic.Int64
	base, transport := testServer(t, func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1)%7 == 0 {
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		token, _ := strconv.Atoi(r.URL.Query().Get("pageToken"))
		next := "null"
		if token < 5 {
			next = fmt.Sprintf(`"%d"`, token+1)
		}
		_, _ = io.WriteString(w, pageJSON(10+token, next))
	})

	observed := &records{}
	c := testClient(t, base, transport, withObserve(observed), func(o *Options) { o.MaxRetries = 100 })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			ids, err := readAll(t, c)
			if err != nil || len(ids) != 10+11+12+13+14+15 {
				t.Errorf("%d operations, %v", len(ids), err)
			}
			for i, want := range []int{0, 10, 21, 33, 46, 60} {
				if len(ids) > want && ids[want] != testID(0) {
					t.Errorf("page %d starts with %s", i+1, ids[want])
				}
			}
		})
	}

	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			_, _ = c.Skew()
			_, _, _ = c.Now(), c.RetryAt(), c.Throttled()
		}
	}()

	wg.Wait()
	cancel()
	<-done
	if got := len(observed.codes()); got != int(n.Load()) {
		t.Errorf("observed %d of %d requests", got, n.Load())
	}
}
