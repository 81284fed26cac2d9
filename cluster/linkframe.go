package cluster

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
)

var (
	errShortFrame   = errors.New("a frame from another node is too short")
	errDamagedFrame = errors.New("a frame from another node fails its check; look after the network and its cards")
)

// A frame is its length, little-endian in four bytes, and as many bytes. On a
// connection for calls these are a request id of eight bytes, one byte, which is
// the method or the answer's status, the body, and a checksum if the connection
// has them; on one for streams one byte, which is the method or the frame's
// status, and the body.
const (
	callHead = 8 + 1
	callTail = 4 // a checksum of all before, CRC-32C, from versionChecked on where TLS has none

	statusOK     = 0 // the answer, or the end of a stream
	statusFailed = 1 // the body is a refusal
	statusMore   = 2 // one frame of a stream
)

// readFrame reads one frame into buf if that has room. The declared length is
// checked before anything is allocated.
func readFrame(r *bufio.Reader, buf []byte) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	size := binary.LittleEndian.Uint32(head[:])
	if size > maxFrameBytes {
		return nil, fmt.Errorf("a frame of %d bytes, at most %d", size, maxFrameBytes)
	}
	if uint32(cap(buf)) < size {
		buf = make([]byte, size)
	}
	buf = buf[:size]
	_, err := io.ReadFull(r, buf)
	return buf, err
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func appendCallFrame(dst []byte, checked bool, id uint64, head byte, body []byte) []byte {
	size := callHead + len(body)
	if checked {
		size += callTail
	}
	dst = binary.LittleEndian.AppendUint32(dst, uint32(size))
	start := len(dst)
	dst = binary.LittleEndian.AppendUint64(dst, id)
	dst = append(append(dst, head), body...)
	if checked {
		dst = binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
	}
	return dst
}

// decodeCall splits a frame of a connection for calls. The body is not copied.
func decodeCall(frame []byte, checked bool) (id uint64, head byte, body []byte, err error) {
	if checked {
		at := len(frame) - callTail
		if at < callHead || crc32.Checksum(frame[:at], castagnoli) != binary.LittleEndian.Uint32(frame[at:]) {
			return 0, 0, nil, errDamagedFrame
		}
		frame = frame[:at]
	}
	if len(frame) < callHead {
		return 0, 0, nil, errShortFrame
	}
	return binary.LittleEndian.Uint64(frame), frame[8], frame[callHead:], nil
}

func appendStreamFrame(dst []byte, head byte, body []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(1+len(body)))
	return append(append(dst, head), body...)
}

// appendRefusal writes a refusal: the code's length, the code and the text,
// both cut to their limits.
func appendRefusal(dst []byte, e *RemoteError) []byte {
	code, text := e.Code[:min(len(e.Code), 255)], e.Text[:min(len(e.Text), maxErrorBytes)]
	return append(append(append(dst, byte(len(code))), code...), text...)
}

func decodeRefusal(b []byte) *RemoteError {
	if len(b) == 0 || len(b) < 1+int(b[0]) {
		return &RemoteError{codeInternal, "the other node's refusal is malformed"}
	}
	return &RemoteError{string(b[1 : 1+int(b[0])]), string(b[1+int(b[0]):])}
}

// isChecked says whether frames of calls have checksums on a connection.
func isChecked(conn net.Conn, version uint8) bool {
	_, secured := conn.(*tls.Conn)
	return version >= versionChecked && !secured
}
