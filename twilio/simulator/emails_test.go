package simulator

import (
	"testing"
	"time"

	"twilio_operations_exporter/twilio"
)

// TestDemoEmails checks that no e-mail campaign of the last hour fails while the demo runs, that some failed in the
// week before, and that nothing occurs that e-mails do not have.
func TestDemoEmails(t *testing.T) {
	start := noon.Add(12 * time.Hour)
	world := MustWorld(DemoEmailWorld(start))
	sent, before := false, 0
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

		switch {
		case now.Before(start):
			before += failing
		case failing > 0:
			t.Errorf("a campaign has failed in the hour before %v", now)
		}
	}

	if before == 0 {
		t.Error("no campaign failed before the start")
	}
	if !sent {
		t.Error("nothing is under way")
	}
}
