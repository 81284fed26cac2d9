package webhook

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/protocol"
)

// messageID is an event's webhook-id: the same for every attempt, replay and
// leader, and without dots, which separate what is signed.
func messageID(partition uint16, e *protocol.Event) string {
	b := append(make([]byte, 0, 48), "msg_"...)
	b = append(strconv.AppendUint(b, uint64(partition), 10), '_')
	b = append(strconv.AppendUint(b, e.Epoch, 10), '_')
	return string(strconv.AppendUint(b, e.Offset, 10))
}

// outgoing is one request to an endpoint, before it is signed.
type outgoing struct {
	id          string
	body        []byte
	contentType string
	header      http.Header
}

// outgoingEvent is an event as the webhook's format has it.
func outgoingEvent(format string, partition uint16, r *broker.Record) outgoing {
	o := outgoing{id: messageID(partition, &r.Event), header: http.Header{
		"Pushd-Topic":    {r.Topic},
		"Pushd-Offset":   {strconv.FormatUint(r.Offset, 10)},
		"Pushd-Epoch":    {strconv.FormatUint(r.Epoch, 10)},
		"Pushd-Event-Id": {url.PathEscape(r.ID)},
	}}
	if r.Type != "" {
		o.header["Pushd-Event-Type"] = []string{url.PathEscape(r.Type)}
	}
	for _, h := range r.Headers {
		if strings.EqualFold(h.Name, "traceparent") {
			o.header["Traceparent"] = []string{h.Value}
		}
	}
	switch format {
	case formatCloudEvents:
		o.header["Webhook-Request-Origin"] = []string{origin} // HTTP 1.1 Web Hooks for Event Delivery §3.1
		o.body, o.contentType = protocol.AppendCloudEvent(nil, &r.Event), "application/cloudevents+json; charset=utf-8"
	case formatEnvelope:
		o.body, o.contentType = protocol.AppendCursorField(protocol.AppendEnvelope(nil, &r.Event), ""), "application/json"
	default:
		o.body, o.contentType = r.Data, r.ContentType
		if o.contentType == "" {
			o.contentType = guessType(r.Kind())
		}
	}
	return o
}

func guessType(k protocol.Kind) string {
	if k == protocol.KindBinary {
		return "application/octet-stream"
	}
	return "text/plain; charset=utf-8"
}

// request signs and makes the HTTP request.
func (o *outgoing) request(ctx context.Context, method string, to *target, now time.Time) *http.Request {
	h := o.header
	if h == nil {
		h = http.Header{}
	}
	for name, value := range to.hook.Spec.Headers {
		h.Set(name, value)
	}
	h["User-Agent"] = []string{"pushd-webhook/1"}
	h["Idempotency-Key"] = []string{} // not sent: it lets net/http repeat what met a connection that was just being closed
	r := &http.Request{Method: method, URL: to.url, Host: to.url.Host, Header: h, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
	if method == http.MethodPost {
		seconds := now.Unix()
		h["Content-Type"] = []string{o.contentType}
		h["Webhook-Id"] = []string{o.id}
		h["Webhook-Timestamp"] = []string{strconv.FormatInt(seconds, 10)}
		h["Webhook-Signature"] = []string{string(appendSignatures(nil, to.signing(now), o.id, seconds, o.body))}
		r.ContentLength = int64(len(o.body))
		r.Body = http.NoBody
		if len(o.body) > 0 {
			r.Body = io.NopCloser(bytes.NewReader(o.body))
			r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(o.body)), nil }
		}
	}
	return r.WithContext(ctx)
}
