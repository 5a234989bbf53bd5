package window

import (
	"bytes"
	"compress/gzip"
	"encoding/gob"
	"slices"
	"sync"
	"time"

	"twilio_operations_exporter/twilio"
)

// A state's bytes are a first line with the version of the format, and savedState in gob, compressed. JSON takes as long to
// write, a fifth more space, and five times as long to read, and what is read would be checked in the same way.
const stateHeader = "twilio_operations_exporter window 1\n"

// savedState is what is written of a State.
type savedState struct {
	Clock time.Duration
	Wall  time.Time
	// Stats are the names of the stats of which this has numbers, in their order: programs of other versions may have
	// others.
	Stats        []string
	Undocumented []twilio.Status

	First   minute
	Minutes []savedMinute

	Skew          time.Duration
	Churn         int
	RequestedPage int
	FullPage      float64
	PiecePages    int
	BrokenDensity float64
	Unfiltered    time.Duration

	ReadReplacesDelivered bool
	ReadKeepsDelivered    bool

	Published bool
	Newest    minute
	Created   int64
	Grown     []int64
	Snapshot  *savedSnapshot
}

// savedMinute is what is written of a bucket.
type savedMinute struct {
	ReadAt   time.Duration
	Dirty    bool
	Baseline bool
	Done     []savedTotals
	Live     []savedTotals
	LiveIDs  uint64
	Failing  []savedOperation
	Peak     *savedPeak
}

// savedTotals is what is written of Totals. Stats leave off zeros at their end.
type savedTotals struct {
	Status     int // the code of the status in a minute, see statusNames.code; 0 elsewhere
	Operations int64
	Failing    int64
	Stats      []int64
}

type savedPeak struct {
	Operations int64
	Stats      []int64
	Reached    int64
}

type savedOperation struct {
	ID        string
	Status    twilio.Status
	Stats     []int64
	CreatedAt time.Time
	UpdatedAt time.Time
}

// savedSnapshot is what is written of a Snapshot.
type savedSnapshot struct {
	Time       time.Time
	Statuses   []savedStatus
	Created    int64
	Grown      []int64
	Failing    []savedOperation
	Stuck      []savedOperation
	InFlight   []savedOperation
	FailingNow int64
	AllStuck   int64

	OldestScheduled []savedOperation // one, or none

	Bars      []savedBar
	Minutes   []savedBar
	BarLength time.Duration
}

type savedStatus struct {
	Status        twilio.Status
	Totals        savedTotals
	OldestCreated time.Time
	OldestUpdated time.Time
}

type savedBar struct {
	Start  time.Time
	Totals savedTotals
}

// compressors are used again: each takes a megabyte.
var compressors = sync.Pool{New: func() any {
	z, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed) // the level is right
	return z
}}

// MarshalBinary returns the state as bytes.
func (s State) MarshalBinary() ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(stateHeader)
	z, _ := compressors.Get().(*gzip.Writer)
	defer compressors.Put(z)
	z.Reset(&b)

	err := gob.NewEncoder(z).Encode(s.save())
	if err == nil {
		err = z.Close()
	}
	return b.Bytes(), err
}

// save makes what is written of a state.
func (s *State) save() *savedState {
	saved := &savedState{
		Clock: s.clock, Wall: s.wall, Stats: statNames(), Undocumented: s.statuses,
		First: s.first, Minutes: make([]savedMinute, len(s.buckets)),
		Skew: s.skew, Churn: s.churn, RequestedPage: s.requestedPage, FullPage: float64(s.fullPage), PiecePages: s.piecePages,
		BrokenDensity: s.brokenDensity, Unfiltered: s.unfiltered,
		ReadReplacesDelivered: s.receipts.readReplacesDelivered, ReadKeepsDelivered: s.receipts.readKeepsDelivered,
		Published: s.published, Newest: s.newest, Created: s.created, Grown: saveStats(&s.grown), Snapshot: s.snapshot.save(),
	}
	var worst ranking
	for i := range slices.Backward(s.buckets) {
		saved.Minutes[i] = s.buckets[i].save(&s.statuses, &worst)
	}
	return saved
}

// amongWorst returns the operations of a minute, which are sorted byLost, that are among the worst of it and of the minutes
// after it. Another is named by no snapshot to come: as long as it is in the window, so are those.
func amongWorst(failing ranking, worst *ranking) (kept ranking) {
	for _, op := range failing {
		if worst.add(op, maxNamed, byLost) != nil {
			kept = append(kept, op)
		}
	}
	return kept
}

func (b *bucket) save(names *statusNames, worst *ranking) savedMinute {
	saved := savedMinute{ReadAt: b.readAt, Dirty: b.dirty, Baseline: b.baseline}
	if b.contents == nil {
		return saved
	}

	saved.Done = saveByStatus(b.done, names)
	saved.Live = saveByStatus(b.live, names)
	saved.LiveIDs = b.liveIDs
	saved.Failing = saveOperations(amongWorst(b.failing, worst))
	if b.peak != nil {
		saved.Peak = &savedPeak{Operations: b.peak.operations, Stats: saveStats(&b.peak.Stats), Reached: b.peak.reached}
	}
	return saved
}

func (s *Snapshot) save() *savedSnapshot {
	if s == nil {
		return nil
	}

	saved := &savedSnapshot{
		Time:       s.Time,
		Created:    s.Created,
		Grown:      saveStats(&s.Grown),
		Failing:    saveOperations(s.Failing),
		Stuck:      saveOperations(s.Stuck),
		InFlight:   saveOperations(s.InFlight),
		FailingNow: s.FailingNow,
		AllStuck:   s.AllStuck,
		Bars:       saveBars(s.Bars),
		Minutes:    saveBars(s.Minutes),
		BarLength:  s.BarLength,
	}

	if s.OldestScheduled != nil {
		saved.OldestScheduled = saveOperations([]*twilio.Operation{s.OldestScheduled})
	}

	for i := range s.Statuses {
		sums := &s.Statuses[i]
		saved.Statuses = append(saved.Statuses, savedStatus{
			Status:        sums.Status,
			Totals:        saveTotals(0, &sums.Totals),
			OldestCreated: sums.OldestCreated,
			OldestUpdated: sums.OldestUpdated,
		})
	}
	return saved
}

func saveBars(bars []Bar) []savedBar {
	saved := make([]savedBar, len(bars))
	for i := range bars {
		saved[i] = savedBar{bars[i].Start, saveTotals(0, &bars[i].Totals)}
	}
	return saved
}

func saveByStatus(b byStatus, names *statusNames) []savedTotals {
	saved := make([]savedTotals, len(b))
	for i := range b {
		saved[i] = saveTotals(names.code(b[i].status), &b[i].Totals)
	}
	return saved
}

func saveTotals(status int, t *Totals) savedTotals {
	return savedTotals{Status: status, Operations: t.Operations, Failing: t.Failing, Stats: saveStats(&t.Stats)}
}

func saveOperations(ops []*twilio.Operation) []savedOperation {
	saved := make([]savedOperation, len(ops))
	for i, op := range ops {
		saved[i] = savedOperation{op.ID, op.Status, saveStats(&op.Stats), op.CreatedAt, op.UpdatedAt}
	}
	return saved
}

// saveStats shares the memory of the stats.
func saveStats(s *twilio.Stats) []int64 {
	n := len(s)
	for n > 0 && s[n-1] == 0 {
		n--
	}
	return s[:n]
}

// statNames are the names of the stats, in order.
func statNames() []string {
	names := make([]string, len(twilio.MessageStats))
	for i := range names {
		names[i] = twilio.MessageStats[i].Name
	}
	return names
}

// code is what stands for a status under which operations count: its place among the documented ones, StatusOther and the
// undocumented ones, in this order.
func (n *statusNames) code(s twilio.Status) int {
	if i := slices.Index(documented, s); i >= 0 {
		return i
	}
	if i := slices.Index(*n, s); i >= 0 {
		return len(documented) + 1 + i
	}
	return len(documented)
}
