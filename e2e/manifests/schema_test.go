package manifests

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"sigs.k8s.io/yaml"

	"twilio_operations_exporter/e2e/manifests/internal/host"
)

// TestSchemaAgreesWithProgram has the JSON Schema and the program judge the same
// files. What the program takes, the schema takes, and what is wrong in its form
// neither takes. Of what else is wrong, the schema knows nothing.
func TestSchemaAgreesWithProgram(t *testing.T) {
	schema, err := jsonschema.NewCompiler().Compile(filepath.Join(root, SchemaFile))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"token", "secret"} {
		write(t, filepath.Join(dir, name), "not a secret")
	}
	const (
		sid    = "AC0123456789abcdef0123456789abcdef"
		key    = "SK0123456789abcdef0123456789abcdef"
		ofSID  = "account_sid: " + sid
		needed = ofSID + ", auth_token_file: token"
	)

	account := func(more string) string { return "accounts: [{" + needed + ", " + more + "}]" }
	files := make(map[string][]string) // by verdict
	const good, form, other = "good", "wrong in its form", "wrong otherwise"

	for setting, values := range map[string]map[string]string{
		"name": {good: "a|7|true|'a b'|null|\"a\\\"b\"", form: "[a]|{a: b}"},
		"resource": {
			good: "messages|emails|' emails '|null", form: "message|MESSAGES|7|[messages]|true",
		},
		"base_url": {
			good: "https://a.example/v1|http://localhost:1/v1|' https://a.example/v1 '|null",
			form: "a.example|ftp://a.example|7|[https://a.example]|/v1", other: "'https://'|'http://a b'",
		},
		"window":   {good: "1m|168h|7d|' 24h '|90m|1h30m", form: "60|'60'|1|abc|[1h]|true|-1h", other: "1s|169h|1y"},
		"interval": {good: "1m|0s|0|100ms|1h|'0'", form: "60|'30'|often|[1m]|false|-1m", other: "1ms"},
		"page_size": {
			good: "1|1000|'7'|' 50 '|null", form: "0|1001|-1|1.5|many|[1]|true|'1.5'", other: "'0'|'1001'",
		},
		"concurrency":   {good: "1|4|1000|'2'", form: "0|1001|-4|0.5|few|{a: 1}", other: "'0'"},
		"rate_limit":    {good: "0|10|0.5|'10'|1000000|null", form: "-1|[10]|true", other: "much|'-1'"},
		"max_staleness": {good: "0|1|0.1|'0.5'|null", form: "-0.1|1.1|10|[0.1]|true", other: "'2'|all"},
		"proxy_url": {
			good: "http://a.example:3128|https://a.example|socks5://a.example:1080|socks5h://a.example|null",
			form: "a.example:3128|ftp://a.example|7|[http://a.example]",
		},
		"tls_config": {
			good: "{insecure_skip_verify: true}|{min_version: TLS12}|{server_name: a.example}|null|{}",
			form: "{insecure: true}|{min_version: TLS9}|[ca_file]|7|{max_version: 13}|{ca_file: [a]}", other: "{ca_file: none.pem}",
		},
		"unknown":    {form: "1|null|a"},
		"auth_token": {form: "secret|null"},
		"Name":       {form: "a"},
	} {
		for verdict, list := range values {
			for value := range strings.SplitSeq(list, "|") {
				files[verdict] = append(files[verdict], account(setting+": "+value))
			}
		}
	}

	files[good] = append(
		files[good], account(""), "accounts: [{"+ofSID+", api_key: "+key+", api_secret_file: secret}]",
		"accounts: [{account_sid: ' "+sid+" ', auth_token_file: ' token '}]",
		"accounts:\n- &a {"+needed+", name: a}\n- {<<: *a, name: b}",
		"accounts: [{"+needed+"}, {"+needed+", name: b}]", "accounts: [{"+needed+", api_key: null}]",
	)

	files[form] = append(
		files[form], "accounts: []", "accounts: {}", "accounts: 7", "{}", "[]", "7", "account: [{"+needed+"}]", "accounts: [7]",
		"accounts: [{"+needed+"}]\nglobal: {}", "accounts: [{"+ofSID+"}]", "accounts: [{auth_token_file: token}]",
		"accounts: [{account_sid: "+key+", auth_token_file: token}]", "accounts: [{account_sid: AC01, auth_token_file: token}]",
		"accounts: [{account_sid: 7, auth_token_file: token}]", "accounts: [{account_sid: [a], auth_token_file: token}]",
		"accounts: [{"+ofSID+", api_key: "+key+"}]", "accounts: [{"+ofSID+", api_key: "+sid+", api_secret_file: secret}]",
		"accounts: [{"+ofSID+", api_secret_file: secret}]", "accounts: [{"+ofSID+", auth_token_file: [token]}]",
		"accounts: [{account_sid: ac0123456789abcdef0123456789abcdef, auth_token_file: token}]",
	)

	files[other] = append(
		files[other], "accounts: [{"+needed+"}, {"+needed+"}]", "accounts: [{"+ofSID+", auth_token_file: none}]",
		"accounts: [{"+ofSID+", auth_token_file: null}]",
	)

	program, n := host.Exporter(t), 0
	for verdict, list := range files {
		for _, content := range list {
			n++
			file := filepath.Join(dir, fmt.Sprintf("%d.yml", n))
			write(t, file, content)
			out, failure := exec.CommandContext(t.Context(), program, "--config.check", "--config.file="+file).CombinedOutput()
			if (failure == nil) != (verdict == good) {
				t.Errorf("%s, %s: the program says %v\n%s", content, verdict, failure, out)
			}
			var document any
			err := yaml.Unmarshal([]byte(content), &document)
			if err == nil {
				err = schema.Validate(document)
			}
			if (err == nil) != (verdict != form) {
				t.Errorf("%s, %s: the schema says %v", content, verdict, err)
			}
		}
	}

	if n < 130 {
		t.Errorf("%d files, want 130 or more", n)
	}
}
