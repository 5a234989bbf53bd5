// Package alertmanager only pins the tools of its module: Alertmanager and
// amtool of the last version that builds from its module alone. Newer ones want
// web assets that their module does not hold, and Prometheus requires a newer
// one; so they cannot be pinned where Prometheus is.
package alertmanager
