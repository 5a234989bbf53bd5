// Package storage keeps the states of accounts in a directory, a file for each. What is in them means nothing here:
// bytes in, bytes out.
//
// A write replaces the whole file or nothing of it, whenever the process is killed or the machine loses power: it goes to
// a temporary file, which is flushed to the disk and renamed, and then the directory is flushed. A read returns what a
// write has been given, or nothing: a file that is anything else is set aside.
//
// One process at a time uses a directory. The kernel releases its lock when it ends, however it ends.
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

// probeSize is what must fit into a directory that is opened, in bytes: some file systems keep less than a block where
// there is no free one left.
const probeSize = 8 << 10

// ErrInUse is the error of Open for a directory that another process uses.
var ErrInUse = errors.New("used by another process")

// Dir is a directory that this process uses. Its methods may be called concurrently.
type Dir struct {
	path    string
	version int
	flush   func(*os.File) error // to the disk: Sync, but for tests

	// mu is held for reading while a file is read, written or removed, and for writing while the directory is opened or
	// closed.
	mu     sync.RWMutex
	lock   *flock.Flock // nil while the directory is not open
	closed bool

	sizesMu sync.Mutex
	sizes   map[string]int64 // in bytes, by file name
}

// Open opens a directory, or makes it with permissions 0700, and locks it. What writes that were cut short have left is
// removed. The version is that of the contents: a file of another one is discarded.
//
// The error is one line with the path and the remedy. It is ErrInUse where another process has the lock.
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

// Check returns the error that Open would return, without making the directory or locking it: another process may be
// using it.
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

// nearest returns the directory of that path, or the one in which the first missing one would be made.
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

// Close gives the directory free once what is under way has ended. After it, methods return os.ErrClosed.
func (d *Dir) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	return d.unlock()
}

// open locks the directory, sees that it can be written and takes stock. d.mu is held, or nobody else has d.
func (d *Dir) open() error {
	err := os.MkdirAll(d.path, 0o700)
	switch {
	case errors.Is(err, fs.ErrExist): // a link to nothing
		return &fs.PathError{Op: "mkdir", Path: d.path, Err: syscall.ENOTDIR}
	case err != nil:
		return err
	}
	if err := d.takeLock(); err != nil {
		return err
	}
	if err := errors.Join(d.probe(), d.takeStock()); err != nil {
		_ = d.unlock() // the first error says more
		return err
	}
	return nil
}

// checkLock refuses a lock that is no regular file: opening a FIFO would wait.
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

// takeStock removes temporary files that are left over and notes the sizes of the others.
func (d *Dir) takeStock() error {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return err
	}

	sizes := map[string]int64{}
	for _, entry := range entries {
		switch name := entry.Name(); {
		case tempForm.MatchString(name):
			if err := os.Remove(filepath.Join(d.path, name)); err != nil {
				return err
			}
		case stateForm.MatchString(name):
			if info, err := entry.Info(); err == nil && info.Mode().IsRegular() {
				sizes[name] = info.Size()
			}
		}
	}

	d.sizesMu.Lock()
	defer d.sizesMu.Unlock()
	d.sizes = sizes
	return nil
}

// use runs f while the directory is this process's. If it has been removed, or another one is mounted in its place, it is
// opened again: the lock on what was there keeps nobody out of what is there.
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
		_ = d.unlock() // of what is gone
		if err := d.open(); err != nil {
			return err
		}
	}
	return f()
}

// holds reports whether the lock is that of the directory as it is now.
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

// Size returns how large all files are, in bytes, those set aside included.
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

// moveSize notes that a file has taken the place of another.
func (d *Dir) moveSize(from, to string) {
	d.sizesMu.Lock()
	defer d.sizesMu.Unlock()
	size, known := d.sizes[from]
	delete(d.sizes, from)
	delete(d.sizes, to)
	if known { // it was a file
		d.sizes[to] = size
	}
}

func (d *Dir) dropSize(name string) {
	d.sizesMu.Lock()
	defer d.sizesMu.Unlock()
	delete(d.sizes, name)
}

// Write replaces the file of an account. The identity says what the account reads, such as its SID and the URL of the
// API: Read discards a file of another identity. On an error the file is what it was; the next write may succeed.
func (d *Dir) Write(account, identity string, content []byte) error {
	return d.use(func() error {
		name := stateName(account)
		size, err := d.replace(name, encode(d.version, identity, content))
		if err == nil {
			d.setSize(name, size)
		}
		return err
	})
}

// replace writes a file whose content is the concatenation of parts.
func (d *Dir) replace(name string, parts [][]byte) (size int64, err error) {
	for _, part := range parts {
		size += int64(len(part))
	}
	if size > maxSize {
		return 0, fmt.Errorf("the state is larger than %d MiB", maxSize>>20)
	}

	f, err := os.CreateTemp(d.path, tempPattern(name)) // with permissions 0600
	if err != nil {
		return 0, err
	}

	for _, part := range parts {
		if err == nil {
			_, err = f.Write(part)
		}
	}

	if err == nil {
		err = d.flush(f)
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(d.path, name))
	}

	if err != nil {
		_ = os.Remove(f.Name()) // or else it is removed when the directory is opened again
		return 0, err
	}
	return size, d.sync()
}

// sync flushes the directory, so that what was renamed or removed stays so.
func (d *Dir) sync() error {
	if runtime.GOOS == "windows" {
		return nil // a directory cannot be flushed
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

// Read returns what was written last for an account. Where there is no file, the error is fs.ErrNotExist. A file that is
// cut short, altered, of another version or identity, or cannot be read has been set aside: the error is a
// [DiscardedError].
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

// Discard sets an account's file aside, since whoever knows what its content means says so. The error is a
// [DiscardedError] that wraps cause.
func (d *Dir) Discard(account string, reason Reason, cause error) error {
	return d.use(func() error { return d.setAside(stateName(account), &refusal{reason, cause}) })
}

// setAside renames a file, in the place of one set aside before.
func (d *Dir) setAside(name string, cause error) error {
	discarded := &DiscardedError{Reason: Unreadable, File: filepath.Join(d.path, name+badSuffix), Err: cause}
	if refused, ok := errors.AsType[*refusal](cause); ok {
		discarded.Reason = refused.reason
	}

	_ = os.Remove(discarded.File) // renaming would not replace a directory
	if err := os.Rename(filepath.Join(d.path, name), discarded.File); err != nil {
		// The next write replaces it.
		discarded.File, discarded.Err = filepath.Join(d.path, name), errors.Join(cause, err)
		return discarded
	}
	d.moveSize(name, name+badSuffix)
	return discarded
}

// Account is whose file one is, for [Dir.Retain].
type Account struct{ Name, Identity string }

// Retain removes the files of all accounts but these. The file of another name becomes that of an account that has none
// and is of the same identity: it was renamed.
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
		heirs := map[string][]string{} // names of files that are not there, by identity
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

// inherit gives a file to the first of those who wait for one of its identity, and reports whether there was one.
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
	if os.Rename(filepath.Join(d.path, name), filepath.Join(d.path, heir)) != nil {
		return false
	}
	heirs[identity] = heirs[identity][1:]
	d.moveSize(name, heir)
	return true
}

func (d *Dir) remove(names ...string) error {
	var errs []error
	for _, name := range names {
		switch err := os.Remove(filepath.Join(d.path, name)); {
		case err == nil, errors.Is(err, fs.ErrNotExist):
			d.dropSize(name)
		default:
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, d.sync())...)
}
