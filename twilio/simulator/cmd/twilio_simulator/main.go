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
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kingpin/v2"

	"twilio_operations_exporter/twilio/simulator"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// orders are the names of the simulator's orders, in the order of the constants.
var orders = []string{"newest", "oldest", "shuffled", "updated-first", "updated-last", "grouped"}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	app := kingpin.New("twilio_simulator", "Simulates Twilio's Message Operations API. "+
		"While it runs, faults and trouble are switched by these paths:\n\n"+simulator.AdminHelp)
	app.UsageWriter(stdout).ErrorWriter(stderr)
	app.HelpFlag.Short('h')
	helped := false // help ends the parser's work, not the process
	app.Terminate(func(int) { helped = true })
	flag := func(name, otherwise, help string) *kingpin.FlagClause { return app.Flag(name, help).Default(otherwise) }

	var s simulator.Settings
	address := flag("listen-address", "127.0.0.1:9862",
		"Address to listen on. The paths below /simulator/ need no credentials, so keep it a loopback address.").String()
	flag("account-sid", simulator.DemoAccountSID, "Account SID or API key SID that is accepted.").StringVar(&s.AccountSID)
	flag("auth-token", simulator.DemoAuthToken, "Auth token that is accepted; not a secret.").StringVar(&s.AuthToken)

	w := simulator.DefaultWorldSettings()
	flag("seed", "1", "The same seed gives the same operations.").Uint64Var(&w.Seed)
	flag("rate", "10", "Operations a minute.").Float64Var(&w.Rate)
	flag("window", "168h", "How long operations are kept; all of it is filled from the start.").DurationVar(&w.Retention)
	flag("lifetime", "3m", "How long an operation is processed, on average.").DurationVar(&w.Lifetime)
	flag("scheduled-share", "0.1", "Share of the operations that are scheduled ahead.").Float64Var(&w.ScheduledShare)

	order := flag("order", orders[0], "Order of the list, one of "+strings.Join(orders, ", ")+".").Enum(orders...)
	flag("jitter", "0s", "Order by creation is wrong by up to this.").DurationVar(&s.List.Jitter)

	_, err := app.Parse(args)
	if helped {
		return 0
	}
	if err == nil && s.List.Jitter < 0 {
		err = fmt.Errorf("--jitter %v is negative", s.List.Jitter)
	}
	if err == nil {
		s.List.Order = simulator.Order(slices.Index(orders, *order))
		err = serve(ctx, *address, w, s, stdout)
	}
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "twilio_simulator: %v\n", err)
		return 1
	}
	return 0
}

// serve serves until ctx ends.
func serve(ctx context.Context, address string, w simulator.WorldSettings, s simulator.Settings, out io.Writer) error {
	world, err := simulator.NewWorld(w)
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	handler := simulator.NewHandler(world, s)
	mux := http.NewServeMux()
	mux.Handle("/simulator/", simulator.NewAdmin(handler, world))
	mux.Handle("/", handler)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	_, _ = fmt.Fprintf(out, "base URL: http://%s/v1\naccount SID: %s, auth token: %s\n",
		listener.Addr(), s.AccountSID, s.AuthToken)
	if err = server.Serve(listener); errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
