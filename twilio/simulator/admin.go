package simulator

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"twilio_operations_exporter/twilio"
)

// NewAdmin returns a handler by which a running simulator is switched:
//
//	GET    /simulator/faults            the faults, with how often each has struck
//	POST   /simulator/faults            adds one: {"kind": "status", "status": 503, "retryAfter": "30s", "count": 3}
//	DELETE /simulator/faults[?number=N] removes one, or all
//	GET    /simulator/trouble           the world's trouble
//	POST   /simulator/trouble?kind=failing[&share=1][&rate=0.2][&for=10m]   from now on
//	DELETE /simulator/trouble[?number=N] ends one, or all, now
//	GET    /simulator/requests          counts, and the latest requests
//	DELETE /simulator/requests          forgets them
//	GET    /simulator/sums[?window=24h] what the operations of the window add up to, by status
//
// The names in a fault are those of Fault's fields, their first letter small,
// durations are spelled as in Go, times in RFC 3339. World may be nil; then the
// last two paths answer 404. Whoever can reach it can use it: serve it on a
// loopback address.
func NewAdmin(h *Handler, w *World) http.Handler {
	a := &admin{handler: h, world: w}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /simulator/faults", a.listFaults)
	mux.HandleFunc("POST /simulator/faults", a.addFault)
	mux.HandleFunc("DELETE /simulator/faults", a.removeFaults)
	mux.HandleFunc("GET /simulator/requests", a.requests)
	mux.HandleFunc("DELETE /simulator/requests", a.resetRequests)
	if w != nil {
		mux.HandleFunc("GET /simulator/trouble", a.listTrouble)
		mux.HandleFunc("POST /simulator/trouble", a.addTrouble)
		mux.HandleFunc("DELETE /simulator/trouble", a.endTrouble)
		mux.HandleFunc("GET /simulator/sums", a.sums)
	}
	return mux
}

type admin struct {
	handler *Handler
	world   *World
}

// duration is spelled as in Go.
type duration time.Duration

func (d duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

func (d *duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = duration(v)
	return err
}

type faultJSON struct {
	Number         int             `json:"number,omitempty"`
	Struck         int             `json:"struck"`
	Kind           FaultKind       `json:"kind"`
	Endpoint       twilio.Endpoint `json:"endpoint,omitempty"`
	Query          string          `json:"query,omitempty"`
	From           time.Time       `json:"from,omitzero"`
	To             time.Time       `json:"to,omitzero"`
	Skip           int             `json:"skip,omitempty"`
	Every          int             `json:"every,omitempty"`
	Count          int             `json:"count,omitempty"`
	Status         int             `json:"status,omitempty"`
	RetryAfter     duration        `json:"retryAfter,omitzero"`
	RetryAfterDate bool            `json:"retryAfterDate,omitempty"`
	RetryAfterRaw  string          `json:"retryAfterRaw,omitempty"`
	Location       string          `json:"location,omitempty"`
	Latency        duration        `json:"latency,omitzero"`
	Field          string          `json:"field,omitempty"`
	Value          json.RawMessage `json:"value,omitempty"`
	Size           int64           `json:"size,omitempty"`
}

func (a *admin) listFaults(w http.ResponseWriter, _ *http.Request) {
	list := []faultJSON{}
	for _, f := range a.handler.Faults().List() {
		list = append(list, faultJSON{
			Number: f.Number, Struck: f.Struck, Kind: f.Kind, Endpoint: f.Endpoint, Query: f.Query, From: f.From, To: f.To,
			Skip: f.Skip, Every: f.Every, Count: f.Count, Status: f.Status,
			RetryAfter: duration(f.RetryAfter), RetryAfterDate: f.RetryAfterDate, RetryAfterRaw: f.RetryAfterRaw,
			Location: f.Location, Latency: duration(f.Latency), Field: f.Field, Value: json.RawMessage(f.Value), Size: f.Size,
		})
	}
	reply(w, list)
}

func (a *admin) addFault(w http.ResponseWriter, r *http.Request) {
	var f faultJSON
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		refuse(w, fmt.Errorf("fault: %w", err))
		return
	}
	number, err := a.handler.Faults().Add(Fault{
		Kind: f.Kind, Endpoint: f.Endpoint, Query: f.Query, From: f.From, To: f.To,
		Skip: f.Skip, Every: f.Every, Count: f.Count, Status: f.Status,
		RetryAfter: time.Duration(f.RetryAfter), RetryAfterDate: f.RetryAfterDate, RetryAfterRaw: f.RetryAfterRaw,
		Location: f.Location, Latency: time.Duration(f.Latency), Field: f.Field, Value: string(f.Value), Size: f.Size,
	})
	if err != nil {
		refuse(w, err)
		return
	}
	reply(w, map[string]int{"number": number})
}

func (a *admin) removeFaults(w http.ResponseWriter, r *http.Request) {
	number, err := numberOf(r)
	switch {
	case err != nil:
		refuse(w, err)
		return
	case number == 0:
		a.handler.Faults().Clear()
	case !a.handler.Faults().Remove(number):
		refuse(w, fmt.Errorf("there is no fault %d", number))
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

type troubleJSON struct {
	Number int         `json:"number"`
	Kind   TroubleKind `json:"kind"`
	Share  float64     `json:"share"`
	Rate   float64     `json:"rate"`
	From   time.Time   `json:"from,omitzero"`
	To     time.Time   `json:"to,omitzero"`
	Every  duration    `json:"every,omitzero"`
	For    duration    `json:"for,omitzero"`
}

func (a *admin) listTrouble(w http.ResponseWriter, _ *http.Request) {
	list := []troubleJSON{}
	for _, t := range a.world.Troubles() {
		list = append(list, troubleJSON{t.Number, t.Kind, t.Share, t.Rate, t.From, t.To, duration(t.Every), duration(t.For)})
	}
	reply(w, list)
}

func (a *admin) addTrouble(w http.ResponseWriter, r *http.Request) {
	values := r.URL.Query()
	var problems []error
	number := func(name string, otherwise float64) float64 {
		if !values.Has(name) {
			return otherwise
		}
		v, err := strconv.ParseFloat(values.Get(name), 64)
		if err != nil {
			problems = append(problems, fmt.Errorf("trouble %s: %w", name, err))
		}
		return v
	}
	t := Trouble{Kind: TroubleKind(values.Get("kind")), Share: number("share", 1), Rate: number("rate", 0.2), From: a.handler.Now()}
	if values.Has("for") {
		length, err := time.ParseDuration(values.Get("for"))
		if err != nil {
			problems = append(problems, fmt.Errorf("trouble for: %w", err))
		}
		t.To = t.From.Add(length)
	}
	for name := range values {
		switch name {
		case "kind", "share", "rate", "for":
		default:
			problems = append(problems, fmt.Errorf("unknown parameter %q", name))
		}
	}
	if err := errors.Join(problems...); err != nil {
		refuse(w, err)
		return
	}
	n, err := a.world.AddTrouble(t)
	if err != nil {
		refuse(w, err)
		return
	}
	reply(w, map[string]int{"number": n})
}

func (a *admin) endTrouble(w http.ResponseWriter, r *http.Request) {
	number, err := numberOf(r)
	if err == nil && a.world.EndTrouble(number, a.handler.Now()) == 0 && number != 0 {
		err = fmt.Errorf("there is no trouble %d under way", number)
	}
	if err != nil {
		refuse(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func numberOf(r *http.Request) (int, error) {
	v := r.URL.Query().Get("number")
	if v == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("number %q is none from 1 on", v)
	}
	return n, nil
}

type countJSON struct {
	Endpoint twilio.Endpoint `json:"endpoint"`
	Code     int             `json:"code"`
	Requests int             `json:"requests"`
}

type requestJSON struct {
	Number     int                 `json:"number"`
	Time       time.Time           `json:"time"`
	Method     string              `json:"method"`
	Path       string              `json:"path"`
	Query      map[string][]string `json:"query,omitempty"`
	Endpoint   twilio.Endpoint     `json:"endpoint"`
	User       string              `json:"user,omitempty"`
	Code       int                 `json:"code"`
	Fault      FaultKind           `json:"fault,omitempty"`
	Operations int                 `json:"operations"`
	Bytes      int64               `json:"bytes"`
	Seconds    float64             `json:"seconds"`
}

func (a *admin) requests(w http.ResponseWriter, _ *http.Request) {
	log := a.handler.Requests()
	now, highest := log.InFlight()
	counts := []countJSON{}
	for k, n := range log.Counts() {
		counts = append(counts, countJSON{k.Endpoint, k.Code, n})
	}
	latest := []requestJSON{}
	for _, r := range log.Latest() {
		latest = append(latest, requestJSON{
			r.Number, r.Time, r.Method, r.Path, r.Query, r.Endpoint, r.User, r.Code, r.Fault, r.Operations, r.Bytes, r.Duration.Seconds(),
		})
	}
	reply(w, map[string]any{
		"total": log.Total(), "bytes": log.Bytes(), "inFlight": now, "maxInFlight": highest, "counts": counts, "latest": latest,
	})
}

func (a *admin) resetRequests(w http.ResponseWriter, _ *http.Request) {
	a.handler.Requests().Reset()
	w.WriteHeader(http.StatusNoContent)
}

func (a *admin) sums(w http.ResponseWriter, r *http.Request) {
	window := 24 * time.Hour
	if v := r.URL.Query().Get("window"); v != "" {
		var err error
		if window, err = time.ParseDuration(v); err != nil || window <= 0 {
			refuse(w, fmt.Errorf("window %q is no positive duration", v))
			return
		}
	}
	now := a.handler.Now()
	reply(w, a.world.Sums(now, now.Add(-window), now.Add(time.Millisecond)))
}

func reply(w http.ResponseWriter, v any) {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(b, '\n'))
}

func refuse(w http.ResponseWriter, err error) {
	http.Error(w, err.Error(), http.StatusBadRequest)
}
