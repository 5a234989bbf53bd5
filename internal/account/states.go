package account

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"golang.org/x/sync/errgroup"

	"twilio_operations_exporter/collector"
	"twilio_operations_exporter/collector/window"
	"twilio_operations_exporter/internal/config"
	"twilio_operations_exporter/internal/storage"
	"twilio_operations_exporter/twilio"
)

const storageFlag = "--storage.path" // in errors

// states keeps the states of accounts in a directory, so that a restart resumes from them. A nil *states keeps none.
type states struct {
	dir    *storage.Dir
	logger log.Logger

	written     prometheus.Gauge
	writeErrors prometheus.Counter
	discarded   *prometheus.CounterVec

	mu      sync.Mutex
	failing map[string]bool // accounts whose last write failed
}

// CheckStorage returns the error with which keeping states in a directory would fail, without changing anything.
// Without a path, no states are kept.
func CheckStorage(path string) error {
	if path == "" {
		return nil
	}
	err := storage.Check(path)
	if err != nil {
		return fmt.Errorf("%s: %w", storageFlag, err)
	}
	return nil
}

// openStates opens the directory. Without a path it returns nil.
func openStates(path string, reg prometheus.Registerer, logger log.Logger) (*states, error) {
	if path == "" {
		return nil, nil //nolint:nilnil // documented
	}

	dir, err := storage.Open(path, collector.StateVersion)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", storageFlag, err)
	}

	metrics := promauto.With(reg)
	s := &states{
		dir:     dir,
		logger:  log.With(logger, "storage_path", path),
		failing: map[string]bool{},
		written: metrics.NewGauge(prometheus.GaugeOpts{
			Name: "twilio_exporter_storage_last_write_timestamp_seconds",
			Help: "Unix time at which the state of an account was last written; 0 before the first write.",
		}),
		writeErrors: metrics.NewCounter(prometheus.CounterOpts{
			Name: "twilio_exporter_storage_write_errors_total",
			Help: "Failed writes of the states of accounts.",
		}),
		discarded: metrics.NewCounterVec(prometheus.CounterOpts{
			Name: "twilio_exporter_storage_discarded_total",
			Help: "States of accounts that were discarded when the account started, by reason.",
		}, []string{"reason"}),
	}

	for _, reason := range storage.Reasons() {
		s.discarded.WithLabelValues(string(reason))
	}

	metrics.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "twilio_exporter_storage_bytes",
		Help: "Size of the files in the storage directory, including those set aside.",
	}, func() float64 { return float64(dir.Size()) })
	return s, nil
}

func (s *states) close() {
	if s == nil {
		return
	}
	if err := s.dir.Close(); err != nil {
		level.Warn(s.logger).Log("msg", "failed to unlock the storage directory", "err", err)
	}
}

// identity describes what an account reads. A state with another identity does not belong to it.
func identity(c *config.Account) string {
	api := c.BaseURL.String()
	if c.AccountSID == config.DemoAccountSID {
		api = "demo" // its port changes with every start
	}
	resource := cmp.Or(c.Resource, twilio.Messages)
	return strings.Join([]string{c.AccountSID, api, string(resource)}, " ")
}

// resumeAll makes accounts resume from their states, and keep them from now on.
func (s *states) resumeAll(list []*Account) {
	if s == nil || len(list) == 0 { // a reload may start no account
		return
	}

	var restored atomic.Int64
	var decoders errgroup.Group
	decoders.SetLimit(runtime.GOMAXPROCS(0))
	for _, a := range list {
		decoders.Go(func() error {
			if s.resume(a) {
				restored.Add(1)
			}
			return nil
		})
	}
	_ = decoders.Wait() // none returns an error
	level.Info(s.logger).Log("msg", "states restored", "accounts", restored.Load(), "of", len(list))
}

// resume makes an account keep its state, and resume from the one that was kept before. It returns false if there was
// none that could be used.
func (s *states) resume(a *Account) bool {
	name := a.Name()
	a.Refresher.KeepStates(func(state []byte) {
		if !a.retired.Load() {
			s.write(name, identity(&a.config), state)
		}
	})

	err := s.load(a)
	switch {
	case err == nil:
		return true
	case errors.Is(err, fs.ErrNotExist):
		return false
	}

	reason := storage.Unreadable
	file := ""
	discarded, ok := errors.AsType[*storage.DiscardedError](err)
	if ok {
		reason = discarded.Reason
		file = discarded.File
	}
	s.discarded.WithLabelValues(string(reason)).Inc()
	level.Warn(s.logger).Log("msg", "state discarded, starting without it", "account", name, "reason", reason,
		"err", err, "file", file)
	return false
}

// load makes an account resume from its file. A file that is of no use is set aside. The error is fs.ErrNotExist if
// there is no file.
func (s *states) load(a *Account) error {
	content, err := s.dir.Read(a.Name(), identity(&a.config))
	if err != nil {
		return err
	}

	err = a.Refresher.Resume(content)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, window.ErrOld):
		return s.dir.Discard(a.Name(), storage.Expired, err)
	default:
		return s.dir.Discard(a.Name(), storage.Corrupt, err)
	}
}

// write replaces the state of an account. Of failures in a row, of any accounts, only the first is logged.
func (s *states) write(name, identity string, state []byte) {
	err := s.dir.Write(name, identity, state)

	s.mu.Lock()
	defer s.mu.Unlock()
	hadFailed := len(s.failing) > 0
	if err != nil {
		s.failing[name] = true
		s.writeErrors.Inc()
		if !hadFailed {
			level.Error(s.logger).Log("msg", "failed to write state, a restart would lose what changes from now on",
				"account", name, "err", err, "hint", "Check that the directory exists, is writable and has free space.")
		}
		return
	}

	delete(s.failing, name)
	s.written.SetToCurrentTime()
	if hadFailed && len(s.failing) == 0 {
		level.Info(s.logger).Log("msg", "writing state succeeded again")
	}
}

// retain removes the states of all accounts except these. An account that was renamed keeps its state.
func (s *states) retain(configs []config.Account) {
	if s == nil {
		return
	}

	known := map[string]bool{}
	accounts := make([]storage.Account, len(configs))
	for i := range configs {
		accounts[i] = storage.Account{Name: configs[i].Account, Identity: identity(&configs[i])}
		known[configs[i].Account] = true
	}
	err := s.dir.Retain(accounts)
	if err != nil {
		level.Warn(s.logger).Log("msg", "failed to remove the states of accounts that no longer exist", "err", err)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.failing, func(name string, _ bool) bool { return !known[name] })
}
