package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/common/config"
	"go.yaml.in/yaml/v3"

	"twilio_operations_exporter/internal/sanitize"
)

// accountKeys are the keys of an account beside those of the table settings.
var accountKeys = []string{
	"name", "account_sid", "auth_token_file", "api_key", "api_secret_file", "proxy_url", "tls_config",
}

// mapping is a mapping in the file. Its values are kept as nodes, so that errors can name their lines, and as text:
// flags and file share their parsers.
type mapping struct {
	file   string
	line   int
	prefix string // of its keys in errors
	values map[string]yaml.Node
}

func newMapping(file, prefix string, n *yaml.Node) (*mapping, error) {
	m := &mapping{file: file, line: n.Line, prefix: prefix}
	if err := n.Decode(&m.values); err != nil {
		return nil, m.yamlError(err)
	}
	for key, value := range m.values {
		if value.Kind == yaml.AliasNode {
			value = *value.Alias
		}
		if value.ShortTag() == "!!null" { // as if it were not there
			value.Value = ""
		}
		m.values[key] = value
	}
	return m, nil
}

// keys returns the keys in the order of the file: the first fault is the one that is named.
func (m *mapping) keys() []string {
	return slices.SortedFunc(maps.Keys(m.values), func(x, y string) int {
		return cmp.Or(cmp.Compare(m.lineOf(x), m.lineOf(y)), cmp.Compare(x, y))
	})
}

// lineOf returns the line of a value, or that of the mapping where there is no such key.
func (m *mapping) lineOf(key string) int { return cmp.Or(m.values[key].Line, m.line) }

func (m *mapping) input(key string) input {
	return input{
		place: fmt.Sprintf("%s:%d: ", m.file, m.lineOf(key)), name: m.prefix + key, value: m.values[key].Value,
	}
}

func (m *mapping) unknown(key string) error {
	in := input{value: key, hidden: !keyForm.MatchString(key)} // it may be a value in the wrong place
	return errors.New(m.input(key).place + "unknown key " + in.show())
}

// parseConfigFile returns the accounts of a file, and what looks like a mistake in it. Every error is one line that
// begins with file and line.
func parseConfigFile(b []byte, file string, defaults *Account) (accounts []Account, warnings []string, err error) {
	top, err := parseYAML(b, file)
	if err != nil {
		return nil, nil, err
	}
	for _, key := range top.keys() {
		if key != "accounts" {
			return nil, nil, top.unknown(key)
		}
	}
	var list []yaml.Node
	value := top.values["accounts"]
	if err := value.Decode(&list); err != nil {
		return nil, nil, top.yamlError(err)
	}
	if len(list) == 0 {
		return nil, nil, fmt.Errorf("%s:1: no accounts configured: want at least one under the key accounts", file)
	}
	lines := map[string]int{}      // of names
	sids := map[[2]string]string{} // names, by SID and base URL
	for i := range list {
		if list[i].ShortTag() == "!!null" {
			return nil, nil, fmt.Errorf("%s:%d: empty account", file, list[i].Line)
		}
		m, err := newMapping(file, "", &list[i])
		if err != nil {
			return nil, nil, err
		}
		a, w, err := m.account(defaults)
		if err != nil {
			return nil, nil, err
		}
		name, sid := m.name(), m.input("account_sid")
		if line, ok := lines[a.Account]; ok {
			return nil, nil, fmt.Errorf("%sduplicate account name %s, also in line %d: names must be unique",
				name.place, sanitize.Quote(a.Account), line)
		}
		lines[a.Account] = m.lineOf(name.name)
		accounts, warnings = append(accounts, a), append(warnings, w...)
		key := [2]string{sid.value, a.BaseURL.String()}
		if other, ok := sids[key]; ok {
			warnings = append(warnings, fmt.Sprintf(
				"%s: also that of account %s: each reads the API at its own rate limit", sid.where(), sanitize.Quote(other),
			))
		} else {
			sids[key] = a.Account
		}
	}
	return accounts, warnings, nil
}

// parseYAML returns the mapping of a file of a single document.
func parseYAML(b []byte, file string) (*mapping, error) {
	m := &mapping{file: file, line: 1}
	d := yaml.NewDecoder(bytes.NewReader(b))
	var root, more yaml.Node
	err := d.Decode(&root)
	if err == nil {
		err = d.Decode(&more)
	}
	switch {
	case err == nil:
		return nil, fmt.Errorf("%s:%d: more than one YAML document: want a single one", file, more.Line)
	case !errors.Is(err, io.EOF):
		return nil, m.yamlError(err)
	}
	return newMapping(file, "", &root)
}

// name is what names the account.
func (m *mapping) name() input {
	if name := m.input("name"); name.value != "" {
		return name
	}
	return m.input("account_sid")
}

// account returns the account that the mapping describes, and what looks like a mistake in it.
func (m *mapping) account(defaults *Account) (Account, []string, error) {
	a := *defaults
	for _, key := range m.keys() {
		if err := m.applyKey(&a, key); err != nil {
			return a, nil, err
		}
	}
	own := credentials{
		dir: filepath.Dir(m.file), sid: m.input("account_sid"), key: m.input("api_key"),
		tokenFile: m.input("auth_token_file"), secretFile: m.input("api_secret_file"),
	}
	name, proxy := m.name(), m.input("proxy_url")
	switch a.Account = name.value; {
	case own.sid.value == "":
		return a, nil, fmt.Errorf("%s is missing: want an Account SID (AC…)", own.sid.where())
	case name.name == "name" && !validName(name.value):
		return a, nil, name.bad("a name: want text on one line")
	case proxy.value != "":
		u, err := url.Parse(proxy.value)
		schemes := []string{"http", "https", "socks5", "socks5h"}
		if err != nil || !validHost(u) || !slices.Contains(schemes, u.Scheme) {
			proxy.hidden = true
			return a, nil, proxy.bad("the URL of a proxy, such as http://proxy.example:3128")
		}
		a.HTTP.Proxy = proxy.value
	}
	insecure, err := m.applyTLS(&a, own.dir)
	if err != nil {
		return a, nil, err
	}
	warnings, err := own.apply(&a)
	return a, append(warnings, insecure...), err
}

// applyKey checks a key and applies the setting that it may be.
func (m *mapping) applyKey(a *Account, key string) error {
	in, value := m.input(key), m.values[key]
	i := slices.IndexFunc(settings, func(s setting) bool { return s.key != "" && s.key == key })
	switch {
	case key == "auth_token", key == "api_secret":
		return fmt.Errorf("%s: secrets are not accepted in this file: use %s_file", in.where(), key)
	case i < 0 && !slices.Contains(accountKeys, key):
		return m.unknown(key)
	case key == "tls_config", value.ShortTag() == "!!null":
		return nil
	case value.Kind != yaml.ScalarNode:
		return errors.New(in.place + "want a scalar value")
	case i >= 0:
		return settings[i].set(a, in)
	}
	return nil
}

// applyTLS applies tls_config, and warns of what looks like a mistake in it.
func (m *mapping) applyTLS(a *Account, dir string) (warnings []string, err error) {
	value := m.values["tls_config"]
	tls, err := newMapping(m.file, "tls_config: ", &value)
	if err != nil {
		return nil, err
	}
	// Prometheus' type without its methods, which would validate while decoding.
	type plain config.TLSConfig
	var decoded struct {
		Config  plain                `yaml:",inline"`
		Unknown map[string]yaml.Node `yaml:",inline"`
	}
	if err := value.Decode(&decoded); err != nil {
		return nil, tls.yamlError(err)
	}
	for _, key := range tls.keys() {
		if _, ok := decoded.Unknown[key]; ok {
			return nil, tls.unknown(key)
		}
	}
	for _, name := range []string{"ca", "cert", "key"} {
		if ref := tls.input(name + "_ref"); ref.value != "" {
			return nil, errors.New(ref.place + "tls_config: there is no manager of secrets: use ca_file, cert_file and key_file")
		}
		if err := checkFile(tls.input(name+"_file"), dir, "a file in PEM format"); err != nil {
			return nil, err
		}
	}
	c := config.TLSConfig(decoded.Config)
	c.SetDirectory(dir)
	c.CARef, c.CertRef, c.KeyRef = c.CAFile, c.CertFile, c.KeyFile // see secretFiles
	c.CAFile, c.CertFile, c.KeyFile = "", "", ""
	a.HTTP.TLS = c
	if _, err := config.NewTLSConfig(&c, config.WithSecretManager(secretFiles{})); err != nil {
		return nil, errors.New(tls.input("").where() + sanitize.OneLine(err.Error()))
	}
	if c.InsecureSkipVerify {
		in := tls.input("insecure_skip_verify")
		warnings = []string{in.where() + " sends the credentials to whoever answers"}
	}
	return warnings, nil
}

var (
	keyForm    = regexp.MustCompile(`^[A-Za-z_-]{1,30}$`)
	yamlAnchor = regexp.MustCompile(`^unknown anchor '.*' referenced$`)
	yamlLine   = regexp.MustCompile(`^line (\d+): `)
	// The value is left out: it may be a secret in the wrong place.
	yamlType = regexp.MustCompile(`^cannot unmarshal (!!\w+)\b.*$`)
)

// yamlError is the first of the parser's errors, with file and line in front and without the names of Go types.
func (m *mapping) yamlError(err error) error {
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	var typeError *yaml.TypeError
	if errors.As(err, &typeError) && len(typeError.Errors) > 0 {
		message = typeError.Errors[0]
	}
	line := strconv.Itoa(m.line)
	if found := yamlLine.FindStringSubmatch(message); found != nil {
		line, message = found[1], message[len(found[0]):]
	}
	message = yamlAnchor.ReplaceAllString(message, "unknown anchor: quote a value that begins with an asterisk")
	message = yamlType.ReplaceAllString(message, "unexpected value of type $1")
	return fmt.Errorf("%s:%s: %s", m.file, line, sanitize.OneLine(message))
}
