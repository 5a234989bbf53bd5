package simulator

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"twilio_operations_exporter/twilio"
)

// serve serves a handler until the test ends, and returns a client and the address of the list.
func serve(t *testing.T, h http.Handler) (c *http.Client, list string) {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.Client(), server.URL + "/v1/Messages/Operations"
}

type answer struct {
	code   int
	header http.Header
	body   string
	err    error // of the request, or of reading the body
}

func ask(t *testing.T, c *http.Client, target string) answer {
	t.Helper()
	return askContext(context.Background(), t, c, target)
}

func askContext(ctx context.Context, t *testing.T, c *http.Client, target string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, target, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := c.Do(r)
	if err != nil {
		return answer{err: err}
	}
	body, err := io.ReadAll(response.Body)
	if cerr := response.Body.Close(); err == nil {
		err = cerr
	}
	return answer{response.StatusCode, response.Header, string(body), err}
}

func TestFaults(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fault Fault
		check func(a answer) bool
	}{
		{"500", Fault{Kind: FaultStatus, Status: 500}, func(a answer) bool { return a.code == 500 && strings.Contains(a.body, `"code":20500`) }},
		{"502", Fault{Kind: FaultStatus, Status: 502}, func(a answer) bool { return a.code == 502 && strings.Contains(a.body, "502 Bad Gateway") }},
		{"504", Fault{Kind: FaultStatus, Status: 504}, func(a answer) bool { return a.code == 504 && strings.Contains(a.body, "Gateway Timeout") }},
		{"503 with seconds", Fault{Kind: FaultStatus, Status: 503, RetryAfter: 1500 * time.Millisecond}, func(a answer) bool {
			return a.code == 503 && a.header.Get("Retry-After") == "2" && strings.Contains(a.body, `"code":20503`)
		}},
		{"429 without", Fault{Kind: FaultStatus, Status: 429}, func(a answer) bool { return a.code == 429 && a.header.Get("Retry-After") == "" }},
		{"401", Fault{Kind: FaultStatus, Status: 401}, func(a answer) bool { return a.code == 401 && strings.Contains(a.body, `"code":20003`) }},
		{"403", Fault{Kind: FaultStatus, Status: 403}, func(a answer) bool { return a.code == 403 && strings.Contains(a.body, `"code":20003`) }},
		{"reset", Fault{Kind: FaultReset}, func(a answer) bool { return a.err != nil }},
		{"html", Fault{Kind: FaultHTML}, func(a answer) bool {
			return a.code == 200 && strings.HasPrefix(a.header.Get("Content-Type"), "text/html") && strings.Contains(a.body, "<html>")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := NewHandler(NewStatic(exampleOperation()), Settings{Now: at(noon)})
			c, list := serve(t, h)
			tt.fault.Count = 1
			h.Faults().MustAdd(tt.fault)
			if a := ask(t, c, list); !tt.check(a) {
				t.Errorf("got %+v", a)
			}
			if a := ask(t, c, list); a.code != 200 || a.err != nil || !strings.Contains(a.body, exampleID) {
				t.Errorf("after the fault: %+v", a)
			}
		})
	}
}

func TestHangingRequests(t *testing.T) {
	h := NewHandler(NewStatic(exampleOperation()), Settings{})
	h.Faults().MustAdd(Fault{Kind: FaultHang})
	c, list := serve(t, h)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		waitFor(t, func() bool { return h.InFlight() == 1 })
		cancel()
	}()
	if a := askContext(ctx, t, c, list); !errors.Is(a.err, context.Canceled) {
		t.Errorf("given up: %+v", a)
	}
	waitFor(t, func() bool { return h.InFlight() == 0 })
}

func TestTokenFaults(t *testing.T) {
	s := smallWorld()
	h := NewHandler(MustWorld(s), Settings{Now: at(noon)})
	h.Faults().MustAdd(Fault{Kind: FaultRepeatToken, Every: 2})
	q := url.Values{"pageSize": {"100"}}
	var tokens []string
	for range 4 {
		p := getPage(t, h, q)
		tokens = append(tokens, *p.Pagination.Next)
		q.Set("pageToken", *p.Pagination.Next)
	}
	if tokens[0] != tokens[1] || tokens[1] == tokens[2] || tokens[2] != tokens[3] {
		t.Errorf("tokens %q", tokens)
	}
}

// TestWhichRequestsFail checks the conditions of faults.
func TestWhichRequestsFail(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fault Fault
		want  string // a letter a request: x failed
	}{
		{"all", Fault{}, "xxxxxxxx"},
		{"the next two", Fault{Count: 2}, "xx......"},
		{"every third", Fault{Every: 3}, "..x..x.."},
		{"every third, once", Fault{Every: 3, Count: 1}, "..x....."},
		{"fetches", Fault{Endpoint: twilio.EndpointFetch}, ".x.x.x.x"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := NewHandler(NewStatic(exampleOperation()), Settings{})
			tt.fault.Kind, tt.fault.Status = FaultStatus, 500
			h.Faults().MustAdd(tt.fault)
			h.Faults().MustAdd(Fault{Kind: FaultStatus, Status: 404}) // strikes where the first does not
			got := []byte("........")
			for i := range got {
				target := "/v1/Messages/Operations"
				if i%2 == 1 {
					target += "/" + exampleID
				}
				switch code := get(h, target).Code; code {
				case 500:
					got[i] = 'x'
				case 404:
				default:
					t.Errorf("request %d: %d", i, code)
				}
			}

			if string(got) != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestLatency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHandler(NewStatic(), Settings{})
		h.Faults().MustAdd(Fault{Kind: FaultStatus, Status: 500, Latency: 3 * time.Second, Count: 1})
		h.Faults().MustAdd(Fault{Kind: FaultLatency, Latency: 2 * time.Second})
		for i, want := range []struct {
			took time.Duration
			code int
		}{{3 * time.Second, 500}, {2 * time.Second, 200}} {
			began := time.Now()
			w := get(h, "/v1/Messages/Operations")
			if took := time.Since(began); took != want.took || w.Code != want.code {
				t.Errorf("request %d: %d after %v", i, w.Code, took)
			}
		}

		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		began := time.Now()
		defer func() {
			took, p := time.Since(began), recover()
			if p != http.ErrAbortHandler || took != 1500*time.Millisecond { //nolint:errorlint // as net/http compares it
				t.Errorf("%v after %v", p, took)
			}
			if n := h.InFlight(); n != 0 {
				t.Errorf("%d requests in flight", n)
			}
		}()

		h.ServeHTTP(
			httptest.NewRecorder(),
			httptest.NewRequestWithContext(ctx, http.MethodGet, "/v1/Messages/Operations", nil),
		)
	})
}

func TestFaultsRefused(t *testing.T) {
	for _, f := range []Fault{
		{}, {Kind: "x"}, {Kind: FaultStatus}, {Kind: FaultStatus, Status: 600}, {Kind: FaultStatus, Status: 101}, {Kind: FaultLatency},
		{Kind: FaultDate}, {Kind: FaultHang, Count: -1}, {Kind: FaultHang, Endpoint: "send"},
	} {
		if err := new(Faults).Add(f); err == nil {
			t.Errorf("taken: %+v", f)
		}
	}
}

// TestWrongDate checks the Date header of a good answer and of an error.
func TestWrongDate(t *testing.T) {
	h := NewHandler(NewStatic(exampleOperation()), Settings{Now: at(noon)})
	h.Faults().MustAdd(Fault{Kind: FaultDate, Offset: 2 * time.Hour, Count: 1})
	h.Faults().MustAdd(Fault{Kind: FaultStatus, Status: 503, Offset: -time.Minute, Count: 1})
	for i, want := range []struct {
		code   int
		offset time.Duration
	}{{200, 2 * time.Hour}, {503, -time.Minute}, {200, 0}} {
		w := get(h, "/v1/Messages/Operations/"+exampleID)
		if date := noon.Add(want.offset).Format(http.TimeFormat); w.Code != want.code || w.Header().Get("Date") != date {
			t.Errorf("request %d: %d, Date %q", i, w.Code, w.Header().Get("Date"))
		}
	}
}
