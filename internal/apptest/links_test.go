package apptest

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// documents returns the text of every Markdown file by its path.
func documents(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && slices.Contains([]string{".git", "bin", "dist", "node_modules", "artifacts"}, entry.Name()):
			return fs.SkipDir
		case entry.IsDir() || filepath.Ext(path) != ".md":
			return nil
		}
		texts[path] = readText(t, path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return texts
}

var (
	fencedBlock  = regexp.MustCompile("(?s)```.*?```")
	indentedLine = regexp.MustCompile(`(?m)^ {4}.*$`)
	inlineCode   = regexp.MustCompile("`[^`\n]*`")
	markdownLink = regexp.MustCompile(`\]\(([^()\s]+)\)|<img src="([^"]+)"`)
	heading      = regexp.MustCompile(`(?m)^#{1,6} (.*)$`)
	headingLink  = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
)

// withoutBlocks returns a text without its code blocks.
func withoutBlocks(text string) string {
	return indentedLine.ReplaceAllString(fencedBlock.ReplaceAllString(text, ""), "")
}

// linksOf returns the targets of the links in a text.
func linksOf(text string) (targets []string) {
	for _, m := range markdownLink.FindAllStringSubmatch(inlineCode.ReplaceAllString(withoutBlocks(text), ""), -1) {
		targets = append(targets, m[1]+m[2])
	}
	return targets
}

// anchorsOf returns the fragments of the headings in a text, as hosts of repositories make them.
func anchorsOf(text string) (anchors []string) {
	for _, m := range heading.FindAllStringSubmatch(withoutBlocks(text), -1) {
		anchors = append(anchors, strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, headingLink.ReplaceAllString(m[1], "$1")))
	}
	return anchors
}

// deadLinks returns the relative links of a document that lead nowhere.
func deadLinks(t *testing.T, path, text string) (dead []string) {
	t.Helper()
	for _, target := range linksOf(text) {
		if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
			continue
		}
		file, fragment, _ := strings.Cut(target, "#")
		there := text
		if file != "" {
			at := filepath.Join(filepath.Dir(path), filepath.FromSlash(file))
			if _, err := os.Stat(at); err != nil {
				dead = append(dead, target)
				continue
			}
			if fragment != "" {
				there = readText(t, at)
			}
		}

		if fragment != "" && !slices.Contains(anchorsOf(there), fragment) {
			dead = append(dead, target)
		}
	}
	return dead
}

// secretArgument matches a user with a password in an argument of curl or in a URL.
var secretArgument = regexp.MustCompile(`curl[^\n|]*\s(?:-u|--user)[ =]?["']?[^\s"']+:|https?://[^/\s"':]+:[^/\s"']+@`)

// TestCommandsHideSecrets checks that no documented command puts a secret into
// the process list.
func TestCommandsHideSecrets(t *testing.T) {
	for path, text := range documents(t) {
		joined := strings.ReplaceAll(text, "\\\n", " ")
		for _, command := range secretArgument.FindAllString(joined, -1) {
			t.Errorf("%s: %s shows a secret in the process list: let curl prompt for it", path, command)
		}
	}

	for command, want := range map[string]bool{
		"curl -u SID:SECRET https://comms.twilio.com/v1":                    true,
		`curl -sS --user="$SID:$TOKEN" https://comms.twilio.com/v1`:         true,
		"curl https://SID:SECRET@comms.twilio.com/v1":                       true,
		`curl -sS -u "$TWILIO_ACCOUNT_SID" 'https://comms.twilio.com/v1'`:   false,
		"printf 'user = \"%s:%s\"' SID SECRET | curl -K - http://localhost": false,
	} {
		if got := secretArgument.MatchString(command); got != want {
			t.Errorf("%s: shows a secret: %v, want %v", command, got, want)
		}
	}
}

// TestStatusPage checks that every mention of Twilio's status page in a runbook
// leads there.
func TestStatusPage(t *testing.T) {
	mentions := 0
	for path, text := range documents(t) {
		if !strings.Contains(filepath.ToSlash(path), "deploy/runbooks/") {
			continue
		}
		text = strings.Join(strings.Fields(text), " ")
		all := strings.Count(text, "status page")
		linked := strings.Count(text, "[status page](https://status.twilio.com)")
		if all != linked {
			t.Errorf("%s: %d of %d mentions of the status page are links", path, linked, all)
		}
		mentions += all
	}

	if mentions < 5 {
		t.Errorf("only %d mentions of the status page", mentions)
	}
}

// TestLinks checks the relative links of all Markdown files, fragments included.
func TestLinks(t *testing.T) {
	texts := documents(t)
	if _, ok := texts[filepath.Join(root, "README.md")]; !ok || len(texts) < 10 {
		t.Fatalf("only %d documents", len(texts))
	}
	for path, text := range texts {
		for _, target := range deadLinks(t, path, text) {
			t.Errorf("%s: dead link %s", path, target)
		}
	}

	const wrong = "[a](missing.md) [b](README.md#no-such-heading) `[c](code.md)` [d](#here)\n\n# Here\n\n    [e](block.md)\n"
	want := []string{"missing.md", "README.md#no-such-heading"}
	if got := deadLinks(t, filepath.Join(root, "README.md"), wrong); !slices.Equal(got, want) {
		t.Errorf("dead links %q, want %q", got, want)
	}
}
