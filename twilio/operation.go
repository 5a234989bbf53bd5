// Package twilio reads Twilio's Message Operations: it pages through the list and fetches single operations.
//
// A [Client] belongs to one account. Its requests share a rate limit, a bound on requests in flight, and a cooldown:
// after a 429 or 503 none goes out before the Retry-After has passed. What may pass is sent again (429, 502, 503, 504,
// a lost connection), everything else is not, a 500 least of all: the API forbids it. Answers are decoded strictly and
// in bounded memory. An error says what went wrong by its type, such as [*Error] or [*DecodeError], and never holds
// credentials, whatever the server or a proxy sends back.
//
// [Client.Now] is the API's clock, by which the list is asked for.
//
// The package knows nothing of metrics beyond a hook for each request made.
package twilio

import (
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Status is the state of an operation. The API documents four; a status that is none of them is passed on as it came,
// if it is a name.
type Status string

// StatusOther stands for a status that is none.
const StatusOther Status = "other"

// IsName reports whether a text can be an id or a status: at most 64 bytes of UTF-8, all of it printable. They become
// labels, and what reads those may take a NUL or a line feed for an end.
func IsName(s string) bool {
	fits := s != "" && len(s) <= maxText
	if fits && allOf(s, ' ', '~') { // as all that are documented
		return true
	}
	unprintable := func(r rune) bool { return !unicode.IsPrint(r) }
	return fits && utf8.ValidString(s) && !strings.ContainsFunc(s, unprintable)
}

// The documented statuses (Operations resource, CommunicationOperationStatus).
const (
	StatusScheduled  Status = "SCHEDULED"
	StatusProcessing Status = "PROCESSING"
	StatusCompleted  Status = "COMPLETED"
	StatusCanceled   Status = "CANCELED"
)

// Live reports whether an operation of this status is still on its way: its numbers are expected to change.
func (s Status) Live() bool {
	return s == StatusScheduled || s == StatusProcessing
}

// Operation is one request to send messages to up to 10,000 recipients.
type Operation struct {
	ID        string
	Status    Status
	Stats     Stats
	CreatedAt time.Time
	UpdatedAt time.Time
}

// operationID is the documented pattern, closed at its end: the documentation leaves it open, and an open pattern would
// let a path through.
var operationID = regexp.MustCompile(`^comms_operation_[0-7][a-hjkmnpqrstv-z0-9]{25,34}$`)

// ValidOperationID reports whether id has the documented form.
func ValidOperationID(id string) bool { return operationID.MatchString(id) }
