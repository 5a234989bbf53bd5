package twilio

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// plainPage is what one would write for encoding/json.
type plainPage struct {
	Operations []plainOperation `json:"operations"`
	Pagination struct {
		Next string `json:"next"`
	} `json:"pagination"`
}

type plainOperation struct {
	ID        string     `json:"id"`
	Status    string     `json:"status"`
	Stats     plainStats `json:"stats"`
	CreatedAt time.Time  `json:"createdAt"`
	UpdatedAt time.Time  `json:"updatedAt"`
}

type plainStats struct {
	Total         int64 `json:"total"`
	Recipients    int64 `json:"recipients"`
	Attempts      int64 `json:"attempts"`
	Unaddressable int64 `json:"unaddressable"`
	Scheduled     int64 `json:"scheduled"`
	Queued        int64 `json:"queued"`
	Sent          int64 `json:"sent"`
	Delivered     int64 `json:"delivered"`
	Read          int64 `json:"read"`
	Undelivered   int64 `json:"undelivered"`
	Failed        int64 `json:"failed"`
	Canceled      int64 `json:"canceled"`
}

// pageJSON returns a page of n operations.
func pageJSON(n int, next string) string {
	var b strings.Builder
	b.WriteString(`{"operations":[`)
	statuses := []Status{StatusCompleted, StatusCompleted, StatusProcessing, StatusScheduled, StatusCanceled}
	created := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		total := i * 7919 % 10_000
		fmt.Fprintf(&b, `{"id":"%s","status":"%s","stats":{"total":%d,"recipients":%d,"attempts":%d,"unaddressable":%d,`+
			`"queued":%d,"sent":%d,"scheduled":%d,"delivered":%d,"read":%d,"undelivered":%d,"failed":%d,"canceled":%d},`+
			`"createdAt":"%s","updatedAt":"%s"}`,
			testID(i), statuses[i%len(statuses)], total, total, total+i%3, i%2, i%5, i%7, 0, total/2, total/3, i%11, i%13, 0,
			created.Add(time.Duration(i)*100*time.Millisecond).Format(time.RFC3339Nano),
			created.Add(time.Duration(i)*time.Second).Format(time.RFC3339Nano))
	}

	fmt.Fprintf(&b, `],"pagination":{"next":%s,"self":"self"}}`, next)
	return b.String()
}

func testID(i int) string {
	return fmt.Sprintf("comms_operation_01h2xcejqtf2nbrexx%08d", i)
}

// BenchmarkDecodePage compares the decoder with encoding/json on a page of 1000 operations. The last benchmark
// alternates between the two, so that other load on the machine affects both; faster-by is the ratio of their fastest
// runs.
func BenchmarkDecodePage(b *testing.B) {
	body := []byte(pageJSON(1000, `"next-token"`))
	plain := func(b *testing.B) {
		var p plainPage
		if err := json.Unmarshal(body, &p); err != nil || len(p.Operations) != 1000 {
			b.Fatal(err, len(p.Operations))
		}
	}

	var page Page
	ours := func(b *testing.B) {
		if err := readPage(bytes.NewReader(body), &page); err != nil || len(page.Operations) != 1000 {
			b.Fatal(err, len(page.Operations))
		}
	}

	for _, bm := range []struct {
		name   string
		decode func(*testing.B)
	}{{"encoding-json", plain}, {"twilio", ours}} {
		b.Run(bm.name, func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				bm.decode(b)
			}
		})
	}

	b.Run("in-turn", func(b *testing.B) {
		timed := func(f func(*testing.B)) time.Duration {
			start := time.Now()
			f(b)
			return time.Since(start)
		}
		fastestPlain, fastest := time.Hour, time.Hour
		for b.Loop() {
			fastestPlain = min(fastestPlain, timed(plain))
			fastest = min(fastest, timed(ours))
		}
		b.ReportMetric(float64(fastestPlain)/float64(fastest), "faster-by")
	})
}

// BenchmarkPages reads and decodes ten pages of 1000 operations over loopback. The server only copies bytes.
func BenchmarkPages(b *testing.B) {
	const pages = 10
	for _, encoding := range []string{"", "gzip"} {
		b.Run("encoding="+encoding, func(b *testing.B) {
			bodies := make([][]byte, pages)
			for i := range bodies {
				next := "null"
				if i < pages-1 {
					next = strconv.Quote(strconv.Itoa(i + 1))
				}
				bodies[i] = []byte(pageJSON(1000, next))
				if encoding != "" {
					bodies[i] = compressed(b, bodies[i])
				}
			}

			base, transport := testServer(b, func(w http.ResponseWriter, r *http.Request) {
				if encoding != "" {
					w.Header().Set("Content-Encoding", encoding)
				}
				page, _ := strconv.Atoi(r.URL.Query().Get("pageToken"))
				_, _ = w.Write(bodies[page])
			})

			c := testClient(b, base, transport)
			b.ReportAllocs()
			for b.Loop() {
				n := 0
				for page, err := range c.Pages(b.Context(), Query{PageSize: 1000}) {
					if err != nil {
						b.Fatal(err)
					}
					n += len(page.Operations)
				}
				if n != pages*1000 {
					b.Fatal(n)
				}
			}

			b.ReportMetric(float64(b.N*pages)/b.Elapsed().Seconds(), "pages/s")
		})
	}
}
