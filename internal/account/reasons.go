package account

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"time"
	"unicode"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"

	"twilio_operations_exporter/collector"
	"twilio_operations_exporter/collector/window"
	"twilio_operations_exporter/twilio"
)

const (
	// sampleBudget is the most requests for messages that an account makes within samplePeriod.
	sampleBudget = 60
	samplePeriod = 10 * time.Minute

	// refusedFor is how long look-ups pause after the API has refused to show messages.
	refusedFor = time.Hour

	// sampleAgain is how long to wait before an operation that has lost more is looked up again.
	sampleAgain = 10 * time.Minute
	// emptyAgain is how long to wait if no message was found. It doubles each time, up to sampleAgain.
	emptyAgain = time.Minute
)

// The statuses of lost messages (Messages resource).
const (
	messageFailed      twilio.Status = "FAILED"
	messageUndelivered twilio.Status = "UNDELIVERED"
)

// A sampler looks up some lost messages of an account's failing operations, to find out why they were lost. It does so
// only between refreshes, one message after the other, and without retries.
type sampler struct {
	samples   int // messages to look up of an operation
	tags      collector.OperationTags
	client    *twilio.Client
	refresher *collector.Refresher
	metrics   *collector.AccountMetrics
	logger    log.Logger

	// Only the look-up under way uses these.
	sent         []time.Time // requests in the last samplePeriod
	refusedUntil time.Time
}

// LookUpReasons makes r look up, between refreshes, why its failing operations lose messages, unless settings or
// resource rule that out. It must be called before r runs.
func LookUpReasons(r *collector.Refresher, client *twilio.Client, metrics *collector.AccountMetrics, logger log.Logger) {
	settings := r.Settings()
	if settings.Samples == 0 || settings.Named == 0 || settings.Resource == twilio.Emails {
		return
	}
	s := &sampler{
		samples:   settings.Samples,
		tags:      settings.Tags,
		client:    client,
		refresher: r,
		metrics:   metrics,
		logger:    log.With(logger, "account", settings.Account),
	}
	r.LookUpLost(s.lookUp)
}

// lookUp implements collector.LookUp.
func (s *sampler) lookUp(ctx context.Context, failing []*twilio.Operation) {
	sampled := s.refresher.Sampled()
	for _, op := range failing {
		now := time.Now()
		if !s.due(op, sampled, now) {
			continue
		}
		if ctx.Err() != nil || !s.mayAsk(now) {
			return
		}

		messages, err := s.sample(ctx, op)
		if err != nil && ctx.Err() == nil {
			s.failed(err)
		}
		if err == nil || len(messages) > 0 {
			s.refresher.Found(op, messages)
		}
	}
}

// due reports whether to look up an operation: for the first time, or again since its losses have doubled.
func (s *sampler) due(op *twilio.Operation, sampled collector.Sampled, now time.Time) bool {
	before, known := sampled.Operation(op.ID)
	if !known {
		return true
	}
	age := now.Sub(before.At)
	if age < 0 { // the clock was set back
		return true
	}
	if before.Empty > 0 { // messages may lag behind the stats of their operation
		wait := emptyAgain << min(before.Empty-1, 10)
		return age >= min(wait, sampleAgain)
	}
	return window.Lost(&op.Stats) >= 2*before.Lost && age >= sampleAgain
}

// mayAsk reports whether it may make the requests for one more operation.
func (s *sampler) mayAsk(now time.Time) bool {
	s.sent = slices.DeleteFunc(s.sent, func(at time.Time) bool { return now.Sub(at) >= samplePeriod })
	const lists = 2
	isAffordable := len(s.sent)+s.samples+lists <= sampleBudget
	isRefused := now.Before(s.refusedUntil)
	isThrottled := !s.client.MessagesRetryAt().IsZero()
	return isAffordable && !isRefused && !isThrottled
}

// failed records that a request for messages failed.
func (s *sampler) failed(err error) {
	reason := s.metrics.SampleFailed(err)
	level.Debug(s.logger).Log("msg", "looking up lost messages failed", "reason", reason.Label, "err", err)
	if !refused(err) {
		return
	}
	s.refusedUntil = time.Now().Add(refusedFor)
	level.Warn(s.logger).Log("msg", "the API refuses to show messages, not looking up reasons for failures for an hour",
		"err", err, "hint", "Allow the API key to read messages, or set --collector.failure-samples=0.")
}

// refused reports whether an error will persist: the account has no permission, or the API no such endpoint.
func refused(err error) bool {
	api, ok := errors.AsType[*twilio.Error](err)
	if !ok {
		return false
	}
	switch api.StatusCode {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound:
		return true
	}
	return false
}

// sample looks up some lost messages of an operation. With the last error, if there was one, it returns the messages
// that it found nevertheless.
func (s *sampler) sample(ctx context.Context, op *twilio.Operation) ([]collector.SampledMessage, error) {
	failed, err := s.list(ctx, op, messageFailed, op.Stats[twilio.Failed])
	if err != nil {
		return nil, err
	}
	undelivered, err := s.list(ctx, op, messageUndelivered, op.Stats[twilio.Undelivered])
	if err != nil {
		return nil, err
	}

	var messages []collector.SampledMessage
	var lastErr error
	for _, id := range s.choose(op, failed, undelivered) {
		s.sent = append(s.sent, time.Now())
		m, err := s.client.FetchMessage(ctx, id)
		if err != nil {
			lastErr = err
			if ctx.Err() != nil || refused(err) || errors.Is(err, twilio.ErrThrottled) {
				break
			}
			continue
		}
		if isLost(&m, op) {
			messages = append(messages, s.sampled(&m))
		}
	}
	return messages, lastErr
}

// list returns ids of an operation's lost messages with this status. lost is how many there are.
func (s *sampler) list(ctx context.Context, op *twilio.Operation, status twilio.Status, lost int64) ([]string, error) {
	if lost == 0 {
		return nil, nil
	}

	s.sent = append(s.sent, time.Now())
	query := twilio.MessageQuery{Operation: op.ID, Status: status, PageSize: s.samples}
	var ids []string
	for page, err := range s.client.Messages(ctx, query) {
		if err != nil {
			return nil, err
		}

		for i := range page.Messages {
			m := &page.Messages[i]
			isWanted := isLost(m, op) && m.Status == status
			if isWanted && twilio.ValidMessageID(m.ID) && !slices.Contains(ids, m.ID) {
				ids = append(ids, m.ID)
			}
		}
		break // more pages are not worth a request
	}
	return ids, nil
}

// isLost reports whether a message is a lost one of the operation. The API may ignore the filters of a list.
func isLost(m *twilio.Message, op *twilio.Operation) bool {
	lost := m.Status == messageFailed || m.Status == messageUndelivered
	return lost && slices.Contains(m.Operations, op.ID)
}

// choose returns the messages to look up: failed and undelivered ones in proportion to their numbers in the operation.
// If there are too few ids of one kind, the other makes up for them.
func (s *sampler) choose(op *twilio.Operation, failed, undelivered []string) []string {
	share := float64(op.Stats[twilio.Failed]) / float64(window.Lost(&op.Stats))
	fromFailed := int(share*float64(s.samples) + 0.5)
	if s.samples > 1 {
		fromFailed = min(max(fromFailed, 1), s.samples-1) // some of both
	}
	fromFailed = max(fromFailed, s.samples-len(undelivered))
	fromFailed = min(fromFailed, len(failed))
	fromUndelivered := min(s.samples-fromFailed, len(undelivered))
	return slices.Concat(failed[:fromFailed], undelivered[:fromUndelivered])
}

// sampled returns what is kept of a message.
func (s *sampler) sampled(m *twilio.Message) collector.SampledMessage {
	attempt := decisive(m.Attempts)
	kept := collector.SampledMessage{
		ID:      m.ID,
		Code:    cmp.Or(attempt.Code, collector.NoError),
		Channel: cmp.Or(attempt.Channel, collector.NoError),
		Text:    impersonal(attempt.Text),
		Tags:    map[string]string{},
	}
	for key := range s.tags.Keys() {
		if value := m.Tags[key]; value != "" {
			kept.Tags[key] = value
		}
	}
	return kept
}

// decisive returns the attempt that says why a message was lost: the last one with a code, or else the last one.
func decisive(attempts []twilio.Attempt) (decisive twilio.Attempt) {
	for _, attempt := range attempts {
		if attempt.Code != "" || decisive.Code == "" {
			decisive = attempt
		}
	}
	return decisive
}

// maxCodeDigits is the number of digits of an error code. Phone numbers have more.
const maxCodeDigits = 5

// impersonal returns Twilio's text about an error, or nothing if it may hold an e-mail address or a phone number.
// Anything but letters and colons may separate the digits of a phone number.
func impersonal(text string) string {
	digits := 0
	for _, r := range text {
		switch {
		case r == '@':
			return ""
		case unicode.IsDigit(r):
			digits++
		case r == ':' || unicode.IsLetter(r):
			digits = 0
		}
		if digits > maxCodeDigits {
			return ""
		}
	}
	return text
}
