package window

import "testing"

// restarted is the window of a program that starts with what another has left.
func restarted(t *testing.T, o Options, left State) *Window {
	t.Helper()
	w, err := Restore(o, left)
	if err != nil {
		t.Fatal(err)
	}
	return w
}
