package protocol

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func pushSamples() map[string][]byte {
	one, two := uint64(1), uint64(2)
	e := eventSamples["json"]
	envelope := AppendEnvelope(nil, &e)
	gap := Gap{Topic: "a", Epoch: 1, From: 3, To: 9, Reason: GapExpired}
	published := Published{Topic: "a", Offset: 7, Epoch: 1, ID: "x", Time: 1_700_000_000_000_000_000, Cursor: "C"}
	return map[string][]byte{
		"event":        AppendEventPush(nil, nil, envelope, "C"),
		"event_sub":    AppendEventPush(nil, &two, envelope, "C"),
		"gap":          AppendGapPush(nil, nil, &gap),
		"gap_sub":      AppendGapPush(nil, &two, &gap),
		"drain":        AppendDrainPush(nil, Drain{AfterMS: 250}),
		"subscribed":   AppendSubscribed(nil, &one, &Subscribed{Cursor: "C", Recovering: true, Gaps: []Gap{gap}}),
		"published":    AppendPublished(nil, &one, &published),
		"unsubscribed": AppendReply(nil, &one, "unsubscribed", []byte("{}")),
		"pong_no_id":   AppendReply(nil, nil, "pong", []byte("{}")),
		"error":        AppendErrorReply(nil, &one, nil, NoLeader.Errorf("no \"leader\"")),
		"error_sub":    AppendErrorReply(nil, nil, &two, &Error{Code: EventsGone, Detail: "gone"}),
		"problem":      AppendProblem(nil, &Error{Code: Overloaded, Detail: "full", RetryAfter: 1500 * time.Millisecond}),
	}
}

func TestPushesMatchTheGoldenVectors(t *testing.T) {
	for name, got := range pushSamples() {
		wantGolden(t, "push_"+name+".json", append(got, '\n'))
	}
}

func TestPushesDecodeAsPushes(t *testing.T) {
	for name, line := range pushSamples() {
		var v any = &Push{}
		if name == "problem" {
			v = &Problem{}
		}
		d := json.NewDecoder(bytes.NewReader(line))
		d.DisallowUnknownFields()
		if err := d.Decode(v); err != nil {
			t.Errorf("%s: %s: %v", name, line, err)
		}
	}
}

func TestEventPushesAndSSEBlocksDoNotAllocate(t *testing.T) {
	e := eventSamples["json"]
	envelope := AppendEnvelope(nil, &e)
	buf := make([]byte, 0, 4096)
	n := testing.AllocsPerRun(100, func() {
		buf = AppendEventPush(buf[:0], nil, envelope, "CURSOR")
		buf = AppendSSE(buf, "CURSOR", e.Type, e.Data)
		buf = AppendSSEEnvelope(buf, e.Type, envelope, "CURSOR")
	})
	if n != 0 {
		t.Errorf("got %v allocations per event, want 0", n)
	}
}

func BenchmarkEventPush(b *testing.B) {
	e := Event{Topic: "chat.room", Offset: 41, Epoch: 1, ID: "0190c6a0-0000-7000-8000-000000000000", Data: bytes.Repeat([]byte("x"), 256)}
	envelope := AppendEnvelope(nil, &e)
	buf := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendEventPush(buf[:0], nil, envelope, "AQEBAgMEBQYHCAkKCwwNDg8Q")
	}
}

func wantGolden(t *testing.T, file string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", "vectors", file)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s: got %q, want %q (%v)", file, got, want, err)
	}
}
