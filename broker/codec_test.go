package broker

import (
	"bytes"
	"context"
	"reflect"
	"testing"

	"github.com/pushd/pushd/protocol"
)

var sampleEvent = protocol.Event{
	Topic: "orders.eu", Offset: 7, Epoch: 3, ID: "x", Time: 1_700_000_000_000_000_000, Type: "t", ContentType: "text/plain",
	Headers: []protocol.Header{{Name: "a", Value: "b"}}, Data: []byte("payload"),
}

func TestBinaryFormsComeBackAsTheyWere(t *testing.T) {
	nine := uint64(9)
	entry := appendPublishHead(nil, 5, 2)
	want := []proposal{{event: sampleEvent, named: true}, {event: sampleEvent, ifMatch: &nine, producer: &protocol.Producer{ID: "p", Epoch: 1, Seq: 2}}}
	for i := range want {
		entry = appendProposal(entry, &want[i])
	}
	c, err := decodeCommand(entry, nil)
	if err != nil || c.kind != commandPublish || c.time != 5 || !reflect.DeepEqual(c.proposals, want) {
		t.Errorf("command: got %+v, %v", c, err)
	}
	r, n, err := decodeRecord(appendRecord(nil, 42, &sampleEvent))
	if err != nil || n == 0 || r.Position != 42 || !reflect.DeepEqual(r.Event, sampleEvent) {
		t.Errorf("record: got %+v, %v", r, err)
	}
	q := question{partition: 3, selectors: []string{"a", "b.*"}, start: 1, n: 2, position: 3, upTo: 4, limit: 5, floor: 8, seen: []uint64{6, 9}, began: 8, since: 10, last: 9}
	if got, err := decodeQuestion(q.append(nil)); err != nil || !reflect.DeepEqual(got, q) {
		t.Errorf("question: got %+v, %v, want %+v", got, err, q)
	}
	results := []stored{{offset: 1, epoch: 2, position: 3, time: 4}, {offset: 5, duplicate: true}, {err: protocol.OffsetMismatch.Errorf("no").Expecting(3)}}
	got, err := decodeStored(appendStored(nil, results), 3)
	if err != nil || got[0] != results[0] || got[1] != results[1] || !reflect.DeepEqual(got[2].err, results[2].err) {
		t.Errorf("results: got %+v, %v", got, err)
	}
	f := remoteFound{
		found:    found{[]*Record{r}, []lostRange{{"a", 1, 2, 3, protocol.GapDeleted, 4, 5, 6, 7, true}}, 42, true},
		position: 5, seen: []uint64{6}, skip: map[string]uint64{"a": 7}, began: 8, ended: true,
	}
	back, err := decodeRemoteFound(appendRemoteFound(nil, f))
	if err != nil || back.upTo != 42 || !back.end || back.position != 5 || len(back.records) != 1 {
		t.Errorf("answer: got %+v, %v", back, err)
	}
	back.records, f.records = nil, nil
	if !reflect.DeepEqual(back, f) {
		t.Errorf("answer: got %+v, want %+v", back, f)
	}
}

func FuzzDecode(f *testing.F) {
	p := proposal{event: sampleEvent, named: true}
	f.Add(appendProposal(appendPublishHead(nil, 1, 1), &p))
	f.Add(encodeDelete(1, "a"))
	f.Add(EncodeLostQuorum(1))
	f.Add(encodeConsumers(1, []consumerOp{{consumerPut, "c", 1, AppendConsumerState(nil, &exampleState)}}))
	f.Add(appendRecord(nil, 1, &sampleEvent))
	f.Add(question{selectors: []string{"a"}}.append(nil))
	f.Add(appendStored(nil, []stored{{offset: 1}}))
	f.Add(appendRemoteFound(nil, remoteFound{}))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = decodeCommand(b, nil)
		read, skipped := protocol.NewBinaryReader(b), protocol.NewBinaryReader(b)
		readProposal(read)
		skipProposal(skipped)
		if (read.Err() == nil) != (skipped.Err() == nil) || len(read.Rest()) != len(skipped.Rest()) {
			t.Errorf("proposal %x is read and skipped differently: %v and %v", b, read.Err(), skipped.Err())
		}
		if r, n, err := decodeRecord(b); err == nil && !bytes.Equal(appendRecord(nil, r.Position, &r.Event), b[:n]) {
			t.Errorf("record %x is read as %+v, which is written otherwise", b[:n], r.Event)
		}
		_, _ = decodeQuestion(b)
		_, _ = decodeStored(b, 1)
		_, _ = decodeRemoteFound(b)
		_, _ = newPartition(0, "", 0, nil).decodeState(b)
	})
}

func TestAnEventAtTheTailCostsOneAllocationPerReader(t *testing.T) {
	f := newFixture(t, 1)
	for range 1000 {
		f.publish("a", "x")
	}
	n := testing.AllocsPerRun(20, func() {
		s := f.subscribe("earliest", "a")
		if b, err := s.Pull(1000); err != nil || len(b.Items) != 1000 {
			t.Fatalf("got %d items, %v", len(b.Items), err)
		}
		s.Close()
	})
	if n > 1200 {
		t.Errorf("1000 events pulled: got %v allocations, want about one each, the cursor", n)
	}
	s := f.subscribe("latest", "a")
	if n := testing.AllocsPerRun(20, func() { _, _ = s.Pull(100) }); n > 10 {
		t.Errorf("Pull with nothing new: got %v allocations, want at most 10", n)
	}
}

func TestAnEventCostsNoAllocationToApply(t *testing.T) {
	f := newFixture(t, 1)
	p := f.logs[0].partition
	entry := appendPublishHead(nil, 1, 256)
	for range 256 {
		entry = appendProposal(entry, &proposal{event: protocol.Event{Topic: "orders.eu.4711", ID: "0193a5c0-7b1e-7cc3-98c4-dc0c0c07398f", Data: make([]byte, 256)}})
	}
	index := uint64(0)
	if n := testing.AllocsPerRun(50, func() { index++; p.Apply(index, entry) }); n > 16 {
		t.Errorf("an entry of 256 events applied: got %v allocations, want a few for the entry and none for its events", n)
	}
}

func BenchmarkApply(b *testing.B) {
	f := newFixture(b, 1)
	p := f.logs[0].partition
	entry := appendPublishHead(nil, 1, 256)
	for range 256 {
		entry = appendProposal(entry, &proposal{event: protocol.Event{Topic: "orders.eu.4711", ID: "0193a5c0-7b1e-7cc3-98c4-dc0c0c07398f", Data: make([]byte, 256)}})
	}
	b.ReportAllocs()
	for index := uint64(1); b.Loop(); index++ {
		p.Apply(index, entry)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/256, "ns/event")
}

func BenchmarkPull(b *testing.B) {
	f := newFixture(b, 1)
	for range 1000 {
		f.publish("a", "payload")
	}
	b.ReportAllocs()
	for b.Loop() {
		s := f.subscribe("earliest", "a")
		if batch, err := s.Pull(1000); err != nil || len(batch.Items) != 1000 {
			b.Fatalf("got %d items, %v", len(batch.Items), err)
		}
		s.Close()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/event")
}

func TestWhoStopsWaitingForAPositionLeavesNothingBehind(t *testing.T) {
	p := newFixture(t, 1).logs[0].partition
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for range 10 {
		p.reach(ctx, 1)
	}
	if len(p.awaited) != 0 {
		t.Errorf("got %d that still wait, want none", len(p.awaited))
	}
}
