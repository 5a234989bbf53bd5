// Command twilio_simulator serves a simulated Message Operations API on a loopback address, to test clients of the API.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kingpin/v2"

	"twilio_operations_exporter/internal/usage"
	"twilio_operations_exporter/twilio/simulator"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	app := kingpin.New("twilio_simulator", "Simulates Twilio's Message Operations API. "+
		"These paths add and remove faults and trouble while it runs:\n\n"+simulator.AdminHelp)
	output := &usage.Output{To: stdout}
	app.UsageWriter(output).ErrorWriter(stderr)
	app.HelpFlag.Short('h')
	helped := false
	app.Terminate(func(int) { helped = true }) // instead of os.Exit

	flags := addFlags(app)
	_, err := app.Parse(args)
	switch {
	case output.Err != nil:
		err = output.Err
	case helped:
		return 0
	case err != nil:
		err = explain(app, args, err)
	default:
		err = flags.serve(ctx, stdout)
	}
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "twilio_simulator: %v\n", err)
		return 1
	}
	return 0
}

// explain adds to an error about an unknown flag the one that was probably meant.
func explain(app *kingpin.Application, args []string, err error) error {
	isUnknown := strings.HasPrefix(err.Error(), "unknown ")
	meant := usage.MeantFlag(app, args)
	if isUnknown && meant != "" {
		err = fmt.Errorf("%w: did you mean --%s?", err, meant)
	}
	return fmt.Errorf("%w (--help lists all flags)", err)
}

// serve serves until ctx ends.
func (f *flags) serve(ctx context.Context, out io.Writer) error {
	world, err := simulator.NewWorld(f.world)
	if wrong, ok := errors.AsType[*simulator.SettingError](err); ok {
		return fmt.Errorf("--%s: %v is not %s", worldFlags[wrong.Setting], wrong.Value, wrong.Want)
	}
	if err != nil {
		return err
	}

	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", f.address)
	if err != nil {
		return fmt.Errorf("--listen-address: %w", err)
	}

	handler := simulator.NewHandler(world, f.settings)
	mux := http.NewServeMux()
	mux.Handle("/simulator/", simulator.NewAdmin(handler, world))
	mux.Handle("/", handler)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()

	_, _ = fmt.Fprintf(out, "base URL: http://%s/v1\naccount SID: %s, auth token: %s\n",
		listener.Addr(), f.settings.AccountSID, f.settings.AuthToken)
	err = server.Serve(listener)
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
