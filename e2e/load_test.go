package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"flag"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"twilio_operations_exporter/twilio/simulator"
)

const fleetToken = "token-of-the-fleet" // of accounts that do not exist

// fleet is the API of many accounts by SID. The name of an account says what is wrong with it.
type fleet struct{ handlers map[string]*simulator.Handler }

// fleetSID returns the SID of the account with this name.
func fleetSID(name string) string {
	digest := sha256.Sum256([]byte(name))
	return "AC" + hex.EncodeToString(digest[:16])
}

func newFleet(names []string) *fleet {
	f := &fleet{handlers: make(map[string]*simulator.Handler)}
	for i, name := range names {
		world := simulator.MustWorld(simulator.WorldSettings{
			Seed: uint64(i), Rate: 200 / float64(len(names)), MaxRecipients: 100, //nolint:gosec // a small number
		})
		h := simulator.NewHandler(world, simulator.Settings{AccountSID: fleetSID(name), AuthToken: fleetToken})
		switch kind, _, _ := strings.Cut(name, "-"); kind {
		case "refused":
			h = simulator.NewHandler(world, simulator.Settings{AccountSID: fleetSID(name), AuthToken: "another"})
		case "hanging":
			h.Faults().MustAdd(simulator.Fault{Kind: simulator.FaultHang})
		case "throttled":
			h.Faults().MustAdd(simulator.Fault{
				Kind: simulator.FaultStatus, Status: http.StatusTooManyRequests, RetryAfter: time.Hour,
			})
		}

		f.handlers[fleetSID(name)] = h
	}
	return f
}

func (f *fleet) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	sid, _, _ := r.BasicAuth()
	f.handlers[sid].ServeHTTP(w, r)
}

// startFleet starts an exporter of these accounts.
func startFleet(t *testing.T, program string, fleet *httptest.Server, names []string, args ...string) *process {
	t.Helper()
	env := []string{"TWILIO_BASE_URL=" + fleet.URL + "/v1"}
	if c := fleet.Certificate(); c != nil {
		file := filepath.Join(t.TempDir(), "ca.pem")
		env = append(env, "SSL_CERT_FILE="+file)
		writeFile(t, file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	return start(t, program, program, env,
		append(args, "--web.listen-address=127.0.0.1:0", "--config.file="+fleetConfig(t, names))...)
}

// fleetConfig returns a configuration file with these accounts.
func fleetConfig(t *testing.T, names []string) string {
	t.Helper()
	dir := t.TempDir()
	var config strings.Builder
	config.WriteString("accounts:\n")
	for _, name := range names {
		fmt.Fprintf(&config, "- {name: %s, account_sid: %s, auth_token_file: token}\n", name, fleetSID(name))
	}
	writeFile(t, filepath.Join(dir, "token"), []byte(fleetToken))

	file := filepath.Join(dir, "accounts.yml")
	writeFile(t, file, []byte(config.String()))
	return file
}

var (
	manyAccounts = flag.Int("accounts", 100, "accounts of TestManyAccounts")
	manyInterval = flag.Duration("accounts.interval", 5*time.Second, "their interval")
	manyStorage  = flag.Bool("accounts.storage", false, "run a second exporter beside the first, which keeps their states, and compare them")
	manyFor      = flag.Duration("accounts.for", 0,
		"how long TestManyAccounts holds the accounts to their interval; 0: not, it only compares them with each other")
)

// enough is how often each account is refreshed in TestManyAccounts.
const enough = 3

// reasonsOfTrouble are the values of the label reason by the first part of the names of accounts.
var reasonsOfTrouble = map[string]string{"refused": "auth", "hanging": "timeout", "throttled": "rate_limited"}

// crowd is an exporter of many accounts, with what its scrapes have shown.
type crowd struct {
	t                         *testing.T
	names                     []string
	process                   *process
	started                   time.Time
	last                      map[string]string // scrape
	took                      []time.Duration   // scrapes
	worst, memory, goroutines float64           // the most; worst is the seconds since a success
}

func startCrowd(t *testing.T, api *httptest.Server, names []string, args ...string) *crowd {
	t.Helper()
	args = append(args, "--collector.interval="+manyInterval.String(), "--twilio.timeout=3s", "--twilio.max-retries=1")
	return &crowd{t: t, names: names, process: startFleet(t, "exporter", api, names, args...), started: time.Now()}
}

// failed returns how many refreshes of an account have failed for a reason.
func (c *crowd) failed(name, reason string) float64 {
	return sampleOf(c.t, c.last, fmt.Sprintf(`twilio_exporter_refresh_errors_total{account=%q,reason=%q}`, name, reason))
}

// look scrapes. The error says what has not happened yet.
func (c *crowd) look() error {
	c.t.Helper()
	begin := time.Now()
	c.last = scrapeSamples(c.t, c.process.url("/metrics"))
	c.took = append(c.took, time.Since(begin))
	c.memory = max(c.memory, sampleOf(c.t, c.last, "process_resident_memory_bytes"))
	c.goroutines = max(c.goroutines, sampleOf(c.t, c.last, "go_goroutines"))

	var missing error
	fewest, most := math.Inf(1), 0.0
	for _, name := range c.names {
		kind, _, _ := strings.Cut(name, "-")
		if reason := reasonsOfTrouble[kind]; reason != "" {
			if c.failed(name, reason) == 0 {
				missing = fmt.Errorf("no refresh of %s has failed with reason %s", name, reason)
			}
			continue
		}
		n := sampleOf(c.t, c.last, `twilio_exporter_refreshes_total{account="`+name+`",result="success"}`)
		fewest, most = min(fewest, n), max(most, n)
		succeeded := sampleOf(c.t, c.last, `twilio_exporter_last_success_timestamp_seconds{account="`+name+`"}`)
		c.worst = max(c.worst, float64(begin.UnixMilli())/1e3-max(succeeded, float64(c.started.Unix())))
	}

	// They begin within the first interval, and may be late by another.
	if most > 3*(fewest+1) {
		c.t.Errorf("one account without trouble was refreshed %.0f times, another one %.0f times", fewest, most)
	}

	left := *manyFor - time.Since(c.started)
	switch {
	case left > 0:
		return fmt.Errorf("%v are left", left)
	case fewest < enough:
		return fmt.Errorf("an account was refreshed %.0f times", fewest)
	}
	return missing
}

// quantile returns a quantile of the durations of scrapes.
func (c *crowd) quantile(q float64) time.Duration {
	slices.Sort(c.took)
	return c.took[int(q*float64(len(c.took)-1))]
}

func (c *crowd) check() {
	c.t.Helper()
	c.t.Logf("last success at most %.1fs ago, %.0f MB resident, %.0f goroutines, scrapes' median %v and p99 %v of %d",
		c.worst, c.memory/1e6, c.goroutines, c.quantile(0.5), c.quantile(0.99), len(c.took))

	if most := max(200, 0.3*float64(len(c.names))); c.memory > most*1e6 {
		c.t.Errorf("%.0f MB resident, want at most %.0f", c.memory/1e6, most)
	}
	if most := 10.0 * float64(len(c.names)); c.goroutines > most {
		c.t.Errorf("%.0f goroutines, want at most %.0f", c.goroutines, most)
	}
	if *manyFor == 0 {
		return // what follows depends on how busy the machine is
	}
	if most := (*manyInterval + 5*time.Second).Seconds(); c.worst > most {
		c.t.Errorf("an account without trouble was refreshed %.1fs ago, want at most %.0fs", c.worst, most)
	}

	for _, name := range c.names {
		kind, _, _ := strings.Cut(name, "-")
		for _, reason := range []string{
			"auth", "secret", "rate_limited", "timeout", "server", "network", "decode", "pagination", "request", "other",
		} {
			if want := reasonsOfTrouble[kind]; want != "" && c.failed(name, reason) > 0 != (reason == want) {
				c.t.Errorf("%s: %v refreshes ended with reason %s", name, c.failed(name, reason), reason)
			}
		}
	}
}

// TestManyAccounts runs the built program with many accounts, of which 30% are in three kinds of trouble: the others
// must not notice. It does not run in parallel with the tests that do. The figures of docs/performance.md are those of
//
//	go test -run '^TestManyAccounts$' -v -count=1 -accounts=5000 -accounts.interval=1m -accounts.for=3m
//
// With -accounts.storage, a second program beside it keeps the states of as many accounts.
func TestManyAccounts(t *testing.T) {
	toolPath(t, "exporter") // time begins when it is there
	var names []string
	for i := range *manyAccounts {
		kind := "good"
		if i%10 < 3 {
			kind = []string{"refused", "hanging", "throttled"}[i%10]
		}
		names = append(names, fmt.Sprintf("%s-%d", kind, i))
	}

	server := httptest.NewServer(newFleet(names))
	defer server.Close()
	defer server.CloseClientConnections()

	crowds := []*crowd{startCrowd(t, server, names)}
	if *manyStorage {
		crowds = append(crowds, startCrowd(t, server, names, "--storage.path="+filepath.Join(t.TempDir(), "states")))
	}
	turns := slices.Clone(crowds)
	for missing := true; missing; {
		missing = false
		for _, c := range turns {
			err := c.look()
			if err != nil && time.Since(c.started) > *manyFor+patience {
				t.Fatal(err)
			}
			missing = missing || err != nil
			<-time.After(500 * time.Millisecond / time.Duration(len(crowds)))
		}
		slices.Reverse(turns) // neither is always the first
	}

	for _, c := range crowds {
		c.check()
	}
	if *manyStorage {
		without, with := crowds[0], crowds[1]
		t.Logf("with --storage.path: last success %.3f, scrapes' median %.3f and p99 %.3f of what they are without",
			with.worst/without.worst, ratio(with.quantile(0.5), without.quantile(0.5)), ratio(with.quantile(0.99), without.quantile(0.99)))
	}
}

func ratio(a, b time.Duration) float64 { return float64(a) / float64(b) }

// scrapeSamples returns the values of an exposition by name and labels.
func scrapeSamples(t *testing.T, address string) map[string]string {
	t.Helper()
	body, err := get(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	return samplesOf(body)
}

// samplesOf are the values of an exposition, by name and labels.
func samplesOf(body []byte) map[string]string {
	values := map[string]string{}
	for line := range strings.Lines(string(body)) {
		line = strings.TrimSpace(line)
		if i := strings.LastIndex(line, " "); i > 0 && !strings.HasPrefix(line, "#") {
			values[line[:i]] = line[i+1:]
		}
	}
	return values
}

// sampleOf returns a sample's value, and ends the test if there is none.
func sampleOf(t *testing.T, samples map[string]string, name string) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(samples[name], 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return v
}
