package storage

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"
)

// Names of files. That of an account begins with what people can read of its name; names that differ in any way, such as
// in case only, have different hashes.
const (
	lockName    = "lock"
	stateSuffix = ".state"
	badSuffix   = ".bad" // of one set aside
)

var (
	stateForm = regexp.MustCompile(`^.*-[0-9a-f]{32}\.state(\.bad)?$`)
	tempForm  = regexp.MustCompile(`^\..+\.state\.\d+$`)
)

// stateName is the name of an account's file. Account names may hold anything and be long.
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

// tempPattern is the pattern for os.CreateTemp of the temporary file that becomes the file of a name.
func tempPattern(name string) string { return "." + name + ".*" }
