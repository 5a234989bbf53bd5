package window

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"twilio_operations_exporter/twilio"
)

// Each window has room of its own; what it needs beyond that it takes from the others, and gives it back.
func TestHeld(t *testing.T) {
	var one, other held
	steps := []struct {
		name string
		of   *held
		add  int // < 0: drop
		left int // of the shared room
		fail bool
	}{
		{"all of its own", &one, ownRoom, sharedRoom, false},
		{"all of its own, too", &other, ownRoom, sharedRoom, false},
		{"some that is shared", &one, 80_000, sharedRoom - 80_000, false},
		{"less", &one, -30_000, sharedRoom - 50_000, false},
		{"the rest of what is shared", &other, sharedRoom - 50_000, 0, false},
		{"too much", &one, 1, 0, true},
		{"all that it held", &one, -(ownRoom + 50_001), 50_000, false},
		{"what the first has given back", &other, 50_000, 0, false},
		{"all that the other held", &other, -(ownRoom + sharedRoom), sharedRoom, false},
	}
	for _, step := range steps {
		var err error
		if step.add < 0 {
			step.of.drop(-step.add)
		} else {
			err = step.of.add(step.add)
		}
		tooMany, failed := errors.AsType[*TooManyError](err)
		if failed != step.fail || failed && (!tooMany.Held || tooMany.Most != ownRoom+50_000) {
			t.Errorf("%s: error %v", step.name, err)
		}
		if !room.TryAcquire(int64(step.left)) {
			t.Fatalf("%s: less than %d are left", step.name, step.left)
		}
		if step.left < sharedRoom && room.TryAcquire(1) {
			t.Fatalf("%s: more than %d are left", step.name, step.left)
		}
		room.Release(int64(step.left))
	}
}

// Answers that are thrown away, as the API does not select by status, take no room any more.
func TestAnswersThrownAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &fakeAPI{unfiltered: true}
		api.fill(5, 4*time.Hour, func(i int) twilio.Status {
			if i%3 == 0 {
				return twilio.StatusProcessing
			}
			return twilio.StatusCompleted
		})
		w := New(testOptions())
		w.slide(w.options.Length, time.Now())
		r := &reader{
			api: api, progress: &Progress{}, options: w.options, now: time.Now(), began: time.Now(), paging: w.fullPage,
			mu: &w.mu, state: &w.state,
		}
		if err := r.ask(t.Context(), r.questions(span{w.first, open})); err != nil {
			t.Fatal(err)
		}
		if r.answered != nil || r.answers != nil || r.held.ids != 0 {
			t.Errorf("%d ids are held; answers %v", r.held.ids, r.answers)
		}
	})
}

// A first read whose first page does not tell how dense the rest is gets by with the room there is: it reads smaller pieces
// after each refresh that had too little. Once that is known, 4 workers have enough room of their own.
func TestFirstReadWithLittleRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if !room.TryAcquire(sharedRoom) {
			t.Fatal("another test holds some of the room")
		}
		defer room.Release(sharedRoom)
		o := testOptions()
		o.Length = 24 * time.Hour
		o.PageSize = 1000
		api := &fakeAPI{}
		api.between = func(twilio.Query, int) { <-time.After(100 * time.Millisecond) }
		api.fill(200, o.Length, allCompleted)
		quiet := api.clock().Add(-6 * time.Hour)
		api.byTime = slices.DeleteFunc(api.byTime, func(op *fakeOperation) bool {
			return op.CreatedAt.After(quiet) && op.CreatedAt.Second() > 0
		})
		w := New(o)

		tries := 1
		for w.Refresh(t.Context(), api, &Progress{}) != nil {
			tries++
			if tries > 4 {
				t.Fatal("it does not get by")
			}
			<-time.After(o.Interval)
		}
		if tries == 1 {
			t.Error("there was room enough: this test tests nothing")
		}
		if got, want := w.Snapshot().Operations(), api.since(w.first); got != want {
			t.Errorf("%d operations, want %d", got, want)
		}

		w.options.MaxStaleness = 0
		refreshed(t, w, api) // the whole window
	})
}
