package twilio

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
	"unicode/utf8"
)

func TestDecodeDocumentedOperations(t *testing.T) {
	at := time.Date(2024, 4, 5, 6, 20, 0, 0, time.UTC)
	for file, stats := range map[string]Stats{
		"operation-single-message.json":                     {Total: 1, Recipients: 1, Attempts: 1, Delivered: 1},
		"operation-two-messages.json":                       {Total: 2, Recipients: 2, Attempts: 4, Delivered: 2},
		"operation-one-group-message-three-recipients.json": {Total: 1, Recipients: 3, Attempts: 1},
		"operation-unaddressable.json":                      {Total: 1, Recipients: 1, Unaddressable: 1},
	} {
		t.Run(file, func(t *testing.T) {
			want := Operation{
				ID: "comms_operation_01h2xcejqtf2nbrexx3vqjhp41", Status: StatusCompleted,
				Stats: stats, CreatedAt: at, UpdatedAt: at,
			}
			var got Operation
			if err := decodeOperation(bytes.NewReader(readTestdata(t, file)), Messages, new(sanitizer), &got); err != nil {
				t.Fatal(err)
			}
			if got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

// statNames are the JSON names of the stats of messages, by Stat.
var statNames = func() []string {
	var names []string
	for _, m := range MessageStats.members() {
		names = append(names, m.name)
	}
	return names
}()

// readPage decodes a page of message operations.
func readPage(body io.Reader, p *Page) error { return decodePage(body, Messages, new(sanitizer), p) }

func readTestdata(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name)) //nolint:gosec // the tests name the files
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// one is a complete operation with the stats 1 to 12.
const one = `{"id":"comms_operation_01h2xcejqtf2nbrexx3vqjhp41","status":"PROCESSING","stats":{` +
	`"total":1,"recipients":2,"attempts":3,"unaddressable":4,"scheduled":5,"queued":6,` +
	`"sent":7,"delivered":8,"read":9,"undelivered":10,"failed":11,"canceled":12},` +
	`"createdAt":"2026-03-01T12:00:00.25Z","updatedAt":"2026-03-01T14:00:01+02:00"}`

var oneDecoded = Operation{
	ID:     "comms_operation_01h2xcejqtf2nbrexx3vqjhp41",
	Status: StatusProcessing,
	Stats: Stats{
		Total: 1, Recipients: 2, Attempts: 3, Unaddressable: 4, Scheduled: 5, Queued: 6,
		Sent: 7, Delivered: 8, Read: 9, Undelivered: 10, Failed: 11, Canceled: 12,
	},
	CreatedAt: time.Date(2026, 3, 1, 12, 0, 0, 250e6, time.UTC),
	UpdatedAt: time.Date(2026, 3, 1, 12, 0, 1, 0, time.UTC),
}

func pageOf(next string, operations ...string) string {
	return `{"operations":[` + strings.Join(operations, ",") + `],"pagination":{` + next + `}}`
}

func TestDecodePage(t *testing.T) {
	strange := oneDecoded
	strange.Status = "PAUSED"
	replaced := func(from, to string) string { return pageOf(``, strings.Replace(one, from, to, 1)) }
	longID, long, other := oneDecoded, oneDecoded, oneDecoded
	longID.ID, long.Status = strings.Repeat("i", 64), Status(strings.Repeat("S", 64))
	other.Status = StatusOther
	largest := oneDecoded
	largest.Stats[Total] = 9223372036854775807

	tests := []struct {
		name string
		body string
		want Page
	}{
		{"last, next null", pageOf(`"next":null,"self":"s"`, one), Page{[]Operation{oneDecoded}, ""}},
		{"last, next empty", pageOf(`"next":"","self":"s"`, one), Page{[]Operation{oneDecoded}, ""}},
		{"last, next absent", pageOf(``, one), Page{[]Operation{oneDecoded}, ""}},
		{
			"next",
			pageOf(`"next":"a b+/&=%é\"?#\u0041"`, one, one),
			Page{[]Operation{oneDecoded, oneDecoded}, "a b+/&=%é\"?#A"},
		},
		{"no operations", pageOf(`"next":"t"`), Page{nil, "t"}},
		{"pagination first", `{"pagination":{"next":"t"},"operations":[` + one + `]}`, Page{[]Operation{oneDecoded}, "t"}},
		{
			"white space",
			"\n " + strings.NewReplacer(":{", " : {\n", ",", " ,\t").Replace(pageOf(`"next":"t"`, one)) + "\r\n",
			Page{[]Operation{oneDecoded}, "t"},
		},
		{
			"unknown members",
			`{"new":[{"operations":1}],"operations":[` + strings.Replace(
				one,
				`{"id"`,
				`{"id2":{"id":0},"ID":"x","id"`,
				1,
			) + `],` +
				`"pagination":{"previous":null,"next":"t"},"new":2}`,
			Page{[]Operation{oneDecoded}, "t"},
		},
		{
			"escaped names",
			strings.Replace(pageOf(`"n\u0065xt":"t"`, one), `"total"`, `"t\u006ftal"`, 1),
			Page{[]Operation{oneDecoded}, "t"},
		},
		{"undocumented status", pageOf(``, strings.Replace(one, "PROCESSING", "PAUSED", 1)), Page{[]Operation{strange}, ""}},
		{"longest id", replaced(oneDecoded.ID, longID.ID), Page{[]Operation{longID}, ""}},
		{"longest status", replaced("PROCESSING", string(long.Status)), Page{[]Operation{long}, ""}},
		{"status too long", replaced("PROCESSING", string(long.Status)+"S"), Page{[]Operation{other}, ""}},
		{"NUL in a status", replaced("PROCESSING", `A\u0000B`), Page{[]Operation{other}, ""}},
		{"line feed in a status", replaced("PROCESSING", `A\nB`), Page{[]Operation{other}, ""}},
		{"zero-width space in a status", replaced("PROCESSING", "A\u200bB"), Page{[]Operation{other}, ""}},
		{
			"largest number",
			pageOf(``, strings.Replace(one, `"total":1`, `"total":9223372036854775807`, 1)),
			Page{[]Operation{largest}, ""},
		},
	}

	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			// A page that was used before must not show through.
			got := Page{Operations: []Operation{{ID: "old"}, {ID: "older"}}, Next: "old"}
			if err := readPage(strings.NewReader(tt.body), &got); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got.Operations, tt.want.Operations) || got.Next != tt.want.Next {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

// TestTimes checks that times in lower case and leap seconds are accepted, as RFC 3339 allows them.
func TestTimes(t *testing.T) {
	second := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"2026-03-01T12:00:00Z":                                  second,
		"2026-03-01t12:00:00z":                                  second,
		"2026-03-01t13:30:00.5+01:30":                           second.Add(500 * time.Millisecond),
		"2026-03-01T11:59:60Z":                                  second,
		"2026-03-01t11:59:60.25z":                               second.Add(250 * time.Millisecond),
		"2026-03-01T12:00:61Z":                                  {},
		"2026-03-01 12:00:00Z":                                  {},
		"2026-03-01T12:00:00":                                   {},
		"2026-03-01T1:00:00Z":                                   {},
		"2026-03-01T12:00:00,5Z":                                {},
		"2026-03-01T12:00:00+24:00":                             {},
		"2026-02-30T12:00:00Z":                                  {},
		"2026-03-01T12:00:00.Z":                                 {},
		"2026-03-01T12:00:00." + strings.Repeat("0", 100) + "Z": {},
	} {
		got, ok := parseTime([]byte(text))
		if ok != !want.IsZero() || ok && !got.Equal(want) {
			t.Errorf("%s: %v %v, want %v", text, got, ok, want)
		}
	}
}

func TestDecodePageErrors(t *testing.T) {
	replace := func(from, to string) string {
		if !strings.Contains(one, from) {
			panic(from)
		}
		return pageOf(`"next":null`, one, strings.Replace(one, from, to, 1))
	}

	const unprintable = "holds characters that cannot be printed"
	type test struct{ name, body, pointer, problem string }
	tests := []test{
		{"nothing", "", "", "empty"},
		{"white space", " \n", "", "empty"},
		{
			"HTML",
			"<!DOCTYPE html><html><body>Bad Gateway</body></html>",
			"",
			"not JSON: invalid character '<' at start of value",
		},
		{"text", "upstream timed out", "", "not JSON: invalid character 'u' at start of value"},
		{"null", "null", "", "null where an object should be"},
		{"an array", "[]", "", "an array where an object should be"},
		{"no members", "{}", "", "no operations"},
		{"no operations", `{"pagination":{"next":null}}`, "", "no operations"},
		{"no pagination", `{"operations":[]}`, "", "no pagination"},
		{"null operations", `{"operations":null,"pagination":{}}`, "/operations", "null where an array should be"},
		{"operations an object", `{"operations":{},"pagination":{}}`, "/operations", "an object where an array should be"},
		{"null pagination", `{"operations":[],"pagination":null}`, "/pagination", "null where an object should be"},
		{
			"next a number",
			`{"operations":[],"pagination":{"next":2}}`,
			"/pagination/next",
			"a number where a string should be",
		},
		{"next twice", `{"operations":[],"pagination":{"next":"a","next":null}}`, "/pagination/next", "given twice"},
		{"operations twice", `{"operations":[],"operations":[],"pagination":{}}`, "/operations", "given twice"},
		{"null operation", pageOf("", one, "null"), "/operations/1", "null where an object should be"},
		{"cut off", pageOf("", one)[:300], "/operations/0", "the JSON breaks off"},
		{"more", pageOf("") + "{}", "", "more follows the JSON value"},
		{"rubbish after", pageOf("") + "x", "", "more follows the JSON value"},
		{"invalid UTF-8", replace("PROCESSING", "\xff"), "/operations/1/status", "not JSON: invalid UTF-8"},

		{"empty id", replace("comms_operation_01h2xcejqtf2nbrexx3vqjhp41", ""), "/operations/1/id", "empty"},
		{
			"id a number",
			replace(`"comms_operation_01h2xcejqtf2nbrexx3vqjhp41"`, "7"),
			"/operations/1/id",
			"a number where a string should be",
		},
		{"id too long", replace(oneDecoded.ID, strings.Repeat("i", 65)), "/operations/1/id", "longer than 64 bytes"},
		{"NUL in an id", replace(oneDecoded.ID, `a\u0000b`), "/operations/1/id", unprintable},
		{"line feed in an id", replace(oneDecoded.ID, `a\nb`), "/operations/1/id", unprintable},
		{"DEL in an id", replace(oneDecoded.ID, "a\x7fb"), "/operations/1/id", unprintable},
		{"right-to-left mark in an id", replace(oneDecoded.ID, "a\u202eb"), "/operations/1/id", unprintable},
		{"invalid UTF-8 in an id", replace(oneDecoded.ID, "a\xffb"), "/operations/1/id", "not JSON: invalid UTF-8"},
		{"half a character in an id", replace(oneDecoded.ID, `a\ud800b`), "/operations/1/id", "not JSON: invalid surrogate pair `\\ud800b\",\"st` in string"},
		{"stats twice", replace(`"stats"`, `"stats":{"total":1},"stats"`), "/operations/1/stats", "no recipients"},
		{"stats twice, whole", replace(`"createdAt"`, `"stats":{},"createdAt"`), "/operations/1/stats", "given twice"},
		{"pagination twice", `{"operations":[],"pagination":{},"pagination":{}}`, "/pagination", "given twice"},
		{"id twice", replace(`{"id"`, `{"id":"a","id"`), "/operations/1/id", "given twice"},
		{"empty status", replace("PROCESSING", ""), "/operations/1/status", "empty"},
		{"status true", replace(`"PROCESSING"`, "true"), "/operations/1/status", "a boolean where a string should be"},
		{
			"createdAt in words",
			replace("2026-03-01T12:00:00.25Z", "yesterday"),
			"/operations/1/createdAt",
			"not an RFC 3339 time",
		},
		{
			"createdAt zero",
			replace("2026-03-01T12:00:00.25Z", "0001-01-01T00:00:00Z"),
			"/operations/1/createdAt",
			"not an RFC 3339 time",
		},
		{
			"createdAt a number",
			replace(`"2026-03-01T12:00:00.25Z"`, "1772366400"),
			"/operations/1/createdAt",
			"a number where a string should be",
		},
		{
			"updatedAt without zone",
			replace("2026-03-01T14:00:01+02:00", "2026-03-01T14:00:01"),
			"/operations/1/updatedAt",
			"not an RFC 3339 time",
		},
		{
			"stats an array",
			replace(`"stats":{`, `"stats":[],"s":{`),
			"/operations/1/stats",
			"an array where an object should be",
		},

		{"negative", replace(`"read":9`, `"read":-9`), "/operations/1/stats/read", "not a whole number of 0 or more"},
		{"fraction", replace(`"read":9`, `"read":0.5`), "/operations/1/stats/read", "not a whole number of 0 or more"},
		{"exponent", replace(`"read":9`, `"read":1e3`), "/operations/1/stats/read", "not a whole number of 0 or more"},
		{
			"beyond int64",
			replace(`"read":9`, `"read":9223372036854775808`),
			"/operations/1/stats/read",
			"number out of range",
		},
		{
			"far beyond",
			replace(`"read":9`, `"read":`+strings.Repeat("9", 400)),
			"/operations/1/stats/read",
			"number out of range",
		},
		{"in quotes", replace(`"read":9`, `"read":"9"`), "/operations/1/stats/read", "a string where a number should be"},
		{"stat null", replace(`"read":9`, `"read":null`), "/operations/1/stats/read", "null where a number should be"},
	}

	for _, name := range []string{"id", "status", "stats", "createdAt", "updatedAt"} {
		tests = append(tests,
			test{"no " + name, replace(`"`+name+`"`, `"x"`), "/operations/1", "no " + name},
			test{"null " + name, replace(`"`+name+`":`, `"`+name+`":null,"x":`), "/operations/1/" + name, ""})
	}

	for _, name := range statNames {
		tests = append(tests,
			test{"no " + name, replace(`"`+name+`"`, `"x"`), "/operations/1/stats", "no " + name},
			test{name + " twice", replace(`"total"`, `"`+name+`":0,"total"`), "/operations/1/stats/" + name, "given twice"})
	}

	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := readPage(strings.NewReader(tt.body), new(Page))
			var decode *DecodeError
			if !errors.As(err, &decode) {
				t.Fatalf("got %v, want a *DecodeError", err)
			}
			if decode.Pointer != tt.pointer || tt.problem != "" && decode.Problem != tt.problem {
				t.Errorf("got %q: %q, want %q: %q", decode.Pointer, decode.Problem, tt.pointer, tt.problem)
			}
			if !strings.Contains(err.Error(), tt.pointer) {
				t.Errorf("message %q lacks the pointer", err)
			}
		})
	}
}

// TestDecodeErrorsAreShort checks that the length of an error does not depend on that of the answer.
func TestDecodeErrorsAreShort(t *testing.T) {
	long := strings.Repeat("a\u202e\\n", 1<<16)
	for _, body := range []string{
		pageOf("", strings.Replace(one, "2026-03-01T12:00:00.25Z", long, 1)),
		pageOf("", `{"`+long+`":{"b":tru`),
		pageOf("", `{"`+long+`":<}`),
		long,
	} {
		err := readPage(strings.NewReader(body), new(Page))
		var decode *DecodeError
		if !errors.As(err, &decode) {
			t.Fatalf("got %v", err)
		}
		new(sanitizer).decodeError(decode)
		if s := err.Error(); len(s) > 400 || strings.ContainsAny(s, "\u202e\n") {
			t.Errorf("%d bytes: %.500q", len(s), s)
		}
	}
}

func TestDecodePageReusesMemory(t *testing.T) {
	body := []byte(pageJSON(1000, "null"))
	var p Page
	if err := readPage(bytes.NewReader(body), &p); err != nil {
		t.Fatal(err)
	}
	first := &p.Operations[0]
	allocs := testing.AllocsPerRun(10, func() {
		if err := readPage(bytes.NewReader(body), &p); err != nil {
			t.Fatal(err)
		}
	})

	if first != &p.Operations[0] {
		t.Error("the second page took new memory")
	}
	if allocs > 1100 { // under -race a pool drops some of what it is given
		t.Errorf("%v allocations for 1000 operations, want little more than the ids", allocs)
	}
}

// endless is a head followed by a text that is repeated forever.
type endless struct {
	head, text string
	n          int
}

func (e *endless) Read(p []byte) (int, error) {
	if e.n < len(e.head) {
		n := copy(p, e.head[e.n:])
		e.n += n
		return n, nil
	}
	n := 0
	for n < len(p) {
		at := (e.n - len(e.head)) % len(e.text)
		k := copy(p[n:], e.text[at:])
		n, e.n = n+k, e.n+k
	}
	return n, nil
}

// TestHostileBodies checks that a hostile body ends with an error before it takes much memory.
func TestHostileBodies(t *testing.T) {
	unknown := func(text string) *endless { return &endless{head: `{"x":`, text: text} }
	const (
		long     = "a value or white space of more than 262144 bytes"
		longName = "a name or white space of more than 4096 bytes"
	)

	string1k := `,"` + strings.Repeat("a", 1000) + `"`
	for _, tt := range []struct {
		name string
		body io.Reader
		want string
	}{
		{"white space", &endless{text: " \n"}, long},
		{"white space in an object", unknown(" "), "/x: " + long},
		{"a string nobody asked for", &endless{head: `{"x":"`, text: "a"}, "/x: " + long},
		{"a name", &endless{head: `{"`, text: "a"}, longName},
		{"an id", &endless{head: `{"operations":[{"id":"`, text: "a"}, "/operations/0/id: " + long},
		{"a number", &endless{head: `{"operations":[{"stats":{"total":`, text: "1"}, "/operations/0/stats/total: " + long},
		{"an array for an id", &endless{head: `{"operations":[{"id":[0`, text: ",0"}, "/operations/0/id: " + long},
		{"an array nobody asked for", &endless{head: `{"x":[0`, text: ",0"}, "more than 10000 values"},
		{"a nested array", &endless{head: `{"x":[[0`, text: string1k}, "longer than 16777216 bytes"},
		{"members nobody asked for", &endless{head: `{"x":0`, text: `,"y":0`}, "more than 10000 values"},
		{"members of a member", &endless{head: `{"x":{"y":{"z":0`, text: string1k + ":0"}, "longer than 16777216 bytes"},
		{"long names", unknown(`{"` + strings.Repeat("a", 1<<17) + `":`), longName},
		{"names as long as may be", unknown(`{"` + strings.Repeat("a", maxName-2) + `":`), "nested more than 20 deep"},
		{"names a little longer", unknown(`{"` + strings.Repeat("a", maxName+1) + `":`), longName},
		{"nesting", unknown("[" + strings.Repeat(" ", 1<<13)), "nested more than 20 deep"},
		{"operations", &endless{head: `{"operations":[` + one, text: "," + one}, "more than 10000 values"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := readPage(tt.body, new(Page))
			runtime.ReadMemStats(&after)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
			if took := (after.TotalAlloc - before.TotalAlloc) >> 20; took > 32 {
				t.Errorf("allocated %d MiB", took)
			}
		})
	}
}

// TestLongStatusesAreNotKept checks that long statuses are not kept, even if they are not too long for a value.
func TestLongStatusesAreNotKept(t *testing.T) {
	const one = `{"id":"a","status":"%s","stats":%s,"createdAt":"2026-03-01T12:00:00Z","updatedAt":"2026-03-01T12:00:00Z"}`
	stats := `{"` + strings.Join(statNames, `":0,"`) + `":0}`
	var ops []string
	for i := range 60 {
		ops = append(ops, fmt.Sprintf(one, strings.Repeat(string(rune('a'+i%26)), 250_000), stats))
	}
	body := strings.NewReader(`{"operations":[` + strings.Join(ops, ",") + `],"pagination":{"next":null}}`)
	var before, after runtime.MemStats
	var page Page
	runtime.ReadMemStats(&before)
	err := readPage(body, &page)
	runtime.ReadMemStats(&after)
	if err != nil || len(page.Operations) != 60 || page.Operations[59].Status != StatusOther {
		t.Fatalf("%d operations, error %v", len(page.Operations), err)
	}
	if took := (after.TotalAlloc - before.TotalAlloc) >> 20; took > 4 {
		t.Errorf("allocated %d MiB", took)
	}
}

// TestLongestValue checks that a value that is too long is refused, in whatever chunks it arrives.
func TestLongestValue(t *testing.T) {
	body := func(length int) io.Reader {
		return strings.NewReader(`{"x":"` + strings.Repeat("a", length-2) + `",` + pageOf(``, one)[1:])
	}
	for _, tt := range []struct {
		name   string
		chunks func(io.Reader) io.Reader
	}{
		{"as much as fits", func(r io.Reader) io.Reader { return r }},
		{"half of that", iotest.HalfReader},
		{"the end together with the last of it", iotest.DataErrReader},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := readPage(tt.chunks(body(maxValue)), new(Page)); err != nil {
				t.Error(err)
			}
			for _, length := range []int{maxValue + 1, maxValue * 3 / 2, 2 * maxValue} {
				var decode *DecodeError
				if err := readPage(tt.chunks(body(length)), new(Page)); !errors.As(err, &decode) {
					t.Errorf("%d bytes: got %v, want a *DecodeError", length, err)
				}
			}
		})
	}
}

// TestKeptIDsDoNotPinThePage checks that an id that is kept does not keep the whole answer in memory.
func TestKeptIDsDoNotPinThePage(t *testing.T) {
	template := []byte(pageJSON(500, "null"))
	before := heapInUse()
	var kept []string
	for range 40 {
		body := bytes.Clone(template)
		var p Page
		if err := readPage(bytes.NewReader(body), &p); err != nil {
			t.Fatal(err)
		}
		kept = append(kept, p.Operations[250].ID)
	}

	if grown := heapInUse() - before; grown > int64(10*len(template)) {
		t.Errorf("%d KiB more in use for %d ids, pages are of %d KiB", grown>>10, len(kept), len(template)>>10)
	}
	runtime.KeepAlive(kept)
}

func heapInUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc) //nolint:gosec // far from overflowing
}

var rfc3339 = regexp.MustCompile(`^"[-\d]{10}T\d\d:\d\d:\d\d(\.\d+)?(Z|[-+]([01]\d|2[0-3]):[0-5]\d)"$`)

// reference decodes a page by the same rules with encoding/json alone, which is slow but simple.
func reference(body []byte) (Page, error) {
	var top struct {
		Operations, Pagination json.RawMessage
	}
	members := map[string]*json.RawMessage{"operations": &top.Operations, "pagination": &top.Pagination}
	if err := exact(body, members); err != nil {
		return Page{}, err
	}
	var p Page
	var operations []json.RawMessage
	if err := json.Unmarshal(top.Operations, &operations); err != nil || operations == nil {
		return p, fmt.Errorf("operations: %w", err)
	}

	for _, raw := range operations {
		var id, status, stats, created, updated json.RawMessage
		if err := exact(raw, map[string]*json.RawMessage{
			"id": &id, "status": &status, "stats": &stats, "createdAt": &created, "updatedAt": &updated,
		}); err != nil {
			return p, err
		}

		var op Operation
		if err := errors.Join(json.Unmarshal(id, &op.ID), json.Unmarshal(status, &op.Status),
			json.Unmarshal(created, &op.CreatedAt), json.Unmarshal(updated, &op.UpdatedAt)); err != nil {
			return p, err
		}

		if op.ID == "" || op.Status == "" || op.CreatedAt.IsZero() || op.UpdatedAt.IsZero() {
			return p, errors.New("null or zero")
		}
		if !IsName(op.ID) {
			return p, errors.New("no id")
		}
		if !rfc3339.Match(created) || !rfc3339.Match(updated) {
			return p, errors.New("not quite RFC 3339, which encoding/json lets pass")
		}
		if !IsName(string(op.Status)) {
			op.Status = StatusOther
		}
		op.CreatedAt, op.UpdatedAt = op.CreatedAt.UTC(), op.UpdatedAt.UTC()
		raws := make([]json.RawMessage, len(statNames))
		members := map[string]*json.RawMessage{}
		for i, name := range statNames {
			members[name] = &raws[i]
		}
		if err := exact(stats, members); err != nil {
			return p, err
		}

		for i, raw := range raws {
			var n *uint64
			if err := json.Unmarshal(raw, &n); err != nil || n == nil || *n > 1<<63-1 {
				return p, fmt.Errorf("stat %s: %w", raw, err)
			}
			op.Stats[i] = int64(*n)
		}

		p.Operations = append(p.Operations, op)
	}

	var pagination map[string]json.RawMessage
	if err := json.Unmarshal(top.Pagination, &pagination); err != nil || pagination == nil {
		return p, fmt.Errorf("pagination: %w", err)
	}
	if next, ok := pagination["next"]; ok {
		return p, json.Unmarshal(next, &p.Next)
	}
	return p, nil
}

// exact takes members with exactly these names from an object. encoding/json's structs ignore case.
func exact(body []byte, members map[string]*json.RawMessage) error {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(body, &object); err != nil {
		return err
	}
	for name, into := range members {
		raw, ok := object[name]
		if !ok {
			return errors.New("no " + name)
		}
		*into = raw
	}
	return nil
}

func FuzzDecodePage(f *testing.F) {
	f.Add([]byte(pageOf(`"next":null,"self":"s"`, one, one)))
	f.Add([]byte(pageOf(`"next":"t"`)))
	f.Add([]byte(pageJSON(3, `"a b"`)))
	f.Add([]byte(pageOf(`"next":"\ud800"`, strings.Replace(one, `"read":9`, `"read":-0`, 1))))
	f.Add([]byte("<html>"))
	f.Fuzz(func(t *testing.T, body []byte) {
		before := bytes.Clone(body)
		var got Page
		err := readPage(bytes.NewReader(body), &got)
		if !bytes.Equal(before, body) {
			t.Fatal("the decoder wrote to its input")
		}
		if err != nil {
			var decode *DecodeError
			if !errors.As(err, &decode) {
				t.Fatalf("%T: %v", err, err)
			}
			if new(sanitizer).decodeError(decode); len(err.Error()) > 400 || !utf8.ValidString(err.Error()) {
				t.Fatalf("%T: %v", err, err)
			}
		}

		want, refErr := reference(body)
		if err == nil {
			if refErr != nil {
				t.Fatalf("taken, but encoding/json says %v", refErr)
			}
			samePage(t, got, want)
		}
		if refErr == nil {
			// Written anew it has no doubled members and no broken UTF-8, which
			// encoding/json lets pass.
			anew, err := rewrite(body)
			if err != nil {
				t.Fatal(err)
			}
			if want, err = reference(anew); err != nil {
				return // such as -0 or 1.0, which change on the way
			}
			if err = readPage(bytes.NewReader(anew), &got); err != nil {
				t.Fatalf("refused, though encoding/json takes it: %v\n%s", err, anew)
			}
			samePage(t, got, want)
		}
	})
}

func samePage(t *testing.T, got, want Page) {
	t.Helper()
	if !slices.Equal(got.Operations, want.Operations) || got.Next != want.Next {
		t.Fatalf("got  %+v\nwant %+v", got, want)
	}
}

func rewrite(body []byte) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	return json.Marshal(v)
}
