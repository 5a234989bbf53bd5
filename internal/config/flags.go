package config

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/config"
	"github.com/prometheus/common/version"

	"twilio_operations_exporter/collector"
	"twilio_operations_exporter/internal/usage"
	"twilio_operations_exporter/twilio"
)

// options are the command line and the environment. Flags that need no validation are parsed straight into config.
type options struct {
	config     ValidatedConfig
	own        credentials       // of the single account
	settings   map[string]*input // by flag
	variables  []*input          // those that the environment may set
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

// Load validates the command line and the environment. Its error is one line that names the flag, its value and what is
// expected. For --help and --version it prints the text to stdout and returns ErrHelp.
func Load(args []string, stdout io.Writer) (*ValidatedConfig, error) {
	output := &usage.Output{To: stdout}
	app, o := newApplication(output)
	_, err := app.Parse(args)
	switch {
	case output.Err != nil:
		return nil, output.Err
	case o.answered:
		return nil, ErrHelp
	case err != nil:
		return nil, usageError(app, args, err)
	case o.command == healthcheckCommand:
		return o.validateHealthcheck()
	case o.command != "":
		return nil, unexpectedArgument(app, o.command)
	}

	o.trimVariables()
	if o.config.flags.Demo {
		o.ignoreEnvironment()
	}
	return o.validate()
}

// trimVariables removes white space around values from the environment: a Kubernetes Secret made from a file often ends
// in a line feed.
func (o *options) trimVariables() {
	for _, in := range o.variables {
		if !in.isSet {
			in.value = cmp.Or(strings.TrimSpace(in.value), in.defaultValue)
		}
	}
}

// ignoreEnvironment resets what the environment has set, as the demo has its own account and API.
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

// newApplication defines the flags; parsing them fills the options.
func newApplication(stdout io.Writer) (*kingpin.Application, *options) {
	kingpin.EnableFileExpansion = false // @FILE would be replaced by the file's content, which errors might then show
	app := kingpin.New(ProgramName, "Prometheus exporter for Twilio message and e-mail operations.")
	app.UsageWriter(stdout)
	app.Version(version.Print(ProgramName))
	app.HelpFlag.Short('h')

	o := &options{settings: map[string]*input{}}
	app.Terminate(func(int) { o.answered = true })
	o.addCommand(app)
	o.addSecret(&o.own.token, tokenVariable)
	o.addSecret(&o.own.secret, secretVariable)
	o.addAccountFlags(app)
	o.addSettings(app)
	o.addConfigFlags(app)
	o.addModeFlags(app)
	o.addWebFlags(app)
	o.addLogFlags(app)
	return app, o
}

// addSecret reads an environment variable that has no flag.
func (o *options) addSecret(in *input, variable string) {
	*in = input{name: variable, env: variable, value: os.Getenv(variable)}
	o.variables = append(o.variables, in)
}

// text defines a flag whose value is validated later.
func (o *options) text(app *kingpin.Application, in *input, name, env, defaultValue, help string) *kingpin.FlagClause {
	in.name = "--" + name
	in.env = env
	in.defaultValue = defaultValue

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

func (o *options) addAccountFlags(app *kingpin.Application) {
	o.text(app, &o.own.sid, "twilio.account-sid", "TWILIO_ACCOUNT_SID", "",
		"Twilio Account SID. Also the value of the account label.").PlaceHolder("AC…")
	o.text(app, &o.own.tokenFile, "twilio.auth-token-file", "", "",
		"Path to a file that contains the Auth Token. Alternatively, set $TWILIO_AUTH_TOKEN to the token.").
		PlaceHolder("FILE")
	o.text(app, &o.own.key, "twilio.api-key", "TWILIO_API_KEY", "",
		"SID of an API key to use instead of the Auth Token.").PlaceHolder("SK…")
	o.text(app, &o.own.secretFile, "twilio.api-secret-file", "", "",
		"Path to a file that contains the API key's secret. Alternatively, set $TWILIO_API_SECRET to the secret.").
		PlaceHolder("FILE")
}

func (o *options) addSettings(app *kingpin.Application) {
	for _, s := range settings {
		in := new(input)
		o.settings[s.flag] = in
		o.text(app, in, s.flag, s.env, s.defaultValue, s.help).PlaceHolder(s.placeholder)
	}
}

func (o *options) addConfigFlags(app *kingpin.Application) {
	app.Flag("config.file", "Path to a YAML file with several accounts. Other flags are the defaults for them.").
		PlaceHolder("FILE").StringVar(&o.config.configFile)
	app.Flag("config.auto-reload", "Reload the configuration file automatically when its content changes.").
		BoolVar(&o.autoReload)
	o.text(app, &o.autoReloadInterval, "config.auto-reload-interval", "", "30s",
		"How often to check the configuration file for changes, if automatic reload is enabled.")
	o.text(app, &o.shardIndex, "shard.index", "TWILIO_SHARD_INDEX", "0",
		"Index of this shard, starting at 0. The accounts in --config.file are distributed among the shards.")
	o.text(app, &o.shardTotal, "shard.total", "TWILIO_SHARD_TOTAL", "1", "Total number of shards.")
}

func (o *options) addModeFlags(app *kingpin.Application) {
	flags := &o.config.flags
	app.Flag("storage.path", "Path to a directory in which to keep the state of each account across restarts. "+
		"If not set, no state is kept.").
		PlaceHolder("DIRECTORY").StringVar(&flags.StoragePath)
	app.Flag("config.check", "Validate the flags, the files that they name and the storage directory, then exit.").BoolVar(&flags.Check)
	app.Flag("once", "Refresh once, print the metrics and exit. The exit status is 1 if any account failed.").
		BoolVar(&flags.Once)
	app.Flag("backfill", "Read the window once, print its past as counters in OpenMetrics with timestamps, for promtool, and exit. "+
		"The exit status is 1 if any account failed.").
		BoolVar(&flags.Backfill)
	app.Flag("demo", "Run against a built-in simulator of the API, without an account or network access. "+
		"Refreshes every 5s unless --collector.interval is set.").
		BoolVar(&flags.Demo)
}

func (o *options) addLogFlags(app *kingpin.Application) {
	o.text(app, &o.logLevel, "log.level", "", "info",
		"Only log messages with the given severity or above. One of: debug, info, warn, error.")
	o.text(app, &o.logFormat, "log.format", "", "logfmt", "Output format of log messages. One of: logfmt, json.")
}

func (o *options) validate() (*ValidatedConfig, error) {
	for _, validate := range []func() error{
		o.validateLog, o.validateWeb, o.validateSettings, o.validateAutoReload, o.validateShard, o.validateAccounts,
	} {
		if err := validate(); err != nil {
			return nil, err
		}
	}
	return &o.config, nil
}

func (o *options) validateLog() error {
	flags := &o.config.flags
	err := o.logLevel.setOneOf(&flags.LogLevel, "debug", "info", "warn", "error")
	if err != nil {
		return err
	}
	return o.logFormat.setOneOf(&flags.LogFormat, "logfmt", "json")
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

func (o *options) validateAccounts() error {
	c := &o.config
	switch {
	case c.flags.Once && c.flags.Backfill:
		return errors.New("--once and --backfill are mutually exclusive: use one of them")
	case c.flags.Demo:
		return o.useDemo()
	case c.configFile != "":
		return o.useFile()
	case o.own.sid.value == "":
		return errors.New(o.own.sid.name + ": no account configured: set an Account SID (AC…), or use --config.file or --demo")
	default:
		return o.useFlags()
	}
}

// useFile loads the accounts in the configuration file.
func (o *options) useFile() error {
	c := &o.config
	if own := o.own.given(); own != "" {
		return fmt.Errorf(
			"--config.file and %s are mutually exclusive: the file defines the accounts, remove one of them", own,
		)
	}

	c.checksum = c.CurrentChecksum() // before it is parsed, so that no change goes unnoticed
	loaded, err := c.Reload()
	if err != nil {
		return err
	}
	c.accounts = loaded.Accounts
	c.inFile = loaded.InFile
	c.warnings = loaded.Warnings
	return nil
}

// useDemo makes the accounts of the demo.
func (o *options) useDemo() error {
	c := &o.config
	own := o.own.given()
	switch {
	case c.configFile != "":
		return errors.New("--demo and --config.file are mutually exclusive: use one of them")
	case own != "":
		return fmt.Errorf("--demo and %s are mutually exclusive: the demo has its own account, remove one of them", own)
	case o.settings["twilio.base-url"].isSet:
		return errors.New("--demo and --twilio.base-url are mutually exclusive: the demo has its own API, remove one of them")
	}

	a := c.defaults
	a.Account = DemoAccount
	a.AccountSID = DemoAccountSID
	a.User = DemoAccountSID
	a.Password = config.NewInlineSecret(DemoAuthToken)

	interval := o.settings["collector.interval"]
	if !interval.isSet {
		a.Interval = demoInterval
	}
	if !o.settings["twilio.rate-limit"].isSet {
		a.RateLimit = 0 // the simulator needs no protection
	}
	if !o.settings["collector.operation-tags"].isSet {
		a.Tags = collector.OperationTags{"campaign", "team"}
	}

	warnings, err := a.checkInterval(*interval)
	if err != nil {
		return err
	}

	c.warnings = append(c.warnings, warnings...)
	c.accounts = []Account{a}
	if !o.settings["twilio.resource"].isSet {
		emails := a
		emails.Account = DemoEmailAccount
		emails.Resource = twilio.Emails
		c.accounts = append(c.accounts, emails)
	}
	return nil
}

// useFlags makes the single account that flags and variables describe.
func (o *options) useFlags() error {
	c := &o.config
	a := c.defaults
	a.Account = o.own.sid.value

	warnings, err := o.own.apply(&a)
	if err != nil {
		return err
	}
	more, err := a.checkInterval(*o.settings["collector.interval"])
	if err != nil {
		return err
	}

	c.warnings = slices.Concat(warnings, more)
	c.accounts = []Account{a}
	return nil
}
