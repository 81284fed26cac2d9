package edge

import (
	"bytes"
	"compress/flate"
	"io"
	"sync"

	"github.com/pushd/pushd/protocol"
)

// rsv1 of a message's first frame says that the message is compressed (RFC 7692 §6).
const rsv1 = 0x40

// deflater compresses messages, each for itself.
type deflater struct {
	out bytes.Buffer
	w   *flate.Writer
}

var deflaters = sync.Pool{New: func() any {
	d := new(deflater)
	d.w, _ = flate.NewWriter(&d.out, flate.BestSpeed) // the level is one that there is
	return d
}}

// deflateFrame compresses the unmasked final frame that begins at start, if it
// gets smaller by that.
func deflateFrame(dst []byte, start int, window windowBits) []byte {
	h, head, err := parseFrameHead(dst[start:])
	payload := dst[start+head:]
	if err != nil || len(payload) < minDeflate {
		return dst
	}
	d := deflaters.Get().(*deflater)
	defer deflaters.Put(d)
	small := d.deflate(payload, window)
	if len(small) >= len(payload) {
		return dst
	}
	dst, at := openFrame(dst[:start])
	dst = closeFrame(append(dst, small...), at, h.OpCode)
	dst[start] |= rsv1
	return dst
}

// deflate gives a message's payload (RFC 7692 §7.2.1), good until the next call.
// What is longer than the window is compressed in pieces of its size that know
// nothing of each other, so nothing refers further back than the client can see.
func (d *deflater) deflate(payload []byte, window windowBits) []byte {
	d.out.Reset()
	for piece := 1 << window; len(payload) > 0; {
		n := len(payload)
		if window < fullWindow {
			n = min(n, piece)
		}
		d.w.Reset(&d.out)
		_, _ = d.w.Write(payload[:n]) // a bytes.Buffer takes everything
		_ = d.w.Flush()
		payload = payload[n:]
	}
	return bytes.TrimSuffix(d.out.Bytes(), syncTail[:])
}

// syncTail ends what a flush writes. A message goes without it, and is read with
// it again; behind it stands an empty last block, the end that flate asks for.
var (
	syncTail = [4]byte{0, 0, 0xff, 0xff}
	lastTail = [9]byte{0, 0, 0xff, 0xff, 1, 0, 0, 0xff, 0xff}
)

// inflater decompresses messages, each for itself.
type inflater struct {
	in   bytes.Reader
	data []byte
	r    io.ReadCloser
}

var inflaters = sync.Pool{New: func() any {
	f := new(inflater)
	f.r = flate.NewReader(&f.in) // reads no byte too many, as in is an io.ByteReader
	return f
}}

// appendInflated decompresses a message (RFC 7692 §7.2.2) of at most limit
// bytes; dst has what there was, and never more.
func appendInflated(dst, message []byte, limit int) ([]byte, error) {
	f := inflaters.Get().(*inflater)
	defer inflaters.Put(f)
	f.data = append(append(f.data[:0], message...), lastTail[:]...)
	f.in.Reset(f.data)
	defer f.let()
	start := len(dst)
	for f.in.Len() > 0 { // a sender may end its blocks before the message (§7.2.3.4)
		if err := f.r.(flate.Resetter).Reset(&f.in, nil); err != nil {
			return dst, errNotDeflate
		}
		var err error
		if dst, err = f.read(dst, start+limit); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

// read appends up to the last block's end, to a length of at most most.
func (f *inflater) read(dst []byte, most int) ([]byte, error) {
	for {
		if len(dst) == cap(dst) {
			dst = append(dst, 0)[:len(dst)]
		}
		room := dst[len(dst):min(cap(dst), most+1)]
		n, err := f.r.Read(room)
		dst = dst[:len(dst)+n]
		switch {
		case len(dst) > most:
			return dst[:most], errInflatedTooBig
		case err == io.EOF:
			return dst, nil
		case err != nil:
			return dst, errNotDeflate
		}
	}
}

// let lets go of a message.
func (f *inflater) let() {
	f.in.Reset(nil)
	if cap(f.data) > maxPooledBuffer {
		f.data = nil
	}
}

var (
	errInflatedTooBig = &frameError{protocol.CloseTooBig, "the message is too big when decompressed"}
	errNotDeflate     = &frameError{protocol.CloseBadData, "the message is not DEFLATE data as RFC 7692 has it"}
)
