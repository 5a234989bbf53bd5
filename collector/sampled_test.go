package collector

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"twilio_operations_exporter/twilio"
)

func lossy(id string, lost int64) *twilio.Operation {
	return &twilio.Operation{ID: id, Stats: twilio.Stats{twilio.Total: 1000, twilio.Failed: lost}}
}

func total(counts []ErrorCount) (n int64) {
	for _, c := range counts {
		n += c.Count
	}
	return n
}

// TestSampledCountsOnce checks that a message counts once in the account's errors, however often it is looked up, and
// that a look-up replaces the previous one.
func TestSampledCountsOnce(t *testing.T) {
	at := time.Unix(1e9, 0)
	op := lossy("a", 100)
	message := func(id, code string) SampledMessage { return SampledMessage{ID: id, Code: code, Channel: "SMS"} }
	s := Sampled{}.with(op, []SampledMessage{message("1", "30007"), message("2", NoError)}, at)
	s = s.with(lossy("a", 200), []SampledMessage{message("2", "30003"), message("3", "30003")}, at.Add(time.Hour))
	s = s.with(lossy("a", 400), []SampledMessage{message("1", "30007")}, at.Add(2*time.Hour))
	if total(s.Errors) != 3 {
		t.Errorf("three messages count %d times: %+v", total(s.Errors), s.Errors)
	}
	found, _ := s.Operation("a")
	if len(s.Operations) != 1 || found.Lost != 400 || !slices.Equal(found.Messages, []string{"1"}) || total(found.Errors) != 1 {
		t.Errorf("%+v", s.Operations)
	}

	s = s.with(lossy("a", 800), nil, at.Add(3*time.Hour))
	found, _ = s.Operation("a")
	if found.Empty != 1 || len(found.Messages) != 1 || found.Lost != 400 || !found.At.Equal(at.Add(3*time.Hour)) {
		t.Errorf("after nothing was found: %+v", found)
	}
	s = s.with(lossy("a", 800), []SampledMessage{message("4", "30005")}, at.Add(4*time.Hour))
	if found, _ = s.Operation("a"); found.Empty != 0 || found.Lost != 800 {
		t.Errorf("after something was found: %+v", found)
	}
}

// TestSampledForgets checks that results are kept while an operation is named, and a little longer.
func TestSampledForgets(t *testing.T) {
	at := time.Unix(1e9, 0)
	named, other := lossy("a", 100), lossy("b", 100)
	s := Sampled{}
	for _, op := range []*twilio.Operation{named, other} {
		s = s.with(op, []SampledMessage{{ID: op.ID, Code: "1", Channel: "SMS"}}, at)
	}

	for after, want := range map[time.Duration]int{time.Minute: 2, forgetAfter: 1, 24 * time.Hour: 1, -24 * time.Hour: 1} {
		got := s.only([]*twilio.Operation{named}, at.Add(after))
		if _, kept := got.Operation("a"); len(got.Operations) != want || !kept || total(got.Errors) != 2 {
			t.Errorf("after %v: %+v", after, got)
		}
	}

	if len(s.Operations) != 2 {
		t.Error("what is replaced has changed")
	}
}

func TestSampledTexts(t *testing.T) {
	messages := []SampledMessage{
		{ID: "1", Code: "30007", Channel: "SMS", Text: "Message filtered"},
		{ID: "2", Code: "30007", Channel: "SMS", Text: "Message filtered"},
		{ID: "3", Code: "30003", Channel: "SMS", Text: "one says this"},
		{ID: "4", Code: "30003", Channel: "SMS", Text: "the other that"},
		{ID: "5", Code: "30003", Channel: "SMS", Text: "one says this"},
		{ID: "6", Code: "30005", Channel: "SMS", Text: "said once"},
	}

	s := Sampled{}.with(lossy("a", 100), messages, time.Now())
	found, _ := s.Operation("a")
	texts := map[string]string{}
	for _, e := range found.Errors {
		texts[e.Code] = e.Text
	}
	if texts["30007"] != "Message filtered" || texts["30003"] != "" || texts["30005"] != "" {
		t.Errorf("texts %q", texts)
	}

	for _, e := range s.Errors {
		if e.Text != "" {
			t.Errorf("the account's errors have the text %q", e.Text)
		}
	}
}

func TestSampledLimits(t *testing.T) {
	s := Sampled{}
	for op := range 10 {
		var messages []SampledMessage
		for m := range 20 {
			messages = append(messages, SampledMessage{
				ID: fmt.Sprint(op, "-", m), Code: strconv.Itoa(10_000 + 20*op + m), Channel: "SMS",
			})
		}
		if op > 4 { // after the account's errors have reached their limit
			messages[0].Code, messages[0].Channel = twilio.Other, twilio.Other
		}
		s = s.with(lossy(strconv.Itoa(op), 100), messages, time.Now())
	}

	for _, op := range s.Operations {
		if len(op.Errors) > maxOperationErrors+1 || total(op.Errors) != 20 {
			t.Errorf("%d codes of %d messages", len(op.Errors), total(op.Errors))
		}
	}
	if len(s.Errors) > maxAccountErrors+1 || total(s.Errors) != 200 {
		t.Errorf("%d codes of %d messages", len(s.Errors), total(s.Errors))
	}
	if len(s.Errors) != maxAccountErrors+1 || len(s.Operations[0].Errors) != maxOperationErrors+1 {
		t.Fatal("the limits are not reached")
	}
	if err := s.check(); err != nil {
		t.Errorf("a restart would refuse it: %v", err)
	}
}

func TestTagLabel(t *testing.T) {
	for key, want := range map[string]string{
		"campaign":    "tag_campaign",
		"cost-center": "tag_cost_center",
		"azAZ09_":     "tag_azAZ09_",
		"`{/:@[ é":    "tag_________",
	} {
		if got := TagLabel(key); got != want {
			t.Errorf("%q: %s, want %s", key, got, want)
		}
	}
}
