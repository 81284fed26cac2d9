package protocol

import (
	"bytes"
	"strconv"
)

// Names of the server's own events on an SSE stream. Types that begin with
// "pushd." are reserved, so no publisher can make one.
const (
	SSEEnvelope = "pushd.envelope" // an enveloped event in raw mode
	SSEGap      = "pushd.gap"
	SSEDrain    = "pushd.drain"
	SSEPresence = "pushd.presence"
	SSEToken    = "pushd.token" // the token ends soon: {"expires_in_ms"}
	SSEError    = "pushd.error"
)

// SSERaw says whether a payload of that kind may stand in data: lines as it is.
// What is not text can't; nor can a CR, which a reader of the stream takes for
// a line end and gives back as LF (WHATWG HTML §9.2.6).
func SSERaw(kind Kind, data []byte) bool {
	return kind != KindBinary && bytes.IndexByte(data, '\r') < 0
}

// AppendSSE writes one block. id and event must have no line break; either may
// be "", which leaves out its line. data may hold LF, but no CR.
func AppendSSE(dst []byte, id, event string, data []byte) []byte {
	dst = appendSSEHead(dst, id, event)
	dst = append(dst, "data: "...)
	for {
		i := bytes.IndexByte(data, '\n')
		if i < 0 {
			break
		}
		dst = append(dst, data[:i+1]...)
		dst = append(dst, "data: "...)
		data = data[i+1:]
	}
	dst = append(dst, data...)
	return append(dst, '\n', '\n')
}

// AppendSSEEnvelope writes one block whose data is the envelope, which lacks
// its end (see [AppendEnvelope]), with the reader's cursor as id.
func AppendSSEEnvelope(dst []byte, event string, envelope []byte, cursor string) []byte {
	dst = appendSSEHead(dst, cursor, event)
	dst = append(dst, "data: "...)
	dst = append(dst, envelope...)
	dst = AppendCursorField(dst, cursor)
	return append(dst, '\n', '\n')
}

func appendSSEHead(dst []byte, id, event string) []byte {
	if id != "" {
		dst = append(dst, "id: "...)
		dst = append(dst, id...)
		dst = append(dst, '\n')
	}
	if event != "" {
		dst = append(dst, "event: "...)
		dst = append(dst, event...)
		dst = append(dst, '\n')
	}
	return dst
}

// AppendSSEPosition writes a data-less block: the reader takes over the id and
// dispatches nothing.
func AppendSSEPosition(dst []byte, cursor string) []byte {
	dst = append(dst, "id: "...)
	dst = append(dst, cursor...)
	return append(dst, '\n', '\n')
}

// AppendSSERetry writes how long a reader shall wait before it comes back, in
// milliseconds. It is a line of the block that follows.
func AppendSSERetry(dst []byte, ms int64) []byte {
	dst = append(dst, "retry: "...)
	dst = strconv.AppendInt(dst, ms, 10)
	return append(dst, '\n')
}

// AppendSSEComment writes a block that only keeps the connection alive. text
// must have no line break.
func AppendSSEComment(dst []byte, text string) []byte {
	dst = append(dst, ": "...)
	dst = append(dst, text...)
	return append(dst, '\n', '\n')
}
