package config

import (
	"fmt"
	"strings"
	"testing"

	"twilio_operations_exporter/internal/testutil"
)

// BenchmarkConfigFile loads a file of 5,000 accounts, each with a secret file.
func BenchmarkConfigFile(b *testing.B) {
	token := testutil.WriteFile(b, "token", testutil.Token)
	var yml strings.Builder
	yml.WriteString("accounts:\n")
	for i := range 5000 {
		fmt.Fprintf(
			&yml,
			"- name: account-%d\n  account_sid: AC%032x\n  auth_token_file: %s\n  window: 1h\n  interval: 2m\n",
			i,
			i,
			token,
		)
	}

	defaults := testDefaults(b)
	for b.Loop() {
		accounts, _, err := parseConfigFile([]byte(yml.String()), "accounts.yml", defaults)
		if err != nil || len(accounts) != 5000 {
			b.Fatal(len(accounts), err)
		}
	}
}
