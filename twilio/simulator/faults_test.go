package simulator

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"twilio_operations_exporter/twilio"
)

// clients calls f with a client of a real server and with one of Transport.
func clients(t *testing.T, h *Handler, f func(t *testing.T, c *http.Client, base string)) {
	t.Helper()
	noRedirects := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	t.Run("server", func(t *testing.T) {
		server := httptest.NewServer(h)
		defer server.Close()
		c := server.Client()
		c.CheckRedirect = noRedirects
		f(t, c, server.URL+"/v1/Messages/Operations")
		c.CloseIdleConnections()
	})
	t.Run("transport", func(t *testing.T) {
		f(t, &http.Client{Transport: Transport(h), CheckRedirect: noRedirects},
			"https://simulator.invalid/v1/Messages/Operations")
	})
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
	date := noon.Add(90 * time.Second).Format(http.TimeFormat)
	for _, tt := range []struct {
		name   string
		fault  Fault
		target string
		check  func(a answer) bool
	}{
		{
			"500", Fault{Kind: FaultStatus, Status: 500}, "",
			func(a answer) bool { return a.code == 500 && strings.Contains(a.body, `"code":20500`) },
		},
		{
			"502", Fault{Kind: FaultStatus, Status: 502}, "",
			func(a answer) bool { return a.code == 502 && strings.Contains(a.body, "502 Bad Gateway") },
		},
		{
			"504", Fault{Kind: FaultStatus, Status: 504}, "",
			func(a answer) bool { return a.code == 504 && strings.Contains(a.body, "Gateway Timeout") },
		},
		{
			"503 with seconds", Fault{Kind: FaultStatus, Status: 503, RetryAfter: 1500 * time.Millisecond}, "",
			func(a answer) bool {
				return a.code == 503 && a.header.Get("Retry-After") == "2" && strings.Contains(a.body, `"code":20503`)
			},
		},
		{
			"429 with a date", Fault{Kind: FaultStatus, Status: 429, RetryAfter: 90 * time.Second, RetryAfterDate: true}, "",
			func(a answer) bool {
				return a.code == 429 && a.header.Get("Retry-After") == date && a.header.Get("Date") == noon.Format(http.TimeFormat)
			},
		},
		{
			"429 with a fraction of a second as a date",
			Fault{Kind: FaultStatus, Status: 429, RetryAfter: 89_001 * time.Millisecond, RetryAfterDate: true}, "",
			func(a answer) bool { return a.header.Get("Retry-After") == date },
		},
		{
			"429 without", Fault{Kind: FaultStatus, Status: 429}, "",
			func(a answer) bool { return a.code == 429 && a.header.Get("Retry-After") == "" },
		},
		{
			"401", Fault{Kind: FaultStatus, Status: 401}, "",
			func(a answer) bool { return a.code == 401 && strings.Contains(a.body, `"code":20003`) },
		},
		{
			"403", Fault{Kind: FaultStatus, Status: 403}, "",
			func(a answer) bool { return a.code == 403 && strings.Contains(a.body, `"code":20003`) },
		},
		{"reset", Fault{Kind: FaultReset}, "", func(a answer) bool { return errors.Is(a.err, syscall.ECONNRESET) }},
		{"html", Fault{Kind: FaultHTML}, "", func(a answer) bool {
			return a.code == 200 && strings.HasPrefix(a.header.Get("Content-Type"), "text/html") &&
				strings.Contains(a.body, "<html>")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := MustHandler(NewStatic(exampleOperation()), Settings{Now: at(noon)})
			clients(t, h, func(t *testing.T, c *http.Client, base string) {
				h.Faults().Clear()
				tt.fault.Count = 1
				h.Faults().MustAdd(tt.fault)
				if a := ask(t, c, base+tt.target); !tt.check(a) {
					t.Errorf("got %+v", a)
				}
				if a := ask(t, c, base+tt.target); a.code != 200 || a.err != nil || !strings.Contains(a.body, exampleID) {
					t.Errorf("after the fault: %+v", a)
				}
				waitFor(t, func() bool { n, _ := h.Requests().InFlight(); return n == 0 })
				latest := h.Requests().Latest()
				// In the order of their ends: one that is cut off may end last.
				if last := latest[len(latest)-2:]; last[0].Fault != tt.fault.Kind && last[1].Fault != tt.fault.Kind {
					t.Errorf("logged %+v", last)
				}
			})
		})
	}
}

func TestHangingRequests(t *testing.T) {
	{
		h := MustHandler(NewStatic(exampleOperation()), Settings{})
		h.Faults().MustAdd(Fault{Kind: FaultHang})
		clients(t, h, func(t *testing.T, c *http.Client, base string) {
			ctx, cancel := context.WithCancel(context.Background())
			go func() {
				waitFor(t, func() bool { n, _ := h.Requests().InFlight(); return n == 1 })
				cancel()
			}()
			if a := askContext(ctx, t, c, base); !errors.Is(a.err, context.Canceled) {
				t.Errorf("given up: %+v", a)
			}
			waitFor(t, func() bool { n, _ := h.Requests().InFlight(); return n == 0 })
		})
		h.Close()
		h.Close()
		clients(t, h, func(t *testing.T, c *http.Client, base string) {
			if a := ask(t, c, base); a.err == nil {
				t.Errorf("closed: %+v", a)
			}
		})
	}
}

func TestTokenFaults(t *testing.T) {
	s := smallWorld()
	h := MustHandler(MustWorld(s), Settings{Now: at(noon)})
	h.Faults().MustAdd(Fault{Kind: FaultRepeatToken, Skip: 2, Count: 2})
	q := url.Values{"pageSize": {"100"}}
	var tokens []string
	for range 4 {
		p := getPage(t, h, q)
		tokens = append(tokens, *p.Pagination.Next)
		q.Set("pageToken", *p.Pagination.Next)
	}
	if tokens[0] == tokens[1] || tokens[1] != tokens[2] || tokens[2] != tokens[3] {
		t.Errorf("tokens %q", tokens)
	}
}

// TestWhichRequestsFail is about the conditions of a fault.
func TestWhichRequestsFail(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fault Fault
		want  string // a letter a request: x failed
	}{
		{"all", Fault{}, "xxxxxxxx"},
		{"the next two", Fault{Count: 2}, "xx......"},
		{"every third", Fault{Every: 3}, "..x..x.."},
		{"every third, after two, twice", Fault{Every: 3, Skip: 2, Count: 2}, "....x..x"},
		{"fetches", Fault{Endpoint: twilio.EndpointFetch}, ".x.x.x.x"},
		{"a status", Fault{Query: "status=SCHEDULED"}, "....x.x."},
		{"a status and a size", Fault{Query: "status=SCHEDULED&pageSize=6"}, "......x."},
		{"a time", Fault{From: noon.Add(2 * time.Minute), To: noon.Add(4 * time.Minute)}, "..xx...."},
	} {
		t.Run(tt.name, func(t *testing.T) {
			clock := noon
			h := MustHandler(NewStatic(exampleOperation()), Settings{Now: func() time.Time { return clock }})
			tt.fault.Kind, tt.fault.Status = FaultStatus, 500
			h.Faults().MustAdd(tt.fault)
			h.Faults().MustAdd(Fault{Kind: FaultStatus, Status: 404, Query: "n=none"})
			got := []byte("........")
			for i := range got {
				target := "/v1/Messages/Operations"
				if i%2 == 1 {
					target += "/" + exampleID
				}
				target += "?n=" + strconv.Itoa(i)
				if i == 4 || i == 6 {
					target += "&status=SCHEDULED&pageSize=" + strconv.Itoa(i)
				}
				if get(h, target).Code == 500 {
					got[i] = 'x'
				}
				clock = clock.Add(time.Minute)
			}
			if string(got) != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			if list := h.Faults().List(); len(list) != 2 || list[0].Struck != strings.Count(tt.want, "x") {
				t.Errorf("listed %+v", list)
			}
		})
	}
}

func TestLatency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := MustHandler(NewStatic(), Settings{})
		h.Faults().MustAdd(Fault{Kind: FaultLatency, Latency: 2 * time.Second})
		h.Faults().MustAdd(Fault{Kind: FaultStatus, Status: 500, Count: 1})
		h.Faults().MustAdd(Fault{Kind: FaultLatency, Latency: time.Second, Count: 1})
		c := &http.Client{Transport: Transport(h)}
		for i, want := range []struct {
			took time.Duration
			code int
		}{{3 * time.Second, 500}, {2 * time.Second, 200}} {
			began := time.Now()
			a := ask(t, c, "http://simulator.invalid/v1/Messages/Operations")
			if took := time.Since(began); took != want.took || a.code != want.code {
				t.Errorf("request %d: %v after %v", i, a, took)
			}
		}
		c.Timeout = 1500 * time.Millisecond
		began := time.Now()
		a := ask(t, c, "http://simulator.invalid/v1/Messages/Operations")
		if took := time.Since(began); !errors.Is(a.err, context.DeadlineExceeded) || took != c.Timeout {
			t.Errorf("%+v after %v, timeout %v", a, took, c.Timeout)
		}
		synctest.Wait()
		if n, _ := h.Requests().InFlight(); n != 0 {
			t.Errorf("%d requests under way", n)
		}
	})
}

func TestFaultsRefused(t *testing.T) {
	for _, f := range []Fault{
		{}, {Kind: "x"}, {Kind: FaultStatus}, {Kind: FaultStatus, Status: 600}, {Kind: FaultStatus, Status: 101},
		{Kind: FaultLatency},
		{Kind: FaultDate}, {Kind: FaultHang, Count: -1}, {Kind: FaultHang, Query: "%zz"},
		{Kind: FaultHang, Endpoint: "send"},
	} {
		if err := new(Faults).Add(f); err == nil {
			t.Errorf("taken: %+v", f)
		}
	}
	if _, err := NewHandler(NewStatic(), Settings{RateLimit: -1}); err == nil {
		t.Error("negative throttle taken")
	}
}

func TestTransportGivesUpBeforeAsking(t *testing.T) {
	h := MustHandler(NewStatic(), Settings{})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	a := askContext(ctx, t, &http.Client{Transport: Transport(h)}, "http://simulator.invalid/")
	if !errors.Is(a.err, context.Canceled) {
		t.Errorf("got %+v", a)
	}
	if n := h.Requests().Started(); n != 0 {
		t.Errorf("%d requests", n)
	}
}

// TestWrongDate combines a wrong Date header with other faults, for a time.
func TestWrongDate(t *testing.T) {
	clock := noon
	h := MustHandler(NewStatic(exampleOperation()), Settings{Now: func() time.Time { return clock }})
	h.Faults().MustAdd(Fault{
		Kind: FaultDate, Offset: 2 * time.Hour, From: noon.Add(time.Minute), To: noon.Add(3 * time.Minute),
	})
	h.Faults().MustAdd(Fault{
		Kind: FaultStatus, Status: 503, RetryAfter: time.Minute, RetryAfterDate: true, Skip: 2, Count: 1,
	})
	for i, want := range []struct {
		code   int
		offset time.Duration
	}{{200, 0}, {200, 2 * time.Hour}, {503, 2 * time.Hour}, {200, 0}} {
		w := get(h, "/v1/Messages/Operations/"+exampleID)
		date := clock.Add(want.offset)
		if w.Code != want.code || w.Header().Get("Date") != date.Format(http.TimeFormat) {
			t.Errorf("request %d: %d, Date %q", i, w.Code, w.Header().Get("Date"))
		}
		if after := w.Header().Get("Retry-After"); want.code == 503 &&
			after != date.Add(time.Minute).Format(http.TimeFormat) {
			t.Errorf("request %d: Retry-After %q", i, after)
		}
		clock = clock.Add(time.Minute)
	}
}
