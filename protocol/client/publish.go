package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/pushd/pushd/protocol"
)

const batchBytes = 4 << 20 // past which a request takes no further event

// Message is one event to publish.
type Message struct {
	Topic       string
	Data        []byte
	ID          string // "" means a random one
	Type        string
	ContentType string
	Headers     map[string]string
	IfMatch     *uint64      // store only behind this offset; 0: only as the first
	Ack         protocol.Ack // AckNone: to live readers only
}

// Publish stores one event and returns its place. It tries every server, and
// again, until ctx or [Options].MaxWait ends; the event's id makes that safe.
func (c *Client) Publish(ctx context.Context, m Message) (result protocol.PublishResult, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.maxWait)
	defer cancel()
	h := http.Header{}
	if m.ID == "" {
		m.ID = newID()
	}
	h.Set("Pushd-Event-Id", m.ID)
	if m.ContentType != "" {
		h.Set("Content-Type", m.ContentType)
	}
	if m.Type != "" {
		h.Set("Pushd-Event-Type", m.Type)
	}
	if m.IfMatch != nil {
		h.Set("If-Match", strconv.Quote(strconv.FormatUint(*m.IfMatch, 10)))
	}
	if m.Ack == protocol.AckNone {
		h.Set("Pushd-Ack", "none")
	}
	for name, value := range m.Headers {
		h.Set("Pushd-Header-"+name, value)
	}
	resp, err := c.do(ctx, request{http.MethodPost, "/v1/topics/" + url.PathEscape(m.Topic) + "/events", h, m.Data})
	if err != nil {
		return result, err
	}
	return result, decode(resp, &result)
}

// PublishAll stores messages in their order, each exactly once, and returns
// their places. All that a failover leaves undone is sent again from the first
// one on: the server attempts no later event of a topic behind one that failed,
// and knows those that it has by their ids.
func (c *Client) PublishAll(ctx context.Context, messages []Message) ([]protocol.PublishResult, error) {
	ctx, cancel := context.WithTimeout(ctx, c.maxWait)
	defer cancel()
	lines := make([][]byte, len(messages))
	for i := range messages {
		if messages[i].ID == "" {
			messages[i].ID = newID()
		}
		lines[i] = envelopeLine(&messages[i])
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
		if !again(err) || !sleep(ctx, jitter(pause)) {
			return results, err
		}
		c.next(c.Server())
		pause = min(2*pause, longestPause)
	}
	return results, nil
}

// again says whether a refusal may be gone when one tries again.
func again(err error) bool {
	e, ok := errors.AsType[*protocol.Error](err)
	return !final(err) && !(ok && e.Code == protocol.Internal) && !errors.Is(err, ErrUnreachable)
}

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
	resp, err := c.do(ctx, request{http.MethodPost, "/v1/events", http.Header{"Content-Type": {"application/x-ndjson"}}, body})
	if err != nil {
		return nil, err
	}
	var answer protocol.BatchResult
	if err := decode(resp, &answer); err != nil {
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
