package config

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// maxFileSize is far beyond any secret, certificate or configuration file.
const maxFileSize = 1 << 20

// readFile returns the contents of a regular file of at most maxFileSize bytes,
// without a byte order mark. It never waits: a FIFO is opened without a writer
// and then refused. Its errors are of type *fs.PathError.
func readFile(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) //nolint:gosec // G304: the operator names it
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	refuse := func(reason string) ([]byte, error) {
		return nil, &fs.PathError{Op: "read", Path: path, Err: errors.New(reason)}
	}
	if !info.Mode().IsRegular() {
		return refuse("not a regular file")
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	switch {
	case err != nil:
		return nil, err
	case len(b) > maxFileSize:
		return refuse("larger than 1 MiB")
	}
	return bytes.TrimPrefix(b, []byte("\uFEFF")), nil
}
