package peers

import "encoding/binary"

// Opcodes of RFC 6455.
const (
	opText  = 1
	opClose = 8
	opPing  = 9
	opPong  = 10
)

// appendFrame appends a client's frame. Its mask is zero, which changes nothing
// and costs the server what any mask does.
func appendFrame(dst []byte, opcode byte, payload []byte) []byte {
	const masked = 0x80
	dst = append(dst, 0x80|opcode)
	switch n := len(payload); {
	case n < 126:
		dst = append(dst, masked|byte(n))
	case n < 1<<16:
		dst = binary.BigEndian.AppendUint16(append(dst, masked|126), uint16(n))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, masked|127), uint64(n))
	}
	return append(append(dst, 0, 0, 0, 0), payload...)
}

// nextFrame splits a server's first frame off b; n is 0 while it is not there
// as a whole.
func nextFrame(b []byte) (opcode byte, payload []byte, n int) {
	if len(b) < 2 {
		return 0, nil, 0
	}
	head, size := 2, int(b[1]&0x7f)
	switch {
	case size == 126 && len(b) >= 4:
		head, size = 4, int(binary.BigEndian.Uint16(b[2:]))
	case size == 127 && len(b) >= 10:
		head, size = 10, int(binary.BigEndian.Uint64(b[2:]))
	case size >= 126:
		return 0, nil, 0
	}
	if len(b) < head+size {
		return 0, nil, 0
	}
	return b[0] & 0x0f, b[head : head+size], head + size
}
