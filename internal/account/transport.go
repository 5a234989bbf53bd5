package account

import (
	"fmt"
	"net/http"
	"reflect"
	"slices"

	promconfig "github.com/prometheus/common/config"

	"twilio_operations_exporter/internal/config"
	"twilio_operations_exporter/internal/sanitize"
)

// transport is what accounts with equal settings share: each connection of its own that an account keeps open costs
// memory and two goroutines.
type transport struct {
	http.RoundTripper
	settings promconfig.HTTPClientConfig // without credentials
}

// newTransports returns the transports of accounts, those in use where they fit. Making them is the only part of an
// account that can fail, hence it is done for all accounts before any of them is changed.
func newTransports(configs []config.Account, inUse []*transport) ([]*transport, error) {
	known := slices.Clone(inUse)
	transports := make([]*transport, len(configs))
	for i := range configs {
		settings := configs[i].HTTP
		settings.BasicAuth = nil
		n := slices.IndexFunc(known, func(t *transport) bool { return reflect.DeepEqual(t.settings, settings) })
		if n < 0 {
			rt, err := config.NewTransport(settings)
			if err != nil {
				return nil, fmt.Errorf("account %q: %s", configs[i].Account, sanitize.OneLine(err.Error()))
			}
			n = len(known)
			known = append(known, &transport{rt, settings})
		}
		transports[i] = known[n]
	}
	return transports, nil
}

// withCredentials returns the transport of one account.
func (t *transport) withCredentials(c *config.Account) http.RoundTripper {
	auth := c.HTTP.BasicAuth
	var password promconfig.SecretReader = promconfig.NewInlineSecret(string(auth.Password))
	if auth.PasswordFile != "" {
		password = config.SecretFile(auth.PasswordFile)
	}
	return promconfig.NewBasicAuthRoundTripper(promconfig.NewInlineSecret(auth.Username), password, t.RoundTripper)
}

// transportsOf returns the transports of accounts, each once.
func transportsOf(list []*Account) (transports []*transport) {
	seen := map[*transport]bool{}
	for _, a := range list {
		if !seen[a.shared] {
			seen[a.shared] = true
			transports = append(transports, a.shared)
		}
	}
	return transports
}

// closeIdle closes the idle connections of the transports that no account of list uses.
func closeIdle(transports []*transport, list []*Account) {
	inUse := transportsOf(list)
	for _, t := range transports {
		if c, ok := t.RoundTripper.(interface{ CloseIdleConnections() }); ok && !slices.Contains(inUse, t) {
			c.CloseIdleConnections()
		}
	}
}
