package twilio

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Errors to test for with errors.Is.
var (
	// ErrUnauthorized matches any *Error with status 401 or 403.
	ErrUnauthorized = errors.New("credentials refused")
	// ErrThrottled matches any *ThrottledError, and any *Error with status 429.
	ErrThrottled = errors.New("throttled by the API")
	// ErrInvalidOperationID is returned without a request being made.
	ErrInvalidOperationID = errors.New("invalid operation id, it should look like " +
		"comms_operation_01h9krwprkeee8fzqspvwy6nq8")
	// ErrBodyTooLarge means that the body of a 200 has more bytes, compressed or not, than the client reads.
	ErrBodyTooLarge = fmt.Errorf("the answer is longer than %d bytes", maxBody)
	// ErrHeaderTooLarge means that the header of an answer has more bytes than the client reads.
	ErrHeaderTooLarge = fmt.Errorf("the header of the answer is longer than %d bytes", maxHeader)
)

const maxDetails = 3 // errors kept of one answer

// Error is an answer other than 200.
type Error struct {
	StatusCode int
	Details    []Detail // empty if the body is not as documented
}

// Detail is one of the errors in the body of such an answer (TwilioError). Its texts have at most 200 bytes and no
// control characters.
type Detail struct {
	Code    int    `json:"code"`    // Twilio error code, such as 20404
	Message string `json:"message"` // for humans
	Context string `json:"context"` // JSON path of the field at fault, or ""
}

// Error returns one line with status, codes, messages and what to check.
func (e *Error) Error() string {
	text := strings.TrimSpace(fmt.Sprintf("%d %s", e.StatusCode, http.StatusText(e.StatusCode)))

	var details []string
	for _, d := range e.Details {
		detail := fmt.Sprintf("%d %s", d.Code, d.Message)
		if d.Context != "" {
			detail += " (at " + d.Context + ")"
		}
		details = append(details, detail)
	}
	if len(details) > 0 {
		text += ": " + strings.Join(details, "; ")
	}

	switch {
	case e.StatusCode == http.StatusUnauthorized:
		text += " (check the account SID and auth token, or the API key and its secret)"
	case e.StatusCode >= 300 && e.StatusCode < 400:
		text += " (redirects are not followed; check the base URL)"
	}
	return text
}

// Is reports whether target is ErrUnauthorized or ErrThrottled and matches.
func (e *Error) Is(target error) bool {
	switch e.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return target == ErrUnauthorized
	case http.StatusTooManyRequests:
		return target == ErrThrottled
	}
	return false
}

// ThrottledError means that no request went out: after a 429 or 503, the API wants a longer wait than the caller's
// deadline allows.
type ThrottledError struct {
	RetryAt    time.Time // local time at which requests may go out again
	StatusCode int       // 429 or 503
}

func (e *ThrottledError) Error() string {
	at := e.RetryAt.UTC().Format(time.RFC3339)
	return fmt.Sprintf("%v with %d: no request before %s", ErrThrottled, e.StatusCode, at)
}

// Is reports whether target is ErrThrottled.
func (e *ThrottledError) Is(target error) bool { return target == ErrThrottled }

// NetworkError means that a request got no complete answer: the connection could not be made or broke, the certificate
// is not trusted, or Options.Timeout has passed. The end of the caller's context is never a NetworkError.
type NetworkError struct{ Err error }

func (e *NetworkError) Error() string { return oneLine(e.Err.Error(), maxErrorText) }

// Unwrap returns the cause.
func (e *NetworkError) Unwrap() error { return e.Err }

// Timeout reports whether the request timed out.
func (e *NetworkError) Timeout() bool {
	var t interface{ Timeout() bool }
	return errors.As(e.Err, &t) && t.Timeout()
}

// Temporary reports whether the error may pass by itself.
func (e *NetworkError) Temporary() bool {
	var certificate *tls.CertificateVerificationError
	var file *fs.PathError // of a secret or a certificate
	return !errors.As(e.Err, &certificate) && !errors.As(e.Err, &file) && !errors.Is(e.Err, http.ErrSchemeMismatch)
}

// timeoutError is the cause of a NetworkError if Options.Timeout has passed.
type timeoutError struct{ after time.Duration }

func (e timeoutError) Error() string { return "no complete answer within " + e.after.String() }
func (timeoutError) Timeout() bool   { return true }

// SecretError means that no request went out because the secret could not be read.
type SecretError struct{ Err error }

func (e *SecretError) Error() string {
	return "cannot read the secret: " + oneLine(e.Err.Error(), maxErrorText)
}

// Unwrap returns the cause.
func (e *SecretError) Unwrap() error { return e.Err }

// DecodeError says where and how a 200 differs from the JSON that the API documents. Of the answer it shows only the
// names on the way to the fault.
type DecodeError struct {
	Pointer string // JSON pointer (RFC 6901) to the fault, "" for the whole answer
	Problem string
}

func (e *DecodeError) Error() string {
	if e.Pointer == "" {
		return "not the documented answer: " + e.Problem
	}
	return "not the documented answer: " + e.Pointer + ": " + e.Problem
}

// PaginationError means that the list does not end: it leads back to an earlier page, or has more pages than any list
// can have.
type PaginationError struct {
	Page  int // the last page read, counting from 1
	Limit int // the most pages of a list, if it was reached; otherwise 0
}

func (e *PaginationError) Error() string {
	if e.Limit > 0 {
		return fmt.Sprintf("the list does not end within %d pages", e.Limit)
	}
	return fmt.Sprintf("page %d names a page as the next that was read before", e.Page)
}

// decodeErrors decodes the body of an answer other than 200: the documented one, or the one of Twilio's general API,
// which answers if credentials are refused. Any other body, such as a proxy's page, has no details; the status says
// enough.
func decodeErrors(body []byte, s *sanitizer) []Detail {
	var e struct {
		Errors []Detail `json:"errors"`
		Detail
	}
	err := json.Unmarshal(body, &e, jsontext.AllowDuplicateNames(true))
	if err != nil {
		return nil
	}

	details := e.Errors[:min(len(e.Errors), maxDetails)]
	if len(details) == 0 && e.Code != 0 {
		details = []Detail{e.Detail}
	}
	return sanitizeDetails(details, s)
}

// sanitizeDetails makes the texts of details safe to show. A secret may begin in one text and continue in the next: of
// the same kind, or of the same detail.
func sanitizeDetails(details []Detail, s *sanitizer) []Detail {
	var messages, contexts []string
	for i := range details {
		messages = append(messages, details[i].Message)
		contexts = append(contexts, details[i].Context)
	}
	messages = s.redact(messages...)
	contexts = s.redact(contexts...)

	var all []string
	for i := range details {
		all = append(all, messages[i], contexts[i])
	}
	all = s.redact(all...)

	for i := range details {
		d := &details[i]
		d.Message = oneLine(all[2*i], maxErrorText)
		d.Context = oneLine(all[2*i+1], maxErrorText)
		if d.Context == "null" { // examples in the reference have it as a string
			d.Context = ""
		}
	}
	return details
}
