// Package e2e holds no code but tests: the built exporter, on a simulated
// account, against the Prometheus and the Alertmanager that people run, with
// the files of deploy/ as they are.
//
// Two stacks run side by side. The plain one has the demo's world and the rules
// with their true durations; it shows that every rule yields and every panel
// draws. The fast one has durations divided by 60 and worlds in which things go
// wrong; it shows that alerts fire, arrive and resolve. What needs no server is
// checked beside them, and each check is shown to fail on a wrong copy. How soon
// alerts begin and end, and that a quiet week has none, is measured by evaluating
// the rules over simulated time (docs/alerts.md).
//
// The servers are tools of this module and of alertmanager/ beneath it (the two
// cannot share one: Prometheus requires an Alertmanager whose web assets its
// module does not hold), built on first use into the user's cache directory.
package e2e
