package twilio

import (
	"bytes"
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

// MaxSecret is the most bytes that a secret may have. Twilio's have 32.
const MaxSecret = 4 << 10

const (
	maxErrorText = 200 // bytes shown of a text of the other side
	maxPointer   = 120 // bytes shown of a JSON pointer
	redacted     = "<secret>"

	// maxSecrets is how many secrets a sanitizer knows: those of the API and of a proxy, and some earlier ones.
	maxSecrets = 8
	// maxSearched is how many bytes of a text are searched for secrets. The rest is not shown.
	maxSearched = 16 << 10
	// maxLevels is how many levels of quotes and escapes are undone.
	maxLevels = 4

	// minPart is the length in bytes of the parts of a secret that are searched for. A shorter secret is searched for as a
	// whole.
	minPart = 12
	// minEncoded is the length from which on an encoded secret is searched for. A shorter one would be found everywhere.
	minEncoded = 4
)

// userInfo matches what comes before the @ of a URL, or of something that was meant to be one. It rather removes too
// much of an error with an @ than too little.
var userInfo = regexp.MustCompile(`(?s)\S*:.*@`)

// A sanitizer makes text of the other side safe for errors and log lines: a server, a proxy or a library may quote the
// credentials that it was sent. All such text is sanitized first. The sanitizer knows the credentials before they are
// used.
//
// It finds them plain, quoted, in URLs, JSON pointers, base64 and hex, in parts of minPart bytes or more, and with
// white space in between. It cannot find every encoding that somebody who knows a secret may invent.
type sanitizer struct {
	mu      sync.RWMutex // guards what follows
	secrets []string     // the latest last
	parts   *parts       // of secrets
}

// addUser adds what basic authentication sends. The SID of an account is not secret; that of an API key half is.
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

// known returns what to search for, or nil as long as no secret is known.
func (s *sanitizer) known() *parts {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.parts
}

// redact removes secrets from texts that belong together: a secret may begin in one of them and end in the next.
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

// without replaces each run of secret bytes in a text.
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

// text returns the redacted text as one line of at most limit bytes.
func (s *sanitizer) text(text string, limit int) string { return oneLine(s.redact(text)[0], limit) }

// holds reports whether a name from the API, such as an operation's id, holds a secret or a part of one. Secrets
// shorter than minPart bytes do not count, as names may hold such a text by chance.
func (s *sanitizer) holds(name string) bool {
	known := s.known()
	if known == nil || !known.mayHold(name) {
		return false
	}
	return slices.Contains(known.ofLong.find(name), true)
}

// err returns an error of the transport without secrets. It is the same error if there were none.
func (s *sanitizer) err(err error) error {
	text := userInfo.ReplaceAllString(err.Error(), redacted+"@")
	text = s.redact(text)[0]
	if text == err.Error() {
		return err
	}
	return errors.New(text)
}

// decodeError sanitizes the names that a DecodeError shows.
func (s *sanitizer) decodeError(e *DecodeError) {
	e.Pointer = s.text(e.Pointer, maxPointer)
	e.Problem = s.text(e.Problem, maxErrorText)
}

// oneLine cuts a text to limit bytes and replaces what is not printable by spaces.
func oneLine(s string, limit int) string {
	end := ""
	if len(s) > limit {
		s = s[:limit]
		end = "…"
	}
	s = strings.ToValidUTF8(s, "") // the cut may have split a character
	words := strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || !unicode.IsPrint(r) })
	return strings.Join(words, " ") + end
}

// parts are the parts of secrets, in all forms that are searched for.
type parts struct {
	byLength map[int]map[string]bool
	lengths  []int

	ofLong *parts          // the parts of those secrets that have minPart bytes or more
	hints  map[uint32]bool // all four bytes in a row in ofLong, by hintOf
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

// addForms adds the parts of all forms of a secret.
func (p *parts) addForms(secret string) {
	p.add(secret, 1, minPart)
	p.add(hex.EncodeToString([]byte(secret)), 2*minEncoded, 2*minPart)

	// In base64, a secret has three forms, depending on how many bytes of a group of three come before it. The characters
	// at either end that encode bits of its neighbours are left out.
	for before, skip := range []int{0, 2, 3} {
		encoded := base64.StdEncoding.EncodeToString([]byte("  "[:before] + secret))
		end := (before + len(secret)) * 8 / 6
		if end > skip {
			p.add(encoded[skip:end], minEncoded, minPart*4/3)
		}
	}
}

// add adds all parts of a form that have length bytes. A shorter form is added as a whole if it has at least least
// bytes.
func (p *parts) add(form string, least, length int) {
	form = newView(form).plain().text() // as the texts that are searched
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

// find returns, for each byte of a text, whether it belongs to a part of a secret.
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

// mark marks the bytes of the text that make up parts in a view of it.
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

// mayHold is false for most names that hold no part of a secret. It looks at four bytes at intervals short enough to
// meet any minPart bytes in a row.
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

// A view is a text as somebody might read it, such as without its escapes. It knows which bytes of the text each of its
// bytes stands for.
type view struct {
	bytes    []byte
	from, to []int32
}

// newView returns a view of the text itself.
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

// plain returns the view in which secrets are searched for. It is in lower case, and without white space and
// unprintable characters. It is also without backslashes, + and -, and has / for _: these differ between quoted and
// plain text, URLs, and the alphabets of base64.
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

// unescaped returns a view without one level of escapes: of quotes in Go and JSON, of URLs and of JSON pointers.
func (v view) unescaped() view {
	var unescaped view
	for i := 0; i < len(v.bytes); {
		text, length := unescape(v.bytes[i:])
		for j := range len(text) {
			unescaped.add(text[j], v.from[i], v.to[i+length-1])
		}
		i += length
	}
	return unescaped
}

// unescape returns what the first bytes of s stand for, and how many bytes these are. s must not be empty.
func unescape(s []byte) (text string, length int) {
	switch {
	case s[0] == '%':
		text, length = octet(s, 1)
	case s[0] == '\\' && len(s) > 1:
		text, length = unescapeBackslash(s)
	case bytes.HasPrefix(s, []byte("~0")):
		return "~", 2
	case bytes.HasPrefix(s, []byte("~1")):
		return "/", 2
	}
	if length == 0 { // no escape, or not a valid one
		return string(s[:1]), 1
	}
	return text, length
}

// unescapeBackslash is unescape for a backslash and what follows it. The length is 0 if that is not valid.
func unescapeBackslash(s []byte) (text string, length int) {
	switch s[1] {
	case 'x':
		return octet(s, 2)
	case 'u':
		return character(s, 2, 4)
	case 'U':
		return character(s, 2, 8)
	case 't', 'n', 'r', 'v', 'f', 'a', 'b':
		return " ", 2
	default:
		return string(s[1:2]), 2
	}
}

// octet returns the byte that two hex digits of s stand for, and where they end. That is 0 if there are none at start.
func octet(s []byte, start int) (text string, end int) {
	end = start + 2
	if len(s) < end {
		return "", 0
	}
	b, err := hex.DecodeString(string(s[start:end]))
	if err != nil {
		return "", 0
	}
	return string(b), end
}

// character returns the character whose number is in hex digits of s, and where they end. That is 0 if there are none
// at start.
func character(s []byte, start, digits int) (text string, end int) {
	end = start + digits
	if len(s) < end {
		return "", 0
	}
	n, err := strconv.ParseUint(string(s[start:end]), 16, 31)
	if err != nil {
		return "", 0
	}
	return string(rune(n)), end //nolint:gosec // of 31 bits
}
