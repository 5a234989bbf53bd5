package openapitest

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

const goodOperation = `{"id":"comms_operation_01h2xcejqtf2nbrexx3vqjhp41","status":"COMPLETED","stats":{"total":1,"recipients":1,` +
	`"attempts":1,"unaddressable":0,"queued":0,"sent":0,"scheduled":0,"delivered":1,"read":0,"undelivered":0,"failed":0,"canceled":0},` +
	`"createdAt":"2024-04-05T06:20:00Z","updatedAt":"2024-04-05T06:20:00.123Z"}`

func checker(t *testing.T) *Checker {
	t.Helper()
	c, err := New("/v1")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestRequest(t *testing.T) {
	c := checker(t)
	for _, tt := range []struct {
		name, method, target string
		anonymous            bool
		wrong                string // part of the error; "": none
	}{
		{name: "list", target: "/v1/Messages/Operations"},
		{name: "all parameters", target: "/v1/Messages/Operations?startDate=2024-01-15T09:30:00.5Z&endDate=2024-01-16&status=SCHEDULED&pageToken=%26&pageSize=1000"},
		{name: "fetch", target: "/v1/Messages/Operations/comms_operation_01h2xcejqtf2nbrexx3vqjhp41"},
		{name: "no credentials", target: "/v1/Messages/Operations", anonymous: true, wrong: "no Basic authentication"},
		{name: "method", method: http.MethodPost, target: "/v1/Messages/Operations", wrong: "method"},
		{name: "path", target: "/v1/Messages", wrong: "no matching operation"},
		{name: "prefix", target: "/v2/Messages/Operations", wrong: "not below"},
		{name: "unknown parameter", target: "/v1/Messages/Operations?page=2", wrong: `"page" is not described`},
		{name: "parameter given twice", target: "/v1/Messages/Operations?pageSize=2&pageSize=3", wrong: "2 times"},
		{name: "page size of none", target: "/v1/Messages/Operations?pageSize=0", wrong: "pageSize"},
		{name: "page size too large", target: "/v1/Messages/Operations?pageSize=1001", wrong: "pageSize"},
		{name: "page size of letters", target: "/v1/Messages/Operations?pageSize=x", wrong: "pageSize"},
		{name: "status in small letters", target: "/v1/Messages/Operations?status=completed", wrong: "status"},
		{name: "date", target: "/v1/Messages/Operations?startDate=yesterday", wrong: "startDate"},
		{name: "id", target: "/v1/Messages/Operations/MG1", wrong: "operationId"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequestWithContext(context.Background(), tt.method, tt.target, nil)
			if !tt.anonymous {
				r.SetBasicAuth("AC1", "secret")
			}
			expect(t, c.Request(r), tt.wrong)
		})
	}
}

func TestResponse(t *testing.T) {
	c := checker(t)
	page := func(operation, pagination string) string {
		return `{"operations":[` + operation + `],"pagination":` + pagination + `}`
	}
	good := `{"next":null,"self":"s"}`
	for _, tt := range []struct {
		name  string
		code  int
		body  string
		wrong string
	}{
		{name: "page", code: 200, body: page(goodOperation, good)},
		{name: "page with a next", code: 200, body: page("", `{"next":"n","self":"s"}`)},
		{name: "no next", code: 200, body: page("", `{"self":"s"}`), wrong: `"next"`},
		{name: "no operations", code: 200, body: `{"pagination":` + good + `}`, wrong: `"operations"`},
		{name: "negative", code: 200, body: page(strings.Replace(goodOperation, `"sent":0`, `"sent":-1`, 1), good), wrong: "sent"},
		{name: "fraction", code: 200, body: page(strings.Replace(goodOperation, `"attempts":1`, `"attempts":1.5`, 1), good), wrong: "attempts"},
		{name: "stat missing", code: 200, body: page(strings.Replace(goodOperation, `"attempts":1,`, ``, 1), good), wrong: "attempts"},
		{name: "status unknown", code: 200, body: page(strings.Replace(goodOperation, `COMPLETED`, `DONE`, 1), good), wrong: "status"},
		{name: "time without a zone", code: 200, body: page(strings.Replace(goodOperation, `00Z`, `00`, 1), good), wrong: "createdAt"},
		{name: "id", code: 200, body: page(strings.Replace(goodOperation, `comms_operation_0`, `comms_operation_8`, 1), good), wrong: "id"},
		{name: "error", code: 503, body: `{"errors":[{"code":20503,"message":"m","infoUrl":"/docs/api/errors/20503","context":null}]}`},
		{name: "error without a code", code: 503, body: `{"errors":[{"message":"m","infoUrl":"i","context":"c"}]}`, wrong: "code"},
		{name: "status not described", code: 418, body: `{}`, wrong: "status"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequestWithContext(context.Background(), http.MethodGet, "/v1/Messages/Operations", nil)
			expect(t, c.Response(r, tt.code, http.Header{"Content-Type": {"application/json"}}, []byte(tt.body)), tt.wrong)
		})
	}
}

func expect(t *testing.T, err error, wrong string) {
	t.Helper()
	switch {
	case wrong == "" && err != nil:
		t.Errorf("found wrong what is right: %v", err)
	case wrong != "" && (err == nil || !strings.Contains(err.Error(), wrong)):
		t.Errorf("got error %v, want one about %q", err, wrong)
	}
}

func TestWrapPassesOn(t *testing.T) {
	h := Wrap(t, "/v1", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(goodOperation))
	}))
	r := httptest.NewRequestWithContext(context.Background(), http.MethodGet, "/v1/Messages/Operations/comms_operation_01h2xcejqtf2nbrexx3vqjhp41", nil)
	r.SetBasicAuth("AC1", "secret")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != http.StatusOK || w.Body.String() != goodOperation || w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("passed on %d %v %s", w.Code, w.Header(), w.Body)
	}
}
