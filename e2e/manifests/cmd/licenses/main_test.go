package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLicences(t *testing.T) {
	apache, err := os.ReadFile(filepath.Join("..", "..", "..", "..", "LICENSE"))
	if err != nil {
		t.Fatal(err)
	}
	const mit = `Copyright (c) 2026 Somebody

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation files (the "Software"), to deal in the Software without restriction, including without limitation the rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
`

	for name, tc := range map[string]struct {
		files map[string]string
		want  string // or part of the error
	}{
		"one":       {map[string]string{"LICENSE": string(apache), "README": mit}, "Apache-2.0"},
		"two files": {map[string]string{"COPYING": mit, "LICENSE.txt": string(apache)}, "Apache-2.0 MIT"},
		"none":      {map[string]string{"README": mit}, "no licence in"},
		"unknown":   {map[string]string{"LICENSE": "Do what you like on Mondays."}, "LICENSE: 0% of it is the text of a known licence"},
		"a term more": {
			map[string]string{"LICENSE": mit + strings.Repeat("Nobody may use it on Sundays, nor on other days of rest. ", 20)},
			"is the text of a known licence",
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, text := range tc.files {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}

			ids, err := licences(dir)
			got := strings.Join(ids, " ")
			if err != nil {
				got = err.Error()
			}
			if got != tc.want && (err == nil || !strings.Contains(got, tc.want)) {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}

// TestNotAllowed reads this test, which is built from modules under several licences.
func TestNotAllowed(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join("..", "..", "..", "..")
	if e := run(io.Discard, program, dir, "", strings.Fields(allowed)); e != nil {
		t.Error(e)
	}
	err = run(io.Discard, program, dir, "", []string{"Apache-2.0"})
	if want := "stdlib: licence BSD-3-Clause is not allowed"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want one with %q", err, want)
	}
}
