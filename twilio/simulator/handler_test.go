package simulator

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"twilio_operations_exporter/twilio"
)

const exampleID = "comms_operation_01h2xcejqtf2nbrexx3vqjhp41"

func exampleOperation() twilio.Operation {
	created := time.Date(2024, 4, 5, 6, 20, 0, 0, time.UTC)
	return twilio.Operation{
		ID: exampleID, Status: twilio.StatusCompleted, CreatedAt: created, UpdatedAt: created,
		Stats: twilio.Stats{twilio.Total: 2, twilio.Recipients: 2, twilio.Attempts: 4, twilio.Delivered: 2},
	}
}

// TestAnswersAreThoseOfTheReference compares bodies with the examples in the reference, byte by byte except for white
// space.
func TestAnswersAreThoseOfTheReference(t *testing.T) {
	h := NewHandler(NewStatic(exampleOperation()), Settings{})
	for _, tt := range []struct {
		file, id string
		fault    int // status
	}{
		{file: "operation-two-messages.json", id: exampleID},
		{file: "error-404.json", id: strings.Replace(exampleID, "p41", "p42", 1)},
		{file: "error-400.json", id: "bad"},
		{file: "error-429.json", fault: 429},
		{file: "error-500.json", fault: 500},
		{file: "error-503.json", fault: 503},
	} {
		example, err := os.ReadFile(filepath.Join("testdata", tt.file))
		if err != nil {
			t.Fatal(err)
		}
		if tt.fault != 0 {
			h.Faults().MustAdd(Fault{Kind: FaultStatus, Status: tt.fault, Count: 1})
		}
		got := get(h, "/v1/Messages/Operations/"+tt.id).Body.String()
		if want := compact(example); got != want {
			t.Errorf("%s:\n got %s\nwant %s", tt.file, got, want)
		}
	}
}

func compact(b []byte) string {
	var out strings.Builder
	quoted := false
	for _, c := range string(b) {
		if c == '"' {
			quoted = !quoted
		}
		if quoted || !strings.ContainsRune(" \n\t\r", c) {
			out.WriteRune(c)
		}
	}
	return out.String()
}

func TestRequestsThatAreRefused(t *testing.T) {
	h := NewHandler(MustWorld(smallWorld()), Settings{Now: at(noon)})
	token := *getPage(t, h, url.Values{"status": {"COMPLETED"}}).Pagination.Next
	foreign := *getPage(t, h, url.Values{}).Pagination.Next
	for _, tt := range []struct {
		query   string
		context string // of the error; "": there is none
	}{
		{"", ""},
		{"startDate=2026-03-14&endDate=2026-03-14T12:00:00%2B01:00&status=CANCELED&pageSize=1&unknown=1", ""},
		{"startDate=2026-03-14T11:00:00.123456Z&pageSize=1000", ""},
		{"status=COMPLETED&pageToken=" + url.QueryEscape(token), ""},
		{"status=COMPLETED&pageSize=7&pageToken=" + url.QueryEscape(token), ""},
		{"startDate=14.3.2026", "$.startDate"},
		{"startDate=", "$.startDate"},
		{"startDate=2026-03-14T12:00:00", "$.startDate"},
		{"startDate=2026-03-14T12:00:00+01:00", "$.startDate"}, // a plus that was not escaped is a space
		{"endDate=2026-02-30", "$.endDate"},
		{"status=completed", "$.status"},
		{"status=", "$.status"},
		{"pageSize=0", "$.pageSize"},
		{"pageSize=1001", "$.pageSize"},
		{"pageSize=x", "$.pageSize"},
		{"pageSize=", "$.pageSize"},
		{"pageSize=1&pageSize=2", "$.pageSize"},
		{"pageToken=", "$.pageToken"},
		{"pageToken=abc", "$.pageToken"},
		{"status=COMPLETED&pageToken=" + url.QueryEscape(foreign), "$.pageToken"},
		{"pageToken=" + url.QueryEscape(token), "$.pageToken"},
		{"status=CANCELED&pageToken=" + url.QueryEscape(token), "$.pageToken"},
		{"status=COMPLETED&startDate=2026-03-14&pageToken=" + url.QueryEscape(token), "$.pageToken"},
		{"pageToken=%zz", "$.query"},
	} {
		w := get(h, "/v1/Messages/Operations?"+tt.query)
		if tt.context == "" {
			if w.Code != http.StatusOK {
				t.Errorf("%q: %d %s", tt.query, w.Code, w.Body)
			}
			continue
		}

		var body struct {
			Errors []struct {
				Code                      int
				Message, InfoURL, Context string
			}
		}

		err := json.Unmarshal(w.Body.Bytes(), &body)
		if err != nil || w.Code != http.StatusBadRequest || len(body.Errors) == 0 {
			t.Errorf("%q: %d %s", tt.query, w.Code, w.Body)
			continue
		}

		if e := body.Errors[0]; e.Context != tt.context || e.Code != 20404 || e.InfoURL != "/docs/api/errors/20404" ||
			e.Message == "" {
			t.Errorf("%q: %+v", tt.query, e)
		}
	}
}

func TestRequestsForMessagesThatAreRefused(t *testing.T) {
	h := NewHandler(NewStatic(exampleOperation()), Settings{})
	for _, tt := range []struct {
		query string
		code  int
	}{
		{"operationId=" + exampleID + "&status=GROUP&pageSize=1&startDate=2026-03-14", 200},
		{"operation_id=x", 200}, // not documented
		{"operationId=x", 400},
		{"operationId=" + exampleID + "&operationId=" + exampleID, 400},
		{"status=COMPLETED", 400},
		{"pageSize=0", 400},
		{"pageToken=x", 400},
	} {
		if w := get(h, "/v1/Messages?"+tt.query); w.Code != tt.code {
			t.Errorf("%q: %d, want %d: %s", tt.query, w.Code, tt.code, w.Body)
		}
	}
}

func TestDefaultPageSize(t *testing.T) {
	h := NewHandler(MustWorld(smallWorld()), Settings{Now: at(noon)})
	if p := getPage(t, h, nil); len(p.Operations) != 50 {
		t.Errorf("%d operations", len(p.Operations))
	}
}

func TestStatusFilter(t *testing.T) {
	h := NewHandler(MustWorld(smallWorld()), Settings{Now: at(noon)})
	p := getPage(t, h, url.Values{"pageSize": {"1000"}, "status": {"PROCESSING"}})
	for _, op := range p.Operations {
		if op.Status != twilio.StatusProcessing {
			t.Errorf("listed %+v", op)
		}
	}
	if len(p.Operations) == 0 {
		t.Error("nothing listed")
	}
}

func TestLastNext(t *testing.T) {
	for spelling, want := range map[LastNext]string{LastNull: `"next":null,`, LastEmpty: `"next":"",`, LastAbsent: `"pagination":{"self"`} {
		h := NewHandler(NewStatic(), Settings{List: ListSettings{LastNext: spelling}})
		if body := get(h, "/v1/Messages/Operations").Body.String(); !strings.Contains(body, want) {
			t.Errorf("%v: %s", spelling, body)
		}
	}
}

func TestAuthentication(t *testing.T) {
	h := NewHandler(NewStatic(), Settings{AccountSID: "AC1", AuthToken: "token"})
	for _, tt := range []struct {
		user, password string
		want           int
	}{
		{"AC1", "token", 200},
		{"AC1", "secret", 401},
		{"AC1", "", 401},
		{"", "", 401},
		{"AC2", "token", 401},
	} {
		r := httptest.NewRequestWithContext(context.Background(), http.MethodGet, "/v1/Messages/Operations", nil)
		r.SetBasicAuth(tt.user, tt.password)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != tt.want ||
			tt.want == 401 && (!strings.Contains(w.Body.String(), `"code":20003`) || w.Header().Get("WWW-Authenticate") == "") {
			t.Errorf("%s:%s: %d %v %s", tt.user, tt.password, w.Code, w.Header(), w.Body)
		}
	}

	if w := get(h, "/v1/Messages/Operations"); w.Code != 401 {
		t.Errorf("anonymous: %d", w.Code)
	}
}

func TestPathsAndMethods(t *testing.T) {
	h := NewHandler(NewStatic(exampleOperation()), Settings{})
	for _, tt := range []struct {
		method, path string
		want         int
	}{
		{"GET", "/v1/Messages/Operations", 200},
		{"GET", "/v1/Messages/Operations/" + exampleID, 200},
		{"GET", "/v2/Messages/Operations", 404},
		{"GET", "/v1/Messages/Operations/", 404},
		{"GET", "/v1/Messages/Operations/" + exampleID + "/Errors", 404},
		{"GET", "/v1/Emails/Operations", 200},
		{"GET", "/v1/Emails/Operations/" + exampleID, 404}, // of messages
		{"GET", "/v1/Messages", 200},
		{"GET", "/v1/Messages/", 404},
		{"GET", "/v1/Messages/Operationsx", 400}, // no id of a message
		{"GET", "/v1/Messages/" + exampleMessageID, 404},
		{"GET", "/v1/Emails", 404},
		{"POST", "/v1/Messages/Operations", 404},
		{"POST", "/v1/Messages", 404},
		{"DELETE", "/v1/Messages/Operations/" + exampleID, 404},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(context.Background(), tt.method, tt.path, nil))
		if w.Code != tt.want {
			t.Errorf("%s %s: %d %v", tt.method, tt.path, w.Code, w.Header())
		}
	}
}

func TestGzipAndHeaders(t *testing.T) {
	world := MustWorld(smallWorld())
	for _, tt := range []struct {
		accept string
		no     bool
		want   bool
	}{
		{"gzip", false, true},
		{"br, gzip;q=0.5", false, true},
		{"identity", false, false},
		{"", false, false},
		{"gzip", true, false},
	} {
		h := NewHandler(world, Settings{Now: at(noon), NoGzip: tt.no})
		r := httptest.NewRequestWithContext(context.Background(), http.MethodGet, "/v1/Messages/Operations", nil)
		r.Header.Set("Accept-Encoding", tt.accept)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		zipped := w.Header().Get("Content-Encoding") == "gzip"
		if zipped != tt.want {
			t.Errorf("%q: compressed %v", tt.accept, zipped)
		}
		var body io.Reader = w.Body
		if zipped {
			z, err := gzip.NewReader(w.Body)
			if err != nil {
				t.Fatal(err)
			}
			body = z
		} else if w.Header().Get("Content-Length") == "" {
			t.Errorf("%q: no length", tt.accept)
		}

		var p wirePage
		if err := json.NewDecoder(body).Decode(&p); err != nil || len(p.Operations) != 50 {
			t.Errorf("%q: %d operations, %v", tt.accept, len(p.Operations), err)
		}
		if w.Header().Get("Date") != "Sat, 14 Mar 2026 12:00:00 GMT" || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("headers %v", w.Header())
		}
	}
}

func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatal("waited in vain")
		}
	}
}

// TestAnswersAreAsDescribed checks answers of all kinds against the OpenAPI description.
func TestAnswersAreAsDescribed(t *testing.T) {
	s := smallWorld()
	world := MustWorld(s)
	settings := Settings{Now: at(noon), Emails: world, AccountSID: "AC1", AuthToken: "token"}
	var id string
	for op := range world.Operations(noon, s.Epoch, noon) {
		id = op.ID
	}

	for _, list := range []ListSettings{{}, {AwkwardTokens: true, LastNext: LastEmpty, EmptyPages: true, Repeat: 3, Order: Shuffled}} {
		settings.List = list
		h := NewHandler(world, settings)
		described := checked(t, h)
		ask := func(want int, password, target string) string {
			t.Helper()
			r := httptest.NewRequestWithContext(context.Background(), http.MethodGet, target, nil)
			r.SetBasicAuth("AC1", password)
			r.Header.Set("Accept-Encoding", "gzip")
			w := httptest.NewRecorder()
			described.ServeHTTP(w, r)
			if w.Code != want {
				t.Fatalf("%s: %d %s", target, w.Code, w.Body)
			}
			z, err := gzip.NewReader(w.Body)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(z)
			if err != nil {
				t.Fatal(err)
			}
			return string(body)
		}

		filters := "&startDate=2026-03-14&endDate=" + url.QueryEscape(noon.Format(time.RFC3339Nano)) + "&status=COMPLETED"
		token := ""
		for range 20 {
			var p wirePage
			query := "?pageSize=20" + filters
			if token != "" {
				query += "&pageToken=" + url.QueryEscape(token)
			}
			if err := json.Unmarshal([]byte(ask(200, "token", "/v1/Messages/Operations"+query)), &p); err != nil {
				t.Fatal(err)
			}
			if p.Pagination.Next == nil || *p.Pagination.Next == "" {
				break
			}
			token = *p.Pagination.Next
		}

		ask(200, "token", "/v1/Messages/Operations?endDate=2020-01-01")
		ask(200, "token", "/v1/Messages/Operations/"+id)
		ask(400, "token", "/v1/Messages/Operations?pageToken=x")
		ask(401, "bad", "/v1/Messages/Operations")
		ask(404, "token", "/v1/Messages/Operations/"+exampleID)
		askMessages(t, world, ask)

		for _, code := range []int{429, 500, 503} {
			h.Faults().MustAdd(Fault{Kind: FaultStatus, Status: code, RetryAfter: time.Second, Count: 2})
			ask(code, "token", "/v1/Messages/Operations")
			ask(code, "token", "/v1/Messages/Operations/"+id)
			h.Faults().MustAdd(Fault{Kind: FaultStatus, Status: code, RetryAfter: time.Second, Count: 2})
			ask(code, "token", "/v1/Messages")
			ask(code, "token", "/v1/Messages/"+exampleMessageID)
		}
	}
}

// askMessages asks for messages of every operation, and for e-mails.
func askMessages(t *testing.T, world *World, ask func(want int, password, target string) string) {
	t.Helper()
	for op := range world.Operations(noon, noon.Add(-time.Hour), noon) {
		ask(200, "token", "/v1/Messages?pageSize=2&status=FAILED&operationId="+op.ID)
		for m := range messagesOf(&op, "", 0) {
			ask(200, "token", "/v1/Messages/"+m.id())
			if m.index == 5 {
				break
			}
		}
		ask(200, "token", "/v1/Emails/Operations/"+op.ID)
	}

	ask(200, "token", "/v1/Messages?pageSize=100")
	ask(400, "token", "/v1/Messages?pageToken=x")
	ask(404, "token", "/v1/Messages/"+exampleMessageID)
	ask(200, "token", "/v1/Emails/Operations?pageSize=3&status=COMPLETED")
}

// TestConcurrentUse calls everything that is safe for concurrent use at the same time, for the race detector.
func TestConcurrentUse(t *testing.T) {
	s := smallWorld()
	world := MustWorld(s)
	var clock atomic.Int64
	now := func() time.Time { return noon.Add(time.Duration(clock.Add(int64(time.Second)))) }
	h := NewHandler(world, Settings{Now: now})

	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := range 40 {
				switch (worker + i) % 8 {
				case 0:
					h.Faults().MustAdd(Fault{Kind: FaultStatus, Status: 503, Every: 5})
				case 1:
					h.Faults().Clear()
				case 2:
					if err := world.AddTrouble(Trouble{Kind: TroubleStuck, Share: 0.1, From: now()}); err != nil {
						t.Error(err)
					}
				case 3:
					world.EndTrouble(now())
				default:
					status := []string{"PROCESSING", "SCHEDULED", "COMPLETED"}[i%3]
					if w := get(h, "/v1/Messages/Operations?status="+status); w.Code != 200 && w.Code != 503 {
						t.Errorf("%d %s", w.Code, w.Body)
					}
				}
			}
		})
	}

	wg.Wait()
	if n := h.InFlight(); n != 0 {
		t.Errorf("%d requests in flight", n)
	}
}

// FuzzList sends queries of all kinds to every list. The answer must be a page or an error as documented.
func FuzzList(f *testing.F) {
	h := NewHandler(MustWorld(smallWorld()), Settings{Now: at(noon), List: ListSettings{AwkwardTokens: true, Repeat: 2}})
	f.Add("startDate=2026-03-14&endDate=2026-03-14T12:00:00Z&status=COMPLETED&pageSize=10")
	f.Add("pageToken=%20%2B&pageSize=x")
	f.Add(
		url.Values{
			"pageToken": {(&ListSettings{AwkwardTokens: true}).encodeToken(token{After: key{noon.UnixNano(), exampleID}})},
		}.Encode(),
	)

	f.Add("startDate=0001-01-01&endDate=9999-12-31T23:59:59.999999999-23:59")
	f.Add("operationId=" + exampleID + "&status=FAILED&pageSize=3")
	f.Fuzz(func(t *testing.T, query string) {
		for _, path := range []string{"/v1/Messages/Operations", "/v1/Emails/Operations", "/v1/Messages"} {
			r := httptest.NewRequestWithContext(context.Background(), http.MethodGet, path, nil)
			r.URL.RawQuery = query
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			var body struct {
				Operations []wireOperation
				Messages   []jsonMessage
				Errors     []struct{ Code int }
			}

			if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
				t.Fatalf("%s?%q: %v in %s", path, query, err, w.Body)
			}
			if (w.Code == http.StatusOK) != (len(body.Errors) == 0) ||
				w.Code != http.StatusOK && w.Code != http.StatusBadRequest {
				t.Errorf("%s?%q: %d %s", path, query, w.Code, w.Body)
			}
		}
	})
}
