package edge

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/pushd/pushd/protocol"
)

func TestAPublishIsAnsweredWithItsPlace(t *testing.T) {
	s := newSite(t)
	a := s.do(http.MethodPost, "/v1/topics/a.b/events", `{"x":1}`, "Content-Type", "application/json", "Pushd-Event-Id", "e1").want(201)
	var p protocol.PublishResult
	a.into(&p)
	if p.Topic != "a.b" || p.Offset != 1 || p.Epoch == 0 || p.ID != "e1" || p.Cursor == "" || p.Time.IsZero() || !strings.Contains(a.Body, `"duplicate":false`) {
		t.Errorf("got %s, want the event's place", a.Body)
	}
}

func TestTheSameIdAgainGivesTheOriginal(t *testing.T) {
	s := newSite(t)
	var first, again protocol.PublishResult
	s.do(http.MethodPost, "/v1/topics/a/events", "1", "Pushd-Event-Id", "e1").want(201).into(&first)
	s.publishText("a", "2")
	s.do(http.MethodPost, "/v1/topics/a/events", "1", "Idempotency-Key", `"e1"`, "If-Match", "77").want(200).into(&again)
	if !again.Duplicate || again.Offset != first.Offset || again.ID != "e1" || !again.Time.Equal(first.Time) {
		t.Errorf("got %+v, want %+v as a duplicate", again, first)
	}
}

func TestIfMatchComparesTheLastOffset(t *testing.T) {
	s := newSite(t)
	at := "/v1/topics/a/events"
	s.do(http.MethodPost, at, "1", "If-Match", `"0"`).want(201)
	s.do(http.MethodPost, at, "x", "If-Match", `"0"`).wantProblem(protocol.OffsetMismatch)
	s.do(http.MethodPost, at, "2", "If-Match", "1").want(201)
	for _, bad := range []string{"x", "*", `W/"1"`, "-1", "+1", `""`, `"1","2"`} {
		s.do(http.MethodPost, at, "x", "If-Match", bad).wantProblem(protocol.BadRequest)
	}
	s.do(http.MethodPost, at, "x", "If-Match", "2", "Pushd-Ack", "none").wantProblem(protocol.BadRequest)
}

func TestHeadersTypeAndTraceAreKeptWithTheEvent(t *testing.T) {
	s := newSite(t)
	s.do(http.MethodPost, "/v1/topics/a/events", "x", "Content-Type", "text/plain", "Pushd-Event-Type", "t.x",
		"Pushd-Header-Shop-ID", "7", "Traceparent", "00-1-2-01").want(201)
	e := s.get("/v1/events?topic=a").page().Events[0]
	if e.Type != "t.x" || e.ContentType != "text/plain" || e.Headers["shop-id"] != "7" || e.Headers["traceparent"] != "00-1-2-01" {
		t.Errorf("got %+v, want type, content type and both headers", e)
	}
}

func TestBadPublishesAreRefused(t *testing.T) {
	s := newSite(t)
	long := strings.Repeat("x", 256)
	for _, c := range []struct {
		topic, body string
		want        protocol.Code
		headers     []string
	}{
		{"a.*", "x", protocol.BadTopic, nil},
		{"$sys", "x", protocol.Forbidden, nil},
		{"a", "x", protocol.BadEventID, []string{"Pushd-Event-Id", long}},
		{"a", "x", protocol.BadEventID, []string{"Pushd-Event-Id", "1", "Idempotency-Key", "2"}},
		{"a", "x", protocol.BadEventID, []string{"Pushd-Event-Id", ""}},
		{"a", "x", protocol.BadEventType, []string{"Pushd-Event-Type", "pushd.gap"}},
		{"a", "x", protocol.BadRequest, []string{"Pushd-Ack", "maybe"}},
		{"a", "{", protocol.BadJSON, []string{"Content-Type", "application/json"}},
		{"a", "{}", protocol.BadMediaType, []string{"Content-Type", "application/cloudevents+avro"}},
		{"a", "{}", protocol.BadRequest, []string{"Content-Type", "application/cloudevents+json"}},
		{"a", "{}", protocol.BadRequest, []string{"Ce-Specversion", "1.0", "Ce-Id", "1"}},
		{"a", "x", protocol.BadMediaType, []string{"Content-Encoding", "gzip"}},
		{"a", strings.Repeat("x", 64<<10+1), protocol.PayloadTooLarge, nil},
	} {
		s.do(http.MethodPost, "/v1/topics/"+c.topic+"/events", c.body, c.headers...).wantProblem(c.want)
	}
	s.do(http.MethodPost, "/v1/topics/a/events", strings.Repeat("x", 64<<10)).want(201)
}

func TestABatchAnswersEachEventInOrder(t *testing.T) {
	s := newSite(t)
	lines := `{"topic":"a","data":"1","id":"x"}` + "\n\n" + `{"topic":"b","data":{"n":2}}` + "\n" + `{"topic":"a","data_base64":"/w=="}`
	var got protocol.BatchResult
	s.do(http.MethodPost, "/v1/events", lines, "Content-Type", "application/x-ndjson").want(200).into(&got)
	if len(got.Results) != 3 || got.Results[0].ID != "x" || got.Results[1].Topic != "b" || got.Results[2].Offset != 2 {
		t.Errorf("ndjson: got %+v, want three results in order", got)
	}
	array := `[{"topic":"a","data":"3"},{"topic":"a..","data":"x"},7,{"topic":"a","data":"4"}]`
	got = protocol.BatchResult{}
	s.do(http.MethodPost, "/v1/events", array, "Content-Type", "application/json").want(207).into(&got)
	if len(got.Results) != 4 || got.Results[1].Error == nil || got.Results[1].Error.Code != protocol.BadTopic ||
		got.Results[2].Error == nil || got.Results[2].Error.Message == "" || got.Results[3].Offset != 4 {
		t.Errorf("array: got %+v, want errors in the middle", got)
	}
	s.do(http.MethodPost, "/v1/events", "[]").want(200)
	s.do(http.MethodPost, "/v1/events", "[1", "Content-Type", "application/json").wantProblem(protocol.BadJSON)
	s.do(http.MethodPost, "/v1/events", "x", "Content-Type", "text/plain").wantProblem(protocol.BadMediaType)
	s.do(http.MethodPost, "/v1/events", strings.Repeat("{}\n", 1001)).wantProblem(protocol.PayloadTooLarge)
}

func FuzzParseIfMatch(f *testing.F) {
	for _, s := range []string{`"1"`, "1", "", `"`, `""`, "+1", "18446744073709551616"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := parseIfMatch(s)
		if err != nil {
			return
		}
		if again, err := parseIfMatch(fmt.Sprintf("%q", fmt.Sprint(n))); err != nil || again != n {
			t.Errorf("parseIfMatch(%q): got %d, but it reads back as %d (%v)", s, n, again, err)
		}
	})
}

func FuzzParseWaitAndLimit(f *testing.F) {
	for _, s := range []string{"", "25s", "-1s", "1000", "0", "9999999h", "1h1m1s", "+5"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if d, err := parseWait(s); err == nil && (d < 0 || d > maxWait) {
			t.Errorf("parseWait(%q): got %v", s, d)
		}
		if n, err := parseLimit(s); err == nil && (n < 1 || n > protocol.MaxPageEvents) {
			t.Errorf("parseLimit(%q): got %d", s, n)
		}
	})
}

func FuzzPickFormat(f *testing.F) {
	for _, s := range []string{"", "*/*", "text/event-stream;q=0.1, application/json", "a;q=2", ";;,"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got, err := pickFormat([]string{s}); err == nil && got > formatSSE {
			t.Errorf("pickFormat(%q): got %d", s, got)
		}
	})
}

func FuzzSplitBatch(f *testing.F) {
	f.Add([]byte(`[{"topic":"a"}]`), "")
	f.Add([]byte("{}\n\n{"), "application/x-ndjson")
	f.Fuzz(func(t *testing.T, body []byte, media string) {
		items, err := splitBatch(body, media)
		if err == nil && len(items) > protocol.MaxBatchEvents {
			t.Errorf("got %d events", len(items))
		}
	})
}
