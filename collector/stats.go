package collector

import "twilio_operations_exporter/twilio"

// Stat is one of the twelve counts of an operation, as metrics name it.
type Stat struct {
	Name string // in the name of a metric, after its prefix
	Help string // what is counted
	Of   func(*twilio.Stats) int64

	// grows says that there is a counter of the stat's growth. The others are
	// states that messages leave again.
	grows bool
	// outcome says that a message can leave it for another.
	outcome bool
}

// Stats returns the table of the stats.
func Stats() []Stat { return stats[:] }

var stats = [...]Stat{
	{"messages", "Messages in operations", func(s *twilio.Stats) int64 { return s.Total }, true, false},
	{"recipients", "Recipients targeted", func(s *twilio.Stats) int64 { return s.Recipients }, true, false},
	{
		"recipients_unaddressable", "Recipients no attempt was made for, as no address of theirs matches one of the sender's",
		func(s *twilio.Stats) int64 { return s.Unaddressable }, true, false,
	},
	{
		"attempts", "Attempts to send, where a fallback channel is another attempt",
		func(s *twilio.Stats) int64 { return s.Attempts }, true, false,
	},
	{"messages_scheduled", "Messages to be sent in the future", func(s *twilio.Stats) int64 { return s.Scheduled }, false, false},
	{"messages_queued", "Messages queued for sending", func(s *twilio.Stats) int64 { return s.Queued }, false, false},
	{"messages_sent", "Messages sent", func(s *twilio.Stats) int64 { return s.Sent }, false, false},
	{"messages_delivered", "Messages delivered", func(s *twilio.Stats) int64 { return s.Delivered }, true, true},
	{"messages_read", "Messages read by their recipients", func(s *twilio.Stats) int64 { return s.Read }, true, true},
	{"messages_undelivered", "Messages sent but not delivered", func(s *twilio.Stats) int64 { return s.Undelivered }, true, true},
	{"messages_failed", "Messages that failed during processing", func(s *twilio.Stats) int64 { return s.Failed }, true, true},
	{"messages_canceled", "Messages canceled through the API", func(s *twilio.Stats) int64 { return s.Canceled }, true, true},
}

// growing are the stats that have a counter.
var growing = func() (rows [9]*Stat) {
	n := 0
	for i := range stats {
		if stats[i].grows {
			rows[n] = &stats[i]
			n++
		}
	}
	return rows
}()

// growth holds a number for each growing stat.
type growth [len(growing)]int64

func (g *growth) add(s *twilio.Stats) {
	for i, stat := range growing {
		g[i] += stat.Of(s)
	}
}
