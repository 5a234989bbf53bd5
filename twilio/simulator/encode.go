package simulator

import (
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"twilio_operations_exporter/twilio"
)

// Operations are encoded without reflection: benchmarks must measure the exporter, so a page must cost far less to
// encode than to decode.

// format is how operations of a resource are encoded.
type format struct {
	stats []statMember
}

// statMember is a stat, and the JSON before its value.
type statMember struct {
	stat   twilio.Stat
	before string
}

func (f *format) add(stat twilio.Stat, name string) {
	separator := ","
	if len(f.stats) == 0 {
		separator = ""
	}
	f.stats = append(f.stats, statMember{stat, separator + `"` + name + `":`})
}

var messageFormat = func() (f format) {
	for stat, row := range twilio.MessageStats {
		f.add(twilio.Stat(stat), row.JSON)
	}
	return f
}()

// newEmailFormat returns the format of e-mails, which have opened instead of read and no unaddressable.
func newEmailFormat(withoutAttempts bool) (f format) {
	for stat, row := range twilio.MessageStats {
		switch twilio.Stat(stat) {
		case twilio.Unaddressable:
		case twilio.Read:
			f.add(twilio.Read, "opened")
		case twilio.Attempts, twilio.Recipients:
			if !withoutAttempts {
				f.add(twilio.Stat(stat), row.JSON)
			}
		default:
			f.add(twilio.Stat(stat), row.JSON)
		}
	}
	return f
}

// encodePage encodes a page of operations.
func (f *format) encodePage(ops []keyed, pagination string) []byte {
	b := make([]byte, 0, 384*(len(ops)+1))
	b = append(b, `{"operations":[`...)
	for i := range ops {
		if i > 0 {
			b = append(b, ',')
		}
		b = f.appendOperation(b, &ops[i].op)
	}
	b = append(b, `],"pagination":`...)
	b = append(b, pagination...)
	return append(b, '}')
}

// pagination encodes the pagination of a page. next is nil on the last one.
func (s *ListSettings) pagination(next *token, self token) string {
	b := []byte{'{'}
	switch {
	case next != nil:
		b = append(appendString(append(b, `"next":`...), s.encodeToken(*next)), ',')
	case s.LastNext == LastNull:
		b = append(b, `"next":null,`...)
	case s.LastNext == LastEmpty:
		b = append(b, `"next":"",`...)
	}
	b = appendString(append(b, `"self":`...), s.encodeToken(self))
	return string(append(b, '}'))
}

func (f *format) appendOperation(b []byte, op *twilio.Operation) []byte {
	b = appendString(append(b, `{"id":`...), op.ID)
	b = appendString(append(b, `,"status":`...), string(op.Status))
	b = append(b, `,"stats":{`...)
	for i := range f.stats {
		member := &f.stats[i]
		b = strconv.AppendInt(append(b, member.before...), op.Stats[member.stat], 10)
	}
	b = op.CreatedAt.UTC().AppendFormat(append(b, `},"createdAt":"`...), time.RFC3339Nano)
	b = op.UpdatedAt.UTC().AppendFormat(append(b, `","updatedAt":"`...), time.RFC3339Nano)
	return append(b, `"}`...)
}

func appendString(b []byte, s string) []byte {
	b, _ = jsontext.AppendQuote(b, s) // the error is about invalid UTF-8, which it replaces
	return b
}

// apiError is one element of a documented error body.
type apiError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
	InfoURL string `json:"infoUrl"`
	Context string `json:"context"`
}

// documented are errors by HTTP status: those of the examples in the reference and, as it lists none, 401 and 403 of
// the general API. If there is no context, the examples have the string "null".
var documented = map[int]apiError{
	400: {20404, "Not Found", "/docs/api/errors/20404", "null"},
	401: {20003, "Authenticate", "/docs/api/errors/20003", "null"},
	403: {20003, "Permission Denied", "/docs/api/errors/20003", "null"},
	404: {20404, "The resource was not found.", "/docs/api/errors/20404", "null"},
	429: {20429, "Too many requests. Please retry according to the Retry-After response header.", "/docs/api/errors/20429", "null"},
	500: {20500, "Internal server error.", "/docs/api/errors/20500", "null"},
	503: {20503, "Service unavailable.", "/docs/api/errors/20503", "null"},
}
