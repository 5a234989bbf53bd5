package config

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/version"
	"github.com/prometheus/exporter-toolkit/web"
	"github.com/prometheus/exporter-toolkit/web/kingpinflag"

	"twilio_operations_exporter/internal/sanitize"
)

// options are the command line and environment before any check.
type options struct {
	accountSID, authTokenFile, apiKey, apiSecretFile string
	authToken, apiSecret                             string   // from the environment alone
	ignored                                          []string // variables that are set

	settings map[string]*string // by flag
	isSet    map[string]*bool   // of settings, by flag

	configFile             string
	autoReload             bool
	autoReloadInterval     string
	shardIndex, shardTotal string
	check, once, demo      bool
	web                    *web.FlagConfig
	telemetryPath          string
	scrapeTimeoutOffset    string
	lifecycle, pprof       bool
	logLevel, logFormat    string
	answered               bool
}

// Secrets that have no flag: its value would show in the list of processes.
const (
	tokenVariable  = "TWILIO_AUTH_TOKEN" //nolint:gosec // G101: a name
	secretVariable = "TWILIO_API_SECRET" //nolint:gosec // G101: a name
)

// Load validates a command line and the environment. Its error is one line that names the flag, its value and what
// would be right. The text of --help and --version goes to stdout; the error is then ErrHelp.
func Load(args []string, stdout io.Writer) (*ValidatedConfig, error) {
	o, err := parse(args, stdout, true)
	if err == nil && o.demo {
		o, err = parse(args, stdout, false)
	}
	if err != nil {
		return nil, err
	}
	return o.validate()
}

// parse reads the command line and, if wanted, the environment. Otherwise, it notes the variables that are ignored.
func parse(args []string, stdout io.Writer, environment bool) (*options, error) {
	o := &options{settings: map[string]*string{}, isSet: map[string]*bool{}}
	app := newApplication(o, stdout)
	variables := []string{tokenVariable, secretVariable}
	for _, f := range app.Model().Flags {
		if f.Envar == "" {
			continue
		}
		variables = append(variables, f.Envar)
		if !environment {
			app.GetFlag(f.Name).NoEnvar()
		}
	}
	if _, err := app.Parse(args); err != nil && !o.answered {
		return nil, fmt.Errorf("%s (--help lists all flags)%s", sanitize.OneLine(err.Error()), secretHint(args))
	}
	if o.answered {
		return nil, ErrHelp
	}
	if environment {
		o.authToken, o.apiSecret = strings.TrimSpace(os.Getenv(tokenVariable)), strings.TrimSpace(os.Getenv(secretVariable))
		return o, nil
	}
	o.ignored = slices.DeleteFunc(variables, func(name string) bool { return os.Getenv(name) == "" })
	return o, nil
}

func newApplication(o *options, stdout io.Writer) *kingpin.Application {
	app := kingpin.New(ProgramName, "Prometheus exporter for Twilio message operations, by status.")
	app.UsageWriter(stdout)
	app.Terminate(func(int) { o.answered = true })
	app.Version(version.Print(ProgramName))
	app.HelpFlag.Short('h')

	app.Flag("twilio.account-sid", "Twilio Account SID. Also the value of the account label.").
		Envar("TWILIO_ACCOUNT_SID").PlaceHolder("AC…").StringVar(&o.accountSID)
	app.Flag("twilio.auth-token-file",
		"Path to a file that contains the Auth Token. Alternatively, set $TWILIO_AUTH_TOKEN to the token.").
		PlaceHolder("FILE").StringVar(&o.authTokenFile)
	app.Flag("twilio.api-key", "SID of an API key to use instead of the Auth Token.").
		Envar("TWILIO_API_KEY").PlaceHolder("SK…").StringVar(&o.apiKey)
	app.Flag("twilio.api-secret-file",
		"Path to a file that contains the API key's secret. Alternatively, set $TWILIO_API_SECRET to the secret.").
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

	app.Flag("config.file", "Path to a YAML file of accounts. The other flags are their defaults.").
		PlaceHolder("FILE").StringVar(&o.configFile)
	app.Flag("config.auto-reload", "Reload the configuration file automatically when its content changes.").
		BoolVar(&o.autoReload)
	app.Flag("config.auto-reload-interval",
		"How often to check the configuration file for changes, if automatic reload is enabled.").
		Default("30s").StringVar(&o.autoReloadInterval)
	app.Flag("shard.index",
		"Index of this shard, from 0. The accounts of --config.file are distributed among the shards.").
		Default("0").Envar("TWILIO_SHARD_INDEX").StringVar(&o.shardIndex)
	app.Flag("shard.total", "Total number of shards.").
		Default("1").Envar("TWILIO_SHARD_TOTAL").StringVar(&o.shardTotal)
	app.Flag("config.check", "Validate the flags and the configuration file, then exit.").BoolVar(&o.check)
	app.Flag("once", "Refresh once, print the metrics and exit. The exit status is 1 if any account failed.").
		BoolVar(&o.once)
	app.Flag("demo", "Run against a built-in simulator of the API: no account or network access is needed. "+
		"Refreshes every 5s unless --collector.interval is set.").
		BoolVar(&o.demo)

	o.web = kingpinflag.AddFlags(app, ":9861")
	app.Flag("web.telemetry-path", "Path under which to expose metrics.").
		Default("/metrics").StringVar(&o.telemetryPath)
	app.Flag("web.scrape-timeout-offset", "Offset to subtract from the scrape timeout announced by Prometheus.").
		Default("500ms").StringVar(&o.scrapeTimeoutOffset)
	app.Flag("web.enable-lifecycle", "Enable reloading the configuration file via HTTP POST to /-/reload.").
		BoolVar(&o.lifecycle)
	app.Flag("web.enable-pprof", "Enable profiling endpoints under /debug/pprof/.").BoolVar(&o.pprof)

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
		in := input{flagName(s.flag, s.env), *o.settings[s.flag], s.hidden}
		if !s.set(&c.defaults, in.value) {
			return nil, in.bad(s.want)
		}
	}
	interval := input{where: "--config.auto-reload-interval", value: o.autoReloadInterval}
	switch {
	case !setDuration(&c.autoReload, interval.value, minInterval, math.MaxInt64):
		return nil, interval.bad("a duration of at least 100ms, such as 30s")
	case !o.autoReload:
		c.autoReload = 0
	case o.configFile == "":
		return nil, errors.New("--config.auto-reload: there is no file to reload: use --config.file")
	}
	shard, err := o.validateShard()
	if err != nil {
		return nil, err
	}
	c.shard = shard
	if err := o.validateAccounts(c); err != nil {
		return nil, err
	}
	if c.once {
		// An account that refreshes on each scrape would refresh again when the metrics are printed.
		for i := range c.accounts {
			c.accounts[i].Interval = max(c.accounts[i].Interval, time.Minute)
		}
	}
	return c, nil
}

// reservedPaths are served by the exporter itself and cannot be the telemetry path.
var reservedPaths = []string{"/", "/-", "/probe", "/sd", "/debug"}

// plainPath is narrower than what a URL allows: the path becomes a pattern of http.ServeMux, where braces and blanks
// have a meaning.
var plainPath = regexp.MustCompile(`^/[A-Za-z0-9._~/-]*$`)

func (o *options) validateWebAndLog(c *ValidatedConfig) error {
	levels := []string{"debug", "info", "warn", "error"}
	if in := (input{where: "--log.level", value: o.logLevel}); !slices.Contains(levels, in.value) {
		return in.bad("one of debug, info, warn and error")
	}
	if in := (input{where: "--log.format", value: o.logFormat}); in.value != "logfmt" && in.value != "json" {
		return in.bad("one of logfmt and json")
	}
	offset := input{where: "--web.scrape-timeout-offset", value: o.scrapeTimeoutOffset}
	if !setDuration(&c.web.ScrapeTimeoutOffset, offset.value, 0, math.MaxInt64) {
		return offset.bad("a duration of 0s or more, such as 500ms")
	}
	p := input{where: "--web.telemetry-path", value: o.telemetryPath}
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
			if in := (input{where: "--web.listen-address", value: address}); !validListenAddress(address) {
				return in.bad("an address to listen on, such as :9861 or 127.0.0.1:9861")
			}
		}
	}
	if *o.web.WebConfigFile != "" {
		if _, err := readFile(*o.web.WebConfigFile, maxFile); err != nil {
			return fmt.Errorf("--web.config.file: %w", err)
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
		return errors.New("--demo and --twilio.base-url are mutually exclusive: the demo has its own API, remove one of them")
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
		if len(o.ignored) > 0 {
			c.warnings = []string{"--demo has its own account and API, ignoring " + strings.Join(o.ignored, ", ")}
		}
		return nil
	case o.configFile != "" && len(own) > 0:
		return fmt.Errorf(
			"--config.file and %s are mutually exclusive: the file defines the accounts, remove one of them", own[0],
		)
	case o.configFile != "":
		c.checksum = c.Current()
		c.accounts, c.warnings, err = c.readConfigFile()
		return err
	}

	//nolint:gosec // G101: names of flags and variables
	const (
		sid        = "--twilio.account-sid (TWILIO_ACCOUNT_SID)"
		tokenFile  = "--twilio.auth-token-file"
		token      = tokenVariable
		key        = "--twilio.api-key (TWILIO_API_KEY)"
		secretFile = "--twilio.api-secret-file"
		secret     = secretVariable
	)
	if o.accountSID == "" {
		return errors.New(sid + ": no account configured: set an Account SID (AC…), or use --config.file or --demo")
	}
	a := c.defaults
	a.Account = o.accountSID
	c.warnings, err = (&credentials{
		sid: input{sid, o.accountSID, true}, key: input{key, o.apiKey, true},
		tokenFile: pathInput(tokenFile, o.authTokenFile), token: input{token, o.authToken, true},
		secretFile: pathInput(secretFile, o.apiSecretFile), secret: input{secret, o.apiSecret, true},
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
	for _, in := range [][2]string{
		{"--twilio.account-sid (TWILIO_ACCOUNT_SID)", o.accountSID},
		{"--twilio.auth-token-file", o.authTokenFile},
		{tokenVariable, o.authToken},
		{"--twilio.api-key (TWILIO_API_KEY)", o.apiKey},
		{"--twilio.api-secret-file", o.apiSecretFile},
		{secretVariable, o.apiSecret},
	} {
		if in[1] != "" {
			names = append(names, in[0])
		}
	}
	return names
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
