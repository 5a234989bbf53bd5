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

// tlsConfig is Prometheus' without its methods: they would validate while
// decoding, when the line is not known.
type tlsConfig config.TLSConfig

// scalar is a single value as written, and its line. It is kept as text: flags
// and file share their parsers.
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

// readConfigFile returns the accounts of a file, and what looks like a mistake
// in it. Every error is one line that begins with file and line.
func readConfigFile(file string, defaults *Account) (accounts []Account, warnings []string, err error) {
	b, err := readFile(file)
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
	if !validName(a.Account) {
		return fail(at.input("name", fa.nameOrSID()).bad("a name: want text on one line"))
	}
	dir := filepath.Dir(at.file)
	a.HTTP.TLSConfig = config.TLSConfig(fa.TLSConfig)
	a.HTTP.TLSConfig.SetDirectory(dir)
	if _, err := config.NewTLSConfig(&a.HTTP.TLSConfig); err != nil {
		return fail(fmt.Errorf("%s:%d: tls_config: %s", at.file, at.line, sanitize.OneLine(err.Error())))
	}
	if in := at.input("proxy_url", fa.ProxyURL); in.value != "" {
		u, err := url.Parse(in.value)
		schemes := []string{"http", "https", "socks5", "socks5h"}
		if err != nil || u.Hostname() == "" || !slices.Contains(schemes, u.Scheme) || !validPort(u) {
			return fail(in.bad("the URL of a proxy, such as http://proxy.example:3128"))
		}
		a.HTTP.ProxyURL = config.URL{URL: u}
	}
	inDir := func(key string, s scalar) input {
		in := at.input(key, s)
		in.value = config.JoinDir(dir, in.value)
		return in
	}
	warnings, err := (&credentials{ //nolint:gosec // G101: names of keys
		sid: at.input("account_sid", fa.AccountSID), key: keyInput(at, fa.APIKey),
		tokenFile: inDir("auth_token_file", fa.AuthTokenFile), secretFile: inDir("api_secret_file", fa.APISecretFile),
		wantToken: "auth_token_file", wantSecret: "api_secret_file",
	}).apply(&a)
	if err != nil {
		return fail(err)
	}
	warnings = append(warnings, clearText(&a)...)
	return a, warnings, nil
}

// keyInput has no line where there is no key in the file.
func keyInput(at location, key scalar) input {
	if key.value == "" {
		return input{where: "api_key"}
	}
	return at.input("api_key", key)
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
		switch {
		case !ok && (key == "auth_token" || key == "api_secret"):
			return fmt.Errorf("%s: %s: secrets are not accepted in this file: use %s_file", at.of(fa.Settings[key]), key, key)
		case !ok:
			return fmt.Errorf("%s: unknown key %s", at.of(fa.Settings[key]), sanitize.Quote(key))
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

var (
	yamlLine    = regexp.MustCompile(`^line (\d+): `)
	yamlUnknown = regexp.MustCompile(`^field (.*) not found in type \S+$`)
	// The value is left out: it may be a secret in the wrong place.
	yamlType = regexp.MustCompile(`^cannot unmarshal (!!\w+)\b.*$`)
)

// yamlError is the first of the parser's errors, with file and line in front and
// without the names of Go types.
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
		message = "unknown key " + sanitize.Quote(m[1])
	}
	if m := yamlType.FindStringSubmatch(message); m != nil {
		message = "unexpected value of type " + m[1]
	}
	return fmt.Errorf("%s:%s: %s", file, line, sanitize.OneLine(message))
}
