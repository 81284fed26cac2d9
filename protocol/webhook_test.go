package protocol

import (
	"encoding/json"
	"testing"
)

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
