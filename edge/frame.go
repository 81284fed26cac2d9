package edge

import (
	"encoding/binary"

	"github.com/gobwas/ws"

	"github.com/pushd/pushd/protocol"
)

// frameHead is the room kept for a frame's head: that of 126 to 65,535 bytes.
const frameHead = 4

// openFrame makes room for a frame's head; the payload is appended behind it.
func openFrame(dst []byte) (_ []byte, start int) {
	return append(dst, 0, 0, 0, 0), len(dst)
}

// closeFrame fills in the head of the frame that begins at start, unmasked and
// final (RFC 6455 §5.2), and moves the payload if the head is not the usual.
func closeFrame(dst []byte, start int, op ws.OpCode) []byte {
	n := len(dst) - start - frameHead
	first := 0x80 | byte(op)
	switch {
	case n < 126:
		copy(dst[start+2:], dst[start+frameHead:])
		dst[start], dst[start+1] = first, byte(n)
		return dst[:len(dst)-2]
	case n < 1<<16:
		dst[start], dst[start+1] = first, 126
		binary.BigEndian.PutUint16(dst[start+2:], uint16(n))
		return dst
	}
	dst = append(dst, 0, 0, 0, 0, 0, 0)
	copy(dst[start+10:], dst[start+frameHead:len(dst)-6])
	dst[start], dst[start+1] = first, 127
	binary.BigEndian.PutUint64(dst[start+2:], uint64(n))
	return dst
}

// appendControl writes a control frame; its payload is cut to what one holds.
func appendControl(dst []byte, op ws.OpCode, payload []byte) []byte {
	payload = payload[:min(len(payload), maxControlBytes)]
	dst = append(dst, 0x80|byte(op), byte(len(payload)))
	return append(dst, payload...)
}

// appendClose writes a close frame; without a code, an empty one.
func appendClose(dst []byte, code protocol.CloseCode, reason string) []byte {
	if code == 0 {
		return appendControl(dst, ws.OpClose, nil)
	}
	body := binary.BigEndian.AppendUint16(make([]byte, 0, maxControlBytes), uint16(code))
	return appendControl(dst, ws.OpClose, append(body, clipReason(reason)...))
}

// clipReason cuts a reason to what a close frame holds, at a character's end.
func clipReason(reason string) string {
	const most = maxControlBytes - 2
	if len(reason) <= most {
		return reason
	}
	cut := most
	for cut > 0 && reason[cut]&0xc0 == 0x80 {
		cut--
	}
	return reason[:cut]
}
