package web

import (
	"net/http"
	"strings"
	"testing"

	"twilio_operations_exporter/internal/testutil"
	"twilio_operations_exporter/twilio"
)

func TestOperations(t *testing.T) {
	api := testutil.New(t,
		testutil.Operation(1, twilio.StatusProcessing, twilio.Stats{twilio.Total: 50}),
		testutil.Operation(2, twilio.StatusScheduled, twilio.Stats{twilio.Total: 900}),
		testutil.Operation(3, twilio.StatusCompleted, twilio.Stats{twilio.Total: 5000}),
	)

	s, _ := testFileServer(t, api, "a", "b")
	unread := get(t, s, http.MethodGet, "/sd/operations")
	if unread.Code != http.StatusServiceUnavailable {
		t.Errorf("without numbers: %d %s", unread.Code, unread.Body)
	}
	if err := refresherOf(s, "a").Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	id := func(n int) string { return testutil.Operation(n, "", twilio.Stats{}).ID }
	group := func(n int, account, status, messages string) string {
		return `{"targets":["` + id(n) + `"],"labels":{"__meta_twilio_account":"` + account +
			`","__meta_twilio_messages":"` + messages + `","__meta_twilio_status":"` + status + `"}}`
	}

	large, small := group(2, "a", "SCHEDULED", "900"), group(1, "a", "PROCESSING", "50")
	for query, want := range map[string]string{
		"":                                 "[" + large + "," + small + "]", // b has no numbers yet
		"account=a":                        "[" + large + "," + small + "]",
		"account=&status=":                 "[" + large + "," + small + "]",
		"limit=1":                          "[" + large + "]",
		"status=PROCESSING":                "[" + small + "]",
		"min_messages=51":                  "[" + large + "]",
		"min_messages=51&status=SCHEDULED": "[" + large + "]",
		"min_messages=901":                 "[]",
	} {
		w := get(t, s, http.MethodGet, "/sd/operations?"+query)
		got, kind := strings.TrimSpace(w.Body.String()), w.Header().Get("Content-Type")
		if w.Code != http.StatusOK || got != want || kind != "application/json" {
			t.Errorf("%s: %d %s\n%s, want\n%s", query, w.Code, kind, got, want)
		}
	}

	if w := get(t, s, http.MethodGet, "/sd/operations?account=b"); w.Code != http.StatusServiceUnavailable {
		t.Errorf("an account without numbers: %d %s", w.Code, w.Body)
	}
	for query, want := range map[string]string{
		strings.Repeat("account=a&", 20_000): `the query cannot be read: number of URL query parameters exceeded limit`,

		"account=c":         `account "c": want one of "a", "b"`,
		"status=COMPLETED":  `status "COMPLETED": want SCHEDULED or PROCESSING`,
		"status=x%0Ay":      `status "x\ny": want SCHEDULED or PROCESSING`,
		"min_messages=-1":   `min_messages "-1": want a whole number of 0 or more`,
		"min_messages=many": `min_messages "many": want a whole number of 0 or more`,
		"limit=0":           `limit "0": want a whole number from 1 to 200`,
		"limit=201":         `limit "201": want a whole number from 1 to 200`,
		"limit=1&limit=2":   `"limit" is given 2 times: want it once`,
		"account=%":         `the query cannot be read: invalid URL escape "%"`,
		"limit=1;account=a": `the query cannot be read: invalid semicolon separator in query`,
		"min_message=1":     `"min_message" is unknown: want account, status, min_messages or limit`,
	} {
		w := get(t, s, http.MethodGet, "/sd/operations?"+query)
		if w.Code != http.StatusBadRequest || w.Body.String() != want+"\n" {
			t.Errorf("%s: %d %s, want %s", query, w.Code, w.Body, want)
		}
	}
}
