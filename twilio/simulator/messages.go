package simulator

import (
	"fmt"
	"iter"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"twilio_operations_exporter/twilio"
)

// MessageSettings decide what the reference leaves open about messages. The zero value is an API whose lists of
// messages filter and are up to date.
type MessageSettings struct {
	IgnoreOperation bool          // the list ignores operationId: it has the messages of all operations
	Lag             time.Duration // messages are as they were this long ago, while stats are up to date
	NullErrors      bool          // an attempt without an error has "error": null instead of nothing
	TextCodes       bool          // error codes are strings
	Refuse          int           // both endpoints of messages answer with this status; 0 = they work
}

// Personal is in each address and each content of a simulated message, and nowhere else. So where it is, there is
// personal data.
const Personal = "99900055"

// The messages of an operation are not stored: which of them are lost follows from its stats, and everything else from
// its id. The first ones are the failed ones and the last ones the undelivered ones, as many as the stats say. As these
// numbers only grow, a lost message stays lost.

// messageStatus is the state of a message (Messages resource).
type messageStatus string

const (
	messageFailed      messageStatus = "FAILED"
	messageUndelivered messageStatus = "UNDELIVERED"
	messageRead        messageStatus = "READ"
	messageDelivered   messageStatus = "DELIVERED"
	messageSent        messageStatus = "SENT"
	messageGroup       messageStatus = "GROUP"
	messageQueued      messageStatus = "QUEUED"
	messageScheduled   messageStatus = "SCHEDULED"
	messageCanceled    messageStatus = "CANCELED"
	messageInbound     messageStatus = "INBOUND" // occurs in no operation
)

// maxMessages bounds the messages of an operation, whatever its stats say, as their ids have 9 digits for the index.
const maxMessages = 1e9

// run is a run of messages with one status, from the index from up to but not including to.
type run struct {
	status   messageStatus
	from, to int64
}

// runs returns the messages of an operation by status. There are none for recipients without an address.
func runs(stats *twilio.Stats) []run {
	total := min(stats[twilio.Total], maxMessages)
	failed := min(stats[twilio.Failed], total)
	undelivered := min(stats[twilio.Undelivered], total-failed)

	first := failed
	last := total - undelivered
	list := []run{{messageFailed, 0, first}}
	add := func(status messageStatus, messages int64) {
		end := first + min(messages, last-first)
		list = append(list, run{status, first, end})
		first = end
	}

	add(messageRead, stats[twilio.Read])
	// The stat delivered may include those read.
	arrived := stats[twilio.Total] - stats[twilio.Failed] - stats[twilio.Undelivered] - stats[twilio.Sent] -
		stats[twilio.Queued] - stats[twilio.Scheduled] - stats[twilio.Canceled] - stats[twilio.Unaddressable]
	add(messageDelivered, max(0, min(stats[twilio.Delivered], arrived-stats[twilio.Read])))
	add(messageSent, stats[twilio.Sent])
	add(messageQueued, stats[twilio.Queued])
	add(messageScheduled, stats[twilio.Scheduled])
	add(messageCanceled, stats[twilio.Canceled])
	add(messageGroup, max(0, last-first-stats[twilio.Unaddressable]))
	return append(list, run{messageUndelivered, last, total})
}

// messageID is the documented pattern.
var messageID = regexp.MustCompile(`^comms_message_[0-7][a-hjkmnpqrstv-z0-9]{25,34}$`)

// message is one message of an operation.
type message struct {
	op     *twilio.Operation
	index  int64
	status messageStatus
}

// messagesOf yields the messages of an operation with a status, "" being any, from an index on.
func messagesOf(op *twilio.Operation, status messageStatus, from int64) iter.Seq[message] {
	return func(yield func(message) bool) {
		for _, run := range runs(&op.Stats) {
			if status != "" && run.status != status {
				continue
			}
			for i := max(run.from, from); i < run.to; i++ {
				if !yield(message{op, i, run.status}) {
					return
				}
			}
		}
	}
}

const (
	messagePrefix = "comms_message_"
	indexDigits   = 9 // of an index in a message's id
)

// id returns an id made of the operation's and the index, so it is unique, and the message can be found by it.
func (m *message) id() string {
	return fmt.Sprintf("%s%s%0*d", messagePrefix, strings.TrimPrefix(m.op.ID, idPrefix), indexDigits, m.index)
}

// parseMessageID returns the operation and the index in a message's id.
func parseMessageID(id string) (operation string, index int64, ok bool) {
	rest, ok := strings.CutPrefix(id, messagePrefix)
	cut := len(rest) - indexDigits
	if !ok || cut <= 0 {
		return "", 0, false
	}
	index, err := strconv.ParseInt(rest[cut:], 10, 64)
	return idPrefix + rest[:cut], index, err == nil && index >= 0
}

// draws returns random numbers of the message's own.
func (m *message) draws() random {
	return newRandom(uint64(hash(m.op.ID)), streamMessage, uint64(m.index)) //nolint:gosec // hashed, not counted
}

// tags returns the tags of the message. All messages of an operation have the same, as one request sends them.
func (m *message) tags() (campaign, team string) {
	campaigns := []string{"spring", "newsletter", "reminder", "receipts", "welcome", "winback", "loyalty", "survey"}
	teams := []string{"growth", "crm", "support", "billing"}

	r := newRandom(uint64(hash(m.op.ID)), streamTags) //nolint:gosec // hashed, not counted
	campaign = campaigns[r.next()%uint64(len(campaigns))]
	team = teams[r.next()%uint64(len(teams))]
	return campaign, team
}

// recipient returns the address of the message's recipient.
func (m *message) recipient() string {
	r := m.draws()
	digits := strconv.FormatUint(r.next()%1e7+1e7, 10)[1:]
	return "+" + Personal + digits
}

// content returns the text of the message, which addresses the recipient.
func (m *message) content() string {
	return "Dear " + m.recipient() + ", this is only for you."
}

const senderAddress = "+" + Personal + "0000000"

// attempt is one attempt to send a message.
type attempt struct {
	channel string
	status  messageStatus
	error   int // Twilio's code; 0 = none
}

// errorTexts are Twilio's texts for error codes.
var errorTexts = map[int]string{
	30003: "Unreachable destination handset",
	30005: "Unknown destination handset",
	30007: "Message filtered",
	61337: "Recipient is not reachable by RCS",
}

// reasons are error codes of lost messages with their shares. The remaining messages have no code.
type reasons []struct {
	code  int
	share float64
}

// reasonsOf are the reasons by status. They fit the kinds of trouble: failed messages were filtered by carriers, and
// undelivered ones met phones that were off, as in an outage.
var reasonsOf = map[messageStatus]reasons{
	messageFailed:      {{30007, 0.8}, {30005, 0.1}},
	messageUndelivered: {{30003, 0.7}, {30005, 0.2}},
}

// pick returns the code for a random number in [0, 1), 0 for none.
func (r reasons) pick(draw float64) (code int) {
	for _, reason := range r {
		if draw < reason.share {
			return reason.code
		}
		draw -= reason.share
	}
	return 0
}

// attempts returns the attempts made, the oldest first. The share of messages that took a second attempt follows from
// the operation's stats. Their first attempt was by RCS, which the recipient does not have.
func (m *message) attempts() []attempt {
	switch m.status {
	case messageQueued, messageScheduled, messageCanceled:
		return nil
	}

	r := m.draws()
	reason := r.float()
	fallback := r.float()

	var list []attempt
	if fallback < fallbackShare(&m.op.Stats) {
		list = append(list, attempt{"RCS", messageFailed, 61337})
	}
	last := attempt{channel: "SMS", status: m.status, error: reasonsOf[m.status].pick(reason)}
	return append(list, last)
}

// fallbackShare returns the share of the messages sent that took a second attempt.
func fallbackShare(stats *twilio.Stats) float64 {
	sent := stats[twilio.Total] - stats[twilio.Unaddressable] - stats[twilio.Queued] - stats[twilio.Scheduled] -
		stats[twilio.Canceled]
	if sent <= 0 {
		return 0
	}
	return math.Max(0, float64(stats[twilio.Attempts]-sent)/float64(sent))
}

// messageQuery is a request for a list of messages.
type messageQuery struct {
	operation string        // "" = any
	status    messageStatus // "" = any
	filter    Filter        // of operations
	size      int
	token     token // of the page: After has the operation and the index of the last message before it
}

// messages returns the page asked for and the token of the next one, nil if there is none.
func (h *Handler) messages(q messageQuery) ([]message, *token) {
	if q.token.Empty {
		next := q.token
		next.Empty = false
		return nil, &next
	}

	size := q.size
	if h.s.List.PageCap > 0 {
		size = min(size, h.s.List.PageCap)
	}

	found := make([]message, 0, min(size, 1000))
	for m := range h.allMessages(q) {
		if len(found) < size {
			found = append(found, m)
			continue
		}
		last := &found[size-1]
		after := key{Sort: last.index, ID: last.op.ID}
		return found, &token{After: after, Empty: h.s.List.EmptyPages, Filters: q.token.Filters}
	}
	return found, nil
}

// allMessages yields the messages that a query selects, from its token on: by operation, the newest first, and by
// index.
func (h *Handler) allMessages(q messageQuery) iter.Seq[message] {
	return func(yield func(message) bool) {
		skipping := q.token.After.ID != ""
		for op := range h.operationsOfMessages(q) {
			from := int64(0)
			if skipping {
				if op.ID != q.token.After.ID {
					continue
				}
				skipping = false
				from = q.token.After.Sort + 1
			}

			for m := range messagesOf(&op, q.status, from) {
				if !yield(m) {
					return
				}
			}
		}
	}
}

// operationsOfMessages yields the operations whose messages a query selects, the newest first.
func (h *Handler) operationsOfMessages(q messageQuery) iter.Seq[twilio.Operation] {
	now := h.s.Now().Add(-h.s.Messages.Lag)
	if q.operation == "" || h.s.Messages.IgnoreOperation {
		if last, ok := h.source.Operation(now, q.token.After.ID); ok {
			q.filter.To = last.CreatedAt.Add(time.Millisecond) // newer ones were on earlier pages
		}
		return h.source.List(now, q.filter, true)
	}

	return func(yield func(twilio.Operation) bool) {
		op, ok := h.source.Operation(now, q.operation)
		if ok && !op.CreatedAt.After(now) {
			yield(op)
		}
	}
}

// message finds a message by its id.
func (h *Handler) message(id string) (message, bool) {
	operation, index, ok := parseMessageID(id)
	if !ok {
		return message{}, false
	}
	now := h.s.Now().Add(-h.s.Messages.Lag)
	op, ok := h.source.Operation(now, operation)
	if !ok {
		return message{}, false
	}

	for m := range messagesOf(&op, "", index) {
		return m, m.index == index
	}
	return message{}, false
}
