package simulator

import (
	"fmt"
	"net/http"
	"time"

	"github.com/go-json-experiment/json"
)

// AdminHelp describes the paths of NewAdmin.
const AdminHelp = `  POST   /simulator/faults   adds one: {"kind": "status", "status": 503, "retryAfter": "30s", "count": 3}
  DELETE /simulator/faults   removes all
  POST   /simulator/trouble  adds some, from now on: {"kind": "failing", "rate": 0.2, "for": "10m"}
  DELETE /simulator/trouble  ends all
`

// NewAdmin returns a handler of the paths in AdminHelp, which change a running simulator. The JSON of a fault and of
// trouble has the fields of Fault and Trouble, with durations as in Go and times as in RFC 3339. The default share of
// trouble is 1 and its default rate 0.2. There is no authentication: serve it on a loopback address.
func NewAdmin(h *Handler, world *World) http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, f func(r *http.Request) error) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, 1<<16)
			err := f(r)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			w.WriteHeader(http.StatusNoContent)
		})
	}

	handle("POST /simulator/faults", func(r *http.Request) error {
		var f Fault
		if err := json.UnmarshalRead(r.Body, &f, strictly); err != nil {
			return fmt.Errorf("fault: %w", err)
		}
		return h.Faults().Add(f)
	})

	handle("DELETE /simulator/faults", func(*http.Request) error {
		h.Faults().Clear()
		return nil
	})

	handle("POST /simulator/trouble", func(r *http.Request) error {
		t := Trouble{Share: 1, Rate: 0.2, From: h.s.Now()}
		if err := json.UnmarshalRead(r.Body, &t, strictly); err != nil {
			return fmt.Errorf("trouble: %w", err)
		}
		return world.AddTrouble(t)
	})

	handle("DELETE /simulator/trouble", func(*http.Request) error {
		world.EndTrouble(h.s.Now())
		return nil
	})
	return mux
}

// strictly rejects unknown members, and reads durations as Go spells them.
var strictly = json.JoinOptions(
	json.RejectUnknownMembers(true),
	json.WithUnmarshalers(json.UnmarshalFunc(func(b []byte, d *time.Duration) error {
		var s string
		err := json.Unmarshal(b, &s)
		if err == nil {
			*d, err = time.ParseDuration(s)
		}
		return err
	})),
)
