package twilio

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	maxBody   = 16 << 20  // bytes of a 200, decompressed
	maxValue  = 256 << 10 // bytes of one JSON value or run of white space
	maxDepth  = 20        // of nested JSON values; the names on the way to one are kept
	maxName   = 64        // bytes of an operation's id or status
	maxOnPage = 10_000    // operations, ten times what is documented
)

// The answers as they are documented.
type (
	wirePage struct {
		Operations member[[]member[wireOperation]] `json:"operations"`
		Pagination member[wirePagination]          `json:"pagination"`
	}
	wirePagination struct {
		Next member[*string] `json:"next"`
	}
	wireOperation struct {
		ID        member[wireName]  `json:"id"`
		Status    member[wireName]  `json:"status"`
		Stats     member[wireStats] `json:"stats"`
		CreatedAt member[time.Time] `json:"createdAt"`
		UpdatedAt member[time.Time] `json:"updatedAt"`
	}
	wireStats Stats
	// wireName is a text that outlives its page: of what is longer than maxName, only so much is kept that it shows.
	wireName string
)

// A member of an object knows whether it was there. It refuses to be repeated, and to be null unless it is a pointer.
type member[T any] struct {
	value T
	seen  bool
}

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (m *member[T]) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	if m.seen {
		return wrong(dec, "given twice")
	}
	m.seen = true
	if dec.PeekKind() == 'n' && reflect.TypeFor[T]().Kind() != reflect.Pointer {
		_ = dec.SkipValue() // moves the pointer on to it
		return kindError(dec.StackPointer(), 'n', reflect.TypeFor[T]())
	}
	return json.UnmarshalDecode(dec, &m.value)
}

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (n *wireName) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	v, err := dec.ReadValue()
	switch {
	case err != nil:
		return err
	case v.Kind() != '"':
		return kindError(dec.StackPointer(), v.Kind(), reflect.TypeFor[wireName]())
	}
	text := unquote(v)
	for _, s := range []wireName{"COMPLETED", "PROCESSING", "SCHEDULED", "CANCELED"} {
		if string(text) == string(s) {
			*n = s // without an allocation for each operation
			return nil
		}
	}
	*n = wireName(text[:min(len(text), maxName+1)])
	return nil
}

// statNames are the members of stats, in the order of Stats.Fields.
var statNames = [...]string{
	"total", "recipients", "attempts", "unaddressable", "scheduled", "queued",
	"sent", "delivered", "read", "undelivered", "failed", "canceled",
}

// UnmarshalJSONFrom reads the counts one by one: they are most of a page, and reflection would take twice the time for
// them.
func (s *wireStats) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	if k := dec.PeekKind(); k != '{' {
		if err := dec.SkipValue(); err != nil {
			return err
		}
		return kindError(dec.StackPointer(), k, reflect.TypeFor[wireStats]())
	}
	counts := (*Stats)(s).Fields()
	var seen [len(statNames)]bool
	_, err := dec.ReadToken()
	for err == nil && dec.PeekKind() != '}' {
		var name jsontext.Value
		if name, err = dec.ReadValue(); err != nil {
			break
		}
		i := slices.Index(statNames[:], string(unquote(name)))
		switch {
		case i < 0:
			err = dec.SkipValue()
		case seen[i]:
			err = wrong(dec, "given twice")
		default:
			*counts[i], err = count(dec)
			seen[i] = true
		}
	}
	if err == nil {
		_, err = dec.ReadToken()
	}
	if i := slices.Index(seen[:], false); err == nil && i >= 0 {
		err = wrong(dec, "no "+statNames[i])
	}
	return err
}

// unquote is the text of a JSON string.
func unquote(v jsontext.Value) []byte {
	if bytes.IndexByte(v, '\\') < 0 {
		return v[1 : len(v)-1]
	}
	text, _ := jsontext.AppendUnquote(nil, v) // it was read, so it is one
	return text
}

// count reads an integer of 0 or more, written as one: 1e3 and 1.0 are not.
func count(dec *jsontext.Decoder) (int64, error) {
	v, err := dec.ReadValue()
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(string(v), 10, 63)
	switch {
	case err == nil:
		return int64(n), nil //nolint:gosec // of 63 bits
	case v.Kind() != '0':
		return 0, kindError(dec.StackPointer(), v.Kind(), reflect.TypeFor[int64]())
	case errors.Is(err, strconv.ErrRange):
		return 0, wrong(dec, "number out of range")
	}
	return 0, wrong(dec, "not a whole number of 0 or more")
}

// operation fills op from w. The pointer of an error is relative to it.
func (w *wireOperation) operation(op *Operation) *DecodeError {
	*op = Operation{
		ID: string(w.ID.value), Status: Status(w.Status.value), Stats: Stats(w.Stats.value),
		CreatedAt: w.CreatedAt.value.UTC(), UpdatedAt: w.UpdatedAt.value.UTC(),
	}
	if len(op.Status) > maxName {
		op.Status = StatusOther
	}
	switch {
	case !w.ID.seen:
		return &DecodeError{"", "no id"}
	case !w.Status.seen:
		return &DecodeError{"", "no status"}
	case !w.Stats.seen:
		return &DecodeError{"", "no stats"}
	case !w.CreatedAt.seen:
		return &DecodeError{"", "no createdAt"}
	case !w.UpdatedAt.seen:
		return &DecodeError{"", "no updatedAt"}
	case op.ID == "":
		return &DecodeError{"/id", "empty"}
	case len(op.ID) > maxName:
		return &DecodeError{"/id", fmt.Sprintf("longer than %d bytes", maxName)}
	case op.Status == "":
		return &DecodeError{"/status", "empty"}
	case op.CreatedAt.IsZero():
		return &DecodeError{"/createdAt", "not an RFC 3339 time"}
	case op.UpdatedAt.IsZero():
		return &DecodeError{"/updatedAt", "not an RFC 3339 time"}
	}
	return nil
}

// A pageBuffer is a page with the memory that decoding it takes.
type pageBuffer struct {
	Page
	wire wirePage
}

// decodePage fills p from a page of the list, reusing its memory. What p holds after an error is of no use.
func decodePage(body io.Reader, p *pageBuffer) error {
	p.wire = wirePage{Operations: member[[]member[wireOperation]]{value: p.wire.Operations.value}}
	p.Operations, p.Next = p.Operations[:0], ""
	return decode(body, &p.wire, func() *DecodeError {
		switch next := p.wire.Pagination.value.Next.value; {
		case !p.wire.Operations.seen:
			return &DecodeError{"", "no operations"}
		case !p.wire.Pagination.seen:
			return &DecodeError{"", "no pagination"}
		case next != nil:
			p.Next = *next
		}
		list := p.wire.Operations.value
		p.Operations = slices.Grow(p.Operations, len(list))[:len(list)]
		for i := range list {
			if err := list[i].value.operation(&p.Operations[i]); err != nil {
				err.Pointer = fmt.Sprintf("/operations/%d%s", i, err.Pointer)
				return err
			}
		}
		return nil
	})
}

// decodeOperation fills op from an answer that is one operation.
func decodeOperation(body io.Reader, op *Operation) error {
	var w wireOperation
	return decode(body, &w, func() *DecodeError { return w.operation(op) })
}

// decode reads the one JSON object that body holds into a struct, which check then looks at.
func decode(body io.Reader, into any, check func() *DecodeError) error {
	d := &decoder{body: body}
	// Repetitions are refused by member. The library would have to remember all names, also those of what is not
	// documented.
	d.json = jsontext.NewDecoder(d, jsontext.AllowDuplicateNames(true))
	if d.json.PeekKind() == 'n' {
		return kindError("", 'n', reflect.TypeOf(into).Elem())
	}
	if err := json.UnmarshalDecode(d.json, into); err != nil {
		return d.explain(err)
	}
	if err := check(); err != nil {
		return err
	}
	switch _, err := d.json.ReadToken(); {
	case d.err != nil:
		return d.explain(d.err)
	case !errors.Is(err, io.EOF):
		return &DecodeError{"", "more follows the JSON value"}
	}
	return nil
}

// A decoder reads one body. It holds at most about maxValue of it.
type decoder struct {
	json *jsontext.Decoder
	body io.Reader
	n    int64 // bytes read of body
	err  error // why reading ended early
}

// Read implements io.Reader for the JSON decoder, which asks for more when what it has does not hold a whole token, and
// keeps all of it until it does.
func (d *decoder) Read(p []byte) (int, error) {
	depth, held := d.json.StackDepth(), d.n-d.json.InputOffset()
	_, length := d.json.StackIndex(min(depth, 2)) // of the operations, if it is them
	switch {
	case held > maxValue:
		d.err = &DecodeError{Problem: fmt.Sprintf("a value or white space of more than %d bytes", maxValue)}
	case length > maxOnPage:
		d.err = &DecodeError{Problem: fmt.Sprintf("more than %d values", maxOnPage)}
	case depth > maxDepth:
		d.err = &DecodeError{Problem: fmt.Sprintf("nested more than %d deep", maxDepth)}
	}
	if d.err != nil {
		return 0, d.err
	}
	n, err := d.body.Read(p[:min(int64(len(p)), maxValue+1-held)])
	d.n += int64(n)
	switch {
	case d.n > maxBody:
		d.err = &BodyTooLargeError{maxBody}
		return 0, d.err
	case err != nil && !errors.Is(err, io.EOF):
		d.err = err
	}
	return n, err
}

// explain is what an error of the library means.
func (d *decoder) explain(err error) error {
	var mine *DecodeError
	var syntax *jsontext.SyntacticError
	var semantic *json.SemanticError
	switch {
	case errors.As(d.err, &mine):
		return wrong(d.json, mine.Problem)
	case d.err != nil:
		return d.err
	case errors.As(err, &mine):
		return mine
	case errors.As(err, &syntax) && errors.Is(err, io.ErrUnexpectedEOF):
		return &DecodeError{string(syntax.JSONPointer), "the JSON breaks off"}
	case errors.As(err, &syntax):
		return &DecodeError{string(syntax.JSONPointer), "not JSON: " + syntax.Err.Error()}
	case errors.As(err, &semantic):
		return kindError(semantic.JSONPointer, semantic.JSONKind, semantic.GoType)
	case errors.Is(err, io.EOF):
		return &DecodeError{Problem: "empty"}
	}
	return err
}

// wrong is an error about the value just read.
func wrong(dec *jsontext.Decoder, problem string) error {
	return &DecodeError{string(dec.StackPointer()), problem}
}

// kindError says that a value is not of the kind that goes into a type.
func kindError(at jsontext.Pointer, got jsontext.Kind, into reflect.Type) error {
	want := map[reflect.Kind]string{
		reflect.Struct: "an object", reflect.Slice: "an array", reflect.Int64: "a number",
	}[into.Kind()]
	if into == reflect.TypeFor[time.Time]() || want == "" {
		want = "a string"
	}
	if want == kindNames[got] {
		return &DecodeError{string(at), "not an RFC 3339 time"}
	}
	return &DecodeError{string(at), kindNames[got] + " where " + want + " should be"}
}

var kindNames = map[jsontext.Kind]string{
	'{': "an object", '[': "an array", '"': "a string", '0': "a number", 'n': "null", 't': "a boolean", 'f': "a boolean",
}
