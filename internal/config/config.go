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
	DemoAccount      = "demo"        // value of the account label
	DemoEmailAccount = "demo-emails" // that of its e-mails
	DemoAccountSID   = "AC00000000000000000000000000000001"
	DemoAuthToken    = "demo"
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
	BaseURL    url.URL
	Timeout    time.Duration // of one HTTP request
	MaxRetries int
	RateLimit  float64             // requests a second; 0 = no limit
	User       string              // SID of the account or of its API key
	Password   config.SecretReader // its Auth Token or secret
	HTTP       HTTP
}

// Flags are what the command line says of the program as a whole.
type Flags struct {
	Demo bool // run against the built-in simulator, whose address is not known yet: see WithDemoURL
	Once bool // refresh once, print the metrics and exit
	// Backfill: refresh once, print the counters of the window's past and exit.
	Backfill bool
	Check    bool // say that the configuration is good, and exit

	Healthcheck *url.URL // ask this and exit; nil unless the command is healthcheck. There are no accounts then

	AutoReload time.Duration // how often to look for a change of the configuration file; 0 is never
	Shard      Shard         // which part of the accounts Accounts and Reload return

	StoragePath string // directory for the states of accounts; "": they are not kept
	Web         Web
	LogLevel    string // debug, info, warn or error
	LogFormat   string // logfmt or json
}

// Web is how the program is served.
type Web struct {
	TelemetryPath       string
	ScrapeTimeoutOffset time.Duration // taken off the timeout that Prometheus announces
	HealthListenAddress string        // serves health and readiness alone, in plain HTTP; "" is off
	EnableLifecycle     bool          // POST /-/reload
	EnablePprof         bool
}

// ValidatedConfig is everything the program was told. Only Load makes one, and nothing can change it, so whoever holds
// one need not check anything.
type ValidatedConfig struct {
	flags      Flags
	toolkit    *web.FlagConfig
	accounts   []Account
	inFile     int // accounts in configFile, those of other shards included
	warnings   []string
	configFile string
	checksum   [sha256.Size]byte // of configFile, no later than when it was loaded
	defaults   Account           // of the accounts in configFile
}

// Flags returns what the command line says of the program as a whole.
func (c *ValidatedConfig) Flags() Flags { return c.flags }

// Accounts returns the accounts, in the order of the file.
func (c *ValidatedConfig) Accounts() []Account { return slices.Clone(c.accounts) }

// InFile returns how many accounts the configuration file has, those of other shards included; 0 without a file.
func (c *ValidatedConfig) InFile() int { return c.inFile }

// Warnings returns what is allowed but looks like a mistake.
func (c *ValidatedConfig) Warnings() []string { return slices.Clone(c.warnings) }

// LoadedChecksum returns the checksum of the configuration file that was loaded.
func (c *ValidatedConfig) LoadedChecksum() [sha256.Size]byte { return c.checksum }

// CurrentChecksum returns the checksum of the configuration file as it is now, or zero if it cannot be read.
func (c *ValidatedConfig) CurrentChecksum() [sha256.Size]byte {
	b, err := readFile(c.configFile, maxConfigFile)
	if err != nil {
		return [sha256.Size]byte{}
	}
	return sha256.Sum256(b)
}

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
	for i := range changed.accounts {
		changed.accounts[i].BaseURL = *u
	}
	return &changed
}

// Reloaded is what the configuration file says when it is read again.
type Reloaded struct {
	Accounts []Account // of this shard, in the order of the file
	InFile   int       // how many the file has, those of other shards included
	Warnings []string  // what is allowed but looks like a mistake
}

// Reload reads the configuration file again. Without a file, nothing can have changed.
func (c *ValidatedConfig) Reload() (*Reloaded, error) {
	if c.configFile == "" {
		return &Reloaded{Accounts: c.Accounts()}, nil
	}
	b, err := readFile(c.configFile, maxConfigFile)
	if err != nil {
		return nil, cannotRead("--config.file", c.configFile, err, "a YAML file of accounts")
	}
	accounts, warnings, err := parseConfigFile(b, c.configFile, &c.defaults)
	if err != nil {
		return nil, err
	}

	inFile := len(accounts)
	own, none := c.flags.Shard.filter(accounts)
	return &Reloaded{own, inFile, append(warnings, none...)}, nil
}

// WriteCheck writes the answer to --config.check where there is nothing wrong.
func (c *ValidatedConfig) WriteCheck(w io.Writer) error {
	for _, warning := range c.warnings {
		_, _ = fmt.Fprintf(w, "warning: %s\n", warning) // what cannot be written shows below
	}
	_, err := fmt.Fprintf(w, "The configuration is valid: %s, %s.\n",
		plural(len(c.accounts), "account"), plural(len(c.warnings), "warning"))
	return err
}

// plural says how many there are of a thing.
func plural(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}
