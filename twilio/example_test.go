package twilio_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"

	"twilio_operations_exporter/twilio"
)

// api serves a list of two pages with one operation each.
func api(w http.ResponseWriter, r *http.Request) {
	id, next := "comms_operation_01h9krwprkeee8fzqspvwy6nq8", `"2"`
	if r.URL.Query().Get("pageToken") == "2" {
		id, next = "comms_operation_01h2xcejqtf2nbrexx3vqjhp41", "null"
	}
	if r.URL.Query().Get("status") == "SCHEDULED" {
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(http.StatusTooManyRequests)
		return
	}

	_, _ = fmt.Fprintf(w, `{"operations":[{"id":%q,"status":"COMPLETED","createdAt":"2026-03-01T12:00:00Z",
		"updatedAt":"2026-03-01T12:05:00Z","stats":{"total":2,"recipients":2,"attempts":2,"unaddressable":0,"scheduled":0,
		"queued":0,"sent":0,"delivered":1,"read":0,"undelivered":1,"failed":0,"canceled":0}}],
		"pagination":{"next":%s}}`, id, next)
}

// withCredentials is a transport that adds the account's credentials.
type withCredentials struct{ next http.RoundTripper }

func (t withCredentials) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.SetBasicAuth("ACxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "auth token")
	return t.next.RoundTrip(req)
}

func ExampleClient_Pages() {
	server := httptest.NewServer(http.HandlerFunc(api))
	defer server.Close()
	base, _ := url.Parse(server.URL) // https://comms.twilio.com/v1
	client := twilio.NewClient(twilio.Options{
		BaseURL: base, Transport: withCredentials{server.Client().Transport}, MaxRetries: 4, RateLimit: 10,
	})

	var sum twilio.Stats
	for page, err := range client.Pages(context.Background(), twilio.Query{PageSize: 1000}) {
		if err != nil {
			fmt.Println(err) // what was read is incomplete
			return
		}
		for i := range page.Operations {
			sum.Add(&page.Operations[i].Stats)
		}
	}

	fmt.Println(sum[twilio.Delivered], "of", sum[twilio.Total], "messages delivered")
	// Output: 2 of 4 messages delivered
}

// Use errors.Is and errors.As to distinguish errors.
func ExampleClient_Pages_throttled() {
	server := httptest.NewServer(http.HandlerFunc(api))
	defer server.Close()
	base, _ := url.Parse(server.URL)
	client := twilio.NewClient(twilio.Options{BaseURL: base, Transport: withCredentials{server.Client().Transport}})

	for _, err := range client.Pages(context.Background(), twilio.Query{Status: twilio.StatusScheduled}) {
		var api *twilio.Error
		fmt.Println(errors.Is(err, twilio.ErrThrottled), errors.As(err, &api), api.StatusCode)
	}
	fmt.Println(client.RetryAt().IsZero()) // no request goes out before this
	// Output:
	// true true 429
	// false
}
