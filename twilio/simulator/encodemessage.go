package simulator

import (
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// The JSON of the Messages resource. Few messages are read, so their encoding may use reflection.

// contentID is the content template of all messages.
const contentID = "comms_content_01h2xcejqtf2nbrexx3vqjhp41"

type wireMessage struct {
	ID           string            `json:"id"`
	Status       messageStatus     `json:"status"`
	Related      []wireRelated     `json:"related"`
	Tags         map[string]string `json:"tags"`
	From         wireAddress       `json:"from"`
	To           []wireAddress     `json:"to"`
	Content      *wireContent      `json:"content,omitzero"`  // not in lists
	Attempts     []wireAttempt     `json:"attempts,omitzero"` // not in lists
	ScheduledFor *time.Time        `json:"scheduledFor"`
	CreatedAt    time.Time         `json:"createdAt"`
	UpdatedAt    time.Time         `json:"updatedAt"`
	DeletedAt    *time.Time        `json:"deletedAt"`
}

type wireRelated struct {
	Name string `json:"name"`
	ID   string `json:"id"`
	URI  string `json:"uri"`
}

type wireAddress struct {
	Channel string `json:"channel"`
	Address string `json:"address"`
}

type wireContent struct {
	Text string `json:"text"`
}

type wireAttempt struct {
	From        wireAddress    `json:"from"`
	To          []wireAddress  `json:"to"`
	Status      messageStatus  `json:"status"`
	AttemptedAt time.Time      `json:"attemptedAt"`
	Error       jsontext.Value `json:"error,omitzero"`
}

type wireError struct {
	Code    any    `json:"code"` // a number, as documented, or a string
	Message string `json:"message"`
	InfoURL string `json:"infoUrl"`
}

// wire returns the message as it is in a list.
func (m *message) wire() wireMessage {
	campaign, team := m.tags()
	operation := wireRelated{"OPERATION", m.op.ID, "/v1/Messages/Operations/" + m.op.ID}
	content := wireRelated{"CONTENT", contentID, "/v1/Content/" + contentID}

	return wireMessage{
		ID:        m.id(),
		Status:    m.status,
		Related:   []wireRelated{content, operation},
		Tags:      map[string]string{"campaign": campaign, "team": team},
		From:      wireAddress{"PHONE", senderAddress},
		To:        []wireAddress{{"PHONE", m.recipient()}},
		CreatedAt: m.op.CreatedAt.UTC(),
		UpdatedAt: m.op.UpdatedAt.UTC(),
	}
}

// encodeMessage encodes a message as it is fetched.
func encodeMessage(m *message, s *MessageSettings) []byte {
	wire := m.wire()
	wire.Content = &wireContent{m.content()}

	wire.Attempts = []wireAttempt{}
	for _, a := range m.attempts() {
		wire.Attempts = append(wire.Attempts, wireAttempt{
			From:        wireAddress{a.channel, senderAddress},
			To:          wire.To,
			Status:      a.status,
			AttemptedAt: wire.CreatedAt,
			Error:       encodeAttemptError(a.error, s),
		})
	}
	return must(json.Marshal(wire, json.Deterministic(true)))
}

// encodeAttemptError encodes the error of an attempt. If there is none, the result is null or nothing, as the settings
// say.
func encodeAttemptError(code int, s *MessageSettings) jsontext.Value {
	switch {
	case code == 0 && s.NullErrors:
		return jsontext.Value("null")
	case code == 0:
		return nil
	}

	text := strconv.Itoa(code)
	e := wireError{Code: code, Message: errorTexts[code], InfoURL: "https://www.twilio.com/docs/api/errors/" + text}
	if s.TextCodes {
		e.Code = text
	}
	return must(json.Marshal(e))
}

// encodeMessages encodes a page of messages.
func encodeMessages(messages []message, pagination string) []byte {
	page := struct {
		Messages   []wireMessage  `json:"messages"`
		Pagination jsontext.Value `json:"pagination"`
	}{
		Messages:   []wireMessage{},
		Pagination: jsontext.Value(pagination),
	}
	for i := range messages {
		page.Messages = append(page.Messages, messages[i].wire())
	}
	return must(json.Marshal(page, json.Deterministic(true)))
}
