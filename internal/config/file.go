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
	"sort"
	"strconv"
	"strings"

	"github.com/prometheus/common/config"
	"go.yaml.in/yaml/v3"

	"twilio_operations_exporter/internal/sanitize"
	"twilio_operations_exporter/internal/usage"
	"twilio_operations_exporter/twilio"
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

// mapping is a YAML mapping. Its values are kept as nodes, so that errors can name their lines.
type mapping struct {
	file   string
	line   int
	prefix string // of its keys in errors
	values map[string]yaml.Node
	lines  map[string]int // of keys
}

// newMapping returns a mapping that has only known keys. All but accounts and tls_config are scalars. Nulls are left
// out.
func newMapping(file, prefix string, n *yaml.Node, known []string) (*mapping, error) {
	m := &mapping{file: file, line: n.Line, prefix: prefix, lines: keyLines(n)}
	err := n.Decode(&m.values)
	if err != nil {
		return nil, m.typeError(err, "want keys and values, such as "+known[0]+": …")
	}
	for key, value := range m.values {
		if value.Kind == yaml.AliasNode {
			m.values[key] = *value.Alias
		}
	}

	for _, key := range m.keys() {
		in := m.input(key)
		value := m.values[key]
		isKnown := slices.Contains(known, key)
		isNested := key == "accounts" || key == "tls_config"
		switch {
		case !isKnown:
			return nil, m.unknownKey(key, known)
		case value.ShortTag() == "!!null":
			delete(m.values, key)
		case value.Kind != yaml.ScalarNode && !isNested:
			return nil, fmt.Errorf("%s: want a single value", in.where())
		}
	}
	return m, nil
}

// keyLines returns the lines of a mapping's own keys; merged ones (<<) are not among them.
func keyLines(n *yaml.Node) map[string]int {
	if n.Kind == yaml.DocumentNode && len(n.Content) == 1 {
		n = n.Content[0]
	}
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}

	lines := map[string]int{}
	if n.Kind != yaml.MappingNode {
		return lines
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		lines[n.Content[i].Value] = n.Content[i].Line
	}
	return lines
}

// unknownKey says what to write instead. The key itself may be a misplaced secret: see showKey.
func (m *mapping) unknownKey(key string, known []string) error {
	in := m.input(key)
	if slices.Contains(known, key+"_file") {
		return fmt.Errorf("%s: secrets are not accepted in this file: use %s_file", in.where(), key)
	}
	shown := showKey(key)
	if meant := usage.Nearest(key, known); meant != "" {
		return fmt.Errorf("%s%sunknown key %s: did you mean %s?", in.place, m.prefix, shown, meant)
	}
	return fmt.Errorf("%s%sunknown key %s (known keys: %s)", in.place, m.prefix, shown, strings.Join(known, ", "))
}

// showKey shows a key only if it looks like one.
func showKey(key string) string {
	in := input{value: key, hidden: !keyForm.MatchString(key)}
	return in.show()
}

// keys returns the keys in the order of the file, so that the first fault is the one that is reported.
func (m *mapping) keys() []string {
	return slices.SortedFunc(maps.Keys(m.values), func(x, y string) int {
		return cmp.Or(cmp.Compare(m.lineOf(x), m.lineOf(y)), cmp.Compare(x, y))
	})
}

// lineOf returns the line of a key, or that of the mapping if there is no such key.
func (m *mapping) lineOf(key string) int { return cmp.Or(m.lines[key], m.values[key].Line, m.line) }

func (m *mapping) input(key string) input {
	return input{
		place: fmt.Sprintf("%s:%d: ", m.file, m.lineOf(key)),
		name:  m.prefix + key,
		value: m.values[key].Value,
	}
}

// parseConfigFile returns the accounts in a file, and warnings of what looks like a mistake. Every error is one line
// that begins with the file and the line in it.
func parseConfigFile(b []byte, file string, defaults *Account) (accounts []Account, warnings []string, err error) {
	top, err := parseYAML(b, file)
	if err != nil {
		return nil, nil, err
	}

	var list []yaml.Node
	value := top.values["accounts"]
	err = value.Decode(&list)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: want a list of accounts", top.input("accounts").where())
	}
	if len(list) == 0 {
		return nil, nil, fmt.Errorf("%s:1: no accounts configured: want at least one under the key accounts", file)
	}

	known := accountKeys()
	seen := seenAccounts{lines: map[string]int{}, names: map[dataSource]string{}}
	for i := range list {
		m, err := newMapping(file, "", &list[i], known)
		if err != nil {
			return nil, nil, err
		}
		a, ownWarnings, err := m.account(defaults)
		if err != nil {
			return nil, nil, err
		}
		duplicates, err := seen.add(m, &a)
		if err != nil {
			return nil, nil, err
		}

		accounts = append(accounts, a)
		warnings = append(warnings, ownWarnings...)
		warnings = append(warnings, duplicates...)
	}
	return accounts, warnings, nil
}

// seenAccounts are the accounts of a file so far.
type seenAccounts struct {
	lines map[string]int        // by name
	names map[dataSource]string // of the first account with each
}

// dataSource is what an account reads.
type dataSource struct {
	sid, baseURL string
	resource     twilio.Resource
}

// add refuses a name that is taken, and warns if another account reads the same.
func (s *seenAccounts) add(m *mapping, a *Account) (warnings []string, err error) {
	name := m.name()
	line, isDuplicate := s.lines[a.Account]
	if isDuplicate {
		return nil, fmt.Errorf("%sduplicate account name %s, also in line %d: names must be unique",
			name.place, sanitize.Quote(a.Account), line)
	}
	s.lines[a.Account] = m.lineOf(name.name)

	sid := m.input("account_sid")
	source := dataSource{sid.value, a.BaseURL.String(), a.Resource}
	other, isShared := s.names[source]
	if isShared {
		return []string{fmt.Sprintf("%s: also used by account %s: both read the same %s",
			sid.where(), sanitize.Quote(other), a.Resource)}, nil
	}
	s.names[source] = a.Account
	return nil, nil
}

// parseYAML parses a file that must consist of a single document.
func parseYAML(b []byte, file string) (*mapping, error) {
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
		return nil, syntaxError(b, file, err)
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

// name is the input that names the account.
func (m *mapping) name() input {
	if name := m.input("name"); name.value != "" {
		return name
	}
	return m.input("account_sid")
}

// account returns the account that the mapping describes, and warnings of what looks like a mistake.
func (m *mapping) account(defaults *Account) (a Account, warnings []string, err error) {
	a = *defaults
	err = m.applySettings(&a)
	if err != nil {
		return a, nil, err
	}

	own := credentials{
		dir:        absolute(filepath.Dir(m.file)),
		sid:        m.input("account_sid"),
		key:        m.input("api_key"),
		tokenFile:  m.input("auth_token_file"),
		secretFile: m.input("api_secret_file"),
	}
	if own.sid.value == "" {
		return a, nil, fmt.Errorf("%s is missing: want an Account SID (AC…)", own.sid.where())
	}

	name := m.name()
	if name.name == "name" && !validName(name.value) {
		return a, nil, name.bad("a name: want printable text on one line")
	}
	a.Account = name.value

	err = m.applyProxy(&a)
	if err != nil {
		return a, nil, err
	}
	ofTLS, err := m.applyTLS(&a, own.dir)
	if err != nil {
		return a, nil, err
	}
	ofCredentials, err := own.apply(&a)
	if err != nil {
		return a, nil, err
	}

	interval := m.input("interval")
	if interval.value == "" {
		interval.name = "--collector.interval"
	}
	ofInterval, err := a.checkInterval(interval)
	return a, slices.Concat(ofCredentials, ofTLS, ofInterval), err
}

// applySettings applies those keys of the mapping that are in the table of settings.
func (m *mapping) applySettings(a *Account) error {
	for _, key := range m.keys() {
		i := slices.IndexFunc(settings, func(s setting) bool { return s.key == key })
		if i < 0 {
			continue
		}
		err := settings[i].set(a, m.input(key))
		if err != nil {
			return err
		}
	}
	return nil
}

func (m *mapping) applyProxy(a *Account) error {
	proxy := m.input("proxy_url")
	if proxy.value == "" {
		return nil
	}
	u, err := url.Parse(proxy.value)
	schemes := []string{"http", "https", "socks5", "socks5h"}
	if err != nil || !validHost(u) || !slices.Contains(schemes, u.Scheme) {
		proxy.hidden = true // it may hold credentials
		return proxy.bad("the URL of a proxy, such as http://proxy.example:3128")
	}
	a.HTTP.Proxy = proxy.value
	return nil
}

// applyTLS applies tls_config, and warns of what looks like a mistake.
func (m *mapping) applyTLS(a *Account, dir string) (warnings []string, err error) {
	value := m.values["tls_config"]
	tls, err := newMapping(m.file, "tls_config: ", &value, tlsKeys)
	if err != nil {
		return nil, err
	}
	for _, key := range tls.keys() {
		err = tls.checkTLS(key, dir)
		if err != nil {
			return nil, err
		}
	}

	c, err := decodeTLS(&value, dir)
	if err != nil {
		message := strings.ReplaceAll(sanitize.OneLine(err.Error()), "tls_config.", "")
		if strings.HasPrefix(message, "unable to use specified CA cert") {
			message = "ca or ca_file is not a certificate in PEM format"
		}
		return nil, errors.New(tls.input("").where() + message)
	}
	a.HTTP.TLS = c

	if c.InsecureSkipVerify {
		in := tls.input("insecure_skip_verify")
		warnings = []string{in.where() + " sends the credentials to whoever answers"}
	}
	return warnings, nil
}

// checkTLS checks the value of a key of tls_config, as the library's errors do not name it.
func (m *mapping) checkTLS(key, dir string) error {
	in := m.input(key)
	switch key {
	case "min_version", "max_version":
		return in.setOneOf(new(string), "TLS10", "TLS11", "TLS12", "TLS13")
	case "insecure_skip_verify":
		value := m.values[key]
		if value.Decode(new(bool)) != nil {
			return in.bad("true or false")
		}
	case "ca_file", "cert_file", "key_file":
		_, err := checkFile(in, dir, "a file in PEM format")
		return err
	}
	return nil
}

// decodeTLS returns the settings if a client can be made with them.
func decodeTLS(value *yaml.Node, dir string) (c config.TLSConfig, err error) {
	err = value.Decode(&c)
	if err != nil {
		return c, err
	}
	c.SetDirectory(dir)

	// Files become references, which secretFiles reads.
	c.CARef, c.CAFile = c.CAFile, ""
	c.CertRef, c.CertFile = c.CertFile, ""
	c.KeyRef, c.KeyFile = c.KeyFile, ""
	_, err = config.NewTLSConfig(&c, config.WithSecretManager(secretFiles{}))
	return c, err
}

var (
	keyForm       = regexp.MustCompile(`^[A-Za-z_-]{1,30}$`)
	yamlLine      = regexp.MustCompile(`^line (\d+): `)
	yamlAnchor    = regexp.MustCompile(`^unknown anchor '.*' referenced$`)
	yamlField     = regexp.MustCompile(`^field (.*) not found in type .*$`)
	yamlDuplicate = regexp.MustCompile(`(?s)^mapping key "(.*)" already defined at line (\d+)$`)
	// The value is left out: it may be a secret in the wrong place.
	yamlType = regexp.MustCompile(`(?s)^cannot unmarshal !!\w+\b.*$`)
)

// firstYAMLError returns the first of the parser's errors and the line that it names, or 0.
func firstYAMLError(err error) (line int, message string) {
	message = strings.TrimPrefix(err.Error(), "yaml: ")
	message = strings.TrimPrefix(message, "unmarshal errors:\n  ")
	message, _, _ = strings.Cut(message, "\n")

	found := yamlLine.FindStringSubmatch(message)
	if found == nil {
		return 0, message
	}
	line, _ = strconv.Atoi(found[1]) // all digits
	return line, message[len(found[0]):]
}

// syntaxError is the parser's error, with file and line in front.
func syntaxError(b []byte, file string, err error) error {
	line, message := firstYAMLError(err)
	if at := syntaxErrorLine(b, message); at > 0 {
		line = at
	}

	message = yamlAnchor.ReplaceAllString(message, "unknown anchor: quote a value that begins with an asterisk")
	for _, cause := range []string{
		"found character that cannot start any token",
		"found a tab character that violates indentation",
	} {
		message = strings.Replace(message, cause,
			"indent with spaces, not tabs, and quote a value that begins with a special character", 1)
	}
	return fmt.Errorf("%s:%d: not valid YAML: %s", file, cmp.Or(line, 1), sanitize.OneLine(message))
}

// syntaxErrorLine returns the line of a syntax error: the shortest beginning of the text that has the error ends there.
// The parser itself often names the line where the mapping begins. It returns 0 if no beginning has the error.
func syntaxErrorLine(b []byte, message string) int {
	lines := bytes.SplitAfter(b, []byte("\n"))
	hasError := func(i int) bool {
		var root yaml.Node
		err := yaml.Unmarshal(bytes.Join(lines[:i+1], nil), &root)
		if err == nil {
			return false
		}
		_, got := firstYAMLError(err)
		return got == message
	}

	i := sort.Search(len(lines), hasError)
	if i == len(lines) {
		return 0
	}
	return i + 1
}

// typeError is the first of the parser's errors about values, with file and line in front. For a value of the wrong
// type, want replaces the parser's text, which names types of YAML and Go and may show the value.
func (m *mapping) typeError(err error, want string) error {
	line, message := firstYAMLError(err)
	if found := yamlDuplicate.FindStringSubmatch(message); found != nil {
		message = fmt.Sprintf("key %s is given twice, also in line %s: remove one", showKey(found[1]), found[2])
	}
	message = yamlField.ReplaceAllString(message, `unknown key "$1" (--help links the documentation)`)
	message = yamlType.ReplaceAllLiteralString(message, want)
	return fmt.Errorf("%s:%d: %s%s", m.file, cmp.Or(line, m.line), m.prefix, sanitize.OneLine(message))
}
