package e2e

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"twilio_operations_exporter/twilio"
	"twilio_operations_exporter/twilio/simulator"
)

const week = 7 * 24 * time.Hour

// quietAccounts are three accounts of the demo's shape to which nothing happens:
// the demo's, one that sleeps at night, and one that sends in bursts.
func quietAccounts() map[string]simulator.WorldSettings {
	settings := func(seed uint64, rate float64, curve func(time.Time) float64) simulator.WorldSettings {
		s := simulator.DemoWorld(epoch)
		s.Seed, s.Rate, s.Curve = seed, rate, curve
		s.Troubles, s.BadShare = nil, 0
		// Less long than the demo's, so that fewer operations are looked at in each
		// minute.
		s.ScheduledAhead, s.LateFor = time.Hour, 15*time.Minute
		return s
	}
	demo := simulator.DemoWorld(epoch)
	return map[string]simulator.WorldSettings{
		"demo":   settings(1, demo.Rate, demo.Curve),
		"nights": settings(2, 8, simulator.DayCurve(1, 14)),
		"bursts": settings(3, 0.5, simulator.Bursts(40, 4*time.Hour, 10*time.Minute)),
	}
}

// settled is the age at which an operation of these worlds changes no more.
const settled = 85 * time.Minute

// quietWeek runs a week in which nothing is wrong but what always is: a refresh
// an hour fails, and the exporter is deployed once a day.
func quietWeek(t *testing.T) string {
	t.Helper()
	type account struct {
		*simAccount
		world *simulator.World
		older twilio.Stats // of operations that are settled
		base  twilio.Stats // when the process first looked
		known bool         // whether it has
	}
	start := epoch.Add(10 * 24 * time.Hour)
	worlds := quietAccounts()
	var accounts []*account
	for name, settings := range worlds {
		settings.Epoch = start.Add(-settled)
		a := &account{simAccount: &simAccount{name: name, instance: "quiet:9861"}, world: simulator.MustWorld(settings)}
		a.begin(start)
		accounts = append(accounts, a)
	}
	slices.SortFunc(accounts, func(a, b *account) int { return strings.Compare(a.name, b.name) })

	r := newRuleRun(t, everyScrape, shippedRules()...)
	outcomes, deploys, failures := int64(0), 0, 0
	for at := start; at.Before(start.Add(week)); at = at.Add(everyScrape) {
		refreshes := at.Equal(at.Truncate(time.Minute))
		minute := int(at.Sub(start) / time.Minute)
		ofDay := minute % (24 * 60)
		var samples []scraped
		for i, a := range accounts {
			a.now = at
			switch {
			case !refreshes: // the second scrape of a minute shows the same
			case ofDay == 10*60 || ofDay == 10*60+1: // it is deployed at ten
				a.down = true
			case a.down:
				a.restart()
				a.known = false
				deploys++
				fallthrough
			default:
				edge := at.Add(-settled)
				for op := range a.world.Operations(at, edge, edge.Add(time.Minute)) {
					a.older.Add(&op.Stats)
				}
				if minute%60 == 20+7*i {
					a.fail("server")
					failures++
					break
				}
				all := a.look(a.world, edge.Add(time.Minute), a.older)
				if !a.known {
					a.base, a.known = all, true
				}
				a.messages = float64(all[twilio.Total] - a.base[twilio.Total])
				a.recipients = float64(all[twilio.Recipients] - a.base[twilio.Recipients])
				a.unaddressable = float64(all[twilio.Unaddressable] - a.base[twilio.Unaddressable])
				a.attempts = float64(all[twilio.Attempts] - a.base[twilio.Attempts])
				a.delivered = float64(all[twilio.Delivered] - a.base[twilio.Delivered])
				a.undelivered = float64(all[twilio.Undelivered] - a.base[twilio.Undelivered])
				a.failed = float64(all[twilio.Failed] - a.base[twilio.Failed])
				a.succeed()
				outcomes = max(outcomes, all[twilio.Delivered]+all[twilio.Undelivered]+all[twilio.Failed])
			}
			page := a.scrape()
			if i > 0 {
				page = slices.DeleteFunc(page, func(s scraped) bool { return s.labels.Get("account") == "" }) // once a target
			}
			samples = append(samples, page...)
		}
		r.step(at, samples)
	}
	r.evaluate()
	for _, change := range r.changes {
		t.Errorf("%v fires on day %.2f for %v", change.firing, change.from.Sub(start).Hours()/24, change.to.Sub(change.from))
	}
	if outcomes < 1_000_000 || deploys != 3*7 || failures != 3*7*24 {
		t.Errorf("no week: %d outcomes, %d starts, %d failures", outcomes, deploys, failures)
	}
	return fmt.Sprintf("Three accounts of the demo's shape, of which one sleeps at night and one sends in bursts, "+
		"for seven days. The exporter is\n"+
		"deployed every day, and one refresh an hour of each account fails. "+
		"The largest account has %.1f million outcomes in the\nweek. Alerts: %d.\n", float64(outcomes)/1e6, len(r.changes))
}

// look is what a refresh sees: the stats of all operations, and of those that
// may still change also the queue, the longest untouched, and which to name.
func (a *simAccount) look(world *simulator.World, from time.Time, older twilio.Stats) twilio.Stats {
	all := older
	a.queued, a.updated = 0, a.now
	a.operations = a.operations[:0]
	for op := range world.Operations(a.now, from, a.now) {
		all.Add(&op.Stats)
		if op.Status == twilio.StatusProcessing {
			a.queued += float64(op.Stats[twilio.Queued])
			if op.UpdatedAt.Before(a.updated) {
				a.updated = op.UpdatedAt
			}
		}
		if lost := op.Stats[twilio.Failed] + op.Stats[twilio.Undelivered]; op.Stats[twilio.Total] >= 100 && 10*lost >= op.Stats[twilio.Total] {
			a.operations = append(a.operations, simOperation{
				id: op.ID, status: string(op.Status), why: "failing",
				messages: float64(op.Stats[twilio.Total]), delivered: float64(op.Stats[twilio.Delivered]),
				undelivered: float64(op.Stats[twilio.Undelivered]), failed: float64(op.Stats[twilio.Failed]),
				created: op.CreatedAt, updated: op.UpdatedAt,
			})
		}
	}
	slices.SortFunc(a.operations, func(x, y simOperation) int {
		return cmp.Or(
			cmp.Compare(number(y.current(a.now)), number(x.current(a.now))),
			cmp.Compare(y.failed+y.undelivered, x.failed+x.undelivered),
		)
	})
	a.operations = a.operations[:min(3, len(a.operations))]
	return all
}

// current says what the exporter names first.
func (o *simOperation) current(now time.Time) bool {
	return o.status == string(twilio.StatusProcessing) || now.Sub(o.created) < time.Hour
}
