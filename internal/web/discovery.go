package web

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/go-kit/log/level"

	"twilio_operations_exporter/internal/account"
	"twilio_operations_exporter/internal/sanitize"
	"twilio_operations_exporter/twilio"
)

// maxTargets is the most targets in an answer. Each scrape of a target costs an API request.
const maxTargets = 200

// targetGroup is a target group of Prometheus' HTTP service discovery:
// https://prometheus.io/docs/prometheus/latest/http_sd/
type targetGroup struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
	size    int64             // messages
}

// discoveryQuery selects operations in flight.
type discoveryQuery struct {
	account, status string // "" = any
	minMessages     int64
	limit           int
}

// operations serves the operations in flight as targets for /probe, the largest first. It leaves out accounts whose
// numbers are too old for /metrics. If none is left, it answers 503, which makes Prometheus keep its targets.
func (s *Server) operations(w http.ResponseWriter, r *http.Request) {
	list := s.accounts.List()
	q, err := newDiscoveryQuery(r.URL.RawQuery, list)
	if err != nil {
		writeText(w, http.StatusBadRequest, "%s", err)
		return
	}

	s.renderer.render(w, r, 0, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { s.targets(w, &q, list) }))
}

// targets answers with the operations that are asked for.
func (s *Server) targets(w http.ResponseWriter, q *discoveryQuery, list []*account.Account) {
	groups := []targetGroup{} // not null in JSON
	isCurrent := len(list) == 0
	for _, a := range list {
		status := a.Refresher.Status()
		if !q.selects(a) || !status.Current {
			continue
		}
		isCurrent = true
		groups = append(groups, q.targets(a.Name(), status.Snapshot.InFlight)...)
	}
	if !isCurrent {
		writeText(w, http.StatusServiceUnavailable, "There are no current numbers: no refresh has succeeded within --collector.max-age.")
		return
	}

	slices.SortStableFunc(groups, func(a, b targetGroup) int { return cmp.Compare(b.size, a.size) })
	groups = groups[:min(len(groups), q.limit)]

	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(groups); err != nil {
		level.Debug(s.logger).Log("msg", "error writing targets", "err", sanitize.OneLine(err.Error()))
	}
}

// selects reports whether the query selects an account.
func (q *discoveryQuery) selects(a *account.Account) bool {
	return q.account == "" || q.account == a.Name()
}

// targets returns the operations of an account that the query selects.
func (q *discoveryQuery) targets(name string, inFlight []*twilio.Operation) (groups []targetGroup) {
	for _, op := range inFlight {
		messages := op.Stats[twilio.Total]
		otherStatus := q.status != "" && q.status != string(op.Status)
		if messages < q.minMessages || otherStatus {
			continue
		}
		groups = append(groups, targetGroup{
			Targets: []string{op.ID},
			Labels: map[string]string{
				"__meta_twilio_account":  name,
				"__meta_twilio_status":   string(op.Status),
				"__meta_twilio_messages": strconv.FormatInt(messages, 10),
			},
			size: messages,
		})
	}
	return groups
}

// newDiscoveryQuery parses a query. Its error says what is expected.
func newDiscoveryQuery(query string, accounts []*account.Account) (discoveryQuery, error) {
	q := discoveryQuery{limit: maxTargets}
	values, err := url.ParseQuery(query)
	if err != nil {
		return q, fmt.Errorf("the query cannot be read: %w", err)
	}

	for name, value := range values {
		if len(value) != 1 {
			return q, fmt.Errorf("%s is given %d times: want it once", sanitize.Quote(name), len(value))
		}

		v := value[0]
		var ok bool
		var want string
		switch name {
		case "account":
			q.account = v
			ok = v == "" || slices.ContainsFunc(accounts, func(a *account.Account) bool { return a.Name() == v })
			want = "one of " + someNames(accounts)
		case "status":
			q.status = v
			ok = v == "" || twilio.Status(v).Live()
			want = fmt.Sprintf("%s or %s", twilio.StatusScheduled, twilio.StatusProcessing)
		case "min_messages":
			n, err := strconv.ParseInt(cmp.Or(v, "0"), 10, 64)
			q.minMessages = n
			ok = err == nil && n >= 0
			want = "a whole number of 0 or more"
		case "limit":
			n, err := strconv.Atoi(cmp.Or(v, strconv.Itoa(maxTargets)))
			q.limit = n
			ok = err == nil && n >= 1 && n <= maxTargets
			want = fmt.Sprintf("a whole number from 1 to %d", maxTargets)
		default:
			return q, fmt.Errorf("%s is unknown: want account, status, min_messages or limit", sanitize.Quote(name))
		}

		if !ok {
			return q, fmt.Errorf("%s %s: want %s", name, sanitize.Quote(v), want)
		}
	}
	return q, nil
}
