package simulator

import (
	"maps"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"twilio_operations_exporter/twilio"
)

func TestWorldIsAFunctionOfSeedAndTime(t *testing.T) {
	a, b := MustWorld(smallWorld()), MustWorld(smallWorld())
	from := noon.Add(-2 * time.Hour)
	// In another order.
	for _, ago := range []time.Duration{0, time.Hour, time.Minute} {
		for op := range b.List(noon.Add(-ago), Filter{Status: twilio.StatusProcessing}, true) {
			if op.Status != twilio.StatusProcessing {
				t.Fatalf("asked for PROCESSING, got %+v", op)
			}
		}
	}

	want := slices.Collect(a.Operations(noon, from, noon))
	if got := slices.Collect(b.Operations(noon, from, noon)); !slices.Equal(got, want) {
		t.Error("two worlds of one seed differ")
	}
	if len(want) < 500 {
		t.Errorf("only %d operations in two hours at 6 a minute", len(want))
	}
	s := smallWorld()
	s.Seed++
	if slices.Equal(slices.Collect(MustWorld(s).Operations(noon, from, noon)), want) {
		t.Error("another seed gives the same world")
	}
}

func TestWorldListEqualsBruteForce(t *testing.T) {
	s := smallWorld()
	s.Troubles = []Trouble{{Kind: TroubleStuck, Share: 0.3, From: noon.Add(-time.Hour), To: noon.Add(-30 * time.Minute)}}
	w := MustWorld(s)
	clock := noon.Add(-90 * time.Minute)
	for step := range 100 {
		clock = clock.Add(111 * time.Second)
		if step%20 == 19 {
			clock = clock.Add(-20 * time.Minute)
		}
		from, to := clock.Add(-time.Duration(step)*90*time.Second), clock.Add(-time.Duration(step%7)*time.Minute)
		for _, status := range []twilio.Status{"", twilio.StatusScheduled, twilio.StatusProcessing, twilio.StatusCompleted, twilio.StatusCanceled} {
			var want []twilio.Operation
			for op := range w.Operations(clock, from, to) {
				if status == "" || op.Status == status {
					want = append(want, op)
				}
			}

			f := Filter{From: from, To: to, Status: status}
			if got := slices.Collect(w.List(clock, f, false)); !slices.Equal(got, want) {
				t.Fatalf("step %d, %q: %d operations, brute force has %d", step, status, len(got), len(want))
			}
			slices.Reverse(want)
			if got := slices.Collect(w.List(clock, f, true)); !slices.Equal(got, want) {
				t.Fatalf("step %d, %q, newest first: %d operations, brute force has %d", step, status, len(got), len(want))
			}
		}
	}
}

func TestWorldOperationsAreWellFormed(t *testing.T) {
	w := MustWorld(smallWorld())
	seen := map[string]bool{}
	var last twilio.Operation
	fractions, onSecond := 0, 0
	for op := range w.Operations(noon, noon.Add(-2*time.Hour), noon.Add(time.Hour)) {
		if !twilio.ValidOperationID(op.ID) || !strings.HasPrefix(op.ID, "comms_operation_0") {
			t.Fatalf("id %q", op.ID)
		}
		if seen[op.ID] {
			t.Fatalf("id %q occurs twice", op.ID)
		}
		seen[op.ID] = true
		if op.CreatedAt.Before(last.CreatedAt) || op.ID <= last.ID {
			t.Fatalf("%v %s comes after %v %s", op.CreatedAt, op.ID, last.CreatedAt, last.ID)
		}
		if op.CreatedAt.After(noon) || op.UpdatedAt.Before(op.CreatedAt) || op.UpdatedAt.After(noon) {
			t.Fatalf("created %v, updated %v, now %v", op.CreatedAt, op.UpdatedAt, noon)
		}
		if op.CreatedAt.Nanosecond() == 0 {
			onSecond++
		} else {
			fractions++
		}

		found, ok := w.Operation(noon, op.ID)
		if !ok || found != op {
			t.Fatalf("fetched %+v, %v, listed %+v", found, ok, op)
		}
		last = op
	}

	if fractions == 0 || onSecond < 10 {
		t.Errorf("%d creations on a whole second and %d between: both are wanted", onSecond, fractions)
	}
	for _, id := range []string{"", "comms_operation_", last.ID[:len(last.ID)-1], last.ID[:len(last.ID)-1] + "!", last.ID + "0", "comms_operation_0" + strings.Repeat("z", 25)} {
		if op, ok := w.Operation(noon, id); ok {
			t.Errorf("id %q finds %+v", id, op)
		}
	}

	if _, ok := w.Operation(noon.Add(-3*time.Hour), last.ID); ok {
		t.Error("an operation is there before it was created")
	}
	if _, ok := w.Operation(noon.Add(169*time.Hour), last.ID); ok {
		t.Error("an operation is there after the retention")
	}
}

var rank = map[twilio.Status]int{
	twilio.StatusScheduled: 0, twilio.StatusProcessing: 1, twilio.StatusCompleted: 2, twilio.StatusCanceled: 2,
}

// TestWorldMoves follows every operation of two hours through a day in small steps.
func TestWorldMoves(t *testing.T) {
	for _, includes := range []bool{false, true} {
		s := smallWorld()
		s.Rate = 3
		s.DeliveredIncludesRead = includes
		s.Until = noon
		s.Troubles = []Trouble{
			{Kind: TroubleStuck, Share: 0.1, From: noon.Add(-time.Hour), To: noon.Add(time.Hour)},
			{Kind: TroubleFailing, Share: 0.5, Rate: 0.5, From: noon.Add(-time.Hour), To: noon},
			{Kind: TroubleUnaddressable, Share: 0.2, Rate: 1, From: noon.Add(-time.Hour), To: noon},
		}

		w := MustWorld(s)
		before := map[string]twilio.Operation{}
		changes, late := 0, 0
		for clock := noon.Add(-2 * time.Hour); clock.Before(noon.Add(8 * time.Hour)); clock = clock.Add(97 * time.Second) {
			for op := range w.Operations(clock, s.Epoch, noon) {
				was, known := before[op.ID]
				before[op.ID] = op
				checkStats(t, op, includes)
				if !known {
					continue
				}
				if op.Status != was.Status || op.Stats != was.Stats {
					changes++
					if !op.UpdatedAt.After(was.UpdatedAt) {
						t.Fatalf("changed without an update:\n%+v\n%+v", was, op)
					}
					if was.Status == twilio.StatusCompleted {
						late++
					}
				}

				checkForward(t, was, op)
			}
		}

		if changes < 2_000 || late < 200 {
			t.Errorf("only %d changes, %d after the end", changes, late)
		}
		for _, op := range before {
			if op.Status.Live() {
				t.Fatalf("still live after everything: %+v", op)
			}
		}

		for _, status := range []twilio.Status{twilio.StatusCompleted, twilio.StatusCanceled} {
			if !slices.ContainsFunc(
				slices.Collect(maps.Values(before)),
				func(op twilio.Operation) bool { return op.Status == status },
			) {
				t.Errorf("no operation ended as %s", status)
			}
		}
	}
}

func checkStats(t *testing.T, op twilio.Operation, includes bool) {
	t.Helper()
	s := op.Stats
	for _, v := range []int64{s[twilio.Total], s[twilio.Recipients], s[twilio.Attempts], s[twilio.Unaddressable], s[twilio.Scheduled], s[twilio.Queued], s[twilio.Sent], s[twilio.Delivered], s[twilio.Read], s[twilio.Undelivered], s[twilio.Failed], s[twilio.Canceled]} {
		if v < 0 {
			t.Fatalf("negative: %+v", op)
		}
	}

	states := s[twilio.Unaddressable] + s[twilio.Scheduled] + s[twilio.Queued] + s[twilio.Sent] + s[twilio.Delivered] + s[twilio.Undelivered] + s[twilio.Failed] + s[twilio.Canceled]
	if !includes {
		states += s[twilio.Read]
	} else if s[twilio.Read] > s[twilio.Delivered] {
		t.Fatalf("more read than delivered: %+v", op)
	}

	switch group := s[twilio.Total] < s[twilio.Recipients]; {
	case !group && states != s[twilio.Total]:
		t.Fatalf("messages got lost or doubled, %d of %d: %+v", states, s[twilio.Total], op)
	case group && states > s[twilio.Total]:
		t.Fatalf("messages of a group doubled: %+v", op)
	case s[twilio.Recipients] < 1 || s[twilio.Total] < 1 || s[twilio.Unaddressable] > s[twilio.Recipients]:
		t.Fatalf("recipients: %+v", op)
	case s[twilio.Attempts] > 2*(s[twilio.Total]-s[twilio.Unaddressable]):
		t.Fatalf("attempts: %+v", op)
	case (op.Status == twilio.StatusScheduled) != (s[twilio.Scheduled] > 0):
		t.Fatalf("scheduled: %+v", op)
	case s[twilio.Queued] > 0 && op.Status != twilio.StatusProcessing:
		t.Fatalf("queued: %+v", op)
	case op.Status == twilio.StatusScheduled && s[twilio.Attempts] > 0:
		t.Fatalf("attempts before the start: %+v", op)
	}
}

func checkForward(t *testing.T, was, op twilio.Operation) {
	t.Helper()
	a, b := was.Stats, op.Stats
	if rank[op.Status] < rank[was.Status] || rank[was.Status] == 2 && op.Status != was.Status {
		t.Fatalf("status went back:\n%+v\n%+v", was, op)
	}
	if b[twilio.Attempts] < a[twilio.Attempts] || b[twilio.Failed] < a[twilio.Failed] || b[twilio.Undelivered] < a[twilio.Undelivered] || b[twilio.Read] < a[twilio.Read] ||
		b[twilio.Delivered]+b[twilio.Read] < a[twilio.Delivered]+a[twilio.Read] || b[twilio.Canceled] < a[twilio.Canceled] || b[twilio.Total] != a[twilio.Total] || b[twilio.Recipients] != a[twilio.Recipients] {
		t.Fatalf("a count that only grows fell:\n%+v\n%+v", was, op)
	}
	if rank[was.Status] > 0 && b[twilio.Queued] > a[twilio.Queued] {
		t.Fatalf("messages went back into the queue:\n%+v\n%+v", was, op)
	}
}

func TestWorldArrivals(t *testing.T) {
	day := 24 * time.Hour
	count := func(s WorldSettings, from, to time.Time) int {
		n := 0
		for range MustWorld(s).Operations(to, from, to) {
			n++
		}
		return n
	}

	for _, rate := range []float64{0, 0.25, 6, 70} {
		s := WorldSettings{Seed: 3, Rate: rate}
		want := rate * 24 * 60
		if got := float64(count(s, noon.Add(-day), noon)); math.Abs(got-want) > 5*math.Sqrt(want) {
			t.Errorf("rate %v: %v operations in a day", rate, got)
		}
		s.Uniform = true
		if got := float64(count(s, noon.Add(-day), noon)); got != want {
			t.Errorf("rate %v, uniform: %v operations in a day", rate, got)
		}
	}

	s := WorldSettings{Seed: 3, Rate: 60, Curve: DayCurve(0.5, 14)}
	peak := count(s, noon.Add(90*time.Minute), noon.Add(150*time.Minute))
	low := count(s, noon.Add(-11*time.Hour), noon.Add(-10*time.Hour))
	if peak < 5000 || low > 2000 {
		t.Errorf("%d operations at the peak hour, %d at the other end", peak, low)
	}
	s.Curve = Bursts(10, time.Hour, 5*time.Minute)
	burst := count(s, noon, noon.Add(5*time.Minute))
	rest := count(s, noon.Add(10*time.Minute), noon.Add(15*time.Minute))
	if burst < 2500 || rest > 400 {
		t.Errorf("%d operations in a burst, %d in as long a time without", burst, rest)
	}
	s = WorldSettings{Seed: 3, Rate: 200, Uniform: true, Epoch: noon.Add(-1000 * time.Minute), Until: noon}
	if got := count(s, time.Time{}, noon.Add(time.Hour)); got != 200_000 {
		t.Errorf("%d operations between epoch and end, want 200000", got)
	}
}

func TestWorldLifetime(t *testing.T) {
	s := WorldSettings{Rate: 30, Lifetime: 10 * time.Minute, LifetimeSpread: 0.5}
	w := MustWorld(s)
	live, n := 0.0, 60
	for k := range n {
		sums := w.Sums(noon.Add(time.Duration(k)*time.Minute), noon.Add(-time.Hour), noon.Add(48*time.Hour))
		live += float64(sums[twilio.StatusProcessing].Operations)
		if k%30 != 0 {
			continue
		}
		old := noon.Add(time.Duration(k)*time.Minute - 15*time.Minute - time.Millisecond)
		if stale := w.Sums(noon.Add(time.Duration(k)*time.Minute), time.Time{}, old)[twilio.StatusProcessing]; stale.Operations > 0 {
			t.Fatalf("%d operations are older than the longest lifetime", stale.Operations)
		}
	}

	// By Little's law, rate times lifetime are live.
	if mean := live / float64(n); math.Abs(mean-300) > 20 {
		t.Errorf("%v operations live on average, want 300", mean)
	}
}

func TestTrouble(t *testing.T) {
	s := DefaultWorldSettings()
	s.Rate, s.Epoch, s.ScheduledShare, s.BadShare, s.UnaddressableShare = 20, noon.Add(-4*time.Hour), 0, 0, 0
	share := func(sums Sums, of func(Sum) int64) float64 {
		var part, total int64
		for _, sum := range sums {
			part += of(sum)
			total += sum.Stats[twilio.Total]
		}
		return float64(part) / float64(total)
	}

	hour := func(w *World, now time.Time, k int) Sums {
		from := noon.Add(time.Duration(k) * time.Hour)
		return w.Sums(now, from, from.Add(time.Hour))
	}

	for _, tt := range []struct {
		kind TroubleKind
		of   func(Sum) int64
	}{
		{TroubleFailing, func(s Sum) int64 { return s.Stats[twilio.Failed] }},
		{TroubleUndelivered, func(s Sum) int64 { return s.Stats[twilio.Undelivered] }},
		{TroubleUnaddressable, func(s Sum) int64 { return s.Stats[twilio.Unaddressable] }},
	} {
		t.Run(string(tt.kind), func(t *testing.T) {
			w := MustWorld(s)
			before := slices.Collect(w.Operations(noon, noon.Add(-4*time.Hour), noon))
			if err := w.AddTrouble(Trouble{Kind: tt.kind, Share: 1, Rate: 0.2, From: noon}); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(slices.Collect(w.Operations(noon, noon.Add(-4*time.Hour), noon)), before) {
				t.Error("trouble from now on changed what was seen before")
			}
			end := noon.Add(time.Hour)
			seen := slices.Collect(w.Operations(end, noon.Add(-4*time.Hour), end))
			w.EndTrouble(end)
			if !slices.Equal(slices.Collect(w.Operations(end, noon.Add(-4*time.Hour), end)), seen) {
				t.Error("the end of trouble changed what was seen before")
			}
			later := noon.Add(12 * time.Hour)
			if x := share(hour(w, later, 0), tt.of); x < 0.18 || x > 0.24 {
				t.Errorf("a share of %.3f in trouble, want about 0.2", x)
			}
			if x := share(hour(w, later, 2), tt.of); x > 0.06 {
				t.Errorf("a share of %.3f after the trouble", x)
			}
		})
	}

	t.Run("stuck", func(t *testing.T) {
		w := MustWorld(s)
		if err := w.AddTrouble(Trouble{Kind: TroubleStuck, Share: 0.1, From: noon}); err != nil {
			t.Fatal(err)
		}
		end := noon.Add(3 * time.Hour)

		stuck := map[string]bool{}
		for op := range w.List(end, Filter{Status: twilio.StatusProcessing, To: end.Add(-10 * time.Minute)}, false) {
			stuck[op.ID] = true
			if op.UpdatedAt.After(op.CreatedAt.Add(10 * time.Minute)) {
				t.Errorf("stuck, but updated: %+v", op)
			}
		}

		if len(stuck) < 200 || len(stuck) > 500 {
			t.Errorf("%d of about 3400 operations are stuck, want a tenth", len(stuck))
		}
		w.EndTrouble(end)
		for id := range stuck {
			op, ok := w.Operation(end.Add(10*time.Minute), id)
			if !ok || op.Status.Live() || !op.UpdatedAt.After(end) {
				t.Fatalf("did not go on after the trouble: %+v, %v", op, ok)
			}
		}
	})

	t.Run("one campaign", func(t *testing.T) {
		quiet := s
		quiet.Rate = 0.1 // a campaign comes also where nobody else does
		quiet.Troubles = []Trouble{
			{Kind: TroubleFailing, Recipients: 1234, Rate: 0.5, From: noon, Every: time.Hour, For: time.Minute},
		}
		w := MustWorld(quiet)

		for k := range 5 {
			from := noon.Add(time.Duration(k) * time.Hour)
			ops := slices.Collect(w.Operations(noon.Add(12*time.Hour), from, from.Add(time.Minute)))
			if len(ops) == 0 || ops[0].Stats[twilio.Total] != 1234 || ops[0].Stats[twilio.Failed] != 617 {
				t.Errorf("hour %d: %+v", k, ops)
			}
		}
	})

	t.Run("recurring", func(t *testing.T) {
		w := MustWorld(s)
		trouble := Trouble{Kind: TroubleFailing, Share: 1, Rate: 1, From: noon, Every: 2 * time.Hour, For: time.Hour}
		if err := w.AddTrouble(trouble); err != nil {
			t.Fatal(err)
		}
		for k, want := range []bool{true, false, true, false} {
			if x := share(hour(w, noon.Add(12*time.Hour), k), func(s Sum) int64 { return s.Stats[twilio.Failed] }); (x > 0.5) != want {
				t.Errorf("hour %d: a share of %.3f failed", k, x)
			}
		}
	})
}

func TestWorldSettingsRefused(t *testing.T) {
	for name, change := range map[string]func(*WorldSettings){
		"rate":          func(s *WorldSettings) { s.Rate = -1 },
		"rate NaN":      func(s *WorldSettings) { s.Rate = math.NaN() },
		"retention":     func(s *WorldSettings) { s.Retention = time.Second },
		"lifetime":      func(s *WorldSettings) { s.Lifetime = -time.Second },
		"share":         func(s *WorldSettings) { s.ScheduledShare = 1.1 },
		"trouble kind":  func(s *WorldSettings) { s.Troubles = []Trouble{{Kind: "bad"}} },
		"trouble share": func(s *WorldSettings) { s.Troubles = []Trouble{{Kind: TroubleStuck, Share: 2}} },
		"trouble rate":  func(s *WorldSettings) { s.Troubles = []Trouble{{Kind: TroubleFailing, Rate: -1}} },
		"trouble length": func(s *WorldSettings) {
			s.Troubles = []Trouble{{Kind: TroubleStuck, Every: time.Minute, For: time.Hour}}
		},
		"trouble without a length": func(s *WorldSettings) { s.Troubles = []Trouble{{Kind: TroubleStuck, Every: time.Minute}} },
		"trouble of one, between minutes": func(s *WorldSettings) {
			s.Troubles = []Trouble{{Kind: TroubleStuck, Recipients: 1, Every: time.Second, For: 1}}
		},
	} {
		s := DefaultWorldSettings()
		change(&s)
		if _, err := NewWorld(s); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// TestWorldIsSmall checks that operations, in flight or not, take next to no memory.
func TestWorldIsSmall(t *testing.T) {
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}

	before := heap()
	w := MustWorld(WorldSettings{Rate: 100, Lifetime: time.Hour, ScheduledShare: 0.1})
	n, live := 0, 0
	for m := range int64(7 * 24 * 60) {
		n += w.count(noon.UnixMilli()/minuteMillis - m)
	}
	for range w.List(noon, Filter{Status: twilio.StatusProcessing}, true) {
		live++
	}
	if n < 1_000_000 || live < 5_500 {
		t.Fatalf("%d operations, %d live", n, live)
	}
	if after := heap(); after > before+2<<20 {
		t.Errorf("%d operations, %d live, take %d bytes", n, live, after-before)
	}
	runtime.KeepAlive(w)
}

func TestStatic(t *testing.T) {
	a, b, c := operationAt("a", noon), operationAt("b", noon.Add(-time.Second)), operationAt("c", noon)
	s := NewStatic(a, b, c)
	ids := func(f Filter, newestFirst bool) string {
		var all strings.Builder
		for op := range s.List(noon, f, newestFirst) {
			all.WriteString(op.ID)
		}
		return all.String()
	}

	got := ids(Filter{}, false) + " " + ids(Filter{}, true) + " " + ids(Filter{From: noon}, false) + " " + ids(Filter{To: noon}, false)
	if got != "bac cab ac b" {
		t.Errorf("listed %s", got)
	}
	s.Update("b", func(op *twilio.Operation) { op.Status = twilio.StatusCanceled; op.Stats[twilio.Total] = 7 })
	s.Update("x", func(*twilio.Operation) { t.Error("updated what is not there") })
	if got := ids(Filter{Status: twilio.StatusCanceled}, false); got != "b" {
		t.Errorf("canceled: %s", got)
	}
	if op, ok := s.Operation(noon, "b"); !ok || op.Stats[twilio.Total] != 7 {
		t.Errorf("fetched %+v, %v", op, ok)
	}
	if _, ok := s.Operation(noon, "x"); ok {
		t.Error("fetched what is not there")
	}

	for op := range s.List(noon, Filter{}, false) {
		s.Update("c", func(op *twilio.Operation) { op.Stats[twilio.Total] = 9 })
		if op.Stats[twilio.Total] == 9 {
			t.Error("a list that was begun before a change shows it")
		}
	}
}
