package collector

import "twilio_operations_exporter/twilio"

// Stat is one of the twelve counts of an operation, as metrics name it.
type Stat struct {
	Name string // in the name of a metric, after its prefix
	Help string // what is counted
	Of   func(*twilio.Stats) int64

	grows   bool // there is a counter of its growth; the others are states that messages leave again
	outcome bool // a message can leave it for another
	named   bool // it is exported for failing and stuck operations
}

// Stats returns the table of the stats.
func Stats() []Stat { return stats[:] }

var stats = [...]Stat{
	{Name: "messages", Help: "Messages", grows: true, named: true, Of: func(s *twilio.Stats) int64 { return s.Total }},
	{Name: "recipients", Help: "Recipients", grows: true, Of: func(s *twilio.Stats) int64 { return s.Recipients }},
	{
		Name: "recipients_unaddressable", Help: "Recipients without an address that matches one of the sender's", grows: true,
		Of: func(s *twilio.Stats) int64 { return s.Unaddressable },
	},
	{
		Name: "attempts", Help: "Sending attempts, including those on a fallback channel", grows: true,
		Of: func(s *twilio.Stats) int64 { return s.Attempts },
	},
	{
		Name: "messages_scheduled", Help: "Messages to be sent in the future",
		Of: func(s *twilio.Stats) int64 { return s.Scheduled },
	},
	{Name: "messages_queued", Help: "Messages queued for sending", Of: func(s *twilio.Stats) int64 { return s.Queued }},
	{
		Name: "messages_sent", Help: "Messages sent, without a delivery receipt yet",
		Of: func(s *twilio.Stats) int64 { return s.Sent },
	},
	{
		Name: "messages_delivered", Help: "Messages delivered", grows: true, outcome: true, named: true,
		Of: func(s *twilio.Stats) int64 { return s.Delivered },
	},
	{
		Name: "messages_read", Help: "Messages read by their recipients", grows: true, outcome: true,
		Of: func(s *twilio.Stats) int64 { return s.Read },
	},
	{
		Name: "messages_undelivered", Help: "Messages sent but not delivered", grows: true, outcome: true, named: true,
		Of: func(s *twilio.Stats) int64 { return s.Undelivered },
	},
	{
		Name: "messages_failed", Help: "Messages that failed during processing", grows: true, outcome: true, named: true,
		Of: func(s *twilio.Stats) int64 { return s.Failed },
	},
	{
		Name: "messages_canceled", Help: "Messages canceled through the API", grows: true, outcome: true,
		Of: func(s *twilio.Stats) int64 { return s.Canceled },
	},
}
