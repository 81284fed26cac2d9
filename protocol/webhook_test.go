package protocol

import (
	"encoding/json"
	"testing"
)

func TestACloudEventIsAsTheSpecificationsJSONFormatHasIt(t *testing.T) {
	for _, c := range []struct {
		e    Event
		want string
	}{
		{
			Event{Topic: "orders.eu", Offset: 7, Epoch: 3, ID: "a\"b", Time: 1_700_000_000_000_000_001, Type: "made", ContentType: "application/json", Data: []byte(`{"n":1}`)},
			`{"specversion":"1.0","id":"a\"b","source":"pushd/orders.eu","type":"made","time":"2023-11-14T22:13:20.000000001Z","subject":"orders.eu","pushdoffset":"7","pushdepoch":"3","datacontenttype":"application/json","data":{"n":1}}`,
		},
		{
			Event{Topic: "a", Offset: 1, Epoch: 1, ID: "x", Data: []byte{0xff}},
			`{"specversion":"1.0","id":"x","source":"pushd/a","type":"pushd.event","time":"1970-01-01T00:00:00Z","subject":"a","pushdoffset":"1","pushdepoch":"1","data_base64":"/w=="}`,
		},
	} {
		got := AppendCloudEvent(nil, &c.e)
		if string(got) != c.want || !json.Valid(got) {
			t.Errorf("got %s\nwant %s", got, c.want)
		}
	}
}

func TestAPatchChangesWhatItNamesOnly(t *testing.T) {
	s := WebhookSpec{URL: "https://a.example/", Topics: []string{"a"}, Rate: 5, Description: "mine"}
	var p WebhookPatch
	if err := json.Unmarshal([]byte(`{"rate":0,"topics":["b"]}`), &p); err != nil {
		t.Fatal(err)
	}
	p.Apply(&s)
	if s.Rate != 0 || s.Topics[0] != "b" || s.URL != "https://a.example/" || s.Description != "mine" {
		t.Errorf("got %+v", s)
	}
}
