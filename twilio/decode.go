package twilio

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

const (
	maxBody   = 16 << 20  // bytes of a 200, compressed or not
	maxValue  = 256 << 10 // bytes of one JSON value or run of white space
	maxMember = 4 << 10   // bytes of a member's name
	maxDepth  = 20        // of nested JSON values; the names on the way to one are kept
	maxName   = 64        // bytes of an operation's id or status
	maxOnPage = 10_000    // operations, ten times what is documented
)

// notJSON begins the problem of an answer that is something else.
const notJSON = "not JSON"

// A member is one that is read of a documented object.
type member struct {
	name     string
	optional bool // it may be absent
}

var (
	operationPageMembers = []member{{"operations", false}, {"pagination", false}}
	paginationMembers    = []member{{"next", true}}
	operationMembers     = []member{
		{"id", false},
		{"status", false},
		{"stats", false},
		{"createdAt", false},
		{"updatedAt", false},
	}
)

// decodePage fills p from a page of the list of a resource's operations, reusing its memory. What p holds after an error
// is of no use.
func decodePage(body io.Reader, resource Resource, s *sanitizer, p *Page) error {
	p.Operations, p.Next = p.Operations[:0], ""
	return decode(body, s, func(d *decoder) error {
		return d.object(operationPageMembers, func(name string) error {
			if name == "pagination" {
				return d.pagination(&p.Next)
			}
			return d.array(func() error {
				p.Operations = append(p.Operations, Operation{})
				return d.operation(resource, &p.Operations[len(p.Operations)-1])
			})
		})
	})
}

// decodeOperation fills op from an answer that is one operation of a resource.
func decodeOperation(body io.Reader, resource Resource, s *sanitizer, op *Operation) error {
	return decode(body, s, func(d *decoder) error { return d.operation(resource, op) })
}

// decode has read take the one JSON object that body holds. It refuses one in which a name holds what s knows as secret.
func decode(body io.Reader, s *sanitizer, read func(*decoder) error) error {
	d := &decoder{body: body, sanitizer: s}
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
	body      io.Reader
	sanitizer *sanitizer
	n         int64 // bytes read of body
}

// object reads an object. It has read take the value of each of the members, and refuses one that is given twice, or
// that is neither there nor optional. Other members are skipped.
func (d *decoder) object(members []member, read func(name string) error) error {
	if err := d.open('{'); err != nil {
		return err
	}
	seen := 0 // a bit for each of members
	for d.PeekKind() != '}' {
		name, err := d.text()
		if err != nil {
			return err
		}
		i := slices.IndexFunc(members, func(m member) bool { return m.name == string(name) })
		switch {
		case i < 0:
			err = d.SkipValue()
		case seen&(1<<i) != 0:
			err = d.wrong("given twice")
		default:
			seen |= 1 << i
			err = read(members[i].name)
		}
		if err != nil {
			return err
		}
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}

	for i, m := range members {
		if seen&(1<<i) == 0 && !m.optional {
			return d.wrong("no " + m.name)
		}
	}
	return nil
}

// array reads an array, having read take each of its values.
func (d *decoder) array(read func() error) error {
	if err := d.open('['); err != nil {
		return err
	}
	for d.PeekKind() != ']' {
		if err := read(); err != nil {
			return err
		}
	}
	_, err := d.ReadToken()
	return err
}

// null skips a null and reports whether there was one.
func (d *decoder) null() (bool, error) {
	if d.PeekKind() != 'n' {
		return false, nil
	}
	return true, d.SkipValue()
}

// pagination reads the token of the next page.
func (d *decoder) pagination(next *string) error {
	return d.object(paginationMembers, func(string) error {
		if null, err := d.null(); null {
			return err
		}
		token, err := d.text()
		*next = string(token)
		return err
	})
}

func (d *decoder) operation(resource Resource, op *Operation) error {
	return d.object(operationMembers, func(name string) error {
		switch name {
		case "id":
			return d.id(&op.ID)
		case "status":
			return d.status(&op.Status)
		case "createdAt":
			return d.time(&op.CreatedAt)
		case "updatedAt":
			return d.time(&op.UpdatedAt)
		default:
			return d.stats(resource, &op.Stats)
		}
	})
}

func (d *decoder) stats(resource Resource, stats *Stats) error {
	r := resource.row()
	return d.object(r.members, func(name string) error {
		i := slices.IndexFunc(r.Stats[:], func(row StatRow) bool { return row.JSON == name })
		return d.count(&stats[i])
	})
}

// id reads an id, which is kept and may become the value of a label.
func (d *decoder) id(id *string) error {
	text, err := d.name()
	if err != nil {
		return err
	}
	if len(text) > maxName {
		return d.wrong(fmt.Sprintf("longer than %d bytes", maxName))
	}
	*id = string(text)
	if d.sanitizer.holds(*id) {
		return d.wrong("holds the credentials")
	}
	return nil
}

// status reads a status, which may become the value of a label.
func (d *decoder) status(status *Status) error {
	text, err := d.name()
	if err != nil {
		return err
	}
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
	if d.sanitizer.holds(string(text)) {
		return d.wrong("holds the credentials")
	}
	return nil
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
	text, err := d.text()
	if err != nil {
		return err
	}
	parsed, ok := parseTime(text)
	if !ok || parsed.IsZero() {
		return d.wrong("not an RFC 3339 time")
	}
	*t = parsed.UTC()
	return nil
}

// loose is the form of a time that time.Time refuses though RFC 3339 allows it: in lower case, or in a leap second.
var loose = regexp.MustCompile(`^[-\d]{10}[Tt]\d\d:\d\d:(60|\d\d)(\.\d+)?([Zz]|[-+]\d\d:\d\d)$`)

// parseTime parses a time as RFC 3339 has it.
func parseTime(text []byte) (t time.Time, ok bool) {
	if len(text) > maxName {
		return t, false
	}
	if t.UnmarshalText(text) == nil {
		return t, isStrict(text)
	}
	if !loose.Match(text) {
		return t, false
	}

	const seconds = len("2006-01-02T15:04:")
	strict := bytes.ToUpper(text)
	leap := time.Duration(0)
	if string(strict[seconds:seconds+2]) == "60" {
		copy(strict[seconds:], "59")
		leap = time.Second
	}
	err := t.UnmarshalText(strict)
	return t.Add(leap), err == nil && isStrict(strict)
}

// isStrict refuses what package time takes for RFC 3339 although it is not: an hour of one digit, a comma, an offset of a
// day or more.
func isStrict(text []byte) bool {
	const hourEnds = len("2006-01-02T15")
	if text[hourEnds] != ':' || bytes.IndexByte(text, ',') >= 0 {
		return false
	}
	offset := text[len(text)-len("+01:00"):]
	return text[len(text)-1] == 'Z' || string(offset[1:3]) < "24" && string(offset[4:]) < "60"
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
	// In an object, names and values take turns.
	kind, members := d.StackIndex(depth)
	nameIsNext := kind == '{' && members%2 == 0

	most := int64(maxValue)
	if nameIsNext {
		most = maxMember
	}
	switch {
	case held > most && nameIsNext:
		return 0, d.wrong(fmt.Sprintf("a name or white space of more than %d bytes", most))
	case held > maxValue:
		return 0, d.wrong(fmt.Sprintf("a value or white space of more than %d bytes", maxValue))
	case length > maxOnPage:
		return 0, d.wrong(fmt.Sprintf("more than %d values", maxOnPage))
	case depth > maxDepth:
		return 0, d.wrong(fmt.Sprintf("nested more than %d deep", maxDepth))
	}
	// What is read beyond the value at hand may be a name.
	n, err := d.body.Read(p[:min(int64(len(p)), maxMember, most+1-held)])
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
		problem := notJSON + ": " + syntax.Err.Error()
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
