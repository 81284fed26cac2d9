package protocol

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// An Envelope is the JSON form of an event as it is decoded: by a server from
// a publisher, by a client from a server. See [AppendEnvelope] for the way out.
type Envelope struct {
	Topic       string            `json:"topic"`
	Offset      uint64            `json:"offset,omitempty"`
	Epoch       uint64            `json:"epoch,omitempty"`
	ID          string            `json:"id,omitempty"`
	Time        time.Time         `json:"time,omitzero"`
	Type        string            `json:"type,omitempty"`
	ContentType string            `json:"content_type,omitempty"`
	Headers     map[string]string `json:"headers,omitempty"`
	Data        json.RawMessage   `json:"data,omitempty"`
	DataBase64  []byte            `json:"data_base64,omitempty"`
	Cursor      string            `json:"cursor,omitempty"`
}

// Event turns the envelope back into an event. Data that is a JSON string is
// text unless the content type says JSON; any other value is JSON, and becomes
// application/json where no content type says so.
func (v *Envelope) Event() (Event, error) {
	e := Event{Topic: v.Topic, Offset: v.Offset, Epoch: v.Epoch, ID: v.ID, Type: v.Type, ContentType: v.ContentType, Headers: headerList(v.Headers)}
	if !v.Time.IsZero() {
		e.Time = v.Time.UnixNano()
	}
	if len(v.Data) > 0 && v.DataBase64 != nil {
		return e, BadJSON.Errorf("an event has data or data_base64, not both")
	}
	if v.DataBase64 != nil {
		e.Data = v.DataBase64
		return e, nil
	}
	return e, e.setData(v.Data)
}

// setData takes the payload out of a JSON value.
func (e *Event) setData(value json.RawMessage) error {
	value = bytes.TrimSpace(value)
	if len(value) == 0 {
		return nil
	}
	if isJSON(mediaType(e.ContentType)) || value[0] != '"' {
		if e.ContentType == "" {
			e.ContentType = "application/json"
		}
		if !isJSON(mediaType(e.ContentType)) {
			return BadJSON.Errorf("data is a JSON value, but content_type is %s; make data a string, or use data_base64", quote(e.ContentType))
		}
		e.Data = bytes.Clone(value)
		return nil
	}
	var text string
	if err := json.Unmarshal(value, &text); err != nil {
		return BadJSON.Errorf("data: %v", err)
	}
	if e.ContentType == "" {
		e.ContentType = "text/plain"
	}
	e.Data = []byte(text)
	return nil
}

func headerList(m map[string]string) []Header {
	if len(m) == 0 {
		return nil
	}
	list := make([]Header, 0, len(m))
	for name, value := range m {
		list = append(list, Header{name, value})
	}
	slices.SortFunc(list, func(a, b Header) int { return strings.Compare(a.Name, b.Name) })
	return list
}
