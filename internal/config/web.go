package config

import (
	"fmt"
	"math"
	"net"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/config"
	"github.com/prometheus/exporter-toolkit/web"
	"github.com/prometheus/exporter-toolkit/web/kingpinflag"
	"go.yaml.in/yaml/v3"

	"twilio_operations_exporter/internal/sanitize"
)

func (o *options) addWebFlags(app *kingpin.Application) {
	flags := &o.config.flags.Web
	o.config.toolkit = kingpinflag.AddFlags(app, ":9861")
	o.text(app, &o.telemetryPath, "web.telemetry-path", "", "/metrics", "Path under which to expose metrics.")
	o.text(app, &o.scrapeTimeoutOffset, "web.scrape-timeout-offset", "", "500ms",
		"Offset to subtract from the scrape timeout that Prometheus announces.")
	o.text(app, &o.healthListenAddress, "web.health-listen-address", "", "",
		"Additional address that serves only /-/healthy and /-/ready, without TLS or authentication. For probes.").
		PlaceHolder("ADDRESS")
	app.Flag("web.enable-lifecycle", "Enable reloading the configuration file via HTTP POST to /-/reload.").
		BoolVar(&flags.EnableLifecycle)
	app.Flag("web.enable-pprof", "Enable profiling endpoints under /debug/pprof/.").BoolVar(&flags.EnablePprof)
}

func (o *options) validateWeb() error {
	flags := &o.config.flags.Web
	err := o.scrapeTimeoutOffset.setDuration(
		&flags.ScrapeTimeoutOffset, 0, math.MaxInt64, "of 0s or more, such as 500ms",
	)
	if err != nil {
		return err
	}
	err = o.telemetryPath.setTelemetryPath(&flags.TelemetryPath)
	if err != nil {
		return err
	}
	err = o.validateAddresses()
	if err != nil {
		return err
	}
	return validateWebConfig(*o.config.toolkit.WebConfigFile)
}

// reservedPaths are served by the exporter itself and cannot be the telemetry path.
var reservedPaths = []string{"/", "/-", "/probe", "/sd", "/debug"}

// plainPath is narrower than what a URL allows: the path becomes a pattern of http.ServeMux, where braces and blanks
// have a meaning.
var plainPath = regexp.MustCompile(`^/[A-Za-z0-9._~/-]*$`)

func (in input) setTelemetryPath(to *string) error {
	if !plainPath.MatchString(in.value) || path.Clean(in.value) != in.value {
		return in.bad("a plain path that begins with a slash, such as /metrics")
	}
	for _, reserved := range reservedPaths {
		isBelow := reserved != "/" && strings.HasPrefix(in.value, reserved+"/")
		if in.value == reserved || isBelow {
			return in.bad("available: the exporter serves " + reserved + " itself, choose another, such as /metrics")
		}
	}
	*to = in.value
	return nil
}

func (o *options) validateAddresses() error {
	toolkit := o.config.toolkit
	var listeners []input
	for _, address := range *toolkit.WebListenAddresses {
		if *toolkit.WebSystemdSocket {
			break // its sockets replace the addresses
		}
		in := input{name: "--web.listen-address", value: address}
		if !validListenAddress(address) {
			return in.bad("an address to listen on, such as :9861 or 127.0.0.1:9861")
		}
		listeners = append(listeners, in)
	}

	health := o.healthListenAddress
	isVsock := strings.HasPrefix(health.value, "vsock://")
	if health.value != "" && (isVsock || !validListenAddress(health.value)) {
		return health.bad("an address to listen on, such as :9862 or 127.0.0.1:9862")
	}
	o.config.flags.Web.HealthListenAddress = health.value
	return checkPorts(append(listeners, health))
}

// checkPorts refuses addresses that exclude each other.
func checkPorts(listeners []input) error {
	for i, in := range listeners {
		for _, other := range listeners[:i] {
			if samePort(in.value, other.value) {
				return fmt.Errorf("%s: %s has the port of %s %s: choose another port",
					in.where(), in.show(), other.where(), other.show())
			}
		}
	}
	return nil
}

// samePort reports whether two addresses have the same port, on the same host or on one that stands for all.
func samePort(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	isTCP := errA == nil && errB == nil
	isFixed := portA != "0" // which is any free port
	if !isTCP || !isFixed || portA != portB {
		return false
	}
	return hostA == hostB || isEveryHost(hostA) || isEveryHost(hostB)
}

func isEveryHost(host string) bool {
	return host == "" || net.ParseIP(host).IsUnspecified()
}

// validateWebConfig validates exporter-toolkit's own file.
func validateWebConfig(file string) error {
	if file == "" {
		return nil
	}
	const flag = "--web.config.file"

	b, err := readWebConfig(file)
	if err != nil {
		return err
	}
	err = web.Validate(file)
	if err == nil {
		return nil
	}

	place := flag + ": " + file
	message := err.Error()
	switch {
	case strings.HasPrefix(message, "yaml: unmarshal errors"):
		top := mapping{file: place, line: 1}
		return top.typeError(err, "value of an unexpected type (--help links the documentation)")
	case strings.HasPrefix(message, "yaml: "):
		return syntaxError(b, place, err)
	case strings.HasPrefix(message, "crypto/bcrypt: "):
		return plainPassword(b, file)
	default:
		return fmt.Errorf("%s: %q cannot be used: %s", flag, file, sanitize.OneLine(message))
	}
}

// CheckWebConfig returns the error if exporter-toolkit's own file, or one that it names, cannot be read at once.
// exporter-toolkit reads them for each connection.
func CheckWebConfig(file string) error {
	_, err := readWebConfig(file)
	return err
}

func readWebConfig(file string) ([]byte, error) {
	b, err := readFile(file, maxFile)
	if err != nil {
		return nil, cannotRead("--web.config.file", file, err, "a YAML file")
	}
	return b, checkTLSFiles(b, file)
}

// checkTLSFiles checks the files that exporter-toolkit's file names. exporter-toolkit would read a device forever and
// block on a FIFO.
func checkTLSFiles(b []byte, file string) error {
	var content struct {
		TLS map[string]yaml.Node `yaml:"tls_server_config"`
	}
	_ = yaml.Unmarshal(b, &content) // exporter-toolkit reports errors

	for _, key := range []string{"cert_file", "key_file", "client_ca_file"} {
		value, given := content.TLS[key]
		if !given || value.Value == "" {
			continue
		}
		named := config.JoinDir(filepath.Dir(file), value.Value)
		if _, err := readFile(named, maxFile); err != nil {
			place := fmt.Sprintf("--web.config.file: %s:%d: %s", file, value.Line, key)
			return cannotRead(place, named, err, "a PEM file")
		}
	}
	return nil
}

// bcryptHash is the form of a password that exporter-toolkit accepts.
var bcryptHash = regexp.MustCompile(`^\$2[aby]?\$\d\d\$[./A-Za-z0-9]{53}$`)

// plainPassword names the first user whose password is not a hash.
func plainPassword(b []byte, file string) error {
	var content struct {
		Users yaml.Node `yaml:"basic_auth_users"`
	}
	_ = yaml.Unmarshal(b, &content) // exporter-toolkit has parsed it before
	pairs := content.Users.Content
	for i := 0; i+1 < len(pairs); i += 2 {
		user, password := pairs[i], pairs[i+1]
		if !bcryptHash.MatchString(password.Value) {
			return fmt.Errorf("--web.config.file: %s:%d: the password of user %s is not a bcrypt hash: "+
				"make one with htpasswd -nBC 10 USER", file, user.Line, sanitize.Quote(user.Value))
		}
	}
	return fmt.Errorf("--web.config.file: %s: a password is not a bcrypt hash: make one with htpasswd -nBC 10 USER", file)
}
