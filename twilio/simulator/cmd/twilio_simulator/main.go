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
	"reflect"
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

// choice is a flag's value: one of the constants of a type, by its name.
type choice[T ~int] struct {
	flag  string
	value *T
	names []string // in the order of the constants
}

// Set implements kingpin.Value.
func (c choice[T]) Set(name string) error {
	i := slices.Index(c.names, name)
	if i < 0 {
		return fmt.Errorf("--%s %q is none of %s", c.flag, name, strings.Join(c.names, ", "))
	}
	*c.value = T(i)
	return nil
}

// String implements kingpin.Value.
func (c choice[T]) String() string { return c.names[*c.value] }

func choose[T ~int](app *kingpin.Application, name, help string, value *T, names ...string) {
	app.Flag(name, help+" One of "+strings.Join(names, ", ")+".").Default(names[0]).SetValue(choice[T]{name, value, names})
}

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
	flag("account-sid", simulator.DemoAccountSID, "Account SID, or API key SID, that is accepted.").StringVar(&s.AccountSID)
	flag("auth-token", simulator.DemoAuthToken, "Auth token that is accepted; not a secret.").StringVar(&s.AuthToken)

	demo := app.Flag("demo", "Simulate the account of the exporter's --demo. Excludes the flags from --seed to --late-for.").Bool()
	w := simulator.DefaultWorldSettings()
	defaults := w
	flag("seed", "1", "The same seed gives the same operations.").Uint64Var(&w.Seed)
	flag("rate", "10", "Operations a minute.").Float64Var(&w.Rate)
	flag("uniform", "false", "Exactly --rate a minute, evenly spaced, instead of at random.").BoolVar(&w.Uniform)
	flag("window", "168h", "How long operations are kept; all of it is filled from the start.").DurationVar(&w.Retention)
	flag("min-recipients", "1", "Recipients of the smallest operations.").IntVar(&w.MinRecipients)
	flag("max-recipients", "10000", "Recipients of the largest operations.").IntVar(&w.MaxRecipients)
	flag("lifetime", "3m", "How long an operation is processed, on average.").DurationVar(&w.Lifetime)
	flag("scheduled-share", "0.1", "Share of the operations that are scheduled ahead.").Float64Var(&w.ScheduledShare)
	flag("scheduled-ahead", "24h", "How far ahead, at most.").DurationVar(&w.ScheduledAhead)
	flag("late-share", "0.02", "Share of the messages with an outcome after the operation's end.").Float64Var(&w.LateShare)
	flag("late-for", "6h", "How long numbers change after the end.").DurationVar(&w.LateFor)

	l := &s.List
	choose(app, "order", "Order of the list.", &l.Order, "newest", "oldest", "shuffled", "updated-first", "updated-last", "grouped")
	flag("groups", "2", "Number of lists one after the other, with --order=grouped.").IntVar(&l.Groups)
	flag("jitter", "0s", "Order by creation is wrong by up to this.").DurationVar(&l.Jitter)
	flag("displaced", "0", "One in so many operations is listed a minute out of place; 0: none.").IntVar(&l.Displaced)
	choose(app, "bounds", "How startDate and endDate are compared.", &l.Bounds,
		"exclusive", "inclusive", "exclusive-seconds", "inclusive-seconds")
	choose(app, "status-filter", "What the status parameter does.", &l.StatusFilter, "applied", "ignored", "refused")
	choose(app, "last-next", "How the last page spells next.", &l.LastNext, "null", "empty", "absent")
	choose(app, "token-alphabet", "What page tokens are made of.", &l.Alphabet, "url-safe", "awkward")
	flag("page-cap", "0", "Operations on a page at most, whatever pageSize says; 0: no cap.").IntVar(&l.PageCap)
	flag("empty-every", "0", "Every n-th page is empty; 0: none.").IntVar(&l.EmptyEvery)
	flag("repeat", "0", "Operations of the page before that a page begins with.").IntVar(&l.Repeat)

	flag("rate-limit", "0", "Requests a second before 429 is answered; 0: no limit.").Float64Var(&s.RateLimit)
	flag("max-in-flight", "0", "Requests in flight before 429 is answered; 0: no limit.").IntVar(&s.MaxInFlight)
	latency := flag("latency", "0s", "Time that each answer takes.").Duration()

	_, err := app.Parse(args)
	if helped {
		return 0
	}
	if err == nil && *demo {
		if !reflect.DeepEqual(w, defaults) {
			err = errors.New("--demo excludes the flags from --seed to --late-for")
		}
		w = simulator.DemoWorld()
	}
	if err == nil {
		err = serve(ctx, *address, w, s, *latency, stdout)
	}
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "twilio_simulator: %v\n", err)
		return 1
	}
	return 0
}

// serve serves until ctx ends.
func serve(ctx context.Context, address string, w simulator.WorldSettings, s simulator.Settings, latency time.Duration, stdout io.Writer) error {
	world, err := simulator.NewWorld(w)
	if err != nil {
		return err
	}
	handler, err := simulator.NewHandler(world, s)
	if err != nil {
		return err
	}
	if latency != 0 {
		err = handler.Faults().Add(simulator.Fault{Kind: simulator.FaultLatency, Latency: latency})
		if err != nil {
			return err
		}
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/simulator/", simulator.NewAdmin(handler, world))
	mux.Handle("/", handler)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute}
	stop := context.AfterFunc(ctx, func() {
		handler.Close()
		_ = server.Close()
	})
	defer stop()
	if _, err = fmt.Fprintf(stdout, "base URL: http://%s/v1\naccount SID: %s, auth token: %s\n", listener.Addr(), s.AccountSID, s.AuthToken); err != nil {
		return errors.Join(err, listener.Close())
	}
	if err = server.Serve(listener); errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
