package browser

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"twilio_operations_exporter/twilio/simulator"
)

const (
	sid    = "AC00000000000000000000000000000001"
	secret = "s3cret-of-the-test"
)

// program is the path of the exporter, built once.
var program string

func TestMain(m *testing.M) {
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "exporter")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()

	program = filepath.Join(dir, "exporter")
	build := exec.Command("go", "build", "-o", program, ".")
	build.Dir = filepath.Join("..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Printf("go build: %v\n%s\n", err, out)
		return 1
	}
	return m.Run()
}

// api is a simulated API that can be told to misbehave.
type api struct {
	url   string // base URL
	pages int    // that it answered

	world http.Handler

	mu    sync.Mutex // guards what follows
	fault http.HandlerFunc
	after int // how many pages it answers before the fault
}

// newAPI serves a world until the test ends.
func newAPI(t *testing.T, settings simulator.WorldSettings) *api {
	t.Helper()
	world := simulator.MustWorld(settings)
	a := &api{world: simulator.NewHandler(world, simulator.Settings{AccountSID: sid, AuthToken: secret})}
	s := httptest.NewServer(a)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	a.url = s.URL + "/v1"
	return a
}

// ServeHTTP implements http.Handler.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	a.pages++
	fault := a.fault
	if a.pages <= a.after {
		fault = nil
	}
	a.mu.Unlock()
	if fault != nil {
		fault(w, r)
		return
	}
	a.world.ServeHTTP(w, r)
}

// misbehave has the API answer with a fault after so many pages.
func (a *api) misbehave(after int, fault http.HandlerFunc) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fault = fault
	a.after = after
}

// hangs never answers.
func hangs(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// throttles lets no request through for a while.
func throttles(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Retry-After", "245")
	w.WriteHeader(http.StatusTooManyRequests)
}

// fails answers with an error of the server's.
func fails(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }

// refuses does not take the credentials.
func refuses(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }

// account is an entry of the configuration file.
type account struct {
	name string
	api  *api
}

// start runs the exporter with these accounts, and returns the address of its page.
func start(ctx context.Context, t *testing.T, accounts []account, args ...string) string {
	t.Helper()
	dir := t.TempDir()
	var file strings.Builder
	file.WriteString("accounts:\n")
	for _, a := range accounts {
		fmt.Fprintf(&file, "- {name: %q, account_sid: %s, auth_token_file: token, base_url: %s}\n", a.name, sid, a.api.url)
	}

	for name, content := range map[string]string{"token": secret, "accounts.yml": file.String()} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	running, stop := context.WithCancel(ctx)
	args = append([]string{
		"--config.file=" + filepath.Join(dir, "accounts.yml"), "--twilio.rate-limit=0", "--twilio.max-retries=0",
		"--web.listen-address=127.0.0.1:0",
	}, args...)

	cmd := exec.CommandContext(running, program, args...)
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	address := make(chan string, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		listening := regexp.MustCompile(`Listening on.*?(127\.0\.0\.1:\d+)`)
		for lines := bufio.NewScanner(log); lines.Scan(); {
			if m := listening.FindStringSubmatch(lines.Text()); m != nil {
				address <- m[1]
			}
		}
	}()

	t.Cleanup(func() {
		stop()
		<-ended
		_ = cmd.Wait() // killed
	})

	select {
	case a := <-address:
		return "http://" + a + "/"
	case <-ended:
		t.Fatal("the exporter has ended")
	case <-ctx.Done():
		t.Fatal("the exporter does not listen")
	}
	return ""
}

// quietWorld is an account of the demo's kind in which nothing goes wrong.
func quietWorld(seed uint64, rate float64) simulator.WorldSettings {
	s := simulator.DemoWorld(time.Now())
	s.Seed = seed
	s.Rate = rate
	s.BadShare = 0
	s.Troubles = nil
	return s
}

// failingWorld is one of which 80% of the messages have been failing for three and a half minutes.
func failingWorld(seed uint64, rate float64) simulator.WorldSettings {
	s := quietWorld(seed, rate)
	s.Troubles = []simulator.Trouble{
		{Kind: simulator.TroubleFailing, Share: 1, Rate: 0.8, From: time.Now().Add(-210 * time.Second)},
	}
	return s
}

// stuckWorld is one in which a campaign has been stuck for two hours.
func stuckWorld(seed uint64, rate float64) simulator.WorldSettings {
	s := quietWorld(seed, rate)
	from := time.Now().Add(-2*time.Hour - 10*time.Minute).Truncate(time.Minute)
	s.Troubles = []simulator.Trouble{{Kind: simulator.TroubleStuck, Recipients: 8_000, From: from, To: from.Add(day)}}
	return s
}

const day = 24 * time.Hour
