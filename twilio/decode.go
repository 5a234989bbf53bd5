package twilio

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"
)

// maxText is the most bytes of a text that is kept: an id, a status, or the name of what a message is related to.
const maxText = 64

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

// decodePage decodes a page of a list of operations into p, reusing its memory. After an error, p is of no use.
func decodePage(body io.Reader, resource Resource, s *sanitizer, p *Page) error {
	p.Operations = p.Operations[:0]
	p.Next = ""

	return decode(body, s, func(d *decoder) error {
		return d.object(operationPageMembers, func(name string) error {
			if name == "pagination" {
				return d.pagination(&p.Next)
			}
			return d.array(func() error {
				p.Operations = append(p.Operations, Operation{})
				last := &p.Operations[len(p.Operations)-1]
				return d.operation(resource, last)
			})
		})
	})
}

// decodeOperation decodes an answer that is one operation.
func decodeOperation(body io.Reader, resource Resource, s *sanitizer, op *Operation) error {
	return decode(body, s, func(d *decoder) error { return d.operation(resource, op) })
}

// pagination reads the token of the next page.
func (d *decoder) pagination(next *string) error {
	return d.object(paginationMembers, func(string) error {
		null, err := d.null()
		if null {
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
		i := slices.IndexFunc(r.stats[:], func(row StatRow) bool { return row.JSON == name })
		return d.count(&stats[i])
	})
}

// id reads an id, which may become the value of a label.
func (d *decoder) id(id *string) error {
	text, err := d.nonEmpty()
	if err != nil {
		return err
	}
	if len(text) > maxText {
		return d.wrong(fmt.Sprintf("longer than %d bytes", maxText))
	}

	*id = string(text)
	switch {
	case !IsName(*id):
		return d.wrong("holds characters that cannot be printed")
	case d.sanitizer.holds(*id):
		return d.wrong("holds the credentials")
	}
	return nil
}

// status reads a status, which may become the value of a label.
func (d *decoder) status(status *Status) error {
	text, err := d.nonEmpty()
	if err != nil {
		return err
	}

	// A documented status needs no allocation.
	for _, documented := range []Status{StatusCompleted, StatusProcessing, StatusScheduled, StatusCanceled} {
		if string(text) == string(documented) {
			*status = documented
			return nil
		}
	}

	*status = StatusOther
	if len(text) > maxText { // avoids a copy
		return nil
	}
	name := string(text)
	switch {
	case !IsName(name):
		return nil
	case d.sanitizer.holds(name):
		return d.wrong("holds the credentials")
	}
	*status = Status(name)
	return nil
}

// time reads a time. Go's zero time is refused, as it means that there is none.
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

// count reads an integer of 0 or more. 1e3 and 1.0 are refused.
func (d *decoder) count(n *int64) error {
	v, err := d.value('0')
	if err != nil {
		return err
	}

	*n, err = strconv.ParseInt(string(v), 10, 64)
	negative := v[0] == '-' // even -0
	switch {
	case errors.Is(err, strconv.ErrRange) && !negative:
		return d.wrong("number out of range")
	case err != nil || negative:
		return d.wrong("not a whole number of 0 or more")
	}
	return nil
}
