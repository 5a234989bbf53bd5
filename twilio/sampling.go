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

// Requests for messages are samples that nobody waits for: they must never be felt by a refresh. So they are not sent
// again, what the API answers to them tells neither the time nor when a refresh may go on, and what is said of their
// errors holds nothing of the answer, in which there may be personal data.

// MessagesRetryAt is the local time before which no request for messages goes out, because the API said so with a 429 or
// 503 to any request; zero when they may go out.
func (c *Client) MessagesRetryAt() time.Time {
	all := c.cooldown.retryAt()
	own := c.sampleCooldown.retryAt()
	if own.After(all) {
		return own
	}
	return all
}

// cooldownOf is the cooldown that an answer to a request starts.
func (c *Client) cooldownOf(r *request) *cooldown {
	if r.priority == sampling {
		return c.sampleCooldown
	}
	return c.cooldown
}

// throttledSample is a *ThrottledError if a cooldown holds samples back. They do not wait for its end: only what refreshes
// wait for is in Throttled.
func (c *Client) throttledSample() error {
	for _, cooldown := range []*cooldown{c.cooldown, c.sampleCooldown} {
		if err := cooldown.lasting(); err != nil {
			return err
		}
	}
	return nil
}

// impersonal takes what the API sent out of the errors of samples.
func (c *Client) impersonal(next step) step {
	return func(ctx context.Context, r *request) (int, error) {
		code, err := next(ctx, r)
		if err != nil && r.priority == sampling {
			err = withoutText(err)
		}
		return code, err
	}
}

// withoutText is an error without text of the answer. Codes and documented names are none.
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

	if network, ok := errors.AsType[*NetworkError](err); ok {
		// A transport quotes an answer that is no HTTP.
		if _, dialled := errors.AsType[*net.OpError](network.Err); !dialled && !network.Timeout() {
			return &NetworkError{errors.New("no complete answer")}
		}
	}
	return err
}

// documentedPart is the beginning of a JSON pointer that consists of documented names and of indices.
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
