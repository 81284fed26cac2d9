package broker

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/pushd/pushd/protocol"
)

// send publishes as a producer.
func (f *fixture) send(topic, id string, epoch, seq uint64) (protocol.Published, error) {
	return f.try(protocol.Publish{Event: protocol.Event{Topic: topic, Data: []byte("x")}, Producer: &protocol.Producer{ID: id, Epoch: epoch, Seq: seq}})
}

func TestAProducersEventsAreStoredOnceAndInOrder(t *testing.T) {
	f := newFixture(t, 1)
	steps := []struct {
		epoch, seq uint64
		code       protocol.Code
		offset     uint64
		duplicate  bool
	}{
		{0, 1, protocol.SequenceMismatch, 0, false}, // begins at 0
		{0, 0, "", 1, false},
		{0, 0, "", 1, true},
		{0, 1, "", 2, false},
		{0, 3, protocol.SequenceMismatch, 0, false}, // 2 is missing
		{0, 0, "", 1, true},
		{1, 5, protocol.SequenceMismatch, 0, false}, // a new epoch begins at 0
		{1, 0, "", 3, false},
		{0, 2, protocol.ProducerFenced, 0, false}, // replaced
		{1, 1, "", 4, false},
	}
	for i, step := range steps {
		if i == 6 { // all of it is in the snapshot
			p := f.logs[0].partition
			snap, err := p.Snapshot()
			var state bytes.Buffer
			if err == nil {
				err = snap.Persist(&state)
			}
			if err == nil {
				err = p.Restore(&state, "")
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		got, err := f.send("a", "p", step.epoch, step.seq)
		if protocol.CodeOf(err) != step.code || got.Offset != step.offset || got.Duplicate != step.duplicate {
			t.Errorf("epoch %d, sequence %d: got offset %d, duplicate %v, %v; want %+v", step.epoch, step.seq, got.Offset, got.Duplicate, err, step)
		}
	}
	if _, err := f.send("b", "p", 0, 0); err != nil {
		t.Errorf("another topic's numbers are its own: %v", err)
	}
}

func TestOnlyTheProducersThatPublishedLastAreRemembered(t *testing.T) {
	ps := newProducers()
	for i := range maxProducers + 5 {
		ps.record(producerKey("a", fmt.Sprint(i)), &protocol.Producer{ID: fmt.Sprint(i)}, stored{})
		ps.record(producerKey("a", "0"), &protocol.Producer{ID: "0", Seq: uint64(i)}, stored{}) // stays
	}
	if n := len(ps.byKey); n != maxProducers || ps.used.Len() != n {
		t.Errorf("%d are remembered, want %d", n, maxProducers)
	}
	if ps.find(producerKey("a", "0")) == nil || ps.find(producerKey("a", "1")) != nil {
		t.Errorf("the wrong one was forgotten")
	}
}
