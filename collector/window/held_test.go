package window

import (
	"errors"
	"testing"
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
		{"some that is shared", &one, 100_000, sharedRoom - 100_000, false},
		{"less", &one, -50_000, sharedRoom - 50_000, false},
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
