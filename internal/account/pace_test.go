package account

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"

	"twilio_operations_exporter/collector"
	"twilio_operations_exporter/internal/config"
	"twilio_operations_exporter/internal/testutil"
	"twilio_operations_exporter/twilio/simulator"
)

// TestSharedPace checks that messages and e-mails of one account at Twilio share one pace and one cooldown, even after
// a reload, and that other accounts do not.
func TestSharedPace(t *testing.T) {
	testutil.SetEnv(t, nil)
	dir := t.TempDir()
	file := filepath.Join(dir, "accounts.yml")
	write := func(content string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	if err := os.WriteFile(filepath.Join(dir, "token"), []byte("token"), 0o600); err != nil {
		t.Fatal(err)
	}
	const other = "ACffffffffffffffffffffffffffffffff"
	account := func(name, sid, more string) string {
		return "- {name: " + name + ", account_sid: " + sid + ", auth_token_file: token, base_url: 'http://api.test/v1'" + more + "}\n"
	}
	write("accounts:\n" + account("messages", testutil.SID, ", rate_limit: 1, page_size: 1") +
		account("emails", testutil.SID, ", resource: emails, rate_limit: 100, page_size: 1") +
		account("other", other, ", rate_limit: 1"))

	synctest.Test(t, func(t *testing.T) {
		handler := simulator.NewHandler(simulator.NewStatic(), simulator.Settings{})
		var mu sync.Mutex
		var sent []time.Time // for the SID
		throttled := false
		api := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			user, _, _ := r.BasicAuth()
			mu.Lock()
			if user == testutil.SID {
				sent = append(sent, time.Now())
			}
			refuse := throttled && strings.Contains(r.URL.Path, "/Emails/")
			mu.Unlock()
			if refuse {
				w.Header().Set("Retry-After", "1800")
				w.WriteHeader(http.StatusTooManyRequests)
				return
			}

			handler.ServeHTTP(w, r)
		})

		c, err := config.Load([]string{"--config.file", file}, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		if warnings := strings.Join(c.Warnings(), "\n"); strings.Contains(warnings, "also that of account") {
			t.Errorf("warnings %q", warnings)
		}
		noProxy := func(*http.Request) (*url.URL, error) { return nil, nil } //nolint:nilnil // there is none
		m := &Manager{
			config:     c,
			metrics:    collector.NewMetrics(prometheus.NewRegistry()),
			logger:     log.NewNopLogger(),
			transports: map[config.HTTP]transport{},
		}

		m.reloadSuccessful, m.reloadTimestamp = prometheus.NewGauge(prometheus.GaugeOpts{}), prometheus.NewGauge(prometheus.GaugeOpts{})
		configs := c.Accounts()
		m.transports[configs[0].HTTP] = transport{testutil.Transport(api), noProxy}
		var list []*Account
		for i := range configs {
			list = append(list, m.newAccount(&configs[i]))
		}
		sharePace(list, list)
		m.current.Store(&list)
		m.Start(context.WithoutCancel(t.Context()), 0)
		defer m.Stop()

		check := func(what string, least int, apart time.Duration) {
			t.Helper()
			mu.Lock()
			defer mu.Unlock()
			if len(sent) < least {
				t.Errorf("%s: %d requests", what, len(sent))
			}
			for i := range len(sent) - 1 {
				if d := sent[i+1].Sub(sent[i]); d < apart {
					t.Errorf("%s: requests %v apart, want %v", what, d, apart)
				}
			}
			sent = nil
		}

		pass(10*time.Minute + 30*time.Second)
		check("at the start", 20, time.Second)

		// The accounts of e-mails alone changes, and then the pace of all.
		write("accounts:\n" + account("messages", testutil.SID, ", rate_limit: 1, page_size: 1") +
			account("emails", testutil.SID, ", resource: emails, rate_limit: 100, page_size: 2"))
		if err := m.Reload(context.WithoutCancel(t.Context())); err != nil {
			t.Fatal(err)
		}
		pass(10 * time.Minute)
		check("after a reload", 20, time.Second)
		write("accounts:\n" + account("messages", testutil.SID, ", rate_limit: 0.5, page_size: 1") +
			account("emails", testutil.SID, ", resource: emails, rate_limit: 100, page_size: 2"))
		if err := m.Reload(context.WithoutCancel(t.Context())); err != nil {
			t.Fatal(err)
		}
		pass(10 * time.Second)
		mu.Lock()
		sent = nil
		mu.Unlock()
		pass(10 * time.Minute)
		check("at another pace", 19, 2*time.Second)

		mu.Lock()
		throttled = true
		mu.Unlock()
		pass(5 * time.Minute)
		mu.Lock()
		sent = nil
		mu.Unlock()
		pass(20 * time.Minute)
		mu.Lock()
		defer mu.Unlock()
		if len(sent) > 0 {
			t.Errorf("%d requests while the API throttles e-mails", len(sent))
		}

		for _, a := range m.List() {
			if a.client.RetryAt().IsZero() {
				t.Errorf("%s may ask", a.Name())
			}
		}
	})
}
