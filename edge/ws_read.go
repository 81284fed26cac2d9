package edge

import (
	"encoding/binary"
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

// errTooBig says that a message has more than it may.
var errTooBig = &frameError{protocol.CloseTooBig, "the message is too big; send what it has in several, or ask for a bigger --max-message-bytes"}

// parseFrameHead reads a frame's head off b (RFC 6455 §5.2); n is 0 while it is
// not complete. gobwas/ws takes lengths that are not minimal; the RFC does not.
func parseFrameHead(b []byte) (h ws.Header, n int, err error) {
	if len(b) < 2 {
		return h, 0, nil
	}
	h = ws.Header{Fin: b[0]&0x80 != 0, Rsv: b[0] >> 4 & 7, OpCode: ws.OpCode(b[0] & 0x0f), Masked: b[1]&0x80 != 0}
	n, short := 2, b[1]&0x7f
	switch {
	case short == 126:
		n = 4
	case short == 127:
		n = 10
	default:
		h.Length = int64(short)
	}
	mask := n
	if h.Masked {
		n += 4
	}
	if len(b) < n {
		return h, 0, nil
	}
	switch short {
	case 126:
		h.Length = int64(binary.BigEndian.Uint16(b[2:]))
	case 127:
		length := binary.BigEndian.Uint64(b[2:])
		if length>>63 != 0 {
			return h, 0, &frameError{protocol.CloseProtocol, "a frame's length has its highest bit set"}
		}
		h.Length = int64(length)
	}
	if short == 126 && h.Length < 126 || short == 127 && h.Length < 1<<16 {
		return h, 0, &frameError{protocol.CloseProtocol, "a frame's length is not in its shortest form"}
	}
	if h.Masked {
		copy(h.Mask[:], b[mask:])
	}
	return h, n, nil
}

// assembly puts the frames of a message together.
type assembly struct {
	op         ws.OpCode // of the message under way; 0: none
	compressed bool
	fragments  int
	data       []byte
}

// frame is one frame, its payload unmasked.
type frame struct {
	ws.Header
	compressed bool // it begins a compressed message
	payload    []byte
}

// takeFrame takes a frame off b, which it unmasks in place; n is 0 while the
// frame is not complete. limit is what a message may have, of which a message
// under way has some already. With deflate a message may be compressed.
func takeFrame(b []byte, under *assembly, limit int, deflate bool) (f frame, n int, err error) {
	h, head, err := parseFrameHead(b)
	if err != nil || head == 0 {
		return f, 0, err
	}
	squeezed := deflate && h.Rsv == rsv1>>4 && (h.OpCode == ws.OpText || h.OpCode == ws.OpBinary)
	if squeezed {
		h.Rsv = 0 // anywhere else it is an error (RFC 7692 §6.1)
	}
	state, had := ws.StateServerSide, 0
	if under != nil && under.op != 0 {
		state, had = state.Set(ws.StateFragmented), len(under.data)
		if under.fragments >= maxFragments {
			limit = 0
		}
	}
	if err := ws.CheckHeader(h, state); err != nil {
		return f, 0, &frameError{protocol.CloseProtocol, err.Error()}
	}
	if !h.OpCode.IsControl() && h.Length > int64(limit-had) {
		return f, 0, errTooBig
	}
	n = head + int(h.Length)
	if len(b) < n {
		return f, 0, nil
	}
	f = frame{h, squeezed, b[head:n]}
	ws.Cipher(f.payload, h.Mask, 0)
	return f, n, nil
}

// checkText refuses a whole text message that is not UTF-8 (RFC 6455 §8.1).
func checkText(op ws.OpCode, data []byte) error {
	if op == ws.OpText && !utf8.Valid(data) {
		return &frameError{protocol.CloseBadData, "a text message must be UTF-8"}
	}
	return nil
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
