package twilio

import "testing"

func TestStatusLive(t *testing.T) {
	for status, want := range map[Status]bool{
		StatusScheduled: true, StatusProcessing: true, StatusCompleted: false, StatusCanceled: false, "PAUSED": false,
	} {
		if got := status.Live(); got != want {
			t.Errorf("%s: %v, want %v", status, got, want)
		}
	}
}
