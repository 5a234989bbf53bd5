package config

import (
	"fmt"
	"strings"

	"github.com/alecthomas/kingpin/v2"

	"twilio_operations_exporter/internal/sanitize"
	"twilio_operations_exporter/internal/usage"
)

const seeHelp = " (--help lists all flags)"

// usageError explains why kingpin refuses a command line, and says what was probably meant. It shows no arguments, as
// one may be a secret.
func usageError(app *kingpin.Application, args []string, err error) error {
	message := sanitize.OneLine(err.Error())
	if strings.HasPrefix(message, "unexpected ") {
		return fmt.Errorf("too many arguments: want flags only, or %s and one address%s", healthcheckCommand, seeHelp)
	}
	if hint := secretHint(args); hint != "" {
		return fmt.Errorf("%s%s; %s", message, seeHelp, hint)
	}
	if strings.HasPrefix(message, "unknown ") {
		if meant := usage.MeantFlag(app, args); meant != "" {
			return fmt.Errorf("%s: did you mean --%s?%s", message, meant, seeHelp)
		}
	}
	return fmt.Errorf("%s%s", message, seeHelp)
}

// unexpectedArgument is the error of an argument that is no command.
func unexpectedArgument(app *kingpin.Application, argument string) error {
	if app.GetFlag(argument) != nil {
		return fmt.Errorf("unexpected argument %s: did you mean --%s?%s", argument, argument, seeHelp)
	}
	in := input{value: argument, hidden: true} // it may be a secret
	return fmt.Errorf("unexpected argument %s: want flags only, or the command %s%s", in.show(), healthcheckCommand, seeHelp)
}

// secretHint says how to pass a secret that was passed as the value of a flag.
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
