package protocol

import "testing"

func TestSSEBlocksMatchTheGoldenVectors(t *testing.T) {
	e := eventSamples["json"]
	for name, got := range map[string][]byte{
		"raw":       AppendSSE(nil, "C", "order.created", []byte("one\n\n two\n")),
		"bare":      AppendSSE(nil, "", "", nil),
		"envelope":  AppendSSEEnvelope(nil, e.Type, AppendEnvelope(nil, &e), "C"),
		"ephemeral": AppendSSEEnvelope(nil, "", AppendEnvelope(nil, &e), ""),
		"first":     AppendSSEPosition(AppendSSEComment(AppendSSERetry(nil, 2000), "pushd"), "C"),
		"gap":       AppendSSE(nil, "C", SSEGap, AppendGap(nil, &Gap{Topic: "a", Epoch: 1, From: 1, To: 2, Reason: GapDeleted})),
	} {
		wantGolden(t, "sse_"+name+".txt", got)
	}
}

func TestOnlyWhatALineCanCarryGoesRaw(t *testing.T) {
	for _, c := range []struct {
		e    Event
		want bool
	}{
		{Event{Data: []byte("a\nb")}, true},
		{Event{}, true},
		{Event{Data: []byte("a\rb")}, false},
		{Event{Data: []byte("a\r\nb")}, false},
		{Event{Data: []byte{0xff}}, false},
		{Event{ContentType: "image/png", Data: []byte("a")}, false},
		{Event{ContentType: "application/json", Data: []byte(`{"a":1}`)}, true},
	} {
		if got := SSERaw(c.e.Kind(), c.e.Data); got != c.want {
			t.Errorf("SSERaw(%q, %q): got %v, want %v", c.e.Data, c.e.ContentType, got, c.want)
		}
	}
}
