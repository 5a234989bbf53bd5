package account

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"

	"twilio_operations_exporter/collector"
	"twilio_operations_exporter/internal/config"
	"twilio_operations_exporter/internal/storage"
	"twilio_operations_exporter/internal/testutil"
	"twilio_operations_exporter/twilio"
	"twilio_operations_exporter/twilio/simulator"
)

// program is a Manager with its log and its metrics.
type program struct {
	*Manager
	t   *testing.T
	reg *prometheus.Registry
	log *bytes.Buffer
}

// startProgram makes the accounts of a command line. Only the test refreshes them.
func startProgram(t *testing.T, args ...string) *program {
	t.Helper()
	c, err := config.Load(append([]string{"--twilio.max-retries=0"}, args...), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	p := &program{t: t, reg: prometheus.NewRegistry(), log: new(bytes.Buffer)}
	p.Manager, err = NewManager(c, p.reg, log.NewLogfmtLogger(log.NewSyncWriter(p.log)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return p
}

// values returns the samples of a scrape.
func (p *program) values() map[string]float64 {
	p.t.Helper()
	accounts := prometheus.NewPedanticRegistry()
	accounts.MustRegister(collector.Current(p.Refreshers()))
	families, err := prometheus.Gatherers{accounts, p.reg}.Gather()
	if err != nil {
		p.t.Error(err)
	}

	values := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			parts := []string{f.GetName()}
			for _, l := range m.GetLabel() {
				parts = append(parts, l.GetValue())
			}
			values[strings.Join(parts, "/")] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return values
}

func (p *program) want(want map[string]float64) {
	p.t.Helper()
	got := p.values()
	for name, w := range want {
		if v, ok := got[name]; !ok || v != w {
			p.t.Errorf("%s is %v (there: %t), want %v", name, v, ok, w)
		}
	}
}

func (p *program) refresh() {
	p.t.Helper()
	if !p.running {
		if err := p.RefreshOnce(p.t.Context()); err != nil {
			p.t.Error(err)
		}
		return
	}
	for _, a := range p.List() {
		if err := a.Refresher.Refresh(p.t.Context()); err != nil {
			p.t.Error(err)
		}
	}
}

// logged returns how many lines of the log contain a text.
func (p *program) logged(text string) int { return strings.Count(p.log.String(), text) }

// stateFiles returns the names of the files in a directory without their hashes, and .bad for those set aside.
func stateFiles(t *testing.T, path string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if name := entry.Name(); name != "lock" {
			short, hash, _ := strings.Cut(name, "-")
			if strings.HasSuffix(hash, ".bad") {
				short += ".bad"
			}
			names = append(names, short)
		}
	}
	return names
}

// stateAPI has one operation in flight, which every refresh reads.
func stateAPI(t *testing.T) *testutil.API {
	t.Helper()
	return testutil.New(t, testutil.Operation(1, twilio.StatusProcessing, twilio.Stats{twilio.Total: 7}))
}

// grow adds messages to the operation.
func grow(api *testutil.API, by int64) {
	id := testutil.Operation(1, "", twilio.Stats{}).ID
	api.List.Update(id, func(op *twilio.Operation) { op.Stats[twilio.Total] += by })
}

func TestStatesOverRestarts(t *testing.T) {
	api := stateAPI(t)
	testutil.SetEnv(t, api.Env())
	path := filepath.Join(t.TempDir(), "states")
	messages, success := "twilio_messages_total/"+testutil.SID, "twilio_exporter_refreshes_total/"+testutil.SID+"/success"
	for restart := range 3 {
		p := startProgram(t, "--storage.path="+path)
		counted := 9 * float64(restart)
		refreshed := 2 * float64(restart)
		p.want(map[string]float64{
			messages: counted, success: refreshed, "twilio_up/" + testutil.SID: 0,
			"twilio_exporter_storage_last_write_timestamp_seconds": 0,
			"twilio_exporter_storage_write_errors_total":           0,
		})

		p.refresh()
		grow(api, 9)
		p.refresh()
		p.want(map[string]float64{messages: counted + 9, success: refreshed + 2, "twilio_up/" + testutil.SID: 1})
		if v := p.values(); v["twilio_exporter_storage_last_write_timestamp_seconds"] == 0 || v["twilio_exporter_storage_bytes"] == 0 {
			t.Error("nothing was written")
		}
		p.Stop()
	}

	p := startProgram(t)
	p.want(map[string]float64{messages: 0})
	for name := range p.values() {
		if strings.HasPrefix(name, "twilio_exporter_storage_") {
			t.Errorf("%s without --storage.path", name)
		}
	}
}

// TestStatesOfReloads checks that an account keeps its state if its settings change, and that its state is removed with
// the account.
func TestStatesOfReloads(t *testing.T) {
	api := stateAPI(t)
	testutil.SetEnv(t, nil)
	file := testutil.NewFile(t, api, "a", "b")
	path := t.TempDir()
	p := startProgram(t, "--config.file", file.Path, "--storage.path="+path)
	p.Start(context.WithoutCancel(t.Context()), 0)
	p.refresh()
	grow(api, 9)
	p.refresh()
	if got, want := stateFiles(t, path), []string{"a", "b"}; !slices.Equal(got, want) {
		t.Errorf("states of %q, want %q", got, want)
	}

	reload := func(accounts ...string) {
		t.Helper()
		file.Write(accounts...)
		if err := p.Reload(context.WithoutCancel(t.Context())); err != nil {
			t.Fatal(err)
		}
	}

	const changed = "a , window: 12h, page_size: 50, interval: 1h"
	reload(changed)
	if got := stateFiles(t, path); slices.Contains(got, "b") || !slices.Contains(got, "a") {
		t.Errorf("states of %q", got)
	}
	reload(changed, "c")
	p.want(map[string]float64{"twilio_messages_total/a": 9, "twilio_messages_total/c": 0})
	p.refresh()
	p.want(map[string]float64{"twilio_messages_total/a": 9, "twilio_messages_total/c": 0, "twilio_up/a": 1})

	reload("renamed", "c")
	p.want(map[string]float64{"twilio_messages_total/renamed": 9, "twilio_messages_total/c": 0})

	reload("renamed , resource: emails", "c")
	p.wantDiscarded("identity")
	p.want(map[string]float64{"twilio_messages_total/renamed": 0, "twilio_messages_total/c": 0})

	reload("c")
	reload("a", "b", "c")
	p.refresh()
	reload("a", "b")
	p.refresh()
	p.want(map[string]float64{"twilio_messages_total/a": 0, "twilio_messages_total/b": 0})
	if got, want := stateFiles(t, path), []string{"a", "b"}; !slices.Equal(got, want) {
		t.Errorf("states of %q, want %q", got, want)
	}

	const restored = "states restored"
	before := p.logged(restored)
	reload("a")
	if got := p.logged(restored); got != before || before == 0 {
		t.Errorf("%d lines say %q, and %d after a reload that starts no account", before, restored, got)
	}
}

// TestStateOfAStoppedAccount checks that an account that did not stop in time does not overwrite the state of its
// successor.
func TestStateOfAStoppedAccount(t *testing.T) {
	api := stateAPI(t)
	testutil.SetEnv(t, nil)
	file := testutil.NewFile(t, api, "a", "b")
	path := t.TempDir()
	p := startProgram(t, "--config.file", file.Path, "--storage.path="+path)
	p.Start(context.WithoutCancel(t.Context()), 0)
	p.refresh()
	late := p.List()
	file.Write("a , window: 12h")
	if err := p.Reload(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	p.refresh()
	states, err := filepath.Glob(filepath.Join(path, "*.state"))
	if err != nil || len(states) != 1 {
		t.Fatalf("states %q, error %v", states, err)
	}
	before, err := os.ReadFile(states[0])
	if err != nil {
		t.Fatal(err)
	}

	for _, a := range late {
		err = a.Refresher.RefreshOnce(t.Context())
		if err != nil {
			t.Error(err)
		}
	}

	after, err := os.ReadFile(states[0])
	if err != nil || !bytes.Equal(after, before) {
		t.Errorf("the state has changed (error %v)", err)
	}
	if got, want := stateFiles(t, path), []string{"a"}; !slices.Equal(got, want) {
		t.Errorf("states of %q, want %q", got, want)
	}
}

// TestStatesOfOneSID checks that messages and e-mails of one SID have a state each.
func TestStatesOfOneSID(t *testing.T) {
	operation := testutil.Operation(1, twilio.StatusProcessing, twilio.Stats{twilio.Total: 7})
	messages, emails := simulator.NewStatic(operation), simulator.NewStatic(operation)
	server := httptest.NewServer(simulator.NewHandler(messages, simulator.Settings{Emails: emails}))
	t.Cleanup(server.Close)
	testutil.SetEnv(t, nil)
	file := testutil.NewFile(t, testutil.New(t))
	account := fmt.Sprintf("account_sid: %s, auth_token_file: token, base_url: %q", testutil.SID, server.URL+"/v1")
	file.WriteRaw(fmt.Sprintf("accounts:\n- {name: a, %[1]s}\n- {name: b, resource: emails, %[1]s}\n", account))
	grow := func(list *simulator.Static, by int64) {
		list.Update(operation.ID, func(op *twilio.Operation) { op.Stats[twilio.Total] += by })
	}

	path := t.TempDir()
	for restart := range 3 {
		p := startProgram(t, "--config.file", file.Path, "--storage.path="+path)
		counted := float64(restart)
		p.want(map[string]float64{"twilio_messages_total/a": 9 * counted, "twilio_messages_total/b": 4 * counted})
		p.refresh()
		grow(messages, 9)
		grow(emails, 4)
		p.refresh()
		p.want(map[string]float64{"twilio_messages_total/a": 9 * (counted + 1), "twilio_messages_total/b": 4 * (counted + 1)})
		p.Stop()
	}
}

// TestStatesOfOthers checks that states of accounts are removed that belong to other shards or were removed while the
// program was down.
func TestStatesOfOthers(t *testing.T) {
	api := stateAPI(t)
	testutil.SetEnv(t, nil)
	names := make([]string, 10)
	for i := range names {
		names[i] = fmt.Sprintf("account%d", i)
	}
	file := testutil.NewFile(t, api, names...)
	path := t.TempDir()
	all := startProgram(t, "--config.file", file.Path, "--storage.path="+path)
	all.refresh()
	all.Stop()
	if got := stateFiles(t, path); !slices.Equal(got, names) {
		t.Fatalf("states of %q, want %q", got, names)
	}

	shard := startProgram(t, "--config.file", file.Path, "--storage.path="+path, "--shard.total=2", "--shard.index=1")
	var own []string
	for _, a := range shard.List() {
		own = append(own, a.Name())
	}
	if got := stateFiles(t, path); !slices.Equal(got, own) || len(own) == 0 || len(own) == len(names) {
		t.Errorf("states of %q, want %q", got, own)
	}
	shard.Stop()

	file.Write(own[0])
	startProgram(t, "--config.file", file.Path, "--storage.path="+path)
	if got := stateFiles(t, path); !slices.Equal(got, own[:1]) {
		t.Errorf("states of %q, want %q", got, own[:1])
	}
}

// TestWrongStates checks that a state of another account, from another time or of no use at all is set aside and
// counted, and has no other effect.
func TestWrongStates(t *testing.T) {
	for what, tt := range map[string]struct {
		other string // what is different of the account at the second start
		harm  func(state string) error
		want  string
	}{
		"another SID":      {other: "account_sid: AC" + strings.Repeat("f", 32), want: "identity"},
		"another base URL": {other: "base_url: \"http://127.0.0.1:9/v1\"", want: "identity"},
		"another resource": {other: "resource: emails", want: "identity"},
		"another name":     {other: "name: b"},
		"other settings":   {other: "window: 12h, interval: 3m, page_size: 7, rate_limit: 3, max_staleness: 0.5"},
		"empty":            {harm: func(state string) error { return os.Truncate(state, 0) }, want: "corrupt"},
		"cut short":        {harm: func(state string) error { return os.Truncate(state, 1000) }, want: "corrupt"},
		"a directory": {
			harm: func(state string) error { return errors.Join(os.Remove(state), os.Mkdir(state, 0o700)) },
			want: "unreadable",
		},
		"of another version": {
			harm: func(state string) error {
				b, err := os.ReadFile(state)
				if err != nil {
					return err
				}
				return os.WriteFile(state, bytes.Replace(b, []byte(" state 2\n"), []byte(" state 9\n"), 1), 0o600)
			},
			want: "version",
		},
		"none": {harm: os.Remove},
	} {
		t.Run(what, func(t *testing.T) {
			api := stateAPI(t)
			testutil.SetEnv(t, nil)
			file := testutil.NewFile(t, api)
			account := map[string]string{
				"name": "name: a", "account_sid": "account_sid: " + testutil.SID, "auth_token_file": "auth_token_file: token",
				"base_url": fmt.Sprintf("base_url: %q", api.URL),
			}

			write := func() {
				file.WriteRaw("accounts:\n- {" + strings.Join(slices.Collect(maps.Values(account)), ", ") + "}\n")
			}
			write()
			path := t.TempDir()
			first := startProgram(t, "--config.file", file.Path, "--storage.path="+path)
			first.refresh()
			grow(api, 9)
			first.refresh()
			first.Stop()

			states, err := filepath.Glob(filepath.Join(path, "a-*.state"))
			if err != nil || len(states) != 1 {
				t.Fatalf("%q, %v", states, err)
			}
			if tt.harm != nil {
				if err := tt.harm(states[0]); err != nil {
					t.Fatal(err)
				}
			}

			key, _, _ := strings.Cut(tt.other, ":")
			account[key] = tt.other
			if tt.other == "" {
				delete(account, "")
			}
			write()
			second := startProgram(t, "--config.file", file.Path, "--storage.path="+path)
			second.wantDiscarded(tt.want)
			name := second.List()[0].Name()
			messages, files := 0.0, []string{"a.bad"}

			switch {
			case tt.want == "" && tt.harm == nil:
				messages, files = 9, []string{name}
			case tt.want == "":
				files = nil
			}

			second.want(map[string]float64{"twilio_messages_total/" + name: messages})
			if got := stateFiles(t, path); !slices.Equal(got, files) {
				t.Errorf("files of %q, want %q", got, files)
			}
			if tt.want != "" && second.logged("state discarded") != 1 {
				t.Errorf("log: %s", second.log)
			}
			if tt.want != "identity" { // which the API does not know
				second.refresh()
				second.want(map[string]float64{"twilio_up/" + name: 1, "twilio_messages_total/" + name: messages})
			}
		})
	}
}

func (p *program) wantDiscarded(want string) {
	p.t.Helper()
	values := p.values()
	for _, reason := range storage.Reasons() {
		n := 0.0
		if string(reason) == want {
			n = 1
		}
		if v := values["twilio_exporter_storage_discarded_total/"+string(reason)]; v != n {
			p.t.Errorf("discarded as %s: %v, want %v\n%s", reason, v, n, p.log)
		}
	}
}

// TestExpiredState checks that a state older than the window is not used.
func TestExpiredState(t *testing.T) {
	api := stateAPI(t)
	testutil.SetEnv(t, api.Env())
	path := t.TempDir()
	synctest.Test(t, func(t *testing.T) { // in the year 2000
		first := startProgram(t, "--storage.path="+path)
		first.refresh()
	})
	second := startProgram(t, "--storage.path="+path)
	second.wantDiscarded("expired")
	second.refresh()
	second.want(map[string]float64{"twilio_up/" + testutil.SID: 1, "twilio_messages_total/" + testutil.SID: 0})
}

// TestStateCannotBeWritten checks that refreshes and scrapes continue, that failed writes are logged once and all
// counted, and that writing resumes by itself.
func TestStateCannotBeWritten(t *testing.T) {
	api := stateAPI(t)
	testutil.SetEnv(t, nil)
	file := testutil.NewFile(t, api, "a", "b")
	path := filepath.Join(t.TempDir(), "states")
	p := startProgram(t, "--config.file", file.Path, "--storage.path="+path)
	p.refresh()
	errs := p.values()["twilio_exporter_storage_write_errors_total"]

	// A file in its place.
	if err := errors.Join(os.Rename(path, path+".away"), os.WriteFile(path, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		grow(api, 1)
		p.refresh()
	}

	p.want(map[string]float64{
		"twilio_messages_total/a": 3, "twilio_messages_total/b": 3, "twilio_up/a": 1,
		"twilio_exporter_storage_write_errors_total": errs + 6,
	})

	if n := p.logged("failed to write state"); errs != 0 || n != 1 {
		t.Errorf("%v errors before; logged %d times: %s", errs, n, p.log)
	}

	if err := errors.Join(os.Remove(path), os.Rename(path+".away", path)); err != nil {
		t.Fatal(err)
	}
	grow(api, 1)
	p.refresh()
	p.want(map[string]float64{"twilio_exporter_storage_write_errors_total": 6})
	if p.logged("succeeded again") != 1 {
		t.Errorf("log: %s", p.log)
	}
	p.Stop()
	startProgram(t, "--config.file", file.Path, "--storage.path="+path).want(map[string]float64{
		"twilio_messages_total/a": 4, "twilio_messages_total/b": 4,
	})
}

func TestStoragePathInUse(t *testing.T) {
	testutil.SetEnv(t, testutil.New(t).Env())
	path := t.TempDir()
	p := startProgram(t, "--storage.path="+path)
	c, err := config.Load([]string{"--storage.path=" + path}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	_, err = NewManager(c, prometheus.NewRegistry(), log.NewNopLogger())
	want := fmt.Sprintf("--storage.path: %q is used by another process: stop that one, or choose another directory", path)
	if err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
	p.Stop()
	startProgram(t, "--storage.path="+path)
}
