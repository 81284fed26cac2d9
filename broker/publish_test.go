package broker

import (
	"context"
	"fmt"
	"testing"

	"github.com/pushd/pushd/protocol"
)

func TestSubmitAnswersEachPublishOnceAndInItsTopicsOrder(t *testing.T) {
	f := newFixture(t, 4)
	const n = 500
	list := make([]protocol.Publish, n)
	for i := range list {
		list[i].Event = protocol.Event{Topic: fmt.Sprint("t", i%7), Data: []byte("x")}
	}
	list[11].Event.Topic = "not a topic"
	landings := make(chan []Landed, n)
	f.Submit(t.Context(), list, func(landed []Landed) { landings <- append([]Landed(nil), landed...) })
	results := map[int]Result{}
	for len(results) < n {
		for _, l := range <-landings {
			if _, twice := results[l.Index]; twice {
				t.Fatalf("publish %d was answered twice", l.Index)
			}
			results[l.Index] = l.Result
		}
	}
	offsets := map[string]uint64{}
	for i := range list {
		topic, r := list[i].Event.Topic, results[i]
		if i == 11 {
			if protocol.CodeOf(r.Err) != protocol.BadTopic {
				t.Errorf("publish 11: got %v, want %s", r.Err, protocol.BadTopic)
			}
			continue
		}
		if offsets[topic]++; r.Err != nil || r.Topic != topic || r.Offset != offsets[topic] {
			t.Errorf("publish %d: got %+v, want offset %d of %s", i, r, offsets[topic], topic)
		}
	}
}

func TestABatchWhoseCallerLeavesHasAnAnswerForEachEvent(t *testing.T) {
	f := newFixture(t, 1)
	f.logs[0].mu.Lock() // hangs
	defer f.logs[0].mu.Unlock()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for i, r := range f.PublishBatch(ctx, make([]protocol.Publish, 2)) {
		if protocol.CodeOf(r.Err) != protocol.BadTopic {
			t.Errorf("event %d without a topic: got %v", i, r.Err)
		}
	}
	list := []protocol.Publish{{Event: protocol.Event{Topic: "a"}}, {Event: protocol.Event{Topic: "b"}}}
	for i, r := range f.PublishBatch(ctx, list) {
		if protocol.CodeOf(r.Err) != protocol.OutcomeUnknown {
			t.Errorf("event %d: got %v, want %s", i, r.Err, protocol.OutcomeUnknown)
		}
	}
}
