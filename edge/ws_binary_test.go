package edge

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/gobwas/ws"

	"github.com/pushd/pushd/protocol"
)

// records reads the next frame as records.
func (c *wsClient) records() (list []protocol.Record) {
	c.t.Helper()
	f := c.read()
	if f.Header.OpCode != ws.OpBinary {
		c.t.Fatalf("got frame %v %q, want a binary one", f.Header.OpCode, f.Payload)
	}
	for rest := f.Payload; len(rest) > 0; {
		r, left, err := protocol.ReadRecord(rest)
		if err != nil {
			c.t.Fatalf("got %x, want records", f.Payload)
		}
		list, rest = append(list, r), left
	}
	return list
}

// reply reads the next frame as a line in a record.
func (c *wsClient) reply() (p protocol.Push) {
	c.t.Helper()
	r := c.records()[0]
	if err := json.Unmarshal(r.JSON, &p); err != nil {
		c.t.Fatalf("got %+v (%v), want a line of JSON", r, err)
	}
	return p
}

func TestTheBinarySubprotocolDoesWhatTheOtherDoes(t *testing.T) {
	s := newSite(t)
	c := s.dial("/v1/events", protocol.SubprotocolBinary)
	one := uint64(1)
	publish := protocol.AppendPublishRecord(nil, &one, &protocol.Publish{Event: protocol.Event{Topic: "a", ID: "mine", Type: "t", Data: []byte{0xff}}})
	message := protocol.AppendJSONRecord(nil, []byte(`{"id":7,"subscribe":{"topics":["a"]}}`))
	c.frame(ws.NewBinaryFrame(append(message, publish...)))
	if p := c.reply(); p.Subscribed == nil || *p.ID != 7 {
		t.Fatalf("got %+v, want subscribed", p)
	}
	var event *protocol.Record
	var published *protocol.PublishResult
	for event == nil || published == nil {
		r := c.records()[0]
		var p protocol.Push
		switch {
		case r.Kind == protocol.RecordEvent:
			event = &r
		case json.Unmarshal(r.JSON, &p) == nil && p.Published != nil && *p.ID == 1:
			published = p.Published
		default:
			t.Fatalf("got %+v, want the event or the reply", r)
		}
	}
	if e := event.Event; e.Offset != 1 || e.ID != "mine" || e.Type != "t" || !bytes.Equal(e.Data, []byte{0xff}) || event.Cursor == "" || published.Offset != 1 {
		t.Errorf("got %+v and %+v, want the event", event, published)
	}
	wantTexts(t, s.get("/v1/events?topic=a&after="+event.Cursor).page().Events)
	c.send(`{"id":2,"ping":{}}`)
	if p := c.reply(); p.Pong == nil {
		t.Errorf("got %+v, want pong", p)
	}
	c.frame(ws.NewBinaryFrame([]byte{5, 9}))
	c.wantClose(protocol.CloseBadRequest)
}

func TestRecordsThatWaitKeepTheirOrder(t *testing.T) {
	s := newSite(t)
	c := s.dial("/v1/events", protocol.SubprotocolBinary)
	var message []byte
	for range 100 {
		message = protocol.AppendPublishRecord(message, nil, &protocol.Publish{Event: protocol.Event{Topic: "a", Data: []byte("x")}})
	}
	message = protocol.AppendJSONRecord(message, []byte(`{"id":3,"history":{"topic":"a","limit":1000}}`))
	message = protocol.AppendJSONRecord(message, []byte(`{"id":4,"ping":{}}`))
	c.frame(ws.NewBinaryFrame(message))
	if p := c.reply(); p.History == nil || len(p.History.Events) != 100 {
		t.Errorf("got %+v, want the history of all", p)
	}
	if p := c.reply(); p.Pong == nil {
		t.Errorf("got %+v, want pong", p)
	}
}
