// Package chartfiles copies rules and dashboards into the Helm chart. Helm reads no
// file from outside of a chart. Symbolic links would do where they survive, but git
// on Windows and some archives make text files of them, and Flux refuses a chart
// whose links lead out of it.
package chartfiles

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
)

// chart is where the chart is, from the root of the repository.
var chart = filepath.Join("deploy", "helm", "twilio-operations-exporter")

// sources are the files of each directory of the chart.
var sources = map[string]string{
	"dashboards": filepath.Join("deploy", "grafana", "dashboards", "*.json"),
	"rules":      filepath.Join("deploy", "prometheus", "rules", "*.yml"),
}

// Wanted returns what the chart is to hold, by path, of the repository at root.
func Wanted(root string) (map[string][]byte, error) {
	wanted := make(map[string][]byte)
	for dir, pattern := range sources {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return nil, err
		}
		if len(files) == 0 {
			return nil, fmt.Errorf("no files %s", pattern)
		}

		for _, file := range files {
			content, err := os.ReadFile(file) //nolint:gosec // of the repository
			if err != nil {
				return nil, err
			}
			wanted[filepath.Join(root, chart, dir, filepath.Base(file))] = content
		}
	}
	return wanted, nil
}

// Stale returns the files of the chart that differ from what is wanted, that are
// missing, and that are there and must not be.
func Stale(root string) ([]string, error) {
	wanted, err := Wanted(root)
	if err != nil {
		return nil, err
	}
	var stale []string
	for file, content := range wanted {
		have, err := os.ReadFile(file) //nolint:gosec // of the repository
		if err != nil || !bytes.Equal(have, content) {
			stale = append(stale, file)
		}
	}

	for dir := range sources {
		have, err := filepath.Glob(filepath.Join(root, chart, dir, "*"))
		if err != nil {
			return nil, err
		}
		for _, file := range have {
			if _, ok := wanted[file]; !ok {
				stale = append(stale, file)
			}
		}
	}
	return stale, nil
}

// Write makes the chart hold what is wanted, and nothing else.
func Write(root string) error {
	wanted, err := Wanted(root)
	if err != nil {
		return err
	}
	for dir := range sources {
		dir = filepath.Join(root, chart, dir)
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
		if err := os.Mkdir(dir, 0o755); err != nil { //nolint:gosec // read by everybody
			return err
		}
	}

	for file, content := range wanted {
		if err := os.WriteFile(file, content, 0o644); err != nil { //nolint:gosec // read by everybody
			return err
		}
	}
	return nil
}
