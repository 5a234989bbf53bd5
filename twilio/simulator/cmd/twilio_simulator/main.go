// Command twilio_simulator serves a simulated Message Operations API on a
// loopback address, for everybody who wants to test against one.
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

// choices are the kinds of a list setting by the names they have as flags.
type choices[T any] map[string]T

func (c choices[T]) flag(app *kingpin.Application, name, otherwise, help string) *string {
	names := make([]string, 0, len(c))
	for n := range c {
		names = append(names, n)
	}
	slices.Sort(names)
	return app.Flag(name, help+" One of "+strings.Join(names, ", ")+".").Default(otherwise).Enum(names...)
}

var (
	orders = choices[simulator.Order]{
		"newest": simulator.NewestFirst, "oldest": simulator.OldestFirst, "shuffled": simulator.Shuffled,
		"updated-first": simulator.UpdatedFirst, "updated-last": simulator.UpdatedLast,
	}
	bounds = choices[simulator.Bounds]{
		"exclusive": simulator.ExclusiveMillis, "inclusive": simulator.Inclusive,
		"exclusive-seconds": simulator.ExclusiveSeconds, "inclusive-seconds": simulator.InclusiveSeconds,
	}
	pagings      = choices[simulator.Paging]{"keyset": simulator.Keyset, "offsets": simulator.Offsets}
	lastNexts    = choices[simulator.LastNext]{"null": simulator.LastNull, "empty": simulator.LastEmpty, "absent": simulator.LastAbsent}
	tokenFilters = choices[simulator.TokenFilters]{
		"bound": simulator.TokenBound, "carries": simulator.TokenCarries, "bare": simulator.TokenBare,
	}
	alphabets = choices[simulator.Alphabet]{"url-safe": simulator.URLSafe, "awkward": simulator.Awkward}
)

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	app := kingpin.New("twilio_simulator", "Simulates Twilio's Message Operations API, with operations that arrive, move on, and go wrong.")
	app.UsageWriter(stdout).ErrorWriter(stderr)
	app.HelpFlag.Short('h')
	// Help ends the parser's work, not the process.
	helped := false
	app.Terminate(func(int) { helped = true })

	d := simulator.DefaultWorldSettings()
	address := app.Flag("listen-address", "Address to listen on. The paths below /simulator/ need no credentials, so keep it a loopback address.").Default("127.0.0.1:9862").String()
	prefix := app.Flag("prefix", "Prefix of the API's paths.").Default("/v1").String()
	sid := app.Flag("account-sid", "Account SID that is accepted.").Default(simulator.DemoAccountSID).String()
	token := app.Flag("auth-token", "Auth token of the account; of a simulated account, so no secret.").Default(simulator.DemoAuthToken).String()
	key := app.Flag("api-key", "API key SID that is accepted as well; none if empty.").Default("").String()
	secret := app.Flag("api-secret", "Secret of the API key.").Default("").String()

	demo := app.Flag("demo", "The world of the exporter's --demo, instead of one that the other flags about the world describe.").Bool()
	var described []string // flags about the world that were given
	world := func(name, otherwise, help string) *kingpin.FlagClause {
		return app.Flag(name, help).Default(otherwise).Action(func(c *kingpin.ParseContext) error {
			for _, e := range c.Elements {
				if f, ok := e.Clause.(*kingpin.FlagClause); ok && f.Model().Name == name {
					described = append(described, "--"+name)
					return nil
				}
			}
			return nil
		})
	}
	seed := world("seed", "1", "Seed of the world: the same seed gives the same world.").Uint64()
	rate := world("rate", "10", "Operations a minute.").Float64()
	uniform := world("uniform", "false", "Exactly --rate a minute, evenly spaced, instead of at random.").Bool()
	window := world("window", "168h", "How long operations are kept after creation; so much is there from the start.").Duration()
	minRecipients := world("min-recipients", "1", "Recipients of the smallest operations.").Int()
	maxRecipients := world("max-recipients", "10000", "Recipients of the largest operations.").Int()
	lifetime := world("lifetime", d.Lifetime.String(), "How long an operation is processed, on average.").Duration()
	scheduledShare := world("scheduled-share", "0.1", "Share of the operations that are scheduled ahead.").Float64()
	scheduledAhead := world("scheduled-ahead", d.ScheduledAhead.String(), "How far ahead at most.").Duration()
	lateShare := world("late-share", "0.02", "Share of the messages that get their outcome after the operation's end.").Float64()
	lateFor := world("late-for", d.LateFor.String(), "How long numbers change after the end.").Duration()

	order := orders.flag(app, "order", "newest", "Order of the list.")
	bound := bounds.flag(app, "bounds", "exclusive", "How startDate and endDate are compared.")
	paging := pagings.flag(app, "paging", "keyset", "How a token remembers its place.")
	last := lastNexts.flag(app, "last-next", "null", "How the last page spells next.")
	filters := tokenFilters.flag(app, "token-filters", "bound", "What a token knows of the filters.")
	alphabet := alphabets.flag(app, "token-alphabet", "url-safe", "What tokens are made of.")
	pageCap := app.Flag("page-cap", "Operations on a page at most, whatever was asked for; 0: no cap.").Default("0").Int()
	emptyEvery := app.Flag("empty-every", "Every so manyth page is empty; 0: none.").Default("0").Int()
	repeat := app.Flag("repeat", "Operations of the page before that a page begins with.").Default("0").Int()

	throttleRate := app.Flag("throttle-rate", "Requests a second before 429 is answered; 0: no limit.").Default("0").Float64()
	throttleBurst := app.Flag("throttle-burst", "Requests at once, with --throttle-rate.").Default("1").Int()
	throttleConcurrent := app.Flag("throttle-concurrent", "Requests in flight before 429 is answered; 0: no limit.").Default("0").Int()
	latency := app.Flag("latency", "Every answer takes so much longer.").Default("0s").Duration()

	fail := func(err error) int {
		// Where this cannot be written, nothing can.
		_, _ = fmt.Fprintf(stderr, "twilio_simulator: %v\n", err)
		return 1
	}

	if _, err := app.Parse(args); err != nil {
		return fail(err)
	}
	if helped {
		return 0
	}

	if *demo && len(described) > 0 {
		return fail(fmt.Errorf("--demo is a world of its own, without %s", strings.Join(described, ", ")))
	}

	s := d
	s.Seed, s.Rate, s.Uniform, s.Retention = *seed, *rate, *uniform, *window
	s.MinRecipients, s.MaxRecipients = *minRecipients, *maxRecipients
	s.Lifetime, s.ScheduledShare, s.ScheduledAhead = *lifetime, *scheduledShare, *scheduledAhead
	s.LateShare, s.LateFor = *lateShare, *lateFor
	if *demo {
		s = simulator.DemoWorld()
	}
	source, err := simulator.NewWorld(s)
	if err != nil {
		return fail(err)
	}
	handler, err := simulator.NewHandler(source, simulator.Settings{
		Prefix: *prefix, AccountSID: *sid, AuthToken: *token, APIKey: *key, APISecret: *secret,
		List: simulator.ListSettings{
			Order: orders[*order], Bounds: bounds[*bound], Paging: pagings[*paging], LastNext: lastNexts[*last],
			TokenFilters: tokenFilters[*filters], Alphabet: alphabets[*alphabet],
			PageCap: *pageCap, EmptyEvery: *emptyEvery, Repeat: *repeat,
		},
		Throttle:  simulator.Throttle{Rate: *throttleRate, Burst: *throttleBurst, Concurrent: *throttleConcurrent},
		TokenSeed: *seed,
	})
	if err != nil {
		return fail(err)
	}
	if *latency != 0 {
		if _, err := handler.Faults().Add(simulator.Fault{Kind: simulator.FaultLatency, Latency: *latency}); err != nil {
			return fail(err)
		}
	}
	if err := serve(ctx, *address, handler, source, stdout); err != nil {
		return fail(err)
	}
	return 0
}

// serve serves until ctx ends.
func serve(ctx context.Context, address string, handler *simulator.Handler, world *simulator.World, stdout io.Writer) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/simulator/", simulator.NewAdmin(handler, world))
	mux.Handle("/", handler)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute}

	s := handler.Settings()
	hello := fmt.Sprintf("base URL: http://%s%s\n", listener.Addr(), s.Prefix)
	if s.AccountSID != "" {
		hello += fmt.Sprintf("account SID: %s, auth token: %s\n", s.AccountSID, s.AuthToken)
	}
	if s.APIKey != "" {
		hello += fmt.Sprintf("API key: %s, secret: %s\n", s.APIKey, s.APISecret)
	}
	if _, err := io.WriteString(stdout, hello); err != nil {
		_ = listener.Close()
		return err
	}

	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	handler.Close()
	// The context that has ended must not cut the last answers short.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	if err := server.Shutdown(last); err != nil {
		_ = server.Close()
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
