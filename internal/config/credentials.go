package config

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"unicode"

	"github.com/prometheus/common/config"
)

// credentials are those of one account, from flags or from the file.
type credentials struct {
	sid, key              input
	tokenFile, secretFile input
	token, secret         input  // from the environment; a file has none
	dir                   string // that relative paths of files are in
}

// The documented forms. What has only their first letters causes a warning: the API decides what it accepts. Anything
// else may be a secret, which is not to become the value of a label.
const (
	anAccountSID = "an Account SID (AC and 32 hexadecimal digits)"
	anAPIKey     = "the SID of an API key (SK and 32 hexadecimal digits)" //nolint:gosec // G101: no credential
)

var sidForm = regexp.MustCompile(`^[A-Z]{2}[0-9a-fA-F]{32}$`)

// given returns the name of the first input that is set, if any.
func (c *credentials) given() string {
	for _, in := range []input{c.sid, c.tokenFile, c.token, c.key, c.secretFile, c.secret} {
		if in.value != "" {
			return in.name
		}
	}
	return ""
}

// apply checks the credentials and gives them to a.
func (c *credentials) apply(a *Account) (warnings []string, err error) {
	warnings, err = checkSID(c.sid, "AC", anAccountSID)
	if err != nil {
		return nil, err
	}
	for _, both := range [][2]input{{c.tokenFile, c.token}, {c.secretFile, c.secret}} {
		if both[0].value != "" && both[1].value != "" {
			return nil, fmt.Errorf("%s and %s both set the same secret: remove one of them", both[0].where(), both[1].where())
		}
	}
	user, file, secret := c.sid, c.tokenFile, c.token
	switch {
	case c.key.value != "":
		user, file, secret = c.key, c.secretFile, c.secret
		odd, err := checkSID(user, "SK", anAPIKey)
		if err != nil {
			return nil, err
		}
		warnings = append(warnings, odd...)
		if file.value == "" && secret.value == "" {
			return nil, fmt.Errorf("%s: the API key's secret is missing: set %s", user.where(), either(file, secret))
		}
	case c.secretFile.value != "":
		return nil, fmt.Errorf("%s: API secret without an API key: set %s", c.secretFile.where(), c.key.name)
	case c.secret.value != "":
		return nil, fmt.Errorf("%s: API secret without an API key: set %s", c.secret.where(), c.key.name)
	case file.value == "" && secret.value == "":
		return nil, fmt.Errorf(
			"%s: no credentials: set %s, or an API key and its secret", user.where(), either(file, secret),
		)
	}
	// The file that is not used is checked too, or else its absence would show only when it is needed.
	for _, f := range []input{c.tokenFile, c.secretFile} {
		if err := checkFile(f, c.dir, "a file with the secret"); err != nil {
			return nil, err
		}
	}
	a.User, a.Password = user.value, config.NewInlineSecret(secret.value)
	if file.value != "" {
		a.Password = SecretFile(config.JoinDir(c.dir, file.value))
	}
	return append(warnings, clearText(a)...), nil
}

// either names where a secret may come from.
func either(file, secret input) string {
	if secret.name == "" {
		return file.name
	}
	return file.name + " or " + secret.name
}

// checkSID refuses what cannot be a SID or its user of basic authentication (RFC 7617), and warns of an unusual form.
func checkSID(in input, prefix, want string) (warnings []string, err error) {
	in.hidden = true
	switch {
	case !strings.HasPrefix(in.value, prefix), !validName(in.value),
		strings.ContainsFunc(in.value, func(r rune) bool { return r == ':' || unicode.IsSpace(r) }):
		return nil, in.bad(want)
	case !sidForm.MatchString(in.value):
		return []string{in.bad(want).Error()}, nil
	}
	return nil, nil
}

// clearText warns of credentials that are sent unencrypted.
func clearText(a *Account) []string {
	if a.BaseURL.Scheme != "http" {
		return nil
	}
	host := a.BaseURL.Hostname()
	if addr, err := netip.ParseAddr(host); host == "localhost" || err == nil && addr.IsLoopback() {
		return nil
	}
	return []string{fmt.Sprintf("account %q: credentials are sent to %s unencrypted", a.Account, a.BaseURL.Host)}
}
