package simulator_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"time"

	"twilio_operations_exporter/twilio"
	"twilio_operations_exporter/twilio/simulator"
)

var noon = time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)

// A client reads a day of a simulated account, whose list is not in order. What
// it has read is what the world holds.
func ExampleHandler() {
	world := simulator.MustWorld(simulator.WorldSettings{Rate: 2, Uniform: true, MaxRecipients: 100})
	handler := simulator.NewHandler(world, simulator.Settings{
		Now:  func() time.Time { return noon },
		List: simulator.ListSettings{Order: simulator.Grouped, EmptyPages: true},
	})

	server := httptest.NewServer(handler)
	defer server.Close()
	base, err := url.Parse(server.URL + "/v1")
	if err != nil {
		fmt.Println(err)
		return
	}

	client := twilio.NewClient(twilio.Options{BaseURL: base, Transport: server.Client().Transport})

	day := noon.Add(-24 * time.Hour)
	read, messages := 0, int64(0)
	for page, err := range client.Pages(context.Background(), twilio.Query{StartDate: day, PageSize: 1000}) {
		if err != nil {
			fmt.Println(err)
			return
		}
		for _, op := range page.Operations {
			read++
			messages += op.Stats[twilio.Total]
		}
	}

	held := int64(0)
	for _, sum := range world.Sums(noon, day.Add(time.Millisecond), noon.Add(time.Millisecond)) {
		held += sum.Stats[twilio.Total]
	}
	fmt.Println(read, "operations in", handler.Requests(), "requests")
	fmt.Println("all messages:", messages == held)
	// Output:
	// 2880 operations in 5 requests
	// all messages: true
}

// The API is unavailable for two requests, and tells when to come back.
func ExampleFaults() {
	handler := simulator.NewHandler(simulator.NewStatic(), simulator.Settings{})
	handler.Faults().MustAdd(simulator.Fault{
		Kind: simulator.FaultStatus, Status: http.StatusServiceUnavailable, RetryAfter: 30 * time.Second, Count: 2,
	})
	server := httptest.NewServer(handler)
	defer server.Close()

	for range 3 {
		response, err := server.Client().Get(server.URL + "/v1/Messages/Operations") //nolint:noctx // an example
		if err != nil {
			fmt.Println(err)
			return
		}
		_ = response.Body.Close()
		fmt.Println(response.StatusCode, response.Header.Get("Retry-After"))
	}
	// Output:
	// 503 30
	// 503 30
	// 200
}

// From noon on, half of the messages of every operation fail.
func ExampleTrouble() {
	world := simulator.MustWorld(simulator.WorldSettings{
		Rate: 60, Uniform: true, MinRecipients: 100, MaxRecipients: 100,
		Troubles: []simulator.Trouble{{Kind: simulator.TroubleFailing, Share: 1, Rate: 0.5, From: noon}},
	})
	later := noon.Add(3 * time.Hour)
	for _, hour := range []time.Time{noon.Add(-time.Hour), noon} {
		sum := world.Sums(later, hour, hour.Add(time.Hour))[twilio.StatusCompleted]
		fmt.Println(sum.Operations, "operations,", sum.Stats[twilio.Total], "messages,", sum.Stats[twilio.Failed], "failed")
	}
	// Output:
	// 3600 operations, 360000 messages, 0 failed
	// 3600 operations, 360000 messages, 180000 failed
}
