// Package openapitest holds requests and answers of the Message Operations API
// to an OpenAPI description written from its reference. It is for tests.
package openapitest

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
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
)

//go:embed openapi.yaml
var description []byte

// Checker checks exchanges against the description.
type Checker struct {
	router routers.Router
	prefix string
}

// New returns a checker of requests below a prefix, such as /v1.
func New(prefix string) (*Checker, error) {
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
	return &Checker{router: router, prefix: strings.TrimRight(prefix, "/")}, nil
}

// Request says what is wrong with a request: its path, its method, a parameter
// that is not described or has no such value, or no Basic authentication.
func (c *Checker) Request(r *http.Request) error {
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

func (c *Checker) input(r *http.Request) (*openapi3filter.RequestValidationInput, error) {
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

// Response says what is wrong with the answer to a request.
func (c *Checker) Response(r *http.Request, code int, header http.Header, body []byte) error {
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

// Wrap returns a handler that passes requests on and fails the test when one,
// or its answer, is not as described. Answers are held until they are whole;
// one that breaks off is not checked.
func Wrap(t testing.TB, prefix string, h http.Handler) http.Handler {
	t.Helper()
	c, err := New(prefix)
	if err != nil {
		t.Fatalf("OpenAPI description: %v", err)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := c.Request(r); err != nil {
			t.Errorf("request %s %s is not as described: %v", r.Method, r.URL, err)
		}
		answer := httptest.NewRecorder()
		h.ServeHTTP(answer, r)
		if err := c.Response(r, answer.Code, answer.Header(), answer.Body.Bytes()); err != nil {
			t.Errorf("answer %d to %s %s is not as described: %v", answer.Code, r.Method, r.URL, err)
		}
		maps.Copy(w.Header(), answer.Header())
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes())
	})
}
