package simulator

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
)

func TestAdmin(t *testing.T) {
	clock := noon
	world := MustWorld(smallWorld())
	h := MustHandler(world, Settings{Now: func() time.Time { return clock }})
	admin := NewAdmin(h, world)
	do := func(want int, method, target, body string) string {
		t.Helper()
		w := httptest.NewRecorder()
		admin.ServeHTTP(w, httptest.NewRequestWithContext(context.Background(), method, target, strings.NewReader(body)))
		if w.Code != want {
			t.Fatalf("%s %s: %d %s", method, target, w.Code, w.Body)
		}
		return w.Body.String()
	}
	do(204, "POST", "/simulator/faults",
		`{"kind":"status","status":503,"retryAfter":"30s","count":1,"query":"pageSize=1"}`)
	do(204, "POST", "/simulator/faults", `{"kind":"html","from":"2026-03-14T12:00:00Z"}`)
	for _, bad := range []string{
		``, `{`, `{"kind":"x"}`, `{"kind":"status","status":503,"retryAfter":30}`, `{"kind":"hang","surprise":1}`,
		`{"kind":"latency","latency":"soon"}`,
	} {
		do(400, "POST", "/simulator/faults", bad)
	}
	if w := get(h, "/v1/Messages/Operations?pageSize=1"); w.Code != 503 || w.Header().Get("Retry-After") != "30" {
		t.Errorf("%d, Retry-After %q", w.Code, w.Header().Get("Retry-After"))
	}
	if w := get(h, "/v1/Messages/Operations?pageSize=1"); !strings.HasPrefix(w.Body.String(), "<!DOCTYPE html>") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	var faults []Fault
	if err := json.Unmarshal([]byte(do(200, "GET", "/simulator/faults", "")), &faults, durations); err != nil ||
		len(faults) != 2 ||
		faults[0].Struck != 1 || faults[0].RetryAfter != 30*time.Second || !faults[1].From.Equal(noon) {
		t.Errorf("%+v, %v", faults, err)
	}
	do(204, "DELETE", "/simulator/faults", "")
	if n := len(h.Faults().List()); n != 0 {
		t.Errorf("%d faults left", n)
	}

	var requests struct {
		Total    int       `json:"total"`
		InFlight int       `json:"inFlight"`
		Latest   []Request `json:"latest"`
	}
	if err := json.Unmarshal([]byte(do(200, "GET", "/simulator/requests", "")), &requests); err != nil ||
		requests.Total != 2 || len(requests.Latest) != 2 || requests.Latest[0].Fault != FaultStatus {
		t.Errorf("%+v, %v", requests, err)
	}

	do(204, "POST", "/simulator/trouble", `{"kind":"failing","rate":0.9}`)
	do(204, "POST", "/simulator/trouble", `{"kind":"stuck","share":0.5,"for":"10m"}`)
	for _, bad := range []string{
		``, `{"kind":"x"}`, `{"kind":"stuck","share":2}`, `{"kind":"stuck","share":"x"}`, `{"kind":"stuck","for":"long"}`,
		`{"kind":"stuck","shares":1}`,
	} {
		do(400, "POST", "/simulator/trouble", bad)
	}
	failed := func() float64 {
		var sums map[string]Sum
		if err := json.Unmarshal([]byte(do(200, "GET", "/simulator/sums?window=30m", "")), &sums); err != nil {
			t.Fatal(err)
		}
		s := sums["COMPLETED"].Stats
		return float64(s.Failed) / float64(s.Total)
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
	var trouble []Trouble
	if err := json.Unmarshal([]byte(do(200, "GET", "/simulator/trouble", "")), &trouble, durations); err != nil ||
		len(trouble) != 2 ||
		!trouble[0].To.Equal(noon.Add(40*time.Minute)) || trouble[1].For != 10*time.Minute {
		t.Errorf("%+v, %v", trouble, err)
	}
	do(400, "GET", "/simulator/sums?window=x", "")
}
