// Command licenses tells under which licence each module is that a program was
// built from, the standard library included, and fails for one that is not allowed.
//
//	licenses [-main DIR] [-sbom FILE] PROGRAM
//
// With -sbom, it also writes a software bill of materials in CycloneDX's JSON. The
// same program gives the same file.
package main

import (
	"cmp"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"text/tabwriter"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/google/licensecheck"
)

// allowed are the SPDX identifiers of licences that ask for no more than their text.
const allowed = "Apache-2.0 BSD-2-Clause BSD-3-Clause MIT"

// coverage is how much of a file, in percent, must be known text. What is left is a
// preamble or a notice.
const coverage = 75

func main() {
	list := flag.String("allowed", allowed, "`licences` that are allowed, separated by spaces")
	dir := flag.String("main", ".", "`directory` of the program's own licence")
	sbom := flag.String("sbom", "", "`file` to write a CycloneDX document into")
	flag.Parse()
	if err := run(os.Stdout, flag.Arg(0), *dir, *sbom, strings.Fields(*list)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// module is one that a program was built from.
type module struct {
	path, version string
	sum           string // as in go.sum, or nothing
	licences      []string
}

func run(w io.Writer, program, dir, sbom string, allowed []string) error {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return err
	}
	modules, err := read(info, dir)
	if err != nil {
		return err
	}
	var errs []error
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)

	for _, m := range modules {
		if _, err := fmt.Fprintf(table, "%s\t%s\t%s\n", m.path, m.version, strings.Join(m.licences, " AND ")); err != nil {
			return err
		}
		for _, id := range m.licences {
			if !slices.Contains(allowed, id) {
				errs = append(errs, fmt.Errorf("%s: licence %s is not allowed, only %s", m.path, id, strings.Join(allowed, ", ")))
			}
		}
	}

	if err := table.Flush(); err != nil {
		return err
	}
	if sbom != "" {
		errs = append(errs, write(sbom, modules))
	}
	return errors.Join(errs...)
}

// read returns the modules with their licences: the program's own, then the others,
// then the standard library.
func read(info *debug.BuildInfo, dir string) ([]module, error) {
	modules := []module{{path: info.Main.Path, version: info.Main.Version}}
	dirs := []string{dir}
	for _, dep := range info.Deps {
		dep = cmp.Or(dep.Replace, dep)
		var downloaded struct{ Dir string }
		if err := goJSON(&downloaded, "mod", "download", "-json", dep.Path+"@"+dep.Version); err != nil {
			return nil, err
		}
		modules = append(modules, module{path: dep.Path, version: dep.Version, sum: dep.Sum})
		dirs = append(dirs, downloaded.Dir)
	}

	var env struct{ GOROOT string }
	if err := goJSON(&env, "env", "-json", "GOROOT"); err != nil {
		return nil, err
	}
	// The name that vulnerability databases have for it.
	modules = append(modules, module{path: "stdlib", version: strings.TrimPrefix(info.GoVersion, "go")})
	dirs = append(dirs, env.GOROOT)

	for i := range modules {
		var err error
		if modules[i].licences, err = licences(dirs[i]); err != nil {
			return nil, fmt.Errorf("%s: %w", modules[i].path, err)
		}
	}
	return modules, nil
}

// goJSON runs the go command outside of all modules.
func goJSON(into any, args ...string) error {
	cmd := exec.Command("go", args...) //nolint:gosec,noctx // fixed but for modules of the program's
	cmd.Dir = os.TempDir()
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("go %s: %w", strings.Join(args, " "), err)
	}
	return json.Unmarshal(out, into)
}

var licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying)([.-].+)?$`)

// licences returns the SPDX identifiers of the licences in a module's directory.
func licences(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, e := range entries {
		if !licenceFile.MatchString(e.Name()) || filepath.Ext(e.Name()) == ".go" {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name())) //nolint:gosec // a module's
		if err != nil {
			return nil, err
		}
		found := licensecheck.Scan(text)
		if found.Percent < coverage {
			return nil, fmt.Errorf("%s: %.0f%% of it is the text of a known licence", e.Name(), found.Percent)
		}

		for _, m := range found.Match {
			if !m.IsURL {
				ids = append(ids, m.ID)
			}
		}
	}

	if len(ids) == 0 {
		return nil, errors.New("no licence in " + dir)
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// write writes the modules as a CycloneDX document.
func write(file string, modules []module) (err error) {
	bom := cdx.NewBOM()
	var components []cdx.Component
	var refs []string
	for _, m := range modules {
		purl := "pkg:golang/" + m.path + "@" + url.QueryEscape(m.version)
		c := cdx.Component{BOMRef: purl, Type: cdx.ComponentTypeLibrary, Name: m.path, Version: m.version, PackageURL: purl}
		if len(m.licences) == 1 {
			c.Licenses = &cdx.Licenses{{License: &cdx.License{ID: m.licences[0]}}}
		} else {
			c.Licenses = &cdx.Licenses{{Expression: strings.Join(m.licences, " AND ")}}
		}

		if sum, ok := strings.CutPrefix(m.sum, "h1:"); ok {
			hash, sumErr := base64.StdEncoding.DecodeString(sum)
			if sumErr != nil {
				return fmt.Errorf("%s: sum %q: %w", m.path, m.sum, sumErr)
			}
			c.Hashes = &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(hash)}}
		}

		components, refs = append(components, c), append(refs, purl)
	}

	components[0].Type = cdx.ComponentTypeApplication
	bom.Metadata = &cdx.Metadata{Component: &components[0]}
	others := components[1:]
	bom.Components = &others
	dependencies := refs[1:]
	bom.Dependencies = &[]cdx.Dependency{{Ref: refs[0], Dependencies: &dependencies}}

	f, err := os.Create(file) //nolint:gosec // whoever runs it says where
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return cdx.NewBOMEncoder(f, cdx.BOMFileFormatJSON).SetPretty(true).Encode(bom)
}
