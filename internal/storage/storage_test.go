package storage

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

const (
	version  = 3
	identity = "AC0123456789abcdef0123456789abcdef https://comms.twilio.com/v1 messages"
	name     = "marketing"
)

func open(t testing.TB, path string) *Dir {
	t.Helper()
	d, err := Open(path, version)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func write(t testing.TB, d *Dir, account, content string) {
	t.Helper()
	if err := d.Write(account, identity, []byte(content)); err != nil {
		t.Fatal(err)
	}
}

func wantContent(t testing.TB, d *Dir, account, want string) {
	t.Helper()
	if got, err := d.Read(account, identity); err != nil || string(got) != want {
		t.Errorf("%q holds %q (error %v), want %q", account, got, err, want)
	}
}

func wantDiscarded(t testing.TB, d *Dir, want Reason) *DiscardedError {
	t.Helper()
	content, err := d.Read(name, identity)
	discarded, ok := errors.AsType[*DiscardedError](err)
	if !ok || discarded.Reason != want || content != nil {
		t.Fatalf("content %q, error %v (%T), want one of reason %q", content, err, err, want)
	}
	return discarded
}

// files returns the names in a directory, without the lock.
func files(t testing.TB, path string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if entry.Name() != lockName {
			names = append(names, entry.Name())
		}
	}
	return names
}

// TestCheck checks that a usable directory passes and is not changed.
func TestCheck(t *testing.T) {
	parent := t.TempDir()
	used := filepath.Join(parent, "used")
	d := open(t, used)
	write(t, d, name, "state")
	before := files(t, used)

	for _, path := range []string{used, used + string(filepath.Separator), filepath.Join(parent, "to", "be", "made"), "made-here"} {
		t.Chdir(parent)
		if err := Check(path); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}

	if got := files(t, used); !slices.Equal(got, before) {
		t.Errorf("files %q, want %q", got, before)
	}
	if got := files(t, parent); !slices.Equal(got, []string{"used"}) {
		t.Errorf("files %q", got)
	}
	wantContent(t, d, name, "state")
}

func TestAnyAccountName(t *testing.T) {
	path := filepath.Join(t.TempDir(), "made", "by", "open")
	d := open(t, path)
	long := strings.Repeat("x", 300)
	names := []string{
		name, "Marketing", "MARKETING", "a/b", "a_b", "a//b", "../../etc/passwd", "..", ".", "/", "", " ", "lock", "-rf",
		".marketing", "marketing.state", "marketing.state.bad", ".x.state.1", "Größe", "日本", "a\\b", "c:d", "*?", long, long + "y",
	}

	for _, account := range names {
		write(t, d, account, "state of "+account)
	}
	for _, account := range names {
		wantContent(t, d, account, "state of "+account)
	}

	lower := map[string]bool{}
	for _, file := range files(t, path) {
		lower[strings.ToLower(file)] = true
		if len(file) > 100 {
			t.Errorf("a name of %d bytes: %s", len(file), file)
		}
	}

	if len(lower) != len(names) {
		t.Errorf("%d files for %d accounts, where case is ignored", len(lower), len(names))
	}
	if first := stateName(name); !strings.HasPrefix(first, name+"-") {
		t.Errorf("%q is not readable", first)
	}

	for file, want := range map[string]fs.FileMode{path: 0o700, filepath.Join(path, stateName(name)): 0o600} {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has permissions %o, want %o", file, got, want)
		}
	}
}

func TestWriteAndRead(t *testing.T) {
	path := t.TempDir()
	d := open(t, path)
	if content, err := d.Read(name, identity); !errors.Is(err, fs.ErrNotExist) || content != nil {
		t.Errorf("before the first write there is %q, error %v", content, err)
	}
	for _, content := range []string{"one", "", strings.Repeat("long\n\x00", 1e5), "two"} {
		write(t, d, name, content)
		wantContent(t, d, name, content)
		file, err := os.ReadFile(filepath.Join(path, stateName(name)))
		if err != nil || int64(len(file)) != d.Size() {
			t.Errorf("the file has %d bytes (error %v), Size says %d", len(file), err, d.Size())
		}
		if !bytes.HasPrefix(file, []byte("twilio_operations_exporter state 3\n")) {
			t.Errorf("the file begins with %.60q", file)
		}
	}

	write(t, d, "another", "three")
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := d.Write(name, identity, nil); !errors.Is(err, os.ErrClosed) {
		t.Errorf("after Close a write returns %v", err)
	}

	again := open(t, path)
	if again.Size() != d.Size() {
		t.Errorf("%d bytes after a restart, %d before", again.Size(), d.Size())
	}
	wantContent(t, again, name, "two")
	wantContent(t, again, "another", "three")
}

func TestRemove(t *testing.T) {
	path := t.TempDir()
	d := open(t, path)
	for _, account := range []string{"a", "b", "c"} {
		write(t, d, account, "state")
	}
	if err := d.Discard("c", Corrupt, errors.New("not to be decoded")); err == nil {
		t.Error("Discard returns no error")
	}
	foreign := []string{"README", "a.state", "lost+found"}

	for _, file := range foreign {
		if err := os.WriteFile(filepath.Join(path, file), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}

	if err := d.Retain([]Account{{"a", identity}, {"none", "another"}}); err != nil {
		t.Error(err)
	}
	want := append(slices.Clone(foreign), stateName("a"))
	slices.Sort(want)
	if got := files(t, path); !slices.Equal(got, want) {
		t.Errorf("what is left is %q, want %q", got, want)
	}
	wantContent(t, d, "a", "state")

	for range 2 {
		if err := d.Retain(nil); err != nil {
			t.Error(err)
		}
	}

	if got := files(t, path); !slices.Equal(got, foreign) || d.Size() != 0 {
		t.Errorf("what is left is %q, want %q; Size says %d", got, foreign, d.Size())
	}
}

// TestRename checks that an account without a file takes over one with its identity that no other account has.
func TestRename(t *testing.T) {
	path := t.TempDir()
	d := open(t, path)
	write(t, d, "kept", "its own")
	write(t, d, "before", "before")
	write(t, d, "corrupt", "corrupt")
	if err := os.Truncate(filepath.Join(path, stateName("corrupt")), 30); err != nil {
		t.Fatal(err)
	}
	if err := d.Write("other", "another identity", []byte("other")); err != nil {
		t.Fatal(err)
	}

	accounts := []Account{{"kept", identity}, {"renamed", identity}, {"second", identity}, {"third", "a third identity"}}
	if err := d.Retain(accounts); err != nil {
		t.Fatal(err)
	}
	wantContent(t, d, "kept", "its own")
	wantContent(t, d, "renamed", "before")
	want := []string{stateName("kept"), stateName("renamed")}
	if got := files(t, path); !slices.Equal(got, want) {
		t.Errorf("files %q, want %q", got, want)
	}
	size := d.Size()
	_ = d.Close()
	if counted := open(t, path).Size(); counted != size {
		t.Errorf("Size says %d, want %d", size, counted)
	}
}

// TestDiscard checks that a file that is not what was written is set aside, replaces the one set aside before, and has
// no other effect.
func TestDiscard(t *testing.T) {
	whole := bytes.Join(encode(version, identity, []byte("the state")), nil)
	replace := func(old, replacement string) []byte { return bytes.Replace(whole, []byte(old), []byte(replacement), 1) }
	for _, tt := range []struct {
		name string
		file []byte
		want Reason
	}{
		{"empty", nil, Corrupt},
		{"another file", []byte("accounts:\n- name: marketing\n"), Corrupt},
		{"zeros", make([]byte, 4096), Corrupt},
		{"longer", append(slices.Clone(whole), 0), Corrupt},
		{"content altered", replace("the state", "the slate"), Corrupt},
		{"identity altered", replace("AC01", "AC02"), Corrupt},
		{"version altered", replace("state 3", "state x"), Corrupt},
		{"an older version", bytes.Join(encode(version-1, identity, nil), nil), Version},
		{"a later version", []byte(magic + "4\nof a form that nobody knows yet"), Version},
		{"another account", bytes.Join(encode(version, "AC9 https://comms.twilio.com/v1 messages", nil), nil), Identity},
		{"no identity", bytes.Join(encode(version, "", nil), nil), Identity},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := t.TempDir()
			d := open(t, path)
			state := filepath.Join(path, stateName(name))
			for range 2 {
				if err := os.WriteFile(state, tt.file, 0o600); err != nil {
					t.Fatal(err)
				}
				discarded := wantDiscarded(t, d, tt.want)
				if discarded.File != state+badSuffix {
					t.Errorf("it is now %s", discarded.File)
				}
				if kept, err := os.ReadFile(discarded.File); err != nil || !bytes.Equal(kept, tt.file) {
					t.Errorf("set aside: %q, error %v", kept, err)
				}
				if got := files(t, path); len(got) != 1 {
					t.Errorf("files %q", got)
				}
				if _, err := d.Read(name, identity); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("read again: %v", err)
				}
			}

			write(t, d, name, "another state")
			wantContent(t, d, name, "another state")
		})
	}
}

// TestCutAndFlipped checks that no file is accepted that is cut short or has a flipped bit.
func TestCutAndFlipped(t *testing.T) {
	whole := bytes.Join(encode(version, identity, []byte("the state")), nil)
	if content, err := contentOf(version, identity, whole); err != nil || string(content) != "the state" {
		t.Fatalf("%q, %v", content, err)
	}
	for length := range whole {
		if content, err := contentOf(version, identity, whole[:length]); err == nil {
			t.Errorf("cut after %d of %d bytes: %q", length, len(whole), content)
		}
	}

	for bit := range 8 * len(whole) {
		flipped := slices.Clone(whole)
		flipped[bit/8] ^= 1 << (bit % 8)
		content, err := contentOf(version, identity, flipped)
		if refused, ok := errors.AsType[*refusal](err); !ok || !slices.Contains(Reasons(), refused.reason) {
			t.Errorf("bit %d flipped: %q, error %v", bit, content, err)
		}
	}
}

// TestLongIdentity checks that the error of a file with another identity is a readable line, whatever the file holds.
func TestLongIdentity(t *testing.T) {
	other := bytes.Join(encode(version, strings.Repeat("x", 1<<20), nil), nil)
	_, err := contentOf(version, identity, other)
	if refused, ok := errors.AsType[*refusal](err); !ok || refused.reason != Identity || len(err.Error()) > 1000 {
		t.Errorf("error %.1000v", err)
	}
}

// TestLeftovers checks that a process killed between two system calls of a write leaves nothing that stays or is taken
// for a state.
func TestLeftovers(t *testing.T) {
	path := t.TempDir()
	d := open(t, path)
	write(t, d, name, "before")
	size := d.Size()
	_ = d.Close()
	whole := bytes.Join(encode(version, identity, []byte("after")), nil)

	for _, written := range []int{0, 1, len(whole) - 1, len(whole)} { // created, written in part, written
		temp := filepath.Join(path, fmt.Sprintf(".%s.%d", stateName(name), written))
		if err := os.WriteFile(temp, whole[:written], 0o600); err != nil {
			t.Fatal(err)
		}
	}

	foreign := filepath.Join(path, ".hidden")
	if err := os.WriteFile(foreign, nil, 0o600); err != nil {
		t.Fatal(err)
	}

	d = open(t, path)
	if got, want := files(t, path), []string{filepath.Base(foreign), stateName(name)}; !slices.Equal(got, want) {
		t.Errorf("files %q, want %q", got, want)
	}
	if d.Size() != size {
		t.Errorf("Size says %d, want %d", d.Size(), size)
	}
	wantContent(t, d, name, "before")
}

// TestFailedWrite checks that a failed write leaves the previous state and no temporary file, and that the next write
// succeeds.
func TestFailedWrite(t *testing.T) {
	path := t.TempDir()
	d := open(t, path)
	write(t, d, name, "before")
	if err := d.Write(name, identity, make([]byte, maxSize)); err == nil || !strings.Contains(err.Error(), "8 MiB") {
		t.Errorf("more than can be read was written: %v", err)
	}
	wantContent(t, d, name, "before")

	// A directory in its place cannot be replaced.
	state := filepath.Join(path, stateName(name))
	if err := errors.Join(os.Remove(state), os.MkdirAll(filepath.Join(state, "sub"), 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := d.Write(name, identity, []byte("after")); err == nil {
		t.Error("a directory was replaced")
	}
	if got := files(t, path); len(got) != 1 {
		t.Errorf("files %q", got)
	}
	if err := os.RemoveAll(state); err != nil {
		t.Fatal(err)
	}
	write(t, d, name, "after")
	wantContent(t, d, name, "after")
}

// TestFlushed checks that a write has reached the disk when it returns: the content before the file is renamed, and the
// name after that. If the disk fails, so does the write.
func TestFlushed(t *testing.T) {
	path := t.TempDir()
	d := open(t, path)
	write(t, d, name, "before")

	state := filepath.Join(path, stateName(name))
	var flushed []string
	var failing string
	d.flush = func(f *os.File) error {
		current, err := os.ReadFile(state)
		if err != nil {
			t.Error(err)
		}
		what := "the directory"
		if f.Name() != path {
			what = "a file"
		}
		after := bytes.Contains(current, []byte("after"))
		flushed = append(flushed, fmt.Sprintf("%s, renamed: %t", what, after))
		if what == failing {
			return errors.New("an error of the disk")
		}
		return f.Sync()
	}

	write(t, d, name, "after")
	want := []string{"a file, renamed: false", "the directory, renamed: true"}
	if !slices.Equal(flushed, want) {
		t.Errorf("flushed %q, want %q", flushed, want)
	}

	for _, failing = range []string{"a file", "the directory"} {
		if err := d.Write(name, identity, []byte("after all")); err == nil {
			t.Errorf("%s was not flushed, which is no error", failing)
		}
		if failing == "a file" {
			wantContent(t, d, name, "after")
		}
		got := files(t, path)
		if len(got) != 1 {
			t.Fatalf("files %q", got)
		}
		info, err := os.Stat(filepath.Join(path, got[0]))
		if err != nil {
			t.Fatal(err)
		}
		if d.Size() != info.Size() {
			t.Errorf("%s was not flushed: Size says %d, want %d", failing, d.Size(), info.Size())
		}
	}
}

// TestConcurrency writes and reads several accounts at the same time.
func TestConcurrency(t *testing.T) {
	d := open(t, t.TempDir())
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			account := fmt.Sprint("account ", i)
			for n := range 20 {
				content := fmt.Sprint(i, n)
				write(t, d, account, content)
				wantContent(t, d, account, content)
				_ = d.Size()
			}
		})
	}

	all.Wait()
	if got := files(t, d.path); len(got) != 8 {
		t.Errorf("files %q", got)
	}
}

func FuzzDecode(f *testing.F) {
	whole := bytes.Join(encode(version, identity, []byte("the state")), nil)
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Add([]byte(magic + "3\n"))
	f.Add([]byte(magic + "3\n\"\"\n12345678"))
	f.Fuzz(func(t *testing.T, file []byte) {
		content, err := contentOf(version, identity, file)
		if refused, ok := errors.AsType[*refusal](err); err != nil && (!ok || !slices.Contains(Reasons(), refused.reason)) {
			t.Errorf("error %v", err)
		}
		if err == nil && !bytes.Equal(bytes.Join(encode(version, identity, content), nil), file) {
			t.Errorf("taken for a state: %q", file)
		}
	})
}

func BenchmarkWrite(b *testing.B) {
	d := open(b, b.TempDir())
	for _, size := range []int{4 << 10, 512 << 10, 4 << 20} {
		content := make([]byte, size)
		b.Run(fmt.Sprintf("%d KiB", size>>10), func(b *testing.B) {
			b.SetBytes(int64(size))
			for b.Loop() {
				if err := d.Write(name, identity, content); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
