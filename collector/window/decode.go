package window

import (
	"bytes"
	"compress/gzip"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"twilio_operations_exporter/twilio"
)

// Limits of a state. One beyond them was not written by this package.
const (
	maxMinutes    = int(retention/time.Minute) + int(maxAhead) + 60
	maxListed     = 1000 // operations, or bars, in a list of a snapshot
	maxNamed      = 20   // Options.Named
	maxPageSize   = 1_000_000
	maxStateBytes = 6 << 20 // decompressed; 7 days with large numbers in every minute take 4 MB
	farMinute     = minute(1 << 32)
	longTime      = time.Duration(1 << 61)
)

// UnmarshalBinary reads what MarshalBinary has made. It returns an error for bytes of another format, for those that were
// cut short or altered, and for a state that no window can have had.
func (s *State) UnmarshalBinary(data []byte) error {
	compressed, ok := bytes.CutPrefix(data, []byte(stateHeader))
	if !ok {
		return errors.New("the state is in another format")
	}
	plain, err := decompress(compressed)
	if err != nil {
		return fmt.Errorf("the state was cut short or altered: %w", err)
	}
	return s.decode(plain)
}

// decompress returns what was compressed, if it is whole by its checksum.
func decompress(compressed []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(compressed))
	if err != nil {
		return nil, err
	}
	plain, err := io.ReadAll(io.LimitReader(z, maxStateBytes+1))
	if err == nil && len(plain) > maxStateBytes {
		err = fmt.Errorf("more than %d bytes", maxStateBytes)
	}
	return plain, err
}

func (s *State) decode(plain []byte) error {
	var saved savedState
	if err := gob.NewDecoder(bytes.NewReader(plain)).Decode(&saved); err != nil {
		return fmt.Errorf("the state cannot be read: %w", err)
	}

	l := loader{stats: statsNamed(saved.Stats)}
	loaded := l.state(&saved)
	if l.err != nil {
		return fmt.Errorf("the state is not valid: %w", l.err)
	}
	*s = loaded
	return nil
}

// statsNamed are the stats of these names; -1 for a name that none has.
func statsNamed(names []string) []int {
	all := statNames()
	stats := make([]int, len(names))
	for i, name := range names {
		stats[i] = slices.Index(all, name)
	}
	return stats
}

// loader makes a state of what was written. It keeps the first thing that is wrong with it, and goes on.
type loader struct {
	stats []int // by place in what was written: the stat, -1 for one of another version
	names statusNames
	err   error
}

func (l *loader) must(ok bool, format string, args ...any) {
	if !ok && l.err == nil {
		l.err = fmt.Errorf(format, args...)
	}
}

func (l *loader) state(saved *savedState) State {
	year := saved.Wall.Year()
	l.must(year >= 2000 && year < 2200, "saved in the year %d", year)
	l.must(saved.Clock >= 0 && saved.Clock < longTime, "its clock stands at %v", saved.Clock)
	l.must(saved.First >= 0 && saved.First < farMinute, "it begins in minute %d", saved.First)
	l.must(saved.Newest >= beforeAll && saved.Newest < farMinute, "its newest minute is %d", saved.Newest)
	l.must(len(saved.Minutes) <= maxMinutes, "it has %d minutes", len(saved.Minutes))
	l.must(saved.Skew.Abs() <= 1000*time.Hour, "a clock that is off by %v", saved.Skew)
	l.must(saved.Churn >= 0, "%d minutes changed", saved.Churn)
	l.must(saved.RequestedPage >= 1 && saved.RequestedPage <= maxPageSize, "it asked for pages of %d", saved.RequestedPage)
	l.must(saved.FullPage >= 1 && saved.FullPage <= maxPageSize, "it knows pages of %v", saved.FullPage)
	l.must(saved.PiecePages >= minPiecePages && saved.PiecePages <= maxPiecePages, "pieces of %d pages", saved.PiecePages)
	l.must(saved.BrokenDensity >= 0 && saved.BrokenDensity <= 1e9, "%v operations a minute", saved.BrokenDensity)
	l.must(saved.Unfiltered >= 0 && saved.Unfiltered <= saved.Clock+filterRetry, "unfiltered until %v", saved.Unfiltered)
	l.must(saved.Published == (saved.Snapshot != nil), "published %t without or with a snapshot", saved.Published)
	l.undocumented(saved.Undocumented)
	if l.err != nil {
		return State{}
	}

	loaded := State{clock: saved.Clock, wall: saved.Wall, state: state{
		statuses: l.names, first: saved.First, buckets: make([]bucket, len(saved.Minutes)),
		skew: saved.Skew, churn: saved.Churn,
		requestedPage: saved.RequestedPage, fullPage: paging(saved.FullPage), piecePages: saved.PiecePages,
		brokenDensity: saved.BrokenDensity, unfiltered: saved.Unfiltered,
		receipts: receipts{
			readReplacesDelivered: saved.ReadReplacesDelivered, readKeepsDelivered: saved.ReadKeepsDelivered,
		},
		published: saved.Published, newest: saved.Newest, created: l.count(saved.Created), grown: l.statsOf(saved.Grown),
		snapshot: l.snapshot(saved.Snapshot),
	}}
	for i := range saved.Minutes {
		loaded.buckets[i] = l.minute(&saved.Minutes[i], saved.Clock)
	}
	return loaded
}

func (l *loader) undocumented(statuses []twilio.Status) {
	l.must(len(statuses) <= maxUndocumented, "%d undocumented statuses", len(statuses))
	if l.err != nil {
		return
	}
	for _, s := range statuses {
		isNew := !l.names.contains(s)
		l.must(isNew && twilio.IsName(string(s)), "an undocumented status %.100q", s)
		l.names = append(l.names, s)
	}
}

func (l *loader) status(s twilio.Status) twilio.Status {
	l.must(l.names.contains(s), "status %.100q", s)
	return s
}

// coded is the status that a code stands for.
func (l *loader) coded(code int) twilio.Status {
	undocumented := code - len(documented) - 1
	switch {
	case code < 0 || undocumented >= len(l.names):
		l.must(false, "a status of code %d", code)
		return twilio.StatusOther
	case undocumented >= 0:
		return l.names[undocumented]
	case code == len(documented):
		return twilio.StatusOther
	}
	return documented[code]
}

func (l *loader) minute(saved *savedMinute, clock time.Duration) bucket {
	l.must(saved.ReadAt >= never && saved.ReadAt <= clock, "a minute read at %v of %v", saved.ReadAt, clock)
	b := bucket{readAt: saved.ReadAt, dirty: saved.Dirty, baseline: saved.Baseline}
	if len(saved.Done) == 0 && len(saved.Live) == 0 && len(saved.Failing) == 0 && saved.Peak == nil {
		return b
	}

	b.contents = &contents{}
	b.done = l.byStatus(saved.Done)
	b.live = l.byStatus(saved.Live)
	b.liveIDs = saved.LiveIDs
	for i := range b.live {
		l.must(b.live[i].status.Live(), "operations in flight that are %s", b.live[i].status)
	}
	b.failing = l.operations(saved.Failing)
	if saved.Peak != nil {
		b.peak = &peak{
			operations: l.count(saved.Peak.Operations),
			Stats:      l.statsOf(saved.Peak.Stats),
			reached:    l.count(saved.Peak.Reached),
		}
	}

	l.must(len(saved.Live) == 0 || b.peak != nil, "a minute with operations in flight and no peak")
	return b
}

func (l *loader) byStatus(saved []savedTotals) byStatus {
	b := make(byStatus, 0, len(saved))
	for i := range saved {
		status := l.coded(saved[i].Status)
		*b.of(status) = l.totals(&saved[i])
	}
	l.must(len(b) == len(saved), "a minute with a status twice")
	return b
}

func (l *loader) snapshot(saved *savedSnapshot) *Snapshot {
	if saved == nil {
		return nil
	}
	s := &Snapshot{
		Time: saved.Time, Created: l.count(saved.Created), Grown: l.statsOf(saved.Grown),
		Failing: l.operations(saved.Failing), Stuck: l.operations(saved.Stuck), InFlight: l.operations(saved.InFlight),
		FailingNow: l.count(saved.FailingNow), AllStuck: l.count(saved.AllStuck),
		Bars: l.bars(saved.Bars), Minutes: l.bars(saved.Minutes), BarLength: saved.BarLength,
	}
	l.must(saved.BarLength >= 0 && saved.BarLength <= retention, "bars of %v", saved.BarLength)
	if oldest := l.operations(saved.OldestScheduled); len(oldest) > 0 {
		s.OldestScheduled = oldest[0]
	}

	for i := range saved.Statuses {
		sums := &saved.Statuses[i]
		s.Statuses = append(s.Statuses, StatusSums{
			Status: l.status(sums.Status), Totals: l.totals(&sums.Totals),
			OldestCreated: sums.OldestCreated, OldestUpdated: sums.OldestUpdated,
		})
	}
	for i, status := range documented {
		l.must(len(s.Statuses) > i && s.Statuses[i].Status == status, "a snapshot without %s", status)
	}
	return s
}

func (l *loader) bars(saved []savedBar) (bars []Bar) {
	l.must(len(saved) <= maxListed, "%d bars", len(saved))
	for i := range saved {
		bars = append(bars, Bar{saved[i].Start, l.totals(&saved[i].Totals)})
	}
	return bars
}

func (l *loader) operations(saved []savedOperation) (ops []*twilio.Operation) {
	l.must(len(saved) <= maxListed, "%d operations are named", len(saved))
	for i := range saved {
		op := &saved[i]
		l.id(op.ID)
		ops = append(ops, &twilio.Operation{
			ID: op.ID, Status: l.status(op.Status), Stats: l.statsOf(op.Stats),
			CreatedAt: op.CreatedAt, UpdatedAt: op.UpdatedAt,
		})
	}
	return ops
}

func (l *loader) id(id string) {
	l.must(twilio.IsName(id), "an operation %.100q", id)
}

func (l *loader) totals(saved *savedTotals) Totals {
	l.must(saved.Failing <= saved.Operations, "%d of %d operations are failing", saved.Failing, saved.Operations)
	return Totals{
		Operations: l.count(saved.Operations), Failing: l.count(saved.Failing), Stats: l.statsOf(saved.Stats),
	}
}

func (l *loader) statsOf(saved []int64) (s twilio.Stats) {
	l.must(len(saved) <= len(l.stats), "%d stats of %d", len(saved), len(l.stats))
	for i, n := range saved[:min(len(saved), len(l.stats))] {
		if stat := l.stats[i]; stat >= 0 {
			s[stat] = l.count(n)
		}
	}
	return s
}

func (l *loader) count(n int64) int64 {
	l.must(n >= 0, "a count of %d", n)
	return n
}
