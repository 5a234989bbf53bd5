package config

import (
	"fmt"
	"strings"

	"github.com/alecthomas/kingpin/v2"

	"twilio_operations_exporter/internal/sanitize"
)

const seeHelp = " (--help lists all flags)"

// usageError says what is wrong with a command line that kingpin refuses, and what was probably meant. An argument is
// not shown: it may be a secret.
func usageError(app *kingpin.Application, args []string, err error) error {
	message := sanitize.OneLine(err.Error())
	if strings.HasPrefix(message, "unexpected ") {
		return fmt.Errorf("too many arguments: want flags only, or %s and one address%s", healthcheckCommand, seeHelp)
	}
	if hint := secretHint(args); hint != "" {
		return fmt.Errorf("%s%s; %s", message, seeHelp, hint)
	}
	if strings.HasPrefix(message, "unknown ") {
		if meant := meantFlag(app, args); meant != "" {
			return fmt.Errorf("%s: did you mean --%s?%s", message, meant, seeHelp)
		}
	}
	return fmt.Errorf("%s%s", message, seeHelp)
}

// unexpectedArgument refuses an argument where there is none.
func unexpectedArgument(argument string) error {
	in := input{value: argument, hidden: true} // it may be a secret without its flag
	return fmt.Errorf("unexpected argument %s: want flags only, or the command %s%s", in.show(), healthcheckCommand, seeHelp)
}

// secretHint says how to pass a secret that was passed as a flag.
func secretHint(args []string) string {
	variables := map[string]string{"--twilio.auth-token": tokenVariable, "--twilio.api-secret": secretVariable}
	for _, arg := range args {
		name, _, _ := strings.Cut(arg, "=")
		if variable := variables[name]; variable != "" {
			return fmt.Sprintf("secrets are not accepted as flag values: use %s-file or %s", name, variable)
		}
	}
	return ""
}

// meantFlag returns the flag that was probably meant by the first one that is unknown.
func meantFlag(app *kingpin.Application, args []string) string {
	var names []string
	known := map[string]bool{"-h": true}
	for _, flag := range app.Model().Flags {
		known["--"+flag.Name] = true
		known["--no-"+flag.Name] = flag.IsBoolFlag()
		if !flag.Hidden {
			names = append(names, flag.Name)
		}
	}

	for _, arg := range args {
		name, _, _ := strings.Cut(arg, "=")
		if strings.HasPrefix(name, "-") && !known[name] {
			return nearest(name, names)
		}
	}
	return ""
}
