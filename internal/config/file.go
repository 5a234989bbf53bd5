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

// tlsKeys are the keys that tls_config may have.
var tlsKeys = []string{
	"ca", "ca_file", "cert", "cert_file", "key", "key_file",
	"server_name", "insecure_skip_verify", "min_version", "max_version",
}

// accountKeys returns the keys that an account may have.
func accountKeys() []string {
	keys := []string{"name", "account_sid", "auth_token_file", "api_key", "api_secret_file", "proxy_url", "tls_config"}
	for _, s := range settings {
		if s.key != "" {
			keys = append(keys, s.key)
		}
	}
	return keys
}

// mapping is a mapping in the file. Its values are kept as nodes, so that errors can name their lines, and as text:
// flags and file share their parsers.
type mapping struct {
	file   string
	line   int
	prefix string // of its keys in errors
	values map[string]yaml.Node
}

// newMapping returns a mapping of known keys. All but accounts and tls_config have a single value; one that is null is
// left out.
func newMapping(file, prefix string, n *yaml.Node, known []string) (*mapping, error) {
	m := &mapping{file: file, line: n.Line, prefix: prefix}
	if err := n.Decode(&m.values); err != nil {
		return nil, m.yamlError(err, "want a mapping of keys")
	}
	for key, value := range m.values {
		if value.Kind == yaml.AliasNode {
			m.values[key] = *value.Alias
		}
	}
	for _, key := range m.keys() {
		in, value := m.input(key), m.values[key]
		switch isKnown := slices.Contains(known, key); {
		case !isKnown && slices.Contains(known, key+"_file"):
			return nil, fmt.Errorf("%s: secrets are not accepted in this file: use %s_file", in.where(), key)
		case !isKnown:
			shown := input{value: key, hidden: !keyForm.MatchString(key)} // it may be a value in the wrong place
			return nil, fmt.Errorf("%sunknown key %s (known keys: %s)", in.place, shown.show(), strings.Join(known, ", "))
		case value.ShortTag() == "!!null":
			delete(m.values, key)
		case value.Kind != yaml.ScalarNode && key != "accounts" && key != "tls_config":
			return nil, fmt.Errorf("%s: want a single value", in.where())
		}
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

// parseConfigFile returns the accounts of a file, and what looks like a mistake in it. Every error is one line that
// begins with file and line.
func parseConfigFile(b []byte, file string, defaults *Account) (accounts []Account, warnings []string, err error) {
	top, err := parseYAML(b, file)
	if err != nil {
		return nil, nil, err
	}
	var list []yaml.Node
	value := top.values["accounts"]
	if err := value.Decode(&list); err != nil {
		return nil, nil, top.yamlError(err, "accounts: want a list of accounts")
	}
	if len(list) == 0 {
		return nil, nil, fmt.Errorf("%s:1: no accounts configured: want at least one under the key accounts", file)
	}
	known := accountKeys()
	lines := map[string]int{}      // of names
	sids := map[[2]string]string{} // names, by SID and base URL
	for i := range list {
		m, err := newMapping(file, "", &list[i], known)
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
		return nil, m.yamlError(err, "")
	}
	trimValues(&root)
	return newMapping(file, "", &root, []string{"accounts"})
}

// trimValues removes the white space around all values.
func trimValues(n *yaml.Node) {
	n.Value = strings.TrimSpace(n.Value)
	for _, child := range n.Content {
		trimValues(child)
	}
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
		if i := slices.IndexFunc(settings, func(s setting) bool { return s.key == key }); i >= 0 {
			if err := settings[i].set(&a, m.input(key)); err != nil {
				return a, nil, err
			}
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

// applyTLS applies tls_config, and warns of what looks like a mistake in it.
func (m *mapping) applyTLS(a *Account, dir string) (warnings []string, err error) {
	value := m.values["tls_config"]
	tls, err := newMapping(m.file, "tls_config: ", &value, tlsKeys)
	if err != nil {
		return nil, err
	}
	for _, key := range tls.keys() {
		in, node := tls.input(key), tls.values[key]
		switch {
		case key == "min_version", key == "max_version":
			err = in.setOneOf(new(string), "TLS10", "TLS11", "TLS12", "TLS13")
		case key == "insecure_skip_verify" && node.Decode(new(bool)) != nil:
			err = in.bad("true or false")
		case strings.HasSuffix(key, "_file"):
			err = checkFile(in, dir, "a file in PEM format")
		}
		if err != nil {
			return nil, err
		}
	}
	var c config.TLSConfig
	if err = value.Decode(&c); err == nil {
		c.SetDirectory(dir)
		c.CARef, c.CertRef, c.KeyRef = c.CAFile, c.CertFile, c.KeyFile // see secretFiles
		c.CAFile, c.CertFile, c.KeyFile = "", "", ""
		a.HTTP.TLS = c
		_, err = config.NewTLSConfig(&c, config.WithSecretManager(secretFiles{}))
	}
	if err != nil {
		message := strings.ReplaceAll(sanitize.OneLine(err.Error()), "tls_config.", "")
		if strings.HasPrefix(message, "unable to use specified CA cert") {
			message = "ca or ca_file is not a certificate in PEM format"
		}
		return nil, errors.New(tls.input("").where() + message)
	}
	if c.InsecureSkipVerify {
		in := tls.input("insecure_skip_verify")
		warnings = []string{in.where() + " sends the credentials to whoever answers"}
	}
	return warnings, nil
}

var (
	keyForm    = regexp.MustCompile(`^[A-Za-z_-]{1,30}$`)
	yamlLine   = regexp.MustCompile(`^line (\d+): `)
	yamlAnchor = regexp.MustCompile(`^unknown anchor '.*' referenced$`)
	yamlField  = regexp.MustCompile(`^field (.*) not found in type .*$`)
	// The value is left out: it may be a secret in the wrong place.
	yamlType = regexp.MustCompile(`(?s)^cannot unmarshal !!\w+\b.*$`)
)

// yamlError is the first of the parser's errors, with file and line in front and without the names of YAML's and Go's
// types: want is what it says of a value of the wrong type.
func (m *mapping) yamlError(err error, want string) error {
	message, typed := strings.CutPrefix(strings.TrimPrefix(err.Error(), "yaml: "), "unmarshal errors:\n  ")
	message, _, _ = strings.Cut(message, "\n")
	line := strconv.Itoa(m.line)
	if found := yamlLine.FindStringSubmatch(message); found != nil {
		line, message = found[1], message[len(found[0]):]
	}
	message = yamlAnchor.ReplaceAllString(message, "unknown anchor: quote a value that begins with an asterisk")
	message = strings.Replace(message, "found character that cannot start any token",
		"indent with spaces, not tabs, and quote a value that begins with a special character", 1)
	message = yamlField.ReplaceAllString(message, `unknown key "$1" (--help links the documentation)`)
	message = yamlType.ReplaceAllLiteralString(message, want)
	if !typed {
		message = "not valid YAML: " + message
	}
	return fmt.Errorf("%s:%s: %s%s", m.file, line, m.prefix, sanitize.OneLine(message))
}
