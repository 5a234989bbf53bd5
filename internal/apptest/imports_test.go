package apptest

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
)

const module = "twilio_operations_exporter"

// layers are the packages in the order in which they may import each other: only those in later rows.
var layers = [][]string{
	{""}, // main
	{"internal/web"},
	{"internal/account"},
	{"internal/config", "internal/storage"},
	{"collector"},
	{"collector/window"},
	{"twilio"},
	{"internal/logging", "internal/process", "internal/sanitize", "internal/usage"},
}

// Packages beside the layers: helpers of tests, benchmarks and the simulator,
// which only main (for --demo) and each other may import.
const simulated = "twilio/simulator"

func beside(pkg string) bool {
	return strings.HasPrefix(pkg, simulated) || pkg == "bench" ||
		pkg == "internal/testutil" || pkg == "internal/apptest"
}

// TestImports checks the direction of imports. Tests may import anything.
func TestImports(t *testing.T) {
	t.Parallel()
	rank := map[string]int{}
	for i, packages := range layers {
		for _, pkg := range packages {
			rank[pkg] = i
		}
	}

	seen := 0
	for _, p := range goList(t) {
		from := inModule(p.ImportPath)
		row, known := rank[from]
		if !known && !beside(from) {
			t.Errorf("%s has no place: add it to the layers", p.ImportPath)
			continue
		}

		seen++
		if beside(from) {
			continue
		}
		for _, path := range p.Imports {
			if path != module && !strings.HasPrefix(path, module+"/") {
				continue
			}
			to := inModule(path)
			switch {
			case beside(to):
				if from != "" || to != simulated {
					t.Errorf("%s imports %s, which is for tests and --demo", p.ImportPath, path)
				}
			case rank[to] <= row:
				t.Errorf("%s imports %s: imports go one way", p.ImportPath, path)
			}
		}
	}

	if seen < len(layers)-1 {
		t.Errorf("only %d packages", seen)
	}
}

type goPackage struct {
	ImportPath string
	Imports    []string // without those of tests
}

func goList(t *testing.T) (packages []goPackage) {
	t.Helper()
	out, err := goCommand("list", "-json=ImportPath,Imports", module+"/...")
	if err != nil {
		t.Fatal(err)
	}
	if err := openSources(); err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(strings.NewReader(out))

	for {
		var p goPackage
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			return packages
		}
		if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

// inModule returns the path below the module's root, "" for main.
func inModule(path string) string {
	return strings.TrimPrefix(strings.TrimPrefix(path, module), "/")
}
