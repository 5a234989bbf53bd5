package twilio

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestDecodeErrors(t *testing.T) {
	tests := []struct {
		name string
		body string
		want []Detail
	}{
		{"documented 400", string(readTestdata(t, "error-400.json")), []Detail{{Code: 20404, Message: "Not Found"}}},
		{
			"documented 404",
			string(readTestdata(t, "error-404.json")),
			[]Detail{{Code: 20404, Message: "The resource was not found."}},
		},
		{"documented 429", string(readTestdata(t, "error-429.json")), []Detail{{
			Code: 20429, Message: "Too many requests. Please retry according to the Retry-After response header.",
		}}},
		{
			"documented 500",
			string(readTestdata(t, "error-500.json")),
			[]Detail{{Code: 20500, Message: "Internal server error."}},
		},
		{
			"documented 503",
			string(readTestdata(t, "error-503.json")),
			[]Detail{{Code: 20503, Message: "Service unavailable."}},
		},
		{
			"several",
			`{"errors":[{"code":1,"message":"a","infoUrl":"u","context":"$.to[0].address"},{"code":2,"message":"b","infoUrl":"v","context":null}]}`,
			[]Detail{{1, "a", "$.to[0].address"}, {2, "b", ""}},
		},
		{
			"of the general API",
			`{"code":20003,"message":"Authenticate","more_info":"https://www.twilio.com/docs/errors/20003","status":401}`,
			[]Detail{{Code: 20003, Message: "Authenticate"}},
		},
		{
			"control characters",
			`{"errors":[{"code":1,"message":" a\u001b[31m\r\nlevel=error\u202e\u0000b "}]}`,
			[]Detail{{Code: 1, Message: "a [31m level=error b"}},
		},
		{
			"secrets",
			`{"errors":[{"code":1,"message":"you sent s3cret, dXNlcjpzM2NyZXQ=","context":"s3cret"}]}`,
			[]Detail{{1, "you sent <secret>, <secret>", "<secret>"}},
		},
		{"HTML", "<html>502 Bad Gateway</html>", nil},
		{"nothing", "", nil},
		{
			"many", `{"errors":[{"code":1},{"code":2},{"code":3},{"code":4},{"code":5}]}`,
			[]Detail{{Code: 1}, {Code: 2}, {Code: 3}},
		},
		{"no errors", `{"errors":[]}`, nil},
		{"another shape", `{"errors":"none"}`, nil},
		{"cut off", `{"errors":[{"code":1,"mess`, nil},
	}

	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var s sanitizer
			s.add("s3cret")
			s.add("dXNlcjpzM2NyZXQ=")
			if got := decodeErrors([]byte(tt.body), &s); !slices.Equal(got, tt.want) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestErrorMessages(t *testing.T) {
	detail := func(code int) Detail { return Detail{Code: code, Message: "m"} }
	tests := []struct {
		err  error
		want string
	}{
		{
			&Error{StatusCode: 401, Details: []Detail{{Code: 20003, Message: "Authentication Error"}}},
			"401 Unauthorized: 20003 Authentication Error (check the account SID and auth token, or the API key and its secret)",
		},
		{
			&Error{StatusCode: 400, Details: []Detail{{Code: 1, Message: "bad", Context: "$.pageSize"}, detail(2)}},
			"400 Bad Request: 1 bad (at $.pageSize); 2 m",
		},
		{&Error{StatusCode: 500}, "500 Internal Server Error"},
		{&Error{StatusCode: 302}, "302 Found (redirects are not followed; check the base URL)"},
		{&Error{StatusCode: 599}, "599"},
		{
			&DecodeError{Pointer: "/operations", Problem: "null where an array should be"},
			"not the documented answer: /operations: null where an array should be",
		},
		{&PaginationError{Page: 100_000, Limit: 100_000}, "the list does not end within 100000 pages"},
		{&PaginationError{Page: 3}, "page 3 names a page as the next that was read before"},
		{
			&NetworkError{errors.New("malformed HTTP response \"\x00\n" + strings.Repeat("x", 1000))},
			`malformed HTTP response " ` + strings.Repeat("x", 173) + "…",
		},
	}

	for _, tt := range tests {
		if got := tt.err.Error(); got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
}

func TestErrorIs(t *testing.T) {
	sentinels := []error{ErrUnauthorized, ErrThrottled, context.DeadlineExceeded}
	tests := []struct {
		err  error
		want error
	}{
		{&Error{StatusCode: 401}, ErrUnauthorized},
		{&Error{StatusCode: 403}, ErrUnauthorized},
		{&Error{StatusCode: 404}, nil},
		{&Error{StatusCode: 429}, ErrThrottled},
		{&ThrottledError{StatusCode: 503}, ErrThrottled},
		{&Error{StatusCode: 503}, nil},
		{&Error{StatusCode: 500}, nil},
		{&NetworkError{timeoutError{1}}, nil}, // not the caller's deadline
	}

	for _, tt := range tests {
		for _, sentinel := range sentinels {
			if got := errors.Is(tt.err, sentinel); got != (sentinel == tt.want) { //nolint:errorlint // that very one
				t.Errorf("errors.Is(%T %v, %v) = %v", tt.err, tt.err, sentinel, got)
			}
		}
	}

	var netErr net.Error
	if err := error(&NetworkError{timeoutError{1}}); !errors.As(err, &netErr) || !netErr.Timeout() {
		t.Error("a timeout is no net.Error that says so")
	}
	if err := error(&NetworkError{net.ErrClosed}); !errors.As(err, &netErr) || netErr.Timeout() {
		t.Error("a lost connection passes for a timeout")
	}
}

func FuzzDecodeErrors(f *testing.F) {
	for _, name := range []string{"error-400.json", "error-429.json", "error-503.json"} {
		f.Add(readTestdata(f, name), "secret")
	}
	f.Add([]byte(`{"code":20003,"message":"Authenticate"}`), "Auth")
	f.Add([]byte(`<html>`), "h")
	f.Fuzz(func(t *testing.T, body []byte, secret string) {
		var s sanitizer
		s.add(secret)
		err := &Error{StatusCode: http.StatusBadRequest, Details: decodeErrors(body, &s)}
		message := err.Error()
		if len(message) > 100+maxDetails*(2*(maxErrorText+len("…"))+40) {
			t.Errorf("%d bytes", len(message))
		}
		if !utf8.ValidString(message) || strings.ContainsFunc(message, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("not fit for a log line: %q", message)
		}
		if len(secret) > len(message) && strings.Contains(message, secret) {
			t.Errorf("%q in %q", secret, message)
		}
		if len(err.Details) > maxDetails {
			t.Errorf("%d details", len(err.Details))
		}
		if len(err.Details) > 0 && !json.Valid(body) && utf8.Valid(body) {
			t.Errorf("details %+v of what is no JSON", err.Details)
		}
	})
}
