package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kingpin/v2"

	"twilio_operations_exporter/twilio/simulator"
)

// flags are the values of the flags.
type flags struct {
	address  string
	world    simulator.WorldSettings
	settings simulator.Settings
}

// worldFlags are the flags of settings that simulator.NewWorld may refuse, by the names of the settings.
var worldFlags = map[string]string{
	"Rate":           "rate",
	"ScheduledShare": "scheduled-share",
	"Retention":      "window",
	"Lifetime":       "lifetime",
}

func addFlags(app *kingpin.Application) *flags {
	f := &flags{world: simulator.DefaultWorldSettings()}
	add := func(name, otherwise, help string) *kingpin.FlagClause {
		return app.Flag(name, help).Default(otherwise)
	}
	// The errors of kingpin's own values do not name the flag.
	parsed := func(name, otherwise, help, want string, parse func(text string) error) {
		add(name, otherwise, help).SetValue(&value{name: name, want: want, parse: parse})
	}

	add("listen-address", "127.0.0.1:9862", "Address to listen on. The paths below /simulator/ need no credentials, so use "+
		"a loopback address.").StringVar(&f.address)
	add("account-sid", simulator.DemoAccountSID, "Account SID or API key SID that is accepted.").
		StringVar(&f.settings.AccountSID)
	add("auth-token", simulator.DemoAuthToken, "Auth token that is accepted; not a secret.").
		StringVar(&f.settings.AuthToken)

	parsed("seed", "1", "Seed of the simulated operations: the same seed gives the same operations.",
		"a whole number of 0 or more", unsigned(&f.world.Seed))
	parsed("rate", "10", "Operations per minute.",
		"a number", number(&f.world.Rate))
	parsed("window", "168h", "How long operations are kept. The window is full from the start.",
		"a duration such as 24h", duration(&f.world.Retention))
	parsed("lifetime", "3m", "Average time for which an operation is processed.",
		"a duration such as 3m", duration(&f.world.Lifetime))
	parsed("scheduled-share", "0.1", "Share of operations that are scheduled ahead.",
		"a number", number(&f.world.ScheduledShare))

	list := &f.settings.List
	choices := "one of " + strings.Join(orders(), ", ")
	parsed("order", simulator.NewestFirst.String(), "Order of the list, "+choices+".",
		choices, order(&list.Order))
	parsed("jitter", "0s", "Maximum time by which operations are out of order in the list.",
		"a duration of 0 or more, such as 5s", jitter(&list.Jitter))
	return f
}

// A value is the value of a flag. Its error names the flag.
type value struct {
	name  string
	want  string // what is expected
	text  string
	parse func(text string) error
}

// String implements kingpin.Value.
func (v *value) String() string { return v.text }

// Set implements kingpin.Value.
func (v *value) Set(text string) error {
	if v.parse(text) != nil {
		return fmt.Errorf("--%s: %q is not %s", v.name, text, v.want)
	}
	v.text = text
	return nil
}

func unsigned(to *uint64) func(string) error {
	return func(text string) (err error) {
		*to, err = strconv.ParseUint(text, 10, 64)
		return err
	}
}

func number(to *float64) func(string) error {
	return func(text string) (err error) {
		*to, err = strconv.ParseFloat(text, 64)
		return err
	}
}

func duration(to *time.Duration) func(string) error {
	return func(text string) (err error) {
		*to, err = time.ParseDuration(text)
		return err
	}
}

func jitter(to *time.Duration) func(string) error {
	parse := duration(to)
	return func(text string) error {
		err := parse(text)
		if err == nil && *to < 0 {
			err = errors.New("negative")
		}
		return err
	}
}

func order(to *simulator.Order) func(string) error {
	return func(text string) error {
		for _, o := range simulator.Orders {
			if o.String() == text {
				*to = o
				return nil
			}
		}
		return errors.New("unknown")
	}
}

// orders returns the names of simulator.Orders.
func orders() (names []string) {
	for _, o := range simulator.Orders {
		names = append(names, o.String())
	}
	return names
}
