package storage

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"
)

// Names of files. An account's file is named after it, and after a hash, which differs even if names differ in case
// only.
const (
	lockName    = "lock"
	stateSuffix = ".state"
	badSuffix   = ".bad" // of a file set aside
)

var (
	stateForm = regexp.MustCompile(`^.*-[0-9a-f]{32}\.state(\.bad)?$`)
	tempForm  = regexp.MustCompile(`^\..+\.state\.\d+$`)
)

// stateName returns the name of an account's file. Names of accounts may be long and hold anything.
func stateName(account string) string {
	const longest = 40
	readable := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_', r == '-':
			return r
		}
		return '_'
	}, account)
	hash := sha256.Sum256([]byte(account))
	return readable[:min(len(readable), longest)] + "-" + hex.EncodeToString(hash[:16]) + stateSuffix
}

// tempPattern returns the pattern for os.CreateTemp of a temporary file that becomes the file with this name.
func tempPattern(name string) string { return "." + name + ".*" }
