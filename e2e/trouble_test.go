package e2e

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/common/model"

	"twilio_operations_exporter/twilio"
	"twilio_operations_exporter/twilio/simulator"
)

// TestTrouble switches trouble on and off and follows each alert from the
// exporter to the receiver. Each account is a scenario of its own; they share
// a Prometheus and an Alertmanager, as accounts do.
func TestTrouble(t *testing.T) {
	t.Parallel()
	for name := range tools {
		toolPath(t, name) // time begins when all are there
	}
	pager := startPager(t, fast)
	accounts := map[string]*account{}

	var exporters []string
	for i, name := range slices.Sorted(maps.Keys(scenarios)) {
		settings, window := fastWorld(uint64(i)+1), accountWindow
		if name == "stuck" {
			// For an hour already, and not yet for six, an hour of this stack's
			// time being a minute: a warning first, then critical. So many of them
			// that the oldest is hardly younger than the trouble.
			window = 30 * time.Minute
			settings.Rate = 20
			settings.Troubles = []simulator.Trouble{{Kind: simulator.TroubleStuck, Share: 0.5, From: time.Now().Add(-stuckFor)}}
		}

		if name == "campaign" {
			// Few large operations that take their time.
			settings.Rate, settings.Lifetime = 4, 20*time.Second
			settings.MinRecipients, settings.MaxRecipients = 2000, 2000
		}

		var flags []string
		if name == "campaign" {
			flags = []string{"--collector.operation-tags=campaign,team"}
		}
		if name == "shard" {
			flags = []string{"--shard.total=2", "--shard.index=1"} // which takes an account of this name
		}
		if name == "acme" {
			flags = []string{"--storage.path=" + filepath.Join(t.TempDir(), "states")} // an alert is about it
		}
		a := startAccount(t, name, settings, window, flags...)
		accounts[name] = a
		exporters = append(exporters, a.exporter.address)
	}

	s := startStack(t, "Prometheus (fast)", fast, exporters, pager.alertmanager.address,
		usualHistory(accounts["dropped"], time.Now()))
	h := &hospital{t: t, stack: s, pager: pager}

	began := time.Now()
	t.Run("scenarios", func(t *testing.T) {
		for name, scenario := range scenarios {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				// Copies, whose failures are those of this scenario.
				patient, a := *h, *accounts[name]
				patient.t, a.t = t, t
				patient.healthy(&a)
				scenario(t, &patient, &a)
			})
		}
	})

	if t.Failed() {
		return // what follows asks about all that has happened
	}
	t.Run("rules work", func(t *testing.T) { checkRuleHealth(t, s) })
	t.Run("everything was seen", func(t *testing.T) { checkAfterTrouble(t, s, time.Since(began)) })
}

// stuckFor leaves two minutes until the alert is critical, in which the servers
// have to start and the warning has to arrive.
const stuckFor = 4 * time.Minute

// scenarios are what happens, by the name of the account to which it does.
var scenarios = map[string]func(*testing.T, *hospital, *account){
	"acme":          messagesFail, // has a route of its own in alertmanager.yml
	"dropped":       deliveryDrops,
	"unaddressable": nobodyThere,
	"stuck":         operationsStuck,
	"throttled":     exporterThrottled,
	"refused":       credentialsRefused,
	"blind":         refreshesFail,
	"down":          exporterDown,
	"example":       exporterRestarts, // has limits of its own in thresholds.yml
	"campaign":      campaignFails,
	"loop":          exporterCrashLoops,
	"vanished":      targetVanishes,
	"shard":         shardVanishes,
	"removed":       accountRemoved,
	"twin":          stagingIsNoSubstitute,
}

// usualHistory is what the rules about the last hour have recorded in the last
// week, in the fast stack's time: every hour the same, namely what the account
// sends.
func usualHistory(a *account, now time.Time) string {
	// Settled operations only, over more than one hour of the fast stack.
	const minutes = 20
	sums := totals(a.world.Sums(now, now.Add(-(minutes+1)*time.Minute), now.Add(-time.Minute)))
	usual := usualHour{a.name, float64(sums[twilio.Delivered]) / minutes, float64(sums[twilio.Attempts]) / minutes}
	return history(fast, now, usual)
}

// totals are sums over all statuses, of what is asked about here.
func totals(sums simulator.Sums) (all twilio.Stats) {
	for _, s := range sums {
		all.Add(&s.Stats)
	}
	return all
}

// usualHour is what an account delivers and attempts in an hour.
type usualHour struct {
	account             string
	delivered, attempts float64
}

// history writes OpenMetrics of the same hourly delivery and attempts on each of
// the seven days before now, divided, at about the time of the day that it is.
func history(divisor int, now time.Time, accounts ...usualHour) string {
	var b strings.Builder
	day := 24 * time.Hour / time.Duration(divisor)
	// Prometheus looks back five minutes, whatever the divisor, and no test
	// lasts longer than half an hour.
	const every, before, after = time.Minute, 10 * time.Minute, 30 * time.Minute
	for _, series := range []struct {
		name  string
		value func(usualHour) float64
	}{
		{"account:twilio_attempts:increase1h", func(u usualHour) float64 { return u.attempts }},
		{"account:twilio_messages_delivered:increase1h", func(u usualHour) float64 { return u.delivered }},
	} {
		fmt.Fprintf(&b, "# TYPE %s gauge\n", series.name)
		for _, u := range accounts {
			for at := now.Add(-7*day - before); at.Before(now.Add(-min(day, before))); at = at.Add(every) {
				if ago := now.Sub(at) % day; ago <= before || ago >= day-after {
					fmt.Fprintf(&b, "%s{account=%q,job=%q} %g %.3f\n", series.name, u.account, job, series.value(u),
						float64(at.UnixMilli())/1000)
				}
			}
		}
	}

	b.WriteString("# EOF\n")
	return b.String()
}

// hospital is where accounts are watched.
type hospital struct {
	t     *testing.T
	stack *stack
	pager *pager
}

// healthy waits until the account is scraped and its rates are known.
func (h *hospital) healthy(a *account) {
	h.t.Helper()
	for _, expr := range []string{
		fmt.Sprintf(`account:twilio_up:max{account=%q} == 1`, a.name),
		fmt.Sprintf(`account:twilio_messages_delivered:increase1h{account=%q} >= 500`, a.name),
	} {
		h.yields(expr)
	}
}

// yields waits for a query to return something.
func (h *hospital) yields(expr string) {
	h.t.Helper()
	eventually(h.t, expr, func() error {
		found, err := h.stack.query(h.t.Context(), expr)
		if err == nil && len(found) == 0 {
			err = errors.New("no series")
		}
		return err
	})
}

// told waits until the receiver was told that such an alert has this status.
// Only this receiver may have been told of it.
func (h *hospital) told(receiver, status string, labels map[string]string) notice {
	h.t.Helper()
	var found notice
	eventually(h.t, fmt.Sprintf("%s to be told that %v is %s", receiver, labels, status), func() error {
		told := h.pager.notices(labels)
		for _, n := range told {
			if n.receiver != receiver {
				h.t.Fatalf("%s was told that %v is %s", n.receiver, n.labels, n.status)
			}
			if n.status == status {
				found = n
				return nil
			}
		}
		return fmt.Errorf("told of it so far: %v", told)
	})
	return found
}

// muted waits until Alertmanager holds such an alert back because of another.
func (h *hospital) muted(labels map[string]string) {
	h.t.Helper()
	eventually(h.t, fmt.Sprintf("%v to be muted", labels), func() error {
		alerts, err := h.pager.alerts(h.t.Context(), labels)
		if err != nil {
			return err
		}
		for _, a := range alerts {
			if a.Status.State == "suppressed" && len(a.Status.InhibitedBy) > 0 {
				return nil
			}
		}
		return fmt.Errorf("Alertmanager holds %v", alerts)
	})
}

// gone waits until Alertmanager holds no such alert that somebody would see.
func (h *hospital) gone(labels map[string]string) {
	h.t.Helper()
	eventually(h.t, fmt.Sprintf("%v to be gone", labels), func() error {
		alerts, err := h.pager.alerts(h.t.Context(), labels)
		if err != nil {
			return err
		}
		for _, a := range alerts {
			if a.Status.State != "suppressed" {
				return fmt.Errorf("it is %s", a.Status.State)
			}
		}
		return nil
	})
}

func alert(name string, a *account, severity string) map[string]string {
	return map[string]string{"alertname": name, "account": a.name, "severity": severity, "job": job}
}

func messagesFail(t *testing.T, h *hospital, a *account) {
	a.trouble(simulator.TroubleFailing, 0.5)
	critical := with(alert("TwilioFailedShareHigh", a, "critical"), "scope", "messages", "over", "1h")
	n := h.told("acme-pager", "firing", critical)
	for key, want := range map[string]string{
		"summary":       " of the messages of acme failed, more than 10%",
		"description":   "%",
		"operations":    " messages failed or not delivered",
		"dashboard_url": dashboardBase + "/d/twilio-operations?var-account=acme&from=",
		"landing_url":   landingBase + "/#account-acme",
		"runbook_url":   runbookBase + "/TwilioFailedShareHigh.md",
	} {
		if !strings.Contains(n.annotations[key], want) {
			t.Errorf("annotation %s is %q, want %q in it", key, n.annotations[key], want)
		}
	}

	for _, base := range []string{"runbook_base", "dashboard_base", "landing_base"} {
		if got, ok := n.labels[base]; ok {
			t.Errorf("the label %s=%q came along", base, got)
		}
	}

	h.muted(with(critical, "severity", "warning"))

	a.calm()
	h.told("acme-pager", "resolved", critical)
}

// campaignFails looks for the campaign in what the receiver is told.
func campaignFails(t *testing.T, h *hospital, a *account) {
	a.trouble(simulator.TroubleFailing, 0.3)
	failing := with(alert("TwilioCampaignFailing", a, "warning"), "scope", "messages")
	n := h.told("chat", "firing", failing)
	named := regexp.MustCompile(`comms_operation_\w+ \([A-Z]+\): \d+ of 2000 messages failed or not delivered`)
	if !named.MatchString(n.annotations["operations"]) {
		t.Errorf("no operation is named: %q", n.annotations["operations"])
	}
	// On a slow machine the alert is there before all five are looked up, and those that are may have no code.
	why := regexp.MustCompile(`\[campaign=\w+, team=\w+(, error 300\d\d in [1-5] of [1-5])?\]`)
	if !why.MatchString(n.annotations["operations"]) {
		t.Errorf("no operation has its tags and the most frequent code: %q", n.annotations["operations"])
	}
	h.yields(fmt.Sprintf(`twilio_named_operation_messages_sampled{account=%q} == 5`, a.name))
	h.yields(fmt.Sprintf(`max(twilio_named_operation_errors_sampled{account=%q,code=~"300.."}) >= 1`, a.name))

	a.calm()
	h.told("chat", "resolved", failing)
}

func deliveryDrops(_ *testing.T, h *hospital, a *account) {
	h.yields(fmt.Sprintf(`account:twilio_messages_delivered:median7d{account=%q}`, a.name))
	a.trouble(simulator.TroubleUndelivered, 0.9)
	undelivered := with(alert("TwilioUndeliveredShareHigh", a, "critical"), "over", "1h")
	h.told("pager", "firing", undelivered)
	h.muted(alert("TwilioDeliveryDropped", a, "warning"))

	a.calm()
	h.told("pager", "resolved", undelivered)
	h.yields(fmt.Sprintf(`(vector(1) unless on () ALERTS{alertname="TwilioDeliveryDropped",account=%q}) and on ()
		account:twilio_messages_delivered:increase1h{account=%[1]q}`, a.name))
}

func nobodyThere(_ *testing.T, h *hospital, a *account) {
	a.trouble(simulator.TroubleUnaddressable, 0.5)
	unaddressable := with(alert("TwilioUnaddressableShareHigh", a, "warning"), "scope", "messages")
	h.told("chat", "firing", unaddressable)

	a.calm()
	h.told("chat", "resolved", unaddressable)
}

func operationsStuck(_ *testing.T, h *hospital, a *account) {
	stuck := with(alert("TwilioOperationStuckProcessing", a, "critical"), "scope", "messages")
	warning := with(stuck, "severity", "warning")
	h.told("chat", "firing", warning)
	h.told("pager", "firing", stuck)
	h.muted(warning)

	a.calm()
	h.told("pager", "resolved", stuck)
}

func exporterThrottled(_ *testing.T, h *hospital, a *account) {
	a.api.Faults().MustAdd(simulator.Fault{
		Kind: simulator.FaultStatus, Status: http.StatusTooManyRequests, RetryAfter: time.Second, Every: 2,
	})
	throttled, many := alert("TwilioExporterThrottled", a, "warning"), alert("TwilioExporterTooManyRequests", a, "warning")
	h.told("operators", "firing", throttled)
	h.told("operators", "firing", many)

	a.api.Faults().Clear()
	h.told("operators", "resolved", throttled)
	h.told("operators", "resolved", many)
}

func credentialsRefused(_ *testing.T, h *hospital, a *account) {
	a.refuse(http.StatusUnauthorized)
	refused := with(alert("TwilioExporterCredentialsRefused", a, "critical"), "scope", "exporter")
	h.told("operators-pager", "firing", refused)
	// The cause is told, so the symptoms are not.
	h.muted(alert("TwilioExporterRefreshesFailing", a, "warning"))
	h.muted(alert("TwilioExporterNumbersTooOld", a, "critical"))
	h.muted(alert("TwilioExporterNumbersTooOld", a, "warning"))

	a.api.Faults().Clear()
	h.told("operators-pager", "resolved", refused)
}

func refreshesFail(_ *testing.T, h *hospital, a *account) {
	// What is known to be bad before nothing is known any more …
	a.trouble(simulator.TroubleFailing, 0.5)
	failed := with(alert("TwilioFailedShareHigh", a, "critical"), "over", "1h")
	h.told("pager", "firing", failed)

	a.refuse(http.StatusInternalServerError)
	failing := alert("TwilioExporterRefreshesFailing", a, "warning")
	old := alert("TwilioExporterNumbersTooOld", a, "critical")
	h.told("operators", "firing", failing)
	h.told("operators-pager", "firing", old)
	h.muted(with(old, "severity", "warning"))
	// … is not claimed on old numbers, though the trouble lasts.
	h.gone(failed)

	a.calm()
	a.api.Faults().Clear()
	h.told("operators-pager", "resolved", old)
	h.told("operators", "resolved", failing)
}

func exporterDown(t *testing.T, h *hospital, a *account) {
	before := h.rates(a)
	address := a.exporter.address
	a.exporter.stop(t)
	down := with(alert("TwilioExporterDown", a, "critical"), "scope", "exporter", "instance", address)
	h.told("operators-pager", "firing", down)
	h.yields(fmt.Sprintf(`up{instance=%q} == 0`, address))

	back := time.Now()
	a.run(address)
	h.told("operators-pager", "resolved", down)
	h.noSpike(a, before, back)
}

func exporterRestarts(t *testing.T, h *hospital, a *account) {
	before := h.rates(a)
	address := a.exporter.address
	a.exporter.stop(t)
	back := time.Now()
	a.run(address)
	h.noSpike(a, before, back)
}

// loopPeriod is 150 seconds of the fast stack's time.
const loopPeriod = 150 * time.Second / fast

// exporterCrashLoops kills the exporter again and again while no refresh
// succeeds: no process is old enough to have old numbers.
func exporterCrashLoops(t *testing.T, h *hospital, a *account) {
	a.refuse(http.StatusInternalServerError)
	address := a.exporter.address
	restarting := map[string]string{
		"alertname": "TwilioExporterRestarting", "instance": address, "severity": "warning", "scope": "exporter", "job": job,
	}
	old := alert("TwilioExporterNumbersTooOld", a, "critical")
	ticker := time.NewTicker(loopPeriod)
	defer ticker.Stop()
	told := func() bool { return len(h.pager.notices(restarting)) > 0 && len(h.pager.notices(old)) > 0 }

	for begun := time.Now(); !told(); <-ticker.C {
		if time.Since(begun) > patience {
			t.Fatalf("told of the crash loop: %v, of old numbers: %v", h.pager.notices(restarting), h.pager.notices(old))
		}
		a.exporter.kill()
		a.run(address)
	}

	h.told("operators", "firing", restarting)
	h.told("operators-pager", "firing", old)

	a.api.Faults().Clear()
	h.told("operators", "resolved", restarting)
	h.told("operators-pager", "resolved", old)
}

// targetVanishes takes the exporter out of what Prometheus discovers.
func targetVanishes(t *testing.T, h *hospital, a *account) {
	address := a.exporter.address
	h.stack.discover(t, func(groups []targetGroup) []targetGroup {
		return slices.DeleteFunc(groups, func(g targetGroup) bool { return g.Targets[0] == address })
	})
	missing := with(alert("TwilioExporterAccountMissing", a, "warning"), "scope", "exporter")
	n := h.told("operators", "firing", missing)
	if want := address + ", which is no longer a target"; !strings.Contains(n.annotations["description"], want) {
		t.Errorf("the description is %q, want %q in it", n.annotations["description"], want)
	}

	h.stack.discover(t, func(groups []targetGroup) []targetGroup {
		return append(groups, targetGroup{Targets: []string{address}})
	})
	h.told("operators", "resolved", missing)
}

// shardVanishes takes the exporter of a part of the accounts out of what
// Prometheus discovers: no other reads them. Another part never had an exporter.
func shardVanishes(t *testing.T, h *hospital, a *account) {
	h.told("operators-pager", "firing", map[string]string{
		"alertname": "TwilioExporterShardMissing", "severity": "critical", "scope": "exporter", "job": job, "shards": "2",
	})
	address := a.exporter.address
	h.stack.discover(t, func(groups []targetGroup) []targetGroup {
		return slices.DeleteFunc(groups, func(g targetGroup) bool { return g.Targets[0] == address })
	})
	down := with(alert("TwilioExporterDown", a, "critical"), "scope", "exporter", "instance", address)
	h.told("operators-pager", "firing", down)

	h.stack.discover(t, func(groups []targetGroup) []targetGroup {
		return append(groups, targetGroup{Targets: []string{address}})
	})
	h.told("operators-pager", "resolved", down)
}

// accountRemoved takes the account out of the exporter's file; another one is
// in its place.
func accountRemoved(t *testing.T, h *hospital, a *account) {
	rename := func(name string) {
		editYAML(t, a.config, func(config map[string]any) {
			accounts, _ := config["accounts"].([]any)
			one, _ := accounts[0].(map[string]any)
			one["name"] = name
		})
		if err := a.exporter.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}

	rename("another")
	missing := with(alert("TwilioExporterAccountMissing", a, "warning"), "scope", "exporter")
	n := h.told("operators", "firing", missing)
	if want := a.exporter.address + ", which still answers"; !strings.Contains(n.annotations["description"], want) {
		t.Errorf("the description is %q, want %q in it", n.annotations["description"], want)
	}

	rename(a.name)
	h.told("operators", "resolved", missing)
}

// stagingIsNoSubstitute stops an exporter while one of another environment has
// an account of the same name: nobody stands in for it.
func stagingIsNoSubstitute(t *testing.T, h *hospital, a *account) {
	staging := startAccount(t, a.name, fastWorld(77), accountWindow)
	h.stack.discover(t, func(groups []targetGroup) []targetGroup {
		return append(groups, targetGroup{
			Targets: []string{staging.exporter.address}, Labels: map[string]string{"env": "staging"},
		})
	})

	h.yields(fmt.Sprintf(`twilio_up{account=%q,env="staging"} == 1`, a.name))

	address := a.exporter.address
	a.exporter.stop(t)
	down := with(alert("TwilioExporterDown", a, "critical"), "scope", "exporter", "instance", address)
	h.told("operators-pager", "firing", down)
	if also := h.pager.notices(with(down, "severity", "warning")); len(also) > 0 {
		t.Errorf("another one stands in, it says: %v", also)
	}
	a.run(address)
	h.told("operators-pager", "resolved", down)
	// It is down when the test ends, which is nobody's trouble any more.
	h.stack.discover(t, func(groups []targetGroup) []targetGroup {
		return slices.DeleteFunc(groups, func(g targetGroup) bool { return g.Labels["env"] == "staging" })
	})
}

// rateRange is long enough for a refresh that comes late, and short enough for
// a window that is counted at once to stand out.
const rateRange = 20 * time.Second

// rates are the highest rates of an account's counters before now. While there
// are samples of half the range only, a rate is half of what it will be.
func (h *hospital) rates(a *account) (rates map[string]float64) {
	h.t.Helper()
	h.yields(fmt.Sprintf(`twilio_messages_total{account=%q} offset %s`, a.name, rateRange+2*step))
	rates = h.ratesOver(a, rateRange)
	if rates["twilio_messages_total"] == 0 {
		h.t.Fatalf("no rates before the restart: %v", rates)
	}
	return rates
}

// ratesOver are the highest rates of an account's counters, by their names,
// over this past.
func (h *hospital) ratesOver(a *account, past time.Duration) map[string]float64 {
	h.t.Helper()
	counters, err := h.stack.query(h.t.Context(), fmt.Sprintf(
		`group by (__name__) (last_over_time({account=%q,__name__=~"twilio_.+_total"}[%s]))`, a.name, rateRange))
	if err != nil {
		h.t.Fatal(err)
	}

	rates := map[string]float64{}
	for _, c := range counters {
		name := c.labels[model.MetricNameLabel]
		rate := fmt.Sprintf(`sum(rate(%s{account=%q}[%s]))`, name, a.name, rateRange)
		found, err := h.stack.queryRange(h.t.Context(), rate, past)
		if err != nil {
			h.t.Fatal(err)
		}
		rates[name] = 0
		for _, series := range found {
			for _, v := range series.Values {
				rates[name] = max(rates[name], float64(v.Value))
			}
		}
	}
	return rates
}

// noSpike compares the rates after a restart with those before.
func (h *hospital) noSpike(a *account, before map[string]float64, back time.Time) {
	h.t.Helper()
	// Until the new process has been there for longer than the range.
	process := fmt.Sprintf("instance:twilio_exporter_start_time_seconds:max{instance=%q}", a.exporter.address)
	h.yields(fmt.Sprintf("%s > %d and time() - %[1]s > %[3]v and on () account:twilio_up:max{account=%[4]q} == 1",
		process, back.Add(-2*step).Unix(), (rateRange + 5*step).Seconds(), a.name))
	after := h.ratesOver(a, time.Since(back))
	if after["twilio_messages_total"] == 0 {
		h.t.Fatalf("no rates after the restart: %v", after)
	}
	for _, problem := range spikes(before, after) {
		h.t.Error(problem)
	}
	// The comparison is worth something only if counting the window would show.
	window := totals(a.world.Sums(time.Now(), back.Add(-accountWindow), back))
	jump := map[string]float64{"twilio_messages_total": float64(window[twilio.Total]) / rateRange.Seconds()}
	if len(spikes(before, jump)) == 0 {
		h.t.Errorf("counting the whole window at once, a rate of %v, would not have been seen", jump)
	}
}

// spikes says which rates are far above those before.
func spikes(before, after map[string]float64) []string {
	var problems []string
	for name, rate := range after {
		if limit := 3*before[name] + 2; rate > limit {
			problems = append(problems,
				fmt.Sprintf("%s grew by %.4g/s after the restart, %.4g/s before", name, rate, before[name]))
		}
	}
	return problems
}

func TestSpikes(t *testing.T) {
	t.Parallel()
	before := map[string]float64{"a": 100, "b": 0}
	if got := spikes(before, map[string]float64{"a": 130, "b": 0.5}); len(got) != 0 {
		t.Errorf("no spikes, but got %v", got)
	}
	for name, after := range map[string]map[string]float64{
		"of one that grows":   {"a": 500, "b": 0},
		"of one that did not": {"a": 100, "b": 3},
		"of one that is new":  {"c": 3},
	} {
		if got := spikes(before, after); len(got) != 1 {
			t.Errorf("a spike %s: got %v", name, got)
		}
	}
}
