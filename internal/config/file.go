package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/prometheus/common/config"
	"go.yaml.in/yaml/v3"

	"twilio_operations_exporter/internal/sanitize"
)

// configFile is the form of --config.file.
type configFile struct {
	Accounts []fileAccount `yaml:"accounts"`
}

type fileAccount struct {
	Name          scalar    `yaml:"name"`
	AccountSID    scalar    `yaml:"account_sid"`
	AuthTokenFile scalar    `yaml:"auth_token_file"`
	APIKey        scalar    `yaml:"api_key"`
	APISecretFile scalar    `yaml:"api_secret_file"`
	ProxyURL      scalar    `yaml:"proxy_url"`
	TLSConfig     tlsConfig `yaml:"tls_config"`
	// Settings takes every other key; those of the table settings are known.
	Settings map[string]scalar `yaml:",inline"`
}

// tlsConfig is Prometheus' without its methods: they would validate while decoding, when the line is not known.
type tlsConfig config.TLSConfig

// scalar is a single value as written, and its line. It is kept as text: flags and file share their parsers.
type scalar struct {
	value string
	line  int
}

// UnmarshalYAML implements yaml.Unmarshaler.
func (s *scalar) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind != yaml.ScalarNode {
		return fmt.Errorf("line %d: want a scalar value", n.Line)
	}
	s.value, s.line = n.Value, n.Line
	return nil
}

// readConfigFile returns the accounts of a file, and what looks like a mistake in it. Every error is one line that
// begins with file and line.
func readConfigFile(file string, defaults *Account) (accounts []Account, warnings []string, err error) {
	b, err := readFile(file, maxConfigFile)
	if err != nil {
		return nil, nil, fmt.Errorf("--config.file: %w", err)
	}
	return parseConfigFile(b, file, defaults)
}

func parseConfigFile(b []byte, file string, defaults *Account) (accounts []Account, warnings []string, err error) {
	lines, err := accountLines(b)
	if err != nil {
		return nil, nil, yamlError(file, err)
	}
	var f configFile
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if decodeErr := d.Decode(&f); decodeErr != nil && !errors.Is(decodeErr, io.EOF) {
		return nil, nil, yamlError(file, decodeErr)
	}
	var more yaml.Node
	if moreErr := d.Decode(&more); moreErr == nil {
		return nil, nil, fmt.Errorf("%s:%d: more than one YAML document: want a single one", file, more.Line)
	} else if !errors.Is(moreErr, io.EOF) {
		return nil, nil, yamlError(file, moreErr)
	}
	if len(f.Accounts) == 0 || len(lines) != len(f.Accounts) {
		return nil, nil, fmt.Errorf("%s:1: no accounts configured: want at least one under the key accounts", file)
	}
	names := map[string]int{}
	sids := map[[2]string]string{} // and their base URLs
	for i := range f.Accounts {
		fa := &f.Accounts[i]
		at := location{file: file, line: lines[i]}
		a, w, accountErr := fa.validate(at, defaults)
		if accountErr != nil {
			return nil, nil, accountErr
		}
		if other, ok := names[a.Account]; ok {
			return nil, nil, fmt.Errorf("%s: duplicate account name %s, also in line %d: names must be unique",
				at.of(fa.nameOrSID()), sanitize.Quote(a.Account), other)
		}
		names[a.Account] = at.lineOf(fa.nameOrSID())
		accounts, warnings = append(accounts, a), append(warnings, w...)
		sid := [2]string{fa.AccountSID.value, a.BaseURL.String()}
		if other, ok := sids[sid]; ok {
			warnings = append(warnings, fmt.Sprintf(
				"%s: account_sid: also that of account %s: each reads the API at its own rate limit",
				at.of(fa.AccountSID), sanitize.Quote(other),
			))
		} else {
			sids[sid] = a.Account
		}
	}
	return accounts, warnings, nil
}

// location is where in the file an account begins.
type location struct {
	file string
	line int
}

func (l location) lineOf(s scalar) int {
	if s.line == 0 {
		return l.line
	}
	return s.line
}

func (l location) of(s scalar) string {
	return fmt.Sprintf("%s:%d", l.file, l.lineOf(s))
}

func (l location) input(key string, s scalar) input {
	return input{where: l.of(s) + ": " + key, value: s.value}
}

func (fa *fileAccount) nameOrSID() scalar {
	if fa.Name.value != "" {
		return fa.Name
	}
	return fa.AccountSID
}

func (fa *fileAccount) validate(at location, defaults *Account) (Account, []string, error) {
	fail := func(err error) (Account, []string, error) { return Account{}, nil, err }
	a := *defaults
	if err := fa.applySettings(&a, at); err != nil {
		return fail(err)
	}
	if fa.AccountSID.value == "" {
		return fail(fmt.Errorf("%s: account_sid is missing: want an Account SID (AC…)", at.of(fa.AccountSID)))
	}
	a.Account = fa.nameOrSID().value
	if fa.Name.value != "" && !validName(fa.Name.value) {
		return fail(at.input("name", fa.Name).bad("a name: want text on one line"))
	}
	if err := fa.applyTLS(&a, at); err != nil {
		return fail(err)
	}
	if in := at.input("proxy_url", fa.ProxyURL); in.value != "" {
		in.hidden = true
		u, err := url.Parse(in.value)
		schemes := []string{"http", "https", "socks5", "socks5h"}
		if err != nil || u.Hostname() == "" || !slices.Contains(schemes, u.Scheme) || !validPort(u) {
			return fail(in.bad("the URL of a proxy, such as http://proxy.example:3128"))
		}
		a.HTTP.ProxyURL = config.URL{URL: u}
	}
	warnings, err := (&credentials{ //nolint:gosec // G101: names of keys
		dir: filepath.Dir(at.file),
		sid: input{at.of(fa.AccountSID) + ": account_sid", fa.AccountSID.value, true}, key: keyInput(at, fa.APIKey),
		tokenFile:  pathInput(at.of(fa.AuthTokenFile)+": auth_token_file", fa.AuthTokenFile.value),
		secretFile: pathInput(at.of(fa.APISecretFile)+": api_secret_file", fa.APISecretFile.value),
		wantToken:  "auth_token_file", wantSecret: "api_secret_file",
	}).apply(&a)
	if err != nil {
		return fail(err)
	}
	warnings = append(warnings, clearText(&a)...)
	if fa.TLSConfig.InsecureSkipVerify {
		warnings = append(warnings, fmt.Sprintf(
			"%s:%d: tls_config: insecure_skip_verify sends the credentials to whoever answers", at.file, at.line))
	}
	return a, warnings, nil
}

func (fa *fileAccount) applyTLS(a *Account, at location) error {
	where := fmt.Sprintf("%s:%d: tls_config: ", at.file, at.line)
	a.HTTP.TLSConfig = config.TLSConfig(fa.TLSConfig)
	c := &a.HTTP.TLSConfig
	if c.CARef != "" || c.CertRef != "" || c.KeyRef != "" {
		return errors.New(where + "there is no manager of secrets: use ca_file, cert_file and key_file")
	}
	dir := filepath.Dir(at.file)
	for _, f := range [][2]string{{"ca_file", c.CAFile}, {"cert_file", c.CertFile}, {"key_file", c.KeyFile}} {
		if err := checkFile(pathInput(where+f[0], f[1]), dir, "a file in PEM format"); err != nil {
			return err
		}
	}
	c.SetDirectory(dir)
	checked := withRefs(*c)
	if _, err := config.NewTLSConfig(&checked, config.WithSecretManager(secretFiles{})); err != nil {
		return errors.New(where + sanitize.OneLine(err.Error()))
	}
	return nil
}

// keyInput has no line where there is no key in the file.
func keyInput(at location, key scalar) input {
	if key.value == "" {
		return input{where: "api_key"}
	}
	return input{at.of(key) + ": api_key", key.value, true}
}

func (fa *fileAccount) applySettings(a *Account, at location) error {
	known := map[string]setting{}
	for _, s := range settings {
		if s.key != "" {
			known[s.key] = s
		}
	}
	// The first in the file is the one that is named.
	keys := make([]string, 0, len(fa.Settings))
	for key := range fa.Settings {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(x, y string) int {
		if c := at.lineOf(fa.Settings[x]) - at.lineOf(fa.Settings[y]); c != 0 {
			return c
		}
		return strings.Compare(x, y)
	})
	for _, key := range keys {
		s, ok := known[key]
		in := at.input(key, fa.Settings[key])
		in.hidden = s.hidden
		switch {
		case !ok && (key == "auth_token" || key == "api_secret"):
			return fmt.Errorf("%s: %s: secrets are not accepted in this file: use %s_file", at.of(fa.Settings[key]), key, key)
		case !ok:
			return fmt.Errorf("%s: unknown key %s", at.of(fa.Settings[key]), showKey(key))
		case fa.Settings[key].line == 0: // null: as if it were not there
		case !s.set(a, in.value):
			return in.bad(s.want)
		}
	}
	return nil
}

// accountLines returns the line in which each account begins.
func accountLines(b []byte) (lines []int, err error) {
	var root yaml.Node
	if err := yaml.Unmarshal(b, &root); err != nil {
		return nil, err
	}
	if len(root.Content) == 0 || root.Content[0].Kind != yaml.MappingNode {
		return nil, nil
	}
	top := root.Content[0].Content
	for i := 0; i+1 < len(top); i += 2 {
		list := top[i+1]
		if list.Kind == yaml.AliasNode {
			list = list.Alias
		}
		if top[i].Value != "accounts" || list.Kind != yaml.SequenceNode {
			continue
		}
		for _, n := range list.Content {
			if n.ShortTag() == "!!null" { // the decoder would leave it out
				return nil, fmt.Errorf("line %d: empty account", n.Line)
			}
			lines = append(lines, n.Line)
		}
	}
	return lines, nil
}

// showKey quotes an unknown key, unless it may be a value in its place.
func showKey(key string) string {
	return input{value: key, hidden: !keyForm.MatchString(key)}.show()
}

var (
	keyForm     = regexp.MustCompile(`^[A-Za-z_-]{1,30}$`)
	yamlAnchor  = regexp.MustCompile(`^unknown anchor '.*' referenced$`)
	yamlLine    = regexp.MustCompile(`^line (\d+): `)
	yamlUnknown = regexp.MustCompile(`^field (.*) not found in type \S+$`)
	// The value is left out: it may be a secret in the wrong place.
	yamlType = regexp.MustCompile(`^cannot unmarshal (!!\w+)\b.*$`)
)

// yamlError is the first of the parser's errors, with file and line in front and without the names of Go types.
func yamlError(file string, err error) error {
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	var typeError *yaml.TypeError
	if errors.As(err, &typeError) && len(typeError.Errors) > 0 {
		message = typeError.Errors[0]
	}
	line := "1"
	if m := yamlLine.FindStringSubmatch(message); m != nil {
		line, message = m[1], message[len(m[0]):]
	}
	if m := yamlUnknown.FindStringSubmatch(message); m != nil {
		message = "unknown key " + showKey(m[1])
	}
	if yamlAnchor.MatchString(message) {
		message = "unknown anchor: quote a value that begins with an asterisk"
	}
	if m := yamlType.FindStringSubmatch(message); m != nil {
		message = "unexpected value of type " + m[1]
	}
	return fmt.Errorf("%s:%s: %s", file, line, sanitize.OneLine(message))
}
