package twilio

import (
	"bytes"
	"errors"
	"io"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// maxPointer is how much of a JSON pointer an error shows: member names are
// the sender's and may be of any length.
const maxPointer = 120

// DecodeError says where an answer is not the JSON the API documents, and how.
// It shows nothing of the answer but the names on the way to the fault.
type DecodeError struct {
	Pointer string // JSON pointer (RFC 6901) to what is wrong, "" for the whole
	Problem string
}

func (e *DecodeError) Error() string {
	if e.Pointer == "" {
		return "not the documented answer: " + e.Problem
	}
	return "not the documented answer: " + e.Pointer + ": " + e.Problem
}

// The members an object must have, one bit each.
const (
	hasOperations = 1 << iota
	hasPagination
)

var pageMembers = []string{"operations", "pagination"}

const (
	hasID = 1 << iota
	hasStatus
	hasStats
	hasCreatedAt
	hasUpdatedAt
)

var operationMembers = []string{"id", "status", "stats", "createdAt", "updatedAt"}

// statMembers are the stats in the order of the struct's fields.
var statMembers = []string{
	"total", "recipients", "attempts", "unaddressable", "scheduled", "queued",
	"sent", "delivered", "read", "undelivered", "failed", "canceled",
}

// A decoder reads one answer, value by value. The generic decoders would need
// a pointer for each of sixteen members of a thousand operations to tell a
// missing one from a zero; a bit each is enough here, and twice as fast.
type decoder struct{ dec *jsontext.Decoder }

var decoders = sync.Pool{New: func() any {
	return &decoder{dec: jsontext.NewDecoder(strings.NewReader(""))}
}}

// decodeWith runs f, which reads one JSON value, over body and sees to it that
// nothing follows. A member of an object that nobody documented may come twice;
// forbidding that would cost a set of names for each object.
func decodeWith(body io.Reader, f func(*decoder) error) error {
	d, _ := decoders.Get().(*decoder)
	d.dec.Reset(body, jsontext.AllowDuplicateNames(true))
	defer func() {
		d.dec.Reset(strings.NewReader("")) // keeps no hold of body
		decoders.Put(d)
	}()
	err := f(d)
	if err == nil {
		err = d.end()
	}
	return d.explain(err)
}

// decodePage fills p from a page of the list, reusing its operations' memory.
// What p holds after an error is of no use.
func decodePage(body io.Reader, p *Page) error {
	return decodeWith(body, func(d *decoder) error { return d.page(p) })
}

// decodeOperation fills op from an answer that is one operation.
func decodeOperation(body io.Reader, op *Operation) error {
	return decodeWith(body, func(d *decoder) error { return d.operation(op) })
}

func (d *decoder) page(p *Page) error {
	p.Operations, p.Next = p.Operations[:0], ""
	return d.object(pageMembers, func(name []byte) (uint, error) {
		switch string(name) {
		case "operations":
			return hasOperations, d.operations(p)
		case "pagination":
			return hasPagination, d.pagination(p)
		}
		return 0, d.dec.SkipValue()
	})
}

func (d *decoder) operations(p *Page) error {
	if err := d.open('['); err != nil {
		return err
	}
	for d.dec.PeekKind() != ']' {
		n := len(p.Operations)
		if n < cap(p.Operations) {
			p.Operations = p.Operations[:n+1]
		} else {
			p.Operations = append(p.Operations, Operation{})
		}
		if err := d.operation(&p.Operations[n]); err != nil {
			return err
		}
	}
	_, err := d.dec.ReadToken()
	return err
}

// pagination takes null, "" and no next at all for the end of the list: which
// of them it is, is not documented.
func (d *decoder) pagination(p *Page) error {
	return d.object(nil, func(name []byte) (uint, error) {
		if string(name) != "next" {
			return 0, d.dec.SkipValue()
		}
		if d.dec.PeekKind() == 'n' {
			return 1, d.dec.SkipValue()
		}
		next, err := d.str()
		p.Next = string(next)
		return 1, err
	})
}

func (d *decoder) operation(op *Operation) error {
	return d.object(operationMembers, func(name []byte) (uint, error) {
		switch string(name) {
		case "id":
			id, err := d.nonEmpty()
			op.ID = string(id) // a copy: an id outlives its page by hours
			return hasID, err
		case "status":
			status, err := d.nonEmpty()
			op.Status = internStatus(status)
			return hasStatus, err
		case "stats":
			return hasStats, d.stats(&op.Stats)
		case "createdAt":
			return hasCreatedAt, d.time(&op.CreatedAt)
		case "updatedAt":
			return hasUpdatedAt, d.time(&op.UpdatedAt)
		}
		return 0, d.dec.SkipValue()
	})
}

func (d *decoder) stats(s *Stats) error {
	return d.object(statMembers, func(name []byte) (uint, error) {
		var stat *int64
		var bit uint
		switch string(name) {
		case "total":
			stat, bit = &s.Total, 0
		case "recipients":
			stat, bit = &s.Recipients, 1
		case "attempts":
			stat, bit = &s.Attempts, 2
		case "unaddressable":
			stat, bit = &s.Unaddressable, 3
		case "scheduled":
			stat, bit = &s.Scheduled, 4
		case "queued":
			stat, bit = &s.Queued, 5
		case "sent":
			stat, bit = &s.Sent, 6
		case "delivered":
			stat, bit = &s.Delivered, 7
		case "read":
			stat, bit = &s.Read, 8
		case "undelivered":
			stat, bit = &s.Undelivered, 9
		case "failed":
			stat, bit = &s.Failed, 10
		case "canceled":
			stat, bit = &s.Canceled, 11
		default:
			return 0, d.dec.SkipValue()
		}
		return 1 << bit, d.count(stat)
	})
}

// object reads an object. For each member it calls f, which reads the value and
// returns the bit of the member: its place in required, or 0 for any other.
func (d *decoder) object(required []string, f func(name []byte) (uint, error)) error {
	if err := d.open('{'); err != nil {
		return err
	}
	var seen uint
	for d.dec.PeekKind() != '}' {
		name, err := d.rawString()
		if err != nil {
			return err
		}
		bit, err := f(name)
		if err != nil {
			return err
		}
		if seen&bit != 0 {
			return d.wrong("given twice")
		}
		seen |= bit
	}
	if _, err := d.dec.ReadToken(); err != nil {
		return err
	}
	if seen != 1<<len(required)-1 {
		for i, name := range required {
			if seen&(1<<i) == 0 {
				return d.wrong("no " + name)
			}
		}
	}
	return nil
}

// open reads the start of an object or an array.
func (d *decoder) open(want jsontext.Kind) error {
	if got := d.dec.PeekKind(); got != want {
		return d.unexpected(want)
	}
	_, err := d.dec.ReadToken()
	return err
}

// rawString reads a string and returns what is between its quotes, unescaped;
// valid until the next read.
func (d *decoder) rawString() ([]byte, error) {
	v, err := d.dec.ReadValue()
	if err != nil {
		return nil, err
	}
	if bytes.IndexByte(v, '\\') >= 0 {
		return jsontext.AppendUnquote(nil, v)
	}
	return v[1 : len(v)-1], nil
}

func (d *decoder) str() ([]byte, error) {
	if d.dec.PeekKind() != '"' {
		return nil, d.unexpected('"')
	}
	return d.rawString()
}

func (d *decoder) nonEmpty() ([]byte, error) {
	s, err := d.str()
	if err == nil && len(s) == 0 {
		err = d.wrong("empty")
	}
	return s, err
}

// count reads an integer of 0 or more, written as one: 1e3 and 1.0 are not.
func (d *decoder) count(n *int64) error {
	if d.dec.PeekKind() != '0' {
		return d.unexpected('0')
	}
	v, err := d.dec.ReadValue()
	if err != nil {
		return err
	}
	var sum int64
	for _, c := range v {
		digit := int64(c - '0')
		switch {
		case c < '0' || c > '9':
			return d.wrong("not a whole number of 0 or more")
		case sum > (math.MaxInt64-digit)/10:
			return d.wrong("number out of range")
		}
		sum = sum*10 + digit
	}
	*n = sum
	return nil
}

func (d *decoder) time(t *time.Time) error {
	s, err := d.str()
	if err != nil {
		return err
	}
	if err := t.UnmarshalText(s); err != nil || t.IsZero() {
		return d.wrong("not an RFC 3339 time")
	}
	*t = t.UTC()
	return nil
}

func (d *decoder) end() error {
	if _, err := d.dec.ReadToken(); !errors.Is(err, io.EOF) {
		return &DecodeError{Problem: "more follows the JSON value"}
	}
	return nil
}

// wrong is an error about the value just read.
func (d *decoder) wrong(problem string) error {
	return &DecodeError{Pointer: tidy(string(d.dec.StackPointer()), maxPointer), Problem: problem}
}

// unexpected is an error about the value that comes next: it is of another
// kind than want, or no value at all.
func (d *decoder) unexpected(want jsontext.Kind) error {
	got := d.dec.PeekKind()
	if err := d.dec.SkipValue(); err != nil { // moves the pointer on to it
		return err
	}
	return d.wrong(kindName(got) + " where " + kindName(want) + " should be")
}

// explain turns an error of the JSON syntax into a DecodeError.
func (d *decoder) explain(err error) error {
	var syntax *jsontext.SyntacticError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &syntax):
		problem := "not JSON: " + tidy(syntax.Err.Error(), maxPointer)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			problem = "the JSON breaks off"
		}
		return &DecodeError{Pointer: tidy(string(syntax.JSONPointer), maxPointer), Problem: problem}
	case errors.Is(err, io.EOF):
		return &DecodeError{Problem: "empty"}
	}
	return err
}

func kindName(k jsontext.Kind) string {
	switch k {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case '0':
		return "a number"
	case 'n':
		return "null"
	}
	return "a boolean"
}

var documentedStatuses = []Status{StatusCompleted, StatusProcessing, StatusScheduled, StatusCanceled}

// internStatus saves an allocation for each operation.
func internStatus(b []byte) Status {
	if i := slices.IndexFunc(documentedStatuses, func(s Status) bool { return string(s) == string(b) }); i >= 0 {
		return documentedStatuses[i]
	}
	return Status(b)
}
