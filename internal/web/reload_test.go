package web

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"

	"twilio_operations_exporter/collector"
	"twilio_operations_exporter/internal/testutil"
	"twilio_operations_exporter/twilio"
	"twilio_operations_exporter/twilio/simulator"
)

func refresherOf(s *Server, name string) *collector.Refresher {
	for _, a := range s.accounts.List() {
		if a.Name() == name {
			return a.Refresher
		}
	}
	return nil
}

func TestReload(t *testing.T) {
	api := testutil.New(t, testutil.Operation(1, twilio.StatusCompleted, twilio.Stats{twilio.Total: 7}))
	s, file := testFileServer(t, api, "same", "changed", "removed")
	refresh(t, s)
	// A growth that only an unchanged account can know of.
	api.List.Update(testutil.Operation(1, "", twilio.Stats{}).ID, func(op *twilio.Operation) { op.Stats[twilio.Total] = 10 })
	api.List.Update(
		testutil.Operation(1, "", twilio.Stats{}).ID, func(op *twilio.Operation) { op.Status = twilio.StatusProcessing },
	)
	refresh(t, s)
	testutil.WantSamples(t, get(t, s, http.MethodGet, "/metrics").Body.String(),
		`twilio_messages_total{account="same"} 3`, `twilio_messages_total{account="changed"} 3`)
	same, changed := refresherOf(s, "same"), refresherOf(s, "changed")

	file.Write("added", "changed , window: 2h", "same")
	if w := get(t, s, http.MethodPost, "/-/reload"); w.Code != http.StatusOK {
		t.Fatalf("reload: %d %s", w.Code, w.Body)
	}
	text := get(t, s, http.MethodGet, "/metrics").Body.String()
	testutil.WantSamples(t, text,
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
	if refresherOf(s, "same") != same {
		t.Error("an unchanged account has started anew")
	}
	if refresherOf(s, "changed") == changed {
		t.Error("a changed account goes on as it was")
	}
	if list := s.accounts.List(); list[0].Name() != "added" || list[2].Name() != "same" {
		t.Error("the accounts are not in the order of the file")
	}
}

func TestReloadOfABadFile(t *testing.T) {
	api := testutil.New(t, testutil.Operation(1, twilio.StatusCompleted, twilio.Stats{twilio.Total: 7}))
	s, file := testFileServer(t, api, "a", "b")
	refresh(t, s)
	before := testutil.Samples(get(t, s, http.MethodGet, "/metrics").Body.String())
	for name, tc := range map[string]struct{ yml, want string }{
		"syntax": {"accounts: [", "did not find expected node content"},
		"empty":  {"", "no accounts configured: want at least one under the key accounts"},
		"CA": {
			"accounts: [{account_sid: " + testutil.SID + ", auth_token_file: token, tls_config: {ca_file: nowhere}}]",
			"tls_config: ca_file: cannot read ",
		},
	} {
		t.Run(name, func(t *testing.T) {
			list := s.accounts.List()
			file.WriteRaw(tc.yml)
			w := get(t, s, http.MethodPost, "/-/reload")
			if w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), tc.want) ||
				!strings.Contains(w.Body.String(), file.Path+":1: ") {
				t.Errorf("%d %s", w.Code, w.Body)
			}

			text := get(t, s, http.MethodGet, "/metrics").Body.String()
			testutil.WantSamples(
				t, text, `twilio_exporter_config_last_reload_successful 0`, `twilio_up{account="a"} 1`, `twilio_up{account="b"} 1`,
			)
			for _, line := range before {
				if strings.HasPrefix(line, "twilio_exporter_config_last_reload_success_timestamp_seconds") {
					testutil.WantSamples(t, text, line)
				}
			}

			if now := s.accounts.List(); now[0] != list[0] || now[1] != list[1] {
				t.Error("accounts have changed")
			}
		})
	}

	failed := func() bool {
		text := get(t, s, http.MethodGet, "/").Body.String()
		return strings.Contains(text, "failed, still using the previous configuration") && !strings.Contains(text, "Nothing is wrong")
	}

	if !failed() {
		t.Error("the page says nothing of it")
	}
	file.Write("a", "b")
	if w := get(t, s, http.MethodPost, "/-/reload"); w.Code != http.StatusOK {
		t.Errorf("a good file after a bad one: %d %s", w.Code, w.Body)
	}
	testutil.WantSamples(
		t, get(t, s, http.MethodGet, "/metrics").Body.String(), `twilio_exporter_config_last_reload_successful 1`,
	)
	if failed() {
		t.Error("the page still shows the reload that failed")
	}
}

// TestReloadUnderLoad reloads 200 times during scrapes. An account that does not change is in every scrape with its
// counters, none is in a scrape twice, and nothing is left behind.
func TestReloadUnderLoad(t *testing.T) {
	const reloads, scrapers = 200, 2
	api := testutil.New(t, testutil.Operation(1, twilio.StatusCompleted, twilio.Stats{twilio.Total: 7}))
	s, file := testFileServer(t, api, "same", "changing", "coming")
	refresh(t, s)
	goroutines := runtime.NumGoroutine()

	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	scrapes := make([]int, scrapers)
	for i := range scrapers {
		wg.Go(func() {
			for ctx.Err() == nil {
				families, err := s.scrape(context.WithoutCancel(ctx)).Gather()
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
		file.Write(accounts...)
		if err := s.accounts.Reload(context.Background()); err != nil {
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

	// A few more connections may be idle than before; something left behind at each
	// reload would be hundreds.
	testutil.WaitFor(t, "goroutines to end", func() bool { return runtime.NumGoroutine() <= goroutines+50 })
}

// TestReloadWhileScrapesWait checks that scrapes waiting for an account end when a reload removes it.
func TestReloadWhileScrapesWait(t *testing.T) {
	api := testutil.New(t, testutil.Operation(1, twilio.StatusCompleted, twilio.Stats{twilio.Total: 7}))
	s, file := testFileServer(t, api, "a , interval: 0s", "b , interval: 0s")
	api.Faults().MustAdd(simulator.Fault{Kind: simulator.FaultHang})
	var wg sync.WaitGroup
	wg.Go(func() { get(t, s, http.MethodGet, "/metrics") })
	testutil.WaitFor(t, "the scrape to wait", func() bool { return api.Requests() == 2 })
	file.Write("c")
	if err := s.accounts.Reload(context.Background()); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	text := get(t, s, http.MethodGet, "/metrics").Body.String()
	if strings.Contains(text, `account="a"`) || !strings.Contains(text, `account="c"`) {
		t.Error(text)
	}
}
