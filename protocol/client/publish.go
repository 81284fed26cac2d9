package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/pushd/pushd/protocol"
)

// Message is one event to publish.
type Message struct {
	Topic       string
	Data        []byte
	ID          string // "" means a random one
	Type        string
	ContentType string
	Headers     map[string]string
	Producer    *protocol.Producer // numbers the message; nil: it has an id alone
	IfMatch     *uint64            // store only behind this offset; 0: only as the first
	Ack         protocol.Ack       // AckNone: to live readers only
}

// check refuses what no server would take, and fills in the id.
func (m *Message) check() error {
	e := protocol.Event{Topic: m.Topic, ID: m.ID, Type: m.Type, ContentType: m.ContentType, Data: m.Data}
	for name, value := range m.Headers {
		e.Headers = append(e.Headers, protocol.Header{Name: name, Value: value})
	}
	if err := e.Check(protocol.MaxEventBytes); err != nil {
		return err
	}
	if m.ID == "" {
		m.ID = newID()
	}
	return nil
}

// Publish stores one event and returns its place. It tries every server, and
// again, until ctx or [Options].MaxWait ends; the event's id makes that safe.
func (c *Client) Publish(ctx context.Context, m Message) (result protocol.PublishResult, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.maxWait)
	defer cancel()
	if err := m.check(); err != nil {
		return result, err
	}
	h, err := m.header()
	if err != nil {
		return result, err
	}
	body, err := c.do(ctx, request{http.MethodPost, "/v1/topics/" + url.PathEscape(m.Topic) + "/events", h, m.Data})
	if err != nil {
		return result, err
	}
	return result, parse(body, &result)
}

// header is everything of a message but its topic and data.
func (m *Message) header() (http.Header, error) {
	h := http.Header{"Pushd-Event-Id": {m.ID}}
	if m.ContentType != "" {
		h.Set("Content-Type", m.ContentType)
	}
	if m.Type != "" {
		h.Set("Pushd-Event-Type", m.Type)
	}
	if m.IfMatch != nil {
		h.Set("If-Match", strconv.Quote(strconv.FormatUint(*m.IfMatch, 10)))
	}
	if p := m.Producer; p != nil {
		h.Set("Pushd-Producer", p.ID)
		h.Set("Pushd-Producer-Epoch", strconv.FormatUint(p.Epoch, 10))
		h.Set("Pushd-Producer-Seq", strconv.FormatUint(p.Seq, 10))
	}
	if m.Ack == protocol.AckNone {
		h.Set("Pushd-Ack", "none")
	}
	for name, value := range m.Headers {
		if strings.Trim(strings.ToLower(name), "abcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~") != "" {
			return nil, protocol.BadHeader.Errorf("header name %q: over HTTP only letters, digits and !#$%%&'*+-.^_`|~ can stand in it", name)
		}
		h.Set("Pushd-Header-"+name, value)
	}
	return h, nil
}

// PublishAll stores messages in their order, each exactly once, and returns
// their places; with an error, those of the messages before the one that could
// not be stored. None may have IfMatch, Producer or Ack.
//
// The order stands on two promises of the server: it attempts the events of a
// request in their order, and behind one that failed no later one of the same
// topic; and it knows by their ids those that it has. So one request is under
// way at a time, and after a failure everything from the first event that
// failed is sent again. What an old request may still do at a server that was
// given up is harmless: whoever stores an event first has attempted all before
// it.
func (c *Client) PublishAll(ctx context.Context, messages []Message) ([]protocol.PublishResult, error) {
	ctx, cancel := context.WithTimeout(ctx, c.maxWait)
	defer cancel()
	lines := make([][]byte, len(messages))
	for i := range messages {
		m := messages[i]
		if m.IfMatch != nil || m.Producer != nil || m.Ack != protocol.AckQuorum {
			return nil, errOneByOne
		}
		if err := m.check(); err != nil {
			return nil, fmt.Errorf("message %d: %w", i+1, err)
		}
		lines[i] = envelopeLine(&m)
	}
	results := make([]protocol.PublishResult, 0, len(messages))
	pause := firstPause
	for len(results) < len(messages) {
		rest := lines[len(results):]
		stored, err := c.batch(ctx, rest[:batchLength(rest)])
		results = append(results, stored...)
		if err == nil {
			pause = firstPause
			continue
		}
		if final(err) || errors.Is(err, ErrUnreachable) || !sleep(ctx, jitter(pause)) {
			return results, err
		}
		c.next(c.Server())
		pause = min(2*pause, longestPause)
	}
	return results, nil
}

// errOneByOne refuses what requests of several events can't express.
var errOneByOne = errors.New("IfMatch, Producer and Ack none are for Client.Publish, one event at a time")

// batchLength is how many of lines one request takes, at least one.
func batchLength(lines [][]byte) int {
	size := 0
	for n, line := range lines {
		if size += len(line) + 1; n == protocol.MaxBatchEvents || n > 0 && size > batchBytes {
			return n
		}
	}
	return len(lines)
}

// batch sends lines once and returns what was stored up to the first failure.
func (c *Client) batch(ctx context.Context, lines [][]byte) ([]protocol.PublishResult, error) {
	var body []byte
	for _, line := range lines {
		body = append(append(body, line...), '\n')
	}
	text, err := c.do(ctx, request{http.MethodPost, "/v1/events", http.Header{"Content-Type": {"application/x-ndjson"}}, body})
	if err != nil {
		return nil, err
	}
	var answer protocol.BatchResult
	if err := parse(text, &answer); err != nil {
		return nil, err
	}
	if len(answer.Results) != len(lines) {
		return nil, fmt.Errorf("the server answered %d of %d events", len(answer.Results), len(lines))
	}
	for i, r := range answer.Results {
		if r.Error != nil {
			return answer.Results[:i], r.Error.Err()
		}
	}
	return answer.Results, nil
}

// envelopeLine is a message as a line of JSON.
func envelopeLine(m *Message) []byte {
	line := protocol.AppendString([]byte(`{"id":`), m.ID)
	return append(appendMessage(append(line, ','), m), '}')
}

// appendMessage writes a message's fields but its id, which envelopes and
// commands call by different names.
func appendMessage(dst []byte, m *Message) []byte {
	e := protocol.Event{ContentType: m.ContentType, Data: m.Data}
	dst = protocol.AppendString(append(dst, `"topic":`...), m.Topic)
	if m.Type != "" {
		dst = protocol.AppendString(append(dst, `,"type":`...), m.Type)
	}
	if m.ContentType != "" {
		dst = protocol.AppendString(append(dst, `,"content_type":`...), m.ContentType)
	}
	if len(m.Headers) > 0 {
		if headers, err := json.Marshal(m.Headers); err == nil {
			dst = append(append(dst, `,"headers":`...), headers...)
		}
	}
	return protocol.AppendData(dst, &e)
}
