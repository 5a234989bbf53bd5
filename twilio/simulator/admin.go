package simulator

import (
	"fmt"
	"net/http"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// AdminHelp describes the paths of NewAdmin.
const AdminHelp = `  GET    /simulator/faults              the faults, and how often each has struck
  POST   /simulator/faults              adds one: {"kind": "status", "status": 503, "retryAfter": "30s", "count": 3}
  DELETE /simulator/faults              removes all
  GET    /simulator/trouble             the trouble, past and present
  POST   /simulator/trouble             adds some, from now on: {"kind": "failing", "rate": 0.2, "for": "10m"}
  DELETE /simulator/trouble             ends all
  GET    /simulator/requests            counts, and the latest requests
  GET    /simulator/sums[?window=24h]   sums of the operations in the window, by status
`

// NewAdmin returns a handler that switches a running simulator, with the paths of AdminHelp. The members of a fault and
// of trouble are those of Fault and Trouble, starting with a small letter; durations are spelled as in Go, times as in
// RFC 3339. Trouble has a share of 1 and a rate of 0.2 where these are not given. There is no authentication: serve it
// on a loopback address.
func NewAdmin(h *Handler, w *World) http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, f func(r *http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, 1<<16)
			v, err := f(r)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			if v == nil {
				w.WriteHeader(http.StatusNoContent)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			_ = json.MarshalWrite(w, v, durations, json.Deterministic(true), jsontext.WithIndent("  "))
		})
	}
	handle("GET /simulator/faults", func(*http.Request) (any, error) { return h.Faults().List(), nil })
	handle("POST /simulator/faults", func(r *http.Request) (any, error) {
		var f Fault
		if err := json.UnmarshalRead(r.Body, &f, durations, json.RejectUnknownMembers(true)); err != nil {
			return nil, fmt.Errorf("fault: %w", err)
		}
		return nil, h.Faults().Add(f)
	})
	handle("DELETE /simulator/faults", func(*http.Request) (any, error) {
		h.Faults().Clear()
		return nil, nil
	})
	handle("GET /simulator/trouble", func(*http.Request) (any, error) { return w.Troubles(), nil })
	handle("POST /simulator/trouble", func(r *http.Request) (any, error) {
		t := Trouble{Share: 1, Rate: 0.2, From: h.s.Now()}
		if err := json.UnmarshalRead(r.Body, &t, durations, json.RejectUnknownMembers(true)); err != nil {
			return nil, fmt.Errorf("trouble: %w", err)
		}
		return nil, w.AddTrouble(t)
	})
	handle("DELETE /simulator/trouble", func(*http.Request) (any, error) {
		w.EndTrouble(h.s.Now())
		return nil, nil
	})
	handle("GET /simulator/requests", func(*http.Request) (any, error) {
		now, highest := h.log.InFlight()
		return map[string]any{
			"total": h.log.Total(), "inFlight": now, "maxInFlight": highest, "latest": h.log.Latest(),
		}, nil
	})
	handle("GET /simulator/sums", func(r *http.Request) (any, error) {
		window := 24 * time.Hour
		if v := r.URL.Query().Get("window"); v != "" {
			var err error
			if window, err = time.ParseDuration(v); err != nil || window <= 0 {
				return nil, fmt.Errorf("window %q is not a positive duration", v)
			}
		}
		now := h.s.Now()
		return w.Sums(now, now.Add(-window), now.Add(time.Millisecond)), nil
	})
	return mux
}

// durations are spelled as in Go.
var durations = json.JoinOptions(
	json.WithMarshalers(json.MarshalFunc(func(d time.Duration) ([]byte, error) { return json.Marshal(d.String()) })),
	json.WithUnmarshalers(json.UnmarshalFunc(func(b []byte, d *time.Duration) error {
		var s string
		err := json.Unmarshal(b, &s)
		if err == nil {
			*d, err = time.ParseDuration(s)
		}
		return err
	})),
)
