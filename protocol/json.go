package protocol

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strconv"
	"unicode/utf8"
)

// AppendEnvelope writes the event's JSON envelope (API.md §1) without its
// cursor and closing brace, which belong to the reader: the same bytes serve
// every reader, each of which ends them with [AppendCursorField].
func AppendEnvelope(dst []byte, e *Event) []byte {
	dst = append(dst, `{"topic":`...)
	dst = AppendString(dst, e.Topic)
	if e.Offset != 0 {
		dst = append(dst, `,"offset":`...)
		dst = strconv.AppendUint(dst, e.Offset, 10)
		dst = append(dst, `,"epoch":`...)
		dst = strconv.AppendUint(dst, e.Epoch, 10)
	}
	dst = append(dst, `,"id":`...)
	dst = AppendString(dst, e.ID)
	dst = append(dst, `,"time":"`...)
	dst = AppendTime(dst, e.Time)
	dst = append(dst, '"')
	if e.Type != "" {
		dst = append(dst, `,"type":`...)
		dst = AppendString(dst, e.Type)
	}
	if e.ContentType != "" {
		dst = append(dst, `,"content_type":`...)
		dst = AppendString(dst, e.ContentType)
	}
	if len(e.Headers) > 0 {
		dst = appendHeaders(dst, e.Headers)
	}
	return AppendData(dst, e)
}

// AppendCursorField ends an envelope with the reader's cursor. An event that
// is never stored moves no reader and has none.
func AppendCursorField(dst []byte, cursor string) []byte {
	if cursor != "" {
		dst = append(dst, `,"cursor":`...)
		dst = AppendString(dst, cursor)
	}
	return append(dst, '}')
}

func appendHeaders(dst []byte, headers []Header) []byte {
	dst = append(dst, `,"headers":{`...)
	for i, h := range headers {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = AppendString(dst, h.Name)
		dst = append(dst, ':')
		dst = AppendString(dst, h.Value)
	}
	return append(dst, '}')
}

// AppendData writes the payload as the next field of an envelope: data or
// data_base64.
func AppendData(dst []byte, e *Event) []byte {
	switch e.Kind() {
	case KindJSON:
		dst = append(dst, `,"data":`...)
		return appendCompact(dst, e.Data)
	case KindText:
		dst = append(dst, `,"data":`...)
		return AppendString(dst, string(e.Data))
	}
	dst = append(dst, `,"data_base64":"`...)
	dst = base64.StdEncoding.AppendEncode(dst, e.Data)
	return append(dst, '"')
}

// appendCompact keeps line breaks out of a JSON value: one envelope is one
// line on every wire.
func appendCompact(dst, value []byte) []byte {
	if bytes.IndexByte(value, '\n') < 0 && bytes.IndexByte(value, '\r') < 0 {
		return append(dst, bytes.TrimSpace(value)...)
	}
	buf := bytes.NewBuffer(dst)
	if err := json.Compact(buf, value); err != nil {
		panic("protocol: compacting JSON that was valid: " + err.Error())
	}
	return buf.Bytes()
}

// AppendString writes s as a JSON string (RFC 8259 §7): control characters,
// quote and backslash escaped, bytes that are not UTF-8 replaced by U+FFFD.
func AppendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	start := 0
	for i := plainBytes(s); i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				dst = append(append(dst, s[start:i]...), "\uFFFD"...)
				start = i + 1
			}
			i += n
			continue
		}
		if c < ' ' || c == '"' || c == '\\' || c == 0x7f {
			dst = append(dst, s[start:i]...)
			dst = appendEscape(dst, c)
			start = i + 1
		}
		i += 1 + plainBytes(s[i+1:])
	}
	return append(append(dst, s[start:]...), '"')
}

func appendEscape(dst []byte, c byte) []byte {
	const hex = "0123456789abcdef"
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	return append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
}
