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

// fleet is the API of many accounts, by SID, of which some are in trouble: the name
// of an account says in which.
type fleet struct{ handlers map[string]*simulator.Handler }

// fleetSID is the SID of the account of this name.
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

// startFleet starts an exporter of these accounts of a fleet.
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

// fleetConfig is a configuration file of these accounts of a fleet.
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
	manyStorage  = flag.Bool("accounts.storage", false, "keep their states")
	manyFor      = flag.Duration("accounts.for", 0,
		"how long TestManyAccounts holds the accounts to their interval; 0: not, it only compares them with each other")
)

// enough is how often each account is refreshed in TestManyAccounts.
const enough = 3

// TestManyAccounts runs the built program with many accounts, of which 30% are in three kinds of trouble: the others
// must not notice. It does not run in parallel with the tests that do. The figures of docs/performance.md are those of
//
//	go test -run '^TestManyAccounts$' -v -count=1 -accounts=5000 -accounts.interval=1m -accounts.for=3m
func TestManyAccounts(t *testing.T) {
	toolPath(t, "exporter") // time begins when it is there
	reasons := map[string]string{"refused": "auth", "hanging": "timeout", "throttled": "rate_limited"}
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

	args := []string{"--collector.interval=" + manyInterval.String(), "--twilio.timeout=3s", "--twilio.max-retries=1"}
	if *manyStorage {
		args = append(args, "--storage.path="+filepath.Join(t.TempDir(), "states"))
	}
	p := startFleet(t, "exporter", server, names, args...)

	var last map[string]string
	var took []time.Duration
	var worst, memory, goroutines float64
	failed := func(name, reason string) float64 {
		return sampleOf(t, last, fmt.Sprintf(`twilio_exporter_refresh_errors_total{account=%q,reason=%q}`, name, reason))
	}
	started := time.Now()
	look := func() error {
		begin := time.Now()
		last = scrapeSamples(t, p.url("/metrics"))
		took = append(took, time.Since(begin))
		memory = max(memory, sampleOf(t, last, "process_resident_memory_bytes"))
		goroutines = max(goroutines, sampleOf(t, last, "go_goroutines"))
		var missing error
		fewest, most := math.Inf(1), 0.0
		for _, name := range names {
			kind, _, _ := strings.Cut(name, "-")
			if reason := reasons[kind]; reason != "" {
				if failed(name, reason) == 0 {
					missing = fmt.Errorf("no refresh of %s has failed with reason %s", name, reason)
				}
				continue
			}
			n := sampleOf(t, last, `twilio_exporter_refreshes_total{account="`+name+`",result="success"}`)
			fewest, most = min(fewest, n), max(most, n)
			succeeded := sampleOf(t, last, `twilio_exporter_last_success_timestamp_seconds{account="`+name+`"}`)
			worst = max(worst, float64(begin.UnixMilli())/1e3-max(succeeded, float64(started.Unix())))
		}
		// They begin within the first interval, and may be late by another.
		if most > 3*(fewest+1) {
			t.Errorf("one account without trouble was refreshed %.0f times, another one %.0f times", fewest, most)
		}
		switch left := *manyFor - time.Since(started); {
		case left > 0:
			return fmt.Errorf("%v are left", left)
		case fewest < enough:
			return fmt.Errorf("an account was refreshed %.0f times", fewest)
		}
		return missing
	}
	for missing := look(); missing != nil; missing = look() {
		if time.Since(started) > *manyFor+patience {
			t.Fatal(missing)
		}
		<-time.After(500 * time.Millisecond)
	}
	slices.Sort(took)
	t.Logf("last success at most %.1fs ago, %.0f MB resident, %.0f goroutines, scrapes' p99 %v of %d",
		worst, memory/1e6, goroutines, took[len(took)*99/100], len(took))

	if most := max(200, 0.3*float64(len(names))); memory > most*1e6 {
		t.Errorf("%.0f MB resident, want at most %.0f", memory/1e6, most)
	}
	if most := 10.0 * float64(len(names)); goroutines > most {
		t.Errorf("%.0f goroutines, want at most %.0f", goroutines, most)
	}
	if *manyFor == 0 {
		return // what follows depends on how busy the machine is
	}
	if most := (*manyInterval + 5*time.Second).Seconds(); worst > most {
		t.Errorf("an account without trouble was refreshed %.1fs ago, want at most %.0fs", worst, most)
	}
	for _, name := range names {
		kind, _, _ := strings.Cut(name, "-")
		for _, reason := range []string{
			"auth", "secret", "rate_limited", "timeout", "server", "network", "decode", "pagination", "request", "other",
		} {
			if want := reasons[kind]; want != "" && failed(name, reason) > 0 != (reason == want) {
				t.Errorf("%s: %v refreshes ended with reason %s", name, failed(name, reason), reason)
			}
		}
	}
}

// scrapeSamples returns the values of an exposition by name and labels.
func scrapeSamples(t *testing.T, address string) map[string]string {
	t.Helper()
	body, err := get(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]string{}
	for line := range strings.Lines(string(body)) {
		line = strings.TrimSpace(line)
		if i := strings.LastIndex(line, " "); i > 0 && !strings.HasPrefix(line, "#") {
			values[line[:i]] = line[i+1:]
		}
	}
	return values
}

// sampleOf is a sample's value; the test ends where there is none.
func sampleOf(t *testing.T, samples map[string]string, name string) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(samples[name], 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return v
}
