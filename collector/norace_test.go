//go:build !race

package collector

const racing = false
