// Package testutil helps tests: it has a simulated API, configuration files, environments, and checks of what is
// exported.
package testutil

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"twilio_operations_exporter/twilio"
	"twilio_operations_exporter/twilio/simulator"
)

// Credentials that the simulated API accepts.
const (
	SID   = "AC0123456789abcdef0123456789abcdef"
	Key   = "SK0123456789abcdef0123456789abcdef" // the API does not know it
	Token = "a-token-that-nobody-may-see"
)

// Operation returns an operation with the number n in its id, created an hour ago.
func Operation(n int, status twilio.Status, stats twilio.Stats) twilio.Operation {
	created := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
	return twilio.Operation{
		ID: fmt.Sprintf("comms_operation_0%025d", n), Status: status, Stats: stats,
		CreatedAt: created, UpdatedAt: created.Add(time.Minute),
	}
}

// API is a simulated API with a list of operations, on a server of its own.
type API struct {
	*simulator.Handler
	List *simulator.Static
	URL  string // base URL

	held sync.RWMutex
}

// New serves a list of operations until the test ends.
func New(tb testing.TB, ops ...twilio.Operation) *API {
	tb.Helper()
	list := simulator.NewStatic(ops...)
	h := simulator.NewHandler(list, simulator.Settings{AccountSID: SID, AuthToken: Token})
	a := &API{Handler: h, List: list}
	s := httptest.NewServer(a)
	a.URL = s.URL + "/v1"
	tb.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return a
}

// Hold keeps requests from the simulator until release is called.
func (a *API) Hold() (release func()) {
	a.held.Lock()
	return sync.OnceFunc(a.held.Unlock)
}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.held.RLock()
	defer a.held.RUnlock()
	a.Handler.ServeHTTP(w, r)
}

// Env returns the environment of a program that uses the API.
func (a *API) Env() map[string]string {
	return map[string]string{"TWILIO_ACCOUNT_SID": SID, "TWILIO_AUTH_TOKEN": Token, "TWILIO_BASE_URL": a.URL}
}

// SetEnv sets the program's environment variables for the test. It clears those that env lacks, as whoever runs the
// test may have set some.
func SetEnv(tb testing.TB, env map[string]string) {
	tb.Helper()
	for _, name := range Variables() {
		tb.Setenv(name, env[name])
	}
}

// Variables returns the environment variables that the program reads.
func Variables() []string {
	return []string{
		"TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN", "TWILIO_API_KEY", "TWILIO_API_SECRET", "TWILIO_BASE_URL",
		"TWILIO_SHARD_INDEX", "TWILIO_SHARD_TOTAL",
	}
}

// WriteFile writes a file into a new directory and returns its path.
func WriteFile(tb testing.TB, name, content string) string {
	tb.Helper()
	p := filepath.Join(tb.TempDir(), name)
	if err := os.WriteFile(p, []byte(content), 0o600); err != nil {
		tb.Fatal(err)
	}
	return p
}

// File is a configuration file that the test can rewrite. Its accounts use the API.
type File struct {
	Path string

	tb  testing.TB
	api *API
}

// NewFile writes a configuration file: see Write.
func NewFile(tb testing.TB, api *API, accounts ...string) *File {
	tb.Helper()
	f := &File{Path: filepath.Join(filepath.Dir(WriteFile(tb, "token", Token)), "accounts.yml"), tb: tb, api: api}
	f.Write(accounts...)
	return f
}

// Write replaces the accounts. Each is a name, optionally followed by a space and further keys.
func (f *File) Write(accounts ...string) {
	f.tb.Helper()
	var b strings.Builder
	b.WriteString("accounts:\n")
	for _, a := range accounts {
		name, more, _ := strings.Cut(a, " ")
		fmt.Fprintf(&b, "- {name: %s, account_sid: %s, auth_token_file: token, base_url: %q%s}\n", name, SID, f.api.URL, more)
	}
	f.WriteRaw(b.String())
}

// WriteRaw replaces the whole file.
func (f *File) WriteRaw(content string) {
	f.tb.Helper()
	if err := os.WriteFile(f.Path, []byte(content), 0o600); err != nil {
		f.tb.Fatal(err)
	}
}

// Samples returns the lines of an exposition that are no comments.
func Samples(text string) (lines []string) {
	scanner := bufio.NewScanner(strings.NewReader(text))
	for scanner.Scan() {
		if line := scanner.Text(); line != "" && !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	return lines
}

// WantSamples reports an error for each sample that is missing in an exposition.
func WantSamples(tb testing.TB, text string, want ...string) {
	tb.Helper()
	lines := Samples(text)
	for _, w := range want {
		if !slices.Contains(lines, w) {
			tb.Errorf("%q is missing in\n%s", w, strings.Join(lines, "\n"))
		}
	}
}

// Get returns the body at a URL. Another status than 200 is an error.
func Get(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", err
	}
	req.Close = true // an idle connection has a goroutine
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d", resp.StatusCode)
	}
	return string(b), err
}

// WaitFor polls until ok, ever less often as that may cost a scrape. It is for events that tests cannot be notified of.
func WaitFor(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	deadline := time.After(time.Minute)
	for pause := time.Millisecond; !ok(); pause = min(2*pause, 50*time.Millisecond) {
		select {
		case <-deadline:
			tb.Fatalf("waited in vain for %s", what)
		case <-time.After(pause):
		}
	}
}
