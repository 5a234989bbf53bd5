package twilio

import "math"

// Stat is the index of a count in Stats.
type Stat int

// The counts of an operation, in the order of the reference (Operations resource, MessageOperationStats). They count
// different things and need not add up.
const (
	Total         Stat = iota // messages in the operation
	Recipients                // recipients targeted
	Attempts                  // sending attempts; a fallback channel is another attempt
	Unaddressable             // recipients no attempt was made for
	Queued                    // messages queued for sending
	Sent                      // messages sent
	Scheduled                 // messages to be sent in the future
	Delivered                 // messages delivered
	Read                      // messages read
	Undelivered               // messages sent, but not delivered
	Failed                    // messages failed during processing
	Canceled                  // messages canceled through the API

	numStats
)

// Stats are the counts of an operation, or sums of them, by Stat.
type Stats [numStats]int64

// Add adds each count of o, as AddSaturating does.
func (s *Stats) Add(o *Stats) {
	for i := range s {
		s[i] = AddSaturating(s[i], o[i])
	}
}

// AddSaturating adds two counts. A sum that overflows is math.MaxInt64, so absurd counts never add up to a negative
// number.
func AddSaturating(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// StatRow describes a stat to all code that reads, sums, exports or draws it.
type StatRow struct {
	JSON string // member of an operation's stats; "" if the resource has no such stat
	Name string // in metric names, after the prefix
	Help string // what is counted

	Optional bool // the member may be absent, which means 0

	Grows   bool // there is a counter of its growth
	Outcome bool // a message may go from it to another outcome: the counter counts it for both
	Lost    bool // its messages will not arrive
	Named   bool // it is exported for failing and stuck operations
}

// StatTable holds the row of each stat of a resource.
type StatTable [numStats]StatRow

// MessageStats is the table of message operations.
var MessageStats = StatTable{
	Total: {
		JSON: "total", Name: "messages", Help: "Messages or e-mails",
		Grows: true, Named: true,
	},
	Recipients: {
		JSON: "recipients", Name: "recipients", Help: "Recipients",
		Grows: true,
	},
	Attempts: {
		JSON: "attempts", Name: "attempts", Help: "Sending attempts, including those on a fallback channel",
		Grows: true,
	},
	Unaddressable: {
		JSON: "unaddressable", Name: "recipients_unaddressable",
		Help:  "Recipients without an address that matches one of the sender's",
		Grows: true,
	},
	Queued: {
		JSON: "queued", Name: "messages_queued", Help: "Messages or e-mails queued for sending",
	},
	Sent: {
		JSON: "sent", Name: "messages_sent",
		Help: "Messages sent, without a delivery receipt yet; e-mails sent, which may include those delivered",
	},
	Scheduled: {
		JSON: "scheduled", Name: "messages_scheduled", Help: "Messages or e-mails to be sent in the future",
	},
	Delivered: {
		JSON: "delivered", Name: "messages_delivered", Help: "Messages or e-mails delivered",
		Grows: true, Outcome: true, Named: true,
	},
	Read: {
		JSON: "read", Name: "messages_read", Help: "Messages read by their recipients, or e-mails opened",
		Grows: true, Outcome: true,
	},
	Undelivered: {
		JSON: "undelivered", Name: "messages_undelivered", Help: "Messages or e-mails sent but not delivered",
		Grows: true, Outcome: true, Lost: true, Named: true,
	},
	Failed: {
		JSON: "failed", Name: "messages_failed", Help: "Messages or e-mails that failed during processing",
		Grows: true, Outcome: true, Lost: true, Named: true,
	},
	Canceled: {
		JSON: "canceled", Name: "messages_canceled", Help: "Messages or e-mails canceled through the API",
		Grows: true, Outcome: true,
	},
}

// EmailStats is the table of e-mail operations, which have `opened` instead of `read` and no `unaddressable`. One of
// the two examples in the reference leaves out recipients and attempts.
var EmailStats = emailStats()

func emailStats() StatTable {
	t := MessageStats
	t[Unaddressable] = StatRow{}
	t[Recipients].Optional = true
	t[Attempts].Optional = true
	t[Read].JSON = "opened"
	return t
}

// members returns the members of an operation's stats.
func (t *StatTable) members() []member {
	var members []member
	for _, row := range t {
		if row.JSON != "" {
			members = append(members, member{row.JSON, row.Optional})
		}
	}
	return members
}
