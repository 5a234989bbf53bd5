package config

import (
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/prometheus/common/config"

	"twilio_operations_exporter/internal/testutil"
)

func makeFIFO(path string) error { return syscall.Mkfifo(path, 0o600) }

// oddFiles are things that a path may lead to, with the reason why each is refused.
func oddFiles(t *testing.T) map[string]string {
	t.Helper()
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := makeFIFO(fifo); err != nil {
		t.Fatal(err)
	}
	return map[string]string{
		fifo:          "not a regular file",
		t.TempDir():   "not a regular file",
		os.DevNull:    "not a regular file",
		"/dev/zero":   "not a regular file",
		"/nowhere/at": "no such file or directory",
		testutil.WriteFile(t, "huge", strings.Repeat("x", maxConfigFile<<20+1)): "larger than ",
		testutil.WriteFile(t, "utf16", "\xff\xfet\x00"):                         "not text in UTF-8",
		testutil.WriteFile(t, "utf16-without-mark", "t\x00o\x00"):               "not text in UTF-8",
	}
}

// TestOddFiles checks that whatever a path leads to is refused in one line without blocking.
func TestOddFiles(t *testing.T) {
	token := testutil.WriteFile(t, "token", testutil.Token)
	account := map[string]string{"TWILIO_ACCOUNT_SID": testutil.SID, "TWILIO_AUTH_TOKEN": testutil.Token}
	yml := func(key string) func(string) string {
		return func(file string) string {
			return testutil.WriteFile(
				t, "accounts.yml",
				"accounts:\n- {account_sid: "+testutil.SID+", auth_token_file: "+token+", "+fmt.Sprintf(key, file)+"}\n",
			)
		}
	}

	web := func(key string) func(string) string {
		return func(file string) string {
			return testutil.WriteFile(t, "web.yml", "tls_server_config:\n  "+key+": "+file+"\n")
		}
	}

	itself := func(file string) string { return file }
	for name, tc := range map[string]struct {
		env  map[string]string
		flag string
		file func(odd string) string
	}{
		"token":       {map[string]string{"TWILIO_ACCOUNT_SID": testutil.SID}, "--twilio.auth-token-file", itself},
		"file":        {nil, "--config.file", itself},
		"web":         {account, "--web.config.file", itself},
		"web cert":    {account, "--web.config.file", web("cert_file")},
		"web key":     {account, "--web.config.file", web("key_file")},
		"web CA":      {account, "--web.config.file", web("client_ca_file")},
		"CA":          {nil, "--config.file", yml("tls_config: {ca_file: %s}")},
		"certificate": {nil, "--config.file", yml("tls_config: {cert_file: %[1]s, key_file: %[1]s}")},
		"API secret":  {nil, "--config.file", yml("api_key: " + testutil.Key + ", api_secret_file: %s")},
	} {
		t.Run(name, func(t *testing.T) {
			testutil.SetEnv(t, tc.env)
			for odd, why := range oddFiles(t) {
				_, err := Load([]string{tc.flag, tc.file(odd)}, io.Discard)
				if err == nil || !strings.Contains(err.Error(), why) || !strings.Contains(err.Error(), odd) {
					t.Errorf("%s: %v, want: %s", odd, err, why)
				}
				if err != nil {
					checkError(t, err)
				}
			}
		})
	}
}

// TestByteOrderMark checks that a byte order mark, which some editors write, is ignored.
func TestByteOrderMark(t *testing.T) {
	token := testutil.WriteFile(t, "token", "\uFEFF"+testutil.Token+"\r\n")
	file := testutil.WriteFile(
		t, "accounts.yml", "\uFEFFaccounts:\r\n- {account_sid: "+testutil.SID+", auth_token_file: "+token+"}\r\n",
	)
	testutil.SetEnv(t, nil)
	c, err := Load([]string{"--config.file", file}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if got := password(t, &c.accounts[0]); got != testutil.Token {
		t.Errorf("secret %q", got)
	}
}

// TestSecretFileWhileRunning checks that a secret that cannot be read fails requests, without blocking or asking the
// API, until it can be read again.
func TestSecretFileWhileRunning(t *testing.T) {
	var passwords []string
	api := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, password, _ := r.BasicAuth()
		passwords = append(passwords, password)
	}))
	defer api.Close()
	file := testutil.WriteFile(t, "token", "first")
	shared, _, err := HTTP{}.NewTransport()
	if err != nil {
		t.Fatal(err)
	}
	transport := config.NewBasicAuthRoundTripper(config.NewInlineSecret(testutil.SID), SecretFile(file), shared)
	request := func() error { return roundTrip(t, transport, api.URL) }

	replace := func(with func() error) {
		t.Helper()
		if err := errors.Join(os.Remove(file), with()); err != nil {
			t.Fatal(err)
		}
	}

	text := func(s string) func() error { return func() error { return os.WriteFile(file, []byte(s), 0o600) } }
	if err := request(); err != nil {
		t.Fatal(err)
	}
	for name, with := range map[string]func() error{
		"empty":     text(" \n"),
		"mark only": text("\uFEFF"),
		"FIFO":      func() error { return makeFIFO(file) },
		"directory": func() error { return os.Mkdir(file, 0o700) },
		"huge":      text(strings.Repeat("x", maxFile<<20+1)),
	} {
		replace(with)
		var pathError *fs.PathError
		if err := request(); !errors.As(err, &pathError) { // it is counted by this type
			t.Errorf("%s: %v", name, err)
		}
	}

	replace(text("second"))
	if err := request(); err != nil {
		t.Error(err)
	}
	if got := strings.Join(passwords, ","); got != "first,second" {
		t.Errorf("passwords %s", got)
	}
}

// roundTrip makes a request over a connection of its own.
func roundTrip(t *testing.T, transport http.RoundTripper, url string) error {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Close = true
	resp, err := transport.RoundTrip(r)
	if err == nil {
		_ = resp.Body.Close()
	}
	return err
}

// TestTLSFilesWhileRunning holds that a file of tls_config that cannot be read fails the request, without waiting, until
// it can be read again.
func TestTLSFilesWhileRunning(t *testing.T) {
	api := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer api.Close()
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: api.Certificate().Raw}))
	file := testutil.WriteFile(t, "ca.pem", ca)
	transport, _, err := HTTP{TLS: config.TLSConfig{CARef: file}}.NewTransport()
	if err != nil {
		t.Fatal(err)
	}
	request := func() error { return roundTrip(t, transport, api.URL) }
	for name, replace := range map[string]func() error{
		"FIFO":   func() error { return makeFIFO(file) },
		"device": func() error { return os.Symlink("/dev/zero", file) },
		"huge":   func() error { return os.WriteFile(file, make([]byte, maxFile<<20+1), 0o600) },
	} {
		if err := request(); err != nil {
			t.Fatalf("before a %s: %v", name, err)
		}
		if err := errors.Join(os.Remove(file), replace()); err != nil {
			t.Fatal(err)
		}
		if err := request(); err == nil {
			t.Errorf("%s: no error", name)
		}
		if err := errors.Join(os.Remove(file), os.WriteFile(file, []byte(ca), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}
