package e2e

import (
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"

	"twilio_operations_exporter/twilio"
	"twilio_operations_exporter/twilio/simulator"
)

// newcomer is an account whose exporter and Prometheus have just been installed.
type newcomer struct {
	name  string
	world *simulator.World
}

// untilTrouble is how long after the installation something happens to a newcomer.
const untilTrouble = 4 * time.Hour

// newcomers are two accounts that send the same number in every hour, until one stops and the other delivers only a
// fifth.
func newcomers() []newcomer {
	trouble := time.Now().Add(untilTrouble)
	sending := simulator.WorldSettings{Rate: 5, MaxRecipients: 200, FailedShare: 0.01, UndeliveredShare: 0.03}

	stops := sending
	stops.Seed = 4
	stops.Until = trouble

	drops := sending
	drops.Seed = 5
	drops.Troubles = []simulator.Trouble{{Kind: simulator.TroubleUndelivered, Share: 1, Rate: 0.8, From: trouble}}

	return []newcomer{{"stops", simulator.MustWorld(stops)}, {"drops", simulator.MustWorld(drops)}}
}

// TestBackfill loads what --backfill prints into a real Prometheus, as described in deploy/prometheus/README.md. It
// checks that on the first day queries and dashboards show previous days, that their numbers are right, and that alerts
// compare with them.
func TestBackfill(t *testing.T) {
	t.Parallel()
	accounts := newcomers()
	api := &fleet{handlers: map[string]*simulator.Handler{}}
	var names []string
	for _, a := range accounts {
		sid := fleetSID(a.name)
		api.handlers[sid] = simulator.NewHandler(a.world, simulator.Settings{AccountSID: sid, AuthToken: fleetToken})
		names = append(names, a.name)
	}

	server := httptest.NewServer(api)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})

	args := []string{"--twilio.rate-limit=0", "--collector.window=168h"}
	history, err := runTool(t, "", nil, "exporter", append(args,
		"--config.file="+fleetConfig(t, names), "--twilio.base-url="+server.URL+"/v1", "--backfill", "--log.level=error")...)
	if err != nil {
		t.Fatalf("%v\n%.2000s", err, history)
	}
	installed := time.Now()
	exporter := startFleet(t, "exporter", server, names, args...)

	s := startStack(t, "Prometheus (backfill)", 1, []string{exporter.address}, "", "", func(dir string) {
		file := filepath.Join(dir, "history.om")
		writeFile(t, file, []byte(history))
		out, err := runTool(t, dir, nil, "promtool", "tsdb", "create-blocks-from", "openmetrics", "--quiet",
			"--max-block-duration=168h", "--label=job="+job, "--label=instance="+exporter.address, file, "data")
		if err != nil {
			t.Fatalf("create-blocks-from openmetrics: %v\n%s", err, out)
		}
	})

	// The recorded series of that time: those of the counters; then, where dashboards will be looked at, those of these, and so on.
	lookedAt := installed.Add(-30 * time.Hour)
	for _, span := range [][2]time.Time{
		{installed.Add(-167 * time.Hour), installed},
		{lookedAt.Add(-time.Hour), lookedAt.Add(time.Hour)},
		{lookedAt.Add(-time.Hour), lookedAt.Add(time.Hour)},
	} {
		out, err := runTool(t, s.dir, nil, "promtool", "tsdb", "create-blocks-from", "rules", "--quiet",
			"--max-block-duration=168h", "--url="+s.prometheus.url(""), "--output-dir=data",
			"--start="+span[0].Format(time.RFC3339), "--end="+span[1].Format(time.RFC3339),
			filepath.Join("rules", "thresholds.yml"), filepath.Join("rules", "recording.yml"))
		if err != nil {
			t.Fatalf("create-blocks-from rules: %v\n%s", err, out)
		}
		// It would find the blocks within minutes.
		s.prometheus.kill()
		s.run(t, "Prometheus (backfill)")
	}

	t.Run("numbers", func(t *testing.T) { pastIsRight(t, s, accounts, exporter.address) })
	t.Run("dashboards", func(t *testing.T) { dashboardsShowThePast(t, s, history, lookedAt) })
	s.prometheus.kill()
	t.Run("alerts", func(t *testing.T) {
		blocks := t.TempDir()
		for _, block := range glob(t, filepath.Join(s.dir, "data", "*", "meta.json")) {
			dir := filepath.Dir(block)
			if err := os.Rename(dir, filepath.Join(blocks, filepath.Base(dir))); err != nil {
				t.Fatal(err)
			}
		}
		alertsOfTheFirstDay(t, blocks, accounts, exporter.address, installed)
	})
}

// pastIsRight compares the counters with what the accounts have sent.
func pastIsRight(t *testing.T, s *stack, accounts []newcomer, instance string) {
	t.Helper()
	value := func(expr string, at time.Time) (float64, error) {
		found, err := s.queryAt(t.Context(), expr, at)
		if err != nil || len(found) != 1 {
			return 0, fmt.Errorf("%s has %d values: %w", expr, len(found), err)
		}
		return float64(found[0].value), nil
	}

	for _, a := range accounts {
		series := fmt.Sprintf(`{job=%q,instance=%q,account=%q}`, job, instance, a.name)
		twoDaysAgo := time.Now().Add(-48 * time.Hour).Truncate(time.Hour)
		for i := range 24 {
			end := twoDaysAgo.Add(time.Duration(i) * time.Hour)
			truth := totals(a.world.Sums(time.Now(), end.Add(-time.Hour), end))
			for name, stat := range map[string]twilio.Stat{
				"twilio_messages_total": twilio.Total, "twilio_messages_delivered_total": twilio.Delivered,
				"twilio_messages_failed_total": twilio.Failed, "twilio_messages_undelivered_total": twilio.Undelivered,
				"twilio_attempts_total": twilio.Attempts,
			} {
				if truth[stat] == 0 {
					t.Errorf("%s has no %s in the hour to %v", a.name, name, end)
				}
				got, err := value(fmt.Sprintf(`round(increase(%s%s[1h]))`, name, series), end)
				if err != nil || got != float64(truth[stat]) {
					t.Errorf("%s of %s grows by %v (error %v) in the hour to %v, want %d", name, a.name, got, err, end, truth[stat])
				}
			}
		}

		// Where the past ends, the live counters begin at 0, and nothing is counted twice.
		eventually(t, "a scrape after the first refresh", func() error {
			up, err := value(`twilio_up`+series, time.Now())
			if err == nil && up != 1 {
				err = fmt.Errorf("twilio_up is %v", up)
			}
			return err
		})

		resets, err := value(`resets(twilio_messages_total`+series+`[1h])`, time.Now())
		if err != nil || resets != 1 {
			t.Errorf("%v resets, error %v", resets, err)
		}
	}
}

// dashboardsShowThePast checks that every expression of a dashboard that reads only counters has series at a time
// before the exporter was installed.
func dashboardsShowThePast(t *testing.T, s *stack, history string, at time.Time) {
	t.Helper()
	known := pastMetrics(t, history)
	asked := 0
	for _, d := range dashboards(t) {
		if d.probes() {
			continue
		}
		settings, err := d.values(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}

		for _, e := range d.expressions {
			expr, err := fill(e.text, settings[0])
			if err != nil {
				t.Fatalf("%s: %v", e.where, err)
			}
			if !isOf(t, expr, known) || mayBeEmpty(expr) {
				continue
			}
			asked++
			found, err := s.queryAt(t.Context(), expr, at)
			if err != nil || len(found) == 0 {
				t.Errorf("%s has no past (error %v): %s", e.where, err, expr)
			}
		}
	}

	if asked < 20 {
		t.Errorf("only %d expressions are about the past", asked)
	}
}

var ofCounter = regexp.MustCompile(`(?m)^# TYPE (\w+) counter$`)

// pastMetrics returns the metrics that have a past: the counters, and what rules record from these alone.
func pastMetrics(t *testing.T, history string) map[string]bool {
	t.Helper()
	known := map[string]bool{}
	for _, counter := range ofCounter.FindAllStringSubmatch(history, -1) {
		known[counter[1]+"_total"] = true
	}
	for _, file := range shippedRules()[:2] {
		groups, errs := rulefmt.ParseFile(file, false, model.LegacyValidation, promql, nil)
		if len(errs) > 0 {
			t.Fatal(errs[0])
		}
		for _, group := range groups.Groups {
			for _, rule := range group.Rules {
				if isOf(t, rule.Expr, known) {
					known[rule.Record] = true
				}
			}
		}
	}
	return known
}

// isOf reports whether an expression reads only these metrics.
func isOf(t *testing.T, expr string, metrics map[string]bool) bool {
	t.Helper()
	tree, err := promql.ParseExpr(expr)
	if err != nil {
		t.Fatalf("%s: %v", expr, err)
	}
	only := true
	parser.Inspect(tree, func(node parser.Node, _ []parser.Node) error {
		if v, ok := node.(*parser.VectorSelector); ok && !metrics[v.Name] {
			only = false
		}
		return nil
	})
	return only
}

// alertsOfTheFirstDay evaluates the hours after the installation, with and without what was loaded. Alerts that compare
// with previous days must fire with it, and only with it.
func alertsOfTheFirstDay(t *testing.T, blocks string, accounts []newcomer, instance string, installed time.Time) {
	t.Helper()
	for loaded, dir := range map[bool]string{true: blocks, false: t.TempDir()} {
		t.Run(fmt.Sprintf("loaded=%t", loaded), func(t *testing.T) {
			r := newRuleRunAfter(t, dir, everyScrape, shippedRules()...)
			begin := installed.Truncate(time.Minute).Add(time.Minute)
			live := map[string]*simAccount{}
			for _, a := range accounts {
				one := &simAccount{name: a.name, instance: instance}
				one.begin(begin)
				one.started = begin
				live[a.name] = one
			}

			end := begin.Add(untilTrouble + 90*time.Minute)
			for at := begin; at.Before(end); at = at.Add(everyScrape) {
				var samples []scraped
				for i, a := range accounts {
					one := live[a.name]
					one.now = at
					if at.Equal(at.Truncate(time.Minute)) {
						one.count(totals(a.world.Sums(at, begin, at)))
					}
					page := one.scrape()
					if i > 0 {
						page = withoutTarget(page)
					}
					samples = append(samples, page...)
				}

				r.step(at, samples)
			}

			r.evaluate()

			var got []string
			for _, c := range r.changes {
				if c.alert == "TwilioSendingStopped" || c.alert == "TwilioDeliveryDropped" {
					got = append(got, c.alert+" of "+c.who)
					t.Logf("%v begins %v after the trouble", c.firing, c.from.Sub(begin.Add(untilTrouble)))
				}
			}

			slices.Sort(got)
			var want []string
			if loaded {
				want = []string{"TwilioDeliveryDropped of drops", "TwilioSendingStopped of stops"}
			}
			if !slices.Equal(got, want) {
				t.Errorf("firing: %s; want %s", strings.Join(got, ", "), strings.Join(want, ", "))
			}
		})
	}
}
