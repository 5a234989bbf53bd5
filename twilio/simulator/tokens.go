package simulator

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
)

// token is what a pageToken holds: a place, and the filters it belongs to, which a client has to send again.
type token struct {
	Cursor  cursor
	Filters string
}

// awkward begins tokens that are easily mistreated on their way into JSON, a URL and back.
const awkward = " +/&=%#?;,:@!$'\"\\<>(){}[]|^`~*\t\n\r\x01\u007f\u00a0\u2028\ufeffß漢字😀"

func (t token) encode(a Alphabet) string {
	s := base64.RawURLEncoding.EncodeToString(must(json.Marshal(t)))
	if a == Awkward {
		s = awkward + s
	}
	return s
}

func decodeToken(s string, a Alphabet) (t token, err error) {
	if a == Awkward {
		var ok bool
		if s, ok = strings.CutPrefix(s, awkward); !ok {
			return t, errors.New("not a token of this list")
		}
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err == nil {
		err = json.Unmarshal(b, &t)
	}
	return t, err
}
