package edge

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/pushd/pushd/protocol"
)

// headerPrefix marks request headers that are kept with the event.
const headerPrefix = "Pushd-Header-"

// publish answers POST /v1/topics/{topic}/events: the body is the payload.
func (s *Server) publish(w http.ResponseWriter, r *http.Request) error {
	topic := r.PathValue("topic")
	if err := protocol.CheckTopic(topic); err != nil {
		return err
	}
	if err := whoOf(r).need(mayPub, topic); err != nil {
		return err
	}
	if mediaOf(r.Header.Get("Content-Type")) == cloudBatch {
		return s.publishCloudBatch(w, r, topic)
	}
	p, err := s.readPublish(w, r, topic)
	if err != nil {
		return err
	}
	ctx, span := s.startPublish(r)
	span.carry(&p.Event)
	done, err := s.options.Broker.Publish(ctx, &p)
	span.end(topic, done, err)
	if err != nil {
		return err
	}
	s.metrics.published.Add(1)
	status := http.StatusCreated
	switch {
	case p.Ack == protocol.AckNone:
		status = http.StatusAccepted
	case done.Duplicate:
		status = http.StatusOK
	}
	if done.Cursor != "" {
		w.Header().Set("Pushd-Cursor", done.Cursor)
	}
	w.Header().Set("Cache-Control", "no-store")
	writeBody(w, status, "application/json", append(done.Append(nil), '\n'))
	return nil
}

// readPublish reads the request: a payload, or a CloudEvent around one.
func (s *Server) readPublish(w http.ResponseWriter, r *http.Request, topic string) (p protocol.Publish, err error) {
	if p, err = s.parsePublish(r, topic); err != nil {
		return p, err
	}
	limit, structured := s.options.MaxEventBytes, mediaOf(r.Header.Get("Content-Type")) == cloudStructured
	if structured {
		limit = limit*4/3 + maxCommandBytes
	}
	body, err := readBody(w, r, limit)
	if err != nil {
		return p, err
	}
	if structured {
		read, err := s.cloudItem(body, topic, p.Ack)
		read.IfMatch = p.IfMatch
		return read, err
	}
	p.Event.Data = body
	return p, p.Event.Check(s.options.MaxEventBytes)
}

// parsePublish takes everything but the payload from the request.
func (s *Server) parsePublish(r *http.Request, topic string) (p protocol.Publish, err error) {
	h := r.Header
	if err := refuseEncodings(h); err != nil {
		return p, err
	}
	p.Event = protocol.Event{Topic: topic, Type: h.Get("Pushd-Event-Type"), ContentType: h.Get("Content-Type"), Headers: keptHeaders(h)}
	if isCloudBinary(h) {
		if p.Event, err = cloudBinary(h, topic); err != nil {
			return p, err
		}
	} else if p.Event.ID, err = eventID(h); err != nil {
		return p, err
	}
	if p.Ack, err = parseAck(h.Get("Pushd-Ack")); err != nil {
		return p, err
	}
	if values := h.Values("If-Match"); len(values) > 0 {
		n, err := parseIfMatch(strings.Join(values, ","))
		if err != nil {
			return p, err
		}
		if p.Ack == protocol.AckNone {
			return p, protocol.BadRequest.Errorf("If-Match needs an event that is stored; leave out Pushd-Ack: none")
		}
		p.IfMatch = &n
	}
	p.Producer, err = parseProducer(h, p.Ack)
	return p, err
}

// refuseEncodings refuses what would otherwise be stored as something that the
// publisher did not mean.
func refuseEncodings(h http.Header) error {
	media := mediaOf(h.Get("Content-Type"))
	if strings.HasPrefix(media, "application/cloudevents") && media != cloudStructured && media != cloudBatch {
		return protocol.BadMediaType.Errorf("CloudEvents come as %s, %s, or in ce- headers; not as %s", cloudStructured, cloudBatch, clip(media))
	}
	if enc := h.Get("Content-Encoding"); enc != "" && !strings.EqualFold(enc, "identity") {
		return protocol.BadMediaType.Errorf("Content-Encoding %s is not taken; send the payload as it is", clip(enc))
	}
	return nil
}

// eventID is the publisher's id, under either of its names.
func eventID(h http.Header) (string, error) {
	id, key := h.Get("Pushd-Event-Id"), h.Get("Idempotency-Key")
	if n := len(key); n >= 2 && key[0] == '"' && key[n-1] == '"' {
		key = key[1 : n-1] // a structured field's string
	}
	if id != "" && key != "" && id != key {
		return "", protocol.BadEventID.Errorf("Pushd-Event-Id is %s and Idempotency-Key is %s; give one of them", clip(id), clip(key))
	}
	if id == "" {
		id = key
	}
	if id == "" && (h["Pushd-Event-Id"] != nil || h["Idempotency-Key"] != nil) {
		return "", protocol.BadEventID.Errorf("the event id is empty; give 1 to %d printable characters, or leave the header out", protocol.MaxLabelBytes)
	}
	return id, nil
}

// keptHeaders are the request's headers that go with the event.
func keptHeaders(h http.Header) []protocol.Header {
	var kept []protocol.Header
	for name, values := range h {
		switch suffix, ok := strings.CutPrefix(name, headerPrefix); {
		case ok:
			kept = append(kept, protocol.Header{Name: strings.ToLower(suffix), Value: strings.Join(values, ", ")})
		case name == "Traceparent" && h.Get(headerPrefix+"Traceparent") == "":
			kept = append(kept, protocol.Header{Name: "traceparent", Value: values[0]})
		}
	}
	slices.SortFunc(kept, func(a, b protocol.Header) int { return strings.Compare(a.Name, b.Name) })
	return kept
}

func parseAck(s string) (protocol.Ack, error) {
	switch s {
	case "", "quorum":
		return protocol.AckQuorum, nil
	case "none":
		return protocol.AckNone, nil
	}
	return 0, protocol.BadRequest.Errorf("acknowledgement %s: must be quorum or none", clip(s))
}

// parseIfMatch reads "N" with or without its quotes.
func parseIfMatch(s string) (uint64, error) {
	text := strings.TrimSpace(s)
	if n := len(text); n >= 2 && text[0] == '"' && text[n-1] == '"' {
		text = text[1 : n-1]
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || text[0] == '+' {
		return 0, protocol.BadRequest.Errorf(`If-Match %s: must be the topic's last offset, such as "41"; "0" means that it has no events`, clip(s))
	}
	return n, nil
}

// discard takes some more of a body that is refused over HTTP/2, where clients
// such as curl lose the answer when the stream is reset while they send. Over
// HTTP/1.1 net/http does the like.
func discard(r *http.Request) {
	if r.ProtoMajor == 2 {
		_, _ = io.CopyN(io.Discard, r.Body, maxDiscard) // what fails is refused anyway
	}
}

func bodyError(err error, limit int) error {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return tooLarge(limit)
	}
	if e := asError(err); e.Code != protocol.Internal {
		return e
	}
	return protocol.BadRequest.Errorf("the request body broke off: %v; nothing was stored", err)
}

func tooLarge(limit int) error {
	return protocol.PayloadTooLarge.Errorf("the body has more than %d bytes, as many as are allowed here; nothing was stored", limit)
}
