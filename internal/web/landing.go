package web

import (
	"crypto/sha256"
	_ "embed" // the page's style and template
	"encoding/base64"
	"fmt"
	"html/template"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-kit/log/level"
	"github.com/prometheus/common/version"

	"twilio_operations_exporter/collector"
	"twilio_operations_exporter/collector/window"
	"twilio_operations_exporter/internal/sanitize"
	"twilio_operations_exporter/twilio"
)

var (
	//go:embed landing.css
	landingCSS string
	//go:embed landing.html
	landingHTML string

	landingTemplate = template.Must(template.New("landing").Parse(landingHTML))
	landingPolicy   = contentSecurityPolicy(landingCSS)
)

// openAccounts is the highest number of accounts whose details are unfolded.
const openAccounts = 3

// contentSecurityPolicy allows the page its own style and nothing else.
func contentSecurityPolicy(css string) string {
	sum := sha256.Sum256([]byte(css))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}

// landing serves the page. It is rendered in turn with scrapes: with thousands of accounts it is as large as theirs.
func (s *Server) landing(w http.ResponseWriter, r *http.Request) {
	s.renderer.render(w, r, len(s.accounts.List()), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", landingPolicy)
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Cache-Control", "no-store")
		h.Set("Referrer-Policy", "no-referrer")
		if err := landingTemplate.Execute(w, s.page(time.Now())); err != nil {
			level.Error(s.logger).Log("msg", "error rendering the landing page", "err", err)
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
}

// The data of the template, formatted as text.
type (
	pageView struct {
		Now, Started, Uptime, Version, Metrics string
		Waiting, FailedReload                  string
		Style                                  template.CSS
		States                                 []stateCount
		Accounts                               []accountView
		Open, Profiles                         bool
	}
	stateCount struct {
		State collector.State
		Count int
	}
	accountView struct {
		Name, StateText, LastSuccess, Window, Requests, Next string
		State                                                collector.State
		Error, Remedy                                        string
		Age                                                  string
		Stale                                                bool
		All                                                  statusView
		Statuses                                             []statusView
		Failing, Stuck                                       []operationView
	}
	statusView struct {
		Status                         twilio.Status
		Operations, Failing, Messages  string
		Delivered, Undelivered, Failed string
	}
	operationView struct {
		ID, Probe                           string
		Status                              twilio.Status
		Created, Updated                    string
		Messages, Undelivered, Failed, Lost string
	}
)

func (s *Server) page(now time.Time) pageView {
	list := s.accounts.List()
	p := pageView{
		Now: now.UTC().Format("2006-01-02 15:04:05 UTC"), Started: clock(s.started, now), Uptime: ago(now.Sub(s.started)),
		Version: version.Info(), Metrics: strings.TrimPrefix(s.settings.TelemetryPath, "/"),
		Style: template.CSS(landingCSS), //nolint:gosec // G203: a constant
		Open:  len(list) <= openAccounts, Profiles: s.settings.EnablePprof,
	}
	if waiting := s.accounts.Waiting(); len(waiting) > 0 {
		names := make([]string, len(waiting))
		for i, a := range waiting {
			names[i] = a.Name()
		}
		p.Waiting = someNames(names)
	}
	if failed := s.accounts.FailedReload(); failed != nil {
		p.FailedReload = fmt.Sprintf("The reload at %s failed, the configuration before it is in use: %s",
			clock(failed.At, now), sanitize.OneLine(failed.Err.Error()))
	}
	counts := map[collector.State]int{}
	for _, a := range list {
		status := a.Refresher.Status()
		view := newAccountView(a.Refresher.Settings(), &status, now)
		counts[view.State]++
		p.Accounts = append(p.Accounts, view)
	}
	for _, state := range []collector.State{
		collector.StateFailing, collector.StateThrottled, collector.StateStarting,
		collector.StateReading, collector.StateFresh,
	} {
		if n := counts[state]; n > 0 {
			p.States = append(p.States, stateCount{state, n})
		}
	}
	return p
}

func newAccountView(settings collector.Settings, status *collector.Status, now time.Time) accountView {
	v := accountView{
		Name: settings.Account, State: status.State, StateText: stateText(status, now),
		LastSuccess: "none yet", Window: ago(settings.Window), Requests: number(status.Requests),
		Next: "at the next scrape", All: statusView{Operations: "–", Messages: "–", Delivered: "–", Undelivered: "–", Failed: "–"},
	}
	if settings.Interval > 0 {
		v.Next = "now"
		if wait := status.NextRefresh.Sub(now); wait > 0 {
			v.Next = "in " + ago(wait)
		}
	}
	if !status.Succeeded.IsZero() {
		v.Age = ago(now.Sub(status.Succeeded))
		v.LastSuccess = v.Age + " ago, " + clock(status.Succeeded, now)
	}
	if status.Err != nil {
		v.Error, v.Remedy = sanitize.OneLine(status.Err.Error()), status.Reason.Remedy
	}
	if status.Snapshot == nil {
		return v
	}
	v.Stale = !status.Current
	var all window.StatusSums
	for i := range status.Snapshot.Statuses {
		sums := &status.Snapshot.Statuses[i]
		all.Operations += sums.Operations
		all.Failing += sums.Failing
		all.Stats.Add(&sums.Stats)
		v.Statuses = append(v.Statuses, newStatusView(sums))
	}
	v.All = newStatusView(&all)
	v.Failing = operationViews(settings.Account, status.Snapshot.Failing, now)
	v.Stuck = operationViews(settings.Account, status.Snapshot.Stuck, now)
	return v
}

// newStatusView has shares as dashboards and alerts have them: of the messages with an outcome, where a message that
// was read had been delivered.
func newStatusView(sums *window.StatusSums) statusView {
	delivered := max(sums.Stats.Delivered, sums.Stats.Read)
	outcomes := twilio.AddSaturating(delivered, window.Lost(&sums.Stats))
	return statusView{
		Status: sums.Status, Operations: number(sums.Operations), Failing: number(sums.Failing),
		Messages:    number(sums.Stats.Total),
		Delivered:   numberAndPercent(delivered, outcomes),
		Undelivered: numberAndPercent(sums.Stats.Undelivered, outcomes),
		Failed:      numberAndPercent(sums.Stats.Failed, outcomes),
	}
}

func operationViews(account string, ops []*twilio.Operation, now time.Time) []operationView {
	views := make([]operationView, len(ops))
	for i, op := range ops {
		views[i] = operationView{
			ID: op.ID, Probe: "probe?" + url.Values{"account": {account}, "target": {op.ID}}.Encode(), Status: op.Status,
			Created: ago(now.Sub(op.CreatedAt)), Updated: ago(now.Sub(op.UpdatedAt)),
			Messages:    number(op.Stats.Total),
			Undelivered: number(op.Stats.Undelivered),
			Failed:      number(op.Stats.Failed),
			Lost:        percent(window.Lost(&op.Stats), op.Stats.Total),
		}
	}
	return views
}

// stateText is the state in words.
func stateText(s *collector.Status, now time.Time) string {
	switch s.State {
	case collector.StateFailing:
		return fmt.Sprintf("failing since %s (%s)", clock(s.FailingSince, now), ago(now.Sub(s.FailingSince)))
	case collector.StateThrottled:
		return "throttled by Twilio until " + clock(s.RetryAt, now)
	case collector.StateReading:
		if s.PagesExpected > 0 {
			return fmt.Sprintf("first read %d%%", min(99, 100*s.PagesRead/s.PagesExpected))
		}
		return "first read"
	default:
		return string(s.State)
	}
}

// clock writes a time of the day of now without the date.
func clock(t, now time.Time) string {
	t, now = t.UTC(), now.UTC()
	if t.YearDay() == now.YearDay() && t.Year() == now.Year() {
		return t.Format("15:04:05 UTC")
	}
	return t.Format("2006-01-02 15:04:05 UTC")
}

// ago writes a duration in its two largest units.
func ago(d time.Duration) string {
	d = max(0, d).Round(time.Second)
	days, hours, minutes, secs := d/(24*time.Hour), d/time.Hour%24, d/time.Minute%60, d/time.Second%60
	two := func(a time.Duration, unit string, b time.Duration, next string) string {
		if b == 0 {
			return fmt.Sprintf("%d%s", a, unit)
		}
		return fmt.Sprintf("%d%s %d%s", a, unit, b, next)
	}
	switch {
	case days > 0:
		return two(days, "d", hours, "h")
	case hours > 0:
		return two(hours, "h", minutes, "m")
	case minutes > 0:
		return two(minutes, "m", secs, "s")
	default:
		return fmt.Sprintf("%ds", secs)
	}
}

// number writes n with commas between the thousands.
func number(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// percent writes part of total in percent. It is 0% or 100% only where that is exact.
func percent(part, total int64) string {
	if total <= 0 {
		return "–"
	}
	p := 100 * float64(part) / float64(total)
	switch rounded := math.Round(p*10) / 10; {
	case rounded == 0 && part > 0:
		return "<0.1%"
	case rounded == 100 && part < total:
		return ">99.9%"
	default:
		return strconv.FormatFloat(rounded, 'f', -1, 64) + "%"
	}
}

func numberAndPercent(part, total int64) string {
	if part == 0 {
		return "0"
	}
	return number(part) + " (" + percent(part, total) + ")"
}
