package protocol

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// commandLines are publishes as clients write them.
var commandLines = []string{
	`{"id":7,"publish":{"event_id":"o-41","topic":"orders.eu","content_type":"text/plain","data":"hello"}}`,
	`{"publish":{"topic":"a","data":{"n":[1,-2.5e+3,true,null,"\u00fc\n"]},"headers":{"b":"2","a":"1"},"type":"t"}}`,
	`{"id":18446744,"publish":{"topic":"a","data_base64":"AP8="}}`,
	` { "id" : 0 , "publish" : { "topic" : "a" , "ack" : "none" , "data" : "say \"hi\"\ngrüße \/" } } `,
	`{"id":1,"publish":{"topic":"a"}}`,
	`{"id":1,"publish":{"topic":"a","content_type":"application/json","data":"a string"}}`,
}

// slowPublish reads a line the way that ParsePublish saves.
func slowPublish(line []byte) (id *uint64, p Publish, ok bool) {
	var c Command
	if json.Unmarshal(line, &c) != nil || c.Publish == nil || c.Subscribe != nil || c.Unsubscribe != nil || c.History != nil || c.Presence != nil || c.Refresh != nil || c.Ping != nil {
		return nil, p, false
	}
	e, err := c.Publish.Event()
	p = Publish{Event: e}
	switch c.Publish.Ack {
	case "none":
		p.Ack = AckNone
	case "", "quorum":
	default:
		return nil, p, false
	}
	return c.ID, p, err == nil
}

func TestPublishesAreParsedWithoutEncodingJSON(t *testing.T) {
	for _, line := range commandLines {
		id, p, ok := ParsePublish([]byte(line))
		wantID, want, _ := slowPublish([]byte(line))
		if !ok || !reflect.DeepEqual(id, wantID) || !samePublish(&p, &want) {
			t.Errorf("%s: got %+v, %t, want %+v", line, p, ok, want)
		}
	}
}

// samePublish takes no data and empty data for the same, as the log does.
func samePublish(a, b *Publish) bool {
	x, y := *a, *b
	x.Event.Data, y.Event.Data = nil, nil
	if len(x.Event.Headers)+len(y.Event.Headers) == 0 {
		x.Event.Headers, y.Event.Headers = nil, nil
	}
	return string(a.Event.Data) == string(b.Event.Data) && reflect.DeepEqual(x, y)
}

func TestWhatIsUnusualIsLeftToEncodingJSON(t *testing.T) {
	for _, line := range []string{
		``, `{}`, `{"id":1}`, `{"id":1,"ping":{}}`, `{"id":1,"publish":{"topic":"a"}} x`, `{"id":1,"publish":{"topic":"a","topic":"b"}}`,
		`{"id":01,"publish":{"topic":"a"}}`, `{"id":-1,"publish":{"topic":"a"}}`, `{"ID":1,"publish":{"topic":"a"}}`, `{"id":1,"publish":{"topic":null}}`,
		`{"publish":{"topic":"a","data":"\ud83d\ude00"}}`, `{"publish":{"topic":"a","data":1,"data_base64":""}}`, `{"publish":{"topic":"a","other":1}}`,
		`{"publish":{"topic":"a","data":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}}`, `{"publish":{"topic":"a","ack":"all"}}`,
		`{"publish":{"topic":"a","data":"` + "\n" + `"}}`, `{"publish":{"topic":"a","data":"` + "\xff" + `"}}`, `{"publish":{"topic":"a","content_type":"text/plain","data":{}}}`,
	} {
		if _, p, ok := ParsePublish([]byte(line)); ok {
			t.Errorf("%s: got %+v, want it left", line, p)
		}
	}
}

func FuzzParsePublish(f *testing.F) {
	for _, line := range commandLines {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		id, p, ok := ParsePublish(line)
		if !ok {
			return
		}
		wantID, want, wantOK := slowPublish(line)
		if !wantOK || !reflect.DeepEqual(id, wantID) || !samePublish(&p, &want) {
			t.Errorf("%q: got %+v, want %+v, %t", line, p, want, wantOK)
		}
	})
}

func FuzzParsePublished(f *testing.F) {
	f.Add([]byte(`{"id":7,"published":{"topic":"a","offset":1,"epoch":1,"id":"o","time":"2026-01-02T03:04:05.5Z","cursor":"c","duplicate":false}}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		id, r, ok := ParsePublished(line)
		if !ok {
			return
		}
		var want Push
		if err := json.Unmarshal(line, &want); err != nil || want.ID == nil || *want.ID != id || want.Published == nil || !reflect.DeepEqual(*want.Published, r) {
			t.Errorf("%q: got %d %+v, want %+v, %v", line, id, r, want, err)
		}
	})
}

func FuzzValidJSON(f *testing.F) {
	for _, line := range commandLines {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s := scanner{rest: b}
		if s.skip(0); s.end() && !json.Valid(b) {
			t.Errorf("%q: got valid, want invalid", b)
		}
	})
}

func TestPublishedIsParsedWithoutEncodingJSON(t *testing.T) {
	id := uint64(7)
	line := AppendPublished(nil, &id, &Published{Topic: "a.b", Offset: 9, Epoch: 2, ID: "o-\"1", Time: 1_700_000_000_000_000_001, Cursor: "AQE7", Duplicate: true})
	got, r, ok := ParsePublished(line)
	var want Push
	if err := json.Unmarshal(line, &want); err != nil || !ok || got != id || !reflect.DeepEqual(r, *want.Published) {
		t.Errorf("%s: got %d %+v, %t, want %+v, %v", line, got, r, ok, want.Published, err)
	}
}

func publishLine() []byte {
	return []byte(`{"id":1234,"publish":{"event_id":"019aa000-0000-7000-8000-000000000000","topic":"orders.eu","content_type":"text/plain","data":"` + strings.Repeat("x", 256) + `"}}`)
}

func BenchmarkParsePublish(b *testing.B) {
	line := publishLine()
	b.ReportAllocs()
	for b.Loop() {
		if _, _, ok := ParsePublish(line); !ok {
			b.Fatal("not parsed")
		}
	}
}

func TestParsePublishAllocatesOnlyWhatItGives(t *testing.T) {
	line := publishLine()
	const want = 4 // id, event id, topic, data
	if got := testing.AllocsPerRun(100, func() { ParsePublish(line) }); got > want {
		t.Errorf("got %v allocations, want at most %d", got, want)
	}
}

func BenchmarkParsePublished(b *testing.B) {
	id := uint64(1234)
	line := AppendPublished(nil, &id, &Published{Topic: "orders.eu", Offset: 9, Epoch: 2, ID: "019aa000-0000-7000-8000-000000000000", Time: 1_700_000_000_000_000_001, Cursor: "AQE7AQE7AQE7AQE7AQE7AQE7"})
	b.ReportAllocs()
	for b.Loop() {
		if _, _, ok := ParsePublished(line); !ok {
			b.Fatal("not parsed")
		}
	}
}
