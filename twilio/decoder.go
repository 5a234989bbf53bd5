package twilio

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
)

// Limits of an answer. Whatever it holds, a decoder needs little more memory than a value of maxValue.
const (
	maxBody     = 16 << 20  // bytes of a 200, compressed or not
	maxValue    = 256 << 10 // bytes of one JSON value or run of white space
	maxName     = 4 << 10   // bytes of a member's name
	maxDepth    = 20        // of nested JSON values; the names on the way to one are kept
	maxElements = 10_000    // operations of a page, ten times the documented maximum, or members of an object around them
)

// notJSON begins the problem of an answer that is not JSON.
const notJSON = "not JSON"

// A decoder decodes one body. It walks through the JSON by hand, as with struct tags the library takes a null for a
// zero, does not report missing members, and remembers all names of an object to find duplicates. Types with their own
// unmarshal methods are more code, and a tenth slower.
type decoder struct {
	*jsontext.Decoder
	body      io.Reader
	sanitizer *sanitizer
	n         int64 // bytes read from body
}

// decode calls read for the JSON value in body, and refuses anything that follows the value. Names that hold a secret
// that s knows are refused.
func decode(body io.Reader, s *sanitizer, read func(*decoder) error) error {
	d := &decoder{body: body, sanitizer: s}
	// The method object refuses duplicates of documented members. The library would have to remember all names.
	d.Decoder = jsontext.NewDecoder(d, jsontext.AllowDuplicateNames(true))

	err := read(d)
	if err != nil {
		return explain(err)
	}
	return d.end()
}

// end refuses what follows the one value.
func (d *decoder) end() error {
	_, err := d.ReadToken()
	_, malformed := errors.AsType[*jsontext.SyntacticError](err)
	switch {
	case err == nil, malformed:
		return &DecodeError{"", "more follows the JSON value"}
	case errors.Is(err, io.EOF):
		return nil
	}
	return explain(err)
}

// A member is a member of a JSON object that is read.
type member struct {
	name     string
	optional bool // it may be absent
}

// object reads an object. It calls read for the value of each of these members and skips others. A duplicate of a
// member is an error, and so is one that is missing but not optional.
func (d *decoder) object(members []member, read func(name string) error) error {
	err := d.open('{')
	if err != nil {
		return err
	}

	given := uint(0) // one bit for each of members
	for d.PeekKind() != '}' {
		err = d.member(members, &given, read)
		if err != nil {
			return err
		}
	}
	_, err = d.ReadToken()
	if err != nil {
		return err
	}

	for i, m := range members {
		if given&(1<<i) == 0 && !m.optional {
			return d.wrong("no " + m.name)
		}
	}
	return nil
}

// member reads the name and the value of a member.
func (d *decoder) member(members []member, given *uint, read func(name string) error) error {
	name, err := d.text()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(members, func(m member) bool { return m.name == string(name) })
	if i < 0 {
		return d.SkipValue()
	}

	bit := uint(1) << i
	if *given&bit != 0 {
		return d.wrong("given twice")
	}
	*given |= bit
	return read(members[i].name)
}

// array reads an array. It calls read for each of its values.
func (d *decoder) array(read func() error) error {
	err := d.open('[')
	if err != nil {
		return err
	}

	for d.PeekKind() != ']' {
		err = read()
		if err != nil {
			return err
		}
	}
	_, err = d.ReadToken()
	return err
}

// null skips a null and reports whether there was one.
func (d *decoder) null() (bool, error) {
	if d.PeekKind() != 'n' {
		return false, nil
	}
	return true, d.SkipValue()
}

// nonEmpty reads a string as text does, and refuses an empty one.
func (d *decoder) nonEmpty() ([]byte, error) {
	text, err := d.text()
	if err == nil && len(text) == 0 {
		err = d.wrong("empty")
	}
	return text, err
}

// text reads a string, which is valid until the next read.
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

// value reads a value, which must be of the kind want.
func (d *decoder) value(want jsontext.Kind) (jsontext.Value, error) {
	v, err := d.ReadValue()
	return v, d.check(err, v.Kind(), want)
}

// open reads the start of an object or array.
func (d *decoder) open(want jsontext.Kind) error {
	token, err := d.ReadToken()
	return d.check(err, token.Kind(), want)
}

// check returns err or, if that is nil, an error if what was just read is not of the kind want.
func (d *decoder) check(err error, got, want jsontext.Kind) error {
	if err == nil && got != want {
		err = d.wrong(kindNames[got] + " where " + kindNames[want] + " should be")
	}
	return err
}

var kindNames = map[jsontext.Kind]string{
	'{': "an object",
	'[': "an array",
	'"': "a string",
	'0': "a number",
	'n': "null",
	't': "a boolean",
	'f': "a boolean",
}

// Read implements io.Reader for the JSON decoder. That calls it until it has a whole token, and keeps everything until
// then, so the limits are enforced here.
func (d *decoder) Read(p []byte) (int, error) {
	what, limit := d.next()
	held := d.n - d.InputOffset()
	if held > limit {
		return 0, d.wrong(fmt.Sprintf("%s or white space of more than %d bytes", what, limit))
	}

	const ofOperations = 2 // the depth of the list in a page
	depth := d.StackDepth()
	_, elements := d.StackIndex(min(depth, ofOperations))
	switch {
	case elements > maxElements:
		return 0, d.wrong(fmt.Sprintf("more than %d values", maxElements))
	case depth > maxDepth:
		return 0, d.wrong(fmt.Sprintf("nested more than %d deep", maxDepth))
	}

	// What is read beyond the current token may be a name.
	most := min(int64(len(p)), maxName, limit+1-held)
	n, err := d.body.Read(p[:most])
	d.n += int64(n)
	if d.n > maxBody {
		return 0, ErrBodyTooLarge
	}
	return n, err
}

// next returns what is read next, and how many bytes it may have.
func (d *decoder) next() (what string, limit int64) {
	kind, elements := d.StackIndex(d.StackDepth())
	// In an object, names and values alternate.
	if kind == '{' && elements%2 == 0 {
		return "a name", maxName
	}
	return "a value", maxValue
}

// explain translates an error of the library.
func explain(err error) error {
	own, ok := errors.AsType[*DecodeError](err)
	if ok {
		return own
	}

	syntax, ok := errors.AsType[*jsontext.SyntacticError](err)
	if ok {
		problem := notJSON + ": " + syntax.Err.Error()
		if errors.Is(err, io.ErrUnexpectedEOF) {
			problem = "the JSON breaks off"
		}
		return &DecodeError{string(syntax.JSONPointer), problem}
	}

	if errors.Is(err, io.EOF) {
		return &DecodeError{"", "empty"}
	}
	ofBody := errors.Unwrap(err)
	return cmp.Or(ofBody, err)
}

// wrong returns an error about the value just read.
func (d *decoder) wrong(problem string) error {
	return &DecodeError{string(d.StackPointer()), problem}
}
