package collector

import (
	"iter"
	"slices"
	"strings"
	"time"

	"twilio_operations_exporter/twilio"
)

// minute numbers the minutes since the Unix epoch, in UTC.
type minute int64

const newest = minute(1<<63 - 1) // the end of a span that has none

func minuteOf(t time.Time) minute {
	s := t.Unix()
	if s < 0 {
		s -= 59 // round down before the epoch, too
	}
	return minute(s / 60)
}

func (m minute) time() time.Time { return time.Unix(int64(m)*60, 0).UTC() }

// tally sums operations.
type tally struct {
	operations int64
	failing    int64
	stats      twilio.Stats
}

// An operation fails as a campaign when it is large enough to judge and a
// tenth of it did not arrive.
const (
	failingMessages = 100
	failingOneIn    = 10
)

// unsuccessful counts the messages of an operation that will not arrive.
func unsuccessful(s *twilio.Stats) int64 { return s.Failed + s.Undelivered }

func failing(s *twilio.Stats) bool {
	return s.Total >= failingMessages && unsuccessful(s)*failingOneIn >= s.Total
}

func (t *tally) add(s *twilio.Stats) {
	t.operations++
	if failing(s) {
		t.failing++
	}
	t.stats.Add(s)
}

func (t *tally) merge(o *tally) {
	t.operations += o.operations
	t.failing += o.failing
	t.stats.Add(&o.stats)
}

// statuses gives every status a small number. The documented ones come first;
// an undocumented one gets its number when it is first met and keeps it, so
// that its series does not change hands.
type statuses struct{ names []twilio.Status }

const (
	undocumentedStatuses = 16
	otherStatus          = twilio.Status("other")
)

var documentedStatuses = []twilio.Status{
	twilio.StatusScheduled, twilio.StatusProcessing, twilio.StatusCompleted, twilio.StatusCanceled,
}

func newStatuses() *statuses {
	return &statuses{names: slices.Clone(documentedStatuses)}
}

func (s *statuses) number(name twilio.Status) uint8 {
	if i := slices.Index(s.names, name); i >= 0 {
		return uint8(i) //nolint:gosec // at most 21 names
	}
	// A label must be valid UTF-8.
	if valid := twilio.Status(strings.ToValidUTF8(string(name), "\uFFFD")); valid != name {
		return s.number(valid)
	}
	if len(s.names) >= len(documentedStatuses)+undocumentedStatuses && name != otherStatus {
		return s.number(otherStatus)
	}
	s.names = append(s.names, name)
	return uint8(len(s.names) - 1) //nolint:gosec // at most 21 names
}

// statusTally is the tally of one status in one minute.
type statusTally struct {
	status uint8
	tally
}

// tallies holds the statuses that occur, and no others.
type tallies []statusTally

func (ts *tallies) of(status uint8) *tally {
	for i := range *ts {
		if (*ts)[i].status == status {
			return &(*ts)[i].tally
		}
	}
	*ts = append(*ts, statusTally{status: status})
	return &(*ts)[len(*ts)-1].tally
}

// liveOperation is an operation that is still on its way.
type liveOperation struct {
	twilio.Operation
	seen int // number of the refresh that met it last
}

// sums are what is known of the operations created within one minute.
type sums struct {
	// read is the start of the refresh that read the minute last, on the
	// local clock's monotonic scale (window.epoch); never is -1.
	read time.Duration
	// settled sums the operations that were not live when the minute was read.
	settled tallies
	// live holds those that are, by id.
	live map[string]*liveOperation
	// highest is the most that each counter's stat has come to, or nil where
	// that is the sum of settled and nothing is live.
	highest *growth
	// marked says that the minute is to be read whatever its age: what settled
	// holds is known to be wrong.
	marked bool
	// baseline says that what is in the minute at the next publication was
	// there before counting began.
	baseline bool
}

const never = time.Duration(-1)

// noted is how many operations are noted by id in each list that names some.
const noted = 5

// worstKept is how many of the operations that fail worst a window remembers,
// so that enough are left to be noted as some of them leave.
const worstKept = 10 * noted

// pin keeps the highest before what it is derived from changes.
func (s *sums) pin() {
	if s.highest == nil {
		s.highest = new(growth)
		for i := range s.settled {
			s.highest.add(&s.settled[i].stats)
		}
	}
}

func (s *sums) operations() int {
	n := len(s.live)
	for i := range s.settled {
		n += int(s.settled[i].operations)
	}
	return n
}

// window holds the sums of each minute of creation from first on. It is not
// safe for concurrent use: a refresh owns it.
type window struct {
	length    time.Duration
	epoch     time.Time // zero of sums.read
	first     minute
	minutes   []sums
	statuses  *statuses
	published bool
	worst     []twilio.Operation // settled ones, worst first
	grown     growth             // the counters
}

// maxAhead bounds how far beyond now minutes are kept apart. Operations
// created later than that, by a clock gone wrong, share the last one.
const maxAhead = minute(24 * 60)

func newWindow(length time.Duration, epoch time.Time) *window {
	return &window{length: length, epoch: epoch, statuses: newStatuses()}
}

// end is the minute after the last one kept.
func (w *window) end() minute { return w.first + minute(len(w.minutes)) }

// at returns the sums of a minute, or nil where the window does not hold it.
func (w *window) at(m minute) *sums {
	if m < w.first || m >= w.end() {
		return nil
	}
	return &w.minutes[m-w.first]
}

// slide moves the window to end at now. Minutes that leave are forgotten.
// Minutes that come in at the old end, because the API's clock turned out to be
// behind, count as having been there from the start.
func (w *window) slide(now time.Time) {
	first, last := minuteOf(now.Add(-w.length)), minuteOf(now)
	w.worst = slices.DeleteFunc(w.worst, func(op twilio.Operation) bool { return minuteOf(op.CreatedAt) < first })
	if len(w.minutes) == 0 || first >= w.end() || last < w.first {
		back := last < w.first && w.published
		w.first, w.minutes = first, make([]sums, 0, last-first+2)
		w.extend(last)
		for i := range w.minutes {
			w.minutes[i].baseline = back
		}
		return
	}
	if first > w.first {
		w.minutes = slices.Delete(w.minutes, 0, int(first-w.first))
		w.first = first
	} else if first < w.first {
		older := make([]sums, w.first-first, int(w.first-first)+len(w.minutes))
		for i := range older {
			older[i] = sums{read: never, baseline: w.published}
		}
		w.minutes = append(older, w.minutes...)
		w.first = first
	}
	w.extend(last)
	if limit := last + maxAhead; w.end() > limit+1 {
		w.minutes = slices.Delete(w.minutes, int(limit+1-w.first), len(w.minutes))
	}
}

// hold makes the window hold minute m. The farthest there can be goes on with
// the clock, and what is in it would be counted at every step.
func (w *window) hold(m, now minute) {
	w.extend(m)
	if m == now+maxAhead {
		w.minutes[m-w.first].baseline = true
	}
}

// extend makes the window hold minute m and those before it.
func (w *window) extend(m minute) {
	for w.end() <= m {
		w.minutes = append(w.minutes, sums{read: never})
	}
}

// each goes through the minutes of a span that the window holds.
func (w *window) each(s span) iter.Seq2[minute, *sums] {
	return func(yield func(minute, *sums) bool) {
		for m := max(s.from, w.first); m < min(s.to, w.end()); m++ {
			if !yield(m, &w.minutes[m-w.first]) {
				return
			}
		}
	}
}

// place is the minute an operation counts in, which the window then holds;
// false where that is before the window.
func (w *window) place(created time.Time, now minute) (minute, bool) {
	m := minuteOf(created)
	if m < w.first {
		return m, false
	}
	m = min(m, now+maxAhead)
	w.hold(m, now)
	return m, true
}

// join takes an operation that the API just called live into the live set and
// marks its minute when that may hold the operation as something else.
func (w *window) join(op *twilio.Operation, now minute, refresh int) {
	m, ok := w.place(op.CreatedAt, now)
	if !ok {
		return
	}
	s := w.at(m)
	if known, ok := s.live[op.ID]; ok {
		known.Operation, known.seen = *op, refresh
		return
	}
	s.marked = s.marked || s.read != never
	s.enliven(op, refresh)
}

func (s *sums) enliven(op *twilio.Operation, refresh int) {
	s.pin()
	if s.live == nil {
		s.live = make(map[string]*liveOperation)
	}
	s.live[op.ID] = &liveOperation{Operation: *op, seen: refresh}
}

// leave drops the live operations that this refresh has not met, and marks
// their minutes: they stand there as something else now.
func (w *window) leave(refresh int) {
	for i := range w.minutes {
		s := &w.minutes[i]
		for id, op := range s.live {
			if op.seen != refresh {
				delete(s.live, id)
				s.marked = true
			}
		}
		s.shrink()
	}
}

func (s *sums) shrink() {
	if len(s.live) == 0 {
		s.live = nil // a map keeps the room of all it ever held
	}
}

// finish replaces what is known of a minute by what a refresh read of it; r is
// nil where there was nothing.
func (w *window) finish(m minute, r *minuteRead, started time.Duration, refresh int) {
	s := &w.minutes[m-w.first]
	s.pin()
	s.read, s.marked = started, false
	if r == nil {
		r = &minuteRead{}
	}
	s.settled = slices.Clip(r.settled)
	w.worst = slices.DeleteFunc(w.worst, func(op twilio.Operation) bool { return minuteOf(op.CreatedAt) == m })
	for i := range r.worst {
		w.worst = keepWorst(w.worst, &r.worst[i], worstKept)
	}
	for id, op := range s.live {
		_, met := r.ids[id]
		_, live := r.live[id]
		if met && !live || !met && op.seen != refresh {
			delete(s.live, id)
		}
	}
	for _, op := range r.live {
		s.enliven(&op, refresh)
	}
	s.shrink()
}

// minuteRead gathers the operations of one minute while it is being read.
type minuteRead struct {
	ids     map[string]struct{}
	settled tallies
	live    map[string]twilio.Operation
	worst   []twilio.Operation
}

func newMinuteRead() *minuteRead {
	return &minuteRead{ids: make(map[string]struct{})}
}

// add counts an operation, once: met again, it counts only if it has settled
// since. It reports whether the operation was new.
func (r *minuteRead) add(op *twilio.Operation, st *statuses) bool {
	_, again := r.ids[op.ID]
	_, wasLive := r.live[op.ID]
	if again && !wasLive {
		return false
	}
	r.ids[op.ID] = struct{}{}
	if op.Status.Live() {
		if r.live == nil {
			r.live = make(map[string]twilio.Operation)
		}
		r.live[op.ID] = *op
		return !again
	}
	delete(r.live, op.ID)
	r.settled.of(st.number(op.Status)).add(&op.Stats)
	if failing(&op.Stats) {
		r.worst = keepWorst(r.worst, op, noted)
	}
	return !again
}

// publish moves the counters: for each minute, by what its sums exceed the
// highest they have been.
func (w *window) publish() {
	for i := range w.minutes {
		s := &w.minutes[i]
		if s.highest == nil {
			continue
		}
		var settled, total growth
		for j := range s.settled {
			settled.add(&s.settled[j].stats)
		}
		total = settled
		for _, op := range s.live {
			total.add(&op.Stats)
		}
		for j := range total {
			excess := max(0, total[j]-s.highest[j])
			s.highest[j] += excess
			if w.published && !s.baseline {
				w.grown[j] += excess
			}
		}
		s.baseline = false
		if s.live == nil && *s.highest == settled {
			s.highest = nil
		}
	}
	w.published = true
}
