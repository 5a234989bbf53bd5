package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"twilio_operations_exporter/collector"
	"twilio_operations_exporter/internal/testutil"
	"twilio_operations_exporter/twilio"
	"twilio_operations_exporter/twilio/simulator"
)

const notAURL = " is not an http or https URL without credentials, query and fragment, " +
	"such as https://comms.twilio.com/v1"

func TestLoadDefaults(t *testing.T) {
	testutil.SetEnv(
		t, map[string]string{"TWILIO_ACCOUNT_SID": testutil.SID, "TWILIO_AUTH_TOKEN": " " + testutil.Token + "\n"},
	)
	c, err := Load(nil, &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	if len(c.accounts) != 1 || len(c.warnings) != 0 {
		t.Fatalf("accounts %d, warnings %q", len(c.accounts), c.warnings)
	}
	a, flags := c.accounts[0], c.Flags()
	type view struct {
		Account, BaseURL                                 string
		Timeout, Interval, Window, Refresh, Age          time.Duration
		Retries, PageSize, Concurrency, Named            int
		Rate, Staleness                                  float64
		User, Secret                                     string
		Telemetry                                        string
		Offset                                           time.Duration
		Listen                                           string
		Lifecycle, Pprof, Demo, Once, Check, DefaultHTTP bool
	}

	got := view{
		a.Account, a.BaseURL.String(), a.Timeout, a.Interval, a.Window, a.RefreshTimeout, a.MaxAge,
		a.MaxRetries, a.PageSize, a.Concurrency, a.Named, a.RateLimit, a.MaxStaleness,
		a.User, password(t, &a),
		flags.Web.TelemetryPath, flags.Web.ScrapeTimeoutOffset, (*c.toolkit.WebListenAddresses)[0],
		flags.Web.EnableLifecycle, flags.Web.EnablePprof, flags.Demo, flags.Once, flags.Check, a.HTTP == HTTP{},
	}

	want := view{
		testutil.SID,
		"https://comms.twilio.com/v1",
		30 * time.Second,
		time.Minute,
		24 * time.Hour,
		15 * time.Minute,
		10 * time.Minute,
		4,
		1000,
		4,
		3,
		10,
		0.1,
		testutil.SID,
		testutil.Token,
		"/metrics",
		500 * time.Millisecond,
		":9861",
		false,
		false,
		false,
		false,
		false,
		true,
	}

	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("defaults (-want +got):\n%s", d)
	}
}

func password(tb testing.TB, a *Account) string {
	tb.Helper()
	s, err := a.Password.Fetch(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func TestLoadGood(t *testing.T) {
	token := testutil.WriteFile(t, "token", "from-file\n")
	account := map[string]string{"TWILIO_ACCOUNT_SID": testutil.SID, "TWILIO_AUTH_TOKEN": testutil.Token}
	for name, tc := range map[string]struct {
		env   map[string]string
		args  []string
		check func(c *ValidatedConfig) bool
	}{
		"flag over variable": {account, []string{"--twilio.account-sid=" + strings.ToUpper(testutil.SID)}, func(c *ValidatedConfig) bool {
			return c.accounts[0].Account != testutil.SID
		}},
		"token file": {map[string]string{"TWILIO_ACCOUNT_SID": testutil.SID}, []string{"--twilio.auth-token-file", token}, func(c *ValidatedConfig) bool {
			return c.accounts[0].Password == SecretFile(token)
		}},
		"API key instead of token": {
			map[string]string{"TWILIO_ACCOUNT_SID": testutil.SID, "TWILIO_AUTH_TOKEN": testutil.Token, "TWILIO_API_KEY": testutil.Key, "TWILIO_API_SECRET": "s"}, nil,
			func(c *ValidatedConfig) bool {
				a := c.accounts[0]
				return a.User == testutil.Key && password(t, &a) == "s" && a.Account == testutil.SID
			},
		},
		"interval 0s": {
			account, []string{"--collector.interval=0s"}, func(c *ValidatedConfig) bool { return c.accounts[0].Interval == 0 },
		},
		"window in days": {
			account, []string{"--collector.window=7d"},
			func(c *ValidatedConfig) bool { return c.accounts[0].Window == 168*time.Hour },
		},
		"all at their least": {
			account, []string{
				"--collector.window=1m", "--collector.max-staleness=0", "--twilio.rate-limit=0", "--twilio.max-retries=0",
				"--collector.page-size=1", "--collector.named-operations=0", "--collector.failure-samples=0",
			},
			func(c *ValidatedConfig) bool {
				a := c.accounts[0]
				return a.Window == time.Minute && a.MaxStaleness == 0 && a.RateLimit == 0 && a.MaxRetries == 0 &&
					a.PageSize == 1 && a.Named == 0 && a.Samples == 0
			},
		},
		"all at their most": {
			account, []string{
				"--collector.window=168h", "--collector.interval=168h", "--collector.max-staleness=1",
				"--collector.page-size=1000", "--collector.named-operations=20", "--collector.failure-samples=20",
			},
			func(c *ValidatedConfig) bool {
				a := c.accounts[0]
				return a.Window == 168*time.Hour && a.Interval == a.Window && a.MaxStaleness == 1 &&
					a.PageSize == 1000 && a.Named == 20 && a.Samples == 20
			},
		},
		"window in weeks": {
			account, []string{"--collector.window=1w"},
			func(c *ValidatedConfig) bool { return c.accounts[0].Window == 168*time.Hour },
		},
		"window as Go has it": {
			account, []string{"--collector.window=1.5h"},
			func(c *ValidatedConfig) bool { return c.accounts[0].Window == 90*time.Minute },
		},
		"no named operations": {
			account, []string{"--collector.named-operations=0"}, func(c *ValidatedConfig) bool { return c.accounts[0].Named == 0 },
		},
		"no limit": {
			account, []string{"--twilio.rate-limit=0"}, func(c *ValidatedConfig) bool { return c.accounts[0].RateLimit == 0 },
		},
		"odd SID": {
			map[string]string{"TWILIO_ACCOUNT_SID": "AC" + strings.Repeat("x", 32), "TWILIO_AUTH_TOKEN": "t"}, nil,
			func(c *ValidatedConfig) bool {
				return slices.Equal(c.warnings, []string{"--twilio.account-sid (TWILIO_ACCOUNT_SID): <34-character value, not shown> " +
					"contains characters that are not hexadecimal digits: want an Account SID (AC and 32 hexadecimal digits)"})
			},
		},
		"odd key": {
			map[string]string{"TWILIO_ACCOUNT_SID": testutil.SID, "TWILIO_API_KEY": "SK" + strings.Repeat("x", 32), "TWILIO_API_SECRET": "t"}, nil,
			func(c *ValidatedConfig) bool {
				return slices.Equal(c.warnings, []string{"--twilio.api-key (TWILIO_API_KEY): <34-character value, not shown> " +
					"contains characters that are not hexadecimal digits: want the SID of an API key (SK and 32 hexadecimal digits)"})
			},
		},
		"clear text": {
			account, []string{"--twilio.base-url=http://proxy.example/v1"},
			func(c *ValidatedConfig) bool { return len(c.warnings) == 1 },
		},
		"clear text, loopback": {
			account, []string{"--twilio.base-url=http://127.0.0.1:80/v1"},
			func(c *ValidatedConfig) bool { return len(c.warnings) == 0 },
		},
		"several addresses": {
			account, []string{"--web.listen-address=:1", "--web.listen-address=[::1]:2"},
			func(c *ValidatedConfig) bool { return len(*c.toolkit.WebListenAddresses) == 2 },
		},
		"one port of two hosts": {
			account, []string{"--web.listen-address=10.0.0.1:1", "--web.health-listen-address=127.0.0.1:1"},
			func(c *ValidatedConfig) bool { return c.flags.Web.HealthListenAddress == "127.0.0.1:1" },
		},
		"any free port, twice": {
			account, []string{"--web.listen-address=:0", "--web.health-listen-address=:0"},
			func(c *ValidatedConfig) bool { return c.flags.Web.HealthListenAddress == ":0" },
		},
		"port of an address that is not used": {
			account, []string{"--web.systemd-socket", "--web.health-listen-address=:9861"},
			func(c *ValidatedConfig) bool { return c.flags.Web.HealthListenAddress == ":9861" },
		},
		"demo": {nil, []string{"--demo"}, func(c *ValidatedConfig) bool {
			a := c.accounts[0]
			return a.Interval == 5*time.Second && a.Account == "demo" && a.RateLimit == 0 &&
				a.Tags == collector.OperationTags{"campaign", "team"} && len(c.accounts) == 2
		}},
		"demo, variables": {
			map[string]string{
				"TWILIO_ACCOUNT_SID": testutil.SID, "TWILIO_AUTH_TOKEN": testutil.Token, "TWILIO_API_KEY": testutil.Key,
				"TWILIO_API_SECRET": "s", "TWILIO_BASE_URL": "nonsense", "TWILIO_SHARD_TOTAL": "3",
			},
			[]string{"--demo"}, func(c *ValidatedConfig) bool {
				return c.accounts[0].Account == "demo" && c.accounts[0].User == DemoAccountSID &&
					c.accounts[0].BaseURL.Host == "comms.twilio.com" && c.flags.Shard.Total == 1 && slices.Equal(c.warnings, []string{
					"--demo has its own account and API, ignoring TWILIO_AUTH_TOKEN, TWILIO_API_SECRET, TWILIO_ACCOUNT_SID, " +
						"TWILIO_API_KEY, TWILIO_BASE_URL, TWILIO_SHARD_TOTAL",
				})
			},
		},
		"demo, flag beside its variable": {
			map[string]string{"TWILIO_API_KEY": testutil.Key, "TWILIO_SHARD_TOTAL": "3", "TWILIO_SHARD_INDEX": "2"},
			[]string{"--demo", "--shard.total=1"}, func(c *ValidatedConfig) bool {
				return c.flags.Shard == Shard{0, 1} && slices.Equal(c.warnings, []string{
					"--demo has its own account and API, ignoring TWILIO_API_KEY, TWILIO_SHARD_INDEX",
				})
			},
		},
		"demo, settings given": {
			nil, []string{
				"--demo", "--collector.interval=1m", "--twilio.rate-limit=5", "--collector.operation-tags=team",
				"--twilio.resource=messages",
			},
			func(c *ValidatedConfig) bool {
				a := c.accounts[0]
				return a.Interval == time.Minute && a.RateLimit == 5 && a.Tags == collector.OperationTags{"team"} &&
					len(c.accounts) == 1
			},
		},
		"line feeds around variables": {
			map[string]string{
				"TWILIO_ACCOUNT_SID": testutil.SID + "\n", "TWILIO_AUTH_TOKEN": testutil.Token + "\n",
				"TWILIO_BASE_URL": "https://comms.twilio.com/v1\r\n", "TWILIO_SHARD_TOTAL": " 1\n", "TWILIO_SHARD_INDEX": "\t0",
			}, nil,
			func(c *ValidatedConfig) bool {
				a := c.accounts[0]
				return a.Account == testutil.SID && a.User == testutil.SID && password(t, &a) == testutil.Token &&
					a.BaseURL.String() == "https://comms.twilio.com/v1" && c.flags.Shard == Shard{0, 1} && len(c.warnings) == 0
			},
		},
		"line feeds around an API key": {
			map[string]string{
				"TWILIO_ACCOUNT_SID": testutil.SID, "TWILIO_API_KEY": testutil.Key + "\n", "TWILIO_API_SECRET": "s\n",
			}, nil,
			func(c *ValidatedConfig) bool {
				a := c.accounts[0]
				return a.User == testutil.Key && password(t, &a) == "s" && len(c.warnings) == 0
			},
		},
		"blank variables": {
			map[string]string{
				"TWILIO_ACCOUNT_SID": testutil.SID, "TWILIO_AUTH_TOKEN": testutil.Token, "TWILIO_API_KEY": " \n",
				"TWILIO_BASE_URL": "\n", "TWILIO_SHARD_TOTAL": " ",
			}, nil,
			func(c *ValidatedConfig) bool {
				a := c.accounts[0]
				return a.User == testutil.SID && a.BaseURL.Host == "comms.twilio.com" && c.flags.Shard.Total == 1
			},
		},
		"timeout offset of 0": {
			account, []string{"--web.scrape-timeout-offset=0s"},
			func(c *ValidatedConfig) bool { return c.flags.Web.ScrapeTimeoutOffset == 0 },
		},
		"nested telemetry path": {
			account, []string{"--web.telemetry-path=/a/b"},
			func(c *ValidatedConfig) bool { return c.flags.Web.TelemetryPath == "/a/b" },
		},
	} {
		t.Run(name, func(t *testing.T) {
			testutil.SetEnv(t, tc.env)
			c, err := Load(tc.args, &bytes.Buffer{})
			if err != nil {
				t.Fatal(err)
			}
			if !tc.check(c) {
				t.Errorf("%+v, warnings %q", c.accounts[0].Settings, c.warnings)
			}
		})
	}
}

// TestImmutable checks that nobody can change a configuration.
func TestImmutable(t *testing.T) {
	token := testutil.WriteFile(t, "token", testutil.Token)
	file := filepath.Join(filepath.Dir(token), "accounts.yml")
	yml := "accounts:\n- {account_sid: " + testutil.SID + ", auth_token_file: token, proxy_url: \"http://proxy:1\"}\n"
	if err := os.WriteFile(file, []byte(yml), 0o600); err != nil {
		t.Fatal(err)
	}
	testutil.SetEnv(t, nil)
	c, err := Load([]string{"--config.file", file}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	a := c.Accounts()
	a[0].Account, a[0].Interval = "other", 0
	a[0].BaseURL.Host, a[0].HTTP.Proxy, a[0].User = "other", "other", "other"
	flags := c.Toolkit()
	(*flags.WebListenAddresses)[0], *flags.WebConfigFile, *flags.WebSystemdSocket = "other", "other", true
	c.WithDemoURL(&url.URL{Host: "other"})

	b := c.Accounts()[0]
	if b.Account != testutil.SID || b.Interval != time.Minute ||
		b.BaseURL.Host != "comms.twilio.com" || b.HTTP.Proxy != "http://proxy:1" || b.User != testutil.SID {
		t.Errorf("the account has changed: %+v", b)
	}

	flags = c.Toolkit()
	if (*flags.WebListenAddresses)[0] != ":9861" || *flags.WebConfigFile != "" || *flags.WebSystemdSocket {
		t.Errorf("exporter-toolkit's settings have changed: %q", *flags.WebListenAddresses)
	}
	again, err := c.Reload()
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(again.Accounts, c.Accounts()) {
		t.Errorf("a reload of the same file differs: %+v", again.Accounts)
	}
}

func TestWithDemoURL(t *testing.T) {
	testutil.SetEnv(t, nil)
	c, err := Load([]string{"--demo"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	c = c.WithDemoURL(&url.URL{Scheme: "http", Host: "127.0.0.1:1", Path: "/v1"})
	reloaded, err := c.Reload()
	if err != nil {
		t.Fatal(err)
	}

	for _, a := range [][]Account{c.Accounts(), reloaded.Accounts} {
		if len(a) != 2 || a[0].Resource != twilio.Messages || a[1].Resource != twilio.Emails {
			t.Fatalf("%+v", a)
		}
		for i := range a {
			if a[i].BaseURL.String() != "http://127.0.0.1:1/v1" || a[i].User != simulator.DemoAccountSID ||
				a[i].AccountSID != simulator.DemoAccountSID || password(t, &a[i]) != simulator.DemoAuthToken {
				t.Errorf("%+v", a[i])
			}
		}
	}
}

// TestLoadErrors checks errors word by word.
func TestLoadErrors(t *testing.T) {
	empty, token := testutil.WriteFile(t, "empty", " \n"), testutil.WriteFile(t, "token", testutil.Token)
	missing := filepath.Join(t.TempDir(), "missing")
	file := testutil.WriteFile(t, "accounts.yml", "accounts: []\n")
	short := testutil.WriteFile(t, "accounts.yml",
		"accounts:\n- account_sid: "+testutil.SID+"\n  window: 1h\n  auth_token_file: "+token+"\n")
	webConfig := testutil.WriteFile(t, "web.yml", "tls_server_config: {cert_file: nowhere, key_file: nowhere}\n")

	webKeys := testutil.WriteFile(t, "web.yml", "foo: 1\nbar: 2\n")
	webKind := testutil.WriteFile(t, "web.yml", "basic_auth_users: hunter2\n")
	webPassword := testutil.WriteFile(t, "web.yml",
		"basic_auth_users:\n  prom: $2y$04$L7J0m4pJ5bQnRv8m4b6mUe2y9wB0yQe9mC3mYQH9n3Q2b5u0m8bqG\n  me: hunter2\n")
	webSyntax := testutil.WriteFile(t, "web.yml", "foo: [")

	const sid = "--twilio.account-sid (TWILIO_ACCOUNT_SID)"
	account := map[string]string{"TWILIO_ACCOUNT_SID": testutil.SID, "TWILIO_AUTH_TOKEN": testutil.Token}
	for name, tc := range map[string]struct {
		env  map[string]string
		args []string
		want string
	}{
		"unknown flag": {account, []string{"--bogus"}, `unknown long flag '--bogus' (--help lists all flags)`},
		"flag cut short": {
			account, []string{"--interval=60"},
			`unknown long flag '--interval': did you mean --collector.interval? (--help lists all flags)`,
		},
		"flag with a letter wrong": {
			account, []string{"--log.level=debug", "--collector.windw=1h"},
			`unknown long flag '--collector.windw': did you mean --collector.window? (--help lists all flags)`,
		},
		"flag with a single dash": {
			account, []string{"-demo"}, `unknown short flag '-d': did you mean --demo? (--help lists all flags)`,
		},
		"argument": {
			account, []string{"scrape"},
			`unexpected argument <6-character value, not shown>: want flags only, or the command healthcheck (--help lists all flags)`,
		},
		"argument that names a flag": {
			account, []string{"demo"}, `unexpected argument demo: did you mean --demo? (--help lists all flags)`,
		},
		"argument that names a file": {
			account, []string{"@" + token},
			fmt.Sprintf(`unexpected argument <%d-character value, not shown>: want flags only, or the command healthcheck (--help lists all flags)`,
				len(token)+1),
		},
		"value of a flag that has none": {
			account, []string{"--once=yes"},
			`unexpected argument <3-character value, not shown>: want flags only, or the command healthcheck (--help lists all flags)`,
		},
		"too many arguments": {
			account, []string{"healthcheck", "localhost", "hunter2"},
			`too many arguments: want flags only, or healthcheck and one address (--help lists all flags)`,
		},
		"flag without": {
			account, []string{"--log.level"}, `expected argument for flag '--log.level' (--help lists all flags)`,
		},
		"twice": {
			account, []string{"--log.level=info", "--log.level=warn"},
			`flag 'log.level' cannot be repeated (--help lists all flags)`,
		},
		"secret as a flag": {
			account, []string{"--twilio.auth-token=x"},
			`unknown long flag '--twilio.auth-token' (--help lists all flags); secrets are not accepted as flag values: use --twilio.auth-token-file or TWILIO_AUTH_TOKEN`,
		},
		"secret as a flag2": {
			account, []string{"--twilio.api-secret", "x"},
			`unknown long flag '--twilio.api-secret' (--help lists all flags); secrets are not accepted as flag values: use --twilio.api-secret-file or TWILIO_API_SECRET`,
		},

		"nothing": {nil, nil, sid + `: no account configured: set an Account SID (AC…), or use --config.file or --demo`},
		"only a SID": {
			map[string]string{"TWILIO_ACCOUNT_SID": testutil.SID}, nil,
			sid + `: no credentials: set --twilio.auth-token-file or TWILIO_AUTH_TOKEN, or an API key and its secret`,
		},
		"blank token": {
			map[string]string{"TWILIO_ACCOUNT_SID": testutil.SID, "TWILIO_AUTH_TOKEN": " \n"}, nil,
			sid + `: no credentials: set --twilio.auth-token-file or TWILIO_AUTH_TOKEN, or an API key and its secret`,
		},
		"SID, colon": {
			map[string]string{"TWILIO_ACCOUNT_SID": "a:b", "TWILIO_AUTH_TOKEN": "t"}, nil,
			sid + `: <3-character value, not shown> does not begin with AC: want an Account SID (AC and 32 hexadecimal digits)`,
		},
		"SID, blank": {
			map[string]string{"TWILIO_ACCOUNT_SID": "AC 1", "TWILIO_AUTH_TOKEN": "t"}, nil,
			sid + `: <4-character value, not shown> contains white space: want an Account SID (AC and 32 hexadecimal digits)`,
		},
		"SID, line": {
			map[string]string{"TWILIO_ACCOUNT_SID": "A\nC", "TWILIO_AUTH_TOKEN": "t"}, nil,
			sid + `: <3-character value, not shown> contains white space: want an Account SID (AC and 32 hexadecimal digits)`,
		},
		"key, colon": {
			map[string]string{"TWILIO_ACCOUNT_SID": testutil.SID, "TWILIO_API_KEY": "S:K", "TWILIO_API_SECRET": "t"}, nil,
			`--twilio.api-key (TWILIO_API_KEY): <3-character value, not shown> does not begin with SK: want the SID of an API key (SK and 32 hexadecimal digits)`,
		},

		"token both ways": {
			account, []string{"--twilio.auth-token-file", token},
			`--twilio.auth-token-file and TWILIO_AUTH_TOKEN both set the same secret: remove one of them`,
		},
		"secret both ways": {
			map[string]string{"TWILIO_ACCOUNT_SID": testutil.SID, "TWILIO_API_KEY": testutil.Key, "TWILIO_API_SECRET": "x"},
			[]string{"--twilio.api-secret-file", token},
			`--twilio.api-secret-file and TWILIO_API_SECRET both set the same secret: remove one of them`,
		},
		"key without secret": {
			map[string]string{"TWILIO_ACCOUNT_SID": testutil.SID, "TWILIO_AUTH_TOKEN": "x", "TWILIO_API_KEY": testutil.Key}, nil,
			`--twilio.api-key (TWILIO_API_KEY): the API key's secret is missing: set --twilio.api-secret-file or TWILIO_API_SECRET`,
		},
		"secret without key": {
			map[string]string{"TWILIO_ACCOUNT_SID": testutil.SID, "TWILIO_API_SECRET": "x"}, nil,
			`TWILIO_API_SECRET: API secret without an API key: set --twilio.api-key (TWILIO_API_KEY)`,
		},
		"file missing": {
			map[string]string{"TWILIO_ACCOUNT_SID": testutil.SID}, []string{"--twilio.auth-token-file", missing},
			`--twilio.auth-token-file: cannot read "` + missing + `" (no such file or directory): want a file with the secret`,
		},
		"file empty": {
			map[string]string{"TWILIO_ACCOUNT_SID": testutil.SID}, []string{"--twilio.auth-token-file", empty},
			`--twilio.auth-token-file: cannot read "` + empty + `" (empty file): want a file with the secret`,
		},
		"unused file empty": {
			map[string]string{"TWILIO_ACCOUNT_SID": testutil.SID, "TWILIO_API_KEY": testutil.Key, "TWILIO_API_SECRET": "x"},
			[]string{"--twilio.auth-token-file", empty},
			`--twilio.auth-token-file: cannot read "` + empty + `" (empty file): want a file with the secret`,
		},

		"base URL, scheme": {
			account, []string{"--twilio.base-url=ftp://x"},
			`--twilio.base-url (TWILIO_BASE_URL): <7-character value, not shown>` + notAURL,
		},
		"base URL, host": {
			account, []string{"--twilio.base-url=https:///v1"},
			`--twilio.base-url (TWILIO_BASE_URL): <11-character value, not shown>` + notAURL,
		},
		"base URL, port": {
			account, []string{"--twilio.base-url=https://h:99999"},
			`--twilio.base-url (TWILIO_BASE_URL): <15-character value, not shown>` + notAURL,
		},
		"base URL, user": {
			account, []string{"--twilio.base-url=https://me:hunter2@h/v1"},
			`--twilio.base-url (TWILIO_BASE_URL): <23-character value, not shown>` + notAURL,
		},
		"base URL, query": {
			account, []string{"--twilio.base-url=https://h/v1?"},
			`--twilio.base-url (TWILIO_BASE_URL): <13-character value, not shown>` + notAURL,
		},
		"base URL, fragment": {
			account, []string{"--twilio.base-url=https://h/v1#x"},
			`--twilio.base-url (TWILIO_BASE_URL): <14-character value, not shown>` + notAURL,
		},
		"base URL, variable": {
			map[string]string{"TWILIO_ACCOUNT_SID": testutil.SID, "TWILIO_AUTH_TOKEN": "x", "TWILIO_BASE_URL": "nonsense"}, nil,
			`--twilio.base-url (TWILIO_BASE_URL): <8-character value, not shown>` + notAURL,
		},

		"timeout 0": {
			account, []string{"--twilio.timeout=0s"}, `--twilio.timeout: "0s" is not a duration above 0, such as 30s`,
		},
		"timeout negative": {
			account, []string{"--twilio.timeout=-1s"}, `--twilio.timeout: "-1s" is not a duration above 0, such as 30s`,
		},
		"timeout, no unit": {
			account, []string{"--twilio.timeout=30"}, `--twilio.timeout: "30" is not a duration above 0, such as 30s: add a unit: 30s`,
		},
		"window, no unit": {
			account, []string{"--collector.window=24"},
			`--collector.window: "24" is not a duration from 1m to 168h (Twilio keeps operations for 7 days): add a unit: 24h`,
		},
		"window, no unit makes it good": {
			account, []string{"--collector.window=-3"},
			`--collector.window: "-3" is not a duration from 1m to 168h (Twilio keeps operations for 7 days)`,
		},
		"timeout, blank": {
			account, []string{"--twilio.timeout="}, `--twilio.timeout: "" is not a duration above 0, such as 30s`,
		},
		"retries": {
			account, []string{"--twilio.max-retries=-1"}, `--twilio.max-retries: "-1" is not a whole number from 0 to 100`,
		},
		"retries, fraction": {
			account, []string{"--twilio.max-retries=1.5"}, `--twilio.max-retries: "1.5" is not a whole number from 0 to 100`,
		},
		"rate": {
			account, []string{"--twilio.rate-limit=-1"},
			`--twilio.rate-limit: "-1" is not a number of requests a second, 0 (no limit) or more`,
		},
		"rate NaN": {
			account, []string{"--twilio.rate-limit=NaN"},
			`--twilio.rate-limit: "NaN" is not a number of requests a second, 0 (no limit) or more`,
		},
		"rate infinite": {
			account, []string{"--twilio.rate-limit=Inf"},
			`--twilio.rate-limit: "Inf" is not a number of requests a second, 0 (no limit) or more`,
		},
		"interval negative": {
			account, []string{"--collector.interval=-1m"},
			`--collector.interval: "-1m" is not a duration of at least 100ms, such as 1m, or 0s to refresh on each scrape`,
		},
		"interval tiny": {
			account, []string{"--collector.interval=1ns"},
			`--collector.interval: "1ns" is not a duration of at least 100ms, such as 1m, or 0s to refresh on each scrape`,
		},
		"named operations": {
			account, []string{"--collector.named-operations=21"},
			`--collector.named-operations: "21" is not a whole number from 0 to 20`,
		},
		"window short": {
			account, []string{"--collector.window=59s"},
			`--collector.window: "59s" is not a duration from 1m to 168h (Twilio keeps operations for 7 days)`,
		},
		"window long": {
			account, []string{"--collector.window=8d"},
			`--collector.window: "8d" is not a duration from 1m to 168h (Twilio keeps operations for 7 days)`,
		},
		"page size 0": {
			account, []string{"--collector.page-size=0"}, `--collector.page-size: "0" is not a whole number from 1 to 1000`,
		},
		"page size 1001": {
			account, []string{"--collector.page-size=1001"},
			`--collector.page-size: "1001" is not a whole number from 1 to 1000`,
		},
		"concurrency": {
			account, []string{"--collector.concurrency=0"}, `--collector.concurrency: "0" is not a whole number from 1 to 1000`,
		},
		"staleness": {
			account, []string{"--collector.max-staleness=1.1"}, `--collector.max-staleness: "1.1" is not a number from 0 to 1`,
		},
		"staleness NaN": {
			account, []string{"--collector.max-staleness=nan"}, `--collector.max-staleness: "nan" is not a number from 0 to 1`,
		},
		"refresh timeout": {
			account, []string{"--collector.refresh-timeout=0"},
			`--collector.refresh-timeout: "0" is not a duration above 0, such as 15m`,
		},
		"max age": {
			account, []string{"--collector.max-age=0s"}, `--collector.max-age: "0s" is not a duration above 0, such as 10m`,
		},
		"offset": {
			account, []string{"--web.scrape-timeout-offset=-1s"},
			`--web.scrape-timeout-offset: "-1s" is not a duration of 0s or more, such as 500ms`,
		},
		"level": {
			account, []string{"--log.level=loud"}, `--log.level: "loud" is not one of: debug, info, warn, error`,
		},
		"format": {account, []string{"--log.format=xml"}, `--log.format: "xml" is not one of: logfmt, json`},
		"listen": {
			account, []string{"--web.listen-address=9861"},
			`--web.listen-address: "9861" is not an address to listen on, such as :9861 or 127.0.0.1:9861`,
		},
		"listen, port": {
			account, []string{"--web.listen-address=:98610"},
			`--web.listen-address: ":98610" is not an address to listen on, such as :9861 or 127.0.0.1:9861`,
		},
		"health address": {
			account, []string{"--web.health-listen-address=9862"},
			`--web.health-listen-address: "9862" is not an address to listen on, such as :9862 or 127.0.0.1:9862`,
		},
		"health address, vsock": {
			account, []string{"--web.health-listen-address=vsock://:9862"},
			`--web.health-listen-address: "vsock://:9862" is not an address to listen on, such as :9862 or 127.0.0.1:9862`,
		},
		"port used twice": {
			account, []string{"--web.listen-address=:9861", "--web.health-listen-address=:9861"},
			`--web.health-listen-address: ":9861" has the port of --web.listen-address ":9861": choose another port`,
		},
		"port used twice, every host": {
			account, []string{"--web.listen-address=127.0.0.1:9861", "--web.health-listen-address=[::]:9861"},
			`--web.health-listen-address: "[::]:9861" has the port of --web.listen-address "127.0.0.1:9861": choose another port`,
		},
		"port used twice, one flag": {
			account, []string{"--web.listen-address=10.0.0.1:9861", "--web.listen-address=10.0.0.1:9861"},
			`--web.listen-address: "10.0.0.1:9861" has the port of --web.listen-address "10.0.0.1:9861": choose another port`,
		},
		"web config": {
			account, []string{"--web.config.file", webConfig},
			`--web.config.file: ` + webConfig + `:1: cert_file: cannot read "` + filepath.Join(filepath.Dir(webConfig), "nowhere") +
				`" (no such file or directory): want a PEM file`,
		},
		"interval above the window": {
			account, []string{"--collector.interval=2h", "--collector.window=1h"},
			`--collector.interval: 2h is longer than the window, which is 1h: lower the interval or raise the window`,
		},
		"file with a password": {
			nil, []string{"--config.file=https://me:hunter2@h/accounts.yml"},
			`--config.file: cannot read "…@h/accounts.yml" (no such file or directory): want a YAML file of accounts`,
		},
		"web config, plain password": {
			account, []string{"--web.config.file", webPassword},
			`--web.config.file: ` + webPassword + `:3: the password of user "me" is not a bcrypt hash: make one with htpasswd -nBC 10 USER`,
		},
		"web config, missing": {
			account, []string{"--web.config.file", missing},
			`--web.config.file: cannot read "` + missing + `" (no such file or directory): want a YAML file`,
		},
		"web config, key": {
			account, []string{"--web.config.file", webKeys},
			`--web.config.file: ` + webKeys + `:1: unknown key "foo" (--help links the documentation)`,
		},
		"web config, kind": {
			account, []string{"--web.config.file", webKind}, `--web.config.file: ` + webKind + `:1: value of an unexpected type (--help links the documentation)`,
		},
		"web config, syntax": {
			account, []string{"--web.config.file", webSyntax},
			`--web.config.file: ` + webSyntax + `:1: not valid YAML: did not find expected node content`,
		},
		"telemetry, relative": {
			account, []string{"--web.telemetry-path=metrics"},
			`--web.telemetry-path: "metrics" is not a plain path that begins with a slash, such as /metrics`,
		},
		"telemetry, pattern": {
			account, []string{"--web.telemetry-path=/{x"},
			`--web.telemetry-path: "/{x" is not a plain path that begins with a slash, such as /metrics`,
		},
		"telemetry, dots": {
			account, []string{"--web.telemetry-path=/a/../b"},
			`--web.telemetry-path: "/a/../b" is not a plain path that begins with a slash, such as /metrics`,
		},
		"telemetry, taken": {
			account, []string{"--web.telemetry-path=/-/ready"},
			`--web.telemetry-path: "/-/ready" is not available: the exporter serves /- itself, choose another, such as /metrics`,
		},
		"telemetry, probe": {
			account, []string{"--web.telemetry-path=/probe"},
			`--web.telemetry-path: "/probe" is not available: the exporter serves /probe itself, choose another, such as /metrics`,
		},

		"file and SID": {
			account, []string{"--config.file", file},
			`--config.file and ` + sid + ` are mutually exclusive: the file defines the accounts, remove one of them`,
		},
		"file and token": {
			map[string]string{"TWILIO_AUTH_TOKEN": "x"}, []string{"--config.file", file},
			`--config.file and TWILIO_AUTH_TOKEN are mutually exclusive: the file defines the accounts, remove one of them`,
		},
		"file and secret": {
			map[string]string{"TWILIO_API_SECRET": "x"}, []string{"--config.file", file},
			`--config.file and TWILIO_API_SECRET are mutually exclusive: the file defines the accounts, remove one of them`,
		},
		"file and key": {
			nil, []string{"--config.file", file, "--twilio.api-key=x"},
			`--config.file and --twilio.api-key (TWILIO_API_KEY) are mutually exclusive: the file defines the accounts, remove one of them`,
		},
		"file missing yaml": {
			nil, []string{"--config.file", missing},
			`--config.file: cannot read "` + missing + `" (no such file or directory): want a YAML file of accounts`,
		},
		"interval of the flag above the window of an account": {
			nil, []string{"--config.file", short, "--collector.interval=2h"},
			short + `:2: --collector.interval: 2h is longer than the window, which is 1h: lower the interval or raise the window`,
		},
		"auto-reload without file": {
			account, []string{"--config.auto-reload"}, `--config.auto-reload: there is no file to reload: use --config.file`,
		},
		"auto-reload too often": {
			account, []string{"--config.auto-reload-interval=1ms"},
			`--config.auto-reload-interval: "1ms" is not a duration of at least 100ms, such as 30s`,
		},
		"shards without file": {
			account, []string{"--shard.total=2"},
			`--shard.total (TWILIO_SHARD_TOTAL): more than one shard requires several accounts: use --config.file`,
		},
		"no shards": {
			account, []string{"--shard.total=0"},
			`--shard.total (TWILIO_SHARD_TOTAL): "0" is not a whole number from 1 to 1000`,
		},
		"shard index": {
			nil, []string{"--config.file", file, "--shard.total=3", "--shard.index=3"},
			`--shard.index (TWILIO_SHARD_INDEX): "3" is not a whole number from 0 that is less than --shard.total (TWILIO_SHARD_TOTAL), which is 3`,
		},
		"shard index without total": {
			map[string]string{"TWILIO_SHARD_INDEX": "1"}, nil,
			`--shard.index (TWILIO_SHARD_INDEX): "1" is not a whole number from 0 that is less than --shard.total (TWILIO_SHARD_TOTAL), which is 1`,
		},
		"demo and file": {
			nil, []string{"--demo", "--config.file", file}, `--demo and --config.file are mutually exclusive: use one of them`,
		},
		"demo and account": {
			nil, []string{"--demo", "--twilio.account-sid=" + testutil.SID},
			`--demo and ` + sid + ` are mutually exclusive: the demo has its own account, remove one of them`,
		},
		"demo and URL": {
			nil, []string{"--demo", "--twilio.base-url=http://x"},
			`--demo and --twilio.base-url are mutually exclusive: the demo has its own API, remove one of them`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			testutil.SetEnv(t, tc.env)
			_, err := Load(tc.args, &bytes.Buffer{})
			if err == nil {
				t.Fatal("no error")
			}
			if err.Error() != tc.want {
				t.Errorf("got  %s\nwant %s", err, tc.want)
			}
		})
	}
}

func TestLoadQuestions(t *testing.T) {
	for name, tc := range map[string]struct {
		arg  string
		want []string
	}{
		"version": {"--version", []string{"twilio_operations_exporter, version ", "go version: "}},
		"help": {
			"--help", []string{`--collector.window="24h"`, "--[no-]demo", "$TWILIO_API_SECRET", "($TWILIO_BASE_URL)"},
		},
		"short": {"-h", []string{"--web.listen-address"}},
	} {
		t.Run(name, func(t *testing.T) {
			testutil.SetEnv(t, nil)
			var out bytes.Buffer
			if _, err := Load([]string{tc.arg}, &out); !errors.Is(err, ErrHelp) {
				t.Fatalf("error %v", err)
			}
			for _, want := range tc.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("%q is missing in\n%s", want, out.String())
				}
			}
		})
	}
}

// TestLoadQuestionsWithoutReader checks that an answer that cannot be written is an error and not a panic.
func TestLoadQuestionsWithoutReader(t *testing.T) {
	reader, writer := io.Pipe()
	_ = reader.Close()
	for _, arg := range []string{"--help", "-h", "--version"} {
		if _, err := Load([]string{arg}, writer); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("%s: error %v, want %v", arg, err, io.ErrClosedPipe)
		}
	}
}

// testDefaults returns the settings of accounts without flags.
func testDefaults(tb testing.TB) *Account {
	tb.Helper()
	_, o := newApplication(io.Discard)
	for _, s := range settings {
		o.settings[s.flag].value = s.defaultValue
	}
	if err := o.validateSettings(); err != nil {
		tb.Fatal(err)
	}
	return &o.config.defaults
}

func TestConfigFile(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"one": "token-1", "two": "secret-2"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	yml := `accounts:
  - name: <script>alert(1)</script>
    account_sid: ` + testutil.SID + `
    auth_token_file: one
    base_url: http://127.0.0.1:1/v1
    window: 7d
    interval: 0s
    page_size: 50
    concurrency: 2
    rate_limit: 0.5
    max_staleness: 0
    proxy_url: http://me:pass@proxy.example:3128
    tls_config: {insecure_skip_verify: true}
  - &second
    account_sid: ACffffffffffffffffffffffffffffffff
    api_key: ` + testutil.Key + `
    api_secret_file: ` + filepath.Join(dir, "two") + `
    window:
  - <<: *second
    name: third
  - <<: *second
    name: fourth
    resource: emails
`

	accounts, warnings, err := parseConfigFile([]byte(yml), filepath.Join(dir, "accounts.yml"), testDefaults(t))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{
		filepath.Join(dir, "accounts.yml") + ":13: tls_config: insecure_skip_verify sends the credentials to whoever answers",
		filepath.Join(dir, "accounts.yml") + `:15: account_sid: also used by account "ACffffffffffffffffffffffffffffffff": ` +
			"both read the same messages",
	}; len(accounts) != 4 || !slices.Equal(warnings, want) {
		t.Fatalf("accounts %d, warnings %q", len(accounts), warnings)
	}

	a := accounts[0]
	want := testDefaults(t).Settings
	want.Account, want.AccountSID = "<script>alert(1)</script>", testutil.SID
	want.Window, want.Interval, want.PageSize, want.Concurrency, want.MaxStaleness = 168*time.Hour, 0, 50, 2, 0
	if d := cmp.Diff(want, a.Settings); d != "" {
		t.Errorf("settings (-want +got):\n%s", d)
	}
	if a.RateLimit != 0.5 || a.BaseURL.Port() != "1" || a.Password != SecretFile(filepath.Join(dir, "one")) ||
		a.HTTP.Proxy != "http://me:pass@proxy.example:3128" || !a.HTTP.TLS.InsecureSkipVerify {
		t.Errorf("%+v", a)
	}

	b, c := accounts[1], accounts[2]
	if b.Account != "ACffffffffffffffffffffffffffffffff" || b.User != testutil.Key || b.Window != 24*time.Hour ||
		b.HTTP != (HTTP{}) {
		t.Errorf("%+v", b)
	}

	if c.Account != "third" || c.User != testutil.Key {
		t.Errorf("%+v", c)
	}
}

// TestConfigFileBlanks checks that white space around values is ignored.
func TestConfigFileBlanks(t *testing.T) {
	token := testutil.WriteFile(t, "token", testutil.Token)
	yml := `accounts:
- name: " marketing\n"
  account_sid: "` + testutil.SID + `\n"
  auth_token_file: " token "
  base_url: |
    https://proxy.example/v1
  window: " 2h"
  proxy_url: "http://proxy.example:3128\r\n"
  tls_config:
    server_name: " api.example\n"
    min_version: " TLS13 "
`

	accounts, warnings, err := parseConfigFile([]byte(yml), filepath.Join(filepath.Dir(token), "a.yml"), testDefaults(t))
	if err != nil || len(warnings) != 0 {
		t.Fatal(warnings, err)
	}
	a := accounts[0]
	if a.Account != "marketing" || a.User != testutil.SID || password(t, &a) != testutil.Token ||
		a.BaseURL.String() != "https://proxy.example/v1" || a.Window != 2*time.Hour ||
		a.HTTP.Proxy != "http://proxy.example:3128" || a.HTTP.TLS.ServerName != "api.example" || a.HTTP.TLS.MinVersion == 0 {
		t.Errorf("%+v", a)
	}
}

func TestConfigFileErrors(t *testing.T) {
	token := testutil.WriteFile(t, "token", testutil.Token)
	dir := filepath.Dir(token)
	file := filepath.Join(dir, "a.yml")
	const head = "accounts:\n- account_sid: " + testutil.SID + "\n  auth_token_file: token\n"
	const accountKeys = " (known keys: name, account_sid, auth_token_file, api_key, api_secret_file, proxy_url, tls_config, " +
		"base_url, resource, rate_limit, interval, window, page_size, concurrency, max_staleness)"
	const tlsKeys = " (known keys: ca, ca_file, cert, cert_file, key, key_file, server_name, insecure_skip_verify, " +
		"min_version, max_version)"

	for name, tc := range map[string]struct{ yml, want string }{
		"secret for account":       {"accounts:\n- hunter2\n", ":2: want keys and values, such as name: …"},
		"empty":                    {"", `:1: no accounts configured: want at least one under the key accounts`},
		"no accounts":              {"accounts: []", `:1: no accounts configured: want at least one under the key accounts`},
		"null accounts":            {"accounts:\n", `:1: no accounts configured: want at least one under the key accounts`},
		"accounts of another kind": {"accounts: {}", `:1: accounts: want a list of accounts`},
		"accounts as a mapping":    {"accounts:\n  name: x\n", `:1: accounts: want a list of accounts`},
		"null account":             {"accounts: [~]", `:1: account_sid is missing: want an Account SID (AC…)`},
		"not a mapping":            {"- a", ":1: want keys and values, such as accounts: …"},
		"secret of two lines":      {"accounts:\n- \"hunter\\n2\"\n", ":2: want keys and values, such as name: …"},
		"syntax":                   {"accounts:\n- a: [", ":2: not valid YAML: did not find expected node content"},
		"tab": {
			"accounts:\n\t- name: x\n",
			":2: not valid YAML: indent with spaces, not tabs, and quote a value that begins with a special character",
		},
		"account in itself":              {"accounts: &a [*a]", ":1: want keys and values, such as name: …"},
		"second document":                {head + "---\naccounts: []\n", `:4: more than one YAML document: want a single one`},
		"unknown key on top":             {head + "acounts: []\n", `:4: unknown key "acounts": did you mean accounts?`},
		"unknown key":                    {head + "  shade: red\n", `:4: unknown key "shade"` + accountKeys},
		"unknown null key":               {head + "  shade:\n", `:4: unknown key "shade"` + accountKeys},
		"unknown key before a bad value": {head + "  window: x\n  shade: red\n", `:5: unknown key "shade"` + accountKeys},
		"flag's name as key":             {head + "  timeout: 1s\n", `:4: unknown key "timeout"` + accountKeys},
		"unknown TLS key":                {head + "  tls_config:\n    ca_fil: x\n", `:5: tls_config: unknown key "ca_fil": did you mean ca_file?`},
		"duplicate key":                  {head + "  window: 1h\n  window: 2h\n", `:5: key "window" is given twice, also in line 4: remove one`},
		"duplicate key that may be a secret": {
			head + "  hunter2: 1\n  hunter2: 2\n", `:5: key <7-character value, not shown> is given twice, also in line 4: remove one`,
		},
		"key before a block": {"account:\n- name: x\n", `:1: unknown key "account": did you mean accounts?`},
		"key before its value": {
			head + "  page_size:\n    many\n", `:4: page_size: "many" is not a whole number from 1 to 1000`,
		},
		"tab in a later line": {
			"accounts:\n- name: x\n\taccount_sid: y\n",
			":3: not valid YAML: indent with spaces, not tabs, and quote a value that begins with a special character",
		},
		"indentation in a later line": {"accounts:\n- name: x\n account_sid: y\n", ":3: not valid YAML: did not find expected key"},
		"interval above the window": {
			head + "  window: 1h\n  interval: 2h\n",
			`:5: interval: 2h is longer than the window, which is 1h: lower the interval or raise the window`,
		},
		"duplicate known key": {
			head + "  auth_token_file: token\n", `:4: key "auth_token_file" is given twice, also in line 3: remove one`,
		},
		"secret in the file": {
			head + "  auth_token: hunter2\n", `:4: auth_token: secrets are not accepted in this file: use auth_token_file`,
		},
		"list for a value": {head + "  window: [1h]\n", `:4: window: want a single value`},
		"bad window": {
			head + "  interval: 1m\n  window: 30s\n",
			`:5: window: "30s" is not a duration from 1m to 168h (Twilio keeps operations for 7 days)`,
		},
		"bad page size": {head + "  page_size: many\n", `:4: page_size: "many" is not a whole number from 1 to 1000`},
		"bad base URL": {
			head + "  base_url: comms.twilio.com\n",
			`:4: base_url: <16-character value, not shown>` + notAURL,
		},
		"bad proxy": {
			head + "  proxy_url: http://me:hunter2@:1\n",
			`:4: proxy_url: <20-character value, not shown> is not the URL of a proxy, such as http://proxy.example:3128`,
		},
		"no such CA": {
			head + "  tls_config: {ca_file: nowhere}\n",
			`:4: tls_config: ca_file: cannot read <7-character value, not shown> (no such file or directory): want a file in PEM format`,
		},
		"key without cert": {
			head + "  tls_config: {key_file: token}\n",
			`:4: tls_config: exactly one of cert or cert_file must be configured when a client key is configured`,
		},
		"no such key file": {
			head + "  tls_config:\n    cert_file: token\n    key_file: nowhere\n",
			`:6: tls_config: key_file: cannot read <7-character value, not shown> (no such file or directory): want a file in PEM format`,
		},
		"manager of secrets": {
			head + "  tls_config:\n    server_name: x\n    cert_ref: x\n",
			`:6: tls_config: unknown key "cert_ref"` + tlsKeys,
		},
		"second unknown TLS key": {head + "  tls_config:\n    server_name: x\n    zeta: x\n    alpha: x\n", `:6: tls_config: unknown key "zeta"` + tlsKeys},
		"TLS version":            {head + "  tls_config: {min_version: TLS99}\n", `:4: tls_config: min_version: "TLS99" is not one of: TLS10, TLS11, TLS12, TLS13`},
		"TLS version's line": {
			head + "  tls_config:\n    server_name: x\n    max_version: TLS9\n",
			`:6: tls_config: max_version: "TLS9" is not one of: TLS10, TLS11, TLS12, TLS13`,
		},
		"TLS versions reversed": {
			head + "  tls_config: {min_version: TLS13, max_version: TLS12}\n",
			`:4: tls_config: max_version must be greater than or equal to min_version if both are specified`,
		},
		"unknown TLS key before a version": {
			head + "  tls_config:\n    server_nme: x\n    min_version: TLS9\n", `:5: tls_config: unknown key "server_nme": did you mean server_name?`,
		},
		"unknown TLS key after a bad value": {
			head + "  tls_config:\n    insecure_skip_verify: maybe\n    server_nme: x\n", `:6: tls_config: unknown key "server_nme": did you mean server_name?`,
		},
		"list for a TLS value": {head + "  tls_config: {server_name: [x]}\n", `:4: tls_config: server_name: want a single value`},
		"TLS not a mapping":    {head + "  tls_config: foo\n", `:4: tls_config: want keys and values, such as ca: …`},
		"TLS of another kind":  {head + "  tls_config:\n    insecure_skip_verify: maybe\n", `:5: tls_config: insecure_skip_verify: "maybe" is not true or false`},
		"not a CA": {
			head + "  tls_config:\n    server_name: x\n    ca_file: token\n",
			`:5: tls_config: ca or ca_file is not a certificate in PEM format`,
		},
		"no SID": {"accounts:\n- name: x\n", `:2: account_sid is missing: want an Account SID (AC…)`},
		"odd SID": {
			"accounts:\n- name: x\n  account_sid: a b\n",
			`:3: account_sid: <3-character value, not shown> contains white space: want an Account SID (AC and 32 hexadecimal digits)`,
		},
		"no secret": {
			"accounts:\n- name: x\n  account_sid: " + testutil.SID + "\n",
			`:3: account_sid: no credentials: set auth_token_file, or an API key and its secret`,
		},
		"no API secret": {
			"accounts:\n- account_sid: " + testutil.SID + "\n  api_key: " + testutil.Key + "\n",
			`:3: api_key: the API key's secret is missing: set api_secret_file`,
		},
		"no API key": {
			"accounts:\n- account_sid: " + testutil.SID + "\n  api_secret_file: token\n",
			`:3: api_secret_file: API secret without an API key: set api_key`,
		},
		"secret file missing": {
			"accounts:\n- account_sid: " + testutil.SID + "\n  auth_token_file: nowhere\n",
			`:3: auth_token_file: cannot read <7-character value, not shown> (no such file or directory): want a file with the secret`,
		},
		"bad name":       {head + "  name: \"a\\nb\"\n", `:4: name: "a\nb" is not a name: want printable text on one line`},
		"line separator": {head + "  name: \"a\\u2028b\"\n", `:4: name: "a\u2028b" is not a name: want printable text on one line`},
		"next line":      {head + "  name: \"a\\u0085b\"\n", `:4: name: "a\u0085b" is not a name: want printable text on one line`},
		"right to left":  {head + "  name: \"a\\u202eb\"\n", `:4: name: "a\u202eb" is not a name: want printable text on one line`},
		"zero width":     {head + "  name: \"a\\u200bb\"\n", `:4: name: "a\u200bb" is not a name: want printable text on one line`},
		"two of one name": {
			head + "  name: x\n- account_sid: " + testutil.SID + "\n  auth_token_file: token\n  name: x\n",
			`:7: duplicate account name "x", also in line 4: names must be unique`,
		},
		"two of one SID": {
			head + "- account_sid: " + testutil.SID + "\n  auth_token_file: token\n",
			`:4: duplicate account name "` + testutil.SID + `", also in line 2: names must be unique`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := parseConfigFile([]byte(tc.yml), file, testDefaults(t))
			if err == nil {
				t.Fatal("no error")
			}
			if got := err.Error(); got != file+tc.want {
				t.Errorf("got  %s\nwant %s", got, file+tc.want)
			}
		})
	}
}

// TestConfigFileBombs checks that a small file that expands to a huge one is refused, with file and line.
func TestConfigFileBombs(t *testing.T) {
	// Each level is nine times the one before.
	levels := func(first, open, end string) string {
		var b strings.Builder
		b.WriteString("- &a0 " + first + "\n")
		for i := range 9 {
			alias := "*a" + strconv.Itoa(i)
			b.WriteString("- &a" + strconv.Itoa(i+1) + " " + open + strings.Repeat(alias+", ", 8) + alias + end + "\n")
		}
		return b.String()
	}

	account := "account_sid: " + testutil.SID + ", auth_token_file: " + testutil.WriteFile(t, "token", testutil.Token)
	for name, yml := range map[string]string{
		"lists":         "accounts:\n" + levels("[x]", "[", "]"),
		"merged":        "accounts:\n" + levels("{name: x}", "{<<: [", "]}"),
		"merged in one": "accounts:\n- <<:\n  " + strings.ReplaceAll(levels("{name: x}", "{<<: [", "]}"), "\n", "\n  ") + "\n",
		"values":        "accounts:\n" + levels("{"+account+"}", "{"+account+", tls_config: [", "]}"),
		"unknown key":   "bombs:\n" + levels("[x]", "[", "]") + "accounts: *a9\n",
		"many accounts": "accounts: [&a {" + account + "}" + strings.Repeat(", *a", 50_000) + "]\n",
		"deep":          "accounts: " + strings.Repeat("[", 200_000),
		"deep mappings": "accounts: " + strings.Repeat("{a: ", 200_000),
	} {
		t.Run(name, func(t *testing.T) {
			const file = "accounts.yml"
			_, _, err := parseConfigFile([]byte(yml), file, testDefaults(t))
			if err == nil || !regexp.MustCompile(`^`+regexp.QuoteMeta(file)+`:\d+: `).MatchString(err.Error()) {
				t.Fatalf("error %v", err)
			}
			checkError(t, err)
			if len(err.Error()) > 500 {
				t.Errorf("a long line: %s", err)
			}
		})
	}
}

// checkAccount fails the test if the rest of the program could not run an account.
func checkAccount(t *testing.T, a *Account) {
	t.Helper()
	switch {
	case !validName(a.Account),
		a.Interval < 0, a.Interval > 0 && a.Interval < minInterval,
		a.Window < time.Minute || a.Window > maxWindow,
		a.RefreshTimeout <= 0, a.MaxAge <= 0, a.Timeout <= 0,
		a.PageSize < 1 || a.PageSize > 1000, a.Concurrency < 1, a.MaxRetries < 0,
		!(a.MaxStaleness >= 0 && a.MaxStaleness <= 1), !(a.RateLimit >= 0),
		a.BaseURL.Host == "" || a.BaseURL.User != nil,
		a.User == "", password(t, a) == "":
		t.Fatalf("validated nonsense: %+v", a)
	}

	if _, _, err := a.HTTP.NewTransport(); err != nil {
		t.Fatalf("validated what cannot be used: %v", err)
	}
}

func checkError(t *testing.T, err error) {
	t.Helper()
	if s := err.Error(); s == "" || strings.ContainsFunc(s, unicode.IsControl) || strings.Contains(s, testutil.Token) {
		t.Fatalf("not a line for a person: %q", s)
	}
}

func FuzzConfigFile(f *testing.F) {
	token := filepath.Join(f.TempDir(), "token")
	if err := os.WriteFile(token, []byte(testutil.Token), 0o600); err != nil {
		f.Fatal(err)
	}
	head := "accounts:\n- account_sid: " + testutil.SID + "\n  auth_token_file: " + token + "\n"
	f.Add(head + "  window: 1d\n  tls_config: {ca: x}\n  proxy_url: http://p:1\n")
	f.Add(head + "  <<: {interval: 0s, page_size: 7}\n  max_staleness: 0.5\n")
	f.Add("accounts: &a [*a]")
	f.Add("accounts: [{name: ~, api_key: SK, api_secret_file: /dev/null}]\n---\n")
	f.Fuzz(func(t *testing.T, yml string) {
		accounts, _, err := parseConfigFile([]byte(yml), filepath.Join(filepath.Dir(token), "a.yml"), testDefaults(t))
		if err != nil {
			checkError(t, err)
			return
		}

		names := map[string]bool{}
		for i := range accounts {
			a := &accounts[i]
			checkAccount(t, a)
			if names[a.Account] {
				t.Fatalf("two accounts of one name: %q", a.Account)
			}
			names[a.Account] = true
		}

		if len(accounts) == 0 {
			t.Fatal("no accounts, no error")
		}
	})
}

func FuzzLoad(f *testing.F) {
	for _, s := range settings {
		f.Add("--"+s.flag+"="+s.defaultValue, testutil.SID, testutil.Token)
	}
	f.Add("--web.telemetry-path=/m\x00--log.level=debug", "", "")
	f.Add("--demo\x00--once\x00--config.check\x00--web.enable-pprof", "", "")
	f.Add("--web.listen-address=[::1]:0\x00--web.scrape-timeout-offset=0", "x", " ")

	for _, name := range testutil.Variables() {
		if err := os.Unsetenv(name); err != nil {
			f.Fatal(err)
		}
	}

	f.Fuzz(func(t *testing.T, args, sid, secret string) {
		// What names a file is left out: the test must not read what it finds.
		if strings.Contains(args, "file") || strings.Contains(args, "man") ||
			strings.Contains(args, "completion") {
			return
		}

		app, o := newApplication(io.Discard)
		if _, err := app.Parse(strings.Split(args, "\x00")); err != nil {
			return
		}
		o.own.sid.value, o.own.token.value = sid, strings.TrimSpace(secret)
		c, err := o.validate()
		if err != nil {
			checkError(t, err)
			return
		}

		for i := range c.accounts {
			checkAccount(t, &c.accounts[i])
		}
	})
}

func TestOperationTags(t *testing.T) {
	testutil.SetEnv(t, map[string]string{"TWILIO_ACCOUNT_SID": testutil.SID, "TWILIO_AUTH_TOKEN": "token"})
	for value, tt := range map[string]struct {
		want collector.OperationTags
		err  string
	}{
		"":                    {},
		"campaign":            {want: collector.OperationTags{"campaign"}},
		"campaign, team":      {want: collector.OperationTags{"campaign", "team"}},
		"a,b,c,d,cost-center": {want: collector.OperationTags{"a", "b", "c", "d", "cost-center"}},
		"a,b,c,d,e,f":         {err: `--collector.operation-tags: "a,b,c,d,e,f" is not a list of at most 5 tag keys, such as campaign,team`},
		"a,,b":                {err: `--collector.operation-tags: "a,,b" is not a comma-separated list of tag keys, such as campaign,team`},
		"cost-center,cost_center": {err: `--collector.operation-tags: the tags "cost-center" and "cost_center" would both be ` +
			`the label tag_cost_center: leave one of them out`},
		"a,a":                    {err: `--collector.operation-tags: the tags "a" and "a" would both be the label tag_a: leave one of them out`},
		strings.Repeat("x", 129): {err: "is not a comma-separated list of tag keys"},
	} {
		c, err := Load([]string{"--collector.operation-tags=" + value}, io.Discard)
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%q: error %v, want %s", value, err, tt.err)
			}
			continue
		}
		if err != nil || c.Accounts()[0].Tags != tt.want {
			t.Errorf("%q: %v, error %v", value, c.Accounts()[0].Tags, err)
		}
	}
}
