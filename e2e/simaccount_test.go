package e2e

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"twilio_operations_exporter/twilio"
)

// simAccount is an account on an exporter of its own. It has what an exporter would export of it in simulated time, as
// far as rules read it.
type simAccount struct {
	name, instance string
	usual          float64       // recorded in every hour of the last week; 0: nothing is
	interval       time.Duration // of refreshes
	now            time.Time
	random         *rand.Rand

	// Of the account.
	messages, delivered, undelivered, failed float64 // counters
	recipients, unaddressable, attempts      float64
	successes, errors, requests, refused     float64
	throttled, skew, queued                  float64
	up, stuck                                bool
	reasons                                  map[string]float64
	lastSuccess, updated                     time.Time
	operations                               []simOperation
	removed                                  bool // from the exporter's configuration
	// Of the exporter.
	started                          time.Time
	down, undiscovered, reloadFailed bool
}

// onScrape is the interval of an account that is refreshed on each scrape.
const onScrape = -1

// simOperation is an operation that the exporter names.
type simOperation struct {
	id, status, why                          string
	messages, delivered, undelivered, failed float64
	created, updated                         time.Time
}

// begin starts an exporter that has been running for a while.
func (a *simAccount) begin(at time.Time) {
	a.now, a.started, a.updated = at, at.Add(-time.Hour), at
	if a.interval == 0 {
		a.interval = time.Minute
	}
	a.reasons = map[string]float64{"auth": 0, "server": 0, "timeout": 0}
	a.send(0, 0, 0)
}

// restart starts a new process, whose counters begin at 0 and which has read nothing.
func (a *simAccount) restart() {
	*a = simAccount{
		name: a.name, instance: a.instance, usual: a.usual, interval: a.interval, random: a.random,
		now: a.now, started: a.now, updated: a.now, queued: a.queued,
	}
	a.reasons = map[string]float64{"auth": 0, "server": 0, "timeout": 0}
}

// send is a refresh after which so many more messages have an outcome, these shares of which failed and are
// undelivered.
func (a *simAccount) send(messages, failed, undelivered float64) {
	a.messages += messages
	a.recipients += messages
	a.attempts += messages
	a.failed += messages * failed
	a.undelivered += messages * undelivered
	a.delivered += messages * (1 - failed - undelivered)
	a.succeed()
}

// count is a refresh after which the counters have these values.
func (a *simAccount) count(stats twilio.Stats) {
	a.messages = float64(stats[twilio.Total])
	a.recipients = float64(stats[twilio.Recipients])
	a.unaddressable = float64(stats[twilio.Unaddressable])
	a.attempts = float64(stats[twilio.Attempts])
	a.delivered = float64(stats[twilio.Delivered])
	a.undelivered = float64(stats[twilio.Undelivered])
	a.failed = float64(stats[twilio.Failed])
	a.succeed()
}

// sendChance is a refresh that shows a random number of messages with this mean, each of which has these chances.
func (a *simAccount) sendChance(mean, failed, undelivered float64) {
	n := poisson(a.random, mean)
	lost, missed := binomial(a.random, n, failed), 0.0
	if undelivered > 0 {
		missed = binomial(a.random, n-lost, undelivered/(1-failed))
	}
	a.messages += n
	a.recipients += n
	a.attempts += n
	a.failed += lost
	a.undelivered += missed
	a.delivered += n - lost - missed
	a.succeed()
}

// poisson returns a number from the Poisson distribution with this mean.
func poisson(random *rand.Rand, mean float64) float64 {
	if mean > 50 {
		return max(0, math.Round(mean+math.Sqrt(mean)*random.NormFloat64()))
	}
	n := 0.0
	for left := mean; ; n++ {
		if left -= random.ExpFloat64(); left < 0 {
			return n
		}
	}
}

// binomial is how many of n things happen, each with this chance.
func binomial(random *rand.Rand, n, chance float64) float64 {
	if n*chance*(1-chance) > 20 {
		return min(n, max(0, math.Round(n*chance+math.Sqrt(n*chance*(1-chance))*random.NormFloat64())))
	}
	happened := 0.0
	for range int(n) {
		if random.Float64() < chance {
			happened++
		}
	}
	return happened
}

func (a *simAccount) succeed() {
	a.requests += 5
	a.successes++
	a.up, a.lastSuccess = true, a.now
	if !a.stuck {
		a.updated = a.now
	}
}

// fail is a refresh that fails.
func (a *simAccount) fail(reason string) {
	a.requests++
	a.errors++
	a.reasons[reason]++
	a.up = false
}

// fails adds an operation that is failing, or goes on with one.
func (a *simAccount) fails(id string, messages, lost float64, status string) {
	for i := range a.operations {
		if o := &a.operations[i]; o.id == id {
			o.failed += lost
			o.status = status
			return
		}
	}

	if messages > 0 {
		// A campaign that is over its limit has lost 10% already.
		o := simOperation{id: id, status: status, why: "failing", messages: messages, created: a.now, updated: a.now}
		o.failed = max(lost, messages/10)
		a.operations = append(a.operations, o)
	}
}

// scrape is what Prometheus gets.
func (a *simAccount) scrape() []scraped {
	if a.undiscovered {
		return nil
	}
	target := []string{"job", job, "instance", a.instance}
	var page []scraped
	add := func(name string, value float64, pairs ...string) {
		of := labels.FromStrings(slices.Concat([]string{"__name__", name}, target, pairs)...)
		page = append(page, scraped{of, value})
	}

	if a.down {
		add("up", 0)
		return page
	}

	add("up", 1)
	add("twilio_exporter_start_time_seconds", seconds(a.started))
	add("twilio_exporter_config_last_reload_successful", number(!a.reloadFailed))
	if a.removed {
		return page
	}
	of := func(name string, value float64, pairs ...string) {
		add(name, value, append([]string{"account", a.name}, pairs...)...)
	}
	of("twilio_up", number(a.up))
	of("twilio_exporter_refresh_interval_seconds", max(a.interval, 0).Seconds())
	of("twilio_exporter_last_success_timestamp_seconds", seconds(a.lastSuccess))
	of("twilio_messages_total", a.messages)
	of("twilio_messages_delivered_total", a.delivered)
	of("twilio_messages_undelivered_total", a.undelivered)
	of("twilio_messages_failed_total", a.failed)
	of("twilio_recipients_total", a.recipients)
	of("twilio_recipients_unaddressable_total", a.unaddressable)
	of("twilio_attempts_total", a.attempts)
	of("twilio_exporter_refreshes_total", a.successes, "result", "success")
	of("twilio_exporter_refreshes_total", a.errors, "result", "error")
	for reason, n := range a.reasons {
		of("twilio_exporter_refresh_errors_total", n, "reason", reason)
	}
	of("twilio_exporter_api_requests_total", a.requests, "endpoint", "list_operations", "code", "200")
	if a.refused > 0 {
		of("twilio_exporter_api_requests_total", a.refused, "endpoint", "list_operations", "code", "429")
	}
	of("twilio_exporter_api_throttled_seconds_total", a.throttled)
	of("twilio_exporter_clock_skew_seconds", a.skew)
	if a.lastSuccess.IsZero() || a.now.Sub(a.lastSuccess) > max(10*time.Minute, 2*a.interval) {
		return page // --collector.max-age
	}
	of("twilio_operation_messages_queued", a.queued, "status", "PROCESSING")
	of("twilio_operations_oldest_updated_timestamp_seconds", seconds(a.updated), "status", "PROCESSING")

	for _, o := range a.operations {
		pairs := []string{"operation", o.id, "status", o.status, "why", o.why}
		of("twilio_named_operation_messages", o.messages, pairs...)
		of("twilio_named_operation_messages_delivered", o.delivered, pairs...)
		of("twilio_named_operation_messages_undelivered", o.undelivered, pairs...)
		of("twilio_named_operation_messages_failed", o.failed, pairs...)
		of("twilio_named_operation_created_timestamp_seconds", seconds(o.created), pairs...)
		of("twilio_named_operation_updated_timestamp_seconds", seconds(o.updated), pairs...)
	}
	return page
}

func number(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// seconds is a time as metrics have it; no time is 0.
func seconds(at time.Time) float64 {
	if at.IsZero() {
		return 0
	}
	return float64(at.UnixMilli()) / 1000
}
