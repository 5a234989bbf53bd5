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

	"twilio_operations_exporter/collector/window"
	"twilio_operations_exporter/twilio"
)

const (
	// The most pairs of error code and channel that are counted, so that a faulty API cannot create series without end.
	// The rest is counted as twilio.Other.
	maxOperationErrors = 10
	maxAccountErrors   = 50

	// forgetAfter is how long results are kept of an operation that is no longer named: it may be named again.
	forgetAfter = 10 * time.Minute
)

// MaxOperationTags is the most tags that are exported.
const MaxOperationTags = 5

// OperationTags are the keys of the tags that are exported; unused elements are "". As an array, they can be compared.
type OperationTags [MaxOperationTags]string

// Keys yields the keys that are set.
func (t *OperationTags) Keys() iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, key := range t {
			if key != "" && !yield(key) {
				return
			}
		}
	}
}

// TagLabel returns the label under which the tag with this key is exported.
func TagLabel(key string) string {
	return "tag_" + strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, key)
}

// NoError is the code of a lost message without one, and the channel of an attempt without one.
const NoError = "none"

// Sampled are the results of looking up lost messages of an account. They hold no address and no content. A Sampled is
// replaced, never changed, and can be encoded as JSON.
type Sampled struct {
	Operations []SampledOperation
	Errors     []ErrorCount // of all messages ever looked up
}

// SampledOperation is the result of looking up lost messages of an operation.
type SampledOperation struct {
	ID       string
	At       time.Time         // time of the last look-up
	Lost     int64             // messages that the operation had lost by then
	Empty    int               // look-ups in a row, up to the last one, that found no message
	Messages []string          // ids of the messages looked up last
	Counted  []string          // ids of all messages ever looked up: each counts once in Sampled.Errors
	Errors   []ErrorCount      // of Messages, the most frequent first
	Tags     map[string]string // exported tags that Messages have in common
}

// ErrorCount is the number of messages looked up that ended with a code on a channel.
type ErrorCount struct {
	Code    string // digits, NoError or twilio.Other
	Channel string // letters, NoError or twilio.Other
	Count   int64
	Text    string // Twilio's text for the code, safe to show; "" if unknown
}

// SampledMessage is what is kept of a message that was looked up.
type SampledMessage struct {
	ID            string
	Code, Channel string
	Text          string
	Tags          map[string]string
}

// Limits of what a state may hold, far above what look-ups find.
const (
	maxSampledOperations = 1000
	maxSampledText       = 1000 // bytes
)

// check refuses what no look-up can have found: codes, channels and tags become labels.
func (s *Sampled) check() error {
	if len(s.Operations) > maxSampledOperations {
		return fmt.Errorf("messages of %d operations were looked up", len(s.Operations))
	}
	for i := range s.Operations {
		op := &s.Operations[i]
		err := op.check()
		if err != nil {
			return fmt.Errorf("messages of operation %.100q were looked up: %w", op.ID, err)
		}
	}
	return checkErrors(s.Errors, maxAccountErrors)
}

func (op *SampledOperation) check() error {
	if !twilio.IsName(op.ID) {
		return errors.New("invalid id")
	}
	for key, value := range op.Tags {
		if !twilio.IsPrintable(value) {
			return fmt.Errorf("the tag %.100q is %.100q", key, value)
		}
	}
	return checkErrors(op.Errors, maxOperationErrors)
}

// checkErrors refuses counts of impossible codes or channels, and more than most of them besides the one of the rest.
func checkErrors(counts []ErrorCount, most int) error {
	if len(counts) > most+1 {
		return fmt.Errorf("%d errors were counted", len(counts))
	}
	for i := range counts {
		c := &counts[i]
		isCode := c.Code == NoError || c.Code == twilio.Other || twilio.IsErrorCode(c.Code)
		isChannel := c.Channel == NoError || c.Channel == twilio.Other || twilio.IsChannel(c.Channel)
		isUnique := indexOf(counts, c.Code, c.Channel) == i
		if !isCode || !isChannel || !isUnique || c.Count < 0 || len(c.Text) > maxSampledText {
			return fmt.Errorf("error %.100q on channel %.100q was counted %d times", c.Code, c.Channel, c.Count)
		}
	}
	return nil
}

// Operation returns the result of an operation, and whether there is one.
func (s Sampled) Operation(id string) (SampledOperation, bool) {
	i := slices.IndexFunc(s.Operations, func(op SampledOperation) bool { return op.ID == id })
	if i < 0 {
		return SampledOperation{}, false
	}
	return s.Operations[i], true
}

// with returns s with the messages of an operation that were looked up at a time. A message that was looked up before
// does not count again in the account's errors.
func (s Sampled) with(op *twilio.Operation, messages []SampledMessage, at time.Time) Sampled {
	before, _ := s.Operation(op.ID)
	next := Sampled{
		Operations: slices.Clone(s.Operations),
		Errors:     slices.Clone(s.Errors),
	}
	next.Operations = slices.DeleteFunc(next.Operations, func(o SampledOperation) bool { return o.ID == op.ID })

	if len(messages) == 0 {
		// Earlier results stay: what was lost is still lost.
		before.ID = op.ID
		before.At = at
		before.Empty++
		next.Operations = append(next.Operations, before)
		return next
	}

	now := SampledOperation{
		ID:      op.ID,
		At:      at,
		Lost:    window.Lost(&op.Stats),
		Counted: slices.Clone(before.Counted),
		Tags:    maps.Clone(messages[0].Tags),
	}
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
	dropUniqueTexts(now.Errors)
	now.Errors = mostFrequent(now.Errors)
	next.Operations = append(next.Operations, now)
	return next
}

// only returns s without operations that are no longer named, unless they were looked up lately.
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

// indexOf returns the index of the count of a pair of code and channel, or -1.
func indexOf(counts []ErrorCount, code, channel string) int {
	return slices.IndexFunc(counts, func(c ErrorCount) bool { return c.Code == code && c.Channel == channel })
}

// count counts a message. The text of a code is kept as long as all messages have the same.
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

// countLimited counts a message in the errors of the account, which have no texts.
func countLimited(counts []ErrorCount, m *SampledMessage) []ErrorCount {
	counted := SampledMessage{Code: m.Code, Channel: m.Channel}
	if len(counts) >= maxAccountErrors && indexOf(counts, m.Code, m.Channel) < 0 {
		counted.Code, counted.Channel = twilio.Other, twilio.Other
	}
	return count(counts, &counted)
}

// dropUniqueTexts drops texts that only one message has, as they may be about its recipient.
func dropUniqueTexts(counts []ErrorCount) {
	for i := range counts {
		if counts[i].Count == 1 {
			counts[i].Text = ""
		}
	}
}

// mostFrequent returns the counts with the most frequent first, and those above the limit added up as twilio.Other.
func mostFrequent(counts []ErrorCount) []ErrorCount {
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

// sampledMetrics are the rows of what was sampled, without twilio_named_operation_info: see infoMetric.
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

// ofSampled generates samples for each operation that is named as failing and of which messages were looked up.
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

// infoMetrics caches the rows of twilio_named_operation_info by OperationTags. All accounts of a process have the same
// tags.
var infoMetrics sync.Map

// infoMetric returns the row of twilio_named_operation_info, which has a label for each exported tag.
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
