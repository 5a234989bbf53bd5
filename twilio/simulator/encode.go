package simulator

import (
	"fmt"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"twilio_operations_exporter/twilio"
)

// The encoder appends, without reflection: a page must cost far less to make than to read, or the benchmarks measure
// the simulator.

// appendPage appends a page. An empty next is spelled as on the last page.
func appendPage(b []byte, ops []keyed, next string, last LastNext, self string) []byte {
	b = append(b, `{"operations":[`...)
	for i := range ops {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendOperation(b, &ops[i].op)
	}
	b = append(b, `],"pagination":{`...)
	switch {
	case next != "" || last == LastEmpty:
		b = append(appendString(append(b, `"next":`...), next), ',')
	case last == LastNull:
		b = append(b, `"next":null,`...)
	}
	b = appendString(append(b, `"self":`...), self)
	return append(b, "}}"...)
}

func appendOperation(b []byte, op *twilio.Operation) []byte {
	b = appendString(append(b, `{"id":`...), op.ID)
	b = appendString(append(b, `,"status":`...), string(op.Status))
	s := &op.Stats
	for _, stat := range [...]struct {
		name  string
		value int64
	}{
		{`,"stats":{"total":`, s.Total}, {`,"recipients":`, s.Recipients}, {`,"attempts":`, s.Attempts},
		{`,"unaddressable":`, s.Unaddressable}, {`,"queued":`, s.Queued}, {`,"sent":`, s.Sent},
		{`,"scheduled":`, s.Scheduled}, {`,"delivered":`, s.Delivered}, {`,"read":`, s.Read},
		{`,"undelivered":`, s.Undelivered}, {`,"failed":`, s.Failed}, {`,"canceled":`, s.Canceled},
	} {
		b = strconv.AppendInt(append(b, stat.name...), stat.value, 10)
	}
	b = op.CreatedAt.UTC().AppendFormat(append(b, `},"createdAt":"`...), time.RFC3339Nano)
	b = op.UpdatedAt.UTC().AppendFormat(append(b, `","updatedAt":"`...), time.RFC3339Nano)
	return append(b, `"}`...)
}

func appendString(b []byte, s string) []byte {
	b, _ = jsontext.AppendQuote(b, s) // replaces invalid UTF-8
	return b
}

// apiError is one element of a documented error body.
type apiError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
	InfoURL string `json:"infoUrl"`
	Context string `json:"context"`
}

// newError returns an error with a context; the reference's examples spell one that is not there "null", as a string.
func newError(code int, message, context string) apiError {
	return apiError{code, message, fmt.Sprintf("/docs/api/errors/%d", code), context}
}

// documented are the errors of the reference's examples, by HTTP status, and 401 and 403 of the general API, which it
// does not list.
var documented = map[int]apiError{
	400: newError(20404, "Not Found", "null"),
	401: newError(20003, "Authenticate", "null"),
	403: newError(20003, "Permission Denied", "null"),
	404: newError(20404, "The resource was not found.", "null"),
	429: newError(20429, "Too many requests. Please retry according to the Retry-After response header.", "null"),
	500: newError(20500, "Internal server error.", "null"),
	503: newError(20503, "Service unavailable.", "null"),
}
