package simulator

import (
	"bytes"
	"compress/gzip"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
	"github.com/prometheus/common/config"

	"twilio_operations_exporter/twilio"
)

//go:embed testdata/openapi.yaml
var description []byte

// checker checks requests and answers against the OpenAPI description, which was written from the reference.
type checker struct {
	router routers.Router
	prefix string
}

// newChecker returns a checker of requests below a prefix, such as /v1.
func newChecker(prefix string) (*checker, error) {
	loader := openapi3.NewLoader()
	doc, err := loader.LoadFromData(description)
	if err != nil {
		return nil, err
	}
	err = doc.Validate(loader.Context)
	if err != nil {
		return nil, err
	}
	// Paths are compared below the prefix, whatever the host.
	doc.Servers = nil
	router, err := legacy.NewRouter(doc)
	if err != nil {
		return nil, err
	}
	return &checker{router: router, prefix: strings.TrimRight(prefix, "/")}, nil
}

// request returns what is wrong with a request: path, method, a parameter that is not described or has another value,
// or missing basic authentication.
func (c *checker) request(r *http.Request) error {
	input, err := c.input(r)
	if err != nil {
		return err
	}
	for name, values := range input.GetQueryParams() {
		described := slices.ContainsFunc(input.Route.Operation.Parameters, func(p *openapi3.ParameterRef) bool {
			return p.Value.In == openapi3.ParameterInQuery && p.Value.Name == name
		})
		if !described {
			return fmt.Errorf("query parameter %q is not described", name)
		}
		if len(values) != 1 {
			return fmt.Errorf("query parameter %q is given %d times", name, len(values))
		}
	}
	return openapi3filter.ValidateRequest(r.Context(), input)
}

func (c *checker) input(r *http.Request) (*openapi3filter.RequestValidationInput, error) {
	below := r.Clone(r.Context())
	path, ok := strings.CutPrefix(r.URL.Path, c.prefix)
	if !ok {
		return nil, fmt.Errorf("path %q is not below %q", r.URL.Path, c.prefix)
	}
	below.URL.Path, below.URL.RawPath = path, ""
	route, params, err := c.router.FindRoute(below)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", r.Method, r.URL.Path, err)
	}
	return &openapi3filter.RequestValidationInput{
		Request:    below,
		PathParams: params,
		Route:      route,
		Options: &openapi3filter.Options{
			IncludeResponseStatus: true, // a status that is not described is wrong
			AuthenticationFunc: func(_ context.Context, in *openapi3filter.AuthenticationInput) error {
				user, password, sent := in.RequestValidationInput.Request.BasicAuth()
				if !sent || user == "" || password == "" {
					return errors.New("no Basic authentication")
				}
				return nil
			},
		},
	}, nil
}

// response returns what is wrong with the answer to a request.
func (c *checker) response(r *http.Request, code int, header http.Header, body []byte) error {
	input, err := c.input(r)
	if err != nil {
		return err
	}
	if header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			return err
		}
		if body, err = io.ReadAll(z); err != nil {
			return err
		}
	}
	return openapi3filter.ValidateResponse(r.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input,
		Status:                 code,
		Header:                 header,
		Body:                   io.NopCloser(bytes.NewReader(body)),
		Options:                input.Options,
	})
}

// checked returns a handler that passes on requests and fails the test if one, or its answer, is not as described. It
// holds answers until they are complete, and does not check those that break off.
func checked(t testing.TB, h http.Handler) http.Handler {
	t.Helper()
	c, err := newChecker("/v1")
	if err != nil {
		t.Fatalf("OpenAPI description: %v", err)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := c.request(r); err != nil {
			t.Errorf("request %s %s is not as described: %v", r.Method, r.URL, err)
		}
		answer := httptest.NewRecorder()
		h.ServeHTTP(answer, r)
		if err := c.response(r, answer.Code, answer.Header(), answer.Body.Bytes()); err != nil {
			t.Errorf("answer %d to %s %s is not as described: %v", answer.Code, r.Method, r.URL, err)
		}
		maps.Copy(w.Header(), answer.Header())
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes())
	})
}

const goodOperation = `{"id":"comms_operation_01h2xcejqtf2nbrexx3vqjhp41","status":"COMPLETED","stats":{"total":1,"recipients":1,` +
	`"attempts":1,"unaddressable":0,"queued":0,"sent":0,"scheduled":0,"delivered":1,"read":0,"undelivered":0,"failed":0,"canceled":0},` +
	`"createdAt":"2024-04-05T06:20:00Z","updatedAt":"2024-04-05T06:20:00.123Z"}`

func mustChecker(t *testing.T) *checker {
	t.Helper()
	c, err := newChecker("/v1")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCheckerOfRequests(t *testing.T) {
	c := mustChecker(t)
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
		{name: "messages", target: "/v1/Messages?operationId=" + exampleID + "&status=FAILED&pageSize=5"},
		{name: "message", target: "/v1/Messages/" + exampleMessageID},
		{name: "e-mails", target: "/v1/Emails/Operations?status=SCHEDULED&pageSize=5"},
		{name: "e-mail", target: "/v1/Emails/Operations/" + exampleID},
		{name: "path", target: "/v1/Emails", wrong: "no matching operation"},
		{name: "operation_id", target: "/v1/Messages?operation_id=" + exampleID, wrong: `"operation_id" is not described`},
		{name: "status of an operation", target: "/v1/Messages?status=COMPLETED", wrong: "status"},
		{name: "id of a message", target: "/v1/Messages/" + exampleID, wrong: "messageId"},
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
			expect(t, c.request(r), tt.wrong)
		})
	}
}

func TestCheckerOfAnswers(t *testing.T) {
	c := mustChecker(t)
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
			expect(t, c.response(r, tt.code, http.Header{"Content-Type": {"application/json"}}, []byte(tt.body)), tt.wrong)
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

// TestClientSendsWhatIsDescribed reads a list, an operation, its messages and e-mails with the exporter's client, and
// checks that its requests are as described.
func TestClientSendsWhatIsDescribed(t *testing.T) {
	world := MustWorld(smallWorld())
	h := NewHandler(world, Settings{Now: at(noon), List: ListSettings{AwkwardTokens: true}, Emails: world})
	server := httptest.NewServer(checked(t, h))
	defer server.Close()
	base, err := url.Parse(server.URL + "/v1")
	if err != nil {
		t.Fatal(err)
	}
	options := twilio.Options{
		BaseURL: base,
		Transport: config.NewBasicAuthRoundTripper(
			config.NewInlineSecret("AC1"),
			config.NewInlineSecret("s"),
			server.Client().Transport,
		),
	}

	client := twilio.NewClient(options)
	var last string
	for page, err := range client.Pages(t.Context(), twilio.Query{
		StartDate: noon.Add(-time.Hour), EndDate: noon, Status: twilio.StatusCompleted, PageSize: 100,
	}) {
		if err != nil {
			t.Fatal(err)
		}
		last = page.Operations[0].ID
	}

	if _, err := client.FetchOperation(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	var message string
	for page, err := range client.Messages(t.Context(), twilio.MessageQuery{Operation: last, Status: "DELIVERED", PageSize: 2}) {
		if err != nil || !slices.Equal(page.Messages[0].Operations, []string{last}) {
			t.Fatalf("%v, messages %+v", err, page)
		}
		message = page.Messages[0].ID
	}

	if m, err := client.FetchMessage(t.Context(), message); err != nil || m.Tags["campaign"] == "" || len(m.Attempts) == 0 {
		t.Fatalf("%v, message %+v", err, m)
	}

	options.Resource = twilio.Emails
	emails := twilio.NewClient(options)
	for page, err := range emails.Pages(t.Context(), twilio.Query{StartDate: noon.Add(-time.Hour), PageSize: 100}) {
		if err != nil {
			t.Fatal(err)
		}
		last = page.Operations[0].ID
	}

	if _, err := emails.FetchOperation(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	if n := h.Requests(); n < 8 {
		t.Errorf("only %d requests", n)
	}
}
