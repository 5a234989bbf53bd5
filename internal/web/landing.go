package web

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // the page's style and template
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/go-kit/log/level"
	"github.com/prometheus/common/version"
	toolkit "github.com/prometheus/exporter-toolkit/web"

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

// landing serves exporter-toolkit's landing page with the accounts in it. The
// toolkit does not escape its input: everything that is not constant goes through
// html/template first.
func (s *Server) landing(w http.ResponseWriter, r *http.Request) {
	var accounts bytes.Buffer
	err := landingTemplate.Execute(&accounts, s.page(time.Now()))
	var page *toolkit.LandingPageHandler
	if err == nil {
		page, err = toolkit.NewLandingPage(toolkit.LandingConfig{
			Name:        "Twilio Operations Exporter",
			Description: "Twilio's message operations by status, for Prometheus",
			Version:     template.HTMLEscapeString(version.Info()),
			CSS:         landingCSS,
			Links:       s.links(),
			ExtraHTML:   accounts.String(),
			Profiling:   "false", // linked where it is enabled
		})
	}
	if err != nil {
		level.Error(s.logger).Log("msg", "error rendering the landing page", "err", err)
		writeText(w, http.StatusInternalServerError, "The page could not be rendered, see the log.")
		return
	}
	w.Header().Set("Content-Security-Policy", landingPolicy)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer")
	// The toolkit's page has no doctype, without which browsers use quirks mode.
	if _, err := io.WriteString(w, "<!DOCTYPE html>\n"); err == nil {
		page.ServeHTTP(w, r)
	}
}

func (s *Server) links() []toolkit.LandingLinks {
	links := []toolkit.LandingLinks{
		{Address: s.settings.TelemetryPath, Text: "Metrics"},
		{Address: "/-/healthy", Text: "Health", Description: "whether the refresh loops are running"},
		{Address: "/-/ready", Text: "Readiness", Description: "whether every account has been read"},
	}
	if s.settings.EnablePprof {
		links = append(links, toolkit.LandingLinks{Address: "/debug/pprof/", Text: "Profiles"})
	}
	return links
}

// The data of the template, formatted as text.
type (
	pageView struct {
		Now, Started, Uptime string
		States               []stateCount
		Accounts             []accountView
		Open                 bool
	}
	stateCount struct {
		State collector.State
		Count int
	}
	accountView struct {
		Name, StateText, LastSuccess, Window, Requests, Next string
		State                                                collector.State
		Error, Remedy                                        string
		Operations, Messages, Shares                         string
		Age                                                  string
		Stale                                                bool
		Statuses                                             []statusView
		Worst, Untouched                                     []operationView
	}
	statusView struct {
		Status                         twilio.Status
		Operations, Failing, Messages  string
		Delivered, Undelivered, Failed string
	}
	operationView struct {
		ID                            string
		Status                        twilio.Status
		Created, Updated              string
		Messages, Undelivered, Failed string
	}
)

func (s *Server) page(now time.Time) pageView {
	list := s.accounts.List()
	p := pageView{
		Now: now.UTC().Format("2006-01-02 15:04:05 UTC"), Started: clock(s.started, now), Uptime: ago(now.Sub(s.started)),
		Open: len(list) <= openAccounts,
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
		Operations: "–", Next: "at the next scrape",
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
		all.Stats.Total += sums.Stats.Total
		all.Stats.Delivered += sums.Stats.Delivered
		all.Stats.Undelivered += sums.Stats.Undelivered
		all.Stats.Failed += sums.Stats.Failed
		v.Statuses = append(v.Statuses, statusView{
			Status: sums.Status, Operations: number(sums.Operations), Failing: number(sums.Failing),
			Messages:    number(sums.Stats.Total),
			Delivered:   numberAndPercent(sums.Stats.Delivered, sums.Stats.Total),
			Undelivered: numberAndPercent(sums.Stats.Undelivered, sums.Stats.Total),
			Failed:      numberAndPercent(sums.Stats.Failed, sums.Stats.Total),
		})
	}
	v.Operations, v.Messages = number(all.Operations), number(all.Stats.Total)
	if total := all.Stats.Total; total > 0 {
		v.Shares = fmt.Sprintf("of which %s delivered, %s undelivered, %s failed",
			percent(all.Stats.Delivered, total), percent(all.Stats.Undelivered, total), percent(all.Stats.Failed, total))
	}
	v.Worst = operationViews(status.Snapshot.Failing, now)
	v.Untouched = operationViews(status.Snapshot.Stuck, now)
	return v
}

func operationViews(ops []*twilio.Operation, now time.Time) []operationView {
	views := make([]operationView, len(ops))
	for i := range ops {
		op := ops[i]
		views[i] = operationView{
			ID: op.ID, Status: op.Status,
			Created: ago(now.Sub(op.CreatedAt)), Updated: ago(now.Sub(op.UpdatedAt)),
			Messages:    number(op.Stats.Total),
			Undelivered: numberAndPercent(op.Stats.Undelivered, op.Stats.Total),
			Failed:      numberAndPercent(op.Stats.Failed, op.Stats.Total),
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

// percent writes part of total in percent. It is 0% or 100% only where that is
// exact.
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
