package twilio

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/common/version"
	"golang.org/x/sync/semaphore"
)

const (
	maxErrorBody = 64 << 10 // bytes read of the body of an answer other than 200, compressed or not

	// readAhead is how many bytes of a body are read before its turn to be decoded. That is enough for a compressed page
	// of the documented length.
	readAhead = 128 << 10

	// patience is how long in total an answer being decoded may wait for the network without losing its turn.
	patience = time.Second
)

// send sends a request and reads the answer.
func (c *Client) send(ctx context.Context, r *request) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url.String(), http.NoBody)
	if err != nil {
		return 0, err
	}
	req.Header = r.header
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Accept-Encoding", "gzip")
	req.Header.Set("User-Agent", version.ComponentUserAgent("twilio_operations_exporter"))

	proxy, _ := c.options.Proxy(req) // the transport will return the same error
	if proxy != nil {
		c.sanitizer.addUser(proxy.User)
	}

	// Without an http.Client, no redirect is followed.
	resp, err := c.options.Transport.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close() //nolint:errcheck // nothing was written

	c.readHeader(r, resp)
	if resp.StatusCode != http.StatusOK {
		return resp.StatusCode, c.readError(resp)
	}
	return resp.StatusCode, c.readBody(ctx, r, resp)
}

// explained turns errors of a transport or a decoder into errors of this package, with sanitized text. The code is 0 if
// the answer was not complete.
func (c *Client) explained(next step) step {
	return func(ctx context.Context, r *request) (int, error) {
		code, err := next(ctx, r)
		if err == nil {
			return code, nil
		}

		if api, ok := errors.AsType[*Error](err); ok {
			beyond := c.cooldownOf(r).beyond(ctx)
			if beyond != nil && throttles(code) {
				return code, beyond
			}
			return code, api
		}
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		if decode, ok := errors.AsType[*DecodeError](err); ok { // the answer was complete, whatever it was
			c.sanitizer.decodeError(decode)
			return code, decode
		}
		return 0, c.incomplete(err)
	}
}

// incomplete explains the error of an answer that was not read to its end.
func (c *Client) incomplete(err error) error {
	network, ofNetwork := errors.AsType[*NetworkError](err)
	record, ofTLS := errors.AsType[tls.RecordHeaderError](err)
	switch {
	case ofNetwork:
		return network
	case errors.Is(err, ErrBodyTooLarge):
		return ErrBodyTooLarge
	case isHeaderTooLarge(err):
		return ErrHeaderTooLarge
	case ofTLS && string(record.RecordHeader[:]) == "HTTP/":
		return &NetworkError{http.ErrSchemeMismatch}
	default:
		return &NetworkError{c.sanitizer.err(err)}
	}
}

// isHeaderTooLarge reports whether a transport refused an answer because of the length of its header. net/http has no
// type for this error, neither for HTTP/1 nor for HTTP/2.
func isHeaderTooLarge(err error) bool {
	text := err.Error()
	return strings.Contains(text, "server response headers exceeded") ||
		strings.Contains(text, "response header list larger than advertised limit")
}

// readHeader takes from an answer what concerns later requests. It does so before the body is read, which may take
// long.
func (c *Client) readHeader(r *request, resp *http.Response) {
	now := time.Now()
	date, err := http.ParseTime(resp.Header.Get("Date"))
	if throttles(resp.StatusCode) {
		if err != nil {
			date = c.Now()
		}
		c.coolDown(r, resp, date, now)
		return
	}

	if resp.StatusCode != http.StatusOK || err != nil || r.priority == sampling {
		return
	}
	if c.clock.observe(date, now) {
		_ = level.Warn(c.options.Logger).Log("msg", "clocks differ by more than an hour, not correcting for it",
			"local", now.UTC().Format(time.RFC3339), "api", date.UTC().Format(time.RFC3339))
	}
}

// coolDown starts or extends the cooldown because of an answer that arrived now. date is the time by the API's clock.
func (c *Client) coolDown(r *request, resp *http.Response, date, now time.Time) {
	logger := log.With(c.options.Logger, "endpoint", r.endpoint, "code", resp.StatusCode)

	header := resp.Header.Values("Retry-After")
	wait, ok := retryAfter(header, date)
	if wait > maxRetryAfter {
		_ = level.Warn(logger).Log("msg", "Retry-After is longer than an hour, waiting an hour",
			"retry_after", c.sanitizer.text(strings.Join(header, ", "), maxErrorText))
		wait = maxRetryAfter
	}
	if ok {
		wait += jitter(100*time.Millisecond + min(wait/20, 2*time.Second))
	} else {
		wait = c.backoff(r.attempts - 1)
	}

	until := now.Add(wait)
	if c.cooldownOf(r).extend(until, resp.StatusCode) {
		_ = level.Warn(logger).Log("msg", "API is throttling, pausing requests", "until", until.UTC().Format(time.RFC3339))
	}
}

// readError returns the *Error of an answer other than 200, even if its body cannot be read.
func (c *Client) readError(resp *http.Response) *Error {
	body, err := decompress(resp, &boundedReader{resp.Body, maxErrorBody})
	var text []byte
	if err == nil {
		text, _ = io.ReadAll(io.LimitReader(body, maxErrorBody))
	}
	return &Error{StatusCode: resp.StatusCode, Details: decodeErrors(text, &c.sanitizer)}
}

// readBody decodes the body of a 200 as it arrives, so that no body is in memory as a whole. At most readAhead bytes
// are read before it is decoded.
func (c *Client) readBody(ctx context.Context, r *request, resp *http.Response) error {
	buffer, _ := aheads.Get().(*bytes.Buffer)
	defer aheads.Put(buffer)
	buffer.Reset()

	compressed := &boundedReader{resp.Body, maxBody}
	_, err := io.CopyN(buffer, compressed, readAhead)
	whole := errors.Is(err, io.EOF)
	if err != nil && !whole {
		return err
	}

	turn := &decodeTurn{
		ctx:      ctx,
		turns:    c.options.Decoding,
		timeout:  r.timeout,
		patience: patience,
	}
	err = turn.take()
	if err != nil {
		return err
	}
	defer turn.giveBack()

	var body io.Reader = buffer
	if !whole {
		body = io.MultiReader(buffer, &patientReader{compressed, turn})
	}
	body, err = decompress(resp, body)
	if err == nil {
		err = r.decode(body)
	}

	_, corrupt := errors.AsType[flate.CorruptInputError](err)
	if corrupt || errors.Is(err, gzip.ErrHeader) || errors.Is(err, gzip.ErrChecksum) {
		return &DecodeError{Problem: "corrupt gzip"}
	}
	return err
}

// aheads holds buffers for what is read ahead.
var aheads = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// unaskedEncoding begins the problem of an answer with an encoding that the client did not ask for.
const unaskedEncoding = "content encoding "

// decompress returns the decompressed body. The client itself asks for gzip and decompresses, as the transport may be
// set up not to.
func decompress(resp *http.Response, body io.Reader) (io.Reader, error) {
	switch encoding := resp.Header.Get("Content-Encoding"); strings.ToLower(encoding) {
	case "", "identity":
		return body, nil
	case "gzip":
		u := &unzipper{compressed: body}
		plain, err := gzip.NewReader(sourceOf{u})
		if errors.Is(err, io.EOF) {
			return http.NoBody, nil // an empty body
		}
		u.plain = plain
		return u, err
	default:
		return nil, &DecodeError{Problem: unaskedEncoding + encoding + ", which was not requested"}
	}
}

// maxWaste is how many more bytes may go into an unzipper than come out. Honest data stays below: incompressible bytes
// grow little, and a gzip header has at most some 64 KiB.
const maxWaste = 128 << 10

// An unzipper decompresses gzip. It refuses data that holds next to nothing, such as many empty members, which would
// only cost CPU time.
type unzipper struct {
	compressed io.Reader
	plain      *gzip.Reader
	in, out    int
}

// Read implements io.Reader.
func (u *unzipper) Read(p []byte) (int, error) {
	n, err := u.plain.Read(p)
	u.out += n
	return n, err
}

// sourceOf is the reader from which an unzipper's gzip.Reader reads.
type sourceOf struct{ *unzipper }

// Read implements io.Reader.
func (s sourceOf) Read(p []byte) (int, error) {
	if s.in-s.out > maxWaste {
		return 0, &DecodeError{Problem: "empty gzip"}
	}
	n, err := s.compressed.Read(p[:min(len(p), 4096)])
	s.in += n
	return n, err
}

// A boundedReader reads at most left bytes. It returns ErrBodyTooLarge if there are more.
type boundedReader struct {
	r    io.Reader
	left int
}

// Read implements io.Reader.
func (b *boundedReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p[:min(len(p), b.left+1)])
	b.left -= n
	if b.left < 0 {
		b.left = 0
		return 0, ErrBodyTooLarge
	}
	return n, err
}

// A decodeTurn is one answer's turn to be decoded. Time spent waiting for it does not count in the request's timeout.
type decodeTurn struct {
	ctx      context.Context //nolint:containedctx // it is used while a body is read, as the body's own is
	turns    *Turns          // nil = there are enough for all
	timeout  *pausingTimer
	patience time.Duration // what is left of it

	mu    sync.Mutex
	taken bool
}

func (t *decodeTurn) take() error {
	if t.turns == nil {
		return nil
	}
	resume := t.timeout.pause()
	defer resume()
	err := t.turns.places.Acquire(t.ctx, 1)
	if err != nil {
		return err
	}

	t.mu.Lock()
	defer t.mu.Unlock()
	t.taken = true
	return nil
}

func (t *decodeTurn) giveBack() {
	if t.turns == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.taken {
		t.taken = false
		t.turns.places.Release(1)
	}
}

// lost reports whether the turn was given back.
func (t *decodeTurn) lost() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.turns != nil && !t.taken
}

// A patientReader reads from the network while an answer is being decoded. If the decoder has to wait too long, it
// gives the turn back meanwhile.
type patientReader struct {
	r    io.Reader
	turn *decodeTurn
}

// Read implements io.Reader.
func (p *patientReader) Read(b []byte) (int, error) {
	start := time.Now()
	timer := time.AfterFunc(p.turn.patience, p.turn.giveBack)
	n, err := p.r.Read(b)
	timer.Stop()
	p.turn.patience = max(0, p.turn.patience-time.Since(start))

	if !p.turn.lost() {
		return n, err
	}
	takeErr := p.turn.take()
	if takeErr != nil {
		return n, takeErr
	}
	return n, err
}

// Turns bound how many answers are decoded at the same time by all clients that share them, and so how many pages are
// in memory, however slow the processor is.
type Turns struct{ places *semaphore.Weighted }

// NewTurns returns turns for n answers at the same time.
func NewTurns(n int) *Turns { return &Turns{semaphore.NewWeighted(int64(n))} }
