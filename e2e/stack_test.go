package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"

	"twilio_operations_exporter/twilio/simulator"
)

// Where the files under test lie.
var (
	prometheusFiles   = filepath.Join(project, "deploy", "prometheus")
	alertmanagerFiles = filepath.Join(project, "deploy", "alertmanager")
	dashboardFiles    = filepath.Join(project, "deploy", "grafana", "dashboards")
)

// job is the name of the exporter's job in prometheus.yml.
const job = "twilio_operations"

// Where the links of alerts lead.
const (
	runbookBase   = "https://wiki.example.com/runbooks"
	dashboardBase = "https://grafana.example.com"
	landingBase   = "https://twilio.example.com"
)

// stack is a Prometheus with the files of deploy/prometheus.
type stack struct {
	dir        string // copy of the files
	prometheus *process

	mu         sync.Mutex
	discovered []targetGroup
}

// targetGroup is a group of a file of targets.
type targetGroup struct {
	Targets []string          `yaml:"targets"`
	Labels  map[string]string `yaml:"labels,omitempty"`
}

// discover changes which exporters Prometheus finds.
func (s *stack) discover(t *testing.T, change func([]targetGroup) []targetGroup) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.discovered = change(s.discovered)
	file := filepath.Join(s.dir, "targets", "exporter.yml")
	// In one go, because Prometheus reads it as soon as it changes.
	writeYAML(t, file+".new", s.discovered)
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

// startStack runs Prometheus with a copy of the files, in which only the
// addresses and the paces are others, and what edits change beforehand. history
// is in OpenMetrics; "" is none.
func startStack(
	t *testing.T, name string, divisor int, exporters []string, alertmanager, history string, edits ...func(dir string),
) *stack {
	t.Helper()
	s := &stack{dir: t.TempDir()}
	copyTree(t, prometheusFiles, s.dir)
	for _, edit := range edits {
		edit(s.dir)
	}
	s.discover(t, func([]targetGroup) []targetGroup {
		groups := make([]targetGroup, len(exporters))
		for i, address := range exporters {
			groups[i].Targets = []string{address}
		}
		return groups
	})

	writeYAML(t, filepath.Join(s.dir, "targets", "alertmanager.yml"), targets(alertmanager))
	editYAML(t, filepath.Join(s.dir, "prometheus.yml"), func(config map[string]any) {
		global, ok := config["global"].(map[string]any)
		if !ok {
			t.Fatal("prometheus.yml has no global section")
		}
		global["scrape_interval"], global["evaluation_interval"] = step.String(), step.String()
		global["external_labels"] = map[string]any{
			"runbook_base": runbookBase, "dashboard_base": dashboardBase, "landing_base": landingBase,
		}
		if divisor == fast {
			// Panels ask for native histograms first, and for classic ones where
			// Prometheus keeps those: one stack has the first, one the second.
			global["scrape_native_histograms"], global["always_scrape_classic_histograms"] = true, true
		}

		jobs, _ := config["scrape_configs"].([]any)
		for _, j := range jobs {
			if j, ok := j.(map[string]any); ok {
				delete(j, "scrape_interval")
				j["scrape_timeout"] = step.String() // no longer than the interval
			}
		}
	})

	for _, file := range glob(t, filepath.Join(s.dir, "rules", "*.yml")) {
		rules, err := paced(readFile(t, file), divisor)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		writeFile(t, file, rules)
	}

	if history != "" {
		file := filepath.Join(s.dir, "history.om")
		writeFile(t, file, []byte(history))
		out, err := runTool(t, s.dir, nil, "promtool", "tsdb", "create-blocks-from", "openmetrics", "--quiet", file, "data")
		if err != nil {
			t.Fatalf("history: %v\n%s", err, out)
		}
	}

	s.run(t, name)
	return s
}

// run starts Prometheus, or starts it again once it was ended.
func (s *stack) run(t *testing.T, name string) {
	t.Helper()
	s.prometheus = start(t, name, "prometheus", nil,
		"--config.file="+filepath.Join(s.dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(s.dir, "data"),
		"--web.listen-address=127.0.0.1:0")
	eventually(t, name+" to be ready", func() error {
		_, err := get(t.Context(), s.prometheus.url("/-/ready"))
		return err
	})
}

// targets is a file of addresses; an empty one is none.
func targets(addresses ...string) any {
	addresses = slices.DeleteFunc(addresses, func(a string) bool { return a == "" })
	if len(addresses) == 0 {
		return []any{}
	}
	return []any{map[string]any{"targets": addresses}}
}

// sample is a series as Prometheus tells it, with its latest value.
type sample struct {
	labels map[string]string
	value  model.SampleValue
}

// query asks for the state of this moment.
func (s *stack) query(ctx context.Context, expr string) ([]sample, error) {
	return s.queryAt(ctx, expr, time.Now())
}

// queryAt asks for the state at a time.
func (s *stack) queryAt(ctx context.Context, expr string, at time.Time) ([]sample, error) {
	var found model.Vector
	values := url.Values{"query": {expr}, "time": {at.Format(time.RFC3339Nano)}}
	if err := s.ask(ctx, "/api/v1/query", values, "vector", &found); err != nil {
		return nil, fmt.Errorf("%s: %w", expr, err)
	}
	samples := make([]sample, len(found))
	for i, one := range found {
		samples[i] = sample{labels: labelsOf(one.Metric), value: one.Value}
	}
	return samples, nil
}

// queryRange asks for the past, up to now.
func (s *stack) queryRange(ctx context.Context, expr string, past time.Duration) (model.Matrix, error) {
	var found model.Matrix
	now := time.Now()
	values := url.Values{
		"query": {expr}, "step": {step.String()},
		"start": {now.Add(-past).Format(time.RFC3339Nano)}, "end": {now.Format(time.RFC3339Nano)},
	}
	if err := s.ask(ctx, "/api/v1/query_range", values, "matrix", &found); err != nil {
		return nil, fmt.Errorf("%s: %w", expr, err)
	}
	return found, nil
}

// ask asks the API; a kind is what a query must result in.
func (s *stack) ask(ctx context.Context, api string, values url.Values, kind string, into any) error {
	body, err := get(ctx, s.prometheus.url(api)+"?"+values.Encode())
	if err != nil {
		return err
	}
	var answer struct{ Data json.RawMessage }
	err = json.Unmarshal(body, &answer)
	if err != nil {
		return err
	}
	if kind == "" {
		return json.Unmarshal(answer.Data, into)
	}
	var data struct {
		ResultType string
		Result     json.RawMessage
	}

	err = json.Unmarshal(answer.Data, &data)
	if err != nil {
		return err
	}
	if data.ResultType != kind {
		return fmt.Errorf("a %s, not a %s", data.ResultType, kind)
	}
	return json.Unmarshal(data.Result, into)
}

func labelsOf(m model.Metric) map[string]string {
	labels := make(map[string]string, len(m))
	for name, value := range m {
		labels[string(name)] = string(value)
	}
	return labels
}

// account is an exporter of one account on a simulated API.
type account struct {
	name     string
	world    *simulator.World
	api      *simulator.Handler
	window   time.Duration
	config   string
	flags    []string
	exporter *process
	t        *testing.T
}

// startAccount runs an exporter whose day takes as long as the fast stack's.
func startAccount(
	t *testing.T, name string, settings simulator.WorldSettings, window time.Duration, flags ...string,
) *account {
	t.Helper()
	a := &account{name: name, t: t, window: window, flags: flags}
	a.world = simulator.MustWorld(settings)
	a.api = simulator.NewHandler(a.world,
		simulator.Settings{AccountSID: simulator.DemoAccountSID, AuthToken: simulator.DemoAuthToken})
	server := httptest.NewServer(a.api)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})

	dir := t.TempDir()
	secret := filepath.Join(dir, "token")
	writeFile(t, secret, []byte(simulator.DemoAuthToken))
	a.config = filepath.Join(dir, "accounts.yml")
	writeYAML(t, a.config, map[string]any{"accounts": []any{map[string]any{
		"name": name, "account_sid": simulator.DemoAccountSID, "auth_token_file": secret, "base_url": server.URL + "/v1",
	}}})
	a.run("127.0.0.1:0")
	return a
}

// fastWorld is an account of one operation of a hundred messages a second, each
// done in seconds.
func fastWorld(seed uint64) simulator.WorldSettings {
	return simulator.WorldSettings{
		Seed: seed, Rate: 60, Uniform: true, Retention: 4 * time.Hour,
		MinRecipients: 100, MaxRecipients: 100,
		Lifetime: 3 * time.Second, LifetimeSpread: 0.3,
		ScheduledShare: 0.05, ScheduledAhead: 20 * time.Second,
		FailedShare: 0.01, UndeliveredShare: 0.02, ReadShare: 0.4, DeliveredIncludesRead: true,
	}
}

// accountWindow is what most exporters of the fast stack look at.
const accountWindow = 5 * time.Minute

// run starts the exporter at this address.
func (a *account) run(address string) {
	a.t.Helper()
	flags := []string{
		"--config.file=" + a.config, "--web.listen-address=" + address,
		// The defaults, divided by 60.
		"--collector.interval=1s", "--collector.max-age=10s", "--collector.window=" + a.window.String(),
		"--collector.refresh-timeout=15s", "--twilio.rate-limit=0",
	}
	a.exporter = start(a.t, "the exporter of "+a.name, "exporter", nil, slices.Concat(flags, a.flags)...)
}

// trouble makes operations go wrong from now on.
func (a *account) trouble(kind simulator.TroubleKind, rate float64) {
	a.t.Helper()
	if err := a.world.AddTrouble(simulator.Trouble{Kind: kind, Share: 1, Rate: rate, From: time.Now()}); err != nil {
		a.t.Fatal(err)
	}
}

func (a *account) calm() { a.world.EndTrouble(time.Now()) }

// refuse answers every request with this status until the faults are cleared.
func (a *account) refuse(status int) {
	a.api.Faults().MustAdd(simulator.Fault{Kind: simulator.FaultStatus, Status: status})
}

// pager is an Alertmanager with the file of deploy/alertmanager, and what its
// receivers were told.
type pager struct {
	alertmanager *process
	mu           sync.Mutex
	told         []notice
}

// notice is one alert of a notification.
type notice struct {
	receiver, status    string
	labels, annotations map[string]string
}

// startPager runs Alertmanager with receivers that tell the test, and with
// waits divided like the rules' durations.
func startPager(t *testing.T, divisor int) *pager {
	t.Helper()
	p := &pager{}
	server := httptest.NewServer(http.HandlerFunc(p.hear))
	t.Cleanup(server.Close)
	dir := t.TempDir()
	copyTree(t, alertmanagerFiles, dir)
	file := filepath.Join(dir, "alertmanager.yml")
	writeFile(t, file, uncommented(t, file))
	editYAML(t, file, func(config map[string]any) {
		receivers, _ := config["receivers"].([]any)
		for _, r := range receivers {
			r, ok := r.(map[string]any)
			if !ok {
				t.Fatalf("%s: a receiver is %T", file, r)
			}
			name := fmt.Sprint(r["name"])
			clear(r)
			r["name"] = name
			r["webhook_configs"] = []any{map[string]any{"url": server.URL + "/" + name, "send_resolved": true}}
		}

		if err := divideWaits(config["route"], divisor); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
	})

	p.alertmanager = start(t, "Alertmanager", "alertmanager", nil,
		"--config.file="+file, "--storage.path="+filepath.Join(dir, "data"),
		"--web.listen-address=127.0.0.1:0", "--cluster.listen-address=")
	eventually(t, "Alertmanager to be ready", func() error {
		_, err := get(t.Context(), p.alertmanager.url("/-/ready"))
		return err
	})
	return p
}

// uncommented returns a file with the lines that its users may switch on: those
// that begin with a sign and two spaces or more.
func uncommented(t *testing.T, file string) []byte {
	t.Helper()
	before := readFile(t, file)
	after := commentedOut.ReplaceAll(before, []byte("  "))
	if bytes.Equal(before, after) {
		t.Fatalf("%s has nothing to switch on", file)
	}
	return after
}

var commentedOut = regexp.MustCompile(`(?m)^# {2}`)

// divideWaits divides the waits of a route and of those below it.
func divideWaits(route any, divisor int) error {
	r, ok := route.(map[string]any)
	if !ok {
		return fmt.Errorf("a route is %T", route)
	}
	for _, key := range []string{"group_wait", "group_interval", "repeat_interval"} {
		if v, ok := r[key]; ok {
			d, err := model.ParseDuration(fmt.Sprint(v))
			if err != nil {
				return err
			}
			r[key] = divided(d, divisor).String()
		}
	}

	below, _ := r["routes"].([]any)
	for _, b := range below {
		if err := divideWaits(b, divisor); err != nil {
			return err
		}
	}
	return nil
}

func (p *pager) hear(w http.ResponseWriter, r *http.Request) {
	var message struct {
		Alerts []struct {
			Status              string
			Labels, Annotations map[string]string
		}
	}

	if err := json.NewDecoder(r.Body).Decode(&message); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}

	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range message.Alerts {
		p.told = append(p.told, notice{
			receiver: path.Base(r.URL.Path), status: a.Status, labels: a.Labels, annotations: a.Annotations,
		})
	}
}

// notices returns what was told of alerts with these labels.
func (p *pager) notices(labels map[string]string) []notice {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(p.told), func(n notice) bool { return !includes(n.labels, labels) })
}

// amAlert is an alert as Alertmanager holds it.
type amAlert struct {
	Labels map[string]string
	Status struct {
		State       string
		InhibitedBy []string
	}
}

// alerts returns the alerts that Alertmanager holds with these labels.
func (p *pager) alerts(ctx context.Context, labels map[string]string) ([]amAlert, error) {
	body, err := get(ctx, p.alertmanager.url("/api/v2/alerts"))
	if err != nil {
		return nil, err
	}
	var all []amAlert
	if err := json.Unmarshal(body, &all); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(a amAlert) bool { return !includes(a.Labels, labels) }), nil
}

// includes says whether all of some are among labels.
func includes(labels, some map[string]string) bool {
	for name, value := range some {
		if labels[name] != value {
			return false
		}
	}
	return true
}

// with returns labels and more of them.
func with(labels map[string]string, pairs ...string) map[string]string {
	all := maps.Clone(labels)
	for i := 0; i+1 < len(pairs); i += 2 {
		all[pairs[i]] = pairs[i+1]
	}
	return all
}

// get fetches a page; an answer other than 200 is an error.
func get(ctx context.Context, address string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return nil, err
	}
	return do(request)
}

func do(request *http.Request) (body []byte, err error) {
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	body, err = io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s: %s", request.Method, request.URL, response.Status, strings.TrimSpace(string(body)))
	}
	return body, err
}

func copyTree(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: no files (%v)", pattern, err)
	}
	return files
}

func readFile(t *testing.T, file string) []byte {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func writeFile(t *testing.T, file string, content []byte) {
	t.Helper()
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func writeYAML(t *testing.T, file string, content any) {
	t.Helper()
	text, err := yaml.Marshal(content)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, file, text)
}

func editYAML(t *testing.T, file string, edit func(map[string]any)) {
	t.Helper()
	var content map[string]any
	if err := yaml.Unmarshal(readFile(t, file), &content); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	edit(content)
	writeYAML(t, file, content)
}
