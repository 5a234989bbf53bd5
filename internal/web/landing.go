package web

import (
	"cmp"
	"crypto/sha256"
	_ "embed" // the page's style and template
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-kit/log/level"
	"github.com/prometheus/common/version"

	"twilio_operations_exporter/internal/account"
	"twilio_operations_exporter/internal/sanitize"
)

var (
	//go:embed landing.css
	landingCSS string
	//go:embed landing.html
	landingHTML string

	landingTemplate = template.Must(template.New("landing").Funcs(template.FuncMap{
		"age": age, "clock": clock, "number": number, "oneLine": sanitize.OneLine,
	}).Parse(landingHTML))
	landingPolicy = contentSecurityPolicy(landingCSS)
)

// contentSecurityPolicy allows the page its own style and nothing else.
func contentSecurityPolicy(css string) string {
	sum := sha256.Sum256([]byte(css))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}

// landing serves the page of all accounts, or of the one that the query names. It takes turns with scrapes, as its
// answers can be as large as theirs.
func (s *Server) landing(w http.ResponseWriter, r *http.Request) {
	list := s.accounts.List()
	name := r.URL.Query().Get("account")
	if name != "" {
		list = slices.DeleteFunc(slices.Clone(list), func(a *account.Account) bool { return a.Name() != name })
	}

	s.renderer.render(w, r, len(list), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", landingPolicy)
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Cache-Control", "no-store")
		h.Set("Referrer-Policy", "no-referrer")
		if name != "" && len(list) == 0 {
			w.WriteHeader(http.StatusNotFound)
		}
		if err := landingTemplate.Execute(w, s.page(list, name, time.Now())); err != nil {
			level.Error(s.logger).Log("msg", "error rendering the landing page", "err", err)
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
}

// pageView is the data of the template.
type pageView struct {
	Now   time.Time
	Style template.CSS

	State     stateView
	Waiting   string // names of accounts that keep the program from being ready
	Only, All string // the account asked for, and how many there are; "" on the page of all

	Accounts []*accountView // shown in full
	Trouble  []*accountView // others with something wrong
	Quiet    []*accountView // the rest
	Unfold   bool           // whether the rest is unfolded
	Unlisted int64          // number of accounts left out

	Thresholds thresholdsView
	Plumbing   []*accountView // nil if there is no room
	Program    programView
}

// stateView is the top of the page: what is wrong.
type stateView struct {
	Level    severity
	Title    string         // of the page
	Headline string         // number of accounts, and whether anything is wrong
	Reload   *finding       // nil unless the last reload failed
	Worst    []*accountView // accounts with something wrong, the worst first
	More     string         // how many more of them there are
}

// Single reports whether everything that is wrong fits into the headline.
func (v stateView) Single() bool { return len(v.Worst) <= 1 && v.Reload == nil }

// programView is the program's own state.
type programView struct {
	Started  time.Time
	Version  string
	Revision string
	Shard    string // "" if there is only one
	Metrics  string // path
	Profiles bool
}

// How much a page shows, so that it has less than 300 KB and can be read in seconds.
const (
	maxWorst = 5 // accounts at the top

	few  = 3  // up to so many accounts, each is shown in full
	some = 60 // up to so many, there are small pictures, and the plumbing of each

	fullOfSome = 6 // most accounts in trouble shown in full if there are some
	fullOfMany = 2 // the same if there are more

	maxRows = 1000 // accounts in lists
)

// page makes the view of these accounts. only is the name of the account asked for, "" for all.
func (s *Server) page(list []*account.Account, only string, now time.Time) *pageView {
	all := make([]*accountView, len(list))
	for i, a := range list {
		all[i] = newAccountView(i, a.Refresher.Settings(), a.Refresher.Status(), now)
		all[i].RateLimit = a.RateLimit()
		all[i].Sampled = a.Refresher.Sampled()
	}

	p := newPageView(all, reloadFinding(s.accounts.FailedReload(), now), now)
	if only == "" {
		p.Waiting = someNames(s.accounts.Waiting())
	}
	p.Program = programView{
		Started:  s.started,
		Version:  version.Version,
		Revision: version.GetRevision(),
		Shard:    s.shard(),
		Metrics:  strings.TrimPrefix(s.settings.TelemetryPath, "/"),
		Profiles: s.settings.EnablePprof,
	}

	if only != "" {
		p.Only = only
		p.All = count(int64(len(s.accounts.List())), "account")
	}
	if only != "" && len(list) == 0 {
		p.State.Level = warning
		p.State.Headline = "There is no account " + sanitize.Quote(only) + "."
	}
	return p
}

// shard says which of the accounts this process has, or "" if it has all of them.
func (s *Server) shard() string {
	shard, inFile := s.accounts.Shard()
	if shard.Total == 1 {
		return ""
	}
	own := int64(len(s.accounts.List()))
	return fmt.Sprintf("Shard %d of %d: %s of %s", shard.Index, shard.Total, number(own), count(inFile, "account"))
}

// QuietCount says how many of the listed accounts are quiet.
func (p *pageView) QuietCount() string { return count(int64(len(p.Quiet)), "account") }

// reloadFinding says that the last reload failed; nil if it did not.
func reloadFinding(failed *account.FailedReload, now time.Time) *finding {
	if failed == nil {
		return nil
	}
	return &finding{warning, fmt.Sprintf("The reload at %s failed, still using the previous configuration: %s",
		clock(failed.At, now), sanitize.OneLine(failed.Err.Error()))}
}

// newPageView arranges accounts, those with something wrong first.
func newPageView(all []*accountView, reload *finding, now time.Time) *pageView {
	p := &pageView{
		Now: now, Style: template.CSS(landingCSS), //nolint:gosec // G203: a constant
		Thresholds: newThresholdsView(),
	}
	if len(all) <= some {
		p.Plumbing = all
	}

	ordered := slices.Clone(all)
	slices.SortStableFunc(ordered, func(a, b *accountView) int { return cmp.Compare(b.Level, a.Level) })
	troubled := slices.IndexFunc(ordered, func(a *accountView) bool { return a.Level == quiet })
	if troubled < 0 {
		troubled = len(ordered)
	}
	p.State = newStateView(len(all), ordered[:troubled], reload)
	for _, a := range p.State.Worst {
		a.Told = p.State.Single()
	}

	inFull := 0
	switch {
	case len(all) <= few:
		inFull = len(all)
	case len(all) <= some:
		inFull = min(troubled, fullOfSome)
		p.Unfold = troubled == 0
	default:
		inFull = min(troubled, fullOfMany)
	}
	p.Accounts = ordered[:inFull]
	for _, a := range p.Accounts {
		a.drawInFull(now)
	}

	rows := ordered[inFull:]
	listed := min(len(rows), maxRows)
	p.Unlisted = int64(len(rows) - listed)
	rows = rows[:listed]
	for _, a := range rows {
		a.sumUp(len(all) <= some)
	}

	troubledRows := min(max(0, troubled-inFull), listed)
	p.Trouble = rows[:troubledRows]
	p.Quiet = rows[troubledRows:]
	return p
}

// newStateView sums up what is wrong: with which of the accounts, and whether the last reload failed.
func newStateView(all int, unquiet []*accountView, reload *finding) stateView {
	accounts := count(int64(all), "account")
	if len(unquiet) == 0 && reload == nil {
		return stateView{Level: quiet, Headline: accounts + ". Nothing is wrong.", Title: "✓ Nothing is wrong"}
	}
	if len(unquiet) == 0 {
		return stateView{Level: reload.Level, Headline: accounts + ".", Title: reload.Level.Sign() + " Reload failed", Reload: reload}
	}

	s := stateView{Level: unquiet[0].Level, Reload: reload, Worst: unquiet[:min(len(unquiet), maxWorst)]}
	if reload != nil {
		s.Level = max(s.Level, reload.Level)
	}
	more := len(unquiet) - len(s.Worst)
	if more > 0 {
		s.More = "and " + count(int64(more), "more account") + ", see below"
	}

	numbers := unquietNumbers(unquiet)
	s.Title = s.Level.Sign() + " " + numbers
	s.Headline = accounts + "."
	if !s.Single() {
		s.Headline = accounts + ", " + numbers + ":"
	}
	return s
}

// unquietNumbers says how many accounts are in trouble, and how many have not been read yet.
func unquietNumbers(unquiet []*accountView) string {
	troubled := 0
	for _, a := range unquiet {
		if a.Level > waiting {
			troubled++
		}
	}
	unread := len(unquiet) - troubled

	var parts []string
	if troubled > 0 {
		parts = append(parts, number(int64(troubled))+" in trouble")
	}
	if unread > 0 {
		parts = append(parts, number(int64(unread))+" not read yet")
	}
	return strings.Join(parts, ", ")
}
