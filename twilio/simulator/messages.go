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

// MessageSettings decide how single messages are told of. The zero value is an API whose lists of messages filter and
// are up to date.
type MessageSettings struct {
	IgnoreOperation bool          // the list ignores operationId: it has the messages of all operations
	Lag             time.Duration // messages are shown as they stood this long ago, while stats are up to date
	NullErrors      bool          // an attempt without an error says "error": null, instead of nothing
	TextCodes       bool          // codes of errors are strings
	Refuse          int           // both endpoints of messages answer with this status; 0: they work
}

// Personal stands in each address and content of a simulated message, and nowhere else: who finds it has found personal
// data.
const Personal = "99900055"

// Messages of an operation are not stored: which of them have failed follows from its stats, and everything else from
// its id. Message i has failed if i is below the number of failed ones, and is undelivered if it is among so many last
// ones. As these numbers grow, no message comes back.

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

// maxMessages bounds the messages of an operation, whatever its stats say: their numbers are part of their ids.
const maxMessages = 1e9

// run is a run of messages of one status: from is the first, to follows the last.
type run struct {
	status   messageStatus
	from, to int64
}

// runs are the messages of an operation by status. Recipients without an address have none.
func runs(stats *twilio.Stats) []run {
	total := min(stats[twilio.Total], maxMessages)
	failed := min(stats[twilio.Failed], total)
	undelivered := min(stats[twilio.Undelivered], total-failed)

	first, last := failed, total-undelivered
	list := []run{{messageFailed, 0, first}}
	add := func(status messageStatus, messages int64) {
		end := first + min(messages, last-first)
		list = append(list, run{status, first, end})
		first = end
	}
	add(messageRead, stats[twilio.Read])
	withRead := stats[twilio.Total] - stats[twilio.Failed] - stats[twilio.Undelivered] - stats[twilio.Sent] -
		stats[twilio.Queued] - stats[twilio.Scheduled] - stats[twilio.Canceled] - stats[twilio.Unaddressable]
	add(messageDelivered, max(0, min(stats[twilio.Delivered], withRead-stats[twilio.Read])))
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

// messagesOf yields the messages of an operation that have a status, or all for none, from an index on.
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

// id is that of the operation, and the index. So it is unique, and tells where the message belongs.
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

// draws are random numbers that belong to the message.
func (m *message) draws() random {
	return newRandom(uint64(hash(m.op.ID)), streamMessage, uint64(m.index)) //nolint:gosec // hashed, not counted
}

// Tags of an operation's messages. All have the same: one request sends them.
func (m *message) tags() (campaign, team string) {
	campaigns := []string{"spring", "newsletter", "reminder", "receipts", "welcome", "winback", "loyalty", "survey"}
	teams := []string{"growth", "crm", "support", "billing"}
	r := newRandom(uint64(hash(m.op.ID)), streamTags) //nolint:gosec // hashed, not counted
	return campaigns[r.next()%uint64(len(campaigns))], teams[r.next()%uint64(len(teams))]
}

// recipient is the address of the message's recipient.
func (m *message) recipient() string {
	r := m.draws()
	digits := strconv.FormatUint(r.next()%1e7+1e7, 10)[1:]
	return "+" + Personal + digits
}

// content is what the message says, to the recipient by name.
func (m *message) content() string {
	return "Dear " + m.recipient() + ", this is only for you."
}

const senderAddress = "+" + Personal + "0000000"

// attempt is one attempt to send a message.
type attempt struct {
	channel string
	status  messageStatus
	error   int // Twilio's code; 0: none
}

// errorTexts are the messages that come with the codes of errors.
var errorTexts = map[int]string{
	30003: "Unreachable destination handset",
	30005: "Unknown destination handset",
	30007: "Message filtered",
	61337: "Recipient is not reachable by RCS",
}

// reasons are the codes with which messages end, and how often each does. What remains ends without one.
type reasons []struct {
	code  int
	share float64
}

// reasonsOf fit the trouble: a campaign that fails has been filtered by the carriers, one that is not delivered meets
// phones that are off, as in an outage.
var reasonsOf = map[messageStatus]reasons{
	messageFailed:      {{30007, 0.8}, {30005, 0.1}},
	messageUndelivered: {{30003, 0.7}, {30005, 0.2}},
}

func (r reasons) pick(draw float64) (code int) {
	for _, reason := range r {
		if draw < reason.share {
			return reason.code
		}
		draw -= reason.share
	}
	return 0
}

// attempts are those made, in their order. Where the operation's stats have second attempts, the first of that share of
// its messages was by RCS, which the recipient does not have.
func (m *message) attempts() []attempt {
	switch m.status {
	case messageQueued, messageScheduled, messageCanceled:
		return nil
	}
	r := m.draws()
	reason, fallback := r.float(), r.float()

	var list []attempt
	if fallback < fallbackShare(&m.op.Stats) {
		list = append(list, attempt{"RCS", messageFailed, 61337})
	}
	last := attempt{channel: "SMS", status: m.status, error: reasonsOf[m.status].pick(reason)}
	return append(list, last)
}

// fallbackShare is the share of the messages sent that took a second attempt.
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
	operation string // "": those of all
	status    messageStatus
	filter    Filter // of the operations
	size      int
	token     token // of the page: After.ID is the operation of the last message before it, After.Sort its index
}

// messages returns the page that is asked for, and the token of the next one, nil if there is none.
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

// allMessages yields what the query selects, from its token on: the newest operation's first, by index within one.
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
			q.filter.To = last.CreatedAt.Add(time.Millisecond) // what is newer was read
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

// message finds one message.
func (h *Handler) message(id string) (message, bool) {
	operation, index, ok := parseMessageID(id)
	if !ok {
		return message{}, false
	}
	op, ok := h.source.Operation(h.s.Now().Add(-h.s.Messages.Lag), operation)
	if !ok {
		return message{}, false
	}
	for m := range messagesOf(&op, "", index) {
		return m, m.index == index
	}
	return message{}, false
}
