package protocol

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"slices"
)

// The WebSocket subprotocol pushd.v1.binary. A binary message is a row of
// records, each a uvarint of its length, a byte that says which one it is, and
// its body. Numbers are uvarints; text and bytes have their length in front.
//
//	1 event    flags, [sub], topic, [offset, epoch], id, time, [type], [content type],
//	           [headers], [cursor], data to the record's end        (server)
//	2 JSON     a line of pushd.v1.json                              (both)
//	3 publish  flags, [id], topic, [event id], [type], [content type], [headers],
//	           data to the record's end                             (client)
//
// An id is 16 bytes if it is a UUID and its flag says so; time is nanoseconds
// since 1970, as eight bytes; headers are their number, names and values; a
// cursor is what its text means in base64url; a content type is a byte that
// stands for a usual one, or 0 and text. Text messages of a client are commands
// as in pushd.v1.json.
const (
	RecordEvent   = 1
	RecordJSON    = 2
	RecordPublish = 3
)

// Flags of records: what is there.
const (
	recordNumber  = 1 << iota // sub, or the command's id
	recordStored              // offset and epoch
	recordUUID                // the id is 16 bytes
	recordType                // event type
	recordContent             // content type
	recordHeaders             // headers
	recordCursor              // cursor
	recordAckNone             // publish: for live readers only
	recordEventID = recordUUID << 6
)

// AppendJSONRecord wraps a line of pushd.v1.json.
func AppendJSONRecord(dst, line []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(line)+1))
	return append(append(dst, RecordJSON), line...)
}

// AppendEventRecord writes an event for a reader; cursor is "" for an event
// that is never stored.
func AppendEventRecord(dst []byte, sub *uint64, e *Event, cursor string) []byte {
	var room [256]byte
	head := append(room[:0], RecordEvent, 0, 0)
	flags := 0
	if sub != nil {
		flags |= recordNumber
		head = binary.AppendUvarint(head, *sub)
	}
	head = AppendBytes(head, e.Topic)
	if e.Offset != 0 {
		flags |= recordStored
		head = binary.AppendUvarint(binary.AppendUvarint(head, e.Offset), e.Epoch)
	}
	head, flags = appendID(head, flags, e.ID)
	head = binary.LittleEndian.AppendUint64(head, uint64(e.Time))
	head, flags = appendMeta(head, flags, e)
	if cursor != "" {
		var text, bytes [128]byte // room on the stack
		if raw, err := base64.RawURLEncoding.AppendDecode(bytes[:0], append(text[:0], cursor...)); err == nil {
			flags |= recordCursor
			head = AppendBytes(head, raw)
		}
	}
	return appendRecord(dst, head, flags, e.Data)
}

// AppendPublishRecord writes a publish; id numbers its reply.
func AppendPublishRecord(dst []byte, id *uint64, p *Publish) []byte {
	var room [256]byte
	head := append(room[:0], RecordPublish, 0, 0)
	flags := 0
	if id != nil {
		flags |= recordNumber
		head = binary.AppendUvarint(head, *id)
	}
	head = AppendBytes(head, p.Event.Topic)
	if p.Event.ID != "" {
		flags |= recordEventID
		head = AppendBytes(head, p.Event.ID)
	}
	if p.Ack == AckNone {
		flags |= recordAckNone
	}
	head, flags = appendMeta(head, flags, &p.Event)
	return appendRecord(dst, head, flags, p.Event.Data)
}

// appendRecord puts a record together; its flags stand behind its kind.
func appendRecord(dst, head []byte, flags int, data []byte) []byte {
	binary.LittleEndian.PutUint16(head[1:], uint16(flags))
	dst = binary.AppendUvarint(dst, uint64(len(head)+len(data)))
	return append(append(dst, head...), data...)
}

func appendMeta(head []byte, flags int, e *Event) ([]byte, int) {
	if e.Type != "" {
		flags |= recordType
		head = AppendBytes(head, e.Type)
	}
	if e.ContentType != "" {
		flags |= recordContent
		head = appendContentType(head, e.ContentType)
	}
	if len(e.Headers) > 0 {
		flags |= recordHeaders
		head = binary.AppendUvarint(head, uint64(len(e.Headers)))
		for _, h := range e.Headers {
			head = AppendBytes(AppendBytes(head, h.Name), h.Value)
		}
	}
	return head, flags
}

// usualContent has a byte for each of its content types, from 1.
var usualContent = [...]string{"text/plain", "application/json", "application/octet-stream", "text/plain; charset=utf-8", "application/x-www-form-urlencoded"}

func appendContentType(head []byte, contentType string) []byte {
	if i := slices.Index(usualContent[:], contentType); i >= 0 {
		return append(head, byte(i+1))
	}
	return AppendBytes(append(head, 0), contentType)
}

func readContentType(in *BinaryReader) string {
	n := int(in.Byte())
	switch {
	case n == 0:
		return in.Text(MaxContentType)
	case n > len(usualContent):
		in.fail()
		return ""
	}
	return usualContent[n-1]
}

// appendID writes a UUID in 16 bytes, if it is one that reads back the same.
func appendID(head []byte, flags int, id string) ([]byte, int) {
	if raw, ok := parseUUID(id); ok {
		return append(head, raw[:]...), flags | recordUUID
	}
	return AppendBytes(head, id), flags
}

func parseUUID(s string) (raw [16]byte, ok bool) {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return raw, false
	}
	var digits [32]byte
	n := 0
	for i := range len(s) {
		switch c := s[i]; {
		case c == '-' && (i == 8 || i == 13 || i == 18 || i == 23):
		case c >= '0' && c <= '9' || c >= 'a' && c <= 'f':
			digits[n] = c
			n++
		default:
			return raw, false
		}
	}
	_, err := hex.Decode(raw[:], digits[:])
	return raw, err == nil
}

func formatUUID(raw []byte) string {
	var b [36]byte
	hex.Encode(b[:8], raw[:4])
	hex.Encode(b[9:13], raw[4:6])
	hex.Encode(b[14:18], raw[6:8])
	hex.Encode(b[19:23], raw[8:10])
	hex.Encode(b[24:], raw[10:16])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return string(b[:])
}

// A Record is one record of pushd.v1.binary as it is decoded.
type Record struct {
	Kind   byte
	Number *uint64 // sub of an event, id of a publish
	JSON   []byte
	Event  Event // of an event or a publish; its Data is a part of the input
	Cursor string
	Ack    Ack
}

// ReadRecord takes a record off b. [ErrBinary] means that b does not begin with
// a whole one that is known.
func ReadRecord(b []byte) (r Record, rest []byte, err error) {
	size, n := binary.Uvarint(b)
	if n <= 0 || size < 1 || size > uint64(len(b)-n) {
		return r, nil, ErrBinary
	}
	body, rest := b[n:n+int(size)], b[n+int(size):]
	r.Kind = body[0]
	switch r.Kind {
	case RecordJSON:
		r.JSON = body[1:]
		return r, rest, nil
	case RecordEvent, RecordPublish:
		return r, rest, r.read(body[1:])
	}
	return r, nil, ErrBinary
}

func (r *Record) read(body []byte) error {
	in := NewBinaryReader(body)
	flags := int(in.Byte()) | int(in.Byte())<<8
	if flags&recordNumber != 0 {
		n := in.Uvarint()
		r.Number = &n
	}
	e := &r.Event
	e.Topic = in.Text(MaxTopicBytes)
	if r.Kind == RecordEvent {
		if flags&recordStored != 0 {
			e.Offset, e.Epoch = in.Uvarint(), in.Uvarint()
		}
		if flags&recordUUID != 0 {
			if raw := in.fixed(16); raw != nil {
				e.ID = formatUUID(raw)
			}
		} else {
			e.ID = in.Text(MaxLabelBytes)
		}
		e.Time = int64(in.Fixed64())
	} else if flags&recordEventID != 0 {
		e.ID = in.Text(MaxLabelBytes)
	}
	if flags&recordAckNone != 0 {
		r.Ack = AckNone
	}
	readMeta(in, flags, e)
	if flags&recordCursor != 0 {
		r.Cursor = base64.RawURLEncoding.EncodeToString(in.Bytes(MaxCursorText))
	}
	e.Data = in.Rest()
	return in.Err()
}

func readMeta(in *BinaryReader, flags int, e *Event) {
	if flags&recordType != 0 {
		e.Type = in.Text(MaxLabelBytes)
	}
	if flags&recordContent != 0 {
		e.ContentType = readContentType(in)
	}
	if flags&recordHeaders != 0 {
		e.Headers = make([]Header, in.Count(MaxHeaders, 2))
		for i := range e.Headers {
			e.Headers[i] = Header{in.Text(MaxHeaderNameBytes), in.Text(MaxHeaderBytes)}
		}
	}
}
