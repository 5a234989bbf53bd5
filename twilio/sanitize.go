package twilio

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// MaxSecret is how many bytes a secret may have; one of the API has 32.
const MaxSecret = 4 << 10

const (
	maxErrorText = 200 // bytes shown of one text of the other side
	maxPointer   = 120 // bytes shown of a JSON pointer
	redacted     = "<secret>"

	// maxSecrets is how many secrets a sanitizer knows: those of the API and of a proxy, and some before they changed.
	maxSecrets = 8
	// maxSearched is how much of a text is searched for secrets, and shown at most.
	maxSearched = 16 << 10
	// maxLevels is how often a text may be quoted or escaped.
	maxLevels = 4

	// minPart is how many bytes of a secret in a row are not shown either. Shorter secrets are found as a whole.
	minPart = 12
	// minEncoded is the least that is searched for of a secret that is encoded: less would be found everywhere.
	minEncoded = 4
)

// userInfo is what comes before the @ of a URL, or of something that was meant to be one. Better too much of an error
// that holds an @ than too little.
var userInfo = regexp.MustCompile(`(?s)\S*:.*@`)

// A sanitizer makes text of the other side fit for errors and log lines: what a server, a proxy or a library says may
// hold the credentials that it was sent. All such text passes here before anything else is done with it. It knows the
// credentials before they are used.
//
// It finds them plain, quoted, in URLs, JSON pointers, base64 and hex, in parts of minPart bytes or more, and with white
// space in between. Whoever holds a secret can encode it in other ways.
type sanitizer struct {
	mu      sync.RWMutex // guards what follows
	secrets []string     // the latest last
	parts   *parts       // of secrets
}

// addUser adds what basic authentication sends. An account's SID is its name, an API key's is half a secret.
func (s *sanitizer) addUser(user *url.Userinfo) {
	password, _ := user.Password()
	s.add(password)
	if !strings.HasPrefix(user.Username(), "AC") {
		s.add(user.Username())
	}
}

func (s *sanitizer) add(secret string) {
	if secret == "" || s.knows(secret) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secrets = append(s.secrets, secret)
	s.secrets = s.secrets[max(0, len(s.secrets)-maxSecrets):]
	s.parts = newParts(s.secrets)
}

func (s *sanitizer) knows(secret string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Contains(s.secrets, secret)
}

// known returns what to search for, nil while no secret is known.
func (s *sanitizer) known() *parts {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.parts
}

// redact takes the secrets out of texts that belong together, in their order: one may begin in one of them and end in
// the next.
func (s *sanitizer) redact(texts ...string) []string {
	texts = slices.Clone(texts)
	for i, text := range texts {
		texts[i] = strings.ToValidUTF8(text[:min(len(text), maxSearched)], "\uFFFD")
	}
	known := s.known()
	if known == nil {
		return texts
	}

	all := strings.Join(texts, "")
	secret := known.find(all)
	for i, text := range texts {
		texts[i] = without(text, secret[:len(text)])
		secret = secret[len(text):]
	}
	return texts
}

// without replaces the bytes of a text that are secret.
func without(text string, secret []bool) string {
	var kept strings.Builder
	for i := range len(text) {
		switch {
		case !secret[i]:
			kept.WriteByte(text[i])
		case i == 0 || !secret[i-1]:
			kept.WriteString(redacted)
		}
	}
	return strings.ToValidUTF8(kept.String(), "")
}

// text redacts secrets and makes one line of at most limit bytes of what is left.
func (s *sanitizer) text(text string, limit int) string { return oneLine(s.redact(text)[0], limit) }

// holds reports whether a name that the API gave, such as an operation's id, holds a secret or a part of one. Secrets
// below minPart bytes are not looked for, as names may hold such a text by chance.
func (s *sanitizer) holds(name string) bool {
	known := s.known()
	return known != nil && known.mayHold(name) && slices.Contains(known.long().find(name), true)
}

// err is an error of the transport with nothing secret in it. One that had nothing secret stays what it is.
func (s *sanitizer) err(err error) error {
	text := userInfo.ReplaceAllString(err.Error(), redacted+"@")
	if text = s.redact(text)[0]; text != err.Error() {
		return errors.New(text)
	}
	return err
}

// decodeError sanitizes the names that a DecodeError shows.
func (s *sanitizer) decodeError(e *DecodeError) {
	e.Pointer = s.text(e.Pointer, maxPointer)
	e.Problem = s.text(e.Problem, maxErrorText)
}

// oneLine cuts a text to limit bytes and takes out what is not printable.
func oneLine(s string, limit int) string {
	end := ""
	if len(s) > limit {
		s, end = s[:limit], "…"
	}
	s = strings.ToValidUTF8(s, "") // no half characters
	words := strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || !unicode.IsPrint(r) })
	return strings.Join(words, " ") + end
}

// parts are the parts of secrets, in all forms that are searched for.
type parts struct {
	byLength map[int]map[string]bool
	lengths  []int

	ofLong *parts // the same of the secrets that have minPart bytes
	// hints are each four bytes in a row, by hintOf, of ofLong.
	hints map[uint32]bool
}

// newParts returns the parts of secrets.
func newParts(secrets []string) *parts {
	all := partsOf(secrets)
	isShort := func(secret string) bool { return len(secret) < minPart }
	all.ofLong = all
	if slices.ContainsFunc(secrets, isShort) {
		all.ofLong = partsOf(slices.DeleteFunc(slices.Clone(secrets), isShort))
	}

	all.hints = map[uint32]bool{}
	for _, of := range all.ofLong.byLength {
		for part := range of {
			for i := range len(part) - 3 {
				all.hints[hintOf(part[i:])] = true
			}
		}
	}
	return all
}

func partsOf(secrets []string) *parts {
	p := &parts{byLength: map[int]map[string]bool{}}
	for _, secret := range secrets {
		p.addForms(secret)
	}
	return p
}

func (p *parts) long() *parts { return p.ofLong }

// addForms adds the parts of a secret's forms. Each is as view.plain makes the text in which it is searched for.
func (p *parts) addForms(secret string) {
	p.add(secret, 1, minPart)
	p.add(hex.EncodeToString([]byte(secret)), 2*minEncoded, 2*minPart)
	for before, skip := range []int{0, 2, 3} { // characters that depend on what comes before
		encoded := base64.StdEncoding.EncodeToString([]byte("  "[:before] + secret))
		whole := (before + len(secret)) * 8 / 6 // later ones depend on what comes after
		if whole > skip {
			p.add(encoded[skip:whole], minEncoded, minPart*4/3)
		}
	}
}

// add adds all parts of a form that have length bytes, or the form, if it is shorter but has at least least bytes.
func (p *parts) add(form string, least, length int) {
	form = newView(form).plain().text()
	length = min(length, len(form))
	if length < least || length == 0 {
		return
	}
	of := p.byLength[length]
	if of == nil {
		of = map[string]bool{}
		p.byLength[length] = of
		p.lengths = append(p.lengths, length)
	}
	for i := range len(form) - length + 1 {
		of[form[i:i+length]] = true
	}
}

// find returns which bytes of a text belong to a part of a secret.
func (p *parts) find(text string) []bool {
	secret := make([]bool, len(text))
	written := newView(text)
	for range maxLevels + 1 {
		p.mark(written.plain(), secret)
		unescaped := written.unescaped()
		if len(unescaped.bytes) == len(written.bytes) {
			break
		}
		written = unescaped
	}
	return secret
}

// mark marks what the parts in a view were made of.
func (p *parts) mark(v view, secret []bool) {
	for _, length := range p.lengths {
		of := p.byLength[length]
		for i := 0; i+length <= len(v.bytes); i++ {
			if !of[string(v.bytes[i:i+length])] {
				continue
			}
			for at := v.from[i]; at < v.to[i+length-1]; at++ {
				secret[at] = true
			}
		}
	}
}

// mayHold is false for most names that hold no part of a secret. Whatever holds minPart bytes of one has four of them
// at one of the places looked at.
func (p *parts) mayHold(name string) bool {
	const step = minPart - 3
	for i := 0; i+4 <= len(name); i += step {
		if p.hints[hintOf(name[i:])] {
			return true
		}
	}
	return false
}

// hintOf returns the first four bytes of a text, whatever their case.
func hintOf(s string) uint32 {
	n := uint32(s[0]) | uint32(s[1])<<8 | uint32(s[2])<<16 | uint32(s[3])<<24
	return n | 0x20202020
}

// A view is a text as something else might read it. It knows where in the text each of its bytes comes from.
type view struct {
	bytes    []byte
	from, to []int32
}

// newView returns the view of a text as it is.
func newView(text string) view {
	var v view
	for i := range len(text) {
		v.add(text[i], int32(i), int32(i+1)) //nolint:gosec // texts are short
	}
	return v
}

func (v *view) add(b byte, from, to int32) {
	v.bytes = append(v.bytes, b)
	v.from = append(v.from, from)
	v.to = append(v.to, to)
}

func (v view) text() string { return string(v.bytes) }

// plain is the view in which secrets are searched for: lower case, without white space and what cannot be printed, and
// without what stands for a character in one alphabet and for another in the next: the backslash of what is quoted, the
// last two of base64, and the space of a URL.
func (v view) plain() view {
	var plain view
	for i := 0; i < len(v.bytes); {
		r, size := utf8.DecodeRune(v.bytes[i:])
		broken := r == utf8.RuneError && size == 1
		ignored := strings.ContainsRune(`\+-`, r) || unicode.IsSpace(r) || !unicode.IsPrint(r)

		for j := i; j < i+size; j++ {
			b := v.bytes[j]
			if ignored && !broken {
				continue
			}
			switch {
			case b == '_':
				b = '/'
			case 'A' <= b && b <= 'Z':
				b += 'a' - 'A'
			}
			plain.add(b, v.from[j], v.to[j])
		}
		i += size
	}
	return plain
}

// unescaped is what the text says where it is quoted (Go, JSON), part of a URL or of a JSON pointer.
func (v view) unescaped() view {
	var plain view
	for i := 0; i < len(v.bytes); {
		text, length := unescape(v.bytes[i:])
		for j := range len(text) {
			plain.add(text[j], v.from[i], v.to[i+length-1])
		}
		i += length
	}
	return plain
}

// unescape returns what the text begins with, and the length of what stands for it.
func unescape(s []byte) (text string, length int) {
	asItIs := string(s[:1])
	if len(s) < 2 {
		return asItIs, 1
	}

	octet := func(start int) (string, bool) {
		b, err := hex.DecodeString(string(s[start:min(start+2, len(s))]))
		return string(b), err == nil && len(b) == 1
	}
	char := func(start, digits int) (string, bool) {
		n, err := strconv.ParseUint(string(s[start:min(start+digits, len(s))]), 16, 31)
		return string(rune(n)), err == nil && len(s) >= start+digits //nolint:gosec // of 31 bits
	}

	switch {
	case s[0] == '%':
		if b, ok := octet(1); ok {
			return b, 3
		}
	case s[0] == '~' && s[1] == '0':
		return "~", 2
	case s[0] == '~' && s[1] == '1':
		return "/", 2
	case s[0] != '\\':
	case s[1] == 'x':
		if b, ok := octet(2); ok {
			return b, 4
		}
	case s[1] == 'u':
		if c, ok := char(2, 4); ok {
			return c, 6
		}
	case s[1] == 'U':
		if c, ok := char(2, 8); ok {
			return c, 10
		}
	case strings.IndexByte("tnrvfab", s[1]) >= 0:
		return " ", 2
	default:
		return string(s[1:2]), 2
	}
	return asItIs, 1
}
