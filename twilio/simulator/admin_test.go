package simulator

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"twilio_operations_exporter/twilio"
)

func TestAdmin(t *testing.T) {
	clock := noon
	world := MustWorld(smallWorld())
	h := NewHandler(world, Settings{Now: func() time.Time { return clock }})
	admin := NewAdmin(h, world)
	do := func(want int, method, target, body string) {
		t.Helper()
		w := httptest.NewRecorder()
		admin.ServeHTTP(w, httptest.NewRequestWithContext(context.Background(), method, target, strings.NewReader(body)))
		if w.Code != want {
			t.Fatalf("%s %s: %d %s", method, target, w.Code, w.Body)
		}
	}

	do(204, "POST", "/simulator/faults", `{"kind":"status","status":503,"retryAfter":"30s","count":1}`)
	do(204, "POST", "/simulator/faults", `{"kind":"html","endpoint":"list_operations"}`)
	for _, bad := range []string{
		``, `{`, `{"kind":"x"}`, `{"kind":"status","status":503,"retryAfter":30}`, `{"kind":"hang","surprise":1}`, `{"kind":"latency","latency":"soon"}`,
	} {
		do(400, "POST", "/simulator/faults", bad)
	}

	if w := get(h, "/v1/Messages/Operations?pageSize=1"); w.Code != 503 || w.Header().Get("Retry-After") != "30" {
		t.Errorf("%d, Retry-After %q", w.Code, w.Header().Get("Retry-After"))
	}
	if w := get(h, "/v1/Messages/Operations?pageSize=1"); !strings.HasPrefix(w.Body.String(), "<!DOCTYPE html>") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	do(204, "DELETE", "/simulator/faults", "")
	w := get(h, "/v1/Messages/Operations?pageSize=1")
	if w.Code != 200 || w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("after the faults: %d %s", w.Code, w.Body)
	}

	do(204, "POST", "/simulator/trouble", `{"kind":"failing","rate":0.9}`)
	do(204, "POST", "/simulator/trouble", `{"kind":"stuck","share":0.5,"for":"10m"}`)
	for _, bad := range []string{
		``, `{"kind":"x"}`, `{"kind":"stuck","share":2}`, `{"kind":"stuck","share":"x"}`, `{"kind":"stuck","for":"long"}`, `{"kind":"stuck","shares":1}`,
	} {
		do(400, "POST", "/simulator/trouble", bad)
	}

	failed := func() float64 {
		s := world.Sums(clock, clock.Add(-30*time.Minute), clock)[twilio.StatusCompleted].Stats
		return float64(s[twilio.Failed]) / float64(s[twilio.Total])
	}

	if x := failed(); x > 0.1 {
		t.Errorf("%.2f failed before the trouble shows", x)
	}
	clock = clock.Add(40 * time.Minute)
	if x := failed(); x < 0.7 {
		t.Errorf("only %.2f failed in trouble", x)
	}
	do(204, "DELETE", "/simulator/trouble", "")
	clock = clock.Add(40 * time.Minute)
	if x := failed(); x > 0.1 {
		t.Errorf("%.2f failed after the trouble", x)
	}
}
