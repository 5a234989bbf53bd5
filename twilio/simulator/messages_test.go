package simulator

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"twilio_operations_exporter/twilio"
)

const exampleMessageID = "comms_message_01h2xcejqtf2nbrexx3vqjhp41000000007"

// A jsonMessage is a message decoded by encoding/json.
type jsonMessage struct {
	ID, Status string
	Related    []struct{ Name, ID string }
	Tags       map[string]string
	To         []struct{ Address string }
	Content    *struct{ Text string }
	Attempts   []struct {
		From   struct{ Channel string }
		Status string
		Error  json.RawMessage
	}
}

// operation returns the operation that the message is related to.
func (m *jsonMessage) operation() string {
	for _, related := range m.Related {
		if related.Name == "OPERATION" {
			return related.ID
		}
	}
	return ""
}

// codes returns the error codes of the attempts, by channel.
func (m *jsonMessage) codes(t *testing.T) (codes []string) {
	t.Helper()
	for _, a := range m.Attempts {
		var e *struct{ Code int }
		if a.Error != nil {
			if err := json.Unmarshal(a.Error, &e); err != nil {
				t.Fatal(err)
			}
		}
		if e != nil {
			codes = append(codes, a.From.Channel+" "+strconv.Itoa(e.Code))
		}
	}
	return codes
}

// fetchJSON decodes the answer to a request.
func fetchJSON(t *testing.T, h http.Handler, target string, to any) {
	t.Helper()
	w := get(h, target)
	if w.Code != http.StatusOK {
		t.Fatalf("%s: %d %s", target, w.Code, w.Body)
	}
	if err := json.Unmarshal(w.Body.Bytes(), to); err != nil {
		t.Fatalf("%s: %v in %s", target, err, w.Body)
	}
}

// readMessages reads a list of messages to its end.
func readMessages(t *testing.T, h http.Handler, q url.Values) (all []jsonMessage) {
	t.Helper()
	for range 10_000 {
		var page struct {
			Messages   []jsonMessage
			Pagination struct{ Next *string }
		}
		fetchJSON(t, h, "/v1/Messages?"+q.Encode(), &page)
		all = append(all, page.Messages...)
		if page.Pagination.Next == nil || *page.Pagination.Next == "" {
			return all
		}
		q.Set("pageToken", *page.Pagination.Next)
	}

	t.Fatal("the list does not end")
	return nil
}

// TestMessagesFollowTheStats checks that lists of an operation's messages have as many of each status as its stats say,
// and that the list of all messages has those of all operations.
func TestMessagesFollowTheStats(t *testing.T) {
	settings := smallWorld()
	settings.MaxRecipients = 40
	settings.FallbackShare = 0.5
	settings.GroupShare = 0
	settings.FailedShare, settings.UndeliveredShare = 0.1, 0.1
	for _, includes := range []bool{false, true} {
		settings.DeliveredIncludesRead = includes
		world := MustWorld(settings)
		for _, list := range []ListSettings{{}, {PageCap: 7, AwkwardTokens: true, LastNext: LastEmpty, EmptyPages: true}} {
			h := NewHandler(world, Settings{Now: at(noon), List: list})
			since := noon.Add(-time.Hour)
			all := 0
			for op := range world.Operations(noon, since, noon.Add(time.Millisecond)) {
				counts := map[string]int64{}
				ids := map[string]bool{}
				for _, m := range readMessages(t, h, url.Values{"operationId": {op.ID}, "pageSize": {"11"}}) {
					counts[m.Status]++
					ids[m.ID] = true
					if m.operation() != op.ID || m.Content != nil || m.Attempts != nil || !messageID.MatchString(m.ID) {
						t.Fatalf("message %+v in the list of %s", m, op.ID)
					}
				}

				all += len(ids)
				delivered := op.Stats[twilio.Delivered]
				if includes {
					delivered -= op.Stats[twilio.Read]
				}
				for status, want := range map[messageStatus]int64{
					messageFailed: op.Stats[twilio.Failed], messageUndelivered: op.Stats[twilio.Undelivered],
					messageRead: op.Stats[twilio.Read], messageDelivered: delivered,
					messageSent: op.Stats[twilio.Sent], messageQueued: op.Stats[twilio.Queued],
					messageScheduled: op.Stats[twilio.Scheduled], messageCanceled: op.Stats[twilio.Canceled], messageGroup: 0,
				} {
					if counts[string(status)] != want {
						t.Errorf("%s: %d messages are %s, want %d: %v", op.ID, counts[string(status)], status, want, op.Stats)
					}
				}

				want := op.Stats[twilio.Total] - op.Stats[twilio.Unaddressable]
				if int64(len(ids)) != want {
					t.Errorf("%s: %d different messages, want %d", op.ID, len(ids), want)
				}
				failed := readMessages(t, h, url.Values{"operationId": {op.ID}, "status": {"FAILED"}, "pageSize": {"3"}})
				if int64(len(failed)) != op.Stats[twilio.Failed] {
					t.Errorf("%s: %d messages by status, want %d", op.ID, len(failed), op.Stats[twilio.Failed])
				}
			}

			everything := readMessages(t, h, url.Values{"startDate": {since.Format(time.RFC3339)}, "pageSize": {"100"}})
			if len(everything) != all || all == 0 {
				t.Errorf("%d messages in the list of all, want %d", len(everything), all)
			}
		}
	}
}

// TestMessagesDoNotChangeTheirMind checks that a lost message stays lost, for the same reason.
func TestMessagesDoNotChangeTheirMind(t *testing.T) {
	settings := smallWorld()
	settings.MaxRecipients = 50
	settings.FailedShare, settings.UndeliveredShare, settings.FallbackShare = 0.2, 0.2, 1
	world := MustWorld(settings)
	now := noon
	h := NewHandler(world, Settings{Now: func() time.Time { return now }})
	lost := map[string]string{} // the last code, by message
	found := map[string]int{}   // messages by last code

	for range 6 {
		for op := range world.Operations(now, noon.Add(-10*time.Minute), noon) {
			for _, status := range []string{"FAILED", "UNDELIVERED"} {
				for _, listed := range readMessages(t, h, url.Values{"operationId": {op.ID}, "status": {status}, "pageSize": {"9"}}) {
					var m jsonMessage
					fetchJSON(t, h, "/v1/Messages/"+listed.ID, &m)
					codes := m.codes(t)
					last := "none"
					if len(codes) > 0 {
						last = codes[len(codes)-1]
					}
					if before, known := lost[m.ID]; known && before != last && before != "none" && !strings.HasPrefix(last, "RCS") {
						t.Errorf("%s ended with %s, and with %s before", m.ID, last, before)
					}
					if m.Status != status || m.Tags["campaign"] == "" || m.Tags["team"] == "" {
						t.Errorf("message %+v", m)
					}
					lost[m.ID] = last
					found[last]++
				}
			}
		}

		now = now.Add(5 * time.Minute)
	}

	for _, want := range []string{"SMS 30007", "SMS 30003", "SMS 30005", "RCS 61337", "none"} {
		if found[want] == 0 {
			t.Errorf("no message ended with %s: %v", want, found)
		}
	}
}

// TestPersonalDataIsRecognizable checks that addresses and contents contain Personal, and nothing else does.
func TestPersonalDataIsRecognizable(t *testing.T) {
	op := operationAt(exampleID, noon)
	op.Stats = twilio.Stats{twilio.Total: 40, twilio.Failed: 40, twilio.Attempts: 80}
	h := NewHandler(NewStatic(op), Settings{})
	recipients := map[string]bool{}
	for _, listed := range readMessages(t, h, url.Values{"operationId": {op.ID}}) {
		var m jsonMessage
		fetchJSON(t, h, "/v1/Messages/"+listed.ID, &m)
		if !strings.Contains(m.To[0].Address, Personal) || !strings.Contains(m.Content.Text, Personal) {
			t.Errorf("address %q and content %q", m.To[0].Address, m.Content.Text)
		}
		if strings.Contains(m.ID+m.operation()+m.Tags["campaign"]+m.Tags["team"], Personal) {
			t.Errorf("message %+v", m)
		}
		recipients[m.To[0].Address] = true
	}

	if len(recipients) != 40 {
		t.Errorf("%d recipients", len(recipients))
	}
}

func TestMessageSettings(t *testing.T) {
	first := operationAt(exampleID, noon.Add(-2*time.Minute))
	first.Stats = twilio.Stats{twilio.Total: 3, twilio.Failed: 3}
	second := operationAt(strings.Replace(exampleID, "41", "42", 1), noon.Add(-time.Minute))
	second.Stats = twilio.Stats{twilio.Total: 2, twilio.Undelivered: 2}
	source := NewStatic(first, second)
	ask := url.Values{"operationId": {first.ID}}

	t.Run("filtered", func(t *testing.T) {
		h := NewHandler(source, Settings{Now: at(noon)})
		if got := readMessages(t, h, ask); len(got) != 3 {
			t.Errorf("%d messages", len(got))
		}
	})

	t.Run("ignored operation", func(t *testing.T) {
		h := NewHandler(source, Settings{Now: at(noon), Messages: MessageSettings{IgnoreOperation: true}})
		if got := readMessages(t, h, ask); len(got) != 5 || got[0].operation() != second.ID {
			t.Errorf("%d messages: %+v", len(got), got)
		}
	})

	t.Run("lag", func(t *testing.T) {
		h := NewHandler(source, Settings{Now: at(noon), Messages: MessageSettings{Lag: time.Hour}})
		if got := readMessages(t, h, ask); len(got) != 0 {
			t.Errorf("%d messages of an operation that was not there", len(got))
		}
	})

	t.Run("refused", func(t *testing.T) {
		h := NewHandler(source, Settings{Now: at(noon), Messages: MessageSettings{Refuse: http.StatusForbidden}})
		for target, want := range map[string]int{
			"/v1/Messages": 403, "/v1/Messages/" + exampleMessageID: 403,
			"/v1/Messages/Operations": 200, "/v1/Messages/Operations/" + first.ID: 200,
		} {
			if w := get(h, target); w.Code != want {
				t.Errorf("%s: %d, want %d", target, w.Code, want)
			}
		}
	})

	t.Run("errors", func(t *testing.T) {
		delivered := operationAt(exampleID, noon)
		delivered.Stats = twilio.Stats{twilio.Total: 1, twilio.Delivered: 1}
		for settings, want := range map[MessageSettings]string{{}: "", {NullErrors: true}: "null"} {
			h := NewHandler(NewStatic(delivered), Settings{Now: at(noon), Messages: settings})
			var m jsonMessage
			fetchJSON(t, h, "/v1/Messages/"+readMessages(t, h, ask)[0].ID, &m)
			if got := string(m.Attempts[0].Error); got != want {
				t.Errorf("%+v: error %q", settings, got)
			}
		}

		h := NewHandler(source, Settings{Now: at(noon), Messages: MessageSettings{TextCodes: true}})
		w := get(h, "/v1/Messages/"+readMessages(t, h, ask)[0].ID)
		if !strings.Contains(w.Body.String(), `"code":"30007"`) {
			t.Errorf("no code as a string in %s", w.Body)
		}
	})
}

// TestMillionsOfMessages checks that an operation with absurd stats costs nothing.
func TestMillionsOfMessages(t *testing.T) {
	op := operationAt(exampleID, noon)
	op.Stats = twilio.Stats{twilio.Total: 1 << 62, twilio.Failed: 1 << 61, twilio.Undelivered: 1 << 61, twilio.Read: 1 << 60}
	h := NewHandler(NewStatic(op), Settings{Now: at(noon)})
	var page struct{ Messages []jsonMessage }
	fetchJSON(t, h, "/v1/Messages?pageSize=2&operationId="+op.ID, &page)
	if len(page.Messages) != 2 {
		t.Errorf("%d messages", len(page.Messages))
	}
}

// TestEmails checks that the operations of e-mails come from their own source and have their own stats.
func TestEmails(t *testing.T) {
	world := MustWorld(EmailWorldSettings())
	for _, without := range []bool{false, true} {
		h := NewHandler(NewStatic(), Settings{Now: at(noon), Emails: world, EmailsWithoutAttempts: without})
		described := checked(t, h)
		for op := range world.Operations(noon, noon.Add(-10*time.Minute), noon) {
			r := httptest.NewRequestWithContext(context.Background(), http.MethodGet, "/v1/Emails/Operations/"+op.ID, nil)
			r.SetBasicAuth("AC1", "secret")
			w := httptest.NewRecorder()
			described.ServeHTTP(w, r)
			var wire wireOperation
			if err := json.Unmarshal(w.Body.Bytes(), &wire); err != nil {
				t.Fatalf("%v in %s", err, w.Body)
			}

			for _, name := range []string{"read", "unaddressable"} {
				if _, there := wire.Stats[name]; there {
					t.Errorf("e-mails have %s", name)
				}
			}

			for _, name := range []string{"attempts", "recipients"} {
				if _, there := wire.Stats[name]; there == without {
					t.Errorf("%s is there: %t", name, there)
				}
			}

			got := wire.operation()
			got.Stats[twilio.Read] = wire.Stats["opened"]
			want := op
			if without {
				want.Stats[twilio.Attempts], want.Stats[twilio.Recipients] = 0, 0
			}
			if got != want || got.Stats[twilio.Total] == 0 {
				t.Errorf("got %+v, want %+v", got, want)
			}
		}

		if got := getPage(t, h, url.Values{}); len(got.Operations) != 0 {
			t.Errorf("%d e-mails in the list of messages' operations", len(got.Operations))
		}
	}
}
