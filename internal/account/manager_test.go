package account

import (
	"io"
	"testing"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"twilio_operations_exporter/internal/config"
	"twilio_operations_exporter/internal/testutil"
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

func TestReloadBeforeStart(t *testing.T) {
	testutil.SetEnv(t, testutil.New(t).Env())
	c, err := config.Load(nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	m, err := NewManager(c, prometheus.NewRegistry(), log.NewNopLogger())
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Reload(t.Context()); err == nil {
		t.Error("accounts that do not run were replaced")
	}
	m.Stop() // has nothing to stop
}
