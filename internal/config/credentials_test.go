package config

import (
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"twilio_operations_exporter/internal/testutil"
	"twilio_operations_exporter/twilio"
)

// TestOddCredentials checks that an error describes the fault of a credential without showing it.
func TestOddCredentials(t *testing.T) {
	const (
		account = "--twilio.account-sid (TWILIO_ACCOUNT_SID): "
		wantSID = ": want an Account SID (AC and 32 hexadecimal digits)"
		key     = "--twilio.api-key (TWILIO_API_KEY): "
		wantKey = ": want the SID of an API key (SK and 32 hexadecimal digits)"
	)

	for name, tc := range map[string]struct{ sid, key, want string }{
		"lower case": {
			strings.ToLower(testutil.SID), "", account + "<34-character value, not shown> begins with lower-case ac" + wantSID,
		},
		"blank inside":  {"AC 123", "", account + "<6-character value, not shown> contains white space" + wantSID},
		"double quotes": {`"` + testutil.SID + `"`, "", account + "<36-character value, not shown> is quoted" + wantSID},
		"single quotes": {"'" + testutil.SID + "'", "", account + "<36-character value, not shown> is quoted" + wantSID},
		"API key": {
			testutil.Key, "", account + "<34-character value, not shown> is an API key (SK…), which belongs in " +
				"--twilio.api-key (TWILIO_API_KEY)" + wantSID,
		},
		"short":   {"AC0000", "", account + "<6-character value, not shown> is not 34 characters long" + wantSID},
		"long":    {testutil.SID + "0", "", account + "<35-character value, not shown> is not 34 characters long" + wantSID},
		"colon":   {"AC:" + strings.Repeat("0", 31), "", account + "<34-character value, not shown> contains a colon" + wantSID},
		"control": {"AC\x00", "", account + "<3-character value, not shown> contains characters that cannot be shown" + wantSID},
		"account SID": {
			testutil.SID, testutil.SID, key + "<34-character value, not shown> is an Account SID (AC…), which belongs in " +
				"--twilio.account-sid (TWILIO_ACCOUNT_SID)" + wantKey,
		},
		"lower-case key": {
			testutil.SID, strings.ToLower(testutil.Key), key + "<34-character value, not shown> begins with lower-case sk" + wantKey,
		},
		"short key": {testutil.SID, "SK1", key + "<3-character value, not shown> is not 34 characters long" + wantKey},
	} {
		t.Run(name, func(t *testing.T) {
			own := credentials{
				sid:    input{name: "--twilio.account-sid (TWILIO_ACCOUNT_SID)", value: tc.sid},
				key:    input{name: "--twilio.api-key (TWILIO_API_KEY)", value: tc.key},
				token:  input{name: tokenVariable, value: testutil.Token},
				secret: input{name: secretVariable},
			}

			if tc.key != "" {
				own.secret.value = "s"
			}
			_, err := own.apply(new(Account))
			if err == nil || err.Error() != tc.want {
				t.Errorf("got  %v\nwant %s", err, tc.want)
			}
		})
	}
}

// TestCredentialWarnings checks warnings about what is allowed but looks like a mistake.
func TestCredentialWarnings(t *testing.T) {
	quoted := testutil.WriteFile(t, "token", `"`+testutil.Token+`"`)
	for name, tc := range map[string]struct {
		env  map[string]string
		args []string
		want []string
	}{
		"white space in a token": {
			map[string]string{"TWILIO_AUTH_TOKEN": "a b"}, nil,
			[]string{"TWILIO_AUTH_TOKEN: the secret contains white space: remove what does not belong to it"},
		},
		"quotes around a token": {
			map[string]string{"TWILIO_AUTH_TOKEN": `'a'`}, nil,
			[]string{"TWILIO_AUTH_TOKEN: the secret is quoted: remove what does not belong to it"},
		},
		"quotes in a file": {
			nil, []string{"--twilio.auth-token-file=" + quoted},
			[]string{"--twilio.auth-token-file: the secret is quoted: remove what does not belong to it"},
		},
		"token and key": {
			map[string]string{"TWILIO_AUTH_TOKEN": testutil.Token, "TWILIO_API_KEY": testutil.Key, "TWILIO_API_SECRET": "s"}, nil,
			[]string{"--twilio.api-key (TWILIO_API_KEY): the API key is used, and the Auth Token of TWILIO_AUTH_TOKEN is not: " +
				"remove one of them"},
		},
		"base URL without the version": {
			map[string]string{"TWILIO_AUTH_TOKEN": testutil.Token}, []string{"--twilio.base-url=https://comms.twilio.com"},
			[]string{`account "` + testutil.SID + `": the base URL does not end in /v1: want one such as ` +
				"https://comms.twilio.com/v1"},
		},
		"long interval": {
			map[string]string{"TWILIO_AUTH_TOKEN": testutil.Token}, []string{"--collector.interval=6m"},
			[]string{"--collector.interval: 6m is above 5m: alerts work with up to 30m, but resolve later: see docs/alerts.md"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			env := map[string]string{"TWILIO_ACCOUNT_SID": testutil.SID}
			for variable, value := range tc.env {
				env[variable] = value
			}
			testutil.SetEnv(t, env)
			c, err := Load(tc.args, io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			if got := c.Warnings(); !slices.Equal(got, tc.want) {
				t.Errorf("got  %q\nwant %q", got, tc.want)
			}
		})
	}
}

// TestPathsAreShown checks that a relative path is shown resolved, unless it may be a misplaced secret.
func TestPathsAreShown(t *testing.T) {
	dir := filepath.Dir(testutil.WriteFile(t, "empty", ""))
	for name, tc := range map[string]struct{ file, want string }{
		"with a separator":   {"secrets/nowhere", `"` + filepath.Join(dir, "secrets", "nowhere") + `" (no such file or directory)`},
		"of a file there is": {"empty", `"` + filepath.Join(dir, "empty") + `" (empty file)`},
		"neither":            {"nowhere", "<7-character value, not shown> (no such file or directory)"},
		"certificate":        {"-----BEGIN/KEY", "<14-character value, not shown> (no such file or directory)"},
	} {
		t.Run(name, func(t *testing.T) {
			yml := "accounts:\n- account_sid: " + testutil.SID + "\n  auth_token_file: " + tc.file + "\n"
			file := filepath.Join(dir, "accounts.yml")
			_, _, err := parseConfigFile([]byte(yml), file, testDefaults(t))
			want := file + ":3: auth_token_file: cannot read " + tc.want + ": want a file with the secret"
			if err == nil || err.Error() != want {
				t.Errorf("got  %v\nwant %s", err, want)
			}
		})
	}
}

// TestLostPathsAreShown checks that the path of a file that disappears while the program runs is shown resolved, too.
func TestLostPathsAreShown(t *testing.T) {
	dir := filepath.Dir(testutil.WriteFile(t, "token", "t"))
	t.Chdir(dir)
	accounts, _, err := parseConfigFile(
		[]byte("accounts:\n- {account_sid: "+testutil.SID+", auth_token_file: token}\n"), "accounts.yml", testDefaults(t),
	)
	if err != nil {
		t.Fatal(err)
	}
	testutil.SetEnv(t, map[string]string{"TWILIO_ACCOUNT_SID": testutil.SID})
	fromFlags, err := Load([]string{"--twilio.auth-token-file=token"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove("token"); err != nil {
		t.Fatal(err)
	}

	path := absolute("token")
	for _, a := range []Account{accounts[0], fromFlags.accounts[0]} {
		_, err := a.Password.Fetch(t.Context())
		if err == nil || !strings.Contains(err.Error(), path) || !filepath.IsAbs(path) {
			t.Errorf("no %s in %v", path, err)
		}
	}
}

// TestLongSecrets checks that a secret that is too long is an error at startup, wherever it comes from and even if it
// is not used.
func TestLongSecrets(t *testing.T) {
	longest := strings.Repeat("s", twilio.MaxSecret)
	longestFile := testutil.WriteFile(t, "longest", " "+longest+"\n")
	long := longest + "s"
	longFile := testutil.WriteFile(t, "long", long+"\n")
	inFile := func(credentials string) []string {
		accounts := "accounts:\n- account_sid: " + testutil.SID + "\n  " + credentials + "\n"
		return []string{"--config.file=" + testutil.WriteFile(t, "accounts.yml", accounts)}
	}

	sid := map[string]string{"TWILIO_ACCOUNT_SID": testutil.SID}
	with := func(more ...string) map[string]string {
		env := maps.Clone(sid)
		for pair := range slices.Chunk(more, 2) {
			env[pair[0]] = pair[1]
		}
		return env
	}

	for name, tc := range map[string]struct {
		env  map[string]string
		args []string
		want string // "" if it is taken
	}{
		"longest file":     {sid, []string{"--twilio.auth-token-file=" + longestFile}, ""},
		"longest variable": {with("TWILIO_AUTH_TOKEN", longest), nil, ""},
		"token file":       {sid, []string{"--twilio.auth-token-file=" + longFile}, "--twilio.auth-token-file: "},
		"token variable":   {with("TWILIO_AUTH_TOKEN", long), nil, "TWILIO_AUTH_TOKEN: "},
		"secret file": {
			with("TWILIO_API_KEY", testutil.Key), []string{"--twilio.api-secret-file=" + longFile}, "--twilio.api-secret-file: ",
		},
		"secret variable": {with("TWILIO_API_KEY", testutil.Key, "TWILIO_API_SECRET", long), nil, "TWILIO_API_SECRET: "},
		"unused token": {
			with("TWILIO_API_KEY", testutil.Key, "TWILIO_API_SECRET", "s", "TWILIO_AUTH_TOKEN", long), nil, "TWILIO_AUTH_TOKEN: ",
		},
		"file of accounts": {nil, inFile("auth_token_file: " + longFile), ":3: auth_token_file: "},
		"key in a file": {
			nil, inFile("api_key: " + testutil.Key + "\n  api_secret_file: " + longFile), ":4: api_secret_file: ",
		},
	} {
		t.Run(name, func(t *testing.T) {
			testutil.SetEnv(t, tc.env)
			_, err := Load(tc.args, io.Discard)
			if tc.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}

			want := tc.want + "the secret has 4097 bytes, more than 4096: want the secret and nothing else"
			if err == nil || !strings.HasSuffix(err.Error(), want) {
				t.Fatalf("got  %v\nwant %s", err, want)
			}
			checkError(t, err)
		})
	}
}
