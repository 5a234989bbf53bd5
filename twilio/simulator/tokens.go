package simulator

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"strings"
	"time"

	"twilio_operations_exporter/twilio"
)

// token is what a pageToken holds.
type token struct {
	cursor  cursor
	filters filters
	size    int
}

// filters are the filters of a request, as sent.
type filters struct {
	start, end time.Time
	status     twilio.Status
}

func (f filters) equal(g filters) bool {
	return f.start.Equal(g.start) && f.end.Equal(g.end) && f.status == g.status
}

// tokens seals and opens tokens: encrypted, so that nobody can come to rely on
// what is in them, and authenticated, so that a bad one is known. The same
// place always has the same token: the nonce is a hash of what is sealed.
type tokens struct {
	key      []byte
	aead     cipher.AEAD
	alphabet Alphabet
}

func newTokens(seed uint64, alphabet Alphabet) *tokens {
	key := sha256.Sum256(binary.BigEndian.AppendUint64([]byte("page token"), seed))
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // the key has the right length
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) // AES has the right block size
	}
	return &tokens{key: key[:], aead: aead, alphabet: alphabet}
}

func (t *tokens) seal(v token) string {
	b := make([]byte, 0, 128)
	b = binary.AppendVarint(b, int64(v.cursor.page))
	b = binary.AppendVarint(b, int64(v.cursor.given))
	b = binary.AppendVarint(b, v.cursor.key.sort)
	b = appendText(b, v.cursor.key.id)
	b = appendTimestamp(b, v.filters.start)
	b = appendTimestamp(b, v.filters.end)
	b = appendText(b, string(v.filters.status))
	b = binary.AppendVarint(b, int64(v.size))

	mac := hmac.New(sha256.New, t.key)
	mac.Write(b)
	nonce := mac.Sum(nil)[:t.aead.NonceSize()]
	return t.encode(t.aead.Seal(nonce, nonce, b, nil))
}

var errToken = errors.New("not a token of this list")

func (t *tokens) open(s string) (token, error) {
	sealed, ok := t.decode(s)
	if !ok || len(sealed) < t.aead.NonceSize() {
		return token{}, errToken
	}
	nonce := sealed[:t.aead.NonceSize()]
	b, err := t.aead.Open(nil, nonce, sealed[len(nonce):], nil)
	if err != nil {
		return token{}, errToken
	}
	// What opens was sealed here, so it holds what seal has written.
	r := reader(b)
	return token{
		cursor:  cursor{page: int(r.varint()), given: int(r.varint()), key: key{sort: r.varint(), id: r.text()}},
		filters: filters{start: r.timestamp(), end: r.timestamp(), status: twilio.Status(r.text())},
		size:    int(r.varint()),
	}, nil
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendVarint(b, int64(len(s))), s...)
}

func appendTimestamp(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return append(b, 0)
	}
	b = append(b, 1)
	b = binary.AppendVarint(b, t.Unix())
	return binary.AppendVarint(b, int64(t.Nanosecond()))
}

type reader []byte

func (r *reader) varint() int64 {
	v, n := binary.Varint(*r)
	*r = (*r)[n:]
	return v
}

func (r *reader) text() string {
	n := r.varint()
	s := string((*r)[:n])
	*r = (*r)[n:]
	return s
}

func (r *reader) timestamp() time.Time {
	set := (*r)[0] == 1
	*r = (*r)[1:]
	if !set {
		return time.Time{}
	}
	seconds := r.varint()
	return time.Unix(seconds, r.varint()).UTC()
}

// awkward are 64 characters that are easily mistreated on their way into JSON,
// a URL and back.
var awkward = []rune(" +/&=%#?;,:@!$'\"\\<>(){}[]|^`~*\t\n\r\x01\u007f\u00a0\u2028\ufeffäéßñçøåλжאع漢字の😀🚀0123AFaf-.")

var awkwardValues = func() map[rune]byte {
	values := make(map[rune]byte, len(awkward))
	for i, c := range awkward {
		values[c] = byte(i)
	}
	return values
}()

func (t *tokens) encode(b []byte) string {
	plain := base64.RawURLEncoding.EncodeToString(b)
	if t.alphabet == URLSafe {
		return plain
	}
	var s strings.Builder
	for i := range len(plain) {
		s.WriteRune(awkward[base64Values[plain[i]]])
	}
	return s.String()
}

func (t *tokens) decode(s string) ([]byte, bool) {
	if t.alphabet == Awkward {
		plain := make([]byte, 0, len(s))
		for _, c := range s {
			v, ok := awkwardValues[c]
			if !ok {
				return nil, false
			}
			plain = append(plain, base64URL[v])
		}
		s = string(plain)
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return b, err == nil
}

const base64URL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

var base64Values = func() (values [256]byte) {
	for i := range len(base64URL) {
		values[base64URL[i]] = byte(i)
	}
	return values
}()
