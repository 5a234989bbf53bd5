package twilio

// Resource is a kind of operations, which the API lists by itself.
type Resource string

// The resources.
const (
	Messages Resource = "messages" // also if it is ""
	Emails   Resource = "emails"
)

// resourceRow describes a resource.
type resourceRow struct {
	path    string // below the base URL
	stats   *StatTable
	members []member // of an operation's stats
}

var (
	messagesRow = resourceRow{"Messages", &MessageStats, MessageStats.members()}
	emailsRow   = resourceRow{"Emails", &EmailStats, EmailStats.members()}
)

func (r Resource) row() *resourceRow {
	if r == Emails {
		return &emailsRow
	}
	return &messagesRow
}

// Stats returns the table of the stats of the resource's operations.
func (r Resource) Stats() *StatTable { return r.row().stats }
