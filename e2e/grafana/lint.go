package grafana

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// refreshOnTimeRange is Grafana's number for a variable that is queried again when the time range changes.
const refreshOnTimeRange = 2

var ofAccounts = regexp.MustCompile(`[\w:]*\{[^{}]*account=~"\$account\|?"[^{}]*\}`)

// probe begins the names of metrics of single operations. They come from a job of their own, so a dashboard whose
// variable job is that of the probes cannot show anything else by it.
const probe = "twilio_probe_"

// lint is modelled on Grafana's dashboard-linter; each finding names its rule.
// What the other checks do already is not repeated: panel-datasource-rule,
// panel-title-description-rule, panel-units-rule, target-promql-rule,
// target-rate-interval-rule and template-datasource-rule. Instead of
// template-instance-rule there is the variable account: an exporter has many.
func lint(d *dashboard) []error {
	var errs []error
	jobs, ofProbes := false, false
	for _, v := range d.Templating.List {
		if v.Type != "query" {
			continue
		}
		jobs = jobs || v.Name == "job" && v.Multi && v.IncludeAll
		ofProbes = ofProbes || v.Name == "job" && strings.Contains(string(v.Query), probe)
		if v.Refresh != refreshOnTimeRange {
			errs = append(errs, fmt.Errorf("template-on-time-change-reload-rule: variable %s is not asked anew", v.Name))
		}
	}

	if !jobs {
		errs = append(errs, errors.New("template-job-rule: no variable job that takes several values, and all"))
	}

	for _, p := range flatten(d.Panels) {
		for _, t := range p.Targets {
			errs = append(errs, ofAnyJob(fmt.Sprintf("panel %d %q, query %s", p.ID, p.Title, t.RefID), t.Expr, ofProbes)...)
		}
	}

	for _, a := range d.Annotations.List {
		errs = append(errs, ofAnyJob("annotation", a.Target.Expr, ofProbes)...)
	}
	return errs
}

// ofAnyJob finds selectors of accounts that match all jobs or clusters.
func ofAnyJob(where, expr string, ofProbes bool) []error {
	var errs []error
	for _, selector := range ofAccounts.FindAllString(expr, -1) {
		otherJob := ofProbes && !strings.HasPrefix(selector, probe)
		if !otherJob && !strings.Contains(selector, `job=~"$job"`) || !strings.Contains(selector, `cluster=~"$cluster"`) {
			errs = append(errs, fmt.Errorf("target-job-rule: %s: %s", where, selector))
		}
	}
	return errs
}
