package web

import (
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	// renderedAtOnce is how many accounts all scrapes together render at a time: that many take about 50 MB while they
	// are rendered. A scrape counts as leastRendered at least, for what it takes besides.
	renderedAtOnce = 500
	leastRendered  = 50
	// Answers that are written hold at most maxHeld bytes, or else minHeld answers.
	maxHeld = 16 << 20
	minHeld = 4
)

// renderer bounds the memory that scrapes take, however many there are and however slowly they read.
type renderer struct {
	places *semaphore.Weighted // of accounts

	mu      sync.Mutex // guards what follows
	held    int        // bytes of answers
	answers []*answer  // being written, the oldest first
}

// answer is a response that is rendered, and then written.
type answer struct {
	http.ResponseWriter // has the header, and gets the rest at the end
	code                int
	body                pieces
}

// pieces are a text in pieces. It takes as much memory as it is long; a buffer that grows takes twice as much, and leaves
// that much behind.
type pieces [][]byte

const pieceSize = 32 << 10

// Write implements io.Writer.
func (p *pieces) Write(text []byte) (int, error) {
	for rest := text; len(rest) > 0; {
		last := len(*p) - 1
		if last < 0 || len((*p)[last]) == pieceSize {
			*p = append(*p, make([]byte, 0, pieceSize))
			last++
		}
		piece := (*p)[last]
		n := min(len(rest), pieceSize-len(piece))
		(*p)[last] = append(piece, rest[:n]...)
		rest = rest[n:]
	}
	return len(text), nil
}

// size is how many bytes of memory they take.
func (p *pieces) size() int { return len(*p) * pieceSize }

func newRenderer() *renderer { return &renderer{places: semaphore.NewWeighted(renderedAtOnce)} }

// render renders h's answer, which shows that many accounts, when it is its turn, and writes it. Turns come soon, as
// rendering waits for nobody. The request waits until its client hangs up, as Prometheus does after its scrape timeout.
func (r *renderer) render(w http.ResponseWriter, req *http.Request, accounts int, h http.Handler) {
	weight := int64(min(max(accounts, leastRendered), renderedAtOnce))
	// Acquire alone would fail while the exporter stops, although places are free.
	if !r.places.TryAcquire(weight) && r.places.Acquire(req.Context(), weight) != nil {
		setDeadlines(w)
		writeText(w, http.StatusServiceUnavailable, "The exporter is stopping.")
		return
	}

	a := &answer{ResponseWriter: w, code: http.StatusOK}
	func() {
		defer r.places.Release(weight)
		h.ServeHTTP(a, req)
	}()

	setDeadlines(w)
	r.add(a)
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.remove(a)
	}()

	w.WriteHeader(a.code)
	for _, piece := range a.body {
		if _, err := w.Write(piece); err != nil {
			return // the client has gone, or was cut off
		}
	}
}

// add takes in an answer. Where answers hold too much, it cuts off the oldest: they are read slowly.
func (r *renderer) add(a *answer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answers = append(r.answers, a)
	r.held += a.body.size()
	for len(r.answers) > minHeld && r.held > maxHeld {
		_ = http.NewResponseController(r.answers[0].ResponseWriter).SetWriteDeadline(time.Now())
		r.remove(r.answers[0])
	}
}

// remove takes out an answer that was not cut off. r.mu is held.
func (r *renderer) remove(a *answer) {
	if i := slices.Index(r.answers, a); i >= 0 {
		r.held -= a.body.size()
		r.answers = slices.Delete(r.answers, i, i+1)
	}
}

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(code int) { a.code = code }

// Write implements http.ResponseWriter.
func (a *answer) Write(p []byte) (int, error) { return a.body.Write(p) }
