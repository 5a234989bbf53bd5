package account

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/go-kit/log/level"

	"twilio_operations_exporter/internal/config"
)

// settleTime is how long a changed configuration file must stay the same before it is reloaded.
const settleTime = time.Second

// Reload replaces the accounts by those in the configuration file as it is now. New accounts run until ctx ends or Stop
// is called. On an error the accounts stay as they are.
func (m *Manager) Reload(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()

	reloaded, err := m.config.Reload()
	if err == nil {
		err = m.replace(ctx, reloaded.Accounts)
	}
	if err != nil {
		m.reloadSuccessful.Set(0)
		m.failed.Store(&FailedReload{time.Now(), err})
		level.Error(m.logger).Log("msg", "reload failed, keeping the previous configuration", "err", err)
		return err
	}

	m.loaded(reloaded.InFile, reloaded.Warnings)
	return nil
}

// FailedReload is when and why a reload failed.
type FailedReload struct {
	At  time.Time
	Err error
}

// FailedReload returns the last reload if it failed, or else nil.
func (m *Manager) FailedReload() *FailedReload { return m.failed.Load() }

// ReloadOn reloads on every signal, until ctx ends.
func (m *Manager) ReloadOn(ctx context.Context, signals <-chan os.Signal) {
	for {
		select {
		case <-signals:
			level.Info(m.logger).Log("msg", "received SIGHUP, reloading")
			_ = m.Reload(ctx) // it has logged the reason
		case <-ctx.Done():
			return
		}
	}
}

// AutoReload reloads whenever the configuration file has changed, if that is enabled, until ctx ends. A failed reload
// is retried, as what was missing, such as a secret, may have appeared.
func (m *Manager) AutoReload(ctx context.Context) {
	interval := m.config.Flags().AutoReload
	if interval == 0 {
		return
	}

	loaded := m.config.LoadedChecksum()
	failed := false
	for wait(ctx, interval) {
		current := m.config.CurrentChecksum()
		if current == loaded && !failed {
			continue
		}
		// The file may still be being written.
		if !wait(ctx, min(settleTime, interval)) || m.config.CurrentChecksum() != current {
			continue
		}
		if current != loaded {
			level.Info(m.logger).Log("msg", "configuration file has changed, reloading")
		}
		loaded = current
		failed = m.Reload(ctx) != nil
	}
}

// wait waits for d. It returns false if ctx ends first.
func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// replacement is what a reload does to the accounts that run.
type replacement struct {
	kept    map[string]*Account // those with the same settings
	ended   map[string]*Account // all others
	renewed map[string]bool     // names in ended that come back with other settings
	started []*Account
}

// newReplacement compares the running accounts with those in a new configuration.
func newReplacement(running []*Account, configs []config.Account) *replacement {
	r := &replacement{
		kept:    map[string]*Account{},
		ended:   map[string]*Account{},
		renewed: map[string]bool{},
	}
	for _, a := range running {
		r.ended[a.Name()] = a
	}

	for i := range configs {
		name := configs[i].Account
		a := r.ended[name]
		switch {
		case a == nil: // it is new
		case a.config == configs[i]:
			r.kept[name] = a
			delete(r.ended, name)
		default:
			r.renewed[name] = true
		}
	}
	return r
}

// isStopped reports whether an account ends and nothing takes its place.
func (r *replacement) isStopped(a *Account) bool {
	return r.ended[a.Name()] == a && !r.renewed[a.Name()]
}

// replace makes the accounts of configs run instead of the current ones. Accounts with the same settings go on. On an
// error, nothing has changed.
func (m *Manager) replace(ctx context.Context, configs []config.Account) error {
	if !m.running {
		return errors.New("the accounts are not running")
	}
	err := m.addTransports(configs)
	if err != nil {
		return err
	}

	m.Waiting() // if all are ready, this records it before new accounts are added
	r := newReplacement(m.List(), configs)

	// Removed accounts disappear at once. Accounts with other settings are exported as they were until their successors run.
	visible := slices.DeleteFunc(slices.Clone(m.List()), r.isStopped)
	m.current.Store(&visible)

	// Series are removed after the account has ended, as a late request would bring them back.
	m.end(slices.Collect(maps.Values(r.ended)))
	for name, a := range r.ended {
		a.retired.Store(true)
		m.metrics.Remove(name)
	}
	m.states.retain(configs)

	next := make([]*Account, len(configs))
	for i := range configs {
		next[i] = r.kept[configs[i].Account]
		if next[i] == nil {
			next[i] = m.newSuccessor(&configs[i], r.ended[configs[i].Account])
			r.started = append(r.started, next[i])
		}
	}

	m.states.resumeAll(r.started)
	sharePace(next, r.started)
	start(ctx, r.started, 0)
	m.current.Store(&next)
	m.dropTransports(next)
	m.logReplacement(r)
	return nil
}

// newSuccessor makes an account. before is the one of the same name that it replaces, nil if there is none.
func (m *Manager) newSuccessor(c *config.Account, before *Account) *Account {
	a := m.newAccount(c)
	if before != nil && before.config.BaseURL == c.BaseURL {
		a.client.ShareCooldown(before.client) // a Retry-After outlasts a change of settings
	}
	return a
}

// logReplacement logs which accounts a reload has changed.
func (m *Manager) logReplacement(r *replacement) {
	if len(r.started) == 0 && len(r.ended) == 0 {
		level.Debug(m.logger).Log("msg", "configuration reloaded, no accounts changed")
		return
	}

	var started, restarted, stopped []string
	for _, a := range r.started {
		if r.renewed[a.Name()] {
			restarted = append(restarted, a.Name())
		} else {
			started = append(started, a.Name())
		}
	}
	for _, a := range r.ended {
		if r.isStopped(a) {
			stopped = append(stopped, a.Name())
		}
	}
	level.Info(m.logger).Log(
		"msg", "configuration reloaded",
		"started", someNames(started),
		"restarted", someNames(restarted),
		"stopped", someNames(stopped),
		"kept", someNames(slices.Collect(maps.Keys(r.kept))),
	)
}

// someNames lists up to ten names.
func someNames(names []string) string {
	const most = 10
	slices.Sort(names)
	others := len(names) - most
	if others > 0 {
		names = append(names[:most:most], fmt.Sprintf("%d others", others))
	}
	return strings.Join(names, ", ")
}
