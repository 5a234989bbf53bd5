package config

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"

	"twilio_operations_exporter/internal/testutil"
)

// wantSchema compares the JSON Schema of the configuration file with the code. e2e/manifests tests that both accept the
// same files.
func wantSchema(t *testing.T, file string) {
	t.Helper()
	var want bytes.Buffer
	e := json.NewEncoder(&want)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(fileSchema())
	if err != nil {
		t.Fatal(err)
	}

	if testutil.Update() {
		err = os.WriteFile(file, want.Bytes(), 0o600)
		if err != nil {
			t.Fatal(err)
		}
		return
	}

	got, err := os.ReadFile(file) //nolint:gosec // of this repository
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want.Bytes()) {
		t.Errorf("%s differs from the code: run make docs", filepath.Base(file))
	}
}

type schema map[string]any

func fileSchema() schema {
	accounts := schema{"type": "array", "minItems": 1, "items": accountSchema()}
	return schema{
		"$schema":              "http://json-schema.org/draft-07/schema#",
		"title":                "Configuration file of " + ProgramName,
		"type":                 "object",
		"additionalProperties": false,
		"required":             []string{"accounts"},
		"properties":           schema{"accounts": accounts},
	}
}

// The program reads every value as text, and one that is null as if it were not there.
var anyScalar = []string{"string", "number", "boolean", "null"}

func text(pattern, description string) schema {
	s := schema{"type": anyScalar, "description": description}
	if pattern != "" {
		s["type"], s["pattern"] = []string{"string", "null"}, pattern
	}
	return s
}

func accountSchema() schema {
	fixed := map[string]schema{
		"name":            text("", "Value of the account label. The SID if it is missing."),
		"account_sid":     text(`^\s*AC[0-9a-fA-F]{32}\s*$`, "Twilio Account SID."),
		"auth_token_file": text("", "Path to a file that contains the Auth Token."),
		"api_key":         text(`^\s*(SK[0-9a-fA-F]{32})?\s*$`, "SID of an API key to use instead of the Auth Token."),
		"api_secret_file": text("", "Path to a file that contains the API key's secret."),
		"proxy_url":       text(`^\s*((https?|socks5h?)://.*)?$`, "Proxy of this account's requests."),
		"tls_config":      tlsSchema(),
	}

	fixed["account_sid"]["type"] = "string"
	properties := schema{}
	for _, key := range accountKeys() {
		known, ok := fixed[key]
		if !ok {
			known = text("", "")
		}
		properties[key] = known
	}

	for _, s := range settings {
		if s.key != "" {
			properties[s.key] = settingSchema(s)
		}
	}
	return schema{
		"type":                 "object",
		"additionalProperties": false,
		"required":             []string{"account_sid"},
		"anyOf": []schema{
			{"required": []string{"auth_token_file"}},
			{"required": []string{"api_key", "api_secret_file"}},
		},
		"properties": properties,
	}
}

// settingSchema derives from the validation of a setting what type of value it takes, and its bounds.
func settingSchema(s setting) schema {
	accepts := func(value string) bool {
		return s.set(&Account{}, input{name: s.key, value: value}) == nil
	}

	out := schema{"description": s.help}
	switch {
	case accepts("7m"): // a duration
		out["type"] = []string{"string", "integer", "null"}
		out["pattern"] = `^\s*([0-9.].*[a-zµ]|0?)\s*$`
		out["maximum"] = 0 // as a number: a unit is needed
	case accepts("1") && !accepts("0.5"):
		out["type"] = []string{"integer", "string", "null"}
		out["pattern"] = `^\s*[+-]?[0-9]*\s*$`
		out["minimum"], out["maximum"] = bounds(accepts)
	case accepts("0.5"):
		out["type"] = []string{"number", "string", "null"}
		out["minimum"] = 0
		if !accepts("1.5") {
			out["maximum"] = 1
		}
	case strings.HasSuffix(s.key, "_url"):
		out["type"] = []string{"string", "null"}
		out["pattern"] = `^\s*(https?://.*)?$`
	default: // one of some words
		words := slices.DeleteFunc([]string{"messages", "emails"}, func(word string) bool { return !accepts(word) })
		out["type"] = []string{"string", "null"}
		out["pattern"] = `^\s*(` + strings.Join(words, "|") + `)?\s*$`
	}
	return out
}

// bounds returns the least and the greatest integer that a setting accepts. It must accept all between them.
func bounds(accepts func(string) bool) (low, high int) {
	if !accepts("0") {
		low = 1
	}
	const limit = 1 << 20
	high = sort.Search(limit, func(n int) bool { return n > 0 && !accepts(strconv.Itoa(n)) }) - 1
	return low, high
}

func tlsSchema() schema {
	properties := schema{}
	for _, key := range tlsKeys {
		properties[key] = schema{"type": anyScalar}
	}
	for _, key := range []string{"min_version", "max_version"} {
		properties[key] = schema{"enum": []any{"TLS10", "TLS11", "TLS12", "TLS13", nil}}
	}
	return schema{
		"type":                 []string{"object", "null"},
		"description":          "TLS settings of this account's requests, as in Prometheus.",
		"additionalProperties": false,
		"properties":           properties,
	}
}
