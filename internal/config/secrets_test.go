package config

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"twilio_operations_exporter/internal/testutil"
)

// TestSecretsAreNotShown puts a secret in every wrong place, and checks that no error, warning or label shows it.
func TestSecretsAreNotShown(t *testing.T) {
	const secret = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
	token := testutil.WriteFile(t, "token", testutil.Token)
	urls := []string{
		"user:%s@proxy:3128", "http:/u:%s@h", "http://u:%s\n@h", "http://u:%s@h:99999", "http://u:%s@", "//u:%s@h", "u:%s@h",
		"ftp://u:%s@h", "http://u:%%%s@h", "http://%s:x@h x", "http://h/\x7f?token=%s", "%s",
	}

	for name, env := range map[string]map[string]string{
		"SID":            {"TWILIO_ACCOUNT_SID": secret, "TWILIO_AUTH_TOKEN": testutil.SID},
		"SID and key":    {"TWILIO_ACCOUNT_SID": secret, "TWILIO_API_KEY": testutil.Key, "TWILIO_API_SECRET": "x"},
		"key":            {"TWILIO_ACCOUNT_SID": testutil.SID, "TWILIO_API_KEY": secret, "TWILIO_API_SECRET": testutil.Key},
		"key, odd":       {"TWILIO_ACCOUNT_SID": testutil.SID, "TWILIO_API_KEY": "SK" + secret + "0", "TWILIO_API_SECRET": testutil.Key},
		"secret alone":   {"TWILIO_ACCOUNT_SID": testutil.SID, "TWILIO_API_SECRET": secret},
		"token and demo": {"TWILIO_AUTH_TOKEN": secret},
	} {
		t.Run(name, func(t *testing.T) {
			testutil.SetEnv(t, env)
			var args []string
			if env["TWILIO_ACCOUNT_SID"] == "" {
				args = []string{"--demo"}
			}
			wantNoSecret(t, args, secret)
		})
	}

	for i, u := range urls {
		t.Run(fmt.Sprintf("base URL %d", i), func(t *testing.T) {
			testutil.SetEnv(t, map[string]string{
				"TWILIO_ACCOUNT_SID": testutil.SID, "TWILIO_AUTH_TOKEN": "x", "TWILIO_BASE_URL": fmt.Sprintf(u, secret),
			})
			wantNoSecret(t, nil, secret)
		})
	}

	yml := map[string]string{
		"file":           "auth_token_file: " + secret,
		"API file":       "auth_token_file: " + token + "\n  api_secret_file: " + secret,
		"key":            "api_key: " + secret + "\n  api_secret_file: " + testutil.Key,
		"TLS file":       "auth_token_file: " + token + "\n  tls_config: {ca_file: " + secret + "}",
		"TLS key":        "auth_token_file: " + token + "\n  tls_config: {cert_file: " + token + ", key_file: \"-----BEGIN " + secret + "\"}",
		"TLS ref":        "auth_token_file: " + token + "\n  tls_config: {ca_ref: " + secret + "}",
		"in the file":    "auth_token: " + secret,
		"anchor":         "auth_token_file: *" + secret,
		"no blank":       "auth_token_file:" + secret,
		"no blank, flow": "tls_config: {ca_file:" + secret + "}",
		"tag":            "auth_token_file: !" + secret,
		"key of a map":   secret + ": x",
		"bad base URL":   "auth_token_file: " + token + "\n  base_url: http:/u:" + secret + "@h",
		"two lines":      "auth_token_file: \"" + secret + "\\n" + secret + "\"",
		"SID":            "auth_token_file: " + token + "\n- account_sid: " + secret + "\n  auth_token_file: " + token,
		"SID, two lines": "auth_token_file: " + token + "\n- account_sid: \"" + secret + "\\n\"\n  auth_token_file: " + token,
		"list":           "auth_token_file: [" + secret + "]",
		"flag for a map": "auth_token_file: " + token + "\n  tls_config: " + secret,
	}

	for i, u := range urls {
		yml[fmt.Sprintf("proxy %d", i)] = fmt.Sprintf("auth_token_file: %s\n  proxy_url: %q", token, fmt.Sprintf(u, secret))
	}
	for name, account := range yml {
		t.Run(name, func(t *testing.T) {
			testutil.SetEnv(t, nil)
			file := testutil.WriteFile(t, "accounts.yml", "accounts:\n- account_sid: "+testutil.SID+"\n  "+account+"\n")
			wantNoSecret(t, []string{"--config.file", file}, secret)
		})
	}
}

func wantNoSecret(t *testing.T, args []string, secret string) {
	t.Helper()
	c, err := Load(args, io.Discard)
	var shown []string
	if err == nil {
		for _, a := range c.Accounts() {
			shown = append(shown, a.Account)
		}
		shown = append(shown, c.Warnings()...)
	} else {
		checkError(t, err)
		shown = append(shown, err.Error())
	}

	for _, s := range shown {
		if strings.Contains(s, secret) {
			t.Errorf("it shows the secret: %s", s)
		}
	}
}
