// Package bench measures the exporter beside what one would write instead, and
// holds the built program to its memory. It is tests and a benchmark only.
//
// A plain test run works at a hundredth of life's size, leaves out what takes
// longest, and asserts counts and bytes, never seconds. With -full the sizes are
// those of life, and with -write FILE the figures go into a document (make bench
// does both).
package bench
