package protocol

import (
	"encoding/binary"
	"errors"
	"unsafe"
)

// ErrBinary says that bytes are not the binary form of what was asked for.
var ErrBinary = errors.New("malformed binary form")

// AppendEvent writes the event's binary form: the one that is stored and that
// nodes exchange. Fields are uvarints or length-prefixed bytes, in the order of
// the struct; DESIGN.md of package broker shows where it stands.
func AppendEvent(dst []byte, e *Event) []byte {
	dst = AppendBytes(dst, e.Topic)
	dst = binary.AppendUvarint(dst, e.Offset)
	dst = binary.AppendUvarint(dst, e.Epoch)
	dst = AppendBytes(dst, e.ID)
	dst = binary.AppendUvarint(dst, uint64(e.Time))
	dst = AppendBytes(dst, e.Type)
	dst = AppendBytes(dst, e.ContentType)
	dst = binary.AppendUvarint(dst, uint64(len(e.Headers)))
	for _, h := range e.Headers {
		dst = AppendBytes(AppendBytes(dst, h.Name), h.Value)
	}
	return AppendBytes(dst, e.Data)
}

// ReadEvent reads an event off the reader. Its Data is a part of the input.
func (r *BinaryReader) ReadEvent() Event {
	e := Event{
		Topic: r.Text(MaxTopicBytes), Offset: r.Uvarint(), Epoch: r.Uvarint(),
		ID: r.Text(MaxLabelBytes), Time: int64(r.Uvarint()),
		Type: r.Text(MaxLabelBytes), ContentType: contentType(r.Bytes(MaxContentType)),
	}
	if n := r.Count(MaxHeaders, 2); n > 0 {
		e.Headers = make([]Header, n)
		for i := range e.Headers {
			e.Headers[i] = Header{r.Text(MaxHeaderNameBytes), r.Text(MaxHeaderBytes)}
		}
	}
	e.Data = r.Bytes(MaxEventBytes)
	return e
}

// SkipEvent passes over an event that [BinaryReader.ReadEvent] would read.
func (r *BinaryReader) SkipEvent() {
	r.Bytes(MaxTopicBytes)
	r.Uvarint()
	r.Uvarint()
	r.Bytes(MaxLabelBytes)
	r.Uvarint()
	r.Bytes(MaxLabelBytes)
	r.Bytes(MaxContentType)
	for range r.Count(MaxHeaders, 2) {
		r.Bytes(MaxHeaderNameBytes)
		r.Bytes(MaxHeaderBytes)
	}
	r.Bytes(MaxEventBytes)
}

// AppendBytes writes a length and the bytes.
func AppendBytes[T ~string | ~[]byte](dst []byte, s T) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// A BinaryReader takes fields off the front of a byte slice. The first field
// that isn't there, or breaks its limit, makes Err return [ErrBinary]; every
// later field is zero.
type BinaryReader struct {
	rest   []byte
	bad    bool
	shared bool // texts are parts of the input
}

// NewBinaryReader reads b, which must not change while results are in use.
func NewBinaryReader(b []byte) *BinaryReader { return &BinaryReader{rest: b} }

// NewSharedReader reads b, which must never change: texts are parts of it, too,
// so that nothing is allocated for them, and whoever keeps one keeps all of b.
func NewSharedReader(b []byte) *BinaryReader { return &BinaryReader{rest: b, shared: true} }

// Err is nil if all fields so far were there.
func (r *BinaryReader) Err() error {
	if r.bad {
		return ErrBinary
	}
	return nil
}

// Rest is what has not been read.
func (r *BinaryReader) Rest() []byte { return r.rest }

// Uvarint reads a number.
func (r *BinaryReader) Uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

// Byte reads one byte.
func (r *BinaryReader) Byte() byte {
	if len(r.rest) == 0 {
		r.fail()
		return 0
	}
	b := r.rest[0]
	r.rest = r.rest[1:]
	return b
}

// Bytes reads a length of at most limit and as many bytes, a part of the input.
func (r *BinaryReader) Bytes(limit int) []byte {
	n := r.Uvarint()
	if n > uint64(limit) || n > uint64(len(r.rest)) {
		r.fail()
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

// Text reads bytes of at most limit as a string.
func (r *BinaryReader) Text(limit int) string {
	b := r.Bytes(limit)
	if r.shared {
		return unsafe.String(unsafe.SliceData(b), len(b))
	}
	return string(b)
}

// Count reads how many items of at least size bytes follow: never more than
// limit, nor than the input can hold.
func (r *BinaryReader) Count(limit, size int) int {
	n := r.Uvarint()
	if n > uint64(limit) || n*uint64(size) > uint64(len(r.rest)) {
		r.fail()
		return 0
	}
	return int(n)
}

func (r *BinaryReader) fail() { r.bad, r.rest = true, nil }

// Fixed64 reads eight bytes, little-endian.
func (r *BinaryReader) Fixed64() uint64 {
	if len(r.rest) < 8 {
		r.fail()
		return 0
	}
	v := binary.LittleEndian.Uint64(r.rest)
	r.rest = r.rest[8:]
	return v
}

// fixed takes n bytes, nil if there are fewer.
func (r *BinaryReader) fixed(n int) []byte {
	if len(r.rest) < n {
		r.fail()
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}
