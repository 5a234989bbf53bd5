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

// landing serves the page, of all accounts or of the one that the query names. It is rendered in turn with scrapes: with
// thousands of accounts it is as large as theirs.
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
	Waiting   string // accounts without which the program is not ready
	Only, All string // the account that was asked for, and how many there are; "" for the page of all

	Accounts []*accountView // shown in full
	Trouble  []*accountView // others with which something is wrong
	Quiet    []*accountView // the rest
	Unfold   bool           // the rest is to be seen at once
	Unlisted int64          // accounts that are left out

	Thresholds thresholdsView
	Plumbing   []*accountView // nil where there is no room
	Program    programView
}

// stateView is the first that one reads: what is wrong.
type stateView struct {
	Level    severity
	Title    string         // for the browser's tab
	Headline string         // how many accounts there are, and whether all is well
	Reload   *finding       // nil unless the last reload failed
	Worst    []*accountView // those with which something is wrong, the worst first
	More     string         // how many of them there is no room for
}

// Single reports whether all that is wrong fits into the headline.
func (v stateView) Single() bool { return len(v.Worst) <= 1 && v.Reload == nil }

// programView is the program's own state.
type programView struct {
	Started  time.Time
	Version  string
	Revision string
	Shard    string // "" where there is but one
	Metrics  string // path
	Profiles bool
}

// How much a page shows, so that it stays within 300 KB and is read in seconds.
const (
	maxWorst = 5 // accounts in the state at the top

	few  = 3  // on a page of so many accounts each is shown in full
	some = 60 // on a page of so many there are small pictures, and the plumbing of each

	fullOfSome = 6 // accounts in trouble that are shown in full, of some
	fullOfMany = 2 // the same, of more

	maxRows = 1000 // accounts that are listed
)

// page makes the view of these accounts; only is the one that was asked for, if it was one.
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

// shard says which part of the accounts this process has, where it is not all of them.
func (s *Server) shard() string {
	shard, inFile := s.accounts.Shard()
	if shard.Total == 1 {
		return ""
	}
	own := int64(len(s.accounts.List()))
	return fmt.Sprintf("Shard %d of %d: %s of %s", shard.Index, shard.Total, number(own), count(inFile, "account"))
}

// QuietCount is how many of the accounts that are listed are quiet.
func (p *pageView) QuietCount() string { return count(int64(len(p.Quiet)), "account") }

// reloadFinding says that a reload failed.
func reloadFinding(failed *account.FailedReload, now time.Time) *finding {
	if failed == nil {
		return nil
	}
	return &finding{warning, fmt.Sprintf("The reload at %s failed, still using the previous configuration: %s",
		clock(failed.At, now), sanitize.OneLine(failed.Err.Error()))}
}

// newPageView arranges accounts, those with which something is wrong first.
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

	switch {
	case len(all) <= few:
		p.Accounts = ordered
	case len(all) <= some:
		p.Accounts = ordered[:min(troubled, fullOfSome)]
		p.Unfold = troubled == 0
	default:
		p.Accounts = ordered[:min(troubled, fullOfMany)]
	}
	listed := ordered[:min(len(ordered), len(p.Accounts)+maxRows)]
	p.Trouble = listed[len(p.Accounts):max(len(p.Accounts), min(troubled, len(listed)))]
	p.Quiet = listed[len(p.Accounts)+len(p.Trouble):]
	p.Unlisted = int64(len(ordered) - len(listed))

	for _, a := range p.Accounts {
		a.drawInFull(now)
	}
	for _, a := range listed[len(p.Accounts):] {
		a.sumUp(len(all) <= some)
	}
	return p
}

// newStateView says what is wrong with the accounts that are not quiet, of all there are.
func newStateView(all int, unquiet []*accountView, reload *finding) stateView {
	accounts := count(int64(all), "account")
	switch {
	case len(unquiet) > 0:
	case reload != nil:
		return stateView{Level: reload.Level, Headline: accounts + ".", Title: reload.Level.Sign() + " Reload failed", Reload: reload}
	default:
		return stateView{Level: quiet, Headline: accounts + ". Nothing is wrong.", Title: "✓ Nothing is wrong"}
	}

	s := stateView{Level: unquiet[0].Level, Reload: reload, Worst: unquiet[:min(len(unquiet), maxWorst)]}
	if reload != nil {
		s.Level = max(s.Level, reload.Level)
	}
	if more := len(unquiet) - len(s.Worst); more > 0 {
		s.More = "and " + count(int64(more), "more account") + ", see below"
	}

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
	s.Title = s.Level.Sign() + " " + strings.Join(parts, ", ")
	s.Headline = accounts + "."
	if !s.Single() {
		s.Headline = accounts + ", " + strings.Join(parts, ", ") + ":"
	}
	return s
}
