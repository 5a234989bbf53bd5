package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"twilio_operations_exporter/collector"
	"twilio_operations_exporter/twilio"
	"twilio_operations_exporter/twilio/simulator"
)

// fileSite is a site with a configuration file that the test rewrites.
type fileSite struct {
	*site
	tb   testing.TB
	file string
	api  *testAPI
}

func newFileSite(tb testing.TB, api *testAPI, accounts ...string) *fileSite {
	tb.Helper()
	f := &fileSite{tb: tb, api: api, file: filepath.Join(tb.TempDir(), "accounts.yml")}
	if err := os.WriteFile(filepath.Join(filepath.Dir(f.file), "token"), []byte(testToken), 0o600); err != nil {
		tb.Fatal(err)
	}
	f.write(accounts...)
	if t, ok := tb.(*testing.T); ok {
		setEnv(t, nil)
	}
	c, err := configure([]string{"--config.file", f.file, "--twilio.rate-limit=0", "--twilio.max-retries=0", "--web.enable-lifecycle", "--log.level=warn"}, io.Discard)
	if err != nil {
		tb.Fatal(err)
	}
	f.site = runSite(tb, c)
	return f
}

// write makes a file of accounts, each a name and further keys.
func (f *fileSite) write(accounts ...string) {
	f.tb.Helper()
	var b strings.Builder
	b.WriteString("accounts:\n")
	for _, a := range accounts {
		name, more, _ := strings.Cut(a, " ")
		fmt.Fprintf(&b, "- {name: %s, account_sid: %s, auth_token_file: token, base_url: %q%s}\n", name, testSID, f.api.url, more)
	}
	if err := os.WriteFile(f.file, []byte(b.String()), 0o600); err != nil {
		f.tb.Fatal(err)
	}
}

func (f *fileSite) refresher(name string) *collector.Refresher {
	for _, a := range f.accounts.list() {
		if a.config.Account == name {
			return a.refresher
		}
	}
	return nil
}

func TestReload(t *testing.T) {
	api := newTestAPI(t, testOperation(1, twilio.StatusCompleted, twilio.Stats{Total: 7}))
	s := newFileSite(t, api, "same", "changed", "removed")
	refresh(t, s.site)
	// A growth that only an unchanged account can know of.
	static, _ := api.Source().(*simulator.Static)
	static.Update(testOperation(1, "", twilio.Stats{}).ID, func(op *twilio.Operation) { op.Stats.Total = 10 })
	static.Update(testOperation(1, "", twilio.Stats{}).ID, func(op *twilio.Operation) { op.Status = twilio.StatusProcessing })
	refresh(t, s.site)
	wantLines(t, get(t, s.site, http.MethodGet, "/metrics").Body.String(),
		`twilio_messages_total{account="same"} 3`, `twilio_messages_total{account="changed"} 3`)
	same, changed := s.refresher("same"), s.refresher("changed")

	s.write("added", "changed , window: 2h", "same")
	if w := get(t, s.site, http.MethodPost, "/-/reload"); w.Code != http.StatusOK {
		t.Fatalf("reload: %d %s", w.Code, w.Body)
	}
	text := get(t, s.site, http.MethodGet, "/metrics").Body.String()
	wantLines(t, text,
		`twilio_up{account="same"} 1`,
		`twilio_messages_total{account="same"} 3`,
		`twilio_exporter_refreshes_total{account="same",result="success"} 2`,
		`twilio_operations_window_seconds{account="changed"} 7200`,
		`twilio_messages_total{account="changed"} 0`,
		`twilio_operations_window_seconds{account="added"} 86400`,
		`twilio_exporter_config_last_reload_successful 1`,
	)
	if strings.Contains(text, `"removed"`) {
		t.Errorf("the removed account is still there:\n%s", text)
	}
	if s.refresher("same") != same {
		t.Error("an unchanged account has started anew")
	}
	if s.refresher("changed") == changed {
		t.Error("a changed account goes on as it was")
	}
	if list := s.accounts.list(); list[0].config.Account != "added" || list[2].config.Account != "same" {
		t.Error("the accounts are not in the order of the file")
	}
}

func TestReloadOfABadFile(t *testing.T) {
	api := newTestAPI(t, testOperation(1, twilio.StatusCompleted, twilio.Stats{Total: 7}))
	s := newFileSite(t, api, "a", "b")
	refresh(t, s.site)
	before := samples(get(t, s.site, http.MethodGet, "/metrics").Body.String())
	for name, tc := range map[string]struct{ yml, want string }{
		"syntax": {"accounts: [", "did not find expected node content"},
		"empty":  {"", "no accounts: want a list of at least one under accounts"},
		"CA": {
			"accounts: [{account_sid: " + testSID + ", auth_token_file: token, tls_config: {ca_file: nowhere}}]",
			"unable to read CA cert",
		},
	} {
		t.Run(name, func(t *testing.T) {
			list := s.accounts.list()
			if err := os.WriteFile(s.file, []byte(tc.yml), 0o600); err != nil {
				t.Fatal(err)
			}
			w := get(t, s.site, http.MethodPost, "/-/reload")
			if w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), tc.want) || !strings.Contains(w.Body.String(), s.file+":1: ") {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			text := get(t, s.site, http.MethodGet, "/metrics").Body.String()
			wantLines(t, text, `twilio_exporter_config_last_reload_successful 0`, `twilio_up{account="a"} 1`, `twilio_up{account="b"} 1`)
			for _, line := range before {
				if strings.HasPrefix(line, "twilio_exporter_config_last_reload_success_timestamp_seconds") {
					wantLines(t, text, line)
				}
			}
			if now := s.accounts.list(); now[0] != list[0] || now[1] != list[1] {
				t.Error("accounts have changed")
			}
		})
	}
	s.write("a", "b")
	if w := get(t, s.site, http.MethodPost, "/-/reload"); w.Code != http.StatusOK {
		t.Errorf("a good file after a bad one: %d %s", w.Code, w.Body)
	}
	wantLines(t, get(t, s.site, http.MethodGet, "/metrics").Body.String(), `twilio_exporter_config_last_reload_successful 1`)
}

// TestReloadUnderLoad reloads a thousand times while scrapes go on: an account
// that does not change is in every scrape with its counters, none is in a
// scrape twice, and nothing is left behind.
func TestReloadUnderLoad(t *testing.T) {
	const reloads, scrapers = 1000, 2
	api := newTestAPI(t, testOperation(1, twilio.StatusCompleted, twilio.Stats{Total: 7}))
	s := newFileSite(t, api, "same", "changing", "coming")
	refresh(t, s.site)
	goroutines := runtime.NumGoroutine()

	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	scrapes := make([]int, scrapers)
	for i := range scrapers {
		wg.Go(func() {
			for ctx.Err() == nil {
				families, err := s.gather(context.WithoutCancel(ctx))
				if err != nil {
					t.Errorf("scrape: %v", err)
					return
				}
				scrapes[i]++
				found := 0
				for _, f := range families {
					for _, m := range f.GetMetric() {
						same := len(m.GetLabel()) > 0 && m.GetLabel()[0].GetValue() == "same"
						switch name := f.GetName(); {
						case same && name == "twilio_up" && m.GetGauge().GetValue() == 1,
							same && name == "twilio_exporter_refreshes_total" && m.GetLabel()[1].GetValue() == "success" && m.GetCounter().GetValue() == 1,
							same && name == "twilio_operation_messages" && m.GetLabel()[1].GetValue() == "COMPLETED" && m.GetGauge().GetValue() == 7:
							found++
						}
					}
				}
				if found != 3 {
					t.Errorf("a scrape without the unchanged account: %d", found)
					return
				}
			}
		})
	}
	for i := range reloads {
		accounts := []string{"same", fmt.Sprintf("changing , page_size: %d", 1+i%1000)}
		if i%2 == 0 {
			accounts = append(accounts, "coming")
		}
		s.write(accounts...)
		if err := s.reload(); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	wg.Wait()
	for i, n := range scrapes {
		if n == 0 {
			t.Errorf("scraper %d has not scraped", i)
		}
	}
	// Every account keeps one goroutine; the last file has one account less.
	waitFor(t, "goroutines to end", func() bool { return runtime.NumGoroutine() <= goroutines })
}

// TestReloadWhileScrapesWait holds that an account that goes ends the scrapes
// that wait for it.
func TestReloadWhileScrapesWait(t *testing.T) {
	api := newTestAPI(t, testOperation(1, twilio.StatusCompleted, twilio.Stats{Total: 7}))
	s := newFileSite(t, api, "a , interval: 0s", "b , interval: 0s")
	api.Faults().MustAdd(simulator.Fault{Kind: simulator.FaultHang})
	var wg sync.WaitGroup
	wg.Go(func() { get(t, s.site, http.MethodGet, "/metrics") })
	waitFor(t, "the scrape to wait", func() bool { return api.Requests().Started() == 2 })
	s.write("c")
	if err := s.reload(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	text := get(t, s.site, http.MethodGet, "/metrics").Body.String()
	if strings.Contains(text, `account="a"`) || !strings.Contains(text, `account="c"`) {
		t.Error(text)
	}
}

func TestStagger(t *testing.T) {
	for name, tc := range map[string]struct {
		i, n     int
		interval time.Duration
		want     time.Duration
	}{
		"first":          {0, 200, time.Minute, 0},
		"second":         {1, 3, time.Minute, 100 * time.Millisecond},
		"last of many":   {199, 200, time.Minute, 199 * 100 * time.Millisecond},
		"short interval": {199, 200, 5 * time.Second, 199 * 12500 * time.Microsecond},
		"on each scrape": {5, 10, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			if got := stagger(tc.i, tc.n, tc.interval); got != tc.want {
				t.Errorf("%v, want %v", got, tc.want)
			}
		})
	}
}

func TestReplaceBeforeStart(t *testing.T) {
	as, err := newAccounts(nil, collector.NewMetrics(prometheus.NewRegistry()), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := as.replace(nil); err == nil {
		t.Error("accounts that do not run were replaced")
	}
	as.stop() // has nothing to stop
}
