// Package usage says which flag or key was probably meant by one that is not known.
package usage

import (
	"strings"

	"github.com/alecthomas/kingpin/v2"
)

// MeantFlag returns the flag that was probably meant by the first of args that is unknown, "" if none was.
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

// Nearest returns the name that was probably meant, "" if none was. It may have been cut short (interval for
// collector.interval), or have a dash for a dot, or one or two letters wrong.
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
	best, bestDistance := "", mostWrong+1
	for _, name := range names {
		distance := editDistance(given, plainName(name))
		if distance < bestDistance {
			best, bestDistance = name, distance
		}
	}
	return best
}

// maxNameLength is more than the longest name of a flag or key has.
const maxNameLength = 40

// plainName is a name whatever separates its parts.
func plainName(name string) string {
	separators := strings.NewReplacer(".", "-", "_", "-")
	return separators.Replace(strings.ToLower(strings.TrimLeft(name, "-")))
}

// editDistance is how many letters are to be inserted, removed or replaced to get from a to b (Levenshtein).
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
