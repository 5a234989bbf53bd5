package collector

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"twilio_operations_exporter/collector/window"
)

// view is an account as one scrape shows it. It does not change.
type view struct {
	settings *Settings
	created  time.Time // the beginning of the counters, before restarts if that is known
	started  time.Time // the beginning of live counters: a restart sets them to 0

	up        bool
	succeeded time.Time // the end of the last refresh that succeeded
	throttled time.Duration
	skew      time.Duration
	skewKnown bool

	snapshot *window.Snapshot // the last good one; empty before the first
	results  map[string]int   // refreshes that have ended, by the label result
	errors   map[string]int   // those of them that have failed, by the label reason

	sampled Sampled

	collected []prometheus.Metric // samples of the metrics that are not live
}

// view is the account as a scrape shows it now.
func (r *Refresher) view() *view {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.viewOf(&r.state)
}

// viewOf is the account as a scrape shows a state.
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

// showable reports whether gauges with a status are still shown: max(MaxAge, 2 intervals) after the last success, by the
// wall clock or by the monotonic one, which stands still while the machine is suspended. A success before a restart that
// lies in the future says nothing of its age.
func (r *Refresher) showable(s *state) bool {
	if s.snapshot == nil {
		return false
	}
	monotonic := time.Since(s.succeeded)
	wall := time.Now().Round(0).Sub(s.succeeded.Round(0))
	age := max(monotonic, wall)
	return age >= 0 && age <= max(r.settings.MaxAge, 2*r.settings.Interval)
}

// collected are the samples that are made at the end of a refresh, and sent at every scrape.
type collected struct {
	all     []prometheus.Metric
	lasting []prometheus.Metric // those that are sent also when the others are too old
}

// collectAll generates the samples of all metrics that are not live.
func collectAll(v *view) collected {
	var gauges, counters []prometheus.Metric
	infoMetric(v.settings.Tags).collect(v, func(sample prometheus.Metric) { gauges = append(gauges, sample) })
	for i := range metrics {
		row := &metrics[i]
		switch row.kind {
		case gauge:
			row.collect(v, func(sample prometheus.Metric) { gauges = append(gauges, sample) })
		case counter:
			row.collect(v, func(sample prometheus.Metric) { counters = append(counters, sample) })
		}
	}
	return collected{all: slices.Concat(counters, gauges), lasting: counters}
}

// scraped collects the views of one scrape.
type scraped []*view

// Scrape returns a collector of these accounts' numbers as one scrape shows them: Await and Views in one.
func Scrape(ctx context.Context, rs []*Refresher) prometheus.Collector { return Await(ctx, rs).Views() }

// Awaited are accounts whose refreshes a scrape has awaited.
type Awaited struct {
	accounts []*Refresher
	failed   []bool // whether the refresh of this scrape failed; nil where no account refreshes on scrapes
}

// Await refreshes those accounts that have an interval of 0, all at the same time, for as long as ctx allows.
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

// Views returns a collector of the accounts' numbers as they are now.
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

// Current returns a collector of these accounts' numbers as they are, whatever their intervals.
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
