// Package e2e consists of tests. They run the built exporter, with simulated accounts, next to a real Prometheus and
// Alertmanager with the unchanged files of deploy/.
//
// Two stacks run side by side. The plain one has the demo's world and the rules with their real durations. It shows
// that every rule and every panel has results. The fast one has durations divided by 60, and worlds in which things go
// wrong. It shows that alerts fire, arrive and resolve. What needs no server is checked as well, and each check is
// shown to fail on a wrong copy. How soon alerts fire and resolve, and that a quiet week has none, is measured by
// evaluating the rules over simulated time: see docs/alerts.md.
//
// The servers are tools of this module and of alertmanager/, built on first use into the user's cache directory. The
// two modules cannot be one, as Prometheus requires a version of Alertmanager whose module lacks its web assets.
package e2e
