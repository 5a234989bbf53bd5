package twilio

// Resource names a list of operations of the API.
type Resource string

// The lists of operations that there are.
const (
	Messages Resource = "messages" // also what "" stands for
	Emails   Resource = "emails"
)

// resourceRow says what a resource is.
type resourceRow struct {
	path    string // of the resource, below the base URL
	Stats   *StatTable
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
func (r Resource) Stats() *StatTable { return r.row().Stats }
