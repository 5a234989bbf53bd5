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

// Reason is why a file was discarded. It is the value of a label.
type Reason string

// The reasons.
const (
	Corrupt    Reason = "corrupt"    // cut short, altered, or something else
	Version    Reason = "version"    // written by another version of the exporter
	Identity   Reason = "identity"   // of another account, URL or resource
	Expired    Reason = "expired"    // too old to be of use
	Unreadable Reason = "unreadable" // cannot be read, not a regular file, or larger than any file written
)

// Reasons returns all reasons.
func Reasons() []Reason { return []Reason{Corrupt, Version, Identity, Expired, Unreadable} }

// DiscardedError means that a file is of no use and was set aside.
type DiscardedError struct {
	Reason Reason
	File   string // where it is now
	Err    error
}

func (e *DiscardedError) Error() string { return e.Err.Error() }

func (e *DiscardedError) Unwrap() error { return e.Err }

// refusal is an error that says why a file is refused.
type refusal struct {
	reason Reason
	error
}

func (r *refusal) Unwrap() error { return r.error }

func refuse(reason Reason, format string, args ...any) error {
	return &refusal{reason, fmt.Errorf(format, args...)}
}

var errNotRegular = errors.New("not a regular file")

// maxSize is the largest size of a file. States of 7 days with large numbers in every minute take 3 MB.
const maxSize = 8 << 20

// A file consists of two lines of text, which tell people what it is, the content, and a checksum of everything before
// it:
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

// decode returns the identity and the content of a file, or a refusal.
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
		// Another version may have another format, so nothing more is looked at.
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

// contentOf returns the content of a file with this identity, or a refusal.
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

// readFile reads a file that may be anything, without blocking or taking more memory than a state. The error is
// fs.ErrNotExist if there is no file.
func readFile(path string) ([]byte, error) {
	found, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !found.Mode().IsRegular() {
		return nil, errNotRegular
	}

	// Without blocking, as it may have become a FIFO meanwhile.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // nothing was written

	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !os.SameFile(found, info):
		return nil, errNotRegular
	case info.Size() > maxSize:
		return nil, fmt.Errorf("larger than %d MiB", maxSize>>20)
	}

	start := make([]byte, min(info.Size(), int64(len(magic))))
	_, err = io.ReadFull(f, start)
	if err != nil || string(start) != magic {
		return start, err // the rest is not worth reading
	}

	file := make([]byte, info.Size())
	copy(file, start)
	_, err = io.ReadFull(f, file[len(start):])
	return file, err
}
