package twilio

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"runtime"
	"strings"
	"testing"
)

const (
	messageA   = "comms_message_01h2xcejqtf2nbrexx3vqjhp41"
	operationA = "comms_operation_01h2xcejqtf2nbrexx3vqjhp41"

	lost = `{"id":"` + messageA + `","status":"FAILED","from":{"address":"+15550001"},"to":{"address":"+15550002"},
		"content":{"text":"personal"},"createdAt":"nonsense","deletedAt":null,
		"related":[{"name":"OPERATION","id":"` + operationA + `","uri":"/x"},{"name":"CONVERSATION","id":"c"}],
		"tags":{"campaign":"spring","team":"a b"},
		"attempts":[
		{"from":{"channel":"RCS","address":"x"},"to":[{"channel":"PHONE","address":"y"}],"status":"FAILED",
			"error":{"code":61337,"message":"not\nenabled","infoUrl":"https://z"}},
		{"from":{"channel":"SMS"},"status":"UNDELIVERED","error":{"code":"30003","message":"unreachable"}},
		{"from":{"channel":null},"status":"SENT","error":null}]}`
)

var lostDecoded = Message{
	ID:         messageA,
	Status:     "FAILED",
	Operations: []string{operationA},
	Tags:       map[string]string{"campaign": "spring", "team": "a b"},
	Attempts: []Attempt{
		{Status: "FAILED", Channel: "RCS", Code: "61337", Text: "not enabled"},
		{Status: "UNDELIVERED", Channel: "SMS", Code: "30003", Text: "unreachable"},
		{Status: "SENT"},
	},
}

func TestMessages(t *testing.T) {
	var asked []string
	base, transport := testServer(t, func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.RequestURI)
		next := `"more"`
		if r.URL.Query().Has("pageToken") {
			next = "null"
		}
		_, _ = fmt.Fprintf(w, `{"messages":[%s,{"id":"m","status":"READ"}],"pagination":{"next":%s}}`, lost, next)
	})

	observed := &records{}
	c := testClient(t, base+"/v1", transport, withObserve(observed))
	var ids []string
	for page, err := range c.Messages(t.Context(), MessageQuery{Operation: operationA, Status: "FAILED", PageSize: 2}) {
		if err != nil {
			t.Fatal(err)
		}
		listed := Message{ID: lostDecoded.ID, Status: lostDecoded.Status, Operations: lostDecoded.Operations}
		if !reflect.DeepEqual(page.Messages[0], listed) {
			t.Errorf("got %+v, want %+v", page.Messages[0], listed)
		}
		ids = append(ids, page.Messages[1].ID)
	}

	query := "/v1/Messages?operationId=" + operationA + "&pageSize=2&status=FAILED"
	if got, want := strings.Join(asked, " "), query+" "+query+"&pageToken=more"; got != want {
		t.Errorf("asked for %s, want %s", got, want)
	}
	if len(ids) != 2 || observed.list[0].Endpoint != EndpointListMessages {
		t.Errorf("%q, observed %v", ids, observed.list)
	}
}

func TestFetchMessage(t *testing.T) {
	var asked string
	base, transport := testServer(t, func(w http.ResponseWriter, r *http.Request) {
		asked = r.RequestURI
		_, _ = w.Write([]byte(lost))
	})

	observed := &records{}
	c := testClient(t, base+"/v1", transport, withObserve(observed))
	m, err := c.FetchMessage(t.Context(), messageA)
	if err != nil || !reflect.DeepEqual(m, lostDecoded) {
		t.Errorf("got %+v, %v", m, err)
	}
	if asked != "/v1/Messages/"+messageA || observed.list[0].Endpoint != EndpointFetchMessage {
		t.Errorf("asked for %s as %s", asked, observed.list[0].Endpoint)
	}

	var decode *DecodeError
	if _, err := c.FetchMessage(t.Context(), messageA+"2"); !errors.As(err, &decode) {
		t.Errorf("another message's answer: %v", err)
	}
	for _, bad := range []string{"", "../Operations", operationA, messageA + "/", messageA + "?x"} {
		if _, err := c.FetchMessage(t.Context(), bad); !errors.Is(err, ErrInvalidMessageID) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestDecodeMessage covers what the reference leaves open, and what the API should never send.
func TestDecodeMessage(t *testing.T) {
	var s sanitizer
	s.add("0123456789abcdef0123456789abcdef")
	attempt := func(error string) string {
		return `{"id":"m","status":"FAILED","attempts":[{"from":{"channel":"SMS"},"status":"FAILED","error":` + error + `}]}`
	}
	with := func(a Attempt) Message {
		a.Status, a.Channel = "FAILED", "SMS"
		return Message{ID: "m", Status: "FAILED", Attempts: []Attempt{a}}
	}

	plain := Message{ID: "m", Status: "FAILED"}
	for name, tt := range map[string]struct {
		body string
		want Message
		err  string
	}{
		"the least":      {`{"id":"m","status":"FAILED"}`, plain, ""},
		"null":           {`{"id":"m","status":"FAILED","related":null,"tags":null,"attempts":null}`, plain, ""},
		"a number":       {attempt(`{"code":30003}`), with(Attempt{Code: "30003"}), ""},
		"a text":         {attempt(`{"code":"30003"}`), with(Attempt{Code: "30003"}), ""},
		"no code":        {attempt(`{"message":"m"}`), with(Attempt{Text: "m"}), ""},
		"null code":      {attempt(`{"code":null,"message":null}`), with(Attempt{}), ""},
		"a fraction":     {attempt(`{"code":1.5}`), with(Attempt{Code: Other}), ""},
		"a negative":     {attempt(`{"code":-1}`), with(Attempt{Code: Other}), ""},
		"six digits":     {attempt(`{"code":123456}`), with(Attempt{Code: "123456"}), ""},
		"seven digits":   {attempt(`{"code":1234567}`), with(Attempt{Code: Other}), ""},
		"a phone number": {attempt(`{"code":"15550001234"}`), with(Attempt{Code: Other}), ""},
		"a word":         {attempt(`{"code":"+15550001"}`), with(Attempt{Code: Other}), ""},
		"an empty code":  {attempt(`{"code":""}`), with(Attempt{Code: Other}), ""},
		"a list of code": {attempt(`{"code":[1]}`), Message{}, "/attempts/0/error/code: an array where a number should be"},
		"the secret":     {attempt(`{"message":"you are 0123456789abcdef0123456789abcdef"}`), with(Attempt{Text: "you are " + redacted}), ""},
		"secret tags": {
			`{"id":"m","status":"FAILED","tags":{"0123456789abcdef":"x","a":"x0123456789abcdef","b":"c"}}`,
			Message{ID: "m", Status: "FAILED", Tags: map[string]string{"b": "c"}}, "",
		},
		"an odd channel": {
			`{"id":"m","status":"FAILED","attempts":[{"from":{"channel":"+1555"}}]}`,
			Message{ID: "m", Status: "FAILED", Attempts: []Attempt{{Channel: Other}}}, "",
		},
		"a secret id": {`{"id":"0123456789abcdef","status":"FAILED"}`, Message{}, "/id: holds the credentials"},
		"no id":       {`{"status":"FAILED"}`, Message{}, "no id"},
		"no status":   {`{"id":"m"}`, Message{}, "no status"},
	} {
		t.Run(name, func(t *testing.T) {
			var got Message
			err := decodeMessage(strings.NewReader(tt.body), &s, &got)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("got %v, want %s", err, tt.err)
				}
				return
			}
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, %v, want %+v", got, err, tt.want)
			}
		})
	}
}

// TestHostileMessages checks that the size of a message in memory is bounded.
func TestHostileMessages(t *testing.T) {
	long := strings.Repeat("x", 200_000)
	var tags, attempts, related []string
	for i := range 50 {
		tags = append(tags, fmt.Sprintf(`"t%d":%q`, i, long[:i*100]))
		attempts = append(attempts, fmt.Sprintf(`{"error":{"code":%d,"message":%q}}`, i, long))
		related = append(related, fmt.Sprintf(`{"name":"OPERATION","id":"o%d"}`, i))
	}

	body := fmt.Sprintf(`{"id":"m","status":%q,"tags":{%s},"attempts":[%s],"related":[%s]}`,
		long, strings.Join(tags, ","), strings.Join(attempts, ","), strings.Join(related, ","))
	var m Message
	if err := decodeMessage(strings.NewReader(body), new(sanitizer), &m); err != nil {
		t.Fatal(err)
	}
	if m.Status != StatusOther || len(m.Tags) > maxTags || len(m.Operations) > maxTags {
		t.Errorf("status %.20s, %d tags, %d operations", m.Status, len(m.Tags), len(m.Operations))
	}
	if len(m.Attempts) != maxAttempts || m.Attempts[maxAttempts-1].Code != "49" {
		t.Errorf("attempts %+.200v", m.Attempts)
	}

	for _, a := range m.Attempts {
		if len(a.Text) > maxErrorText+len("…") {
			t.Errorf("a text of %d bytes", len(a.Text))
		}
	}
}

// TestHostileMessagePage checks that a page of messages takes little memory, whatever they hold.
func TestHostileMessagePage(t *testing.T) {
	attempts := strings.Repeat("{},", maxAttempts-1) + "{}"
	var tags []string
	for i := range maxTags {
		tags = append(tags, fmt.Sprintf(`"t%d":"x"`, i))
	}
	message := fmt.Sprintf(`{"id":"m","status":"FAILED","tags":{%s},"attempts":[%s]}`, strings.Join(tags, ","), attempts)
	messages := strings.Repeat(message+",", maxElements-1) + message
	body := strings.NewReader(`{"messages":[` + messages + `],"pagination":{}}`)

	var p MessagePage
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := decodeMessagePage(body, new(sanitizer), &p)
	runtime.ReadMemStats(&after)
	if err != nil || len(p.Messages) != maxElements {
		t.Fatalf("%d messages, %v", len(p.Messages), err)
	}
	if taken := after.TotalAlloc - before.TotalAlloc; taken > 16<<20 {
		t.Errorf("reading it took %d MB", taken>>20)
	}
}

// TestUnprintableTags checks that no such tag becomes a label.
func TestUnprintableTags(t *testing.T) {
	var m Message
	body := `{"id":"m","status":"FAILED","tags":{"a":"x\u0000y","b":"x\ny","c":"x","d":"x\u202ey","e":"\u200b","f":"x\u2028y"}}`
	err := decodeMessage(strings.NewReader(body), new(sanitizer), &m)
	if err != nil || len(m.Tags) != 1 || m.Tags["c"] != "x" {
		t.Errorf("tags %q, %v", m.Tags, err)
	}
}

func FuzzDecodeMessage(f *testing.F) {
	f.Add([]byte(lost))
	f.Add([]byte(`{"id":"m","status":"FAILED","attempts":[{"error":{"code":"1"}}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var m Message
		err := decodeMessage(bytes.NewReader(body), new(sanitizer), &m)
		var decode *DecodeError
		if err != nil && !errors.As(err, &decode) {
			t.Fatalf("%T: %v", err, err)
		}
		for _, a := range m.Attempts {
			if a.Code != "" && a.Code != Other && !allOf(a.Code, '0', '9') {
				t.Errorf("code %q", a.Code)
			}
		}
	})
}

// TestDecodeEmailOperations checks that e-mail operations have stats of their own, some of which may be absent.
func TestDecodeEmailOperations(t *testing.T) {
	const at = `"createdAt":"2026-03-01T12:00:00Z","updatedAt":"2026-03-01T12:00:00Z"`
	const stats = `"total":5,"queued":0,"sent":5,"scheduled":0,"delivered":5,"opened":3,"undelivered":0,"failed":1,"canceled":0`
	want := Stats{Total: 5, Sent: 5, Delivered: 5, Read: 3, Failed: 1}
	both := want
	both[Recipients], both[Attempts] = 4, 6
	for name, tt := range map[string]struct {
		stats string
		want  Stats
		err   string
	}{
		"as the reference has it": {stats + `,"recipients":4,"attempts":6`, both, ""},
		"without recipients":      {stats, want, ""},
		"those of messages":       {strings.Replace(stats, "opened", "read", 1), Stats{}, "no opened"},
		"a nameless one":          {stats + `,"":9`, want, ""},
	} {
		t.Run(name, func(t *testing.T) {
			body := `{"id":"` + operationA + `","status":"COMPLETED","stats":{` + tt.stats + `},` + at + `}`
			var asked string
			base, transport := testServer(t, func(w http.ResponseWriter, r *http.Request) {
				asked = r.URL.Path
				_, _ = w.Write([]byte(body))
			})

			c := testClient(t, base, transport, func(o *Options) { o.Resource = Emails })
			op, err := c.FetchOperation(t.Context(), operationA)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil || op.Stats != tt.want {
				t.Errorf("got %v, %v, want %v", op.Stats, err, tt.want)
			}
			if want := "/Emails/Operations/" + operationA; asked != want {
				t.Errorf("asked for %s, want %s", asked, want)
			}
		})
	}
}
