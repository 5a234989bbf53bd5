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
	dir                   string // that relative paths of files are in
}

// login is how an account authenticates: a user, and its secret from a file or from the environment.
type login struct {
	user, file, secret input
}

// sid is a kind of SID: two letters and 32 hexadecimal digits.
type sid struct {
	prefix string
	want   string // what an error says is expected
	is     string // what an error says of a value of this kind in the place of the other
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

// apply checks the credentials and gives them to a.
func (c *credentials) apply(a *Account) (warnings []string, err error) {
	warnings, err = c.sid.checkSID(accountSID, c.key.name)
	if err != nil {
		return nil, err
	}
	err = c.checkSources()
	if err != nil {
		return nil, err
	}

	used, odd, err := c.login()
	if err != nil {
		return nil, err
	}
	warnings = append(warnings, odd...)

	// The file that is not used is checked too, or else its absence would show only when it is needed.
	for _, file := range []input{c.tokenFile, c.secretFile} {
		content, err := checkFile(file, c.dir, "a file with the secret")
		if err != nil {
			return nil, err
		}
		odd, err := file.checkSecret(content)
		if err != nil {
			return nil, err
		}
		warnings = append(warnings, odd...)
	}
	for _, secret := range []input{c.token, c.secret} {
		odd, err := secret.checkSecret(secret.value)
		if err != nil {
			return nil, err
		}
		warnings = append(warnings, odd...)
	}

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

// checkSources refuses a secret that is set twice, and one of an API key that there is not.
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

// source names where the secret comes from.
func (l *login) source() string {
	if l.file.value != "" {
		return l.file.name
	}
	return l.secret.name
}

// sources names where the secret may come from.
func (l *login) sources() string {
	if l.secret.name == "" {
		return l.file.name
	}
	return l.file.name + " or " + l.secret.name
}

// checkSID refuses what cannot be a SID or its user of basic authentication (RFC 7617), which may be a secret that is not
// to become the value of a label. It warns of digits that are not: the API decides what it accepts. A SID of the other
// kind belongs in the input other.
func (in input) checkSID(kind sid, other string) (warnings []string, err error) {
	in.hidden = true
	switch odd := kind.odd(in.value, other); {
	case odd != "":
		return nil, in.isOdd(odd, kind.want)
	case !sidDigits.MatchString(in.value[len(kind.prefix):]):
		return []string{in.isOdd("contains characters that are not hexadecimal digits", kind.want).Error()}, nil
	}
	return nil, nil
}

// odd says why a value cannot be a SID of a kind, without showing it; "" if it can.
func (s sid) odd(value, other string) string {
	odd := oddText(value)
	lower := strings.ToLower(s.prefix)

	switch {
	case value == "":
		return "is empty"
	case odd != "":
		return odd
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

// oddText says what is odd about a value that has no reason to hold anything but visible characters.
func oddText(value string) string {
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

// isOdd describes the value of a credential.
func (in input) isOdd(odd, want string) error {
	return fmt.Errorf("%s: %s %s: want %s", in.where(), in.show(), odd, want)
}

// checkSecret refuses a secret, which in sets, that would be refused at each request. It warns of what people do not mean
// to be part of one.
func (in input) checkSecret(secret string) (warnings []string, err error) {
	if len(secret) > twilio.MaxSecret {
		return nil, fmt.Errorf("%s: the secret has %d bytes, more than %d: want the secret and nothing else",
			in.where(), len(secret), twilio.MaxSecret)
	}
	odd := oddText(secret)
	if odd == "" {
		return nil, nil
	}
	return []string{fmt.Sprintf("%s: the secret %s: remove what does not belong to it", in.where(), odd)}, nil
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
