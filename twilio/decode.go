package twilio

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	maxBody  = 16 << 20  // bytes of a 200, decompressed
	maxValue = 256 << 10 // bytes of one JSON value or run of white space
	maxDepth = 16        // of nested JSON values; the names on the way to one are kept
	maxName  = 64        // bytes of an operation's id or status
	maxPage  = 10_000    // operations on a page, ten times what is documented
)

// The answers as they are documented. Every member has a type that can tell a
// missing member from a zero and refuses null, another kind, and a repetition.
type (
	wirePage struct {
		Operations wireList       `json:"operations"`
		Pagination wirePagination `json:"pagination"`
	}
	wirePagination struct {
		Next wireToken `json:"next"`
		seen bool
	}
	wireOperation struct {
		ID        wireID     `json:"id"`
		Status    wireStatus `json:"status"`
		Stats     wireStats  `json:"stats"`
		CreatedAt wireTime   `json:"createdAt"`
		UpdatedAt wireTime   `json:"updatedAt"`
	}
	wireStats struct {
		Stats
		seen bool
	}
	wireID     string              // never empty
	wireStatus Status              // never empty
	wireTime   struct{ time.Time } // never zero
	wireToken  struct {
		s    string
		seen bool
	}
	wireList struct {
		list []Operation
		next wireOperation // scratch
		seen bool
	}
)

// A decoder reads one body. It holds at most about maxValue of it.
type decoder struct {
	json *jsontext.Decoder
	page wirePage
	op   wireOperation

	body io.Reader
	n    int64 // bytes read of body
	err  error // why reading ended early
}

var decoders = sync.Pool{New: func() any { return &decoder{json: jsontext.NewDecoder(strings.NewReader(""))} }}

// decodePage fills p from a page of the list, reusing its operations' memory.
// What p holds after an error is of no use.
func decodePage(body io.Reader, p *Page) error {
	return decode(body, func(d *decoder) error {
		d.page.Operations.list = p.Operations[:0]
		err := open(d.json, '{', new(bool))
		if err == nil {
			err = json.UnmarshalDecode(d.json, &d.page)
		}
		p.Operations, p.Next = d.page.Operations.list, d.page.Pagination.Next.s
		switch {
		case err != nil:
			return err
		case !d.page.Operations.seen:
			return missing(d.json, "operations")
		case !d.page.Pagination.seen:
			return missing(d.json, "pagination")
		}
		return nil
	})
}

// decodeOperation fills op from an answer that is one operation.
func decodeOperation(body io.Reader, op *Operation) error {
	return decode(body, func(d *decoder) error { return d.op.decode(d.json, op) })
}

// decode has f read the one JSON value that body holds.
func decode(body io.Reader, f func(*decoder) error) error {
	d, _ := decoders.Get().(*decoder)
	defer decoders.Put(d)
	*d = decoder{json: d.json, body: body}
	// The types above refuse repetitions of what is documented. Of what is not,
	// the library would have to remember every name.
	d.json.Reset(d, jsontext.AllowDuplicateNames(true))
	err := f(d)
	if err == nil {
		if _, err = d.json.ReadToken(); errors.Is(err, io.EOF) {
			err = nil
		} else {
			err = &DecodeError{Problem: "more follows the JSON value"}
		}
	}
	err = d.explain(err)
	d.json.Reset(strings.NewReader(""))
	*d = decoder{json: d.json} // keeps hold of nothing else
	return err
}

// Read implements io.Reader for the JSON decoder, which asks for more when what
// it has does not hold a whole token, and keeps all of it until it does.
func (d *decoder) Read(p []byte) (int, error) {
	switch {
	case d.n-d.json.InputOffset() > maxValue:
		d.err = &DecodeError{Problem: fmt.Sprintf("a value or white space of more than %d bytes", maxValue)}
	case d.json.StackDepth() > maxDepth:
		d.err = &DecodeError{Problem: fmt.Sprintf("nested more than %d deep", maxDepth)}
	}
	if d.err != nil {
		return 0, d.err
	}
	n, err := d.body.Read(p[:min(len(p), maxValue)])
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
	switch {
	case errors.As(d.err, &mine):
		return wrong(d.json, mine.Problem)
	case d.err != nil:
		return d.err
	case err == nil:
		return nil
	case errors.As(err, &mine):
		return mine
	case errors.As(err, &syntax) && errors.Is(err, io.ErrUnexpectedEOF):
		return &DecodeError{string(syntax.JSONPointer), "the JSON breaks off"}
	case errors.As(err, &syntax):
		return &DecodeError{string(syntax.JSONPointer), "not JSON: " + syntax.Err.Error()}
	case errors.Is(err, io.EOF):
		return &DecodeError{Problem: "empty"}
	}
	return wrong(d.json, err.Error())
}

// wrong is an error about the value just read.
func wrong(dec *jsontext.Decoder, problem string) error {
	return &DecodeError{string(dec.StackPointer()), problem}
}

// missing is an error about the object just read.
func missing(dec *jsontext.Decoder, name string) error { return wrong(dec, "no "+name) }

// value reads a value, which must be of that kind and not a repetition.
func value(dec *jsontext.Decoder, want jsontext.Kind, seen bool) (jsontext.Value, error) {
	v, err := dec.ReadValue()
	switch {
	case err != nil:
		return nil, err
	case seen:
		return nil, wrong(dec, "given twice")
	case v.Kind() != want:
		return nil, wrong(dec, kindNames[v.Kind()]+" where "+kindNames[want]+" should be")
	}
	return v, nil
}

// text reads a string; its bytes are valid until the next read.
func text(dec *jsontext.Decoder, seen bool) ([]byte, error) {
	v, err := value(dec, '"', seen)
	switch {
	case err != nil:
		return nil, err
	case bytes.IndexByte(v, '\\') >= 0:
		return jsontext.AppendUnquote(nil, v)
	}
	return v[1 : len(v)-1], nil
}

// open is called before an object or array is read, and notes that it was seen.
func open(dec *jsontext.Decoder, kind jsontext.Kind, seen *bool) error {
	if *seen || dec.PeekKind() != kind {
		_, err := value(dec, kind, *seen)
		return err
	}
	*seen = true
	return nil
}

func (l *wireList) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	err := open(dec, '[', &l.seen)
	if err == nil {
		_, err = dec.ReadToken()
	}
	for err == nil && dec.PeekKind() != ']' {
		if len(l.list) == maxPage {
			return wrong(dec, fmt.Sprintf("more than %d operations on a page", maxPage))
		}
		l.next = wireOperation{}
		l.list = slices.Grow(l.list, 1)[:len(l.list)+1]
		err = l.next.decode(dec, &l.list[len(l.list)-1])
	}
	if err == nil {
		_, err = dec.ReadToken()
	}
	return err
}

func (p *wirePagination) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	type plain wirePagination
	if err := open(dec, '{', &p.seen); err != nil {
		return err
	}
	return json.UnmarshalDecode(dec, (*plain)(p))
}

func (j *wireOperation) decode(dec *jsontext.Decoder, op *Operation) error {
	err := open(dec, '{', new(bool))
	if err == nil {
		err = json.UnmarshalDecode(dec, j)
	}
	switch {
	case err != nil:
		return err
	case j.ID == "":
		return missing(dec, "id")
	case j.Status == "":
		return missing(dec, "status")
	case !j.Stats.seen:
		return missing(dec, "stats")
	case j.CreatedAt.IsZero():
		return missing(dec, "createdAt")
	case j.UpdatedAt.IsZero():
		return missing(dec, "updatedAt")
	}
	*op = Operation{
		ID: string(j.ID), Status: Status(j.Status), Stats: j.Stats.Stats,
		CreatedAt: j.CreatedAt.Time, UpdatedAt: j.UpdatedAt.Time,
	}
	return nil
}

// statNames are the members of stats, in the order of the fields of Stats.
var statNames = [...]string{
	"total", "recipients", "attempts", "unaddressable", "scheduled", "queued",
	"sent", "delivered", "read", "undelivered", "failed", "canceled",
}

// UnmarshalJSONFrom reads the counts one by one: they are most of a page, and
// reflection would take twice the time for them.
func (j *wireStats) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	err := open(dec, '{', &j.seen)
	if err == nil {
		_, err = dec.ReadToken()
	}
	s := &j.Stats
	counts := [len(statNames)]*int64{
		&s.Total, &s.Recipients, &s.Attempts, &s.Unaddressable, &s.Scheduled, &s.Queued,
		&s.Sent, &s.Delivered, &s.Read, &s.Undelivered, &s.Failed, &s.Canceled,
	}
	var seen [len(statNames)]bool
	for err == nil && dec.PeekKind() != '}' {
		var name []byte
		if name, err = text(dec, false); err != nil {
			break
		}
		if i := slices.Index(statNames[:], string(name)); i >= 0 {
			*counts[i], err = count(dec, seen[i])
			seen[i] = true
		} else {
			err = dec.SkipValue()
		}
	}
	if err == nil {
		_, err = dec.ReadToken()
	}
	if i := slices.Index(seen[:], false); err == nil && i >= 0 {
		err = missing(dec, statNames[i])
	}
	return err
}

// count reads an integer of 0 or more, written as one: 1e3 and 1.0 are not.
func count(dec *jsontext.Decoder, seen bool) (int64, error) {
	v, err := value(dec, '0', seen)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(string(v), 10, 63)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return 0, wrong(dec, "number out of range")
	case err != nil:
		return 0, wrong(dec, "not a whole number of 0 or more")
	}
	return int64(n), nil //nolint:gosec // of 63 bits
}

// name reads a string that is not empty.
func name(dec *jsontext.Decoder, seen bool) ([]byte, error) {
	b, err := text(dec, seen)
	if err == nil && len(b) == 0 {
		err = wrong(dec, "empty")
	}
	return b, err
}

func (id *wireID) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	b, err := name(dec, *id != "")
	if err == nil && len(b) > maxName {
		err = wrong(dec, fmt.Sprintf("longer than %d bytes", maxName))
	}
	if err == nil {
		*id = wireID(b) // a copy: an id outlives its page by hours
	}
	return err
}

var documentedStatuses = []Status{StatusCompleted, StatusProcessing, StatusScheduled, StatusCanceled}

func (s *wireStatus) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	b, err := name(dec, *s != "")
	if err != nil {
		return err
	}
	for _, known := range documentedStatuses {
		if string(known) == string(b) {
			*s = wireStatus(known) // saves an allocation for each operation
			return nil
		}
	}
	if *s = wireStatus(b); len(b) > maxName {
		*s = wireStatus(StatusOther)
	}
	return nil
}

func (t *wireTime) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	b, err := text(dec, !t.IsZero())
	if err != nil {
		return err
	}
	if err := t.UnmarshalText(b); err != nil || t.IsZero() {
		return wrong(dec, "not an RFC 3339 time")
	}
	t.Time = t.UTC()
	return nil
}

// UnmarshalJSONFrom takes null and "" for the end of the list, as it does a
// missing token: which of them it is, is not documented.
func (t *wireToken) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	if !t.seen && dec.PeekKind() == 'n' {
		t.seen = true
		return dec.SkipValue()
	}
	b, err := text(dec, t.seen)
	*t = wireToken{string(b), true}
	return err
}

var kindNames = map[jsontext.Kind]string{
	'{': "an object", '[': "an array", '"': "a string", '0': "a number", 'n': "null", 't': "a boolean", 'f': "a boolean",
}
