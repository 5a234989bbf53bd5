package twilio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/url"
	"regexp"
	"strconv"
	"sync"
)

const (
	maxTags     = 10  // of a message, as documented
	maxTagKey   = 128 // characters, as documented
	maxTagValue = 256 // characters, as documented
	maxAttempts = 20  // kept of a message
	maxCode     = 6   // digits; documented codes have 5, phone numbers more than 6
	maxChannel  = 32  // letters

	// Other replaces a code or a channel that is not of the documented form.
	Other = "other"
	// operationRelated is the name by which a message is related to its operation.
	operationRelated = "OPERATION"
)

// Message is the part of a message that is read (Messages resource): neither addresses nor content.
type Message struct {
	ID         string
	Status     Status            // of the message, such as FAILED or UNDELIVERED
	Operations []string          // ids of the operations that it is related to
	Tags       map[string]string // at most 10, set by the sender; none in a list
	Attempts   []Attempt         // the last 20, the oldest first; none in a list
}

// Attempt is one attempt to send a message.
type Attempt struct {
	Status  Status
	Channel string // such as SMS, RCS or WHATSAPP; "" if it is not given, Other if it is not at most 32 letters

	// Code is the error's number in Twilio's error dictionary; "" if there is none, Other if it is not a number of at most
	// 6 digits. Text is for humans; it has at most 200 bytes and no control characters.
	Code string
	Text string
}

// MessageQuery selects messages of the list. Zero values are not sent.
type MessageQuery struct {
	Operation string // id; the API may ignore it, so check Message.Operations
	Status    Status
	PageSize  int // 1 to 1000
}

// MessagePage is one page of the list of messages.
type MessagePage struct {
	Messages []Message
	Next     string // token of the next page, "" on the last one
}

// ErrInvalidMessageID is returned without a request being made.
var ErrInvalidMessageID = errors.New("invalid message id, it should look like comms_message_01h2xcejqtf2nbrexx3vqjhp41")

// messageID is the documented pattern, but anchored at its end.
var messageID = regexp.MustCompile(`^comms_message_[0-7][a-hjkmnpqrstv-z0-9]{25,34}$`)

// ValidMessageID reports whether id has the documented form.
func ValidMessageID(id string) bool { return messageID.MatchString(id) }

var messagePages = sync.Pool{New: func() any { return new(MessagePage) }}

// Messages reads the list of messages, as Pages does for operations. Its requests wait for those of Pages and
// FetchOperation and share the latter's half of the rate limit. Only one is in flight at a time.
func (c *Client) Messages(ctx context.Context, q MessageQuery) iter.Seq2[*MessagePage, error] {
	v := url.Values{}
	if q.Operation != "" {
		v.Set("operationId", q.Operation)
	}
	if q.Status != "" {
		v.Set("status", string(q.Status))
	}
	if q.PageSize != 0 {
		v.Set("pageSize", strconv.Itoa(q.PageSize))
	}

	return readList(ctx, c, &listing[MessagePage]{
		endpoint: EndpointListMessages,
		priority: sampling,
		url:      c.base.JoinPath("Messages"),
		query:    v,
		pool:     &messagePages,
		decode: func(body io.Reader, p *MessagePage) error {
			return decodeMessagePage(body, &c.sanitizer, p)
		},
		next: func(p *MessagePage) string { return p.Next },
	})
}

// FetchMessage reads one message, with its attempts. It waits as Messages does.
//
// An id that is not of the documented form is refused with ErrInvalidMessageID; other errors are those of Pages.
func (c *Client) FetchMessage(ctx context.Context, id string) (Message, error) {
	if !ValidMessageID(id) {
		return Message{}, fmt.Errorf("%w: %q", ErrInvalidMessageID, c.sanitizer.text(id, maxErrorText))
	}

	var m Message
	err := c.get(ctx, &request{
		endpoint: EndpointFetchMessage,
		priority: sampling,
		url:      c.base.JoinPath("Messages", id),
		decode: func(body io.Reader) error {
			m = Message{} // an earlier attempt may have set it
			return decodeMessage(body, &c.sanitizer, &m)
		},
	})
	if err == nil && m.ID != id {
		err = fmt.Errorf("%s: %w", EndpointFetchMessage, &DecodeError{Pointer: "/id", Problem: "belongs to another message"})
	}
	if err != nil {
		return Message{}, err
	}
	return m, nil
}

var (
	messagePageMembers = []member{{"messages", false}, {"pagination", false}}
	listedMembers      = []member{{"id", false}, {"status", false}, {"related", true}}
	messageMembers     = []member{{"id", false}, {"status", false}, {"related", true}, {"tags", true}, {"attempts", true}}
	relatedMembers     = []member{{"name", true}, {"id", true}}
	attemptMembers     = []member{{"status", true}, {"from", true}, {"error", true}}
	fromMembers        = []member{{"channel", true}}
	errorMembers       = []member{{"code", true}, {"message", true}}
)

// decodeMessagePage decodes a page of the list of messages into p, reusing its memory. It skips tags and attempts,
// which would need much memory. After an error, p is of no use.
func decodeMessagePage(body io.Reader, s *sanitizer, p *MessagePage) error {
	p.Messages = p.Messages[:0]
	p.Next = ""
	return decode(body, s, func(d *decoder) error {
		return d.object(messagePageMembers, func(name string) error {
			if name == "pagination" {
				return d.pagination(&p.Next)
			}
			return d.array(func() error {
				p.Messages = append(p.Messages, Message{})
				return d.message(&p.Messages[len(p.Messages)-1], listedMembers)
			})
		})
	})
}

// decodeMessage decodes an answer that is one message.
func decodeMessage(body io.Reader, s *sanitizer, m *Message) error {
	return decode(body, s, func(d *decoder) error { return d.message(m, messageMembers) })
}

// message reads these members of a message.
func (d *decoder) message(m *Message, members []member) error {
	return d.object(members, func(name string) error {
		switch name {
		case "id":
			return d.id(&m.ID)
		case "status":
			return d.status(&m.Status)
		}

		null, err := d.null()
		if null {
			return err
		}
		switch name {
		case "related":
			return d.array(func() error { return d.related(m) })
		case "tags":
			return d.tags(m)
		default:
			return d.array(func() error { return d.attempt(m) })
		}
	})
}

// related reads one thing that a message is related to, and keeps it if it is an operation.
func (d *decoder) related(m *Message) error {
	var name, id string
	err := d.object(relatedMembers, func(member string) error {
		if member == "id" {
			return d.id(&id)
		}
		return d.short(&name, maxText)
	})
	if err == nil && name == operationRelated && len(m.Operations) < maxTags {
		m.Operations = append(m.Operations, id)
	}
	return err
}

// tags reads the tags. It leaves out those that are longer than documented, hold a secret or unprintable characters, or
// exceed the documented number.
func (d *decoder) tags(m *Message) error {
	err := d.open('{')
	if err != nil {
		return err
	}
	for d.PeekKind() != '}' {
		err = d.tag(m)
		if err != nil {
			return err
		}
	}
	_, err = d.ReadToken()
	return err
}

// tag reads one tag, and keeps it if it is sane.
func (d *decoder) tag(m *Message) error {
	text, err := d.text()
	if err != nil {
		return err
	}
	key := string(text) // text is valid until the next read
	text, err = d.text()
	if err != nil {
		return err
	}

	const perCharacter = 4 // bytes in UTF-8, at most
	isLong := len(key) > perCharacter*maxTagKey || len(text) > perCharacter*maxTagValue
	if isLong || len(m.Tags) == maxTags {
		return nil
	}
	value := string(text)
	if !IsPrintable(value) || d.sanitizer.holds(key) || d.sanitizer.holds(value) {
		return nil
	}

	if m.Tags == nil {
		m.Tags = map[string]string{}
	}
	m.Tags[key] = value
	return nil
}

// attempt reads an attempt. Only the last ones are kept.
func (d *decoder) attempt(m *Message) error {
	var a Attempt
	err := d.object(attemptMembers, func(name string) error {
		null, err := d.null()
		if null {
			return err
		}

		switch name {
		case "status":
			return d.status(&a.Status)
		case "from":
			return d.object(fromMembers, func(string) error { return d.channel(&a.Channel) })
		default:
			return d.attemptError(&a)
		}
	})
	if err != nil {
		return err
	}

	if len(m.Attempts) == maxAttempts {
		copy(m.Attempts, m.Attempts[1:])
		m.Attempts = m.Attempts[:maxAttempts-1]
	}
	m.Attempts = append(m.Attempts, a)
	return nil
}

func (d *decoder) attemptError(a *Attempt) error {
	return d.object(errorMembers, func(name string) error {
		null, err := d.null()
		if null {
			return err
		}
		if name == "code" {
			return d.code(&a.Code)
		}
		text, err := d.text()
		if err == nil {
			a.Text = d.sanitizer.text(string(text), maxErrorText)
		}
		return err
	})
}

// code reads an error code, which may be a number or a string.
func (d *decoder) code(code *string) error {
	v, err := d.ReadValue()
	if err != nil {
		return err
	}
	text := string(v[:min(len(v), maxText)])

	switch v.Kind() {
	case '"':
		text, _ = strconv.Unquote(text)
	case '0':
	default:
		return d.wrong(kindNames[v.Kind()] + " where a number should be")
	}

	*code = Other
	if IsErrorCode(text) {
		*code = text
	}
	return nil
}

// IsErrorCode reports whether a text can be an error code: a number of at most 6 digits.
func IsErrorCode(text string) bool { return len(text) <= maxCode && allOf(text, '0', '9') }

// channel reads the name of a channel.
func (d *decoder) channel(channel *string) error {
	null, err := d.null()
	if null {
		return err
	}
	if err := d.short(channel, maxChannel); err != nil {
		return err
	}
	if !IsChannel(*channel) || d.sanitizer.holds(*channel) {
		*channel = Other
	}
	return nil
}

// IsChannel reports whether a text can be the name of a channel: at most 32 capital letters.
func IsChannel(text string) bool { return len(text) <= maxChannel && allOf(text, 'A', 'Z') }

// short reads a string, which Other replaces if it has more than most bytes.
func (d *decoder) short(s *string, most int) error {
	text, err := d.text()
	if err != nil {
		return err
	}
	*s = Other
	if len(text) <= most {
		*s = string(text)
	}
	return nil
}

// allOf reports whether a text is not empty and all its bytes are in [first, last].
func allOf(s string, first, last byte) bool {
	for i := range len(s) {
		if s[i] < first || s[i] > last {
			return false
		}
	}
	return s != ""
}
