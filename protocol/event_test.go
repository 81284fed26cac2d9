package protocol

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden vectors anew")

// The vectors are read by the Go and the JavaScript tests alike.
var eventSamples = map[string]Event{
	"text":      {Topic: "chat.a", Offset: 1, Epoch: 1, ID: "1", Time: 1_700_000_000_000_000_001, ContentType: "text/plain", Data: []byte("grüße \"du\"\n\x00\u2028")},
	"json":      {Topic: "orders.eu", Offset: 41, Epoch: 7, ID: "o-41", Time: 1_700_000_000_000_000_000, Type: "order.created", ContentType: "application/json", Data: []byte("{\n \"a\": [1, 2.50]\n}")},
	"binary":    {Topic: "img", Offset: 2, Epoch: 1, ID: "b", Time: 0, ContentType: "image/png", Data: []byte{0x89, 'P', 'N', 'G', 0xff}},
	"headers":   {Topic: "h", Offset: 3, Epoch: 1, ID: "c", Headers: []Header{{"a", "1"}, {"traceparent", "00-x"}}, Data: []byte("")},
	"ephemeral": {Topic: "typing", ID: "e", Data: []byte("…")},
}

func TestEnvelopesMatchTheGoldenVectors(t *testing.T) {
	for name, e := range eventSamples {
		got := string(AppendCursorField(AppendEnvelope(nil, &e), "CURSOR")) + "\n"
		path := filepath.Join("testdata", "vectors", "envelope_"+name+".json")
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil || got != string(want) {
			t.Errorf("%s: got %s, want %s (%v)", name, got, want, err)
		}
	}
}

func TestAnEnvelopeIsOneLineAndComesBackAsTheEvent(t *testing.T) {
	for name, e := range eventSamples {
		line := AppendCursorField(AppendEnvelope(nil, &e), "")
		if strings.ContainsAny(string(line), "\r\n") {
			t.Errorf("%s: the envelope %s has a line break", name, line)
		}
		var v Envelope
		if err := json.Unmarshal(line, &v); err != nil {
			t.Fatalf("%s: %s: %v", name, line, err)
		}
		got, err := v.Event()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want := e
		if want.ContentType == "" {
			want.ContentType = "text/plain"
		}
		if e.Kind() == KindJSON {
			want.Data = []byte(`{"a":[1,2.50]}`)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
	}
}

func TestWhatNoEventMayCarryIsRefused(t *testing.T) {
	long := strings.Repeat("x", 256)
	for name, c := range map[string]struct {
		e    Event
		want Code
	}{
		"no topic":         {Event{}, BadTopic},
		"system topic":     {Event{Topic: "$sys"}, Forbidden},
		"too big":          {Event{Topic: "a", Data: make([]byte, 11)}, PayloadTooLarge},
		"long id":          {Event{Topic: "a", ID: long}, BadEventID},
		"line break in id": {Event{Topic: "a", ID: "a\nb"}, BadEventID},
		"id not UTF-8":     {Event{Topic: "a", ID: "\xff"}, BadEventID},
		"reserved type":    {Event{Topic: "a", Type: "pushd.gap"}, BadEventType},
		"long type":        {Event{Topic: "a", Type: long}, BadEventType},
		"content type":     {Event{Topic: "a", ContentType: long}, BadContentType},
		"not JSON":         {Event{Topic: "a", ContentType: "application/json", Data: []byte("{")}, BadJSON},
		"header value":     {Event{Topic: "a", Headers: []Header{{"a", "b\nc"}}}, BadHeader},
		"headers":          {Event{Topic: "a", Headers: make([]Header, MaxHeaders+1)}, BadHeader},
	} {
		if err := c.e.Check(10); CodeOf(err) != c.want {
			t.Errorf("%s: got %v, want code %s", name, err, c.want)
		}
	}
	ok := Event{Topic: "a", ID: "id with spaces ü", Type: "x.y", ContentType: "application/vnd.x+json; charset=utf-8", Data: []byte("[]")}
	if err := ok.Check(10); err != nil {
		t.Errorf("a good event: got %v, want nil", err)
	}
}

func TestPayloadsAreShownByContentTypeAndBytes(t *testing.T) {
	for _, c := range []struct {
		contentType, data string
		want              Kind
	}{
		{"", "a", KindText},
		{"", "\xff", KindBinary},
		{"text/html", "\xff", KindBinary},
		{"application/json", "1", KindJSON},
		{"application/json", "{", KindText},
		{"application/octet-stream", "a", KindBinary},
		{"image/png", "a", KindBinary},
		{"application/x-www-form-urlencoded", "hi", KindText},
		{"application/ld+json;x=y", "{}", KindJSON},
	} {
		e := Event{ContentType: c.contentType, Data: []byte(c.data)}
		if got := e.Kind(); got != c.want {
			t.Errorf("%q as %q: got kind %d, want %d", c.data, c.contentType, got, c.want)
		}
	}
}

func TestDataOfAnEnvelopeFollowsItsContentType(t *testing.T) {
	for _, c := range []struct {
		in, data, contentType string
		want                  Code
	}{
		{`{"topic":"a","data":"x"}`, "x", "text/plain", ""},
		{`{"topic":"a","data":{"b": 1}}`, `{"b": 1}`, "application/json", ""},
		{`{"topic":"a","data":"x","content_type":"application/json"}`, `"x"`, "application/json", ""},
		{`{"topic":"a","data":null}`, `null`, "application/json", ""},
		{`{"topic":"a","data_base64":"AP8="}`, "\x00\xff", "", ""},
		{`{"topic":"a"}`, "", "", ""},
		{`{"topic":"a","data":1,"content_type":"text/plain"}`, "", "", BadJSON},
		{`{"topic":"a","data":1,"data_base64":""}`, "", "", BadJSON},
	} {
		var v Envelope
		if err := json.Unmarshal([]byte(c.in), &v); err != nil {
			t.Fatalf("%s: %v", c.in, err)
		}
		e, err := v.Event()
		if CodeOf(err) != c.want || (err == nil && (string(e.Data) != c.data || e.ContentType != c.contentType)) {
			t.Errorf("%s: got %q as %q, %v; want %q as %q, code %q", c.in, e.Data, e.ContentType, err, c.data, c.contentType, c.want)
		}
	}
}

func FuzzEnvelope(f *testing.F) {
	for _, e := range eventSamples {
		f.Add(AppendCursorField(AppendEnvelope(nil, &e), "c"))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var v Envelope
		if json.Unmarshal(b, &v) != nil {
			return
		}
		e, err := v.Event()
		if err != nil || e.Check(1<<20) != nil {
			return
		}
		line := AppendCursorField(AppendEnvelope(nil, &e), "")
		if !json.Valid(line) || strings.ContainsAny(string(line), "\r\n") {
			t.Errorf("%q became the envelope %q, want one line of valid JSON", b, line)
		}
	})
}

func FuzzAppendString(f *testing.F) {
	f.Add("a\"\\\n\x7f\xff\u2028")
	f.Fuzz(func(t *testing.T, s string) {
		var got string
		b := AppendString(nil, s)
		if err := json.Unmarshal(b, &got); err != nil || got != strings.ToValidUTF8(s, "\uFFFD") && len(got) == 0 {
			t.Errorf("AppendString(%q) = %s: %q, %v", s, b, got, err)
		}
	})
}

func BenchmarkAppendEnvelope(b *testing.B) {
	e := eventSamples["json"]
	e.Data = []byte(`{"a":[1,2.5],"text":"` + strings.Repeat("x", 200) + `"}`)
	b.ReportAllocs()
	buf := make([]byte, 0, 1024)
	for b.Loop() {
		buf = AppendEnvelope(buf[:0], &e)
	}
}
