package edge

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/protocol"
)

// Media types of the CloudEvents HTTP protocol binding.
const (
	cloudStructured = "application/cloudevents+json"
	cloudBatch      = "application/cloudevents-batch+json"
)

// mediaOf is a media type without its parameters.
func mediaOf(contentType string) string {
	media, _, _ := strings.Cut(strings.ToLower(contentType), ";")
	return strings.TrimSpace(media)
}

// isCloudBinary says whether a request is a CloudEvent in binary mode.
func isCloudBinary(h http.Header) bool {
	return h.Get("Ce-Specversion") != "" && !strings.HasPrefix(mediaOf(h.Get("Content-Type")), "application/cloudevents")
}

// cloudBinary reads a CloudEvent's attributes from a request's ce- headers. The
// topic is the URL's, the payload the body.
func cloudBinary(h http.Header, topic string) (protocol.Event, error) {
	attributes := map[string]string{"datacontenttype": h.Get("Content-Type")}
	for name, values := range h {
		attribute, ok := strings.CutPrefix(strings.ToLower(name), protocol.CloudHeader)
		if !ok {
			continue
		}
		value, err := url.PathUnescape(values[0]) // HTTP binding §3.1.3.2
		if err != nil {
			return protocol.Event{}, protocol.BadHeader.Errorf("header %s: %s is not percent-encoded UTF-8", name, clip(values[0]))
		}
		attributes[attribute] = value
	}
	e, err := protocol.CloudEvent(attributes)
	e.Topic = topic
	return e, err
}

// cloudItem reads one event in structured mode. topic is the URL's; without one
// the event names it.
func (s *Server) cloudItem(item json.RawMessage, topic string, ack protocol.Ack) (p protocol.Publish, err error) {
	p.Ack = ack
	if p.Event, err = protocol.ParseCloudEvent(item); err != nil {
		return p, err
	}
	if topic != "" {
		p.Event.Topic = topic
	}
	if p.Event.Topic == "" {
		return p, protocol.BadTopic.Errorf("the CloudEvent names no topic; name it in the extension topic or as subject, or post to /v1/topics/{topic}/events")
	}
	return p, p.Event.Check(s.options.MaxEventBytes)
}

// publishCloudBatch stores a batch for the URL's topic.
func (s *Server) publishCloudBatch(w http.ResponseWriter, r *http.Request, topic string) error {
	ack, err := parseAck(r.Header.Get("Pushd-Ack"))
	if err != nil {
		return err
	}
	if err := refuseEncodings(r.Header); err != nil {
		return err
	}
	body, err := readBody(w, r, maxBatchBody)
	if err != nil {
		return err
	}
	items, err := splitBatch(body, "application/json")
	if err != nil {
		return err
	}
	results := s.storeBatch(r, items, func(item json.RawMessage) (protocol.Publish, error) { return s.cloudItem(item, topic, ack) })
	writeResults(w, results)
	return nil
}

// appendCloudEvents writes a page as a batch.
func appendCloudEvents(dst []byte, items []broker.Item) []byte {
	dst = append(dst, '[')
	for i := range items {
		if i > 0 {
			dst = append(dst, ',')
		}
		if items[i].Gap != nil {
			dst = protocol.AppendCloudGap(dst, items[i].Gap, items[i].Cursor)
		} else {
			dst = protocol.AppendCloudEventAt(dst, &items[i].Event.Event, items[i].Cursor)
		}
	}
	return append(dst, ']', '\n')
}
