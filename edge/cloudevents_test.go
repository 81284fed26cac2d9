package edge

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/pushd/pushd/protocol"
)

func TestCloudEventsAreTakenInEveryMode(t *testing.T) {
	s := newSite(t)
	const at = "/v1/topics/orders/events"
	s.do(http.MethodPost, at, `{"n":1}`, "Ce-Specversion", "1.0", "Ce-Id", "1", "Ce-Source", "/shop", "Ce-Type", "order.made",
		"Ce-Traceinfo", "a%20b", "Content-Type", "application/json").want(201)
	one := `{"specversion":"1.0","id":"2","source":"/shop","type":"order.paid","level":3,"data":{"n":2}}`
	s.do(http.MethodPost, at, one, "Content-Type", "application/cloudevents+json; charset=utf-8").want(201)
	two := `[` + one + `,{"specversion":"1.0","id":"2","source":"/other","type":"order.paid","datacontenttype":"text/plain","data":"x"},{"specversion":"1.0"}]`
	var got protocol.BatchResult
	s.do(http.MethodPost, at, two, "Content-Type", "application/cloudevents-batch+json").want(207).into(&got)
	if len(got.Results) != 3 || !got.Results[0].Duplicate || got.Results[1].Duplicate || got.Results[1].Offset != 3 || got.Results[2].Error == nil {
		t.Errorf("got %+v, want a duplicate, the same id of another source stored, and an error", got.Results)
	}
	var events []map[string]any
	s.get(at, "Accept", "application/cloudevents-batch+json").want(200).wantHeader("Content-Type", "application/cloudevents-batch+json").into(&events)
	if len(events) != 3 {
		t.Fatalf("got %v, want three events", events)
	}
	for i, want := range []map[string]any{
		{"id": "1", "source": "/shop", "type": "order.made", "traceinfo": "a b", "pushdtopic": "orders", "datacontenttype": "application/json"},
		{"id": "2", "level": 3.0, "pushdoffset": "2"},
		{"source": "/other", "data": "x"},
	} {
		for name, value := range want {
			if events[i][name] != value {
				t.Errorf("event %d: %s: got %v, want %v", i, name, events[i][name], value)
			}
		}
	}
	wantTexts(t, s.get(at+"?after="+events[1]["pushdcursor"].(string)).page().Events, "x")
}

func TestCloudEventsNameTheirTopicThemselves(t *testing.T) {
	s := newSite(t)
	batch := `[{"specversion":"1.0","id":"1","source":"s","type":"t","subject":"a"},{"specversion":"1.0","id":"1","source":"s","type":"t","subject":"s1","topic":"b"},{"specversion":"1.0","id":"1","source":"s","type":"t"}]`
	var got protocol.BatchResult
	s.do(http.MethodPost, "/v1/events", batch, "Content-Type", "application/cloudevents-batch+json").want(207).into(&got)
	if len(got.Results) != 3 || got.Results[0].Topic != "a" || got.Results[1].Topic != "b" || got.Results[2].Error.Code != protocol.BadTopic {
		t.Errorf("got %+v, want topics a and b, and bad_topic", got.Results)
	}
}

func TestAGapIsACloudEvent(t *testing.T) {
	s := newSite(t)
	first := s.publishText("few.a", "1")
	s.publishText("few.a", "2", "3", "4", "5")
	var events []struct {
		Type string          `json:"type"`
		Data json.RawMessage `json:"data"`
	}
	s.get("/v1/events?topic=few.a&after="+first.Cursor, "Accept", "application/cloudevents-batch+json").want(200).into(&events)
	var gap protocol.Gap
	if len(events) != 3 || events[0].Type != "pushd.gap" || json.Unmarshal(events[0].Data, &gap) != nil || gap.From != 2 || gap.To != 3 {
		t.Errorf("got %+v, want the gap 2 to 3 first", events)
	}
}
