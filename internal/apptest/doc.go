// Package apptest runs the built program and holds what a shell, an init system
// and Prometheus see of it. It is tests only.
package apptest
