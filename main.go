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
	log := logging.NewWriter(stderr)
	defer log.Close(time.Second)
	// Without a receiver, a hangup would end the program.
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	// A reader of the log or the output that goes away must not end it either.
	signal.Ignore(syscall.SIGPIPE)
	if version.Version == "" { // built without -ldflags
		version.Version = "devel"
	}
	process.TuneGC()
	// What a library logs may hold anything; start has it in the log, without its text.
	stdlog.SetOutput(io.Discard)

	cfg, err := config.Load(args, stdout)
	switch {
	case errors.Is(err, config.ErrHelp):
		return 0
	case err == nil && cfg.Flags().Check:
		err = check(cfg, stdout)
	case err == nil && cfg.Flags().Healthcheck != nil:
		err = web.CheckHealth(ctx, cfg.Flags().Healthcheck)
	case err == nil:
		err = start(ctx, cfg, hangup, stdout, log)
	}
	if err != nil {
		_, _ = fmt.Fprintf(log, "%s: error: %s\n", config.ProgramName, sanitize.OneLine(err.Error()))
		return 1
	}
	return 0
}

// check answers --config.check. What config cannot see is checked too: whether the directory of states can be used.
func check(cfg *config.ValidatedConfig, stdout io.Writer) error {
	err := account.CheckStorage(cfg.Flags().StoragePath)
	if err != nil {
		return err
	}
	return cfg.WriteCheck(stdout)
}

// start wires the program up and runs it until ctx ends or, with --once and --backfill, until all is printed.
func start(ctx context.Context, cfg *config.ValidatedConfig, hangup <-chan os.Signal, stdout, log io.Writer) error {
	flags := cfg.Flags()
	var demo *simulator.Demo
	if flags.Demo {
		demo = simulator.NewDemo()
		api, err := web.ServeLocal(ctx, demo)
		if err != nil {
			return fmt.Errorf("--demo: %w", err)
		}
		cfg = cfg.WithDemoURL(api)
	}
	logger, slogger := logging.New(log, flags.LogLevel, flags.LogFormat)
	stdlog.SetFlags(0)
	stdlog.SetOutput(logging.Standard(logger))
	level.Info(logger).Log(
		"msg", "starting", "version", version.Info(), "build", version.BuildContext(), "accounts", len(cfg.Accounts()),
	)
	defer logStop(ctx, logger)()

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
		if flags.Demo {
			level.Info(logger).Log("msg", "demo: open this address in a browser", "url", "http://"+address+"/")
			go demo.Tell(ctx, func(e simulator.DemoEvent) {
				level.Info(logger).Log("msg", "demo: "+e.Text, "operation", e.Operation)
			})
		}
		accounts.Start(ctx, 0)
		go accounts.ReloadOn(ctx, hangup)
		go accounts.AutoReload(ctx)
	})
}

// logStop logs why ctx ends, as soon as it does. The function that it returns waits for that.
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
