package apptest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// root is the path of the repository.
var root = filepath.Join("..", "..")

func readText(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// maxReadmeWords keeps the README to what readers need first.
const maxReadmeWords = 1500

func TestReadmeIsShort(t *testing.T) {
	if n := len(strings.Fields(readText(t, filepath.Join(root, "README.md")))); n > maxReadmeWords {
		t.Errorf("README.md has %d words, want at most %d: move what few people need to docs/", n, maxReadmeWords)
	}
}

// packageDirs are the directories of the packages that docs/architecture.md names.
var packageDirs = map[string]string{
	"web": "internal/web", "account": "internal/account", "config": "internal/config",
	"collector": "collector", "window": "collector/window", "twilio": "twilio",
}

var codeName = regexp.MustCompile("`([a-z]+)\\.([A-Za-z]+(?:\\.[A-Za-z]+)?)`")

// TestArchitecture checks that what docs/architecture.md names is declared, and
// that it lists the dependencies of go.mod.
func TestArchitecture(t *testing.T) {
	text := readText(t, filepath.Join(root, "docs", "architecture.md"))
	declared := map[string]map[string]bool{}
	for name, dir := range packageDirs {
		declared[name] = declarations(t, filepath.Join(root, filepath.FromSlash(dir)))
	}

	named := 0
	for _, m := range codeName.FindAllStringSubmatch(text, -1) {
		names, ok := declared[m[1]]
		if !ok {
			continue // a file
		}
		named++
		if !names[m[2]] {
			t.Errorf("%s.%s is not declared", m[1], m[2])
		}
	}

	if named < 30 {
		t.Errorf("only %d names", named)
	}
	if names := declared["twilio"]; !names["Client.Pages"] || names["Client.Sides"] || !names["decoder.operation"] {
		t.Error("the declarations of twilio are wrong")
	}

	for _, layer := range layers {
		for _, dir := range layer {
			if dir != "" && !strings.Contains(text, "(../"+dir+")") {
				t.Errorf("the package %s is not explained", dir)
			}
		}
	}

	out, err := goCommand("list", "-m", "-f", "{{if not (or .Main .Indirect)}}{{.Path}}{{end}}", "all")
	if err != nil {
		t.Fatal(err)
	}
	for _, module := range strings.Fields(out) {
		if !strings.Contains(text, "`"+module+"`") {
			t.Errorf("the dependency %s is not explained", module)
		}
	}
}

// declarations returns the names of a package's functions, types, variables and
// constants; methods as Type.Method.
func declarations(t *testing.T, dir string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}

	names := map[string]bool{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}

		for _, declaration := range parsed.Decls {
			switch d := declaration.(type) {
			case *ast.FuncDecl:
				names[receiver(d)+d.Name.Name] = true
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					switch s := spec.(type) {
					case *ast.TypeSpec:
						names[s.Name.Name] = true
					case *ast.ValueSpec:
						for _, name := range s.Names {
							names[name.Name] = true
						}
					}
				}
			}
		}
	}
	return names
}

// receiver returns the type of a method followed by a dot, or "" for a function.
func receiver(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return ""
	}
	of := f.Recv.List[0].Type
	if pointer, ok := of.(*ast.StarExpr); ok {
		of = pointer.X
	}
	name, ok := of.(*ast.Ident)
	if !ok {
		return ""
	}
	return name.Name + "."
}
