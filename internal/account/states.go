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

// states keeps what accounts know in a directory, so that a restart goes on from it.
type states struct {
	dir    *storage.Dir
	logger log.Logger

	written     prometheus.Gauge
	writeErrors prometheus.Counter
	discarded   *prometheus.CounterVec

	mu      sync.Mutex
	failing map[string]bool // accounts whose last write failed
}

// CheckStorage returns the error that keeping states in the directory would end with, and changes nothing. Without a path,
// nothing is kept.
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

// openStates opens the directory. Without a path, nothing is kept: the result is nil.
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
		dir: dir, logger: log.With(logger, "storage_path", path), failing: map[string]bool{},
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

// identity says what an account reads: a state of anything else is none of its.
func identity(c *config.Account) string {
	api := c.BaseURL.String()
	if c.AccountSID == config.DemoAccountSID {
		api = "demo" // on another port each time
	}
	resource := cmp.Or(c.Resource, twilio.Messages)
	return strings.Join([]string{c.AccountSID, api, string(resource)}, " ")
}

// resumeAll has accounts go on from their states, and keep them from now on.
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

// resume returns true if there was a state to go on from.
func (s *states) resume(a *Account) bool {
	name := a.Name()
	a.Refresher.KeepStates(func(state []byte) {
		if !a.retired.Load() {
			s.write(name, identity(&a.config), state)
		}
	})

	content, err := s.dir.Read(name, identity(&a.config))
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	if err == nil {
		err = a.Refresher.Resume(content)
		switch {
		case err == nil:
			return true
		case errors.Is(err, window.ErrOld):
			err = s.dir.Discard(name, storage.Expired, err)
		default:
			err = s.dir.Discard(name, storage.Corrupt, err)
		}
	}

	reason, file := storage.Unreadable, ""
	if discarded, ok := errors.AsType[*storage.DiscardedError](err); ok {
		reason, file = discarded.Reason, discarded.File
	}
	s.discarded.WithLabelValues(string(reason)).Inc()
	level.Warn(s.logger).Log("msg", "state discarded, starting without it", "account", name, "reason", reason,
		"err", err, "file", file)
	return false
}

// write replaces the state of an account. That it fails is logged once, until no account's fails any more.
func (s *states) write(name, identity string, state []byte) {
	err := s.dir.Write(name, identity, state)

	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.failing)
	if err == nil {
		delete(s.failing, name)
		s.written.SetToCurrentTime()
	} else {
		s.failing[name] = true
		s.writeErrors.Inc()
	}
	switch after := len(s.failing); {
	case before == 0 && after > 0:
		level.Error(s.logger).Log("msg", "failed to write state, a restart would lose what changes from now on",
			"account", name, "err", err, "hint", "Check that the directory exists, is writable and has free space.")
	case before > 0 && after == 0:
		level.Info(s.logger).Log("msg", "writing state succeeded again")
	}
}

// retain removes the states of all accounts but these; one that was renamed keeps its own.
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
	if err := s.dir.Retain(accounts); err != nil {
		level.Warn(s.logger).Log("msg", "failed to remove the states of accounts that no longer exist", "err", err)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.failing, func(name string, _ bool) bool { return !known[name] })
}
