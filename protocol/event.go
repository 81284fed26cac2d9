package protocol

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// An Event is one published item. It is immutable once it has an offset:
// whoever holds one shares it and never writes to it.
type Event struct {
	Topic       string
	Offset      uint64   // number in its topic, from 1, dense; 0 for an event that is never stored
	Epoch       uint64   // incarnation of the topic's history; 0 for an event that is never stored
	ID          string   // the publisher's, or a UUIDv7 of the server's
	Time        int64    // nanoseconds since 1970 UTC, by the partition leader's clock, never going back in a partition
	Type        string   // "" if none
	ContentType string   // media type as the publisher gave it; "" if none
	Headers     []Header // sorted by name
	Data        []byte
}

// A Header is kept with an event as it came.
type Header struct{ Name, Value string }

// Kind tells how an event's payload is shown where text is wanted.
type Kind uint8

// The kinds of payload.
const (
	KindBinary Kind = iota // base64
	KindText               // a string
	KindJSON               // a JSON value
)

// Kind looks at the content type and the bytes: JSON if it says so and is;
// text if it is valid UTF-8 and is not declared to be something binary.
func (e *Event) Kind() Kind {
	media := mediaType(e.ContentType)
	switch {
	case isJSON(media):
		if validJSON(e.Data) {
			return KindJSON
		}
	case isBinary(media):
		return KindBinary
	}
	if utf8.Valid(e.Data) {
		return KindText
	}
	return KindBinary
}

// Check refuses what no event may carry. maxData is the largest payload in
// bytes. Errors are *[Error] values that name the field.
func (e *Event) Check(maxData int) error {
	if err := CheckTopic(e.Topic); err != nil {
		return err
	}
	if SystemTopic(e.Topic) {
		return Forbidden.Errorf("topic %s belongs to the system (its name begins with $); clients may read it, not publish to it", quote(e.Topic))
	}
	if len(e.Data) > maxData {
		return PayloadTooLarge.Errorf("the payload has %d bytes, at most %d are allowed", len(e.Data), maxData)
	}
	if e.ID != "" {
		if err := checkLabel(e.ID); err != nil {
			return BadEventID.Errorf("event id %s: %v", quote(e.ID), err)
		}
	}
	if err := e.checkType(); err != nil {
		return err
	}
	if isJSON(mediaType(e.ContentType)) && !validJSON(e.Data) {
		return BadJSON.Errorf("content type is %s, but the payload is not valid JSON", quote(e.ContentType))
	}
	return e.checkHeaders()
}

func (e *Event) checkType() error {
	if e.Type != "" {
		if err := checkLabel(e.Type); err != nil {
			return BadEventType.Errorf("event type %s: %v", quote(e.Type), err)
		}
		if strings.HasPrefix(e.Type, "pushd.") {
			return BadEventType.Errorf("event type %s: names that begin with pushd. are reserved", quote(e.Type))
		}
	}
	plain := plainBytes(e.ContentType) == len(e.ContentType) // quick, and true of nearly every event
	if len(e.ContentType) > MaxContentType || !plain && (strings.ContainsFunc(e.ContentType, unicode.IsControl) || !utf8.ValidString(e.ContentType)) {
		return BadContentType.Errorf("content type %s: at most %d printable bytes", quote(e.ContentType), MaxContentType)
	}
	return nil
}

func (e *Event) checkHeaders() error {
	if len(e.Headers) > MaxHeaders {
		return BadHeader.Errorf("%d headers, at most %d are kept with an event", len(e.Headers), MaxHeaders)
	}
	total := 0
	for _, h := range e.Headers {
		total += len(h.Name) + len(h.Value)
		if h.Name == "" || len(h.Name) > MaxHeaderNameBytes || checkLabel(h.Name) != nil {
			return BadHeader.Errorf("header name %s: 1 to %d printable characters", quote(h.Name), MaxHeaderNameBytes)
		}
		if !utf8.ValidString(h.Value) || strings.ContainsAny(h.Value, "\r\n\x00") {
			return BadHeader.Errorf("header %s: its value must be UTF-8 without line breaks", quote(h.Name))
		}
	}
	if total > MaxHeaderBytes {
		return BadHeader.Errorf("the headers have %d bytes, at most %d are kept with an event", total, MaxHeaderBytes)
	}
	return nil
}

// checkLabel is the rule for ids and types: 1 to MaxLabelBytes printable
// characters, no line breaks.
func checkLabel(s string) error {
	if len(s) == 0 || len(s) > MaxLabelBytes {
		return fmt.Errorf("has %d bytes, 1 to %d are allowed", len(s), MaxLabelBytes)
	}
	for _, r := range s[plainBytes(s):] {
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			return fmt.Errorf("character %q is not printable", r)
		}
	}
	return nil
}

func mediaType(contentType string) string {
	media, _, _ := strings.Cut(contentType, ";")
	return strings.ToLower(strings.TrimSpace(media))
}

func isJSON(media string) bool {
	return media == "application/json" || strings.HasSuffix(media, "+json") || media == "text/json"
}

// isBinary lists what is not to be shown as text even where its bytes happen
// to be valid UTF-8; anything else is judged by its bytes.
func isBinary(media string) bool {
	switch media {
	case "application/octet-stream", "application/protobuf", "application/x-protobuf",
		"application/msgpack", "application/cbor", "application/gzip", "application/zip", "application/pdf", "application/wasm":
		return true
	}
	for _, p := range []string{"image/", "audio/", "video/", "font/"} {
		if strings.HasPrefix(media, p) {
			return true
		}
	}
	return false
}
