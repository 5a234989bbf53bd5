package simulator

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"time"

	"twilio_operations_exporter/twilio"
)

// query is a request for a list of operations.
type query struct {
	filter Filter
	size   int
	token  token // of the page
}

// parameters are the parameters of a request for a list. Unknown ones are ignored.
type parameters struct {
	values url.Values
	wrong  string // the first invalid one, "" if there is none
}

func parseParameters(raw string) *parameters {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return &parameters{wrong: "query"}
	}
	return &parameters{values: values}
}

// read calls use with the value of a parameter, if it is given. The parameter is invalid if it is given twice, or if
// use returns false.
func (p *parameters) read(name string, use func(value string) bool) {
	given := p.values[name]
	if p.wrong != "" || len(given) == 0 {
		return
	}
	if len(given) > 1 || !use(given[0]) {
		p.wrong = name
	}
}

// oneOf reads a parameter that must have one of these values. If it is not given, the result is "".
func oneOf[T ~string](p *parameters, name string, values ...T) (found T) {
	p.read(name, func(value string) bool {
		found = T(value)
		return slices.Contains(values, found)
	})
	return found
}

// date reads a time. A date alone, as in the example in the reference, means midnight UTC.
func (p *parameters) date(name string) (t time.Time) {
	p.read(name, func(value string) bool {
		for _, layout := range []string{time.RFC3339, time.DateOnly} {
			parsed, err := time.Parse(layout, value)
			if err == nil {
				t = parsed.UTC()
				return true
			}
		}
		return false
	})
	return t
}

// pageSize reads the page size: 1 to 1000, 50 by default.
func (p *parameters) pageSize() int {
	size := 50
	p.read("pageSize", func(value string) bool {
		parsed, err := strconv.Atoi(value)
		size = parsed
		return err == nil && size >= 1 && size <= 1000
	})
	return size
}

// pageToken reads the token of a page, which must be of a list with these filters.
func (p *parameters) pageToken(list *ListSettings, filters string) token {
	t := token{Filters: filters}
	p.read("pageToken", func(value string) bool {
		decoded, err := list.decodeToken(value)
		t = decoded
		return err == nil && decoded.Filters == filters
	})
	return t
}

// parse parses a request for a list of operations. It returns the first invalid parameter, or "".
func (s *ListSettings) parse(raw string) (q query, wrong string) {
	p := parseParameters(raw)
	start := p.date("startDate")
	end := p.date("endDate")
	q.filter.Status = oneOf(p, "status",
		twilio.StatusScheduled, twilio.StatusProcessing, twilio.StatusCompleted, twilio.StatusCanceled)
	q.filter.From, q.filter.To = s.Bounds.span(start, end)
	q.size = p.pageSize()

	filters := fmt.Sprint(start.UnixMicro(), end.UnixMicro(), q.filter.Status)
	q.token = p.pageToken(s, filters)
	return q, p.wrong
}

// parseMessages parses a request for a list of messages. It returns the first invalid parameter, or "".
func (s *ListSettings) parseMessages(raw string) (q messageQuery, wrong string) {
	p := parseParameters(raw)
	start := p.date("startDate")
	end := p.date("endDate")
	p.read("operationId", func(value string) bool {
		q.operation = value
		return twilio.ValidOperationID(value)
	})
	q.status = oneOf(p, "status",
		messageScheduled, messageQueued, messageSent, messageDelivered, messageRead, messageUndelivered, messageFailed,
		messageCanceled, messageGroup, messageInbound)
	q.filter.From, q.filter.To = s.Bounds.span(start, end)
	q.size = p.pageSize()

	filters := fmt.Sprint(start.UnixMicro(), end.UnixMicro(), q.operation, q.status)
	q.token = p.pageToken(s, filters)
	return q, p.wrong
}
