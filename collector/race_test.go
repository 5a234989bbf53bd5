//go:build race

package collector

// racing says that the race detector is on, which makes simulated weeks ten
// times as long: there is less of them then, and more without.
const racing = true
