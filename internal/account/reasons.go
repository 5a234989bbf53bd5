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

	// refusedFor is how long no message is asked for where the API does not let the account see them.
	refusedFor = time.Hour

	// sampleAgain is how soon an operation is looked up again that has lost more since; emptyAgain how soon one is of
	// which no message was found, at first.
	sampleAgain = 10 * time.Minute
	emptyAgain  = time.Minute
)

// The statuses of messages that are lost (Messages resource).
const (
	messageFailed      twilio.Status = "FAILED"
	messageUndelivered twilio.Status = "UNDELIVERED"
)

// A sampler looks up some of the messages that an account's failing operations have lost, to say why. It asks between
// refreshes only, one message after the other, and never again for what has failed.
type sampler struct {
	samples   int // messages of an operation; 0: none are looked up
	tags      collector.OperationTags
	client    *twilio.Client
	refresher *collector.Refresher
	metrics   *collector.AccountMetrics
	logger    log.Logger

	// What follows is of the one look-up under way.
	sent         []time.Time // requests of the last samplePeriod
	refusedUntil time.Time
}

// LookUpReasons has r look up, between its refreshes, why its failing operations lose messages, if that can be known. To
// be called before r runs.
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

// lookUp is the refresher's collector.LookUp.
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

// due reports whether an operation is to be looked up: it was not, or what it has lost has doubled since.
func (s *sampler) due(op *twilio.Operation, sampled collector.Sampled, now time.Time) bool {
	before, known := sampled.Operation(op.ID)
	if !known {
		return true
	}
	age := now.Sub(before.At)
	if age < 0 {
		return true // the clock was set back
	}
	if before.Empty > 0 {
		// Messages may lag behind the stats of their operation.
		wait := emptyAgain << min(before.Empty-1, 10)
		return age >= min(wait, sampleAgain)
	}
	return window.Lost(&op.Stats) >= 2*before.Lost && age >= sampleAgain
}

// mayAsk reports whether there may be requests for the messages of one more operation.
func (s *sampler) mayAsk(now time.Time) bool {
	s.sent = slices.DeleteFunc(s.sent, func(at time.Time) bool { return now.Sub(at) >= samplePeriod })
	most := s.samples + 2 // two lists
	return len(s.sent)+most <= sampleBudget && !now.Before(s.refusedUntil) && s.client.MessagesRetryAt().IsZero()
}

// failed notes that a request for messages has failed.
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

// refused reports whether an error stays as long as the account has the rights and the API that it has.
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

// sample looks up some messages that an operation has lost, in proportion to how they were lost. An error is the last
// one; messages that were found nevertheless are those of the operation.
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

// list returns ids of messages that an operation has lost in one way, if it has lost any.
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
			isAsked := isLost(m, op) && m.Status == status
			if isAsked && twilio.ValidMessageID(m.ID) && !slices.Contains(ids, m.ID) {
				ids = append(ids, m.ID)
			}
		}
		break // what is not on the first page is not worth a request
	}
	return ids, nil
}

// isLost reports whether a message is one that the operation has lost. The API may not select by operation or status.
func isLost(m *twilio.Message, op *twilio.Operation) bool {
	lost := m.Status == messageFailed || m.Status == messageUndelivered
	return lost && slices.Contains(m.Operations, op.ID)
}

// choose returns the messages to look up: as many as there are to be, those that failed and those that are undelivered
// in proportion to how many the operation has of each. What is missing of the one is made up for by the other.
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

// sampled is what is kept of a message.
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

// decisive is the attempt that says why a message was lost: the last one that has a code, or else the last one.
func decisive(attempts []twilio.Attempt) (decisive twilio.Attempt) {
	for _, attempt := range attempts {
		if attempt.Code != "" || decisive.Code == "" {
			decisive = attempt
		}
	}
	return decisive
}

// maxCodeDigits is how many digits the code of an error has; a phone number has more.
const maxCodeDigits = 5

// impersonal returns what Twilio says of an error, or nothing if it may speak of a recipient, by an address of e-mail or
// by a phone number. Between the digits of a phone number there may be anything but letters and
// colons.
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
