package protocol

import (
	"bytes"
	"reflect"
	"testing"
)

func TestRecordsReadBack(t *testing.T) {
	number := uint64(300)
	events := []Event{
		{Topic: "a.b", Offset: 7, Epoch: 900, ID: "0190c6a0-1234-7abc-8def-0123456789ab", Time: 1 << 60, Type: "t", ContentType: "text/plain", Headers: []Header{{"k", "v"}}, Data: []byte("hello")},
		{Topic: "a", ID: "mine", Time: 1, Data: []byte{}},
		{Topic: "a", ID: "0190C6A0-1234-7abc-8def-0123456789ab", Time: -1, Data: bytes.Repeat([]byte{0xff}, 300)},
	}
	for _, e := range events {
		for _, sub := range []*uint64{nil, &number} {
			out := AppendEventRecord(nil, sub, &e, "AQEBAgMEBQYHCAkKCwwNDg8QERITFBUW")
			got, rest, err := ReadRecord(append(out, 9))
			if err != nil || len(rest) != 1 || got.Kind != RecordEvent || !reflect.DeepEqual(got.Event, e) || !reflect.DeepEqual(got.Number, sub) || got.Cursor != "AQEBAgMEBQYHCAkKCwwNDg8QERITFBUW" {
				t.Errorf("got %+v, %v (%v), want %+v", got, rest, err, e)
			}
		}
		p := Publish{Event: Event{Topic: e.Topic, ID: e.ID, Type: e.Type, ContentType: e.ContentType, Headers: e.Headers, Data: e.Data}, Ack: AckNone}
		got, _, err := ReadRecord(AppendPublishRecord(nil, &number, &p))
		if err != nil || got.Kind != RecordPublish || !reflect.DeepEqual(got.Event, p.Event) || *got.Number != number || got.Ack != AckNone {
			t.Errorf("got %+v (%v), want %+v", got, err, p)
		}
	}
	got, _, err := ReadRecord(AppendJSONRecord(nil, []byte("{}")))
	if err != nil || got.Kind != RecordJSON || string(got.JSON) != "{}" {
		t.Errorf("got %+v (%v), want the JSON", got, err)
	}
}

func TestARecordHasAThirdOfTheJSONsOverhead(t *testing.T) {
	e := Event{Topic: "chat.room.7", Offset: 41, Epoch: 7, ID: "0190c6a0-1234-7abc-8def-0123456789ab", Time: 1767323045123456789, ContentType: "text/plain", Data: bytes.Repeat([]byte("x"), 128)}
	cursor := "AQEBAgMEBQYHCAkKCwwNDg8QERITFBUW"
	text := AppendEventPush(nil, nil, AppendEnvelope(nil, &e), cursor)
	record := AppendEventRecord(nil, nil, &e, cursor)
	if a, b := len(record)-len(e.Data), len(text)-len(e.Data); 3*a > b {
		t.Errorf("got an overhead of %d bytes, want at most a third of the JSON's %d", a, b)
	}
}

func FuzzReadRecord(f *testing.F) {
	f.Add(AppendJSONRecord(nil, []byte("{}")))
	f.Add(AppendEventRecord(nil, nil, &Event{Topic: "a", ID: "0190c6a0-1234-7abc-8def-0123456789ab", Headers: []Header{{"k", "v"}}}, "AQEB"))
	f.Add(AppendPublishRecord(nil, new(uint64), &Publish{Event: Event{Topic: "a", Type: "t"}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, rest, err := ReadRecord(b)
		if err != nil {
			return
		}
		if len(rest) >= len(b) {
			t.Fatalf("took nothing of %x", b)
		}
		if r.Kind == RecordPublish {
			p := Publish{Event: r.Event, Ack: r.Ack}
			again, _, err := ReadRecord(AppendPublishRecord(nil, r.Number, &p))
			if err != nil || again.Event.Topic != r.Event.Topic || !bytes.Equal(again.Event.Data, r.Event.Data) {
				t.Errorf("%x: got %+v, then %+v (%v)", b, r, again, err)
			}
		}
	})
}
