package protocol

import (
	"encoding/json"
	"reflect"
	"testing"
)

func TestCloudEventsComeBackAsTheyWere(t *testing.T) {
	for _, text := range []string{
		`{"specversion":"1.0","id":"1","source":"/shop","type":"order.made","time":"2026-01-02T03:04:05+01:00","subject":"o1","dataschema":"https://x/y","flag":true,"level":7,"text":"true","datacontenttype":"application/json","data":{"a":[1,2]}}`,
		`{"specversion":"1.0","id":"1","source":"/shop","type":"t","datacontenttype":"text/plain","data":"hello\nthere"}`,
		`{"specversion":"1.0","id":"1","source":"/shop","type":"t","datacontenttype":"application/octet-stream","data_base64":"/w=="}`,
	} {
		e, err := ParseCloudEvent([]byte(text))
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		e.Topic, e.Offset, e.Epoch = "orders", 3, 1
		var want, got map[string]any
		_ = json.Unmarshal([]byte(text), &want)
		out := AppendCloudEventAt(nil, &e, "C")
		if err := json.Unmarshal(out, &got); err != nil {
			t.Fatalf("%s: %v", out, err)
		}
		for name, value := range want {
			if !reflect.DeepEqual(got[name], value) {
				t.Errorf("%s: got %v, want %v", name, got[name], value)
			}
		}
		if got["pushdoffset"] != "3" || got["pushdtopic"] != "orders" || got["pushdcursor"] != "C" {
			t.Errorf("got %s, want our extensions", out)
		}
	}
}

func TestBadCloudEventsAreRefused(t *testing.T) {
	for text, want := range map[string]Code{
		`[]`: BadJSON,
		`{"specversion":"0.3","id":"1","source":"s","type":"t"}`:                             BadRequest,
		`{"specversion":"1.0","id":"","source":"s","type":"t"}`:                              BadRequest,
		`{"specversion":"1.0","id":"1","type":"t"}`:                                          BadRequest,
		`{"specversion":"1.0","id":"1","source":7,"type":"t"}`:                               BadRequest,
		`{"specversion":"1.0","id":"1","source":"s","type":"t","x":{}}`:                      BadRequest,
		`{"specversion":"1.0","id":"1","source":"s","type":"t","x-y":"z"}`:                   BadRequest,
		`{"specversion":"1.0","id":"1","source":"s","type":"t","data":1,"data_base64":"eA"}`: BadJSON,
	} {
		if _, err := ParseCloudEvent([]byte(text)); CodeOf(err) != want {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
}

func FuzzParseCloudEvent(f *testing.F) {
	f.Add([]byte(`{"specversion":"1.0","id":"1","source":"s","type":"t","flag":true,"data":{"a":1}}`))
	f.Add([]byte(`{"specversion":"1.0","id":"1","source":"s","type":"t","data_base64":"eA=="}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		e, err := ParseCloudEvent(text)
		if err != nil || e.Check(MaxEventBytes) != nil {
			return
		}
		if out := AppendCloudEvent(nil, &e); !json.Valid(out) {
			t.Errorf("%s became %s, which is no JSON", text, out)
		}
	})
}
