// Command twilio_operations_exporter reads Twilio's message operations and exports their sums by status to Prometheus.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"os"
	"os/signal"
	"syscall"
	"time"

	kitlog "github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/common/version"

	"twilio_operations_exporter/internal/account"
	"twilio_operations_exporter/internal/config"
	"twilio_operations_exporter/internal/logging"
	"twilio_operations_exporter/internal/process"
	"twilio_operations_exporter/internal/sanitize"
	"twilio_operations_exporter/internal/web"
	"twilio_operations_exporter/twilio/simulator"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run is the program; it returns the exit status.
func run(args []string, stdout, stderr io.Writer) int {
	ctx := process.StopContext()
	process.TuneGC()

	// Unless it is caught, SIGHUP ends the program.
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)

	// So would writing a log or output that nobody reads any more.
	signal.Ignore(syscall.SIGPIPE)

	log := logging.NewWriter(stderr)
	defer log.Close(time.Second)

	// Libraries may log anything, even secrets. Once there is a logger, it notes their messages without the text.
	stdlog.SetFlags(0)
	stdlog.SetOutput(io.Discard)

	if version.Version == "" { // built without -ldflags
		version.Version = "devel"
	}

	err := execute(ctx, args, hangup, stdout, log)
	if err != nil {
		_, _ = fmt.Fprintf(log, "%s: error: %s\n", config.ProgramName, sanitize.OneLine(err.Error()))
		return 1
	}
	return 0
}

// execute does what the command line asks for.
func execute(ctx context.Context, args []string, hangup <-chan os.Signal, stdout, log io.Writer) error {
	cfg, err := config.Load(args, stdout)
	if errors.Is(err, config.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}

	flags := cfg.Flags()
	switch {
	case flags.Check:
		return check(cfg, stdout)
	case flags.Healthcheck != nil:
		return web.CheckHealth(ctx, flags.Healthcheck)
	default:
		return start(ctx, cfg, hangup, stdout, log)
	}
}

// check implements --config.check. The storage directory is checked here, as config knows nothing of it but the path.
func check(cfg *config.ValidatedConfig, stdout io.Writer) error {
	err := account.CheckStorage(cfg.Flags().StoragePath)
	if err != nil {
		return err
	}
	return cfg.WriteCheck(stdout)
}

// start wires the program up and runs it until ctx ends or, with --once and --backfill, until everything is printed.
func start(ctx context.Context, cfg *config.ValidatedConfig, hangup <-chan os.Signal, stdout, log io.Writer) error {
	flags := cfg.Flags()
	logger, slogger := logging.New(log, flags.LogLevel, flags.LogFormat)
	stdlog.SetOutput(logging.Standard(logger))

	level.Info(logger).Log(
		"msg", "starting", "version", version.Info(), "build", version.BuildContext(), "accounts", len(cfg.Accounts()),
	)
	defer logStop(ctx, logger)()

	var demo *simulator.Demo
	if flags.Demo {
		demo = simulator.NewDemo()
		api, err := web.ServeLocal(ctx, demo)
		if err != nil {
			return fmt.Errorf("--demo: %w", err)
		}
		cfg = cfg.WithDemoURL(api)
	}

	registry := web.NewRegistry()
	accounts, err := account.NewManager(cfg, registry, logger)
	if err != nil {
		return err
	}
	defer accounts.Stop()

	server := web.New(flags.Web, accounts, registry, logger)
	switch {
	case flags.Once:
		return server.WriteOnce(ctx, stdout)
	case flags.Backfill:
		return accounts.WriteBackfill(ctx, stdout)
	}

	return server.Serve(ctx, cfg.Toolkit(), slogger, func(address string) {
		if demo != nil {
			level.Info(logger).Log("msg", "demo: open this address in a browser", "url", "http://"+address+"/")
			go tellDemo(ctx, demo, logger)
		}
		accounts.Start(ctx, 0)
		go accounts.ReloadOn(ctx, hangup)
		go accounts.AutoReload(ctx)
	})
}

// tellDemo logs the events of the demo until ctx ends.
func tellDemo(ctx context.Context, demo *simulator.Demo, logger kitlog.Logger) {
	demo.Tell(ctx, func(e simulator.DemoEvent) {
		level.Info(logger).Log("msg", "demo: "+e.Text, "operation", e.Operation)
	})
}

// logStop logs the cause as soon as ctx ends. If it has ended, wait returns once that is logged.
func logStop(ctx context.Context, logger kitlog.Logger) (wait func()) {
	logged := make(chan struct{})
	cancel := context.AfterFunc(ctx, func() {
		defer close(logged)
		level.Info(logger).Log("msg", "stopping", "cause", context.Cause(ctx))
	})
	return func() {
		if !cancel() {
			<-logged
		}
	}
}
