package broker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pushd/pushd/protocol"
)

func TestATopicNamedAndMatchedIsGivenOnce(t *testing.T) {
	f := newFixture(t, 1)
	f.publish("a", "a0")
	f.publish("b", "b0")
	f.publish("a", "a1")
	f.want(f.subscribe("-1", "a", "**"), "b0", "a1")
	f.want(f.subscribe("earliest", "a", "**"), "a0", "b0", "a1")
}

func TestAReaderOfAClosedReplicaLosesNothing(t *testing.T) {
	f := newFixture(t, 1)
	s := f.subscribe("earliest", "a")
	f.publish("a", "1")
	p := f.logs[0].partition
	p.close() // as ClosePartition does, while a Pull is under way
	b, err := s.Pull(10)
	if err == nil && len(b.Items) == 0 && s.unpark().lanes[0].position != 0 {
		t.Errorf("the reader moved to %d past an event it was not given", s.unpark().lanes[0].position)
	}
}

func TestALiveEventThatIsThereIsNotMissedByArm(t *testing.T) {
	f := newFixture(t, 1)
	s := f.subscribe("latest", "a")
	// the event comes after Arm's first look and before it is armed
	s.pushLive(&Record{Event: protocol.Event{Topic: "a"}})
	if s.Arm(func() {}) {
		t.Errorf("armed with a live event there")
	}
}

func TestAnIDRememberedAgainOutlivesItsFirstEntry(t *testing.T) {
	d := newDedupe()
	k := keyOf("a", "x")
	d.add(seenID{key: k, epoch: 1, time: 0})
	d.add(seenID{key: k, epoch: 2, time: int64(dedupeWindow)})
	for i := range dedupeMin {
		d.add(seenID{key: keyOf("b", fmt.Sprint(i)), time: int64(dedupeWindow) + 1})
	}
	if s, ok := d.find(k); !ok || s.epoch != 2 {
		t.Errorf("got %+v %v, want the second", s, ok)
	}
}

func TestBigEventsAreReadInBoundedPieces(t *testing.T) {
	f := newFixture(t, 1)
	for range 20 {
		f.publish("a", strings.Repeat("x", 1<<20))
	}
	p := f.logs[0].partition
	s := f.subscribe("earliest", "a")
	got, err := p.read(s.unpark().want(s.unpark().lanes[0], 1000, 0))
	n := 0
	for _, r := range got.records {
		n += len(r.Data)
	}
	if err != nil || n > 4<<20 {
		t.Errorf("one read took %d bytes, %v", n, err)
	}
}

func TestRetentionAfterASnapshotIsAGapAfterRestart(t *testing.T) {
	f := newFixture(t, 1)
	p := f.logs[0].partition
	for i := 1; i <= 3; i++ {
		f.publish("a", fmt.Sprint(i))
	}
	cursor := f.want(f.subscribe("earliest", "a"), "1", "2", "3")
	for i := 4; i <= 6; i++ {
		f.publish("a", fmt.Sprint(i))
	}
	_ = p.flush()
	first := p.segments[0]
	_ = first.flush()
	// a second segment, as if the first was full
	s2, err := createSegment(p.dir+"/"+segmentName(7), 7)
	if err != nil {
		t.Fatal(err)
	}
	p.segments = append(p.segments, s2)
	for i := 7; i <= 9; i++ {
		f.publish("a", fmt.Sprint(i))
	}
	snap, err := p.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	var state bytes.Buffer
	if err := snap.Persist(&state); err != nil {
		t.Fatal(err)
	}
	f.SetCatalog(&Catalog{ClusterID: testCluster, Partitions: [][]string{{"self"}}, Policies: []protocol.Policy{{Pattern: "a", MaxEvents: 2}}})
	p.trimAll(time.Now()) // removes the first segment
	f.SetCatalog(&Catalog{ClusterID: testCluster, Partitions: [][]string{{"self"}}})
	if err := p.Restore(&state, ""); err != nil {
		t.Fatal(err)
	}
	f.want(f.subscribe(cursor, "a"), "gap a 4-6 expired", "7", "8", "9")
	info, _ := f.Topic(context.Background(), "a")
	if info.FirstOffset != 7 {
		t.Errorf("first offset %d, want 7", info.FirstOffset)
	}
}

func TestReadersOfUnknownTopicsLeaveNothingBehind(t *testing.T) {
	f := newFixture(t, 1)
	for i := range 100 {
		s := f.subscribe("latest", fmt.Sprint("nobody", i))
		s.Arm(func() {})
		s.Close()
	}
	if n := f.logs[0].partition.topics.len(); n != 0 {
		t.Errorf("%d topics are remembered", n)
	}
	f.readers.wantEmpty(t)
}

func TestACursorOfManySelectorsLosesNothingWhileTheyCatchUp(t *testing.T) {
	f := newFixture(t, 1)
	var topics []string
	for i := range 40 {
		topics = append(topics, fmt.Sprint("t", i))
		f.publish(topics[i], topics[i]) // each begins elsewhere, so each has a lane
	}
	got := map[string]bool{}
	for cursor, page := "-1", 0; ; page++ {
		s := f.subscribe(cursor, topics...)
		b, err := s.Pull(3)
		if err != nil || page > 100 {
			t.Fatalf("page %d: %v", page, err)
		}
		for _, item := range b.Items {
			got[string(item.Event.Data)] = true
		}
		if cursor = b.Cursor; b.UpToDate {
			break
		}
	}
	if len(got) != len(topics) {
		t.Errorf("got events of %d topics, want %d", len(got), len(topics))
	}
}

func TestAReplicaBehindWhatWasAcknowledgedIsNotUpToDate(t *testing.T) {
	f := newFixture(t, 1)
	f.publish("a", "1")
	f.floors.raise(0, 5) // acknowledged by a leader elsewhere, not applied here yet
	b, err := f.subscribe("earliest", "a").Pull(10)
	if err != nil || len(b.Items) != 1 || b.UpToDate {
		t.Errorf("got %d items, up to date: %v, %v; want 1, not up to date", len(b.Items), b.UpToDate, err)
	}
}

func TestAReaderOfADamagedEventIsToldWhatToDo(t *testing.T) {
	f := newFixture(t, 1)
	for range 3 {
		f.publish("a", "payload")
	}
	p := f.logs[0].partition
	if _, err := p.Snapshot(); err != nil { // writes what is in memory
		t.Fatal(err)
	}
	p.tail.evict(0)
	if _, err := p.segments[0].file.WriteAt([]byte{0xff}, int64(u32(p.segments[0].at, 1))+recordHead+3); err != nil {
		t.Fatal(err)
	}
	_, err := f.subscribe("earliest", "a").Pull(10)
	e, ok := errors.AsType[*protocol.Error](err)
	if !ok || e.Code != protocol.Internal || strings.Contains(e.Detail, p.dir) || !strings.Contains(e.Detail, "another node") {
		t.Errorf("got %v, want a refusal that says to read at another node, and no path", err)
	}
}
