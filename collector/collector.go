package collector

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"twilio_operations_exporter/collector/window"
)

// view is an account as one scrape shows it.
type view struct {
	settings *Settings
	created  time.Time // when the counters began; with a kept state, before the restart
	started  time.Time // when the live counters began, which every restart resets

	up        bool
	succeeded time.Time // end of the last refresh that succeeded
	throttled time.Duration
	skew      time.Duration
	skewKnown bool

	snapshot *window.Snapshot // the last good one; empty before the first
	results  map[string]int   // refreshes that ended, by the label result
	errors   map[string]int   // refreshes that failed, by the label reason

	sampled Sampled

	collected []prometheus.Metric // samples of the metrics that are not live
}

// view returns the account as a scrape shows it now.
func (r *Refresher) view() *view {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.viewOf(&r.state)
}

// viewOf returns the account as a scrape would show it in a state.
func (r *Refresher) viewOf(s *state) *view {
	v := &view{
		settings:  &r.settings,
		created:   r.created,
		started:   r.started,
		up:        s.refreshed && s.err == nil,
		succeeded: s.succeeded,
		throttled: r.client.Throttled(),
		snapshot:  s.snapshot,
		results:   s.results,
		errors:    s.errors,
		sampled:   s.sampled,
		collected: s.collected.lasting,
	}
	v.skew, v.skewKnown = r.client.Skew()
	if v.snapshot == nil {
		v.snapshot = &window.Snapshot{}
	}
	if r.showable(s) {
		v.collected = s.collected.all
	}
	return v
}

// showable reports whether gauges with a status are still exported: for max(MaxAge, 2 intervals) after the last
// success. Both clocks count, as the monotonic one stands still while the machine is suspended. If the last success was
// before a restart and lies in the future, its age is unknown, and they are not.
func (r *Refresher) showable(s *state) bool {
	if s.snapshot == nil {
		return false
	}
	monotonic := time.Since(s.succeeded)
	wall := time.Now().Round(0).Sub(s.succeeded.Round(0))
	age := max(monotonic, wall)
	return age >= 0 && age <= max(r.settings.MaxAge, 2*r.settings.Interval)
}

// collected are samples that are made once at the end of a refresh and sent at every scrape.
type collected struct {
	all     []prometheus.Metric
	lasting []prometheus.Metric // those that never get too old to be sent
}

// collectAll generates the samples of all metrics that are not live.
func collectAll(v *view) collected {
	var gauges, counters []prometheus.Metric
	addGauge := func(sample prometheus.Metric) { gauges = append(gauges, sample) }
	addCounter := func(sample prometheus.Metric) { counters = append(counters, sample) }

	infoMetric(v.settings.Tags).collect(v, addGauge)
	for i := range metrics {
		row := &metrics[i]
		switch row.kind {
		case gauge:
			row.collect(v, addGauge)
		case counter:
			row.collect(v, addCounter)
		}
	}
	return collected{all: slices.Concat(counters, gauges), lasting: counters}
}

// scraped are the accounts as one scrape shows them. It implements prometheus.Collector.
type scraped []*view

// Awaited are accounts that have been refreshed for a scrape, if they refresh on each scrape.
type Awaited struct {
	accounts []*Refresher
	failed   []bool // whether that refresh failed, by account; nil if no account refreshes on scrapes
}

// Await concurrently refreshes the accounts with an interval of 0. It returns when all are done or ctx ends.
func Await(ctx context.Context, rs []*Refresher) *Awaited {
	a := &Awaited{accounts: rs}
	var wg sync.WaitGroup
	for i, r := range rs {
		if r.settings.Interval > 0 {
			continue
		}
		if a.failed == nil {
			a.failed = make([]bool, len(rs))
		}
		wg.Go(func() { a.failed[i] = r.Refresh(ctx) != nil })
	}
	wg.Wait()
	return a
}

// Views returns a collector of the accounts as they are now.
func (a *Awaited) Views() prometheus.Collector {
	views := make(scraped, len(a.accounts))
	for i, r := range a.accounts {
		views[i] = r.view()
		if r.settings.Interval == 0 {
			views[i].up = !a.failed[i]
		}
	}
	return views
}

// Current returns a collector of the accounts as they are now, without refreshing any.
func Current(rs []*Refresher) prometheus.Collector {
	views := make(scraped, len(rs))
	for i, r := range rs {
		views[i] = r.view()
	}
	return views
}

// Describe implements prometheus.Collector.
func (s scraped) Describe(ch chan<- *prometheus.Desc) {
	for i := range metrics {
		ch <- metrics[i].desc
	}
	known := map[OperationTags]bool{}
	for _, v := range s {
		tags := v.settings.Tags
		if !known[tags] {
			known[tags] = true
			ch <- infoMetric(tags).desc
		}
	}
}

// Collect implements prometheus.Collector.
func (s scraped) Collect(ch chan<- prometheus.Metric) {
	for _, v := range s {
		for i := range metrics {
			row := &metrics[i]
			if row.kind.live() {
				row.collect(v, func(sample prometheus.Metric) { ch <- sample })
			}
		}
		for _, sample := range v.collected {
			ch <- sample
		}
	}
}
