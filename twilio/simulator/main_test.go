package simulator

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"twilio_operations_exporter/twilio"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// noon is a time that tests agree on.
var noon = time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)

func at(t time.Time) func() time.Time { return func() time.Time { return t } }

// smallWorld returns a world of two hours with a little of everything.
func smallWorld() WorldSettings {
	s := DefaultWorldSettings()
	s.Rate = 6
	s.Epoch = noon.Add(-2 * time.Hour)
	s.ScheduledAhead = time.Hour
	s.CanceledShare = 0.1
	s.MaxRecipients = 500
	s.LateShare = 0.1
	s.LateFor = 30 * time.Minute
	return s
}

func operationAt(id string, created time.Time) twilio.Operation {
	return twilio.Operation{ID: id, Status: twilio.StatusCompleted, CreatedAt: created, UpdatedAt: created}
}
