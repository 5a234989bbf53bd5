// Package storage keeps the states of accounts in a directory, one file for each. It does not know what they mean:
// bytes in, bytes out.
//
// A write replaces a file as a whole or not at all, even if the process is killed or the machine loses power: it writes
// a temporary file, flushes it to the disk, renames it, and flushes the directory. A read returns exactly what was
// written, or nothing: a file that is anything else is set aside.
//
// Only one process can use a directory. The kernel releases its lock when the process ends, however it ends.
package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"github.com/gofrs/flock"

	"twilio_operations_exporter/internal/sanitize"
)

// probeSize is how many bytes must fit into a directory when it is opened. It is more than a block, as some file
// systems store less than that without a free block.
const probeSize = 8 << 10

// ErrInUse is returned by Open if another process uses the directory.
var ErrInUse = errors.New("used by another process")

// Dir is a directory that this process uses. Its methods may be called concurrently.
type Dir struct {
	path    string
	version int
	flush   func(*os.File) error // (*os.File).Sync, except in tests

	// mu is read-locked while files are read, written or removed, and locked while the directory is opened or closed.
	mu     sync.RWMutex
	lock   *flock.Flock // nil while the directory is not open
	closed bool

	sizesMu sync.Mutex
	sizes   map[string]int64 // in bytes, by file name
}

// Open opens a directory, creating it with permissions 0700 if needed, locks it, and removes what interrupted writes
// have left. The version is that of the contents: Read discards files with another one.
//
// The error is one line with the path and the remedy. It wraps ErrInUse if another process has the lock.
func Open(path string, version int) (*Dir, error) {
	d := &Dir{path: path, version: version, flush: (*os.File).Sync}
	err := d.open()
	switch {
	case errors.Is(err, ErrInUse):
		return nil, fmt.Errorf("%s is %w: stop that one, or choose another directory", sanitize.Quote(path), err)
	case err != nil:
		return nil, cannotUse(path, err)
	}
	return d, nil
}

// Check returns the error that Open would return, without creating or locking the directory. Unlike Open, it accepts
// one that another process uses.
func Check(path string) error {
	existing, err := nearest(path)
	if err == nil {
		d := &Dir{path: existing, flush: (*os.File).Sync}
		err = errors.Join(d.checkLock(), d.probe())
	}
	if err != nil {
		return cannotUse(path, err)
	}
	return nil
}

// nearest returns the directory with this path or, if it does not exist, its nearest ancestor that does.
func nearest(path string) (string, error) {
	path = filepath.Clean(path)
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) && filepath.Dir(path) != path {
		return nearest(filepath.Dir(path))
	}
	if err != nil {
		return "", err
	}

	info, err := os.Stat(path)
	isDangling := errors.Is(err, fs.ErrNotExist)
	if isDangling || err == nil && !info.IsDir() {
		return "", &fs.PathError{Op: "mkdir", Path: path, Err: syscall.ENOTDIR}
	}
	return path, err
}

func cannotUse(path string, err error) error {
	return fmt.Errorf("%s cannot be used: %w: choose a directory that the exporter can write to, with free space",
		sanitize.Quote(path), err)
}

// Close unlocks the directory once operations under way have ended. After that, methods return os.ErrClosed.
func (d *Dir) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	return d.unlock()
}

// open locks the directory, checks that it can be written, and takes stock. d.mu is held, or nobody else has d yet.
func (d *Dir) open() error {
	err := os.MkdirAll(d.path, 0o700)
	switch {
	case errors.Is(err, fs.ErrExist): // a dangling link
		return &fs.PathError{Op: "mkdir", Path: d.path, Err: syscall.ENOTDIR}
	case err != nil:
		return err
	}

	err = d.takeLock()
	if err != nil {
		return err
	}
	err = errors.Join(d.probe(), d.takeStock())
	if err != nil {
		_ = d.unlock() // err says more
		return err
	}
	return nil
}

// checkLock refuses a lock that is not a regular file, as opening a FIFO would block.
func (d *Dir) checkLock() error {
	path := filepath.Join(d.path, lockName)
	info, err := os.Lstat(path)
	if err == nil && !info.Mode().IsRegular() {
		return &fs.PathError{Op: "lock", Path: path, Err: errNotRegular}
	}
	return nil
}

func (d *Dir) takeLock() error {
	err := d.checkLock()
	if err != nil {
		return err
	}

	lock := flock.New(filepath.Join(d.path, lockName))
	locked, err := lock.TryLock()
	switch {
	case err != nil:
		return err
	case !locked:
		return ErrInUse
	}
	d.lock = lock
	return nil
}

func (d *Dir) unlock() error {
	if d.lock == nil {
		return nil
	}
	err := d.lock.Close()
	d.lock = nil
	return err
}

// probe writes a temporary file and removes it.
func (d *Dir) probe() error {
	f, err := os.CreateTemp(d.path, tempPattern("probe"+stateSuffix))
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, probeSize))
	return errors.Join(err, d.flush(f), f.Close(), os.Remove(f.Name()))
}

// takeStock removes leftover temporary files and records the sizes of the others.
func (d *Dir) takeStock() error {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return err
	}

	sizes := map[string]int64{}
	for _, entry := range entries {
		name := entry.Name()
		switch {
		case tempForm.MatchString(name):
			err = os.Remove(filepath.Join(d.path, name))
			if err != nil {
				return err
			}
		case stateForm.MatchString(name):
			info, err := entry.Info()
			if err == nil && info.Mode().IsRegular() {
				sizes[name] = info.Size()
			}
		}
	}

	d.sizesMu.Lock()
	defer d.sizesMu.Unlock()
	d.sizes = sizes
	return nil
}

// use runs f while this process has the directory. If the directory was removed, or another one is mounted in its
// place, it is opened again, as the lock on the old one keeps nobody out of the new one.
func (d *Dir) use(f func() error) error {
	d.mu.RLock()
	if !d.closed && d.holds() {
		defer d.mu.RUnlock()
		return f()
	}
	d.mu.RUnlock()

	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return os.ErrClosed
	}
	if !d.holds() {
		_ = d.unlock() // the old one
		err := d.open()
		if err != nil {
			return err
		}
	}
	return f()
}

// holds reports whether the lock is the one in the directory as it is now.
func (d *Dir) holds() bool {
	if d.lock == nil {
		return false
	}
	held, err := d.lock.Stat()
	if err != nil {
		return false
	}
	there, err := os.Lstat(filepath.Join(d.path, lockName))
	return err == nil && os.SameFile(held, there)
}

// Size returns the size of all files in bytes, including those set aside.
func (d *Dir) Size() (total int64) {
	d.sizesMu.Lock()
	defer d.sizesMu.Unlock()
	for _, size := range d.sizes {
		total += size
	}
	return total
}

func (d *Dir) setSize(name string, size int64) {
	d.sizesMu.Lock()
	defer d.sizesMu.Unlock()
	d.sizes[name] = size
}

// moveSize records that a file was renamed and may have replaced another.
func (d *Dir) moveSize(from, to string) {
	d.sizesMu.Lock()
	defer d.sizesMu.Unlock()
	size, known := d.sizes[from]
	delete(d.sizes, from)
	delete(d.sizes, to)
	if known { // it was a regular file
		d.sizes[to] = size
	}
}

func (d *Dir) dropSize(name string) {
	d.sizesMu.Lock()
	defer d.sizesMu.Unlock()
	delete(d.sizes, name)
}

// Write replaces the file of an account. The identity says what the account reads, such as its SID and the URL of the
// API; Read discards a file with another identity. On an error, the file is as before, or has the new content but may
// lose it if the machine crashes. The next write may succeed.
func (d *Dir) Write(account, identity string, content []byte) error {
	return d.use(func() error {
		return d.replace(stateName(account), encode(d.version, identity, content))
	})
}

// replace replaces a file by one that consists of these parts.
func (d *Dir) replace(name string, parts [][]byte) error {
	var size int64
	for _, part := range parts {
		size += int64(len(part))
	}
	if size > maxSize {
		return fmt.Errorf("the state is larger than %d MiB", maxSize>>20)
	}

	f, err := os.CreateTemp(d.path, tempPattern(name)) // with permissions 0600
	if err != nil {
		return err
	}
	err = d.writeAndClose(f, parts)
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(d.path, name))
	}
	if err != nil {
		_ = os.Remove(f.Name()) // if this fails, opening the directory again removes it
		return err
	}

	d.setSize(name, size)
	return d.sync()
}

// writeAndClose writes a file, flushes it to the disk and closes it in any case.
func (d *Dir) writeAndClose(f *os.File, parts [][]byte) error {
	var err error
	for _, part := range parts {
		if err == nil {
			_, err = f.Write(part)
		}
	}
	if err == nil {
		err = d.flush(f)
	}

	closeErr := f.Close()
	if err == nil {
		err = closeErr
	}
	return err
}

// sync flushes the directory, so that renamed and removed files stay so.
func (d *Dir) sync() error {
	if runtime.GOOS == "windows" {
		return nil // it cannot flush a directory
	}
	dir, err := os.Open(d.path)
	if err != nil {
		return err
	}
	err = d.flush(dir)
	_ = dir.Close() // nothing was written to it
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		return nil // some network file systems have no such thing
	}
	return err
}

// Read returns what was last written for an account. If there is no file, the error is fs.ErrNotExist. A file that is
// cut short, altered, of another version or identity, or unreadable is set aside, and the error is a [DiscardedError].
func (d *Dir) Read(account, identity string) (content []byte, err error) {
	err = d.use(func() error {
		name := stateName(account)
		file, cause := readFile(filepath.Join(d.path, name))
		if errors.Is(cause, fs.ErrNotExist) {
			return cause
		}
		if cause == nil {
			content, cause = contentOf(d.version, identity, file)
		}
		if cause != nil {
			return d.setAside(name, cause)
		}
		return nil
	})
	return content, err
}

// Discard sets aside a file whose content turned out to be of no use. It returns a [DiscardedError] that wraps cause.
func (d *Dir) Discard(account string, reason Reason, cause error) error {
	return d.use(func() error { return d.setAside(stateName(account), &refusal{reason, cause}) })
}

// setAside renames a file, replacing one that was set aside before.
func (d *Dir) setAside(name string, cause error) error {
	discarded := &DiscardedError{Reason: Unreadable, File: filepath.Join(d.path, name+badSuffix), Err: cause}
	if refused, ok := errors.AsType[*refusal](cause); ok {
		discarded.Reason = refused.reason
	}

	_ = os.Remove(discarded.File) // a rename does not replace a directory
	err := os.Rename(filepath.Join(d.path, name), discarded.File)
	if err != nil { // it stays until the next write replaces it
		discarded.File = filepath.Join(d.path, name)
		discarded.Err = errors.Join(cause, err)
		return discarded
	}
	d.moveSize(name, name+badSuffix)
	return discarded
}

// Account identifies a file to [Dir.Retain].
type Account struct{ Name, Identity string }

// Retain removes the files of all accounts except these. If one of these has no file, and a file of another name has
// its identity, the account was renamed: it gets that file.
func (d *Dir) Retain(accounts []Account) error {
	return d.use(func() error {
		entries, err := os.ReadDir(d.path)
		if err != nil {
			return err
		}
		present := map[string]bool{}
		for _, entry := range entries {
			present[entry.Name()] = true
		}

		retained := map[string]bool{}
		heirs := map[string][]string{} // names of missing files by identity
		for _, account := range accounts {
			name := stateName(account.Name)
			retained[name] = true
			if !present[name] {
				heirs[account.Identity] = append(heirs[account.Identity], name)
			}
		}

		var others []string
		for _, entry := range entries {
			name := entry.Name()
			isOther := stateForm.MatchString(name) && !retained[strings.TrimSuffix(name, badSuffix)]
			if isOther && !d.inherit(name, heirs) {
				others = append(others, name)
			}
		}
		return d.remove(others...)
	})
}

// inherit gives a file to the first heir with its identity, and reports whether there was one.
func (d *Dir) inherit(name string, heirs map[string][]string) bool {
	if len(heirs) == 0 || strings.HasSuffix(name, badSuffix) {
		return false
	}
	file, err := readFile(filepath.Join(d.path, name))
	if err != nil {
		return false
	}
	identity, _, err := decode(d.version, file)
	if err != nil || len(heirs[identity]) == 0 {
		return false
	}

	heir := heirs[identity][0]
	err = os.Rename(filepath.Join(d.path, name), filepath.Join(d.path, heir))
	if err != nil {
		return false
	}
	heirs[identity] = heirs[identity][1:]
	d.moveSize(name, heir)
	return true
}

func (d *Dir) remove(names ...string) error {
	var errs []error
	for _, name := range names {
		err := os.Remove(filepath.Join(d.path, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
			continue
		}
		d.dropSize(name)
	}
	return errors.Join(append(errs, d.sync())...)
}
