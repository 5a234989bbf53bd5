package simulator

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"

	"twilio_operations_exporter/twilio"
)

// fail does to a request what a fault wants; false when the request is to be
// answered after all, perhaps with a changed answer.
func (x *exchange) fail(f *Fault) bool {
	switch f.Kind {
	case FaultStatus:
		x.failStatus(f)
	case FaultReset:
		x.reset()
	case FaultHang:
		x.hang()
	case FaultHTML:
		x.Header().Set("Content-Type", "text/html; charset=utf-8")
		x.send(http.StatusOK, []byte("<!DOCTYPE html>\n<html><head><title>Maintenance</title></head><body><h1>We will be back soon</h1></body></html>\n"))
	case FaultNotJSON:
		x.json(http.StatusOK, []byte(`{"operations":[{"id":"comms_operation_`))
	case FaultShape:
		x.json(http.StatusOK, []byte(`{"operations":{"items":[]},"meta":{"next_page_url":null}}`))
	case FaultHuge:
		x.huge(f.Size)
	case FaultLatency:
		return false
	case FaultStall, FaultTruncated, FaultField, FaultRepeatToken, FaultEndless:
		x.fault = f
		return false
	}
	return true
}

func (x *exchange) failStatus(f *Fault) {
	switch {
	case f.RetryAfterRaw != "":
		x.Header().Set("Retry-After", f.RetryAfterRaw)
	case f.RetryAfter > 0 && f.RetryAfterDate:
		// Up to a whole second, so that it is not over too early.
		at := x.h.Now().Add(f.RetryAfter).UTC()
		if at.Nanosecond() > 0 {
			at = at.Truncate(1e9).Add(1e9)
		}
		x.Header().Set("Retry-After", at.Format(http.TimeFormat))
	case f.RetryAfter > 0:
		x.Header().Set("Retry-After", seconds(f.RetryAfter))
	}
	if f.Location != "" {
		x.Header().Set("Location", f.Location)
	}
	if f.Status == http.StatusUnauthorized {
		x.Header().Set("WWW-Authenticate", `Basic realm="Twilio API"`)
	}
	_, known := documented[f.Status]
	switch {
	case known:
		x.error(f.Status)
	case f.Status == http.StatusNoContent || f.Status == http.StatusNotModified:
		x.WriteHeader(f.Status)
	default:
		// As from a proxy in between.
		x.Header().Set("Content-Type", "text/html")
		text := fmt.Sprintf("%d %s", f.Status, http.StatusText(f.Status))
		x.send(f.Status, []byte("<html><head><title>"+text+"</title></head><body>"+text+"</body></html>\n"))
	}
}

// reset closes the connection in a way that the peer sees as a reset, where
// there is a TCP connection.
func (x *exchange) reset() {
	if conn, _, err := http.NewResponseController(x.ResponseWriter).Hijack(); err == nil {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // what is in the buffers is dropped
		}
		_ = conn.Close()
		return
	}
	panic(http.ErrAbortHandler)
}

func (x *exchange) hang() {
	select {
	case <-x.r.Context().Done():
	case <-x.h.closed:
	}
	panic(http.ErrAbortHandler)
}

// half sends half of a body that was announced whole, then stops or ends.
func (x *exchange) half(body []byte) {
	x.Header().Set("Content-Type", "application/json")
	x.Header().Set("Content-Length", strconv.Itoa(len(body)))
	x.WriteHeader(http.StatusOK)
	_, _ = x.Write(body[:len(body)/2])
	_ = http.NewResponseController(x.ResponseWriter).Flush()
	if x.fault.Kind == FaultStall {
		x.hang()
	}
	panic(http.ErrAbortHandler)
}

const defaultHuge = 65 << 20

// huge streams a well-formed page that is too large.
func (x *exchange) huge(size int64) {
	if size == 0 {
		size = defaultHuge
	}
	x.Header().Set("Content-Type", "application/json")
	write := x.Write
	if !x.h.s.NoGzip && acceptsGzip(x.r.Header) {
		x.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(x)
		write = z.Write
		defer func() { _ = z.Close() }()
	}
	x.WriteHeader(http.StatusOK)
	op := MustWorld(WorldSettings{Rate: 1, Uniform: true}).derive(29_000_000, 0, 1)
	one := op.operation(op.created)
	element := appendOperation(nil, &one)
	chunk := []byte(strings.Repeat(string(element)+",", 100))
	if _, err := write([]byte(`{"operations":[`)); err != nil {
		return
	}
	for sent := int64(0); sent < size; sent += int64(len(chunk)) {
		if _, err := write(chunk); err != nil {
			return
		}
	}
	_, _ = write(append(element, `],"pagination":{"next":null,"self":"huge"}}`...))
}

// setField takes a field out of an answer, or gives it another value: one of
// the first operation, of its stats, of the pagination, or of the page.
func setField(body []byte, endpoint twilio.Endpoint, field, value string) []byte {
	var page map[string]json.RawMessage
	if err := json.Unmarshal(body, &page); err != nil {
		panic(err) // we have just written it
	}
	set := func(object map[string]json.RawMessage) {
		if value == "" {
			delete(object, field)
		} else {
			object[field] = json.RawMessage(value)
		}
	}
	inside := func(object map[string]json.RawMessage, name string, change func(map[string]json.RawMessage)) {
		var inner map[string]json.RawMessage
		if err := json.Unmarshal(object[name], &inner); err != nil {
			panic(err)
		}
		change(inner)
		object[name] = marshal(inner)
	}
	operation := func(op map[string]json.RawMessage) {
		switch field {
		case "total", "recipients", "attempts", "unaddressable", "queued", "sent", "scheduled",
			"delivered", "read", "undelivered", "failed", "canceled":
			inside(op, "stats", set)
		default:
			set(op)
		}
	}
	switch {
	case endpoint == twilio.EndpointFetch:
		operation(page)
	case field == "operations" || field == "pagination":
		set(page)
	case field == "next" || field == "self":
		inside(page, "pagination", set)
	default:
		var ops []map[string]json.RawMessage
		if err := json.Unmarshal(page["operations"], &ops); err != nil {
			panic(err)
		}
		if len(ops) > 0 {
			operation(ops[0])
			page["operations"] = marshal(ops)
		}
	}
	return marshal(page)
}

func marshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("a field's value must be JSON: %v", err))
	}
	return b
}
