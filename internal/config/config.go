// Package config turns the command line, the environment and the configuration
// file into a configuration that has been checked.
package config

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"github.com/prometheus/common/version"
	"github.com/prometheus/exporter-toolkit/web"
	"github.com/prometheus/exporter-toolkit/web/kingpinflag"

	"twilio_operations_exporter/collector"
	"twilio_operations_exporter/internal/sanitize"
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

// ErrHelp is what Load returns when the command line asked for --help or
// --version and the answer has been printed.
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

// ValidatedConfig is everything the program was told. Only Load makes one, and
// nothing can change it, so whoever holds one need not check anything.
type ValidatedConfig struct {
	accounts          []Account
	warnings          []string
	demo, once, check bool
	web               Web
	toolkit           *web.FlagConfig
	log               Log
	configFile        string
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

// Demo is whether to run against the built-in simulator. Its address is not
// known yet: see WithDemoURL.
func (c *ValidatedConfig) Demo() bool { return c.demo }

// Once is whether to refresh once, print the metrics and exit.
func (c *ValidatedConfig) Once() bool { return c.once }

// Check is whether to say that the configuration is good, and exit.
func (c *ValidatedConfig) Check() bool { return c.check }

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

// Reload reads the configuration file again and returns its accounts, and what
// looks like a mistake in it. Without a file, nothing can have changed.
func (c *ValidatedConfig) Reload() (accounts []Account, warnings []string, err error) {
	if c.configFile == "" {
		return c.Accounts(), nil, nil
	}
	return readConfigFile(c.configFile, &c.defaults)
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

// input is a value and where it came from.
type input struct {
	where string // "--twilio.timeout", "accounts.yml:3: interval"
	value string
}

func (in input) bad(want string) error {
	return fmt.Errorf("%s: %s is not %s", in.where, sanitize.Quote(in.value), want)
}

// setting is a value of an account that has a default. One row defines the flag,
// its environment variable, its key in the file and its validation.
type setting struct {
	flag, env, key string // key "": a flag only
	defaultValue   string
	help           string
	want           string // completes "X is not …"
	set            func(a *Account, value string) bool
}

var settings = []setting{
	{
		flag: "twilio.base-url", env: "TWILIO_BASE_URL", key: "base_url", defaultValue: "https://comms.twilio.com/v1",
		help: "Base URL of the API. Credentials are sent to this host only.",
		want: "an http or https URL without credentials, query and fragment, such as https://comms.twilio.com/v1",
		set:  func(a *Account, v string) (ok bool) { a.BaseURL, ok = parseBaseURL(v); return ok },
	},
	{
		flag: "twilio.timeout", defaultValue: "30s",
		help: "Timeout of one HTTP request, including the body, excluding client-side queueing.",
		want: "a duration above 0, such as 30s",
		set:  func(a *Account, v string) bool { return setDuration(&a.Timeout, v, 1, math.MaxInt64) },
	},
	{
		flag: "twilio.max-retries", defaultValue: "4",
		help: "Maximum retries per request.",
		want: "a whole number from 0 to 100",
		set:  func(a *Account, v string) bool { return setInt(&a.MaxRetries, v, 0, 100) },
	},
	{
		flag: "twilio.rate-limit", key: "rate_limit", defaultValue: "10",
		help: "Maximum requests per second and account; 0 disables the limit.",
		want: "a number of requests a second, 0 (no limit) or more",
		set:  func(a *Account, v string) bool { return setFloat(&a.RateLimit, v, 0, math.MaxFloat64) },
	},
	{
		flag: "collector.interval", key: "interval", defaultValue: "1m",
		help: "Interval between background refreshes of an account; 0s refreshes on each scrape instead.",
		want: "a duration of at least 100ms, such as 1m, or 0s to refresh on each scrape",
		set: func(a *Account, v string) bool {
			return setDuration(&a.Interval, v, 0, 0) || setDuration(&a.Interval, v, minInterval, math.MaxInt64)
		},
	},
	{
		flag: "collector.window", key: "window", defaultValue: "24h",
		help: "How far back to count operations, by creation time, 1m to 168h. Choose it longer than you schedule ahead.",
		want: "a duration from 1m to 168h (Twilio keeps operations for 7 days)",
		set:  func(a *Account, v string) bool { return setDuration(&a.Window, v, time.Minute, maxWindow) },
	},
	{
		flag: "collector.page-size", key: "page_size", defaultValue: "1000",
		help: "Operations per page, 1 to 1000.",
		want: "a whole number from 1 to 1000",
		set:  func(a *Account, v string) bool { return setInt(&a.PageSize, v, 1, 1000) },
	},
	{
		flag: "collector.concurrency", key: "concurrency", defaultValue: "4",
		help: "Maximum concurrent requests per account.",
		want: "a whole number from 1 to 1000",
		set:  func(a *Account, v string) bool { return setInt(&a.Concurrency, v, 1, 1000) },
	},
	{
		flag: "collector.max-staleness", key: "max_staleness", defaultValue: "0.1",
		help: "How far a finished operation may lag behind, as a fraction of its age, 0 to 1; " +
			"0 reads the whole window on every refresh.",
		want: "a number from 0 to 1",
		set:  func(a *Account, v string) bool { return setFloat(&a.MaxStaleness, v, 0, 1) },
	},
	{
		flag: "collector.refresh-timeout", defaultValue: "15m",
		help: "Timeout of one refresh of an account.",
		want: "a duration above 0, such as 15m",
		set:  func(a *Account, v string) bool { return setDuration(&a.RefreshTimeout, v, 1, math.MaxInt64) },
	},
	{
		flag: "collector.max-age", defaultValue: "10m",
		help: "How long to keep exporting the last good gauges while refreshes fail; at least two intervals.",
		want: "a duration above 0, such as 10m",
		set:  func(a *Account, v string) bool { return setDuration(&a.MaxAge, v, 1, math.MaxInt64) },
	},
}

// options are the command line and environment before any check.
type options struct {
	accountSID, authTokenFile, apiKey, apiSecretFile string
	authToken, apiSecret                             string // from the environment alone

	settings map[string]*string // by flag
	isSet    map[string]*bool   // of settings: by flag or by variable

	configFile          string
	check, once, demo   bool
	web                 *web.FlagConfig
	telemetryPath       string
	scrapeTimeoutOffset string
	lifecycle, pprof    bool
	logLevel, logFormat string
	answered            bool
}

// Load validates a command line and the environment. Its error is one line that
// names the flag, its value and what would be right. The text of --help and
// --version goes to stdout; the error is then ErrHelp.
func Load(args []string, stdout io.Writer) (*ValidatedConfig, error) {
	o := &options{settings: map[string]*string{}, isSet: map[string]*bool{}}
	if _, err := newApplication(o, stdout).Parse(args); err != nil && !o.answered {
		return nil, fmt.Errorf("%s (--help lists all flags)%s", sanitize.OneLine(err.Error()), secretHint(args))
	}
	if o.answered {
		return nil, ErrHelp
	}
	for _, s := range settings {
		if s.env != "" && os.Getenv(s.env) != "" {
			*o.isSet[s.flag] = true
		}
	}
	o.authToken = strings.TrimSpace(os.Getenv("TWILIO_AUTH_TOKEN"))
	o.apiSecret = strings.TrimSpace(os.Getenv("TWILIO_API_SECRET"))
	return o.validate()
}

func newApplication(o *options, stdout io.Writer) *kingpin.Application {
	app := kingpin.New(ProgramName, "Prometheus exporter for Twilio message operations, by status.")
	app.UsageWriter(stdout)
	app.Terminate(func(int) { o.answered = true })
	app.Version(version.Print(ProgramName))
	app.HelpFlag.Short('h')

	app.Flag("twilio.account-sid", "Account SID (AC…); also the value of the account label.").
		Envar("TWILIO_ACCOUNT_SID").PlaceHolder("AC…").StringVar(&o.accountSID)
	app.Flag("twilio.auth-token-file", "File with the Auth Token. Alternatively, set $TWILIO_AUTH_TOKEN to the token.").
		PlaceHolder("FILE").StringVar(&o.authTokenFile)
	app.Flag("twilio.api-key", "API key SID (SK…), used instead of the Auth Token.").
		Envar("TWILIO_API_KEY").PlaceHolder("SK…").StringVar(&o.apiKey)
	app.Flag("twilio.api-secret-file",
		"File with the API key's secret. Alternatively, set $TWILIO_API_SECRET to the secret.").
		PlaceHolder("FILE").StringVar(&o.apiSecretFile)

	for _, s := range settings {
		value, isSet := new(string), new(bool)
		o.settings[s.flag], o.isSet[s.flag] = value, isSet
		flag := app.Flag(s.flag, s.help).Default(s.defaultValue).IsSetByUser(isSet)
		if s.env != "" {
			flag.Envar(s.env)
		}
		flag.StringVar(value)
	}

	app.Flag("config.file", "YAML file with one or more accounts; the other flags are their defaults.").
		PlaceHolder("FILE").StringVar(&o.configFile)
	app.Flag("config.check", "Check the flags and the configuration file, then exit.").BoolVar(&o.check)
	app.Flag("once", "Refresh once, print the metrics and exit; the status is 1 if any account failed.").
		BoolVar(&o.once)
	app.Flag("demo", "Run against the built-in simulator, without an account or a network. "+
		"Refreshes every 5s unless --collector.interval is set.").
		BoolVar(&o.demo)

	o.web = kingpinflag.AddFlags(app, ":9861")
	app.Flag("web.telemetry-path", "Path under which to expose metrics.").
		Default("/metrics").StringVar(&o.telemetryPath)
	app.Flag("web.scrape-timeout-offset", "Offset to subtract from the scrape timeout that Prometheus sends.").
		Default("500ms").StringVar(&o.scrapeTimeoutOffset)
	app.Flag("web.enable-lifecycle", "Enable reloading by POST /-/reload.").BoolVar(&o.lifecycle)
	app.Flag("web.enable-pprof", "Enable profiling under /debug/pprof/.").BoolVar(&o.pprof)

	app.Flag("log.level", "Only log messages with the given severity or above. One of: debug, info, warn, error.").
		Default("info").StringVar(&o.logLevel)
	app.Flag("log.format", "Output format of log messages. One of: logfmt, json.").
		Default("logfmt").StringVar(&o.logFormat)
	return app
}

func (o *options) validate() (*ValidatedConfig, error) {
	c := &ValidatedConfig{
		demo: o.demo, once: o.once, check: o.check,
		web:     Web{TelemetryPath: o.telemetryPath, EnableLifecycle: o.lifecycle, EnablePprof: o.pprof},
		toolkit: o.web, log: Log{o.logLevel, o.logFormat},
		configFile: o.configFile,
	}
	if err := o.validateWebAndLog(c); err != nil {
		return nil, err
	}
	for _, s := range settings {
		in := input{where: flagName(s.flag, s.env), value: *o.settings[s.flag]}
		if !s.set(&c.defaults, in.value) {
			return nil, in.bad(s.want)
		}
	}
	if err := o.validateAccounts(c); err != nil {
		return nil, err
	}
	if c.once {
		// An account that refreshes on each scrape would refresh again when the
		// metrics are printed.
		for i := range c.accounts {
			c.accounts[i].Interval = max(c.accounts[i].Interval, time.Minute)
		}
	}
	return c, nil
}

// reservedPaths are served by the exporter itself and cannot be the telemetry path.
var reservedPaths = []string{"/", "/-", "/probe", "/debug"}

// plainPath is narrower than what a URL allows: the path becomes a pattern of
// http.ServeMux, where braces and blanks have a meaning.
var plainPath = regexp.MustCompile(`^/[A-Za-z0-9._~/-]*$`)

func (o *options) validateWebAndLog(c *ValidatedConfig) error {
	if in := (input{"--log.level", o.logLevel}); !slices.Contains([]string{"debug", "info", "warn", "error"}, in.value) {
		return in.bad("one of debug, info, warn and error")
	}
	if in := (input{"--log.format", o.logFormat}); in.value != "logfmt" && in.value != "json" {
		return in.bad("one of logfmt and json")
	}
	offset := input{"--web.scrape-timeout-offset", o.scrapeTimeoutOffset}
	if !setDuration(&c.web.ScrapeTimeoutOffset, offset.value, 0, math.MaxInt64) {
		return offset.bad("a duration of 0s or more, such as 500ms")
	}
	p := input{"--web.telemetry-path", o.telemetryPath}
	if !plainPath.MatchString(p.value) || path.Clean(p.value) != p.value {
		return p.bad("a plain path that begins with a slash, such as /metrics")
	}
	for _, r := range reservedPaths {
		if p.value == r || r != "/" && strings.HasPrefix(p.value, r+"/") {
			return p.bad("available: the exporter serves " + r + " itself, choose another, such as /metrics")
		}
	}
	if !*o.web.WebSystemdSocket {
		for _, address := range *o.web.WebListenAddresses {
			if in := (input{"--web.listen-address", address}); !validListenAddress(address) {
				return in.bad("an address to listen on, such as :9861 or 127.0.0.1:9861")
			}
		}
	}
	if err := web.Validate(*o.web.WebConfigFile); err != nil {
		return fmt.Errorf("--web.config.file: %q cannot be used: %s", *o.web.WebConfigFile, sanitize.OneLine(err.Error()))
	}
	return nil
}

func (o *options) validateAccounts(c *ValidatedConfig) (err error) {
	own := o.accountInputs()
	switch {
	case o.demo && o.configFile != "":
		return errors.New("--demo and --config.file are mutually exclusive: use one of them")
	case o.demo && len(own) > 0:
		return fmt.Errorf("--demo and %s are mutually exclusive: the demo has its own account, remove one of them", own[0])
	case o.demo && *o.isSet["twilio.base-url"]:
		return errors.New("--demo and --twilio.base-url (TWILIO_BASE_URL) are mutually exclusive: " +
			"the demo has its own API, remove one of them")
	case o.demo:
		a := c.defaults
		a.Account = DemoAccount
		if !*o.isSet["collector.interval"] {
			a.Interval = demoInterval
		}
		if !*o.isSet["twilio.rate-limit"] {
			a.RateLimit = 0 // the simulator needs no protection
		}
		a.HTTP = httpConfig(DemoAccountSID, DemoAuthToken, "")
		c.accounts = []Account{a}
		return nil
	case o.configFile != "" && len(own) > 0:
		return fmt.Errorf(
			"--config.file and %s are mutually exclusive: the file defines the accounts, remove one of them", own[0],
		)
	case o.configFile != "":
		c.accounts, c.warnings, err = readConfigFile(o.configFile, &c.defaults)
		return err
	}

	//nolint:gosec // G101: names of flags and variables
	const (
		sid        = "--twilio.account-sid (TWILIO_ACCOUNT_SID)"
		tokenFile  = "--twilio.auth-token-file"
		token      = "TWILIO_AUTH_TOKEN"
		key        = "--twilio.api-key (TWILIO_API_KEY)"
		secretFile = "--twilio.api-secret-file"
		secret     = "TWILIO_API_SECRET"
	)
	if o.accountSID == "" {
		return errors.New(sid + ": no account configured: set an Account SID (AC…), or use --config.file or --demo")
	}
	a := c.defaults
	a.Account = o.accountSID
	c.warnings, err = (&credentials{
		sid: input{sid, o.accountSID}, key: input{key, o.apiKey},
		tokenFile: input{tokenFile, o.authTokenFile}, token: input{token, o.authToken},
		secretFile: input{secretFile, o.apiSecretFile}, secret: input{secret, o.apiSecret},
		wantToken:  tokenFile + " or " + token,
		wantSecret: secretFile + " or " + secret,
	}).apply(&a)
	if err != nil {
		return err
	}
	c.accounts, c.warnings = []Account{a}, append(c.warnings, clearText(&a)...)
	return nil
}

// accountInputs names the flags and variables that are set and describe one account.
func (o *options) accountInputs() (names []string) {
	for _, in := range []input{
		{"--twilio.account-sid (TWILIO_ACCOUNT_SID)", o.accountSID},
		{"--twilio.auth-token-file", o.authTokenFile},
		{"TWILIO_AUTH_TOKEN", o.authToken},
		{"--twilio.api-key (TWILIO_API_KEY)", o.apiKey},
		{"--twilio.api-secret-file", o.apiSecretFile},
		{"TWILIO_API_SECRET", o.apiSecret},
	} {
		if in.value != "" {
			names = append(names, in.where)
		}
	}
	return names
}

// credentials are those of one account, from flags or from the file.
type credentials struct {
	sid, key              input
	token, tokenFile      input
	secret, secretFile    input
	wantToken, wantSecret string // where the Auth Token, the API secret may come from
}

// The documented forms. Other values cause a warning only: the API decides which
// it accepts.
var (
	accountSIDForm = regexp.MustCompile(`^AC[0-9a-fA-F]{32}$`)
	apiKeyForm     = regexp.MustCompile(`^SK[0-9a-fA-F]{32}$`)
)

func (c *credentials) apply(a *Account) (warnings []string, err error) {
	if !validUser(c.sid.value) {
		return nil, c.sid.bad("an Account SID: AC and 32 hexadecimal digits")
	}
	if !accountSIDForm.MatchString(c.sid.value) {
		warnings = append(
			warnings,
			fmt.Sprintf(
				"%s: %s does not look like an Account SID (AC and 32 hexadecimal digits)", c.sid.where, sanitize.Quote(c.sid.value),
			),
		)
	}
	for _, both := range [][2]input{{c.token, c.tokenFile}, {c.secret, c.secretFile}} {
		if both[0].value != "" && both[1].value != "" {
			return nil, fmt.Errorf("%s and %s both set the same secret: remove one of them", both[1].where, both[0].where)
		}
	}
	user, secret, file := c.sid, c.token, c.tokenFile
	switch {
	case c.key.value != "":
		user, secret, file = c.key, c.secret, c.secretFile
		if !validUser(user.value) {
			return nil, user.bad("the SID of an API key: SK and 32 hexadecimal digits")
		}
		if !apiKeyForm.MatchString(user.value) {
			warnings = append(
				warnings,
				fmt.Sprintf(
					"%s: %s does not look like the SID of an API key (SK and 32 hexadecimal digits)", user.where,
					sanitize.Quote(user.value),
				),
			)
		}
		if secret.value == "" && file.value == "" {
			return nil, fmt.Errorf("%s: the API key's secret is missing: set %s", user.where, c.wantSecret)
		}
	case c.secret.value != "" || c.secretFile.value != "":
		where := c.secretFile.where
		if c.secretFile.value == "" {
			where = c.secret.where
		}
		return nil, fmt.Errorf("%s: API secret without an API key: set %s", where, c.key.where)
	case secret.value == "" && file.value == "":
		return nil, fmt.Errorf(
			"%s: no credentials for %s: set %s, or an API key and its secret", user.where, sanitize.Quote(user.value),
			c.wantToken,
		)
	}
	// The file that is not used is checked too, or else its absence would show
	// only when it is needed.
	for _, f := range []input{c.tokenFile, c.secretFile} {
		if err := checkSecretFile(f); err != nil {
			return nil, err
		}
	}
	tls, proxy := a.HTTP.TLSConfig, a.HTTP.ProxyConfig
	a.HTTP = httpConfig(user.value, secret.value, file.value)
	a.HTTP.TLSConfig = tls
	if proxy.ProxyURL.URL != nil {
		a.HTTP.ProxyConfig = proxy
	}
	return warnings, nil
}

// httpConfig does not follow redirects: they would send the credentials to another host.
func httpConfig(user, secret, secretFile string) config.HTTPClientConfig {
	return config.HTTPClientConfig{
		BasicAuth:   &config.BasicAuth{Username: user, Password: config.Secret(secret), PasswordFile: secretFile},
		EnableHTTP2: true,
		ProxyConfig: config.ProxyConfig{ProxyFromEnvironment: true},
	}
}

// checkSecretFile reads the file to report errors at startup; it is read again
// for each request.
func checkSecretFile(f input) error {
	if f.value == "" {
		return nil
	}
	b, err := os.ReadFile(f.value)
	if err != nil {
		var pathError *os.PathError
		if errors.As(err, &pathError) {
			err = pathError.Err
		}
		return fmt.Errorf("%s: cannot read %s (%w): want a file with the secret", f.where, sanitize.Quote(f.value), err)
	}
	if strings.TrimSpace(string(b)) == "" {
		return fmt.Errorf("%s: %s is empty: want a file with the secret", f.where, sanitize.Quote(f.value))
	}
	return nil
}

// clearText warns of credentials that are sent unencrypted.
func clearText(a *Account) []string {
	if a.BaseURL.Scheme != "http" {
		return nil
	}
	host := a.BaseURL.Hostname()
	if addr, err := netip.ParseAddr(host); host == "localhost" || err == nil && addr.IsLoopback() {
		return nil
	}
	return []string{fmt.Sprintf("account %q: credentials are sent to %s unencrypted", a.Account, a.BaseURL.Host)}
}

// validUser holds for what can be the user of basic authentication (RFC 7617)
// and a label value.
func validUser(s string) bool {
	return s != "" && validName(s) && !strings.ContainsFunc(s, func(r rune) bool { return r == ':' || unicode.IsSpace(r) })
}

// validName holds for what can be a label value that people can read.
func validName(s string) bool {
	return utf8.ValidString(s) && strings.TrimSpace(s) != "" && !strings.ContainsFunc(s, unicode.IsControl)
}

func validListenAddress(address string) bool {
	if strings.HasPrefix(address, "vsock://") {
		return true // exporter-toolkit's own
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil || strings.ContainsFunc(host, unicode.IsSpace) {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n <= math.MaxUint16
}

func parseBaseURL(s string) (*url.URL, bool) {
	u, err := url.Parse(s)
	ok := err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" &&
		u.User == nil && u.RawQuery == "" && !u.ForceQuery && !strings.Contains(s, "#") && validPort(u)
	return u, ok
}

// validPort checks what url.Parse does not: the range, and "host:".
func validPort(u *url.URL) bool {
	if u.Port() == "" {
		return !strings.HasSuffix(u.Host, ":")
	}
	n, err := strconv.ParseUint(u.Port(), 10, 16)
	return err == nil && n > 0
}

// setDuration accepts the formats of Go and of Prometheus: 1h30m, 1.5h, 7d.
func setDuration(to *time.Duration, s string, low, high time.Duration) bool {
	d, err := time.ParseDuration(s)
	if err != nil {
		var m model.Duration
		m, err = model.ParseDuration(s)
		d = time.Duration(m)
	}
	if err != nil || d < low || d > high {
		return false
	}
	*to = d
	return true
}

func setInt(to *int, s string, low, high int) bool {
	n, err := strconv.Atoi(s)
	if err != nil || n < low || n > high {
		return false
	}
	*to = n
	return true
}

func setFloat(to *float64, s string, low, high float64) bool {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !(f >= low && f <= high) { // the form that is false for NaN
		return false
	}
	*to = f
	return true
}

func flagName(flag, env string) string {
	if env == "" {
		return "--" + flag
	}
	return "--" + flag + " (" + env + ")"
}

// secretHint says how to pass a secret that was passed as a flag.
func secretHint(args []string) string {
	for _, arg := range args {
		name, _, _ := strings.Cut(arg, "=")
		switch name {
		case "--twilio.auth-token":
			return "; secrets are not accepted as flag values: use --twilio.auth-token-file or TWILIO_AUTH_TOKEN"
		case "--twilio.api-secret":
			return "; secrets are not accepted as flag values: use --twilio.api-secret-file or TWILIO_API_SECRET"
		}
	}
	return ""
}
