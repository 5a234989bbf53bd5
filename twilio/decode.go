package twilio

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	maxBody   = 16 << 20  // bytes of a 200, compressed or not
	maxValue  = 256 << 10 // bytes of one JSON value or run of white space
	maxDepth  = 20        // of nested JSON values; the names on the way to one are kept
	maxName   = 64        // bytes of an operation's id or status
	maxOnPage = 10_000    // operations, ten times what is documented
)

// The members that are read of the documented objects. All of them are required but next.
var (
	pageNames       = []string{"operations", "pagination"}
	paginationNames = []string{"next"}
	operationNames  = []string{"id", "status", "stats", "createdAt", "updatedAt"}
	statNames       = MessageStats.members()
)

// decodePage fills p from a page of the list, reusing its memory. What p holds after an error is of no use.
func decodePage(body io.Reader, p *Page) error {
	p.Operations, p.Next = p.Operations[:0], ""
	return decode(body, func(d *decoder) error {
		return d.object(pageNames, len(pageNames), func(i int) error {
			if pageNames[i] == "operations" {
				return d.operations(p)
			}
			return d.object(paginationNames, 0, func(int) error {
				if d.PeekKind() == 'n' {
					return d.SkipValue()
				}
				next, err := d.text()
				p.Next = string(next)
				return err
			})
		})
	})
}

// decodeOperation fills op from an answer that is one operation.
func decodeOperation(body io.Reader, op *Operation) error {
	return decode(body, func(d *decoder) error { return d.operation(op) })
}

// decode has read take the one JSON object that body holds.
func decode(body io.Reader, read func(*decoder) error) error {
	d := &decoder{body: body}
	// Repetitions are refused by object. The library would have to remember all names, also those of what is not
	// documented.
	d.Decoder = jsontext.NewDecoder(d, jsontext.AllowDuplicateNames(true))
	if err := read(d); err != nil {
		return d.explain(err)
	}
	_, err := d.ReadToken()
	if _, ok := errors.AsType[*jsontext.SyntacticError](err); ok || err == nil {
		return &DecodeError{"", "more follows the JSON value"}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return d.explain(err)
}

// A decoder reads one body. It holds at most about maxValue of it.
type decoder struct {
	*jsontext.Decoder
	body io.Reader
	n    int64 // bytes read of body
}

// object reads an object. It has member read the value of names[i], and refuses one that is given twice or is not there
// though it is among the required first of names. Other members are skipped.
func (d *decoder) object(names []string, required int, member func(i int) error) error {
	if err := d.open('{'); err != nil {
		return err
	}
	seen := 0 // a bit for each of names
	for d.PeekKind() != '}' {
		name, err := d.text()
		i := slices.Index(names, string(name))
		switch {
		case err != nil:
		case i < 0:
			err = d.SkipValue()
		case seen&(1<<i) != 0:
			err = d.wrong("given twice")
		default:
			seen |= 1 << i
			err = member(i)
		}
		if err != nil {
			return err
		}
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	for i, name := range names[:required] {
		if seen&(1<<i) == 0 {
			return d.wrong("no " + name)
		}
	}
	return nil
}

func (d *decoder) operations(p *Page) error {
	if err := d.open('['); err != nil {
		return err
	}
	for d.PeekKind() != ']' {
		p.Operations = append(p.Operations, Operation{})
		if err := d.operation(&p.Operations[len(p.Operations)-1]); err != nil {
			return err
		}
	}
	_, err := d.ReadToken()
	return err
}

func (d *decoder) operation(op *Operation) error {
	return d.object(operationNames, len(operationNames), func(i int) error {
		switch operationNames[i] {
		case "id":
			return d.id(&op.ID)
		case "status":
			return d.status(&op.Status)
		case "createdAt":
			return d.time(&op.CreatedAt)
		case "updatedAt":
			return d.time(&op.UpdatedAt)
		}
		return d.object(statNames, len(statNames), func(i int) error { return d.count(&op.Stats[i]) })
	})
}

func (d *decoder) id(id *string) error {
	text, err := d.name()
	if len(text) > maxName {
		return d.wrong(fmt.Sprintf("longer than %d bytes", maxName))
	}
	*id = string(text)
	return err
}

func (d *decoder) status(status *Status) error {
	text, err := d.name()
	if len(text) > maxName {
		*status = StatusOther
		return nil
	}
	for _, documented := range []Status{StatusCompleted, StatusProcessing, StatusScheduled, StatusCanceled} {
		if string(text) == string(documented) {
			*status = documented // without an allocation for each operation
			return nil
		}
	}
	*status = Status(text)
	return err
}

// name reads a text that is not empty.
func (d *decoder) name() ([]byte, error) {
	text, err := d.text()
	if err == nil && len(text) == 0 {
		err = d.wrong("empty")
	}
	return text, err
}

func (d *decoder) time(t *time.Time) error {
	got := d.PeekKind()
	err := json.UnmarshalDecode(d.Decoder, t)
	if _, ok := errors.AsType[*json.SemanticError](err); ok || err == nil && t.IsZero() {
		return cmp.Or(d.check(nil, got, '"'), d.wrong("not an RFC 3339 time"))
	}
	*t = t.UTC()
	return err
}

// count reads an integer of 0 or more, written as one: 1e3 and 1.0 are not.
func (d *decoder) count(n *int64) error {
	v, err := d.value('0')
	if err != nil {
		return err
	}
	*n, err = strconv.ParseInt(string(v), 10, 64)
	switch {
	case errors.Is(err, strconv.ErrRange) && *n > 0:
		return d.wrong("number out of range")
	case err != nil || v[0] == '-':
		return d.wrong("not a whole number of 0 or more")
	}
	return nil
}

// text reads a string. It is valid until the next is read.
func (d *decoder) text() ([]byte, error) {
	v, err := d.value('"')
	if err != nil {
		return nil, err
	}
	if bytes.IndexByte(v, '\\') >= 0 {
		return jsontext.AppendUnquote(nil, v)
	}
	return v[1 : len(v)-1], nil
}

// value reads a value, which must be of a kind.
func (d *decoder) value(want jsontext.Kind) (jsontext.Value, error) {
	v, err := d.ReadValue()
	return v, d.check(err, v.Kind(), want)
}

// open reads the start of an object or array.
func (d *decoder) open(want jsontext.Kind) error {
	token, err := d.ReadToken()
	return d.check(err, token.Kind(), want)
}

// check returns err, or that what was just read is not of the documented kind.
func (d *decoder) check(err error, got, want jsontext.Kind) error {
	if err == nil && got != want {
		err = d.wrong(kindNames[got] + " where " + kindNames[want] + " should be")
	}
	return err
}

var kindNames = map[jsontext.Kind]string{
	'{': "an object", '[': "an array", '"': "a string", '0': "a number", 'n': "null", 't': "a boolean", 'f': "a boolean",
}

// Read implements io.Reader for the JSON decoder, which asks for more when what it has does not hold a whole token, and
// keeps all of it until it does.
func (d *decoder) Read(p []byte) (int, error) {
	depth, held := d.StackDepth(), d.n-d.InputOffset()
	_, length := d.StackIndex(min(depth, 2)) // of the operations, if it is them
	switch {
	case held > maxValue:
		return 0, d.wrong(fmt.Sprintf("a value or white space of more than %d bytes", maxValue))
	case length > maxOnPage:
		return 0, d.wrong(fmt.Sprintf("more than %d values", maxOnPage))
	case depth > maxDepth:
		return 0, d.wrong(fmt.Sprintf("nested more than %d deep", maxDepth))
	}
	n, err := d.body.Read(p[:min(int64(len(p)), maxValue+1-held)])
	if d.n += int64(n); d.n > maxBody {
		return 0, ErrBodyTooLarge
	}
	return n, err
}

// explain is what an error of the library means.
func (d *decoder) explain(err error) error {
	if own, ok := errors.AsType[*DecodeError](err); ok {
		return own
	}
	if syntax, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		problem := "not JSON: " + syntax.Err.Error()
		if errors.Is(err, io.ErrUnexpectedEOF) {
			problem = "the JSON breaks off"
		}
		return &DecodeError{string(syntax.JSONPointer), problem}
	}
	if errors.Is(err, io.EOF) {
		return &DecodeError{"", "empty"}
	}
	return cmp.Or(errors.Unwrap(err), err) // of the body
}

// wrong is an error about the value just read.
func (d *decoder) wrong(problem string) error {
	return &DecodeError{string(d.StackPointer()), problem}
}
