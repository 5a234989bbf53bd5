package web

import (
	"crypto/sha256"
	_ "embed" // the page's style and template
	"encoding/base64"
	"fmt"
	"html/template"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-kit/log/level"
	"github.com/prometheus/common/model"
	"github.com/prometheus/common/version"

	"twilio_operations_exporter/collector"
	"twilio_operations_exporter/collector/window"
	"twilio_operations_exporter/internal/account"
	"twilio_operations_exporter/internal/sanitize"
	"twilio_operations_exporter/twilio"
)

var (
	//go:embed landing.css
	landingCSS string
	//go:embed landing.html
	landingHTML string

	landingTemplate = template.Must(template.New("landing").Funcs(template.FuncMap{
		"ago": ago, "clock": clock, "firstRead": firstRead, "lost": lost, "number": number,
		"oneLine": sanitize.OneLine, "shares": shares, "stat": stat,
	}).Parse(landingHTML))
	landingPolicy = contentSecurityPolicy(landingCSS)
)

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

// pageView is the data of the template.
type pageView struct {
	Now, Started              time.Time
	FailedReload              *account.FailedReload // nil unless the last one failed
	Version, Metrics, Waiting string
	Style                     template.CSS
	Accounts                  []accountView
	States                    []collector.State // in the order in which they are listed
	Counts                    map[collector.State]int
	Open, Profiles            bool
}

type accountView struct {
	Settings collector.Settings
	Status   collector.Status
	All      *window.StatusSums // of all statuses; nil before the first success
}

func (s *Server) page(now time.Time) pageView {
	list := s.accounts.List()
	p := pageView{
		Now: now, Started: s.started, Version: version.Info(), Metrics: strings.TrimPrefix(s.settings.TelemetryPath, "/"),
		Profiles: s.settings.EnablePprof, Waiting: someNames(s.accounts.Waiting()), FailedReload: s.accounts.FailedReload(),
		Style: template.CSS(landingCSS), //nolint:gosec // G203: a constant
		States: []collector.State{
			collector.StateFailing, collector.StateThrottled, collector.StateStarting,
			collector.StateReading, collector.StateFresh,
		},
		Counts: map[collector.State]int{},
		Open:   len(list) <= 3, // else their details are folded
	}
	for _, a := range list {
		view := newAccountView(a.Refresher.Settings(), a.Refresher.Status())
		p.Counts[view.Status.State]++
		p.Accounts = append(p.Accounts, view)
	}
	return p
}

func newAccountView(settings collector.Settings, status collector.Status) accountView {
	v := accountView{Settings: settings, Status: status}
	if status.Snapshot != nil {
		v.All = &window.StatusSums{}
		for i := range status.Snapshot.Statuses {
			sums := &status.Snapshot.Statuses[i]
			v.All.Operations += sums.Operations
			v.All.Stats.Add(&sums.Stats)
		}
	}
	return v
}

// shares writes messages as dashboards and alerts have them: with their share of the messages that have an outcome,
// where a message that was read had been delivered.
func shares(s twilio.Stats) struct{ Delivered, Undelivered, Failed string } {
	delivered := max(s[twilio.Delivered], s[twilio.Read])
	share := func(part int64) string {
		if part == 0 {
			return "0"
		}
		return number(part) + " (" + percent(part, twilio.AddSaturating(delivered, window.Lost(&s))) + ")"
	}
	return struct{ Delivered, Undelivered, Failed string }{share(delivered), share(s[twilio.Undelivered]), share(s[twilio.Failed])}
}

// lost writes the share of an operation's messages that failed or are undelivered.
// stat is the stat that the API calls member.
func stat(s twilio.Stats, member string) (int64, error) {
	for i := range twilio.MessageStats {
		if twilio.MessageStats[i].JSON == member {
			return s[i], nil
		}
	}
	return 0, fmt.Errorf("no stat %q", member)
}

func lost(op *twilio.Operation) string {
	return percent(window.Lost(&op.Stats), op.Stats[twilio.Total])
}

// firstRead writes how far the first refresh is.
func firstRead(s collector.Status) string {
	if s.PagesExpected == 0 {
		return "first read"
	}
	return fmt.Sprintf("first read %d%%", min(99, 100*s.PagesRead/s.PagesExpected))
}

// clock writes a time of the day of now without the date.
func clock(t, now time.Time) string {
	if day := 24 * time.Hour; t.Truncate(day).Equal(now.Truncate(day)) {
		return t.UTC().Format("15:04:05 UTC")
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

// ago writes a duration of less than an hour to the second, of less than a day to the minute, and else to the hour.
func ago(d time.Duration) string {
	unit := time.Second
	if d >= 24*time.Hour {
		unit = time.Hour
	} else if d >= time.Hour {
		unit = time.Minute
	}
	return model.Duration(max(0, d).Truncate(unit)).String()
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
	p := math.Round(1000*float64(part)/float64(total)) / 10
	switch {
	case total <= 0:
		return "–"
	case p == 0 && part > 0:
		return "<0.1%"
	case p == 100 && part < total:
		return ">99.9%"
	}
	return strconv.FormatFloat(p, 'f', -1, 64) + "%"
}
