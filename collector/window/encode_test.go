package window

import (
	"bytes"
	"compress/gzip"
	"encoding/gob"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"twilio_operations_exporter/twilio"
)

// altered are the bytes of a busy window's state, plain, of which something was changed.
func altered(t *testing.T, change func(*savedState)) []byte {
	t.Helper()
	var b bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		o := testOptions()
		o.Length = 20 * time.Minute
		_, w := busy(t, o)
		s := w.Save()
		saved := s.save()
		change(saved)
		if err := gob.NewEncoder(&b).Encode(saved); err != nil {
			t.Fatal(err)
		}
	})
	return b.Bytes()
}

// compressed are the bytes of a state of plain ones.
func compressed(t *testing.T, plain []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	b.WriteString(stateHeader)
	z := gzip.NewWriter(&b)
	if _, err := z.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// What no window can have is an error, and says what is wrong.
func TestStatesThatAreWrong(t *testing.T) {
	minuteWith := func(s *savedState, has func(*savedMinute) bool) *savedMinute {
		return &s.Minutes[slices.IndexFunc(s.Minutes, func(m savedMinute) bool { return has(&m) })]
	}
	done := func(s *savedState) *savedMinute {
		return minuteWith(s, func(m *savedMinute) bool { return len(m.Done) > 0 })
	}
	live := func(s *savedState) *savedMinute {
		return minuteWith(s, func(m *savedMinute) bool { return len(m.Live) > 0 })
	}
	named := func(s *savedState) *savedOperation { return &s.Snapshot.InFlight[0] }
	for _, tt := range []struct {
		name   string
		change func(*savedState)
		want   string // "" for none
	}{
		{"nothing", func(*savedState) {}, ""},
		{"no time", func(s *savedState) { s.Wall = time.Time{} }, "year 1"},
		{"a far time", func(s *savedState) { s.Wall = s.Wall.AddDate(5000, 0, 0) }, "year 7000"},
		{"a clock that runs backwards", func(s *savedState) { s.Clock = -1 }, "its clock"},
		{"a clock at its end", func(s *savedState) { s.Clock = math.MaxInt64 }, "its clock"},
		{"a minute of the future", func(s *savedState) { s.Minutes[3].ReadAt = s.Clock + 1 }, "a minute read at"},
		{"a minute read before it all", func(s *savedState) { s.Minutes[3].ReadAt = -2 }, "a minute read at"},
		{"a far window", func(s *savedState) { s.First = open }, "it begins in minute"},
		{"a window of years", func(s *savedState) { s.Minutes = make([]savedMinute, 100_000) }, "100000 minutes"},
		{"no pages", func(s *savedState) { s.FullPage = 0 }, "pages of 0"},
		{"pages that are no number", func(s *savedState) { s.FullPage = math.NaN() }, "pages of NaN"},
		{"endless pages", func(s *savedState) { s.FullPage = math.Inf(1) }, "pages of +Inf"},
		{"large pieces", func(s *savedState) { s.PiecePages = 1000 }, "pieces of 1000"},
		{"a density that is no number", func(s *savedState) { s.BrokenDensity = math.NaN() }, "NaN operations"},
		{"never asked again", func(s *savedState) { s.Unfiltered = 1 << 60 }, "unfiltered"},
		{"counters below 0", func(s *savedState) { s.Grown = []int64{-1} }, "a count of -1"},
		{"stats without names", func(s *savedState) { s.Stats = s.Stats[:1] }, "stats of 1"},
		{"no snapshot", func(s *savedState) { s.Snapshot = nil }, "published"},
		{"a snapshot too soon", func(s *savedState) { s.Published = false }, "published"},
		{"a snapshot without statuses", func(s *savedState) { s.Snapshot.Statuses = nil }, "without SCHEDULED"},
		{"a snapshot with a nameless operation", func(s *savedState) { named(s).ID = "" }, "an operation"},
		{"a long status", func(s *savedState) {
			s.Undocumented = []twilio.Status{twilio.Status(strings.Repeat("A", 100))}
		}, "an undocumented status"},
		{"many statuses", func(s *savedState) {
			for i := range 17 {
				s.Undocumented = append(s.Undocumented, twilio.Status(fmt.Sprint("S", i)))
			}
		}, "18 undocumented statuses"},
		{"a status that nobody knows", func(s *savedState) { done(s).Done[0].Status = 99 }, "a status of code 99"},
		{"a status below 0", func(s *savedState) { done(s).Done[0].Status = -1 }, "a status of code -1"},
		{"a status twice", func(s *savedState) { done(s).Done = append(done(s).Done, done(s).Done[0]) }, "twice"},
		{"more failing than there are", func(s *savedState) { done(s).Done[0].Failing = 1 << 40 }, "are failing"},
		{"operations below 0", func(s *savedState) { done(s).Done[0].Operations = -7 }, "of -7 operations"},
		{"an id with a NUL", func(s *savedState) { named(s).ID = "a\x00b" }, "an operation"},
		{"an id that is no UTF-8", func(s *savedState) { named(s).ID = "a\xffb" }, "an operation"},
		{"a status with a line feed", func(s *savedState) { s.Undocumented = []twilio.Status{"A\nB"} }, "an undocumented status"},
		{"a long id", func(s *savedState) { named(s).ID = strings.Repeat("a", 65) }, "an operation"},
		{"in flight without a peak", func(s *savedState) { live(s).Peak = nil }, "no peak"},
		{"in flight and completed", func(s *savedState) { live(s).Live[0].Status = 2 }, "in flight that are COMPLETED"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var s State
			err := s.UnmarshalBinary(compressed(t, altered(t, tt.change)))
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			if err != nil && s.buckets != nil {
				t.Error("there is a state all the same")
			}
		})
	}
}

// Each byte counts; of the many in the middle one in nine is tried.
func TestStatesThatWereCutOrAltered(t *testing.T) {
	data := compressed(t, altered(t, func(*savedState) {}))
	var s State
	if err := s.UnmarshalBinary(data); err != nil {
		t.Fatal(err)
	}
	want, err := decompress(data[len(stateHeader):])
	if err != nil {
		t.Fatal(err)
	}
	for i := range data {
		if edge := 100; i > edge && i < len(data)-edge && i%9 > 0 {
			continue
		}
		if err := s.UnmarshalBinary(data[:i]); err == nil {
			t.Fatalf("the first %d of %d bytes are taken", i, len(data))
		}
		changed := slices.Clone(data)
		changed[i] ^= 4
		plain, _ := decompress(changed[len(stateHeader):])
		harmless := i >= len(stateHeader) && bytes.Equal(plain, want) // bits that nobody reads
		if err := s.UnmarshalBinary(changed); err == nil && !harmless {
			t.Fatalf("byte %d of %d is changed, and taken", i, len(data))
		}
	}
	if err := s.UnmarshalBinary(append(slices.Clone(data), data...)); err == nil {
		t.Error("a state with something after it is taken")
	}
}

// Other versions have other stats: those of the same name are taken.
func TestStateOfOtherStats(t *testing.T) {
	data := compressed(t, altered(t, func(saved *savedState) {
		saved.Grown = []int64{5, 6, 7}
		saved.Stats = []string{"messages_sighed_at", "messages_failed", "messages"}
		for i := range saved.Minutes {
			for j := range saved.Minutes[i].Done {
				saved.Minutes[i].Done[j].Stats = []int64{1}
			}
			for j := range saved.Minutes[i].Live {
				saved.Minutes[i].Live[j].Stats = []int64{1}
			}
			saved.Minutes[i].Peak = &savedPeak{}
			saved.Minutes[i].Failing = nil
		}
		saved.Snapshot = &savedSnapshot{Statuses: saved.Snapshot.Statuses}
		for i := range saved.Snapshot.Statuses {
			saved.Snapshot.Statuses[i].Totals.Stats = []int64{1, 2, 3}
		}
	}))
	var s State
	if err := s.UnmarshalBinary(data); err != nil {
		t.Fatal(err)
	}
	if want := (twilio.Stats{twilio.Failed: 6, twilio.Total: 7}); s.grown != want {
		t.Errorf("counters %v, want %v", s.grown, want)
	}
	if want := (twilio.Stats{twilio.Failed: 2, twilio.Total: 3}); s.snapshot.Statuses[0].Stats != want {
		t.Errorf("sums %v, want %v", s.snapshot.Statuses[0].Stats, want)
	}
}

// FuzzState reads anything: there is an error, or a window that can be refreshed and saved again.
func FuzzState(f *testing.F) {
	f.Add([]byte{})
	f.Add(altered(&testing.T{}, func(*savedState) {}))
	f.Fuzz(func(t *testing.T, plain []byte) {
		var s State
		if s.decode(plain) != nil {
			return
		}
		s.wall = time.Now()
		w := restarted(t, testOptions(), s)
		api := &fakeAPI{}
		api.fill(1, time.Hour, allCompleted)
		snapshot := refreshed(t, w, api)
		if got, want := snapshot.Operations(), api.since(w.first); got != want {
			t.Errorf("%d operations, want %d", got, want)
		}
		reloaded(t, w.Save())
	})
}
