package apptest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"twilio_operations_exporter/internal/config"
	"twilio_operations_exporter/internal/testutil"
	"twilio_operations_exporter/twilio"
	"twilio_operations_exporter/twilio/simulator"
)

var binaryDir atomic.Pointer[string]

// binary builds the program once, for the tests that need it.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", config.ProgramName)
	if err != nil {
		return "", err
	}
	binaryDir.Store(&dir)
	file := filepath.Join(dir, config.ProgramName)
	// Without symbols, linking takes half the time.
	if _, err := goCommand("build", "-buildvcs=false", "-ldflags=-s -w", "-o", file, module); err != nil {
		return "", err
	}
	return file, openSources()
})

// openSources opens the directories of the program's packages. A cached result
// of these tests is valid for the files that they open: go test does not know
// what they build.
var openSources = sync.OnceValue(func() error {
	dirs, err := goCommand("list", "-deps", "-f", "{{if not .Standard}}{{.Dir}}{{end}}", module)
	if err != nil {
		return err
	}
	for dir := range strings.Lines(dirs) {
		if _, err := os.ReadDir(strings.TrimSpace(dir)); err != nil {
			return err
		}
	}
	return nil
})

// goCommand runs the go command and returns its output.
func goCommand(args ...string) (string, error) {
	cmd := exec.CommandContext(context.Background(), "go", args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w\n%s", args[0], err, &stderr)
	}
	return string(out), nil
}

func TestMain(m *testing.M) {
	// These tests wait for processes more than they compute.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if dir := binaryDir.Load(); dir != nil {
			_ = os.RemoveAll(*dir)
		}
		os.Exit(code)
	}))
}

// program is a running process of the program.
type program struct {
	t      *testing.T
	cmd    *exec.Cmd
	url    string // once it listens
	stdout bytes.Buffer
	log    testutil.Log
	ended  chan struct{}
}

// execute starts the program with only env in its environment.
func execute(t *testing.T, env []string, args ...string) *program {
	t.Helper()
	return executeWith(t, func(*program) {}, env, args...)
}

// executeWith starts the program after calling setup.
func executeWith(t *testing.T, setup func(*program), env []string, args ...string) *program {
	t.Helper()
	file, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	p := &program{
		t: t, cmd: exec.CommandContext(context.WithoutCancel(t.Context()), file, args...), ended: make(chan struct{}),
	}
	p.cmd.Env = append([]string{"HOME=/nonexistent"}, env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.log
	setup(p)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // the status is in ProcessState
	}()

	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.ended
	})
	return p
}

// serve starts the program on a free port and waits until it listens.
func serve(t *testing.T, env []string, args ...string) *program {
	t.Helper()
	p := execute(t, env, append(args, "--web.listen-address=127.0.0.1:0")...)
	address := regexp.MustCompile(`127\.0\.0\.1:\d+`)
	testutil.WaitFor(t, "the program to listen", func() bool {
		for line := range strings.Lines(p.log.String()) {
			if strings.Contains(line, "Listening on") {
				p.url = "http://" + address.FindString(line)
			}
		}
		select {
		case <-p.ended:
			t.Fatalf("it has ended: %s", p.log.String())
		default:
		}
		return p.url != ""
	})
	return p
}

// end waits until the program has ended and returns its exit status.
func (p *program) end() int {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(time.Minute):
		p.t.Fatalf("still running: %s", p.log.String())
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *program) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

func (p *program) get(path string) string {
	p.t.Helper()
	body, err := testutil.Get(p.t.Context(), p.url+path)
	if err != nil {
		p.t.Fatal(err)
	}
	return body
}

func (p *program) scrape() map[string]string {
	p.t.Helper()
	values := map[string]string{}
	for _, line := range testutil.Samples(p.get("/metrics")) {
		i := strings.LastIndex(line, " ")
		values[line[:i]] = line[i+1:]
	}
	return values
}

func accountEnv(api *testutil.API) (env []string) {
	for name, value := range api.Env() {
		env = append(env, name+"="+value)
	}
	return env
}

// TestBadStart checks that a bad command line or configuration gives one line and status 1, before the API is asked for
// anything.
func TestBadStart(t *testing.T) {
	t.Parallel()
	api := testutil.New(t)
	var lc net.ListenConfig
	taken, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	bad := testutil.WriteFile(t, "accounts.yml", "accounts:\n- shade: red\n")
	unknown := bad + `:2: unknown key "shade" (known keys: name, account_sid, auth_token_file, api_key, api_secret_file, ` +
		`proxy_url, tls_config, base_url, resource, rate_limit, interval, window, page_size, concurrency, max_staleness)`

	for name, tc := range map[string]struct {
		env  []string
		args []string
		want string
	}{
		"unknown flag": {nil, []string{"--bogus"}, "unknown long flag '--bogus' (--help lists all flags)"},
		"bad value": {
			accountEnv(api), []string{"--twilio.timeout=0s"}, `--twilio.timeout: "0s" is not a duration above 0, such as 30s`,
		},
		"no account": {
			nil, nil,
			"--twilio.account-sid (TWILIO_ACCOUNT_SID): no account configured: " +
				"set an Account SID (AC…), or use --config.file or --demo",
		},
		"bad file": {nil, []string{"--config.file", bad}, unknown},
		"storage path": {
			accountEnv(api), []string{"--storage.path", bad},
			fmt.Sprintf("--storage.path: %[1]q cannot be used: mkdir %[1]s: not a directory: "+
				"choose a directory that the exporter can write to, with free space", bad),
		},
		"storage path, checked": {
			accountEnv(api), []string{"--storage.path", bad, "--config.check"},
			fmt.Sprintf("--storage.path: %[1]q cannot be used: mkdir %[1]s: not a directory: "+
				"choose a directory that the exporter can write to, with free space", bad),
		},
		"bad check": {nil, []string{"--config.file", bad, "--config.check"}, unknown},
		"health port taken": {
			accountEnv(api), []string{"--web.listen-address=127.0.0.1:0", "--web.health-listen-address=" + taken.Addr().String()},
			"--web.health-listen-address: listen tcp " + taken.Addr().String() +
				": bind: address already in use: choose a free port and an address of this host",
		},
		"port taken": {
			accountEnv(api), []string{"--web.listen-address=" + taken.Addr().String()},
			"--web.listen-address: listen tcp " + taken.Addr().String() +
				": bind: address already in use: choose a free port and an address of this host",
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := execute(t, tc.env, tc.args...)
			if status := p.end(); status != 1 {
				t.Errorf("status %d", status)
			}
			// What went well before the end is logged at level info.
			var lines []string
			for line := range strings.Lines(p.log.String()) {
				if !strings.HasPrefix(line, "level=info ") {
					lines = append(lines, line)
				}
			}

			if got, want := strings.Join(lines, ""), config.ProgramName+": error: "+tc.want+"\n"; got != want {
				t.Errorf("got  %swant %s", got, want)
			}
			if p.stdout.Len() > 0 {
				t.Errorf("stdout: %s", &p.stdout)
			}
		})
	}

	if n := api.Requests(); n != 0 {
		t.Errorf("%d requests", n)
	}
}

func TestQuestions(t *testing.T) {
	t.Parallel()
	api := testutil.New(t)
	for name, tc := range map[string]struct {
		env  []string
		args []string
		want string
	}{
		// It is built here without -ldflags.
		"version": {nil, []string{"--version"}, "twilio_operations_exporter, version devel "},
		"help":    {nil, []string{"--help"}, "usage: twilio_operations_exporter"},
		"check":   {accountEnv(api), []string{"--config.check"}, "The configuration is valid: 1 account, 0 warnings.\n"},
		"warning": {
			[]string{"TWILIO_ACCOUNT_SID=AC" + strings.Repeat("x", 32), "TWILIO_AUTH_TOKEN=t"}, []string{"--config.check"},
			`warning: --twilio.account-sid (TWILIO_ACCOUNT_SID): <34-character value, not shown> contains characters that are not`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := execute(t, tc.env, tc.args...)
			if status := p.end(); status != 0 {
				t.Errorf("status %d", status)
			}
			if !strings.HasPrefix(p.stdout.String(), tc.want) || p.log.String() != "" {
				t.Errorf("stdout %q, stderr %q", p.stdout.String(), p.log.String())
			}
		})
	}

	if n := api.Requests(); n != 0 {
		t.Errorf("%d requests", n)
	}
}

func TestOnce(t *testing.T) {
	t.Parallel()
	api := testutil.New(t, testutil.Operation(1, twilio.StatusCompleted, twilio.Stats{twilio.Total: 7}))
	for name, args := range map[string][]string{
		"background": {"--once"}, "on scrape": {"--once", "--collector.interval=0s"},
	} {
		t.Run(name, func(t *testing.T) {
			p := execute(t, accountEnv(api), args...)
			if status := p.end(); status != 0 {
				t.Errorf("status %d: %s", status, p.log.String())
			}
			testutil.WantSamples(t, p.stdout.String(),
				fmt.Sprintf(`twilio_up{account=%q} 1`, testutil.SID),
				fmt.Sprintf(`twilio_operation_messages{account=%q,status="COMPLETED"} 7`, testutil.SID),
				fmt.Sprintf(`twilio_exporter_refreshes_total{account=%q,result="success"} 1`, testutil.SID),
			)

			// node_exporter, whose directory it is written to, has these itself.
			for _, line := range testutil.Samples(p.stdout.String()) {
				if !strings.HasPrefix(line, "twilio_") {
					t.Errorf("not the exporter's own: %s", line)
				}
			}
		})
	}

	t.Run("failing", func(t *testing.T) {
		p := execute(
			t, []string{"TWILIO_ACCOUNT_SID=" + testutil.SID, "TWILIO_AUTH_TOKEN=wrong", "TWILIO_BASE_URL=" + api.URL}, "--once",
		)
		if status := p.end(); status != 1 {
			t.Errorf("status %d: %s", status, p.log.String())
		}
		testutil.WantSamples(t, p.stdout.String(),
			fmt.Sprintf(`twilio_up{account=%q} 0`, testutil.SID),
			fmt.Sprintf(`twilio_exporter_refresh_errors_total{account=%q,reason="auth"} 1`, testutil.SID),
		)

		last := p.log.String()[strings.LastIndex(strings.TrimSpace(p.log.String()), "\n")+1:]
		if !strings.HasPrefix(last, config.ProgramName+": error: account ") || !strings.Contains(last, "401") {
			t.Errorf("last line: %s", last)
		}
	})

	t.Run("output full", func(t *testing.T) {
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = full.Close() }()
		p := executeWith(t, func(p *program) { p.cmd.Stdout = full }, accountEnv(api), "--once")
		if status := p.end(); status != 1 || strings.Count(p.log.String(), "no space left on device") != 1 {
			t.Errorf("status %d: %s", status, p.log.String())
		}
	})

	t.Run("told to stop", func(t *testing.T) {
		api := testutil.New(t)
		api.Faults().MustAdd(simulator.Fault{Kind: simulator.FaultHang})
		p := execute(t, accountEnv(api), "--once")
		testutil.WaitFor(t, "a request that hangs", func() bool { n := api.InFlight(); return n == 1 })
		p.signal(syscall.SIGTERM)
		if status := p.end(); status != 0 || strings.Contains(p.log.String(), "error:") {
			t.Errorf("status %d: %s", status, p.log.String())
		}
	})
}

// TestDemo checks what a first-time user sees: metrics at once, and numbers that change, whatever variables are set.
func TestDemo(t *testing.T) {
	t.Parallel()
	env := []string{"TWILIO_ACCOUNT_SID=" + testutil.SID, "TWILIO_AUTH_TOKEN=" + testutil.Token}
	p := serve(t, env, "--demo", "--collector.interval=200ms")
	if _, ok := p.scrape()[`twilio_up{account="demo"}`]; !ok {
		t.Error("no metrics at once")
	}
	const counter = `twilio_attempts_total{account="demo"}`
	testutil.WaitFor(t, "numbers to move", func() bool {
		n, err := strconv.ParseFloat(p.scrape()[counter], 64)
		return err == nil && n > 0
	})

	p.signal(syscall.SIGTERM)
	if status := p.end(); status != 0 ||
		!strings.Contains(p.log.String(), "ignoring TWILIO_AUTH_TOKEN, TWILIO_ACCOUNT_SID") {
		t.Errorf("status %d: %s", status, p.log.String())
	}
}

// TestStop checks that the program ends whatever it is doing: with a refresh that hangs, a waiting scrape and probe,
// and a connection without a request.
func TestStop(t *testing.T) {
	for s, interval := range map[os.Signal]string{syscall.SIGTERM: "0s", syscall.SIGINT: "1m"} {
		t.Run(s.String()+" "+interval, func(t *testing.T) {
			t.Parallel() // each waits for the open connection for a while
			api := testutil.New(t, testutil.Operation(1, twilio.StatusCompleted, twilio.Stats{twilio.Total: 7}))
			api.Faults().MustAdd(simulator.Fault{Kind: simulator.FaultHang})
			p := serve(t, accountEnv(api), "--collector.interval="+interval)
			var d net.Dialer
			idle, err := d.DialContext(t.Context(), "tcp", strings.TrimPrefix(p.url, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = idle.Close() }()

			var waiting sync.WaitGroup
			for _, path := range []string{"/metrics", "/probe?target=" + testutil.Operation(1, "", twilio.Stats{}).ID} {
				// Answered or cut off: what counts is that neither holds the end up.
				waiting.Go(func() { _, _ = testutil.Get(t.Context(), p.url+path) })
			}

			testutil.WaitFor(t, "requests that hang", func() bool {
				n := api.InFlight()
				return n == 2
			})

			p.signal(s)
			if status := p.end(); status != 0 {
				t.Errorf("status %d: %s", status, p.log.String())
			}
			waiting.Wait()
			cause := map[os.Signal]string{syscall.SIGTERM: "received SIGTERM", syscall.SIGINT: "received SIGINT"}[s]
			if want := fmt.Sprintf(`msg=stopping cause=%q`, cause); !strings.Contains(p.log.String(), want) {
				t.Errorf("%s is not in the log: %s", want, p.log.String())
			}
			if strings.Contains(p.log.String(), "level=error") {
				t.Errorf("stopping is logged as an error: %s", p.log.String())
			}
		})
	}
}

// TestAlwaysScrapable checks that /metrics answers 200 however the API fails.
func TestAlwaysScrapable(t *testing.T) {
	t.Parallel()
	faults := map[string]simulator.Fault{ // by the reason they are counted by
		"auth":       {Kind: simulator.FaultStatus, Status: http.StatusUnauthorized},
		"server":     {Kind: simulator.FaultStatus, Status: http.StatusInternalServerError},
		"network":    {Kind: simulator.FaultReset},
		"timeout":    {Kind: simulator.FaultHang},
		"decode":     {Kind: simulator.FaultHTML},
		"pagination": {Kind: simulator.FaultRepeatToken},
	}

	token := testutil.WriteFile(t, "token", testutil.Token)
	var yml strings.Builder
	yml.WriteString("accounts:\n")
	for reason, fault := range faults {
		api := testutil.New(t, testutil.Operation(1, twilio.StatusCompleted, twilio.Stats{twilio.Total: 7}))
		api.Faults().MustAdd(fault)
		fmt.Fprintf(&yml, "- {name: %s, account_sid: %s, auth_token_file: %s, base_url: %q}\n", reason, testutil.SID, token,
			api.URL)
	}

	// On a busy machine, what does not hang may time out, too: then the next refresh counts.
	p := serve(t, nil, "--config.file", testutil.WriteFile(t, "accounts.yml", yml.String()),
		"--twilio.timeout=500ms", "--collector.interval=500ms", "--twilio.max-retries=0")
	testutil.WaitFor(t, "every failure to be counted", func() bool {
		values := p.scrape() // fails the test on anything but 200
		for reason := range faults {
			if values[fmt.Sprintf(`twilio_exporter_refresh_errors_total{account=%q,reason=%q}`, reason, reason)] == "0" ||
				values[fmt.Sprintf(`twilio_up{account=%q}`, reason)] != "0" {
				return false
			}
		}
		return true
	})
}

// TestNoSecretAnywhere gives credentials of every kind to an API that sends them back, and searches all output for
// them.
func TestNoSecretAnywhere(t *testing.T) {
	t.Parallel()
	var authorized atomic.Int64
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		if user != "" {
			authorized.Add(1)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = fmt.Fprintf(
			w, `{"errors":[{"code":20003,"message":"no: %s %s %s","infoUrl":"","context":null}]}`, user, password,
			r.Header.Get("Authorization"),
		)
	}))
	defer api.Close()

	dir := t.TempDir()
	for name, content := range map[string]string{"token": "file-token-9a7b", "secret": "file-secret-31cd"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	file := filepath.Join(dir, "accounts.yml")
	yml := fmt.Sprintf(`accounts:
- {name: token, account_sid: %s, auth_token_file: token, base_url: "%s/v1"}
- {name: key, account_sid: %s, api_key: %s, api_secret_file: secret, base_url: "%s/v1"}
- {name: proxy, account_sid: %s, auth_token_file: token, base_url: "http://198.51.100.1/v1",
   proxy_url: "http://proxyuser:proxy-pass-77@%s"}
`, testutil.SID, api.URL, testutil.SID, testutil.Key, api.URL, testutil.SID, strings.TrimPrefix(api.URL, "http://"))

	if err := os.WriteFile(file, []byte(yml), 0o600); err != nil {
		t.Fatal(err)
	}
	basic := func(user, password string) string {
		return base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	}
	secrets := []string{
		"env-token-55ef", basic(testutil.SID, "env-token-55ef"), "env-secret-66ab", basic(testutil.Key, "env-secret-66ab"),
		"file-token-9a7b", basic(testutil.SID, "file-token-9a7b"), "file-secret-31cd", basic(
			testutil.Key, "file-secret-31cd",
		),
		"proxy-pass-77", basic("proxyuser", "proxy-pass-77"),
	}

	sid, url := "TWILIO_ACCOUNT_SID="+testutil.SID, "TWILIO_BASE_URL="+api.URL+"/v1"
	for name, tc := range map[string]struct {
		env      []string
		args     []string
		accounts []string
	}{
		"token in the environment": {[]string{sid, url, "TWILIO_AUTH_TOKEN=env-token-55ef"}, nil, []string{testutil.SID}},
		"secret in the environment": {
			[]string{sid, url, "TWILIO_API_KEY=" + testutil.Key, "TWILIO_API_SECRET=env-secret-66ab"}, nil,
			[]string{testutil.SID},
		},
		"files": {nil, []string{"--config.file", file}, []string{"token", "key", "proxy"}},
	} {
		t.Run(name, func(t *testing.T) {
			before := authorized.Load()
			p := serve(
				t, tc.env,
				append(tc.args, "--log.level=debug", "--web.enable-pprof", "--web.enable-lifecycle", "--twilio.max-retries=1")...,
			)

			testutil.WaitFor(t, "every account to be refused", func() bool {
				_, err := testutil.Get(t.Context(), p.url+"/-/ready")
				return err == nil
			})

			if n := authorized.Load() - before; n < int64(len(tc.accounts)) {
				t.Fatalf("%d requests with credentials", n)
			}
			out := map[string]string{"arguments": strings.Join(p.cmd.Args, " ")}
			id := testutil.Operation(1, "", twilio.Stats{}).ID
			paths := []string{
				"/", "/metrics", "/-/ready", "/-/healthy", "/debug/pprof/cmdline", "/debug/pprof/goroutine?debug=2",
			}
			for _, account := range tc.accounts {
				paths = append(paths, "/probe?target="+id+"&account="+account)
			}
			for _, path := range paths {
				out[path] = p.get(path)
			}
			p.signal(syscall.SIGTERM)
			p.end()
			out["log"], out["stdout"] = p.log.String(), p.stdout.String()
			if !strings.Contains(out["/"], "401") || !strings.Contains(out["log"], "401") {
				t.Errorf("the refusal is not shown:\n%s\n%s", out["/"], out["log"])
			}

			for where, text := range out {
				for _, secret := range secrets {
					if strings.Contains(text, secret) {
						t.Errorf("%s says %q:\n%s", where, secret, text)
					}
				}
			}
		})
	}
}

// TestShards checks that processes with the same file divide its accounts among them, and that one without accounts
// runs.
func TestShards(t *testing.T) {
	t.Parallel()
	api := testutil.New(t, testutil.Operation(1, twilio.StatusCompleted, twilio.Stats{twilio.Total: 7}))
	f := testutil.NewFile(t, api, "a", "b")
	owners := map[string]int{}
	for shard := range 3 {
		p := serve(t, []string{fmt.Sprintf("TWILIO_SHARD_INDEX=%d", shard)}, "--config.file", f.Path, "--shard.total=3")
		testutil.WaitFor(t, "the shard to be ready", func() bool {
			_, err := testutil.Get(t.Context(), p.url+"/-/ready")
			return err == nil
		})

		values := p.scrape()
		if v := values[fmt.Sprintf(`twilio_exporter_shard_info{shard="%d",shards="3"}`, shard)]; v != "1" {
			t.Errorf("shard_info %q", v)
		}
		n := 0
		for _, name := range []string{"a", "b"} {
			if values[fmt.Sprintf(`twilio_up{account=%q}`, name)] == "1" {
				owners[name]++
				n++
			}
		}

		if warned := strings.Contains(p.log.String(), "none of the 2 accounts belongs to shard"); warned != (n == 0) {
			t.Errorf("shard %d with %d accounts: %s", shard, n, p.log.String())
		}
	}

	if owners["a"] != 1 || owners["b"] != 1 {
		t.Errorf("accounts on shards: %v", owners)
	}
}

func TestSighup(t *testing.T) {
	t.Parallel()
	api := testutil.New(t, testutil.Operation(1, twilio.StatusCompleted, twilio.Stats{twilio.Total: 7}))
	f := testutil.NewFile(t, api, "a")
	p := serve(t, nil, "--config.file", f.Path)
	const good = "twilio_exporter_config_last_reload_successful"
	if p.scrape()[good] != "1" {
		t.Error("the first load is not a good one")
	}
	f.Write("b")
	p.signal(syscall.SIGHUP)
	testutil.WaitFor(t, "the new account", func() bool {
		values := p.scrape()
		_, a := values[`twilio_up{account="a"}`]
		return !a && values[`twilio_up{account="b"}`] == "1"
	})

	f.Write("b , shade: red")
	p.signal(syscall.SIGHUP)
	testutil.WaitFor(t, "the failure", func() bool { return p.scrape()[good] == "0" })
	// The log comes through a pipe, and may come later.
	testutil.WaitFor(t, "the reason", func() bool { return strings.Contains(p.log.String(), f.Path+`:2: unknown key`) })
	if p.scrape()[`twilio_up{account="b"}`] != "1" {
		t.Error("a bad file has changed something")
	}

	for _, want := range []string{
		`msg="received SIGHUP, reloading"`, `msg="configuration reloaded" started=b restarted= stopped=a kept=`,
	} {
		if !strings.Contains(p.log.String(), want) {
			t.Errorf("%s is not in the log: %s", want, p.log.String())
		}
	}

	// Without a file there is nothing to read again, and no reason to end.
	flags := serve(t, accountEnv(api), "--log.level=debug")
	flags.signal(syscall.SIGHUP)
	testutil.WaitFor(t, "the reload", func() bool {
		return strings.Contains(flags.log.String(), `msg="configuration reloaded, no accounts changed"`)
	})
}

// TestAutoReload checks that a change of a mounted ConfigMap is noticed: the kubelet replaces a symbolic link to the
// directory of the files.
func TestAutoReload(t *testing.T) {
	t.Parallel()
	api := testutil.New(t, testutil.Operation(1, twilio.StatusCompleted, twilio.Stats{twilio.Total: 7}))
	old, changed := testutil.NewFile(t, api, "a"), testutil.NewFile(t, api, "b")
	mount := t.TempDir()
	link := func(f *testutil.File) {
		t.Helper()
		if err := os.Symlink(filepath.Dir(f.Path), filepath.Join(mount, "..data_tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(mount, "..data_tmp"), filepath.Join(mount, "..data")); err != nil {
			t.Fatal(err)
		}
	}

	link(old)
	for _, name := range []string{"accounts.yml", "token"} {
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(mount, name)); err != nil {
			t.Fatal(err)
		}
	}

	p := serve(
		t, nil, "--config.file", filepath.Join(mount, "accounts.yml"),
		"--config.auto-reload", "--config.auto-reload-interval=100ms",
	)

	testutil.WaitFor(t, "the first account", func() bool { return p.scrape()[`twilio_up{account="a"}`] == "1" })
	link(changed)
	testutil.WaitFor(t, "the new account", func() bool {
		values := p.scrape()
		_, a := values[`twilio_up{account="a"}`]
		return !a && values[`twilio_up{account="b"}`] == "1"
	})
}

// TestRotatedSecret checks that a secret file is read again without a reload.
func TestRotatedSecret(t *testing.T) {
	t.Parallel()
	api := testutil.New(t, testutil.Operation(1, twilio.StatusCompleted, twilio.Stats{twilio.Total: 7}))
	token := testutil.WriteFile(t, "token", "old\n")
	p := serve(
		t, []string{"TWILIO_ACCOUNT_SID=" + testutil.SID, "TWILIO_BASE_URL=" + api.URL}, "--twilio.auth-token-file", token,
		"--collector.interval=100ms",
	)

	up := fmt.Sprintf(`twilio_up{account=%q}`, testutil.SID)
	refused := fmt.Sprintf(`twilio_exporter_refresh_errors_total{account=%q,reason="auth"}`, testutil.SID)
	testutil.WaitFor(t, "the old token to be refused", func() bool { return p.scrape()[refused] != "0" })
	if err := os.WriteFile(token, []byte(" "+testutil.Token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	testutil.WaitFor(t, "the new token to be used", func() bool { return p.scrape()[up] == "1" })

	// What cannot be read fails refreshes and holds nothing up.
	if err := errors.Join(syscall.Mkfifo(token+".fifo", 0o600), os.Rename(token+".fifo", token)); err != nil {
		t.Fatal(err)
	}
	unreadable := fmt.Sprintf(`twilio_exporter_refresh_errors_total{account=%q,reason="secret"}`, testutil.SID)
	testutil.WaitFor(t, "the FIFO to be refused", func() bool { return p.scrape()[up] == "0" && p.scrape()[unreadable] != "0" })
	p.signal(syscall.SIGTERM)
	if status := p.end(); status != 0 || !strings.Contains(p.log.String(), "not a regular file") {
		t.Errorf("status %d: %s", status, p.log.String())
	}
}

// TestWebConfig checks that exporter-toolkit's settings apply to every path.
func TestWebConfig(t *testing.T) {
	t.Parallel()
	p := serve(t, accountEnv(testutil.New(t)), "--web.config.file", webConfigWithPassword(t))
	for _, path := range []string{"/", "/metrics", "/-/ready", "/probe"} {
		if _, err := testutil.Get(t.Context(), p.url+path); err == nil || err.Error() != "status 401" {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestJSONLog(t *testing.T) {
	t.Parallel()
	p := serve(t, accountEnv(testutil.New(t)), "--log.format=json")
	p.signal(syscall.SIGTERM)
	p.end()
	scanner := bufio.NewScanner(strings.NewReader(p.log.String()))
	for scanner.Scan() {
		if line := scanner.Text(); !strings.HasPrefix(line, "{") || !strings.HasSuffix(line, "}") {
			t.Errorf("not JSON: %s", line)
		}
	}
}

// fullPipe returns the writing end of a full pipe that nobody reads.
func fullPipe(t *testing.T) *os.File {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	// A pipe of the os package is not blocking here, and blocks in the program.
	_ = w.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
	for err == nil {
		_, err = w.Write(make([]byte, 4096))
	}
	return w
}

// TestUnreadLog checks that the program refreshes, serves and ends even if its log cannot be written.
func TestUnreadLog(t *testing.T) {
	t.Parallel()
	api := testutil.New(t, testutil.Operation(1, twilio.StatusCompleted, twilio.Stats{twilio.Total: 7}))
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	p := executeWith(t, func(p *program) { p.cmd.Stderr = fullPipe(t) }, accountEnv(api),
		"--collector.interval=100ms", "--log.level=debug", "--web.listen-address="+address)
	p.url = "http://" + address
	testutil.WaitFor(t, "refreshes", func() bool {
		body, err := testutil.Get(t.Context(), p.url+"/metrics")
		n := 0
		for _, line := range testutil.Samples(body) {
			_, _ = fmt.Sscanf(line, fmt.Sprintf("twilio_exporter_refreshes_total{account=%q,result=\"success\"} %%d",
				testutil.SID), &n)
		}
		return err == nil && n > 5
	})

	p.signal(syscall.SIGTERM)
	if status := p.end(); status != 0 {
		t.Errorf("status %d", status)
	}
}

// TestClosedLog checks that the program continues if the reader of its log exits.
func TestClosedLog(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	api := testutil.New(t, testutil.Operation(1, twilio.StatusCompleted, twilio.Stats{twilio.Total: 7}))
	p := executeWith(t, func(p *program) { p.cmd.Stderr = w }, accountEnv(api),
		"--collector.interval=100ms", "--log.level=debug", "--web.listen-address=127.0.0.1:0")
	var first [1]byte
	if _, err := r.Read(first[:]); err != nil {
		t.Fatal(err)
	}
	_ = r.Close()
	before := api.Requests()
	testutil.WaitFor(t, "refreshes", func() bool { return api.Requests() > before+5 })
	p.signal(syscall.SIGTERM)
	if status := p.end(); status != 0 {
		t.Errorf("status %d", status)
	}
}

// TestFullOutput checks that an output that cannot be written is one error.
func TestFullOutput(t *testing.T) {
	t.Parallel()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = full.Close() }()
	p := executeWith(t, func(p *program) { p.cmd.Stdout = full }, accountEnv(testutil.New(t)), "--once")
	if status := p.end(); status != 1 {
		t.Errorf("status %d", status)
	}
	if n := strings.Count(p.log.String(), "no space left on device"); n != 1 {
		t.Errorf("said %d times:\n%s", n, p.log.String())
	}
}

// TestUnsolicitedAnswer checks that what a server sends unasked is not logged, as it knows the credentials.
func TestUnsolicitedAnswer(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	const page = `{"operations":[],"pagination":{"next":null}}`
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			r, err := http.ReadRequest(bufio.NewReader(conn))
			if err != nil {
				_ = conn.Close()
				continue
			}
			_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%sHTTP/1.1 400 %s\r\n\r\n",
				len(page), page, r.Header.Get("Authorization"))
		}
	}()

	env := []string{
		"TWILIO_ACCOUNT_SID=" + testutil.SID, "TWILIO_AUTH_TOKEN=" + testutil.Token, "TWILIO_BASE_URL=http://" + l.Addr().String(),
	}
	p := serve(t, env, "--collector.interval=100ms", "--log.level=debug")
	testutil.WaitFor(t, "Go's logger to be told", func() bool {
		return strings.Contains(p.log.String(), "message of a library, text omitted")
	})
	if log := p.log.String(); strings.Contains(log, "Basic ") || strings.Contains(log, "Unsolicited") {
		t.Errorf("logged:\n%s", log)
	}
}

// TestStopUninterruptible checks that the program ends some time after a signal, or at the second one, even if it
// cannot stop in order, because its output is a pipe that nobody reads.
func TestStopUninterruptible(t *testing.T) {
	t.Parallel()
	for name, signals := range map[string][]os.Signal{
		"after a while": {syscall.SIGTERM}, "at the second signal": {syscall.SIGTERM, syscall.SIGINT},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			api := testutil.New(t, testutil.Operation(1, twilio.StatusCompleted, twilio.Stats{twilio.Total: 7}))
			p := executeWith(t, func(p *program) { p.cmd.Stdout = fullPipe(t) }, accountEnv(api), "--once")
			testutil.WaitFor(t, "the refresh",
				func() bool { return strings.Contains(p.log.String(), "first refresh succeeded") })
			for _, s := range signals {
				p.signal(s)
			}
			if status := p.end(); status != 0 {
				t.Errorf("status %d: %s", status, p.log.String())
			}
		})
	}
}
