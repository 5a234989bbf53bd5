// Package twilio reads Twilio's Message Operations: it pages through the list and fetches single operations.
//
// A [Client] belongs to one account. Its requests share a rate limit, a bound on requests in flight, and a cooldown:
// after a 429 or 503 none goes out before the Retry-After has passed. What may pass is sent again (429, 502, 503, 504,
// a lost connection). Nothing else is, above all no 500: the API forbids it. Answers are decoded strictly and in
// bounded memory. The type of an error says what went wrong, such as [*Error] or [*DecodeError]. No error holds
// credentials, whatever the server or a proxy sends back.
//
// Times in a [Query] are by the API's clock, which is [Client.Now].
//
// The package knows nothing of metrics; it has a hook for each request made.
package twilio

import (
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Status is the state of an operation. A status that the API does not document is passed on as it is, if IsName.
type Status string

// The documented statuses (Operations resource, CommunicationOperationStatus).
const (
	StatusScheduled  Status = "SCHEDULED"
	StatusProcessing Status = "PROCESSING"
	StatusCompleted  Status = "COMPLETED"
	StatusCanceled   Status = "CANCELED"
)

// StatusOther replaces a status that is not a name.
const StatusOther Status = "other"

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

// IsName reports whether a text can be an id or a status: at most 64 bytes of printable UTF-8. Names become labels, and
// some readers of those take a NUL or a line feed for the end.
func IsName(s string) bool {
	if s == "" || len(s) > maxText {
		return false
	}
	isDocumented := allOf(s, ' ', '~') // the fast path
	return isDocumented || IsPrintable(s)
}

// IsPrintable reports whether a text is UTF-8 of characters that can be seen. Others make one label look like another.
func IsPrintable(s string) bool {
	unprintable := func(r rune) bool { return !unicode.IsPrint(r) }
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unprintable)
}

// operationID is the documented pattern, but anchored at its end. The documented one would let a path through.
var operationID = regexp.MustCompile(`^comms_operation_[0-7][a-hjkmnpqrstv-z0-9]{25,34}$`)

// ValidOperationID reports whether id has the documented form.
func ValidOperationID(id string) bool { return operationID.MatchString(id) }
