package config

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"regexp"
	"strings"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/config"
	"github.com/prometheus/common/version"
	"github.com/prometheus/exporter-toolkit/web"
	"github.com/prometheus/exporter-toolkit/web/kingpinflag"

	"twilio_operations_exporter/internal/sanitize"
)

// options are the command line and the environment. Flags that need no check are in config at once.
type options struct {
	config     ValidatedConfig
	own        credentials       // of the single account
	settings   map[string]*input // by flag
	variables  []*input          // that may come from the environment
	autoReload bool
	answered   bool // --help or --version

	command            string // "" runs the exporter
	healthcheckAddress input

	autoReloadInterval, shardIndex, shardTotal              input
	telemetryPath, scrapeTimeoutOffset, logLevel, logFormat input
	healthListenAddress                                     input
}

// Secrets that have no flag: its value would show in the list of processes.
const (
	tokenVariable  = "TWILIO_AUTH_TOKEN" //nolint:gosec // G101: a name
	secretVariable = "TWILIO_API_SECRET" //nolint:gosec // G101: a name
)

// Load validates a command line and the environment. Its error is one line that names the flag, its value and what
// would be right. The text of --help and --version goes to stdout; the error is then ErrHelp.
func Load(args []string, stdout io.Writer) (*ValidatedConfig, error) {
	app, o := newApplication(stdout)
	_, err := app.Parse(args)
	switch {
	case o.answered:
		return nil, ErrHelp
	case err != nil && strings.HasPrefix(err.Error(), "unexpected "):
		return nil, fmt.Errorf("too many arguments: want flags only, or %s and one address (--help lists all flags)",
			healthcheckCommand)
	case err != nil:
		return nil, fmt.Errorf("%s (--help lists all flags)%s", sanitize.OneLine(err.Error()), secretHint(args))
	}

	switch o.command {
	case "":
	case healthcheckCommand:
		return o.validateHealthcheck()
	default:
		argument := input{value: o.command, hidden: true} // it may be a secret without its flag
		return nil, fmt.Errorf("unexpected argument %s: want flags only, or the command %s (--help lists all flags)",
			argument.show(), healthcheckCommand)
	}

	o.trimVariables()
	if o.config.flags.Demo {
		o.ignoreEnvironment()
	}
	return o.validate()
}

// trimVariables removes the white space around what comes from the environment: a Secret that was made from a file ends
// in a line feed.
func (o *options) trimVariables() {
	for _, in := range o.variables {
		if !in.isSet {
			in.value = cmp.Or(strings.TrimSpace(in.value), in.defaultValue)
		}
	}
}

// ignoreEnvironment undoes what variables have set: the demo has its own account and API.
func (o *options) ignoreEnvironment() {
	var ignored []string
	for _, in := range o.variables {
		if os.Getenv(in.env) != "" && !in.isSet {
			in.value = in.defaultValue
			ignored = append(ignored, in.env)
		}
	}
	if ignored != nil {
		o.config.warnings = []string{"--demo has its own account and API, ignoring " + strings.Join(ignored, ", ")}
	}
}

// secretHint says how to pass a secret that was passed as a flag.
func secretHint(args []string) string {
	variables := map[string]string{"--twilio.auth-token": tokenVariable, "--twilio.api-secret": secretVariable}
	for _, arg := range args {
		name, _, _ := strings.Cut(arg, "=")
		if variable := variables[name]; variable != "" {
			return fmt.Sprintf("; secrets are not accepted as flag values: use %s-file or %s", name, variable)
		}
	}
	return ""
}

// newApplication defines the flags; parsing them fills the options.
func newApplication(stdout io.Writer) (*kingpin.Application, *options) {
	o := &options{settings: map[string]*input{}}
	o.variables = []*input{&o.own.token, &o.own.secret}
	for i, name := range []string{tokenVariable, secretVariable} {
		*o.variables[i] = input{name: name, env: name, value: os.Getenv(name)}
	}
	kingpin.EnableFileExpansion = false // an argument that begins with @ may be a secret, and its file another
	app := kingpin.New(ProgramName, "Prometheus exporter for Twilio message operations, by status.")
	app.UsageWriter(stdout)
	app.Terminate(func(int) { o.answered = true })
	app.Version(version.Print(ProgramName))
	app.HelpFlag.Short('h')
	o.addCommand(app)

	// text defines a flag whose value is checked later.
	text := func(in *input, name, env, defaultValue, help string) *kingpin.FlagClause {
		in.name, in.env, in.defaultValue = "--"+name, env, defaultValue
		flag := app.Flag(name, help).IsSetByUser(&in.isSet)
		flag.StringVar(&in.value)
		if env != "" {
			in.name += " (" + env + ")"
			o.variables = append(o.variables, in)
			flag.Envar(env)
		}
		if defaultValue != "" {
			flag.Default(defaultValue)
		}
		return flag
	}

	text(&o.own.sid, "twilio.account-sid", "TWILIO_ACCOUNT_SID", "",
		"Twilio Account SID. Also the value of the account label.").PlaceHolder("AC…")
	text(&o.own.tokenFile, "twilio.auth-token-file", "", "",
		"Path to a file that contains the Auth Token. Alternatively, set $TWILIO_AUTH_TOKEN to the token.").
		PlaceHolder("FILE")
	text(&o.own.key, "twilio.api-key", "TWILIO_API_KEY", "",
		"SID of an API key to use instead of the Auth Token.").PlaceHolder("SK…")
	text(&o.own.secretFile, "twilio.api-secret-file", "", "",
		"Path to a file that contains the API key's secret. Alternatively, set $TWILIO_API_SECRET to the secret.").
		PlaceHolder("FILE")

	for _, s := range settings {
		o.settings[s.flag] = &input{}
		text(o.settings[s.flag], s.flag, s.env, s.defaultValue, s.help)
	}

	flags := &o.config.flags
	app.Flag("config.file", "Path to a YAML file of accounts. The other flags are their defaults.").
		PlaceHolder("FILE").StringVar(&o.config.configFile)
	app.Flag("config.auto-reload", "Reload the configuration file automatically when its content changes.").
		BoolVar(&o.autoReload)
	text(&o.autoReloadInterval, "config.auto-reload-interval", "", "30s",
		"How often to check the configuration file for changes, if automatic reload is enabled.")
	text(&o.shardIndex, "shard.index", "TWILIO_SHARD_INDEX", "0",
		"Index of this shard, from 0. The accounts of --config.file are distributed among the shards.")
	text(&o.shardTotal, "shard.total", "TWILIO_SHARD_TOTAL", "1", "Total number of shards.")
	app.Flag("config.check", "Validate the flags and the configuration file, then exit.").BoolVar(&flags.Check)
	app.Flag("once", "Refresh once, print the metrics and exit. The exit status is 1 if any account failed.").
		BoolVar(&flags.Once)
	app.Flag("demo", "Run against a built-in simulator of the API: no account or network access is needed. "+
		"Refreshes every 5s unless --collector.interval is set.").
		BoolVar(&flags.Demo)

	o.config.toolkit = kingpinflag.AddFlags(app, ":9861")
	text(&o.telemetryPath, "web.telemetry-path", "", "/metrics", "Path under which to expose metrics.")
	text(&o.scrapeTimeoutOffset, "web.scrape-timeout-offset", "", "500ms",
		"Offset to subtract from the scrape timeout announced by Prometheus.")
	text(&o.healthListenAddress, "web.health-listen-address", "", "",
		"Additional address that serves only /-/healthy and /-/ready, without TLS and authentication. For probes.").
		PlaceHolder("ADDRESS")
	app.Flag("web.enable-lifecycle", "Enable reloading the configuration file via HTTP POST to /-/reload.").
		BoolVar(&flags.Web.EnableLifecycle)
	app.Flag("web.enable-pprof", "Enable profiling endpoints under /debug/pprof/.").BoolVar(&flags.Web.EnablePprof)

	text(&o.logLevel, "log.level", "", "info",
		"Only log messages with the given severity or above. One of: debug, info, warn, error.")
	text(&o.logFormat, "log.format", "", "logfmt", "Output format of log messages. One of: logfmt, json.")
	return app, o
}

func (o *options) validate() (*ValidatedConfig, error) {
	for _, validate := range []func() error{
		o.validateWebAndLog, o.validateSettings, o.validateAutoReload, o.validateShard, o.validateAccounts,
	} {
		if err := validate(); err != nil {
			return nil, err
		}
	}
	return &o.config, nil
}

// reservedPaths are served by the exporter itself and cannot be the telemetry path.
var reservedPaths = []string{"/", "/-", "/probe", "/sd", "/debug"}

// plainPath is narrower than what a URL allows: the path becomes a pattern of http.ServeMux, where braces and blanks
// have a meaning.
var plainPath = regexp.MustCompile(`^/[A-Za-z0-9._~/-]*$`)

func (o *options) validateWebAndLog() error {
	flags, toolkit := &o.config.flags, o.config.toolkit
	if err := cmp.Or(
		o.logLevel.setOneOf(&flags.LogLevel, "debug", "info", "warn", "error"),
		o.logFormat.setOneOf(&flags.LogFormat, "logfmt", "json"),
		o.scrapeTimeoutOffset.setDuration(
			&flags.Web.ScrapeTimeoutOffset, 0, math.MaxInt64, "of 0s or more, such as 500ms",
		),
	); err != nil {
		return err
	}
	p := o.telemetryPath.value
	if !plainPath.MatchString(p) || path.Clean(p) != p {
		return o.telemetryPath.bad("a plain path that begins with a slash, such as /metrics")
	}
	for _, r := range reservedPaths {
		if p == r || r != "/" && strings.HasPrefix(p, r+"/") {
			return o.telemetryPath.bad(
				"available: the exporter serves " + r + " itself, choose another, such as /metrics",
			)
		}
	}
	flags.Web.TelemetryPath = p
	for _, address := range *toolkit.WebListenAddresses {
		if !*toolkit.WebSystemdSocket && !validListenAddress(address) {
			in := input{name: "--web.listen-address", value: address}
			return in.bad("an address to listen on, such as :9861 or 127.0.0.1:9861")
		}
	}
	health := o.healthListenAddress
	if health.value != "" && (strings.HasPrefix(health.value, "vsock://") || !validListenAddress(health.value)) {
		return health.bad("an address to listen on, such as :9862 or 127.0.0.1:9862")
	}
	flags.Web.HealthListenAddress = health.value

	file := *toolkit.WebConfigFile
	if _, err := readFile(file, maxFile); file != "" && err != nil {
		return fmt.Errorf("--web.config.file: %w: want a YAML file", err)
	}
	switch err := web.Validate(file); {
	case err != nil && strings.HasPrefix(err.Error(), "yaml: "):
		return (&mapping{file: "--web.config.file: " + file, line: 1}).yamlError(err, "unexpected kind of value")
	case err != nil:
		return fmt.Errorf("--web.config.file: %q cannot be used: %s", file, sanitize.OneLine(err.Error()))
	}
	return nil
}

func (o *options) validateSettings() error {
	for _, s := range settings {
		if err := s.set(&o.config.defaults, *o.settings[s.flag]); err != nil {
			return err
		}
	}
	return nil
}

func (o *options) validateAutoReload() error {
	interval := &o.config.flags.AutoReload
	err := o.autoReloadInterval.setDuration(interval, minInterval, math.MaxInt64, "of at least 100ms, such as 30s")
	switch {
	case err != nil:
		return err
	case !o.autoReload:
		*interval = 0
	case o.config.configFile == "":
		return errors.New("--config.auto-reload: there is no file to reload: use --config.file")
	}
	return nil
}

func (o *options) validateAccounts() (err error) {
	c, a, own := &o.config, o.config.defaults, o.own.given()
	switch {
	case c.flags.Demo && c.configFile != "":
		return errors.New("--demo and --config.file are mutually exclusive: use one of them")
	case c.flags.Demo && own != "":
		return fmt.Errorf("--demo and %s are mutually exclusive: the demo has its own account, remove one of them", own)
	case c.flags.Demo && o.settings["twilio.base-url"].isSet:
		return errors.New("--demo and --twilio.base-url are mutually exclusive: the demo has its own API, remove one of them")
	case c.flags.Demo:
		a.Account, a.User, a.Password = DemoAccount, DemoAccountSID, config.NewInlineSecret(DemoAuthToken)
		if !o.settings["collector.interval"].isSet {
			a.Interval = demoInterval
		}
		if !o.settings["twilio.rate-limit"].isSet {
			a.RateLimit = 0 // the simulator needs no protection
		}
		c.accounts = []Account{a}
	case c.configFile != "" && own != "":
		return fmt.Errorf("--config.file and %s are mutually exclusive: the file defines the accounts, remove one of them", own)
	case c.configFile != "":
		c.checksum = c.Current()
		c.accounts, c.warnings, err = c.Reload()
	case o.own.sid.value == "":
		return errors.New(o.own.sid.name + ": no account configured: set an Account SID (AC…), or use --config.file or --demo")
	default:
		a.Account = o.own.sid.value
		c.warnings, err = o.own.apply(&a)
		c.accounts = []Account{a}
	}
	return err
}
