package edge

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"unicode/utf8"

	"github.com/gobwas/ws"

	"github.com/pushd/pushd/protocol"
)

// frameError says which close code answers what a client sent.
type frameError struct {
	code   protocol.CloseCode
	reason string
}

func (e *frameError) Error() string { return e.reason }

// messages puts frames together (RFC 6455 §5). Its buffer grows by what has
// arrived, never by what a frame's head claims.
type messages struct {
	in    *bufio.Reader
	limit int // bytes of a message

	op        ws.OpCode // of the message under way; 0: none
	fragments int
	data      []byte
}

// next gives a whole message or a control frame. data is valid until the next
// call.
func (m *messages) next() (op ws.OpCode, data []byte, err error) {
	for {
		h, err := m.head()
		if err != nil {
			return 0, nil, err
		}
		if h.OpCode.IsControl() {
			payload, err := m.payload(nil, h)
			return h.OpCode, payload, err
		}
		if h.OpCode != ws.OpContinuation {
			m.op, m.fragments, m.data = h.OpCode, 0, m.data[:0]
			if cap(m.data) > readChunk {
				m.data = nil // one big message must not hold memory for the connection's life
			}
		}
		if m.fragments++; m.fragments > maxFragments || h.Length > int64(m.limit-len(m.data)) {
			return 0, nil, &frameError{protocol.CloseTooBig, "the message is too big"}
		}
		if m.data, err = m.payload(m.data, h); err != nil {
			return 0, nil, err
		}
		if !h.Fin {
			continue
		}
		op, m.op = m.op, 0
		if op == ws.OpText && !utf8.Valid(m.data) {
			return 0, nil, &frameError{protocol.CloseBadData, "a text message must be UTF-8"}
		}
		return op, m.data, nil
	}
}

// head reads and checks a frame's head. gobwas/ws takes lengths that are not
// minimal; RFC 6455 §5.2 does not.
func (m *messages) head() (ws.Header, error) {
	first, err := m.in.Peek(2)
	if err != nil {
		return ws.Header{}, err
	}
	short := first[1] & 0x7f
	h, err := ws.ReadHeader(m.in)
	if err != nil {
		if errors.Is(err, ws.ErrHeaderLengthMSB) || errors.Is(err, ws.ErrHeaderLengthUnexpected) {
			return h, &frameError{protocol.CloseProtocol, err.Error()}
		}
		return h, err
	}
	if short == 126 && h.Length < 126 || short == 127 && h.Length < 1<<16 {
		return h, &frameError{protocol.CloseProtocol, "a frame's length is not in its shortest form"}
	}
	state := ws.StateServerSide
	if m.op != 0 {
		state = state.Set(ws.StateFragmented)
	}
	if err := ws.CheckHeader(h, state); err != nil {
		return h, &frameError{protocol.CloseProtocol, err.Error()}
	}
	return h, nil
}

// payload appends a frame's payload to dst and unmasks it.
func (m *messages) payload(dst []byte, h ws.Header) ([]byte, error) {
	start := len(dst)
	for left := int(h.Length); left > 0; {
		n := min(left, readChunk)
		dst = slices.Grow(dst, n)
		got, err := io.ReadFull(m.in, dst[len(dst):len(dst)+n])
		if err != nil {
			return nil, err
		}
		dst = dst[:len(dst)+got]
		left -= got
	}
	ws.Cipher(dst[start:], h.Mask, 0)
	return dst, nil
}

// closeEcho answers a close frame with its own code (RFC 6455 §5.5.1), or with
// why it is no valid one.
func closeEcho(data []byte) (protocol.CloseCode, string) {
	if len(data) == 0 {
		return 0, ""
	}
	if len(data) == 1 {
		return protocol.CloseProtocol, "a close frame has no body or a code of two bytes"
	}
	code, reason := ws.StatusCode(binary.BigEndian.Uint16(data)), data[2:]
	if !utf8.Valid(reason) {
		return protocol.CloseBadData, "a close reason must be UTF-8"
	}
	if err := ws.CheckCloseFrameData(code, ""); err != nil || code >= 5000 {
		return protocol.CloseProtocol, "the close code is not one that may be sent"
	}
	return protocol.CloseCode(code), ""
}
