package account

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"twilio_operations_exporter/internal/config"
	"twilio_operations_exporter/internal/testutil"
	"twilio_operations_exporter/twilio"
	"twilio_operations_exporter/twilio/simulator"
)

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

func newManager(t *testing.T, api *testutil.API) *Manager {
	t.Helper()
	testutil.SetEnv(t, api.Env())
	c, err := config.Load([]string{"--twilio.max-retries=0"}, io.Discard)
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
	api := testutil.New(t, testutil.Operation(1, twilio.StatusCompleted, twilio.Stats{Total: 7}))
	m := newManager(t, api)
	m.Start(context.WithoutCancel(t.Context()), OnDemand)
	defer m.Stop()
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

// TestFetchOutlivesACaller holds that a fetch goes on for those who share it.
func TestFetchOutlivesACaller(t *testing.T) {
	op := testutil.Operation(1, twilio.StatusCompleted, twilio.Stats{Total: 7})
	api := testutil.New(t, op)
	m := newManager(t, api)
	m.Start(context.WithoutCancel(t.Context()), OnDemand)
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
	if got, err := a.Fetch(t.Context(), op.ID); err != nil || got.Stats.Total != 7 {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestFetchAfterStop holds that an account that has ended makes no request: it
// would bring back the series that were removed with it.
func TestFetchAfterStop(t *testing.T) {
	op := testutil.Operation(1, twilio.StatusCompleted, twilio.Stats{Total: 7})
	api := testutil.New(t, op)
	m := newManager(t, api)
	m.Start(context.WithoutCancel(t.Context()), OnDemand)
	m.Stop()
	if _, err := m.List()[0].Fetch(t.Context(), op.ID); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if n := api.Requests().Started(); n != 0 {
		t.Errorf("%d requests", n)
	}
}

// TestReloadLeavesBehind holds that a reload waits for a bounded time for an
// account that does not end.
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
		m.Start(t.Context(), OnDemand)
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

// TestSharedTransports holds that accounts of equal settings share connections,
// and send credentials of their own.
func TestSharedTransports(t *testing.T) {
	api := testutil.New(t)
	file := testutil.NewFile(t, api, "a", "b", "c , proxy_url: 'http://127.0.0.1:1'", "d , proxy_url: 'http://u:p@127.0.0.1:1'")
	testutil.SetEnv(t, nil)
	c, err := config.Load([]string{"--config.file", file.Path}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	m, err := NewManager(c, prometheus.NewRegistry(), log.NewNopLogger())
	if err != nil {
		t.Fatal(err)
	}
	m.Start(context.WithoutCancel(t.Context()), OnDemand)
	defer m.Stop()
	if list := m.List(); list[0].shared != list[1].shared || len(transportsOf(list)) != 3 {
		t.Errorf("%d transports", len(transportsOf(list)))
	}
	before := m.List()[0].shared
	file.Write("a , window: 1h", "e")
	if err := m.Reload(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	if used := transportsOf(m.List()); len(used) != 1 || used[0] != before {
		t.Error("a reload has made new transports of equal settings")
	}
}
