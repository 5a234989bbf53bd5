package config

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"

	"github.com/prometheus/common/config"

	"twilio_operations_exporter/internal/sanitize"
	"twilio_operations_exporter/twilio"
)

// Limits of files, in MiB.
const (
	maxFile       = 1 // far more than any secret or certificate
	maxConfigFile = 4 // enough for 10,000 accounts
)

// readFile returns the text in a regular file of at most limit MiB, without a byte order mark. It does not block on a
// FIFO. Its errors are of type *fs.PathError.
func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) //nolint:gosec // G304: the operator names it
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // nothing was written

	info, err := f.Stat()
	if err != nil {
		return nil, err
	}

	refuse := func(reason string) ([]byte, error) {
		return nil, &fs.PathError{Op: "read", Path: path, Err: errors.New(reason)}
	}
	if !info.Mode().IsRegular() {
		return refuse("not a regular file")
	}

	b, err := io.ReadAll(io.LimitReader(f, limit<<20+1))
	switch {
	case err != nil:
		return nil, err
	case int64(len(b)) > limit<<20:
		return refuse(fmt.Sprintf("larger than %d MiB", limit))
	case !utf8.Valid(b) || bytes.IndexByte(b, 0) >= 0:
		return refuse("not text in UTF-8")
	}
	return bytes.TrimPrefix(b, []byte("\uFEFF")), nil
}

// SecretFile is the path of a file with a secret, which is read at each use. Unlike the library's own, it does not
// block on a FIFO, bounds the size, and refuses an empty file.
type SecretFile string

// Fetch implements config.SecretReader. Its errors are of type *fs.PathError.
func (f SecretFile) Fetch(context.Context) (string, error) { return f.read() }

func (f SecretFile) read() (string, error) {
	b, err := readFile(string(f), maxFile)
	if err != nil {
		return "", err
	}
	secret := strings.TrimSpace(string(b))
	if secret == "" {
		return "", &fs.PathError{Op: "read", Path: string(f), Err: errors.New("empty file")}
	}
	return secret, nil
}

// Description implements config.SecretReader.
func (f SecretFile) Description() string { return "file " + string(f) }

// Immutable implements config.SecretReader.
func (SecretFile) Immutable() bool { return false }

// checkFile reads a file, whose path may be relative to dir, to report errors at startup. It is read again for each
// request.
func checkFile(f input, dir, want string) (content string, err error) {
	if f.value == "" {
		return "", nil
	}
	resolved := config.JoinDir(dir, f.value)
	content, err = SecretFile(resolved).read()

	var pathError *fs.PathError
	if errors.As(err, &pathError) { // whose own text shows the path
		f.hidden = !looksLikePath(f.value, resolved)
		if !f.hidden {
			f.value = absolute(resolved)
		}
		return "", fmt.Errorf("%s: cannot read %s (%w): want %s", f.where(), f.show(), pathError.Err, want)
	}
	return content, err
}

// absolute makes a path absolute for errors, as not everybody who reads them knows the working directory.
func absolute(path string) string {
	resolved, err := filepath.Abs(path)
	if err != nil { // the working directory is gone
		return path
	}
	return resolved
}

// cannotRead is the error of a file that a flag names and that cannot be read.
func cannotRead(flag, path string, err error, want string) error {
	var pathError *fs.PathError
	if errors.As(err, &pathError) { // drops the path, which may hold a password
		err = pathError.Err
	}
	return fmt.Errorf("%s: cannot read %s (%w): want %s", flag, sanitize.Quote(path), err, want)
}

// looksLikePath is false for what may be a secret given instead of a path.
func looksLikePath(value, resolved string) bool {
	if strings.ContainsFunc(value, unicode.IsControl) || strings.HasPrefix(value, "-----") {
		return false // a certificate, say
	}
	if strings.ContainsRune(value, filepath.Separator) {
		return true
	}
	_, err := os.Lstat(resolved)
	return err == nil
}

// secretFiles makes the library read files as SecretFile does. To the library it is a manager of secrets, whose names
// are paths.
type secretFiles struct{}

// Fetch implements config.SecretManager.
func (secretFiles) Fetch(_ context.Context, path string) (string, error) {
	return SecretFile(path).read()
}

// HTTP is how requests are sent, apart from their credentials. Accounts with equal settings can share a transport.
type HTTP struct {
	TLS   config.TLSConfig // its references are paths
	Proxy string           // URL; "" = from the environment
}

// NewTransport returns a transport, and the function by which it chooses a proxy.
func (h HTTP) NewTransport() (http.RoundTripper, func(*http.Request) (*url.URL, error), error) {
	proxy, err := url.Parse(h.Proxy)
	if err != nil {
		return nil, nil, err
	}
	c := config.ProxyConfig{ProxyFromEnvironment: h.Proxy == ""}
	c.ProxyURL.URL = proxy
	fromProxy := c.Proxy()

	tlsConfig, err := config.NewTLSConfig(&h.TLS, config.WithSecretManager(secretFiles{}))
	if err != nil {
		return nil, nil, err
	}
	files := config.TLSRoundTripperSettings{
		CA:   tlsFile(h.TLS.CARef),
		Cert: tlsFile(h.TLS.CertRef),
		Key:  tlsFile(h.TLS.KeyRef),
	}
	if files == (config.TLSRoundTripperSettings{}) {
		return twilio.NewTransport(tlsConfig, fromProxy), fromProxy, nil
	}

	// The library makes a new transport when a file has changed.
	rt, err := config.NewTLSRoundTripper(tlsConfig, files, func(current *tls.Config) (http.RoundTripper, error) {
		return twilio.NewTransport(current, fromProxy), nil
	})
	return rt, fromProxy, err
}

// tlsFile returns a reader of the file, or nil without a path.
func tlsFile(path string) config.SecretReader {
	if path == "" {
		return nil
	}
	return SecretFile(path)
}
