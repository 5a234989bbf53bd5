package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"regexp"
	"strings"

	"github.com/prometheus/common/config"
)

// credentials are those of one account, from flags or from the file.
type credentials struct {
	sid, key              input
	token, tokenFile      input
	secret, secretFile    input
	dir                   string // that relative paths of files are in
	wantToken, wantSecret string // where the Auth Token, the API secret may come from
}

// The documented forms. What has only their first letters causes a warning: the API decides what it accepts. Anything
// else may be a secret, which is not to become the value of a label.
const (
	anAccountSID = "an Account SID (AC and 32 hexadecimal digits)"
	anAPIKey     = "the SID of an API key (SK and 32 hexadecimal digits)" //nolint:gosec // G101: no credential
)

var (
	accountSIDForm = regexp.MustCompile(`^AC[0-9a-fA-F]{32}$`)
	apiKeyForm     = regexp.MustCompile(`^SK[0-9a-fA-F]{32}$`)
)

func (c *credentials) apply(a *Account) (warnings []string, err error) {
	if !strings.HasPrefix(c.sid.value, "AC") || !validUser(c.sid.value) {
		return nil, c.sid.bad(anAccountSID)
	}
	if !accountSIDForm.MatchString(c.sid.value) {
		warnings = append(warnings, c.sid.bad(anAccountSID).Error())
	}
	for _, both := range [][2]input{{c.token, c.tokenFile}, {c.secret, c.secretFile}} {
		if both[0].value != "" && both[1].value != "" {
			return nil, fmt.Errorf("%s and %s both set the same secret: remove one of them", both[1].where, both[0].where)
		}
	}
	user, secret, file := c.sid, c.token, c.tokenFile
	switch {
	case c.key.value != "":
		user, secret, file = c.key, c.secret, c.secretFile
		if !strings.HasPrefix(user.value, "SK") || !validUser(user.value) {
			return nil, user.bad(anAPIKey)
		}
		if !apiKeyForm.MatchString(user.value) {
			warnings = append(warnings, user.bad(anAPIKey).Error())
		}
		if secret.value == "" && file.value == "" {
			return nil, fmt.Errorf("%s: the API key's secret is missing: set %s", user.where, c.wantSecret)
		}
	case c.secret.value != "" || c.secretFile.value != "":
		where := c.secretFile.where
		if c.secretFile.value == "" {
			where = c.secret.where
		}
		return nil, fmt.Errorf("%s: API secret without an API key: set %s", where, c.key.where)
	case secret.value == "" && file.value == "":
		return nil, fmt.Errorf("%s: no credentials: set %s, or an API key and its secret", user.where, c.wantToken)
	}
	// The file that is not used is checked too, or else its absence would show only when it is needed.
	for _, f := range []input{c.tokenFile, c.secretFile} {
		if err := checkFile(f, c.dir, "a file with the secret"); err != nil {
			return nil, err
		}
	}
	tls, proxy := a.HTTP.TLSConfig, a.HTTP.ProxyConfig
	a.HTTP = httpConfig(user.value, secret.value, config.JoinDir(c.dir, file.value))
	a.HTTP.TLSConfig = tls
	if proxy.ProxyURL.URL != nil {
		a.HTTP.ProxyConfig = proxy
	}
	return warnings, nil
}

// httpConfig does not follow redirects: they would send the credentials to another host.
func httpConfig(user, secret, secretFile string) config.HTTPClientConfig {
	return config.HTTPClientConfig{
		BasicAuth:   &config.BasicAuth{Username: user, Password: config.Secret(secret), PasswordFile: secretFile},
		EnableHTTP2: true,
		ProxyConfig: config.ProxyConfig{ProxyFromEnvironment: true},
	}
}

// checkFile reads a file of dir to report errors at startup; it is read again for each request.
func checkFile(f input, dir, want string) error {
	if f.value == "" {
		return nil
	}
	_, err := SecretFile(config.JoinDir(dir, f.value)).read()
	var pathError *fs.PathError
	if errors.As(err, &pathError) { // without the path
		return fmt.Errorf("%s: cannot read %s (%w): want %s", f.where, f.show(), pathError.Err, want)
	}
	return err
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
