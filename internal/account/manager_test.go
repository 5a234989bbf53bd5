package account

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"
	promtest "github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"twilio_operations_exporter/internal/config"
	"twilio_operations_exporter/internal/testutil"
	"twilio_operations_exporter/twilio"
	"twilio_operations_exporter/twilio/simulator"
)

// onDemand is a delay of first refreshes that no test lives to see.
const onDemand = 1000 * time.Hour

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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

func newManager(t *testing.T, api *testutil.API, args ...string) *Manager {
	t.Helper()
	testutil.SetEnv(t, api.Env())
	c, err := config.Load(append([]string{"--twilio.max-retries=0"}, args...), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	m, err := NewManager(c, prometheus.NewRegistry(), log.NewNopLogger())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestBeforeStart(t *testing.T) {
	m := newManager(t, testutil.New(t))
	if err := m.Reload(t.Context()); err == nil {
		t.Error("accounts that do not run were replaced")
	}
	m.Stop() // has nothing to stop
}

func TestRefreshOnce(t *testing.T) {
	api := testutil.New(t, testutil.Operation(1, twilio.StatusCompleted, twilio.Stats{twilio.Total: 7}))
	m := newManager(t, api)
	if err := m.RefreshOnce(t.Context()); err != nil {
		t.Error(err)
	}
	if !m.List()[0].Refresher.Ready() {
		t.Error("not refreshed")
	}
	api.Faults().MustAdd(simulator.Fault{Kind: simulator.FaultStatus, Status: http.StatusUnauthorized})
	var refused *twilio.Error
	if err := m.RefreshOnce(t.Context()); !errors.As(err, &refused) || !strings.Contains(err.Error(), testutil.SID) {
		t.Errorf("error %v", err)
	}
}

// TestAutoReload checks that a changed file is loaded once it has stopped changing, and that a fault in it is reported
// as long as it lasts.
func TestAutoReload(t *testing.T) {
	testutil.SetEnv(t, nil)
	dir := t.TempDir()
	file := filepath.Join(dir, "accounts.yml")
	write := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	accounts := func(names ...string) string {
		list := make([]string, len(names))
		for i, name := range names {
			list[i] = "- {name: " + name + ", account_sid: " + testutil.SID + ", auth_token_file: " + name + ", interval: 0s}"
		}
		return "accounts:\n" + strings.Join(list, "\n") + "\n"
	}

	write("a", testutil.Token)
	write("b", testutil.Token)
	write("accounts.yml", accounts("a"))
	synctest.Test(t, func(t *testing.T) {
		c, err := config.Load([]string{"--config.file", file, "--config.auto-reload"}, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		m, err := NewManager(c, prometheus.NewRegistry(), log.NewNopLogger())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		m.Start(ctx, onDemand)
		go m.AutoReload(ctx)
		defer m.Stop()
		defer cancel()
		const interval = 30 * time.Second
		want := func(what string, successful float64, names ...string) {
			t.Helper()
			synctest.Wait()
			var got []string
			for _, a := range m.List() {
				got = append(got, a.Name())
			}
			if !slices.Equal(got, names) {
				t.Errorf("%s: accounts %q, want %q", what, got, names)
			}
			if got := promtest.ToFloat64(m.reloadSuccessful); got != successful {
				t.Errorf("%s: last reload successful %v, want %v", what, got, successful)
			}
		}

		<-time.After(interval)
		want("unchanged", 1, "a")

		write("accounts.yml", accounts("a", "b"))
		<-time.After(interval)
		want("changed", 1, "a") // it may not be whole yet
		<-time.After(settleTime)
		want("unchanged for a while", 1, "a", "b")

		write("accounts.yml", "accounts:\n- {na")
		<-time.After(interval)
		synctest.Wait() // it has seen half of it
		write("accounts.yml", accounts("b"))
		<-time.After(settleTime)
		want("half a file", 1, "a", "b")
		<-time.After(interval + settleTime)
		want("the other half", 1, "b")

		write("accounts.yml", "accounts:\n- {na")
		<-time.After(interval + settleTime)
		want("bad file", 0, "b")
		write("accounts.yml", accounts("b"))
		<-time.After(interval + settleTime)
		want("as it was before", 1, "b")

		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		<-time.After(interval + settleTime)
		want("no file", 0, "b")
		write("accounts.yml", accounts("b", "later"))
		<-time.After(interval + settleTime)
		want("no secret", 0, "b")
		write("later", testutil.Token)
		<-time.After(interval + settleTime)
		want("the secret", 1, "b", "later")
	})
}

// TestFilesWhileRunning checks that a refresh fails without blocking if a file that its requests need has become a
// FIFO.
func TestFilesWhileRunning(t *testing.T) {
	testutil.SetEnv(t, nil)
	api := testutil.New(t, testutil.Operation(1, twilio.StatusCompleted, twilio.Stats{twilio.Total: 7}))
	secure := httptest.NewTLSServer(nil) // for its certificate
	defer secure.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})
	for _, name := range []string{"token", "ca"} {
		t.Run(name, func(t *testing.T) {
			file := testutil.NewFile(t, api, "a , tls_config: {ca_file: ca}")
			odd := filepath.Join(filepath.Dir(file.Path), name)
			if err := os.WriteFile(filepath.Join(filepath.Dir(file.Path), "ca"), ca, 0o600); err != nil {
				t.Fatal(err)
			}
			c, err := config.Load([]string{"--config.file", file.Path}, io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			m, err := NewManager(c, prometheus.NewRegistry(), log.NewNopLogger())
			if err != nil {
				t.Fatal(err)
			}
			m.Start(context.WithoutCancel(t.Context()), onDemand)
			defer m.Stop()
			a := m.List()[0].Refresher
			if err := a.Refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(os.Remove(odd), syscall.Mkfifo(odd, 0o600)); err != nil {
				t.Fatal(err)
			}
			var pathError *fs.PathError
			if err := a.Refresh(t.Context()); !errors.As(err, &pathError) || pathError.Path != odd {
				t.Errorf("error %v", err)
			}
		})
	}
}

// TestFetchOutlivesACaller checks that a fetch continues for its other callers.
func TestFetchOutlivesACaller(t *testing.T) {
	op := testutil.Operation(1, twilio.StatusCompleted, twilio.Stats{twilio.Total: 7})
	api := testutil.New(t, op)
	m := newManager(t, api)
	m.Start(context.WithoutCancel(t.Context()), onDemand)
	defer m.Stop()
	a := m.List()[0]

	release := api.Hold()
	defer release()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.Fetch(ctx, op.ID); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	release()
	if got, err := a.Fetch(t.Context(), op.ID); err != nil || got.Stats[twilio.Total] != 7 {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestAbandonedFetch checks that a fetch ends once nobody waits for it, and not before.
func TestAbandonedFetch(t *testing.T) {
	op := testutil.Operation(1, twilio.StatusCompleted, twilio.Stats{})
	api := testutil.New(t, op)
	api.Faults().MustAdd(simulator.Fault{Kind: simulator.FaultHang})
	m := newManager(t, api, "--twilio.timeout=1h")
	m.Start(context.WithoutCancel(t.Context()), onDemand)
	defer m.Stop()

	a := m.List()[0]
	var callers sync.WaitGroup
	defer callers.Wait()
	fetch := func() (abandon context.CancelFunc) {
		ctx, cancel := context.WithCancel(t.Context())
		callers.Go(func() { _, _ = a.Fetch(ctx, op.ID) })
		return cancel
	}
	waiting := func() int {
		a.mu.Lock()
		defer a.mu.Unlock()
		f := a.fetches[op.ID]
		if f == nil {
			return 0
		}
		return f.callers
	}

	abandonFirst := fetch()
	abandonSecond := fetch()
	testutil.WaitFor(t, "two callers", func() bool { return waiting() == 2 })
	testutil.WaitFor(t, "the request", func() bool { return api.InFlight() == 1 })
	abandonFirst()
	testutil.WaitFor(t, "one caller", func() bool { return waiting() == 1 })
	if n := api.InFlight(); n != 1 {
		t.Errorf("%d requests in flight while somebody waits, want 1", n)
	}
	abandonSecond()
	testutil.WaitFor(t, "the end of the request", func() bool { return api.InFlight() == 0 })
	if n := api.Requests(); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}

// TestSomeNames checks that no more names are listed than a line has room for.
func TestSomeNames(t *testing.T) {
	ten := strings.Split("abcdefghij", "")
	for _, tt := range []struct {
		names []string
		want  string
	}{
		{nil, ""},
		{[]string{"b", "a"}, "a, b"},
		{ten, "a, b, c, d, e, f, g, h, i, j"},
		{append([]string{"l", "k"}, ten...), "a, b, c, d, e, f, g, h, i, j, 2 others"},
	} {
		if got := someNames(tt.names); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}

// TestFetchAfterStop checks that an account that has ended makes no request, as that would bring back its series.
func TestFetchAfterStop(t *testing.T) {
	op := testutil.Operation(1, twilio.StatusCompleted, twilio.Stats{twilio.Total: 7})
	api := testutil.New(t, op)
	m := newManager(t, api)
	m.Start(context.WithoutCancel(t.Context()), onDemand)
	m.Stop()
	if _, err := m.List()[0].Fetch(t.Context(), op.ID); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if n := api.Requests(); n != 0 {
		t.Errorf("%d requests", n)
	}
}

// TestFailedReloadKeepsTheCount checks that the number of accounts in the file does not change if a reload fails.
func TestFailedReloadKeepsTheCount(t *testing.T) {
	testutil.SetEnv(t, nil)
	file := testutil.NewFile(t, testutil.New(t), "a", "b")
	c, err := config.Load([]string{"--config.file", file.Path, "--shard.total=2"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	m, err := NewManager(c, prometheus.NewRegistry(), log.NewNopLogger())
	if err != nil {
		t.Fatal(err)
	}
	file.Write("a", "b", "c")
	if err = m.Reload(t.Context()); err == nil {
		t.Fatal("accounts that do not run were replaced")
	}
	if _, inFile := m.Shard(); inFile != 2 {
		t.Errorf("%d accounts in the file, want 2", inFile)
	}

	m.Start(context.WithoutCancel(t.Context()), onDemand)
	defer m.Stop()
	if err = m.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, inFile := m.Shard(); inFile != 3 {
		t.Errorf("%d accounts in the file, want 3", inFile)
	}
}

// TestReloadLeavesBehind checks that a reload does not wait forever for an account that does not end.
func TestReloadLeavesBehind(t *testing.T) {
	api := testutil.New(t)
	file := testutil.NewFile(t, api, "a", "b")
	testutil.SetEnv(t, nil)
	c, err := config.Load([]string{"--config.file", file.Path}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		m, err := NewManager(c, prometheus.NewRegistry(), log.NewNopLogger())
		if err != nil {
			t.Fatal(err)
		}
		m.Start(t.Context(), onDemand)
		defer m.Stop()
		synctest.Wait()
		m.List()[0].ended = make(chan struct{}) // never closed
		file.Write("a , window: 1h", "b")
		begin := time.Now()
		if err := m.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took != stopTimeout {
			t.Errorf("it took %v", took)
		}
	})
}

// TestReloadLog checks that a reload logs which accounts it has changed, if any.
func TestReloadLog(t *testing.T) {
	testutil.SetEnv(t, nil)
	file := testutil.NewFile(t, testutil.New(t), "a", "b", "c")
	c, err := config.Load([]string{"--config.file", file.Path}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	logged := new(testutil.Log)
	info := level.NewFilter(log.NewLogfmtLogger(logged), level.AllowInfo())
	m, err := NewManager(c, prometheus.NewRegistry(), info)
	if err != nil {
		t.Fatal(err)
	}
	m.Start(context.WithoutCancel(t.Context()), onDemand)
	defer m.Stop()
	reload := func(want string, accounts ...string) {
		t.Helper()
		file.Write(accounts...)
		logged.Reset()
		if err := m.Reload(context.WithoutCancel(t.Context())); err != nil {
			t.Fatal(err)
		}

		var got []string
		for line := range strings.Lines(logged.String()) {
			if strings.Contains(line, "configuration") { // the others are of the accounts themselves
				got = append(got, strings.TrimSpace(line))
			}
		}

		if strings.Join(got, "\n") != want {
			t.Errorf("logged %q, want %q", got, want)
		}
	}

	reload("", "c", "b", "a")
	reload(`level=info msg="configuration reloaded" started=e restarted= stopped= kept="a, b, c"`, "a", "b", "c", "e")
	reload(`level=info msg="configuration reloaded" started= restarted= stopped=e kept="a, b, c"`, "a", "b", "c")
	reload(`level=info msg="configuration reloaded" started=d restarted=b stopped=c kept=a`, "a", "b , window: 1h", "d")
	many := make([]string, 12)
	for i := range many {
		many[i] = fmt.Sprintf("n%02d", i)
	}
	reload(`level=info msg="configuration reloaded" started="n00, n01, n02, n03, n04, n05, n06, n07, n08, n09, 2 others" `+
		`restarted= stopped="a, b, d" kept=`, many...)
}

// TestSharedTransports checks that accounts with equal settings share connections but send their own credentials.
func TestSharedTransports(t *testing.T) {
	api := testutil.New(t)
	file := testutil.NewFile(
		t,
		api,
		"a",
		"b",
		"c , proxy_url: 'http://127.0.0.1:1'",
		"d , proxy_url: 'http://u:p@127.0.0.1:1'",
	)

	testutil.SetEnv(t, nil)
	c, err := config.Load([]string{"--config.file", file.Path}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	m, err := NewManager(c, prometheus.NewRegistry(), log.NewNopLogger())
	if err != nil {
		t.Fatal(err)
	}
	m.Start(context.WithoutCancel(t.Context()), onDemand)
	defer m.Stop()
	if len(m.transports) != 3 {
		t.Errorf("%d transports", len(m.transports))
	}
	before := m.transports[config.HTTP{}].RoundTripper
	file.Write("a , window: 1h", "e")
	if err := m.Reload(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	if len(m.transports) != 1 || m.transports[config.HTTP{}].RoundTripper != before {
		t.Error("a reload has made new transports of equal settings")
	}
}

// TestReloadKeepsCooldown checks that a Retry-After outlasts a change of settings, but not of the API.
func TestReloadKeepsCooldown(t *testing.T) {
	testutil.SetEnv(t, nil)
	api := testutil.New(t)
	api.Faults().MustAdd(simulator.Fault{
		Kind: simulator.FaultStatus, Status: http.StatusTooManyRequests, RetryAfter: time.Hour,
	})
	file := testutil.NewFile(t, api, "a")
	c, err := config.Load([]string{"--config.file=" + file.Path}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	m, err := NewManager(c, prometheus.NewRegistry(), log.NewNopLogger())
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.WithoutCancel(t.Context())
	m.Start(ctx, onDemand)
	defer m.Stop()
	if err := m.List()[0].Refresher.Refresh(ctx); !errors.Is(err, twilio.ErrThrottled) {
		t.Fatalf("error %v", err)
	}
	until := m.List()[0].Refresher.Status().RetryAt
	reload := func() time.Time {
		t.Helper()
		before := m.List()[0]
		if err := m.Reload(ctx); err != nil {
			t.Fatal(err)
		}
		if m.List()[0] == before {
			t.Fatal("the account was not replaced")
		}
		return m.List()[0].Refresher.Status().RetryAt
	}

	file.Write("a , interval: 2h")
	if got := reload(); until.IsZero() || !got.Equal(until) {
		t.Errorf("requests wait until %v after a change of settings, want %v", got, until)
	}
	file.WriteRaw("accounts: [{name: a, account_sid: " + testutil.SID +
		", auth_token_file: token, interval: 2h, base_url: 'http://127.0.0.1:1/v1'}]")
	if got := reload(); !got.IsZero() {
		t.Errorf("requests to another API wait until %v", got)
	}
}
