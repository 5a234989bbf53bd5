// Package config turns the command line, the environment and the configuration file into a configuration that has been
// checked.
package config

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"time"

	"github.com/prometheus/common/config"
	"github.com/prometheus/exporter-toolkit/web"

	"twilio_operations_exporter/collector"
)

// ProgramName is the program's name as it stands in errors and the help.
const ProgramName = "twilio_operations_exporter"

// The account that --demo shows, which only the built-in simulator knows.
const (
	DemoAccount    = "demo" // value of the account label
	DemoAccountSID = "AC00000000000000000000000000000001"
	DemoAuthToken  = "demo"
)

const (
	// demoInterval is short, so that the numbers of a demo change visibly.
	demoInterval = 5 * time.Second
	maxWindow    = 168 * time.Hour // Twilio keeps operations for 7 days.
	minInterval  = 100 * time.Millisecond
)

// ErrHelp is what Load returns when the command line asked for --help or --version and the answer has been printed.
var ErrHelp = errors.New("help requested")

// Account is one account as it is to be read: checked, defaults filled in.
type Account struct {
	collector.Settings
	BaseURL    *url.URL
	Timeout    time.Duration // of one HTTP request
	MaxRetries int
	RateLimit  float64 // requests a second; 0 = no limit
	HTTP       config.HTTPClientConfig
}

// clone shares nothing with a that could be changed.
func (a *Account) clone() Account {
	c := *a
	u := *a.BaseURL
	c.BaseURL = &u
	auth := *a.HTTP.BasicAuth
	c.HTTP.BasicAuth = &auth
	if p := a.HTTP.ProxyURL.URL; p != nil {
		u := *p
		c.HTTP.ProxyURL.URL = &u
	}
	return c
}

// Web is how the program is served.
type Web struct {
	TelemetryPath       string
	ScrapeTimeoutOffset time.Duration // taken off the timeout that Prometheus announces
	EnableLifecycle     bool          // POST /-/reload
	EnablePprof         bool
}

// Log is how the program logs.
type Log struct {
	Level  string // debug, info, warn or error
	Format string // logfmt or json
}

// ValidatedConfig is everything the program was told. Only Load makes one, and nothing can change it, so whoever holds
// one need not check anything.
type ValidatedConfig struct {
	accounts          []Account
	warnings          []string
	demo, once, check bool
	web               Web
	toolkit           *web.FlagConfig
	log               Log
	configFile        string
	checksum          Checksum // of configFile, no later than when it was loaded
	autoReload        time.Duration
	shard             Shard
	defaults          Account
}

// Accounts returns the accounts, in the order of the file.
func (c *ValidatedConfig) Accounts() []Account {
	accounts := make([]Account, len(c.accounts))
	for i := range c.accounts {
		accounts[i] = c.accounts[i].clone()
	}
	return accounts
}

// Warnings returns what is allowed but looks like a mistake.
func (c *ValidatedConfig) Warnings() []string { return slices.Clone(c.warnings) }

// Demo is whether to run against the built-in simulator. Its address is not known yet: see WithDemoURL.
func (c *ValidatedConfig) Demo() bool { return c.demo }

// Once is whether to refresh once, print the metrics and exit.
func (c *ValidatedConfig) Once() bool { return c.once }

// Check is whether to say that the configuration is good, and exit.
func (c *ValidatedConfig) Check() bool { return c.check }

// Checksum is that of a configuration file; zero, where the file cannot be read.
type Checksum [sha256.Size]byte

// Loaded returns the checksum of the configuration file that was loaded.
func (c *ValidatedConfig) Loaded() Checksum { return c.checksum }

// Current returns the checksum of the configuration file as it is now.
func (c *ValidatedConfig) Current() Checksum {
	b, err := readFile(c.configFile, maxConfigFile)
	if err != nil {
		return Checksum{}
	}
	return sha256.Sum256(b)
}

// AutoReload returns how often to look for a change of the configuration file; 0 is never.
func (c *ValidatedConfig) AutoReload() time.Duration { return c.autoReload }

// Shard returns which part of the accounts Accounts and Reload return.
func (c *ValidatedConfig) Shard() Shard { return c.shard }

// Web returns how the program is served.
func (c *ValidatedConfig) Web() Web { return c.web }

// Log returns how the program logs.
func (c *ValidatedConfig) Log() Log { return c.log }

// Toolkit returns exporter-toolkit's own settings.
func (c *ValidatedConfig) Toolkit() *web.FlagConfig {
	addresses := slices.Clone(*c.toolkit.WebListenAddresses)
	socket, file := *c.toolkit.WebSystemdSocket, *c.toolkit.WebConfigFile
	return &web.FlagConfig{WebListenAddresses: &addresses, WebSystemdSocket: &socket, WebConfigFile: &file}
}

// WithDemoURL returns the configuration of a demo whose API is at u.
func (c *ValidatedConfig) WithDemoURL(u *url.URL) *ValidatedConfig {
	changed := *c
	changed.accounts = c.Accounts()
	base := *u
	changed.accounts[0].BaseURL = &base
	return &changed
}

// Reload reads the configuration file again and returns its accounts, and what looks like a mistake in it. Without a
// file, nothing can have changed.
func (c *ValidatedConfig) Reload() (accounts []Account, warnings []string, err error) {
	if c.configFile == "" {
		return c.Accounts(), nil, nil
	}
	return c.readConfigFile()
}

// readConfigFile returns this shard's accounts of the configuration file.
func (c *ValidatedConfig) readConfigFile() (accounts []Account, warnings []string, err error) {
	accounts, warnings, err = readConfigFile(c.configFile, &c.defaults)
	if err != nil {
		return nil, nil, err
	}
	accounts, none := c.shard.filter(accounts)
	return accounts, append(warnings, none...), nil
}

// WriteCheck writes the answer to --config.check where there is nothing wrong.
func (c *ValidatedConfig) WriteCheck(w io.Writer) error {
	for _, warning := range c.warnings {
		if _, err := fmt.Fprintf(w, "warning: %s\n", warning); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "The configuration is valid: accounts %d, warnings %d.\n", len(c.accounts), len(c.warnings))
	return err
}
