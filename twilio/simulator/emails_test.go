package simulator

import (
	"testing"
	"time"

	"twilio_operations_exporter/twilio"
)

// TestDemoEmails holds that the demo's e-mails always show a campaign of the last hour that has failed, and that nothing
// e-mails do not have occurs.
func TestDemoEmails(t *testing.T) {
	world := MustWorld(DemoEmailWorld())
	sent := false
	for now := noon; now.Before(noon.Add(24 * time.Hour)); now = now.Add(17 * time.Minute) {
		failing := 0
		for op := range world.Operations(now, now.Add(-time.Hour), now) {
			s := &op.Stats
			lost := s[twilio.Failed] + s[twilio.Undelivered]
			if s[twilio.Total] >= 1000 && 10*lost >= s[twilio.Total] {
				failing++
			}
			if s[twilio.Unaddressable] != 0 || s[twilio.Attempts] > s[twilio.Total] {
				t.Fatalf("%+v", op)
			}
			if s[twilio.Sent] < s[twilio.Delivered] || s[twilio.Delivered] < s[twilio.Read] {
				t.Fatalf("what is delivered does not count as sent, or what is read not as delivered: %+v", op)
			}
			sent = sent || s[twilio.Sent] > s[twilio.Delivered]
		}
		if failing == 0 {
			t.Errorf("no campaign has failed in the hour before %v", now)
		}
	}
	if !sent {
		t.Error("nothing is under way")
	}
}
