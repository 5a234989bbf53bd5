package collector

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"twilio_operations_exporter/collector/window"
	"twilio_operations_exporter/twilio"
)

// What is kept of the errors of messages, at most, so that an API gone wrong makes no series without end. Pairs of code
// and channel count; what is beyond is counted under Other.
const (
	maxOperationErrors = 10
	maxAccountErrors   = 50
	// forgetAfter is how long what was found of an operation is kept once it is no longer named: it may come back.
	forgetAfter = 10 * time.Minute
)

// OperationTags are the keys of tags that are exported, "" for none. Being an array they can be compared.
type OperationTags [MaxOperationTags]string

// MaxOperationTags is how many tags are exported, at most.
const MaxOperationTags = 5

// Keys yields the keys.
func (t *OperationTags) Keys() iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, key := range t {
			if key != "" && !yield(key) {
				return
			}
		}
	}
}

// TagLabel is the label that the tag of a key is exported as.
func TagLabel(key string) string {
	return "tag_" + strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, key)
}

// NoError stands for the code of a lost message that has none, and for a channel that is not known.
const NoError = "none"

// Sampled is what looking up lost messages of an account has found. It holds no address and no content. It is replaced,
// never changed, and can be encoded as JSON.
type Sampled struct {
	Operations []SampledOperation
	Errors     []ErrorCount // of all messages ever looked up
}

// maxSampledOperations is how many operations are kept, by far: those that are named, and were lately.
const maxSampledOperations = 1000

// check refuses what looking up cannot have found. What is shown of it becomes labels, each pair of code and channel
// once.
func (s *Sampled) check() error {
	if len(s.Operations) > maxSampledOperations {
		return fmt.Errorf("messages of %d operations were looked up", len(s.Operations))
	}
	for i := range s.Operations {
		op := &s.Operations[i]
		if err := checkErrors(op.Errors, maxOperationErrors); err != nil || !twilio.IsName(op.ID) {
			return fmt.Errorf("messages of operation %.100q were looked up: %w", op.ID, cmp.Or(err, errNoName))
		}
		for key, value := range op.Tags {
			if strings.ContainsFunc(value, unicode.IsControl) {
				return fmt.Errorf("the tag %.100q is %.100q", key, value)
			}
		}
	}
	return checkErrors(s.Errors, maxAccountErrors)
}

var errNoName = errors.New("that is no id")

// checkErrors refuses counts that have not the form of what is counted, or are more than most and those of Other.
func checkErrors(counts []ErrorCount, most int) error {
	if len(counts) > most+1 {
		return fmt.Errorf("%d errors were counted", len(counts))
	}
	for i := range counts {
		c := &counts[i]
		isCode := c.Code == NoError || c.Code == twilio.Other || twilio.IsErrorCode(c.Code)
		isChannel := c.Channel == NoError || c.Channel == twilio.Other || twilio.IsChannel(c.Channel)
		isFirst := indexOf(counts, c.Code, c.Channel) == i
		if !isCode || !isChannel || !isFirst || c.Count < 0 || len(c.Text) > maxSampledText {
			return fmt.Errorf("error %.100q on channel %.100q was counted %d times", c.Code, c.Channel, c.Count)
		}
	}
	return nil
}

// maxSampledText is how many bytes a text of a code has, by far.
const maxSampledText = 1000

// SampledOperation is what looking up lost messages of an operation has found.
type SampledOperation struct {
	ID       string
	At       time.Time         // when it was looked up last
	Lost     int64             // the messages that it had lost by then
	Empty    int               // look-ups, the last ones, that found no message
	Messages []string          // ids of those looked up
	Counted  []string          // ids of those that were ever looked up, which count once in Sampled.Errors
	Errors   []ErrorCount      // of them, the most frequent first
	Tags     map[string]string // that are exported, and that the messages have in common
}

// ErrorCount is how many of the messages looked up ended with a code on a channel.
type ErrorCount struct {
	Code    string // digits, NoError or twilio.Other
	Channel string // letters, NoError or twilio.Other
	Count   int64
	Text    string // what Twilio says of it, made safe to show; "" where that is not known
}

// SampledMessage is what is kept of a message that was looked up.
type SampledMessage struct {
	ID            string
	Code, Channel string
	Text          string
	Tags          map[string]string
}

// Operation returns what was found of an operation.
func (s Sampled) Operation(id string) (SampledOperation, bool) {
	i := slices.IndexFunc(s.Operations, func(op SampledOperation) bool { return op.ID == id })
	if i < 0 {
		return SampledOperation{}, false
	}
	return s.Operations[i], true
}

// with returns s with the messages of an operation that were looked up at a time. A message that was known before does
// not count again in the account's errors.
func (s Sampled) with(op *twilio.Operation, messages []SampledMessage, at time.Time) Sampled {
	before, _ := s.Operation(op.ID)
	now := SampledOperation{ID: op.ID, At: at, Lost: window.Lost(&op.Stats), Counted: slices.Clone(before.Counted)}
	next := Sampled{Errors: slices.Clone(s.Errors)}
	for _, other := range s.Operations {
		if other.ID != op.ID {
			next.Operations = append(next.Operations, other)
		}
	}
	if len(messages) == 0 {
		// What was found before stays: the messages are as lost as they were.
		before.ID, before.At = now.ID, now.At
		before.Empty++
		next.Operations = append(next.Operations, before)
		return next
	}

	now.Tags = maps.Clone(messages[0].Tags)
	for i := range messages {
		m := &messages[i]
		now.Messages = append(now.Messages, m.ID)
		now.Errors = count(now.Errors, m)
		maps.DeleteFunc(now.Tags, func(key, value string) bool { return m.Tags[key] != value })
		if !slices.Contains(now.Counted, m.ID) {
			now.Counted = append(now.Counted, m.ID)
			next.Errors = countLimited(next.Errors, m)
		}
	}
	now.Errors = mostFrequent(now.Errors)
	next.Operations = append(next.Operations, now)
	return next
}

// only returns s without the operations that are named no longer.
func (s Sampled) only(named []*twilio.Operation, at time.Time) Sampled {
	next := s
	next.Operations = nil
	for _, op := range s.Operations {
		isNamed := slices.ContainsFunc(named, func(n *twilio.Operation) bool { return n.ID == op.ID })
		if isNamed || at.Sub(op.At).Abs() < forgetAfter {
			next.Operations = append(next.Operations, op)
		}
	}
	return next
}

// indexOf is where a pair of code and channel is counted, -1 for nowhere yet.
func indexOf(counts []ErrorCount, code, channel string) int {
	return slices.IndexFunc(counts, func(c ErrorCount) bool { return c.Code == code && c.Channel == channel })
}

// count counts a message. The text of a code is kept while all messages have the same.
func count(counts []ErrorCount, m *SampledMessage) []ErrorCount {
	i := indexOf(counts, m.Code, m.Channel)
	if i < 0 {
		return append(counts, ErrorCount{Code: m.Code, Channel: m.Channel, Count: 1, Text: m.Text})
	}
	counts[i].Count++
	if counts[i].Text != m.Text {
		counts[i].Text = ""
	}
	return counts
}

// countLimited counts a message among those of the account.
func countLimited(counts []ErrorCount, m *SampledMessage) []ErrorCount {
	counted := SampledMessage{Code: m.Code, Channel: m.Channel}
	if len(counts) >= maxAccountErrors && indexOf(counts, m.Code, m.Channel) < 0 {
		counted.Code, counted.Channel = twilio.Other, twilio.Other
	}
	return count(counts, &counted)
}

// mostFrequent returns the counts with the most frequent first, and those that are too many in one. The text of a code is
// that of two messages at least: what one message says may speak of its recipient.
func mostFrequent(counts []ErrorCount) []ErrorCount {
	for i := range counts {
		if counts[i].Count == 1 {
			counts[i].Text = ""
		}
	}

	slices.SortFunc(counts, func(a, b ErrorCount) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Code, b.Code), cmp.Compare(a.Channel, b.Channel))
	})

	if len(counts) <= maxOperationErrors {
		return counts
	}

	kept := slices.Clone(counts[:maxOperationErrors])
	var rest int64
	for _, c := range counts[maxOperationErrors:] {
		rest += c.Count
	}

	i := indexOf(kept, twilio.Other, twilio.Other)
	if i < 0 {
		return append(kept, ErrorCount{Code: twilio.Other, Channel: twilio.Other, Count: rest})
	}
	kept[i].Count += rest
	return kept
}

// The metrics of what was sampled, of which twilio_named_operation_info has labels by the settings.

var sampledMetrics = []metric{
	{
		name:   "twilio_named_operation_messages_sampled",
		help:   "Lost messages of a failing operation that were looked up.",
		labels: []string{"operation"},
		generate: ofSampled(func(op *SampledOperation, emit emitter) {
			emit(float64(len(op.Messages)), op.ID)
		}),
	},
	{
		name:   "twilio_named_operation_errors_sampled",
		help:   "Lost messages of a failing operation that were looked up and ended with this error code on this channel.",
		labels: []string{"operation", "code", "channel"},
		generate: ofSampled(func(op *SampledOperation, emit emitter) {
			for _, e := range op.Errors {
				emit(float64(e.Count), op.ID, e.Code, e.Channel)
			}
		}),
	},
	{
		name:   "twilio_errors_sampled_total",
		help:   "Lost messages that were looked up, by error code and channel: a sample, not a count.",
		kind:   counter,
		labels: []string{"code", "channel"},
		generate: func(v *view, emit emitter) {
			for _, e := range v.sampled.Errors {
				emit(float64(e.Count), e.Code, e.Channel)
			}
		},
	},
}

// ofSampled generates samples for each operation that is named as failing and was looked up.
func ofSampled(generate func(op *SampledOperation, emit emitter)) generator {
	return func(v *view, emit emitter) {
		for _, named := range v.failing() {
			op, known := v.sampled.Operation(named.ID)
			if known && len(op.Messages) > 0 {
				generate(&op, emit)
			}
		}
	}
}

// infoMetrics are the rows of twilio_named_operation_info that were made, by OperationTags. All accounts of a process have
// the same tags.
var infoMetrics sync.Map

// infoMetric is the row of twilio_named_operation_info, which has a label for each tag that is exported.
func infoMetric(tags OperationTags) *metric {
	known, ok := infoMetrics.Load(tags)
	if !ok {
		known, _ = infoMetrics.LoadOrStore(tags, newInfoMetric(&tags))
	}
	row, _ := known.(*metric)
	return row
}

func newInfoMetric(tags *OperationTags) *metric {
	row := metric{
		name:   "twilio_named_operation_info",
		help:   "Tags of a failing operation's messages, as labels. The value is always 1.",
		labels: []string{"operation"},
		generate: ofSampled(func(op *SampledOperation, emit emitter) {
			labels := []string{op.ID}
			for key := range tags.Keys() {
				labels = append(labels, op.Tags[key])
			}
			emit(1, labels...)
		}),
	}
	for key := range tags.Keys() {
		row.labels = append(row.labels, TagLabel(key))
	}
	return &describe([]metric{row})[0]
}
