package edge

import (
	"bytes"
	"encoding/json"
	"net/http"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/protocol"
)

// publishBatch answers POST /v1/events: many events, one result each, in order.
func (s *Server) publishBatch(w http.ResponseWriter, r *http.Request) error {
	if err := refuseEncodings(r.Header); err != nil {
		return err
	}
	ack, err := parseAck(r.Header.Get("Pushd-Ack"))
	if err != nil {
		return err
	}
	media, err := batchMedia(r.Header.Get("Content-Type"))
	if err != nil {
		return err
	}
	body, err := readBody(w, r, maxBatchBody)
	if err != nil {
		return err
	}
	items, err := splitBatch(body, media)
	if err != nil {
		return err
	}
	results := s.storeBatch(r, items, func(item json.RawMessage) (protocol.Publish, error) {
		if media == cloudStructured || media == cloudBatch {
			return s.cloudItem(item, "", ack)
		}
		return s.parseEnvelope(item, ack)
	})
	writeResults(w, results)
	return nil
}

// writeResults answers a batch: 207 if something of it was not stored.
func writeResults(w http.ResponseWriter, results []broker.Result) {
	status := http.StatusOK
	answer := append(make([]byte, 0, 256*len(results)+16), `{"results":[`...)
	for i := range results {
		if i > 0 {
			answer = append(answer, ',')
		}
		if err := results[i].Err; err != nil {
			status = http.StatusMultiStatus
			answer = append(answer, `{"error":`...)
			answer = protocol.AppendErrorObject(answer, asError(err))
			answer = append(answer, '}')
			continue
		}
		answer = results[i].Append(answer)
	}
	w.Header().Set("Cache-Control", "no-store")
	writeBody(w, status, "application/json", append(answer, "]}\n"...))
}

// storeBatch publishes those that are well formed, and that who asks may publish.
func (s *Server) storeBatch(r *http.Request, items []json.RawMessage, parse func(json.RawMessage) (protocol.Publish, error)) []broker.Result {
	who := whoOf(r)
	results := make([]broker.Result, len(items))
	list := make([]protocol.Publish, 0, len(items))
	at := make([]int, 0, len(items)) // where the result of each in list goes
	for i, item := range items {
		p, err := parse(item)
		if err == nil {
			err = who.need(mayPub, p.Event.Topic)
		}
		if err != nil {
			results[i].Err = err
			continue
		}
		list, at = append(list, p), append(at, i)
	}
	if len(list) > 0 {
		ctx, span := s.startPublish(r)
		for i := range list {
			span.carry(&list[i].Event)
		}
		stored := s.countStored(s.options.Broker.PublishBatch(ctx, list))
		span.endBatch(stored)
		for i, result := range stored {
			results[at[i]] = result
		}
	}
	return results
}

func (s *Server) countStored(results []broker.Result) []broker.Result {
	for i := range results {
		if results[i].Err == nil {
			s.metrics.published.Add(1)
		}
	}
	return results
}

func (s *Server) parseEnvelope(item json.RawMessage, ack protocol.Ack) (p protocol.Publish, err error) {
	var v protocol.Envelope
	if err := json.Unmarshal(item, &v); err != nil {
		return p, protocol.BadJSON.Errorf(`the event is not like {"topic":"orders.eu","data":…}: %v`, err)
	}
	p.Ack = ack
	if p.Event, err = v.Event(); err != nil {
		return p, err
	}
	return p, p.Event.Check(s.options.MaxEventBytes)
}

// batchMedia is the media type of a batch; "" if the client left it open.
func batchMedia(contentType string) (string, error) {
	media := mediaOf(contentType)
	switch media {
	case "", "application/x-ndjson", "application/ndjson", "application/json", cloudStructured, cloudBatch:
		return media, nil
	}
	return "", protocol.BadMediaType.Errorf("a batch is application/x-ndjson (an envelope a line), application/json (an array of envelopes) or %s, not %s", cloudBatch, clip(contentType))
}

// splitBatch cuts a batch into its events. JSON is an array; without a media
// type the first character decides.
func splitBatch(body []byte, media string) ([]json.RawMessage, error) {
	body = bytes.TrimSpace(body)
	var items []json.RawMessage
	if media == cloudStructured {
		return []json.RawMessage{body}, nil
	}
	if media == "application/json" || media == cloudBatch || media == "" && bytes.HasPrefix(body, []byte("[")) {
		if err := json.Unmarshal(body, &items); err != nil {
			return nil, protocol.BadJSON.Errorf("the body is not a JSON array of events: %v; nothing was stored", err)
		}
	} else {
		for line := range bytes.Lines(body) {
			if line = bytes.TrimSpace(line); len(line) > 0 {
				items = append(items, line)
			}
			if len(items) > protocol.MaxBatchEvents {
				break
			}
		}
	}
	if len(items) > protocol.MaxBatchEvents {
		return nil, protocol.PayloadTooLarge.Errorf("the batch has more than %d events, as many as one request may have; nothing was stored", protocol.MaxBatchEvents)
	}
	return items, nil
}
