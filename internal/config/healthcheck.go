package config

import (
	"cmp"
	"net"
	"net/url"
	"strings"

	"github.com/alecthomas/kingpin/v2"
)

const (
	healthcheckCommand = "healthcheck"
	healthPath         = "/-/healthy"
)

// addCommand defines the arguments. They are not a kingpin command: with a default command, kingpin loses errors of
// flags.
func (o *options) addCommand(app *kingpin.Application) {
	app.Arg("command", "Check whether a running exporter is healthy, and exit with status 0 or 1. "+
		"Without this command, the exporter is started.").
		PlaceHolder(healthcheckCommand).StringVar(&o.command)

	o.healthcheckAddress.name = healthcheckCommand
	app.Arg("address", "Address or URL to ask. "+
		"Default: --web.health-listen-address if set, otherwise --web.listen-address.").
		StringVar(&o.healthcheckAddress.value)
}

// validateHealthcheck returns the configuration of the healthcheck command, which needs no account. Nothing else is
// validated.
func (o *options) validateHealthcheck() (*ValidatedConfig, error) {
	in := o.healthcheckAddress
	if in.value == "" {
		in.value = cmp.Or(o.healthListenAddress.value, (*o.config.toolkit.WebListenAddresses)[0])
	}

	u, ok := healthURL(in.value)
	if !ok {
		in.hidden = true
		return nil, in.bad("an address or URL, such as localhost:9861 or http://localhost:9861")
	}

	o.config.flags.Healthcheck = u
	return &o.config, nil
}

// healthURL returns the health URL of an exporter, from its URL or from the address it listens on.
func healthURL(address string) (u *url.URL, ok bool) {
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return nil, false
	}

	host := u.Hostname()
	if isEveryHost(host) {
		host = "localhost"
	}
	if port := u.Port(); port != "" {
		u.Host = net.JoinHostPort(host, port)
	}
	if !validHost(u) {
		return nil, false
	}

	if u.Path == "" || u.Path == "/" {
		u.Path = healthPath
	}
	return u, true
}
