// Package usage suggests the flag or key that was probably meant by an unknown one.
package usage

import (
	"strings"

	"github.com/alecthomas/kingpin/v2"
)

// MeantFlag returns the flag that was probably meant by the first unknown flag in args, or "".
func MeantFlag(app *kingpin.Application, args []string) string {
	var names []string
	known := map[string]bool{"-h": true}
	for _, flag := range app.Model().Flags {
		known["--"+flag.Name] = true
		known["--no-"+flag.Name] = flag.IsBoolFlag()
		if !flag.Hidden {
			names = append(names, flag.Name)
		}
	}

	for _, arg := range args {
		name, _, _ := strings.Cut(arg, "=")
		if strings.HasPrefix(name, "-") && !known[name] {
			return Nearest(name, names)
		}
	}
	return ""
}

// Nearest returns the name that was probably meant, or "". What was given may be its end (interval for
// collector.interval), have dashes for dots, or one or two wrong letters.
func Nearest(given string, names []string) string {
	given = plainName(given)
	for _, name := range names {
		plain := plainName(name)
		if plain == given || strings.HasSuffix(plain, "-"+given) {
			return name
		}
	}

	const mostWrong, shortest = 2, 4
	if len(given) < shortest || len(given) > 2*maxNameLength {
		return ""
	}

	best := ""
	bestDistance := mostWrong + 1
	for _, name := range names {
		distance := editDistance(given, plainName(name))
		if distance < bestDistance {
			best = name
			bestDistance = distance
		}
	}
	return best
}

// maxNameLength is more than the length of any flag or key.
const maxNameLength = 40

// plainName returns a name in lower case, with dashes between its parts.
func plainName(name string) string {
	separators := strings.NewReplacer(".", "-", "_", "-")
	return separators.Replace(strings.ToLower(strings.TrimLeft(name, "-")))
}

// editDistance returns the Levenshtein distance of a and b: how many letters to insert, remove or replace.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}

	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1

		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
