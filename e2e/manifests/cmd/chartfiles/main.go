// Command chartfiles copies rules and dashboards into the Helm chart. It is run in
// e2e/manifests.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"twilio_operations_exporter/e2e/manifests/internal/chartfiles"
)

func main() {
	if err := chartfiles.Write(filepath.Join("..", "..")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
