package twilio

import (
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Requests for messages are samples, which nobody waits for. They must not affect refreshes: there are no retries, a
// Date does not set the clock, and a 429 holds back only samples. Errors hold nothing of the answer, as that may be
// personal data.

// MessagesRetryAt returns the local time before which no request for messages goes out because of a 429 or 503 to any
// request; zero if they may go out.
func (c *Client) MessagesRetryAt() time.Time {
	all := c.cooldown.retryAt()
	own := c.sampleCooldown.retryAt()
	if own.After(all) {
		return own
	}
	return all
}

// cooldownOf returns the cooldown that a 429 or 503 to a request starts.
func (c *Client) cooldownOf(r *request) *cooldown {
	if r.priority == sampling {
		return c.sampleCooldown
	}
	return c.cooldown
}

// throttledSample returns a *ThrottledError if a cooldown holds samples back. They do not wait for its end, so that
// Throttled counts only what refreshes wait for.
func (c *Client) throttledSample() error {
	for _, cooldown := range []*cooldown{c.cooldown, c.sampleCooldown} {
		if err := cooldown.lasting(); err != nil {
			return err
		}
	}
	return nil
}

// impersonal removes text of the answer from errors of samples.
func (c *Client) impersonal(next step) step {
	return func(ctx context.Context, r *request) (int, error) {
		code, err := next(ctx, r)
		if err != nil && r.priority == sampling {
			err = withoutText(err)
		}
		return code, err
	}
}

// withoutText returns an error without text of the answer; codes and documented names may stay.
func withoutText(err error) error {
	if api, ok := errors.AsType[*Error](err); ok {
		bare := &Error{StatusCode: api.StatusCode}
		for _, detail := range api.Details {
			if IsErrorCode(strconv.Itoa(detail.Code)) {
				bare.Details = append(bare.Details, Detail{Code: detail.Code})
			}
		}
		return bare
	}

	if decode, ok := errors.AsType[*DecodeError](err); ok {
		problem := decode.Problem
		for _, quoting := range []string{notJSON, unaskedEncoding} {
			if strings.HasPrefix(problem, quoting) {
				problem = strings.TrimSpace(quoting)
			}
		}
		return &DecodeError{Pointer: documentedPart(decode.Pointer), Problem: problem}
	}

	network, ok := errors.AsType[*NetworkError](err)
	if !ok {
		return err
	}
	// The transport may quote an answer that is not HTTP, unless the connection or the time was at fault.
	_, ofConnection := errors.AsType[*net.OpError](network.Err)
	if ofConnection || network.Timeout() {
		return err
	}
	return &NetworkError{errors.New("no complete answer")}
}

// documentedPart returns the beginning of a JSON pointer that consists of documented names and indices.
func documentedPart(pointer string) string {
	var documented strings.Builder
	for segment := range strings.SplitSeq(strings.TrimPrefix(pointer, "/"), "/") {
		isIndex := len(segment) <= len("10000") && allOf(segment, '0', '9')
		if !isIndex && !isMessageMember(segment) {
			break
		}
		documented.WriteString("/" + segment)
	}
	return documented.String()
}

// isMessageMember reports whether a message, or the page around it, has a documented member of this name.
func isMessageMember(name string) bool {
	for _, members := range [][]member{
		messagePageMembers, paginationMembers, messageMembers, relatedMembers, attemptMembers, fromMembers, errorMembers,
	} {
		if slices.ContainsFunc(members, func(m member) bool { return m.name == name }) {
			return true
		}
	}
	return false
}
