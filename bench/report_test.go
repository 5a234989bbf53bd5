//go:build linux

package bench

import (
	"fmt"
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// report is what the document shows.
type report struct {
	costs    []cost
	restarts []restart
	readers  map[string]measured
	first    first
}

const (
	beginMark = "<!-- begin: written by make bench -->"
	endMark   = "<!-- end: written by make bench -->"
)

// write puts the report between the marks of a document.
func (r *report) write(t *testing.T, file string) {
	t.Helper()
	old, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(old), beginMark)
	_, after, ok2 := strings.Cut(rest, endMark)
	if !ok || !ok2 {
		t.Fatalf("%s lacks the lines %s and %s", file, beginMark, endMark)
	}
	document := before + beginMark + "\n\n" + r.markdown() + "\n" + endMark + after
	if err := os.WriteFile(file, []byte(document), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (r *report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Measured on %s with %s, %d cores, %s.\n", time.Now().UTC().Format(time.DateOnly), runtime.Version(),
		runtime.NumCPU(), runtime.GOARCH)

	b.WriteString("\n### One refresh of a day of 864,000 operations\n\n")
	row(&b, "", readerNames[0], readerNames[1], readerNames[2], "exporter : first loop", "exporter : second loop")
	row(&b, "---", "---:", "---:", "---:", "---:", "---:")
	for _, line := range []struct {
		name, format string
		value        func(m *measured) float64
	}{
		{"requests, first refresh", "%.0f", func(m *measured) float64 { return m.First.requests() }},
		{"requests, each refresh after it", "%.1f", func(m *measured) float64 { return m.Steady.requests() }},
		{"MB received, first", "%.1f", func(m *measured) float64 { return m.First.bytes() / megabyte }},
		{"MB received, each after it", "%.1f", func(m *measured) float64 { return m.Steady.bytes() / megabyte }},
		{"CPU seconds, first", "%.2f", func(m *measured) float64 { return m.First.cpu() }},
		{"CPU seconds, each after it", "%.3f", func(m *measured) float64 { return m.Steady.cpu() }},
		{"thousand allocations, first", "%.0f", func(m *measured) float64 { return m.First.allocs() / 1000 }},
		{"thousand allocations, each after it", "%.0f", func(m *measured) float64 { return m.Steady.allocs() / 1000 }},
		{"peak memory, MB", "%.0f", func(m *measured) float64 { return float64(m.Peak) / megabyte }},
		{"time to the first numbers, s", "%.1f", func(m *measured) float64 { return m.First.Took.Seconds() }},
		{
			"time of each refresh after it, s", "%.1f",
			func(m *measured) float64 { return m.Steady.Took.Seconds() / float64(m.Steady.Refreshes) },
		},
	} {
		cells := []string{line.name}
		var values []float64
		for _, name := range readerNames {
			m := r.readers[name]
			values = append(values, line.value(&m))
			cells = append(cells, fmt.Sprintf(line.format, line.value(&m)))
		}
		row(&b, append(cells, oneTo(values[0]/values[2]), oneTo(values[1]/values[2]))...)
	}

	loop, exporter := r.readers[readClient].Steady, r.readers[readExporter].Steady
	fmt.Fprintf(&b, "\nA refresh of the exporter takes %.1f%% of the requests of a loop on the same client, "+
		"and %.1f%% of its CPU time.\n",
		100*exporter.requests()/loop.requests(), 100*exporter.cpu()/loop.cpu())

	b.WriteString("\n### Requests by kind of account\n\n")
	row(&b, "account", "reading all", "a refresh", "share", "requests a day", "reading all, a day")
	row(&b, "---", "---:", "---:", "---:", "---:", "---:")
	for _, c := range r.costs {
		const perDay = float64(day / interval)
		row(&b, c.name, strconv.Itoa(c.whole), fmt.Sprintf("%.1f", c.steady),
			fmt.Sprintf("%.1f%%", 100*c.steady/float64(c.whole)),
			thousands(c.steady*perDay), thousands(float64(c.whole)*perDay))
	}

	b.WriteString("\n### A restart with `--storage.path`\n\n")
	row(&b, "600 operations a minute", "requests of a first refresh", "requests after a restart", "state, kB", "CPU time each write, ms")
	row(&b, "---", "---:", "---:", "---:", "---:")
	for _, rs := range r.restarts {
		row(&b, rs.name, strconv.Itoa(rs.first), strconv.Itoa(rs.requests), thousands(float64(rs.bytes)/1e3),
			fmt.Sprintf("%.1f", rs.cpu.Seconds()*1e3))
	}

	b.WriteString("\n### First refresh, 8 workers\n\n")
	fmt.Fprintf(&b, "%s operations in pages of 1000 behind %v of latency: %.1f s in %d requests; "+
		"one page after another %.1f s in %d requests. %.1f times as fast.\n",
		thousands(float64(r.first.operations)), latency, r.first.took.Seconds(), r.first.requests,
		r.first.plain.Seconds(), r.first.plainRequests, r.first.faster())
	return b.String()
}

func row(b *strings.Builder, cells ...string) {
	fmt.Fprintf(b, "| %s |\n", strings.Join(cells, " | "))
}

func oneTo(ratio float64) string {
	if ratio < 9.95 {
		return fmt.Sprintf("1 : %.1f", ratio)
	}
	return fmt.Sprintf("1 : %.0f", ratio)
}

func thousands(n float64) string {
	s := strconv.FormatInt(int64(math.Round(n)), 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
