package protocol

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// CloudEvents 1.0 (github.com/cloudevents/spec, "JSON event format" and "HTTP
// protocol binding"). An event keeps the attributes that it has no field for as
// headers, so that they come back as they were: strings under CloudHeader and
// their name, other JSON values under cloudValue.
const (
	CloudHeader = "ce-"
	cloudValue  = "cejson-"
	cloudOwn    = "pushd" // extensions of this prefix are ours, and not kept
)

// Identity is what makes two publishes the same event: the id, for CloudEvents
// together with the source.
func (e *Event) Identity() string {
	for _, h := range e.Headers {
		if h.Name == CloudHeader+"source" {
			return e.ID + "\x00" + h.Value // no id has such a byte
		}
	}
	return e.ID
}

// ParseCloudEvent reads an event of the JSON event format. The event's topic
// is the extension topic, else the subject; "" if there is neither.
func ParseCloudEvent(text []byte) (e Event, err error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(text, &fields); err != nil {
		return e, BadJSON.Errorf("the CloudEvent is no JSON object: %v", err)
	}
	attributes := make(map[string]string, len(fields))
	var others []Header
	for name, value := range fields {
		switch {
		case name == "data" || name == "data_base64" || string(value) == "null":
			continue
		case len(value) > 0 && value[0] == '"':
			var s string
			if err := json.Unmarshal(value, &s); err != nil {
				return e, BadJSON.Errorf("CloudEvents attribute %s: %v", quote(name), err)
			}
			attributes[name] = s
		case !strings.HasPrefix(name, cloudOwn):
			others = append(others, Header{cloudValue + name, string(bytes.TrimSpace(value))})
		}
	}
	if e, err = CloudEvent(attributes); err != nil {
		return e, err
	}
	if err := checkCloudNames(others); err != nil {
		return e, err
	}
	e.Headers = append(e.Headers, others...)
	slices.SortFunc(e.Headers, func(a, b Header) int { return strings.Compare(a.Name, b.Name) })
	if e.Topic = attributes["topic"]; e.Topic == "" {
		e.Topic = attributes["subject"]
	}
	return e, e.setCloudData(fields["data"], fields["data_base64"])
}

// checkCloudNames refuses attributes whose values would not come back: those
// that the specification wants to be strings, arrays and objects.
func checkCloudNames(others []Header) error {
	for _, h := range others {
		name := strings.TrimPrefix(h.Name, cloudValue)
		switch name {
		case "id", "source", "type", "specversion", "time", "subject", "dataschema", "datacontenttype":
			return BadRequest.Errorf("CloudEvents attribute %s must be a string", name)
		}
		if c := h.Value[0]; c == '{' || c == '[' {
			return BadRequest.Errorf("CloudEvents attribute %s must be a string, a number or a boolean", quote(name))
		}
		if !cloudName(name) {
			return BadRequest.Errorf("CloudEvents attribute %s: names are of a-z and 0-9", quote(name))
		}
	}
	return nil
}

// setCloudData takes the payload. Without a content type it is JSON.
func (e *Event) setCloudData(data, base64 json.RawMessage) error {
	v := Envelope{ContentType: e.ContentType, Data: data}
	if len(base64) > 0 && string(base64) != "null" {
		v.Data = nil
		if err := json.Unmarshal(base64, &v.DataBase64); err != nil {
			return BadJSON.Errorf("data_base64: %v", err)
		}
		if v.DataBase64 == nil {
			v.DataBase64 = []byte{}
		}
		if len(data) > 0 && string(data) != "null" {
			return BadJSON.Errorf("a CloudEvent has data or data_base64, not both")
		}
	} else if v.ContentType == "" && len(data) > 0 {
		v.ContentType = "application/json"
	}
	from, err := v.Event()
	if err != nil {
		return err
	}
	e.Data, e.ContentType = from.Data, from.ContentType
	return nil
}

// CloudEvent makes an event, without payload and topic, of a CloudEvent's
// attributes: as a binary-mode request has them in its ce- headers, and
// datacontenttype.
func CloudEvent(attributes map[string]string) (e Event, err error) {
	if v := attributes["specversion"]; v != "1.0" {
		return e, BadRequest.Errorf("CloudEvents specversion %s: 1.0 is understood", quote(v))
	}
	for _, name := range []string{"id", "source", "type"} {
		if attributes[name] == "" {
			return e, BadRequest.Errorf("the CloudEvent has no %s; id, source, type and specversion are required", name)
		}
	}
	e = Event{ID: attributes["id"], Type: attributes["type"], ContentType: attributes["datacontenttype"]}
	for name, value := range attributes {
		switch {
		case name == "specversion" || name == "id" || name == "type" || name == "datacontenttype" || strings.HasPrefix(name, cloudOwn):
			continue
		case !cloudName(name):
			return e, BadRequest.Errorf("CloudEvents attribute %s: names are of a-z and 0-9", quote(name))
		}
		e.Headers = append(e.Headers, Header{CloudHeader + name, value})
	}
	slices.SortFunc(e.Headers, func(a, b Header) int { return strings.Compare(a.Name, b.Name) })
	return e, nil
}

func cloudName(name string) bool {
	return name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789") == ""
}

// AppendCloudEvent writes the event in the JSON event format. What its
// publisher did not say is ours: the source is the topic's, the subject the
// topic; offset, epoch and topic are extensions.
func AppendCloudEvent(dst []byte, e *Event) []byte {
	return append(appendCloudFields(dst, e), '}')
}

// AppendCloudEventAt is [AppendCloudEvent] with a reader's cursor behind the
// event as a further extension.
func AppendCloudEventAt(dst []byte, e *Event, cursor string) []byte {
	dst = appendCloudFields(dst, e)
	if cursor != "" {
		dst = AppendString(append(dst, `,"pushdcursor":`...), cursor)
	}
	return append(dst, '}')
}

func appendCloudFields(dst []byte, e *Event) []byte {
	dst = AppendString(append(dst, `{"specversion":"1.0","id":`...), e.ID)
	kept := func(name string) (string, bool) {
		i := slices.IndexFunc(e.Headers, func(h Header) bool { return h.Name == CloudHeader+name })
		if i < 0 {
			return "", false
		}
		return e.Headers[i].Value, true
	}
	field := func(name, otherwise string) {
		value, ok := kept(name)
		if !ok {
			value = otherwise
		}
		dst = appendCloudName(dst, name)
		dst = AppendString(dst, value)
	}
	field("source", "pushd/"+e.Topic)
	dst = append(dst, `,"type":`...)
	if e.Type != "" {
		dst = AppendString(dst, e.Type)
	} else {
		dst = append(dst, `"pushd.event"`...)
	}
	field("time", string(AppendTime(nil, e.Time)))
	field("subject", e.Topic)
	if e.Offset != 0 {
		dst = strconv.AppendUint(append(dst, `,"pushdoffset":"`...), e.Offset, 10)
		dst = strconv.AppendUint(append(dst, `","pushdepoch":"`...), e.Epoch, 10)
		dst = append(dst, '"')
	}
	dst = AppendString(append(dst, `,"pushdtopic":`...), e.Topic)
	if e.ContentType != "" {
		dst = AppendString(append(dst, `,"datacontenttype":`...), e.ContentType)
	}
	return AppendData(appendExtensions(dst, e.Headers), e)
}

// appendExtensions writes what the publisher said beside the fields.
func appendExtensions(dst []byte, headers []Header) []byte {
	for _, h := range headers {
		if name, ok := strings.CutPrefix(h.Name, CloudHeader); ok && cloudName(name) {
			switch name {
			case "source", "time", "subject", "id", "type", "specversion", "data", "datacontenttype":
			default:
				dst = AppendString(appendCloudName(dst, name), h.Value)
			}
		} else if name, ok := strings.CutPrefix(h.Name, cloudValue); ok && cloudName(name) && plainJSON(h.Value) {
			dst = append(appendCloudName(dst, name), h.Value...)
		}
	}
	return dst
}

// plainJSON says whether a header, which anyone may have written, is a number
// or a boolean.
func plainJSON(value string) bool {
	return value != "" && !strings.ContainsAny(value[:1], "\"[{n \t") && json.Valid([]byte(value))
}

func appendCloudName(dst []byte, name string) []byte {
	dst = append(dst, ',', '"')
	dst = append(dst, name...)
	return append(dst, '"', ':')
}

// AppendCloudGap writes a gap as a CloudEvent.
func AppendCloudGap(dst []byte, g *Gap, cursor string) []byte {
	dst = append(dst, `{"specversion":"1.0","id":"gap-`...)
	dst = strconv.AppendUint(dst, g.Epoch, 10)
	dst = strconv.AppendUint(append(dst, '-'), g.From, 10)
	dst = strconv.AppendUint(append(dst, '-'), g.To, 10)
	dst = append(dst, `","source":"pushd/`...)
	dst = append(dst, g.Topic...)
	dst = append(dst, `","type":"`+SSEGap+`","subject":`...)
	dst = AppendString(dst, g.Topic)
	if cursor != "" {
		dst = AppendString(append(dst, `,"pushdcursor":`...), cursor)
	}
	dst = append(dst, `,"datacontenttype":"application/json","data":`...)
	return append(AppendGap(dst, g), '}')
}
