package simulator

import (
	"encoding/json"
	"strconv"
	"time"

	"twilio_operations_exporter/twilio"
)

// The encoder appends, without reflection: a page of a thousand operations is
// to cost a fraction of what reading it costs.

// pageNext is how a page's next is spelled.
type pageNext struct {
	token string
	last  bool
	spelt LastNext // on the last page
}

func appendPage(b []byte, ops []twilio.Operation, next pageNext, self string) []byte {
	b = append(b, `{"operations":[`...)
	for i := range ops {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendOperation(b, &ops[i])
	}
	b = append(b, `],"pagination":{`...)
	switch {
	case !next.last:
		b = append(b, `"next":`...)
		b = appendString(b, next.token)
		b = append(b, ',')
	case next.spelt == LastNull:
		b = append(b, `"next":null,`...)
	case next.spelt == LastEmpty:
		b = append(b, `"next":"",`...)
	case next.spelt == LastAbsent:
	}
	b = append(b, `"self":`...)
	b = appendString(b, self)
	return append(b, "}}"...)
}

func appendOperation(b []byte, op *twilio.Operation) []byte {
	b = append(b, `{"id":`...)
	b = appendString(b, op.ID)
	b = append(b, `,"status":`...)
	b = appendString(b, string(op.Status))
	s := &op.Stats
	b = strconv.AppendInt(append(b, `,"stats":{"total":`...), s.Total, 10)
	b = strconv.AppendInt(append(b, `,"recipients":`...), s.Recipients, 10)
	b = strconv.AppendInt(append(b, `,"attempts":`...), s.Attempts, 10)
	b = strconv.AppendInt(append(b, `,"unaddressable":`...), s.Unaddressable, 10)
	b = strconv.AppendInt(append(b, `,"queued":`...), s.Queued, 10)
	b = strconv.AppendInt(append(b, `,"sent":`...), s.Sent, 10)
	b = strconv.AppendInt(append(b, `,"scheduled":`...), s.Scheduled, 10)
	b = strconv.AppendInt(append(b, `,"delivered":`...), s.Delivered, 10)
	b = strconv.AppendInt(append(b, `,"read":`...), s.Read, 10)
	b = strconv.AppendInt(append(b, `,"undelivered":`...), s.Undelivered, 10)
	b = strconv.AppendInt(append(b, `,"failed":`...), s.Failed, 10)
	b = strconv.AppendInt(append(b, `,"canceled":`...), s.Canceled, 10)
	b = append(b, `},"createdAt":"`...)
	b = appendTime(b, op.CreatedAt)
	b = append(b, `","updatedAt":"`...)
	b = appendTime(b, op.UpdatedAt)
	return append(b, `"}`...)
}

// appendTime writes milliseconds, and as the reference's examples do, none
// where there are none.
func appendTime(b []byte, t time.Time) []byte {
	t = t.UTC()
	nanos := t.Nanosecond()
	year, month, day := t.Date()
	if nanos%1e6 != 0 || year < 0 || year > 9999 {
		return t.AppendFormat(b, time.RFC3339Nano)
	}
	hour, minute, second := t.Clock()
	b = appendDigits(b, year, 4)
	b = appendDigits(append(b, '-'), int(month), 2)
	b = appendDigits(append(b, '-'), day, 2)
	b = appendDigits(append(b, 'T'), hour, 2)
	b = appendDigits(append(b, ':'), minute, 2)
	b = appendDigits(append(b, ':'), second, 2)
	if nanos != 0 {
		b = appendDigits(append(b, '.'), nanos/1e6, 3)
	}
	return append(b, 'Z')
}

func appendDigits(b []byte, v, width int) []byte {
	for range width {
		b = append(b, '0')
	}
	for i := len(b) - 1; v > 0; i-- {
		b[i] = byte('0' + v%10)
		v /= 10
	}
	return b
}

func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			quoted, err := json.Marshal(s)
			if err != nil {
				panic(err) // a string always has a JSON form
			}
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// apiError is one element of a documented error body.
type apiError struct {
	code    int
	message string
	context string
}

// The reference's examples spell a context that is not there "null", as a
// string.
const noContext = "null"

// documented are the errors of the reference's examples, by HTTP status, and
// those of the general API that it does not list.
var documented = map[int]apiError{
	400: {20404, "Not Found", noContext},
	401: {20003, "Authenticate", noContext},
	403: {20003, "Permission Denied", noContext},
	404: {20404, "The resource was not found.", noContext},
	405: {20004, "Method not allowed", noContext},
	429: {20429, "Too many requests. Please retry according to the Retry-After response header.", noContext},
	500: {20500, "Internal server error.", noContext},
	503: {20503, "Service unavailable.", noContext},
}

func appendErrors(b []byte, errs ...apiError) []byte {
	b = append(b, `{"errors":[`...)
	for i, e := range errs {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(append(b, `{"code":`...), int64(e.code), 10)
		b = appendString(append(b, `,"message":`...), e.message)
		b = strconv.AppendInt(append(b, `,"infoUrl":"/docs/api/errors/`...), int64(e.code), 10)
		b = appendString(append(b, `","context":`...), e.context)
		b = append(b, '}')
	}
	return append(b, "]}"...)
}
