package protocol

import (
	"bytes"
	"encoding/base64"
	"slices"
	"strings"
)

// ParsePublish reads a line of pushd.v1.json that publishes one event. ok is
// false for any other line, and for one that is unusual or wrong: a [Command]
// is what that is decoded into. line is not kept. Nothing is checked but the
// form, as with [PublishCommand.Event].
func ParsePublish(line []byte) (id *uint64, p Publish, ok bool) {
	s := scanner{rest: line}
	var seen once
	s.object(func(name []byte) {
		switch string(name) {
		case "id":
			seen.check(&s, 0)
			n := s.number()
			id = &n
		case "publish":
			seen.check(&s, 1)
			s.publish(&p)
		default:
			s.fail()
		}
	})
	return id, p, s.end() && seen.has(1)
}

// once notes which fields of an object were there: of a field that comes
// twice, encoding/json may mix both.
type once uint

func (o *once) check(s *scanner, field int) {
	if o.has(field) {
		s.fail()
	}
	*o |= 1 << field
}

func (o *once) has(field int) bool { return *o&(1<<field) != 0 }

// publish takes the value of a publish command.
func (s *scanner) publish(p *Publish) {
	e := &p.Event
	var seen once
	var data []byte
	s.object(func(name []byte) {
		switch string(name) {
		case "topic":
			seen.check(s, 0)
			e.Topic = string(s.text())
		case "event_id":
			seen.check(s, 1)
			e.ID = string(s.text())
		case "type":
			seen.check(s, 2)
			e.Type = string(s.text())
		case "content_type":
			seen.check(s, 3)
			e.ContentType = contentType(s.text())
		case "ack":
			seen.check(s, 4)
			p.Ack = s.ack()
		case "headers":
			seen.check(s, 5)
			e.Headers = s.headers()
		case "data":
			seen.check(s, 6)
			data = s.value()
		case "data_base64":
			seen.check(s, 7)
			e.Data = s.base64()
		default:
			s.fail()
		}
	})
	if seen.has(6) && (seen.has(7) || !e.takeData(data)) {
		s.fail()
	}
}

func (s *scanner) ack() Ack {
	switch string(s.text()) {
	case "none":
		return AckNone
	case "quorum":
		return AckQuorum
	}
	s.fail()
	return AckQuorum
}

// contentType makes no new string of what nearly every event has.
func contentType(text []byte) string {
	switch string(text) {
	case "text/plain":
		return "text/plain"
	case "application/json":
		return "application/json"
	}
	return string(text)
}

func (s *scanner) headers() (list []Header) {
	s.object(func(name []byte) {
		if len(list) == MaxHeaders {
			s.fail()
		}
		list = append(list, Header{string(name), string(s.text())})
	})
	slices.SortFunc(list, func(a, b Header) int { return strings.Compare(a.Name, b.Name) })
	for i := 1; i < len(list); i++ {
		if list[i].Name == list[i-1].Name {
			s.fail()
		}
	}
	return list
}

func (s *scanner) base64() []byte {
	text, plain := s.inside()
	data, err := base64.StdEncoding.AppendDecode(make([]byte, 0, len(text)*3/4), text)
	if err != nil || !plain {
		s.fail()
	}
	return data
}

// takeData is setData for a value that is valid. It says whether that went
// without trouble.
func (e *Event) takeData(value []byte) bool {
	if len(value) == 0 {
		return false
	}
	if value[0] != '"' || isJSON(mediaType(e.ContentType)) {
		return e.setData(value) == nil
	}
	text := value[1 : len(value)-1]
	if bytes.IndexByte(text, '\\') >= 0 {
		s := scanner{rest: value}
		if text = s.text(); s.bad {
			return false
		}
	}
	e.Data = bytes.Clone(text)
	if e.ContentType == "" {
		e.ContentType = "text/plain"
	}
	return true
}

// ParsePublished reads the answer to a publish that was taken: see
// [AppendPublished]. ok is false for any other line: a [Push] is what that is
// decoded into.
func ParsePublished(line []byte) (id uint64, r PublishResult, ok bool) {
	s := scanner{rest: line}
	var seen once
	s.object(func(name []byte) {
		switch string(name) {
		case "id":
			seen.check(&s, 0)
			id = s.number()
		case "published":
			seen.check(&s, 1)
			s.published(&r)
		default:
			s.fail()
		}
	})
	return id, r, s.end() && seen.has(0) && seen.has(1)
}

func (s *scanner) published(r *PublishResult) {
	var seen once
	s.object(func(name []byte) {
		switch string(name) {
		case "topic":
			seen.check(s, 0)
			r.Topic = string(s.text())
		case "offset":
			seen.check(s, 1)
			r.Offset = s.number()
		case "epoch":
			seen.check(s, 2)
			r.Epoch = s.number()
		case "id":
			seen.check(s, 3)
			r.ID = string(s.text())
		case "time":
			seen.check(s, 4)
			if text, plain := s.inside(); !plain || r.Time.UnmarshalText(text) != nil {
				s.fail()
			}
		case "cursor":
			seen.check(s, 5)
			r.Cursor = string(s.text())
		case "duplicate":
			seen.check(s, 6)
			r.Duplicate = s.boolean()
		default:
			s.fail()
		}
	})
}
