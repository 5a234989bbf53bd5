// Package twilio reads Twilio's Message Operations: it pages through the list,
// fetches one operation, and keeps to the pace the API asks for. It knows
// nothing of metrics beyond telling a hook about each request it made.
package twilio

import (
	"regexp"
	"time"
)

// Status is the state of an operation. The API documents four; a status that
// is none of them is passed on as it came, if it has at most 64 bytes.
type Status string

// StatusOther stands for a status that is longer.
const StatusOther Status = "other"

// The documented statuses (Operations resource, CommunicationOperationStatus).
const (
	StatusScheduled  Status = "SCHEDULED"
	StatusProcessing Status = "PROCESSING"
	StatusCompleted  Status = "COMPLETED"
	StatusCanceled   Status = "CANCELED"
)

// Live reports whether an operation of this status is still on its way: its
// numbers are expected to change.
func (s Status) Live() bool {
	return s == StatusScheduled || s == StatusProcessing
}

// Stats are the twelve counts of an operation. They do not share one unit and
// need not add up (Operations resource, MessageOperationStats).
type Stats struct {
	Total         int64 // messages in the operation
	Recipients    int64 // recipients targeted
	Attempts      int64 // sending attempts; a fallback channel is another attempt
	Unaddressable int64 // recipients no attempt was made for
	Scheduled     int64 // messages to be sent in the future
	Queued        int64 // messages queued for sending
	Sent          int64 // messages sent
	Delivered     int64 // messages delivered
	Read          int64 // messages read
	Undelivered   int64 // messages sent, but not delivered
	Failed        int64 // messages failed during processing
	Canceled      int64 // messages canceled through the API
}

// Add adds each count of o.
func (s *Stats) Add(o *Stats) {
	s.Total += o.Total
	s.Recipients += o.Recipients
	s.Attempts += o.Attempts
	s.Unaddressable += o.Unaddressable
	s.Scheduled += o.Scheduled
	s.Queued += o.Queued
	s.Sent += o.Sent
	s.Delivered += o.Delivered
	s.Read += o.Read
	s.Undelivered += o.Undelivered
	s.Failed += o.Failed
	s.Canceled += o.Canceled
}

// Operation is one request to send messages to up to 10,000 recipients.
type Operation struct {
	ID        string
	Status    Status
	Stats     Stats
	CreatedAt time.Time
	UpdatedAt time.Time
}

// operationID is the documented pattern, closed at its end: the documentation
// leaves it open, and an open pattern would let a path through.
var operationID = regexp.MustCompile(`^comms_operation_[0-7][a-hjkmnpqrstv-z0-9]{25,34}$`)

// ValidOperationID reports whether id has the documented form.
func ValidOperationID(id string) bool {
	return operationID.MatchString(id)
}
