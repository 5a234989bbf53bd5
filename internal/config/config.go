// Package config turns the command line, the environment and the configuration file into a validated configuration.
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

// ProgramName is the program's name in errors and in the help.
const ProgramName = "twilio_operations_exporter"

// The accounts of --demo. Only the built-in simulator knows their credentials.
const (
	DemoAccount      = "demo"        // value of the account label
	DemoEmailAccount = "demo-emails" // that of its e-mails
	DemoAccountSID   = "AC00000000000000000000000000000001"
	DemoAuthToken    = "demo"
)

const (
	// demoInterval is short, so that one can watch the numbers of the demo change.
	demoInterval = 5 * time.Second
	maxWindow    = 168 * time.Hour // Twilio keeps operations for 7 days.
	minInterval  = 100 * time.Millisecond
)

// ErrHelp is returned by Load after it has printed the answer to --help or --version.
var ErrHelp = errors.New("help requested")

// Account is the validated configuration of one account, with defaults filled in.
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

// Flags are the flags that concern the program as a whole.
type Flags struct {
	Demo     bool // run against the built-in simulator: see WithDemoURL
	Once     bool // refresh once, print the metrics and exit
	Backfill bool // refresh once, print the counters of the window's past and exit
	Check    bool // validate the configuration and exit

	Healthcheck *url.URL // ask this and exit; nil unless the command is healthcheck. There are no accounts then

	AutoReload time.Duration // how often to look for a change of the configuration file; 0 = never
	Shard      Shard         // which of the accounts Accounts and Reload return

	StoragePath string // directory for the states of accounts; "" = they are not kept
	Web         Web
	LogLevel    string // debug, info, warn or error
	LogFormat   string // logfmt or json
}

// Web are the flags of the HTTP server.
type Web struct {
	TelemetryPath       string
	ScrapeTimeoutOffset time.Duration // taken off the timeout that Prometheus announces
	HealthListenAddress string        // where to serve health and readiness alone, in plain HTTP; "" = nowhere
	EnableLifecycle     bool          // POST /-/reload
	EnablePprof         bool
}

// ValidatedConfig is the whole configuration. Only Load makes one and nothing can change it, so its users need not
// validate anything.
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

// Flags returns the flags that concern the program as a whole.
func (c *ValidatedConfig) Flags() Flags { return c.flags }

// Accounts returns the accounts, in the order of the file.
func (c *ValidatedConfig) Accounts() []Account { return slices.Clone(c.accounts) }

// InFile returns how many accounts the configuration file has, those of other shards included; 0 without a file.
func (c *ValidatedConfig) InFile() int { return c.inFile }

// Warnings returns descriptions of what is allowed but looks like a mistake.
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
	socket := *c.toolkit.WebSystemdSocket
	file := *c.toolkit.WebConfigFile
	return &web.FlagConfig{WebListenAddresses: &addresses, WebSystemdSocket: &socket, WebConfigFile: &file}
}

// WithDemoURL returns the configuration of a demo with the simulator's URL, which is not known before it listens.
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

// WriteCheck writes what --config.check prints for a valid configuration.
func (c *ValidatedConfig) WriteCheck(w io.Writer) error {
	for _, warning := range c.warnings {
		_, _ = fmt.Fprintf(w, "warning: %s\n", warning) // if this fails, so does the last write
	}
	_, err := fmt.Fprintf(w, "The configuration is valid: %s, %s.\n",
		plural(len(c.accounts), "account"), plural(len(c.warnings), "warning"))
	return err
}

// plural is "1 thing" or "n things".
func plural(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}
