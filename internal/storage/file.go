package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"syscall"

	"github.com/cespare/xxhash/v2"
)

// Reason says why a file was discarded. It is the value of a label.
type Reason string

// The reasons. There are no others.
const (
	Corrupt    Reason = "corrupt"    // it is not what was written: cut short, altered, or something else
	Version    Reason = "version"    // another version of the exporter has written it
	Identity   Reason = "identity"   // it is of another account, URL or resource
	Expired    Reason = "expired"    // it is too old to be of use
	Unreadable Reason = "unreadable" // it cannot be read, is no regular file, or is larger than any that is written
)

// Reasons returns all reasons.
func Reasons() []Reason { return []Reason{Corrupt, Version, Identity, Expired, Unreadable} }

// DiscardedError says that a file is of no use and was set aside.
type DiscardedError struct {
	Reason Reason
	File   string // where it is now
	Err    error
}

func (e *DiscardedError) Error() string { return e.Err.Error() }

func (e *DiscardedError) Unwrap() error { return e.Err }

// refusal is an error with the reason for which a file is refused.
type refusal struct {
	reason Reason
	error
}

func (r *refusal) Unwrap() error { return r.error }

func refuse(reason Reason, format string, args ...any) error {
	return &refusal{reason, fmt.Errorf(format, args...)}
}

var errNotRegular = errors.New("not a regular file")

// maxSize is the size of a file, at most: some hundred thousand operations in flight.
const maxSize = 64 << 20

// A file is two lines of text, so that people can tell what it is, the content, and a checksum of all before it:
//
//	twilio_operations_exporter state 2
//	"AC0123… https://comms.twilio.com/v1 messages"
const (
	magic        = "twilio_operations_exporter state "
	checksumSize = 8
)

// encode returns the parts of a file.
func encode(version int, identity string, content []byte) [][]byte {
	header := magic + strconv.Itoa(version) + "\n" + strconv.Quote(identity) + "\n"
	hash := xxhash.New()
	_, _ = hash.WriteString(header)
	_, _ = hash.Write(content)
	return [][]byte{[]byte(header), content, binary.LittleEndian.AppendUint64(nil, hash.Sum64())}
}

// decode returns the identity and the content of a file. The error is a refusal.
func decode(version int, file []byte) (identity string, content []byte, err error) {
	rest, ok := bytes.CutPrefix(file, []byte(magic))
	if !ok {
		return "", nil, refuse(Corrupt, "not a state of this exporter")
	}
	line, rest, ok := bytes.Cut(rest, []byte("\n"))
	written, err := strconv.Atoi(string(line))
	if !ok || err != nil {
		return "", nil, refuse(Corrupt, "the version is not a number")
	}
	if written != version {
		// Another version may have another form, so that nothing after this is looked at.
		return "", nil, refuse(Version, "version %d of the state, want %d", written, version)
	}

	if len(rest) < checksumSize {
		return "", nil, refuse(Corrupt, "cut short")
	}
	body := file[:len(file)-checksumSize]
	if binary.LittleEndian.Uint64(file[len(body):]) != xxhash.Sum64(body) {
		return "", nil, refuse(Corrupt, "the checksum is wrong: cut short or altered")
	}

	quoted, content, ok := bytes.Cut(rest[:len(rest)-checksumSize], []byte("\n"))
	if !ok {
		return "", nil, refuse(Corrupt, "no identity")
	}
	identity, err = strconv.Unquote(string(quoted))
	if err != nil || strconv.Quote(identity) != string(quoted) {
		return "", nil, refuse(Corrupt, "the identity is no text in quotes")
	}
	return identity, content, nil
}

// contentOf returns the content of a file of an identity. The error is a refusal.
func contentOf(version int, identity string, file []byte) ([]byte, error) {
	written, content, err := decode(version, file)
	if err != nil {
		return nil, err
	}
	if written != identity {
		return nil, refuse(Identity, "the state of %.300q, want that of %q", written, identity)
	}
	return content, nil
}

// readFile reads a file that may be anything, and neither waits nor takes more memory than a state needs. The error is
// fs.ErrNotExist where there is nothing.
func readFile(path string) ([]byte, error) {
	there, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !there.Mode().IsRegular() {
		return nil, errNotRegular
	}

	// Without waiting, should it have become a FIFO meanwhile.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read

	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !os.SameFile(there, info):
		return nil, errNotRegular
	case info.Size() > maxSize:
		return nil, fmt.Errorf("larger than %d MiB", maxSize>>20)
	}

	start := make([]byte, min(info.Size(), int64(len(magic))))
	if _, err = io.ReadFull(f, start); err != nil || string(start) != magic {
		return start, err // nothing else is worth reading
	}

	file := make([]byte, info.Size())
	copy(file, start)
	_, err = io.ReadFull(f, file[len(start):])
	return file, err
}
