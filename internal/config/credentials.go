package config

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/prometheus/common/config"

	"twilio_operations_exporter/twilio"
)

// credentials are those of one account, from flags or from the file.
type credentials struct {
	sid, key              input
	tokenFile, secretFile input
	token, secret         input  // from the environment; a file has none
	dir                   string // base of relative paths
}

// login is how an account authenticates: a user, and its secret from a file or from the environment.
type login struct {
	user, file, secret input
}

// sid is a kind of SID: two letters and 32 hexadecimal digits.
type sid struct {
	prefix string
	want   string // in errors: what is expected
	is     string // in errors: what a value of this kind is, if the other kind is expected
}

const sidLength = 34

var (
	accountSID = sid{
		prefix: "AC",
		want:   "an Account SID (AC and 32 hexadecimal digits)",
		is:     "is an Account SID (AC…)",
	}
	keySID = sid{
		prefix: "SK",
		want:   "the SID of an API key (SK and 32 hexadecimal digits)",
		is:     "is an API key (SK…)",
	}
	sidDigits = regexp.MustCompile(`^[0-9a-fA-F]*$`)
)

// given returns the name of the first input that is set, if any.
func (c *credentials) given() string {
	for _, in := range []input{c.sid, c.tokenFile, c.token, c.key, c.secretFile, c.secret} {
		if in.value != "" {
			return in.name
		}
	}
	return ""
}

// apply checks the credentials and sets them in a.
func (c *credentials) apply(a *Account) (warnings []string, err error) {
	warnings, err = c.sid.checkSID(accountSID, c.key.name)
	if err != nil {
		return nil, err
	}
	err = c.checkSources()
	if err != nil {
		return nil, err
	}

	used, more, err := c.login()
	if err != nil {
		return nil, err
	}
	warnings = append(warnings, more...)

	more, err = c.checkSecrets()
	if err != nil {
		return nil, err
	}
	warnings = append(warnings, more...)

	a.AccountSID = c.sid.value
	a.User = used.user.value
	if used.file.value != "" {
		a.Password = SecretFile(absolute(config.JoinDir(c.dir, used.file.value)))
	} else {
		a.Password = config.NewInlineSecret(used.secret.value)
	}
	warnings = append(warnings, a.checkBaseURL()...)
	return append(warnings, clearText(a)...), nil
}

// checkSecrets checks all secrets that are given. A fault in one that is not used would show only when it is needed.
func (c *credentials) checkSecrets() (warnings []string, err error) {
	for _, file := range []input{c.tokenFile, c.secretFile} {
		content, err := checkFile(file, c.dir, "a file with the secret")
		if err != nil {
			return nil, err
		}
		more, err := file.checkSecret(content)
		if err != nil {
			return nil, err
		}
		warnings = append(warnings, more...)
	}

	for _, secret := range []input{c.token, c.secret} {
		more, err := secret.checkSecret(secret.value)
		if err != nil {
			return nil, err
		}
		warnings = append(warnings, more...)
	}
	return warnings, nil
}

// checkSources refuses a secret that is set twice, and an API secret without an API key.
func (c *credentials) checkSources() error {
	for _, both := range [][2]input{{c.tokenFile, c.token}, {c.secretFile, c.secret}} {
		file, variable := both[0], both[1]
		if file.value != "" && variable.value != "" {
			return fmt.Errorf("%s and %s both set the same secret: remove one of them", file.where(), variable.where())
		}
	}

	for _, secret := range []input{c.secretFile, c.secret} {
		if secret.value != "" && c.key.value == "" {
			return fmt.Errorf("%s: API secret without an API key: set %s", secret.where(), c.key.name)
		}
	}
	return nil
}

// login chooses between the API key and the Auth Token.
func (c *credentials) login() (used login, warnings []string, err error) {
	withToken := login{user: c.sid, file: c.tokenFile, secret: c.token}
	if c.key.value == "" {
		if !withToken.hasSecret() {
			return login{}, nil, fmt.Errorf("%s: no credentials: set %s, or an API key and its secret",
				c.sid.where(), withToken.sources())
		}
		return withToken, nil, nil
	}

	warnings, err = c.key.checkSID(keySID, c.sid.name)
	if err != nil {
		return login{}, nil, err
	}
	withKey := login{user: c.key, file: c.secretFile, secret: c.secret}
	if !withKey.hasSecret() {
		return login{}, nil, fmt.Errorf("%s: the API key's secret is missing: set %s", c.key.where(), withKey.sources())
	}
	if withToken.hasSecret() {
		warnings = append(warnings, fmt.Sprintf("%s: the API key is used, and the Auth Token of %s is not: remove one of them",
			c.key.where(), withToken.source()))
	}
	return withKey, warnings, nil
}

func (l *login) hasSecret() bool { return l.file.value != "" || l.secret.value != "" }

// source names the flag, variable or key that sets the secret.
func (l *login) source() string {
	if l.file.value != "" {
		return l.file.name
	}
	return l.secret.name
}

// sources names all that could set the secret.
func (l *login) sources() string {
	if l.secret.name == "" {
		return l.file.name
	}
	return l.file.name + " or " + l.secret.name
}

// checkSID refuses what cannot be a SID, which is also a user name of basic authentication (RFC 7617) and the value of
// a label: it may be a misplaced secret. Characters that are not hexadecimal digits are a warning only, as the API
// decides what it accepts. other names the input in which a SID of the other kind belongs.
func (in input) checkSID(kind sid, other string) (warnings []string, err error) {
	in.hidden = true
	fault := kind.fault(in.value, other)
	if fault != "" {
		return nil, in.faulty(fault, kind.want)
	}

	digits := in.value[len(kind.prefix):]
	if !sidDigits.MatchString(digits) {
		warning := in.faulty("contains characters that are not hexadecimal digits", kind.want)
		return []string{warning.Error()}, nil
	}
	return nil, nil
}

// fault says why a value cannot be a SID of this kind, without showing the value; "" if it can.
func (s sid) fault(value, other string) string {
	textFault := faultOfText(value)
	lower := strings.ToLower(s.prefix)

	switch {
	case value == "":
		return "is empty"
	case textFault != "":
		return textFault
	case strings.HasPrefix(value, lower):
		return "begins with lower-case " + lower
	case s != keySID && strings.HasPrefix(value, keySID.prefix) && len(value) == sidLength:
		return keySID.is + ", which belongs in " + other
	case s != accountSID && strings.HasPrefix(value, accountSID.prefix) && len(value) == sidLength:
		return accountSID.is + ", which belongs in " + other
	case !strings.HasPrefix(value, s.prefix):
		return "does not begin with " + s.prefix
	case strings.Contains(value, ":"):
		return "contains a colon"
	case utf8.RuneCountInString(value) != sidLength:
		return fmt.Sprintf("is not %d characters long", sidLength)
	}
	return ""
}

// faultOfText says what is wrong with a value that should consist of visible characters; "" if nothing is.
func faultOfText(value string) string {
	switch {
	case value == "":
		return ""
	case strings.ContainsAny(value[:1], `"'`):
		return "is quoted"
	case strings.ContainsFunc(value, unicode.IsSpace):
		return "contains white space"
	case !validName(value):
		return "contains characters that cannot be shown"
	}
	return ""
}

// faulty is the error of a credential with this fault.
func (in input) faulty(fault, want string) error {
	return fmt.Errorf("%s: %s %s: want %s", in.where(), in.show(), fault, want)
}

// checkSecret refuses a secret that is longer than the client accepts, and warns of characters that are hardly meant to
// be part of one. in is what sets the secret.
func (in input) checkSecret(secret string) (warnings []string, err error) {
	if len(secret) > twilio.MaxSecret {
		return nil, fmt.Errorf("%s: the secret has %d bytes, more than %d: want the secret and nothing else",
			in.where(), len(secret), twilio.MaxSecret)
	}
	fault := faultOfText(secret)
	if fault == "" {
		return nil, nil
	}
	return []string{fmt.Sprintf("%s: the secret %s: remove what does not belong to it", in.where(), fault)}, nil
}

// clearText warns of credentials that are sent unencrypted.
func clearText(a *Account) []string {
	if a.BaseURL.Scheme != "http" {
		return nil
	}
	host := a.BaseURL.Hostname()
	addr, err := netip.ParseAddr(host)
	isLoopback := err == nil && addr.IsLoopback()
	if host == "localhost" || isLoopback {
		return nil
	}
	return []string{fmt.Sprintf("account %q: credentials are sent to %s unencrypted", a.Account, a.BaseURL.Host)}
}
