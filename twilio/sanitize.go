package twilio

import (
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode"
)

const (
	maxErrorText = 200 // bytes shown of one text of the other side
	maxPointer   = 120 // bytes shown of a JSON pointer
	redacted     = "<secret>"
)

// userInfo is what comes before the @ of a URL, or of something that was meant to be one. Better too much of an error
// that holds an @ than too little.
var userInfo = regexp.MustCompile(`(?s)\S*:.*@`)

// inPointer makes of a character's pattern one that matches it in a JSON pointer, too.
var inPointer = strings.NewReplacer("~", "~0?", "/", "(?:/|~1)")

// A sanitizer makes text of the other side fit for errors and log lines: what a server, a proxy or a library says may
// hold the credentials that it was sent. All such text passes here before anything else is done with it.
type sanitizer struct {
	mu      sync.Mutex
	secrets []string
}

// trace notes the credentials that a request is sent with. The transport adds them, so that nothing else here ever has
// them; a request that fails comes back without.
func (s *sanitizer) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{WroteHeaderField: func(name string, values []string) {
		if name = http.CanonicalHeaderKey(name); name != "Authorization" && name != "Proxy-Authorization" {
			return
		}
		req := http.Request{Header: http.Header{"Authorization": values}}
		if user, password, ok := req.BasicAuth(); ok {
			s.addUser(url.UserPassword(user, password))
		} else {
			s.add(strings.Fields(strings.Join(values, " "))...)
		}
	}}
}

// addUser adds what basic authentication sends. An account's SID is its name, an API key's is half a secret.
func (s *sanitizer) addUser(user *url.Userinfo) {
	password, _ := user.Password()
	s.add(password)
	if !strings.HasPrefix(user.Username(), "AC") {
		s.add(user.Username())
	}
}

func (s *sanitizer) add(secrets ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, secret := range secrets {
		if secret != "" && !slices.Contains(s.secrets, secret) {
			s.secrets = append(s.secrets, secret)
		}
	}
}

// redact takes the secrets out of a text, however they are written: plain, in a URL, in base64 of a longer text; each
// also quoted or in a JSON pointer.
func (s *sanitizer) redact(text string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.secrets) == 0 {
		return text
	}
	var forms []string
	for _, secret := range s.secrets {
		forms = append(forms, secret, url.QueryEscape(secret), url.PathEscape(secret))
		for before, skip := range []int{0, 2, 3} { // characters that depend on what comes before
			n := (before + len(secret)) * 8 / 6
			if n-skip < 4 {
				continue // would be found everywhere
			}
			for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
				forms = append(forms, encoding.EncodeToString([]byte("  "[:before] + secret))[skip:n])
			}
		}
	}
	slices.SortFunc(forms, func(a, b string) int { return len(b) - len(a) }) // the longest first
	for i, form := range forms {
		var b strings.Builder
		for _, r := range strings.ToValidUTF8(form, "\uFFFD") {
			b.WriteString(inPointer.Replace(regexp.QuoteMeta(string(r))) + `\\*`) // of what is quoted next
		}
		forms[i] = b.String()
	}
	pattern := regexp.MustCompile("(?i)(?:" + strings.Join(forms, "|") + ")")
	return pattern.ReplaceAllLiteralString(strings.ToValidUTF8(text, "\uFFFD"), redacted)
}

// text redacts secrets and makes one line of at most limit bytes of what is left.
func (s *sanitizer) text(text string, limit int) string { return oneLine(s.redact(text), limit) }

// err is an error of the transport with nothing secret in it. One that had nothing secret stays what it is.
func (s *sanitizer) err(err error) error {
	text := userInfo.ReplaceAllString(err.Error(), redacted+"@")
	if text = s.redact(text); text != err.Error() {
		return errors.New(text)
	}
	return err
}

// decodeError sanitizes the names that a DecodeError shows.
func (s *sanitizer) decodeError(e *DecodeError) {
	e.Pointer, e.Problem = s.text(e.Pointer, maxPointer), s.text(e.Problem, maxErrorText)
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
