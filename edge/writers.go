package edge

import (
	"strconv"
	"sync"

	"github.com/gobwas/ws"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/protocol"
)

// encoding puts what a stream's reader gets into bytes of its transport. sub
// is the number of its subscription, nil where there is one only.
type encoding interface {
	appendItem(dst []byte, sub *uint64, item *broker.Item) []byte
	appendPresence(dst []byte, sub *uint64, c *protocol.PresenceChange) []byte
}

// sseBlocks is an SSE stream: raw payloads, or JSON envelopes.
type sseBlocks struct{ envelope bool }

func (e sseBlocks) appendItem(dst []byte, _ *uint64, item *broker.Item) []byte {
	if item.Gap != nil {
		return protocol.AppendSSE(dst, item.Cursor, protocol.SSEGap, protocol.AppendGap(nil, item.Gap))
	}
	event := item.Event
	if e.envelope {
		return protocol.AppendSSEEnvelope(dst, event.Type, event.Envelope(), item.Cursor)
	}
	if !protocol.SSERaw(event.Kind(), event.Data) {
		return protocol.AppendSSEEnvelope(dst, protocol.SSEEnvelope, event.Envelope(), item.Cursor)
	}
	return protocol.AppendSSE(dst, item.Cursor, event.Type, event.Data)
}

// jsonFrames is the WebSocket subprotocol pushd.v1.json: a text frame each.
type jsonFrames struct{}

func (jsonFrames) appendItem(dst []byte, sub *uint64, item *broker.Item) []byte {
	dst, start := openFrame(dst)
	if item.Gap != nil {
		dst = protocol.AppendGapPush(dst, sub, item.Gap)
	} else {
		dst = protocol.AppendEventPush(dst, sub, item.Event.Envelope(), item.Cursor)
	}
	return closeFrame(dst, start, ws.OpText)
}

// binaryFrames is the WebSocket subprotocol pushd.v1.binary: a binary frame each.
type binaryFrames struct{}

func (binaryFrames) appendItem(dst []byte, sub *uint64, item *broker.Item) []byte {
	if item.Gap != nil {
		return appendBinary(dst, protocol.AppendGapPush(nil, sub, item.Gap))
	}
	dst, start := openFrame(dst)
	return closeFrame(protocol.AppendEventRecord(dst, sub, &item.Event.Event, item.Cursor), start, ws.OpBinary)
}

func (binaryFrames) appendPresence(dst []byte, sub *uint64, c *protocol.PresenceChange) []byte {
	return appendBinary(dst, protocol.AppendPresencePush(nil, sub, c))
}

// appendBinary wraps a line of pushd.v1.json.
func appendBinary(dst, line []byte) []byte {
	dst, start := openFrame(dst)
	return closeFrame(protocol.AppendJSONRecord(dst, line), start, ws.OpBinary)
}

// plainFrames is the WebSocket without a subprotocol: a payload is a frame. A
// gap is a text frame {"gap":…}, for loss is never silent.
type plainFrames struct{}

func (plainFrames) appendItem(dst []byte, _ *uint64, item *broker.Item) []byte {
	dst, start := openFrame(dst)
	if item.Gap != nil {
		return closeFrame(protocol.AppendGapPush(dst, nil, item.Gap), start, ws.OpText)
	}
	op := ws.OpText
	if item.Event.Kind() == protocol.KindBinary {
		op = ws.OpBinary
	}
	return closeFrame(append(dst, item.Event.Data...), start, op)
}

// appendPage writes the JSON answer to a poll.
func appendPage(dst []byte, b *broker.Batch) []byte {
	dst = appendEvents(dst, b)
	dst = append(dst, `,"up_to_date":`...)
	dst = strconv.AppendBool(dst, b.UpToDate)
	dst = protocol.AppendGapsField(dst, gapsOf(b.Items))
	return append(dst, '}', '\n')
}

// appendHistory writes the value of a history reply.
func appendHistory(dst []byte, b *broker.Batch) []byte {
	dst = appendEvents(dst, b)
	dst = protocol.AppendGapsField(dst, gapsOf(b.Items))
	return append(dst, '}')
}

// appendEvents begins a page: its events and cursor.
func appendEvents(dst []byte, b *broker.Batch) []byte {
	dst = append(dst, `{"events":[`...)
	first := true
	for i := range b.Items {
		if item := &b.Items[i]; item.Event != nil {
			if !first {
				dst = append(dst, ',')
			}
			first = false
			dst = append(dst, item.Event.Envelope()...)
			dst = protocol.AppendCursorField(dst, item.Cursor)
		}
	}
	dst = append(dst, `],"cursor":`...)
	return protocol.AppendString(dst, b.Cursor)
}

// appendLines writes an envelope a line, and gaps at their places.
func appendLines(dst []byte, items []broker.Item) []byte {
	for i := range items {
		if items[i].Gap != nil {
			dst = protocol.AppendGapPush(dst, nil, items[i].Gap)
		} else {
			dst = append(dst, items[i].Event.Envelope()...)
			dst = protocol.AppendCursorField(dst, items[i].Cursor)
		}
		dst = append(dst, '\n')
	}
	return dst
}

func gapsOf(items []broker.Item) []protocol.Gap {
	var gaps []protocol.Gap
	for i := range items {
		if items[i].Gap != nil {
			gaps = append(gaps, *items[i].Gap)
		}
	}
	return gaps
}

// buffer is a write buffer. An idle connection holds none.
type buffer struct{ b []byte }

var buffers = sync.Pool{New: func() any { return &buffer{make([]byte, 0, 4096)} }}

func takeBuffer() *buffer { return buffers.Get().(*buffer) }

func (b *buffer) put() {
	if cap(b.b) <= maxPooledBuffer {
		b.b = b.b[:0]
		buffers.Put(b)
	}
}
