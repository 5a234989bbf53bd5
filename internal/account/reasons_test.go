package account

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"

	"twilio_operations_exporter/collector"
	"twilio_operations_exporter/internal/config"
	"twilio_operations_exporter/internal/testutil"
	"twilio_operations_exporter/twilio"
	"twilio_operations_exporter/twilio/simulator"
)

// A rig is an account that runs in a synctest bubble, with its API.
type rig struct {
	*Account
	t    *testing.T
	api  *simulator.Handler
	list *simulator.Static
	reg  *prometheus.Registry
	log  *testutil.Log

	mu     sync.Mutex
	paths  []string // of the requests, in their order
	at     []time.Time
	answer func(w http.ResponseWriter, r *http.Request) bool // in the API's place, where it returns true
}

// newRig returns an account with operations that have not lost anything.
func newRig(t *testing.T, operations int, messages simulator.MessageSettings, args ...string) *rig {
	t.Helper()
	var ops []twilio.Operation
	for n := range operations {
		ops = append(ops, testutil.Operation(n, twilio.StatusCompleted, twilio.Stats{twilio.Total: 1000, twilio.Delivered: 1000}))
	}
	g := &rig{t: t, list: simulator.NewStatic(ops...), reg: prometheus.NewRegistry(), log: &testutil.Log{}}
	g.api = simulator.NewHandler(g.list, simulator.Settings{Messages: messages})

	c, err := config.Load(append([]string{"--collector.max-staleness=0"}, args...), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	account := c.Accounts()[0]
	noProxy := func(*http.Request) (*url.URL, error) { return nil, nil } //nolint:nilnil // there is none
	m := &Manager{
		metrics:    collector.NewMetrics(g.reg),
		logger:     log.NewLogfmtLogger(g.log),
		transports: map[config.HTTP]transport{account.HTTP: {testutil.Transport(g), noProxy}},
	}

	g.Account = m.newAccount(&account)
	return g
}

// ServeHTTP implements http.Handler.
func (g *rig) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	g.paths = append(g.paths, r.URL.Path)
	g.at = append(g.at, time.Now())
	answer := g.answer
	g.mu.Unlock()
	if answer == nil || !answer(w, r) {
		g.api.ServeHTTP(w, r)
	}
}

// run runs the account until the test ends.
func (g *rig) run() (stop func()) {
	ctx, cancel := context.WithCancel(g.t.Context())
	g.start(ctx, 0)
	synctest.Wait()
	return func() {
		cancel()
		<-g.ended
	}
}

// lose makes an operation lose messages.
func (g *rig) lose(n int, failed, undelivered int64) {
	op := testutil.Operation(n, twilio.StatusCompleted, twilio.Stats{})
	g.list.Update(op.ID, func(op *twilio.Operation) {
		op.Stats[twilio.Failed], op.Stats[twilio.Undelivered] = failed, undelivered
		op.Stats[twilio.Delivered] = op.Stats[twilio.Total] - failed - undelivered
		op.Stats[twilio.Attempts] = op.Stats[twilio.Total]
		op.UpdatedAt = time.Now()
	})
}

func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// samples returns the account's samples whose name and labels contain one of these texts, without the label account.
func (g *rig) samples(of ...string) map[string]float64 {
	g.t.Helper()
	all := prometheus.NewRegistry()
	all.MustRegister(collector.Current([]*collector.Refresher{g.Refresher}))
	families, err := prometheus.Gatherers{g.reg, all}.Gather()
	if err != nil {
		g.t.Fatal(err)
	}

	found := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			words := []string{f.GetName()}
			for _, l := range m.GetLabel() {
				if l.GetName() != "account" {
					words = append(words, l.GetValue())
				}
			}
			key := strings.Join(words, " ")
			if slices.ContainsFunc(of, func(text string) bool { return strings.Contains(key, text) }) {
				found[key] = m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return found
}

// asked returns the number of requests for messages and for operations.
func (g *rig) asked() (messages, operations int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, path := range g.paths {
		if strings.Contains(path, "/Operations") {
			operations++
		} else {
			messages++
		}
	}
	return messages, operations
}

func operationID(n int) string { return testutil.Operation(n, "", twilio.Stats{}).ID }

func sum(samples map[string]float64) (sum float64) {
	for v := range maps.Values(samples) {
		sum += v
	}
	return sum
}

func setEnv(t *testing.T) {
	t.Helper()
	testutil.SetEnv(t, map[string]string{
		"TWILIO_ACCOUNT_SID": testutil.SID, "TWILIO_AUTH_TOKEN": testutil.Token, "TWILIO_BASE_URL": "http://api.test/v1",
	})
}

// TestReasons checks that a failing operation is looked up once, and again when its losses have doubled.
func TestReasons(t *testing.T) {
	setEnv(t)
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, 3, simulator.MessageSettings{}, "--collector.operation-tags=campaign,none")
		defer g.run()()
		g.lose(1, 150, 50)
		pass(90 * time.Second)
		id := operationID(1)

		if messages, _ := g.asked(); messages != 7 {
			t.Errorf("%d requests for messages, want 7: %q", messages, g.paths)
		}
		got := g.samples("_sampled")
		if got["twilio_named_operation_messages_sampled "+id] != 5 || sum(g.samples("named_operation_errors_sampled")) != 5 ||
			sum(g.samples("twilio_errors_sampled_total")) != 5 {
			t.Errorf("sampled %v", got)
		}

		if info := g.samples("twilio_named_operation_info"); len(info) != 1 || sum(info) != 1 {
			t.Errorf("info %v", info)
		}
		found, _ := g.Refresher.Sampled().Operation(id)
		if found.Tags["campaign"] == "" || len(found.Tags) != 1 {
			t.Errorf("tags %v", found.Tags)
		}

		for _, e := range found.Errors {
			if e.Code == "30007" && (e.Channel != "SMS" || e.Text != "Message filtered" && e.Count > 1) {
				t.Errorf("error %+v", e)
			}
		}

		g.lose(1, 200, 199)
		pass(30 * time.Minute)
		if messages, _ := g.asked(); messages != 7 {
			t.Errorf("%d requests for messages of an operation that has not lost twice as much", messages)
		}
		g.lose(1, 200, 200)
		pass(90 * time.Second)
		if messages, _ := g.asked(); messages != 14 {
			t.Errorf("%d requests for messages, want 14", messages)
		}
		g.lose(1, 400, 400)
		pass(8 * time.Minute)
		if messages, _ := g.asked(); messages != 14 {
			t.Errorf("%d requests for messages within ten minutes", messages)
		}
		pass(3 * time.Minute)
		if messages, _ := g.asked(); messages != 21 {
			t.Errorf("%d requests for messages, want 21", messages)
		}

		before := sum(g.samples("twilio_errors_sampled_total"))
		g.lose(1, 0, 0)
		pass(20 * time.Minute)
		if got := g.samples("named_operation"); len(got) != 0 {
			t.Errorf("an operation that is no longer named: %v", got)
		}
		if after := sum(g.samples("twilio_errors_sampled_total")); after != before || after < 5 {
			t.Errorf("the counter went from %v to %v", before, after)
		}
	})
}

// TestReasonsCost checks that looking up many failing operations costs no more than promised, and refreshes no more
// than without.
func TestReasonsCost(t *testing.T) {
	setEnv(t)
	var refreshes [2]int
	for i, samples := range []string{"5", "0"} {
		synctest.Test(t, func(t *testing.T) {
			g := newRig(t, 200, simulator.MessageSettings{},
				"--collector.named-operations=20", "--collector.failure-samples="+samples, "--twilio.rate-limit=1")
			defer g.run()()
			for n := range 200 {
				g.lose(n, 150, 50)
			}

			for minute := range 60 {
				g.lose(minute, int64(151+minute), 50) // others come to be named
				pass(time.Minute)
			}

			messages := 0
			messages, refreshes[i] = g.asked()
			switch {
			case samples == "0" && messages != 0:
				t.Errorf("%d requests for messages", messages)
			case samples == "5" && (messages < 200 || messages > 360):
				t.Errorf("%d requests for messages in an hour", messages)
			}

			var at []time.Time
			for n, path := range g.paths {
				if !strings.Contains(path, "/Operations") {
					at = append(at, g.at[n])
				}
			}

			for n := range len(at) - 60 {
				if apart := at[n+60].Sub(at[n]); apart < 10*time.Minute {
					t.Errorf("61 requests for messages within %v", apart)
				}
			}
		})
	}

	if refreshes[0] != refreshes[1] {
		t.Errorf("refreshes made %d requests, and %d without reasons", refreshes[0], refreshes[1])
	}
}

// TestReasonsOfAHostileAPI checks that no answer about messages affects refreshes or is shown if it is wrong.
func TestReasonsOfAHostileAPI(t *testing.T) {
	setEnv(t)
	status := func(code int, header ...string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, _ *http.Request) bool {
			for pair := range slices.Chunk(header, 2) {
				w.Header().Set(pair[0], pair[1])
			}
			w.WriteHeader(code)
			_, _ = io.WriteString(w, "{}")
			return true
		}
	}

	foreign := func(related string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			m := `{"id":"comms_message_01h2xcejqtf2nbrexx3vqjhp41","status":"FAILED",` + related + `"attempts":[` +
				`{"from":{"channel":"SMS"},"status":"FAILED","error":{"code":66666,"message":"foreign"}}]}`
			if strings.HasSuffix(r.URL.Path, "/Messages") {
				m = `{"messages":[` + m + `],"pagination":{"next":null}}`
			}
			_, _ = io.WriteString(w, m)
			return true
		}
	}

	for name, tt := range map[string]struct {
		settings simulator.MessageSettings
		answer   func(http.ResponseWriter, *http.Request) bool // about messages
		most     int                                           // requests for messages in 55 minutes
		log      int                                           // lines of warnings
		found    bool                                          // reasons are found nevertheless
	}{
		"ignores operationId":     {settings: simulator.MessageSettings{IgnoreOperation: true}, most: 20},
		"400":                     {answer: status(400), most: 1, log: 1},
		"401":                     {answer: status(401), most: 1, log: 1},
		"403":                     {answer: status(403), most: 1, log: 1},
		"404":                     {answer: status(404), most: 1, log: 1},
		"429 with an hour":        {answer: status(429, "Retry-After", "3600"), most: 1, log: 1},
		"503 with a day":          {answer: status(503, "Retry-After", "86400"), most: 1, log: 2},
		"500":                     {answer: status(500), most: 56},
		"302":                     {answer: status(302, "Location", "/"), most: 56},
		"nonsense":                {answer: status(200), most: 56},
		"another clock":           {answer: status(200, "Date", "Mon, 02 Jan 2006 15:04:05 GMT"), most: 56},
		"null errors, text codes": {settings: simulator.MessageSettings{NullErrors: true, TextCodes: true}, most: 7, found: true},
		"another operation's":     {answer: foreign(`"related":[{"name":"OPERATION","id":"` + operationID(0) + `"}],`), most: 20},
		"nobody's":                {answer: foreign(""), most: 20},
		"does not answer": {
			answer: func(_ http.ResponseWriter, r *http.Request) bool {
				<-r.Context().Done()
				panic(http.ErrAbortHandler)
			},
			most: 56,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t, 3, tt.settings, "--twilio.timeout=2m", "--collector.concurrency=1")
				if tt.answer != nil {
					g.answer = func(w http.ResponseWriter, r *http.Request) bool {
						return !strings.Contains(r.URL.Path, "/Operations") && tt.answer(w, r)
					}
				}

				g.lose(1, 150, 50)
				g.lose(2, 50, 20) // does not fail
				defer g.run()()
				pass(55*time.Minute + time.Second)

				messages, _ := g.asked()
				if messages > tt.most || messages == 0 {
					t.Errorf("%d requests for messages, want at most %d", messages, tt.most)
				}
				for key, want := range map[string]float64{
					"twilio_up": 1, "twilio_exporter_refreshes_total success": 56, "twilio_exporter_refreshes_total error": 0,
					"twilio_exporter_api_throttled_seconds_total": 0, "twilio_exporter_clock_skew_seconds": 0,
				} {
					if got := g.samples(key)[key]; got != want {
						t.Errorf("%s is %v, want %v", key, got, want)
					}
				}

				if got := g.samples("_sampled", "_info "+operationID(1)); (len(got) > 0) != tt.found {
					t.Errorf("sampled %v", got)
				}
				if n := strings.Count(g.log.String(), "warn"); n != tt.log {
					t.Errorf("%d warnings, want %d:\n%s", n, tt.log, g.log)
				}
				failed := sum(g.samples("twilio_exporter_sample_errors_total"))
				if hopeful := tt.answer == nil || tt.most == 20 || name == "does not answer"; hopeful != (failed == 0) {
					t.Errorf("%v look-ups failed", failed)
				}
			})
		})
	}
}

// TestReasonsRefused checks that an account that may not see messages tries again after an hour.
func TestReasonsRefused(t *testing.T) {
	setEnv(t)
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, 3, simulator.MessageSettings{})
		g.answer = func(w http.ResponseWriter, r *http.Request) bool {
			if strings.Contains(r.URL.Path, "/Operations") {
				return false
			}
			w.WriteHeader(http.StatusForbidden)
			return true
		}

		g.lose(1, 150, 50)
		defer g.run()()
		pass(62 * time.Minute)
		if messages, _ := g.asked(); messages != 2 {
			t.Errorf("%d requests for messages", messages)
		}
		if got := g.samples("twilio_exporter_sample_errors_total auth"); sum(got) != 2 {
			t.Errorf("errors %v", got)
		}
		g.mu.Lock()
		g.answer = nil
		g.mu.Unlock()
		pass(61 * time.Minute)
		if got := g.samples("twilio_named_operation_messages_sampled"); sum(got) != 5 {
			t.Errorf("sampled %v", got)
		}
	})
}

// TestReasonsThatLag checks that messages are found once they appear, even long after the stats had them.
func TestReasonsThatLag(t *testing.T) {
	setEnv(t)
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, 3, simulator.MessageSettings{})
		began := time.Now()
		g.answer = func(w http.ResponseWriter, r *http.Request) bool {
			if strings.Contains(r.URL.Path, "/Operations") || time.Since(began) > 5*time.Minute {
				return false
			}
			_, _ = io.WriteString(w, `{"messages":[],"pagination":{"next":null}}`)
			return true
		}

		g.lose(1, 150, 50)
		defer g.run()()
		pass(4 * time.Minute)
		if got := g.samples("_sampled", "operation_info"); len(got) != 0 {
			t.Errorf("sampled %v", got)
		}
		pass(6 * time.Minute)
		if got := g.samples("twilio_named_operation_messages_sampled"); sum(got) != 5 {
			t.Errorf("sampled %v", got)
		}
		if messages, _ := g.asked(); messages > 15 {
			t.Errorf("%d requests for messages", messages)
		}
	})
}

// TestReasonsAreBounded checks that an API that invents codes and channels cannot create series without end.
func TestReasonsAreBounded(t *testing.T) {
	setEnv(t)
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, 40, simulator.MessageSettings{}, "--collector.named-operations=20", "--collector.failure-samples=20")
		n := 0
		g.answer = func(w http.ResponseWriter, r *http.Request) bool {
			id, isMessage := strings.CutPrefix(r.URL.Path, "/v1/Messages/")
			if !isMessage || strings.HasPrefix(id, "Operations") {
				return false
			}
			n++
			operation := "comms_operation_" + id[len("comms_message_"):len("comms_message_")+26]
			channel := "CHANNEL" + strings.Repeat("A", n%25+1)
			if n%5 == 0 {
				channel = fmt.Sprintf("channel %d", n)
			}
			_, _ = fmt.Fprintf(w, `{"id":%q,"status":"FAILED","related":[{"name":"OPERATION","id":%q}],"attempts":[
				{"from":{"channel":%q},"status":"FAILED","error":{"code":%d}}]}`, id, operation, channel, 10000+n)
			return true
		}

		for op := range 40 {
			g.lose(op, 200, 0)
		}
		defer g.run()()
		for minute := range 180 {
			g.lose(minute%40, int64(200+minute), 0)
			pass(time.Minute)
		}

		if n < 300 {
			t.Fatalf("only %d messages were looked up", n)
		}
		for op := range 40 {
			if got := g.samples("named_operation_errors_sampled " + operationID(op)); len(got) > 11 {
				t.Errorf("%d codes of operation %d", len(got), op)
			}
			for key := range g.samples("errors_sampled") {
				if strings.Contains(key, "channel") {
					t.Errorf("channel in %q", key)
				}
			}
		}

		got := g.samples("twilio_errors_sampled_total")
		if len(got) != 51 || int(sum(got)) != n || got["twilio_errors_sampled_total other other"] == 0 {
			t.Errorf("%d codes of %v messages, want 51 of %d: %v", len(got), sum(got), n, got)
		}
	})
}

// TestReasonsCanBeKept checks that results can be encoded and decoded.
func TestReasonsCanBeKept(t *testing.T) {
	setEnv(t)
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, 3, simulator.MessageSettings{}, "--collector.operation-tags=campaign")
		g.lose(1, 150, 50)
		defer g.run()()
		pass(10 * time.Second)
		want := g.Refresher.Sampled()
		var file bytes.Buffer
		var got collector.Sampled
		if err := json.NewEncoder(&file).Encode(want); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(file.String(), simulator.Personal) {
			t.Error("personal data would be kept")
		}
		if err := json.NewDecoder(&file).Decode(&got); err != nil {
			t.Fatal(err)
		}
		if found, _ := got.Operation(operationID(1)); len(found.Messages) != 5 || fmt.Sprint(got.Errors) != fmt.Sprint(want.Errors) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})
}

func TestChoose(t *testing.T) {
	many := []string{"1", "2", "3", "4", "5", "6", "7", "8", "9"}
	for _, tt := range []struct {
		failedStat, undeliveredStat int64
		samples                     int
		failed, undelivered         int // listed
		wantFailed, wantUndelivered int
	}{
		{100, 0, 5, 9, 0, 5, 0},
		{0, 100, 5, 0, 9, 0, 5},
		{60, 40, 5, 9, 9, 3, 2},
		{1, 1000, 5, 9, 9, 1, 4},
		{1000, 1, 5, 9, 9, 4, 1},
		{1000, 1, 1, 9, 9, 1, 0},
		{1, 1000, 1, 9, 9, 0, 1},
		{60, 40, 5, 1, 9, 1, 4}, // what is missing is made up for
		{60, 40, 5, 9, 0, 5, 0},
		{60, 40, 5, 0, 0, 0, 0},
		{60, 40, 5, 2, 1, 2, 1},
	} {
		op := &twilio.Operation{Stats: twilio.Stats{twilio.Failed: tt.failedStat, twilio.Undelivered: tt.undeliveredStat}}
		s := &sampler{samples: tt.samples}
		got := s.choose(op, slices.Repeat([]string{"f"}, tt.failed), many[:tt.undelivered])
		failed := 0
		for _, id := range got {
			if id == "f" {
				failed++
			}
		}
		if failed != tt.wantFailed || len(got)-failed != tt.wantUndelivered {
			t.Errorf("%+v: got %d and %d", tt, failed, len(got)-failed)
		}
	}
}

func TestDecisive(t *testing.T) {
	for name, tt := range map[string]struct {
		attempts      []twilio.Attempt
		code, channel string
	}{
		"none":                 {nil, "none", "none"},
		"no code":              {[]twilio.Attempt{{Channel: "RCS"}, {Channel: "SMS"}}, "none", "SMS"},
		"one":                  {[]twilio.Attempt{{Channel: "SMS", Code: "1"}}, "1", "SMS"},
		"the last":             {[]twilio.Attempt{{Channel: "RCS", Code: "1"}, {Channel: "SMS", Code: "2"}}, "2", "SMS"},
		"the last with a code": {[]twilio.Attempt{{Channel: "RCS", Code: "1"}, {Channel: "SMS"}}, "1", "RCS"},
		"no channel":           {[]twilio.Attempt{{Channel: "RCS", Code: "1"}, {Code: "2"}}, "2", "none"},
	} {
		s := &sampler{}
		got := s.sampled(&twilio.Message{Attempts: tt.attempts})
		if got.Code != tt.code || got.Channel != tt.channel {
			t.Errorf("%s: %s on %s", name, got.Code, got.Channel)
		}
	}
}

func TestImpersonal(t *testing.T) {
	for text, want := range map[string]bool{
		"Message filtered": true, "Error 30007: 3 of 4": true, "": true, "12345": true,
		"to +15550001234": false, "to (555) 000-1234": false, "1 2 3 4 5 6": false, "x@example.org": false, "１２３４５６": false,
		"to 555·010·99": false, "to 555‑010‑99": false, "to 555_010,99": false, "to 555\u00a0010\u00a099": false,
	} {
		if got := impersonal(text); got != text && want || got != "" && !want {
			t.Errorf("%q: %q", text, got)
		}
	}
}
