package broker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pushd/pushd/protocol"
)

// replicas are two brokers that apply the same entries and reach each other.
func replicas(t *testing.T, o Options) [2]*fixture {
	var pair [2]*fixture
	var wires [2]*wire
	for i := range pair {
		o.Self, o.Dir, wires[i] = fmt.Sprint("n", i), t.TempDir(), &wire{}
		o.Peers = wires[i]
		b, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		log := &memoryLog{partition: b.Partition(0)}
		b.OpenPartition(0, log)
		b.SetCatalog(&Catalog{ClusterID: testCluster, Partitions: [][]string{{"n0", "n1"}}})
		pair[i] = &fixture{Broker: b, t: t, logs: []*memoryLog{log}}
		t.Cleanup(func() { _ = b.Close() })
	}
	wires[0].to, wires[1].to = pair[1].Broker, pair[0].Broker
	return pair
}

// fill applies n events of some topics to a replica.
func (f *fixture) fill(n int) {
	f.t.Helper()
	for i := range n {
		entry := appendPublishHead(nil, time.Now().UnixNano(), 1)
		entry = appendProposal(entry, &proposal{event: protocol.Event{Topic: fmt.Sprint("t", i%5), ID: "x", Data: fmt.Append(nil, "payload ", i)}})
		if _, err := f.logs[0].Propose(context.Background(), entry); err != nil {
			f.t.Fatal(err)
		}
	}
}

// follow applies the first n entries of another's log.
func (f *fixture) follow(leader *fixture, n int) {
	f.t.Helper()
	for _, entry := range leader.logs[0].entries[:n] {
		if _, err := f.logs[0].Propose(context.Background(), entry); err != nil {
			f.t.Fatal(err)
		}
	}
}

// forget lets the partition forget a topic, as if it had long been empty.
func (f *fixture) forget(name string) {
	f.t.Helper()
	topic := f.logs[0].partition.topics.find(name)
	if _, err := f.logs[0].Propose(context.Background(), encodeForget(1, []forgettable{{name, topic.epoch, topic.newest}})); err != nil {
		f.t.Fatal(err)
	}
}

// forgetForGood forgets a topic, and then so many that nothing of it is remembered.
func (f *fixture) forgetForGood(name string) {
	f.t.Helper()
	f.forget(name)
	for i := range maxTombstones {
		other := fmt.Sprint("t", i)
		f.publish(other, "1")
		f.forget(other)
	}
}

// take reads n events, and no more.
func (f *fixture) take(n int, start string, topics ...string) (got []string) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	s := f.subscribe(start, topics...)
	defer s.Close()
	for len(got) < n {
		b, err := s.Next(ctx, 7)
		if err != nil {
			f.t.Fatalf("%d events of %v, then %v; want %d", len(got), topics, err, n)
		}
		for _, item := range b.Items {
			if item.Event != nil {
				got = append(got, string(item.Event.Data))
			}
		}
	}
	if b, err := s.Pull(7); err != nil || len(b.Items) > 0 {
		f.t.Fatalf("%d events of %v, then %d more, %v", n, topics, len(b.Items), err)
	}
	return got
}

// cutSegment ends the growing segment as if it was full, and writes it.
func (f *fixture) cutSegment() {
	f.t.Helper()
	p := f.logs[0].partition
	if err := p.segments[len(p.segments)-1].flush(); err != nil {
		f.t.Fatal(err)
	}
	s, err := createSegment(p.dir+"/"+segmentName(p.position+1), p.position+1)
	if err != nil {
		f.t.Fatal(err)
	}
	p.mu.Lock()
	p.segments = append(p.segments, s)
	p.mu.Unlock()
	p.tail.evict(0)
}

// flip turns one bit of a file round.
func flip(t *testing.T, path string, bit int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	if _, err = f.ReadAt(b[:], bit/8); err == nil {
		b[0] ^= 1 << (bit % 8)
		_, err = f.WriteAt(b[:], bit/8)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestADamagedEventIsFetchedFromAnotherReplica(t *testing.T) {
	pair := replicas(t, Options{ScrubRate: -1})
	pair[0].fill(50)
	pair[1].follow(pair[0], 50)
	pair[0].cutSegment()
	pair[1].cutSegment()
	p := pair[0].logs[0].partition
	path := p.segments[0].path
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	w := p.segments[0].span(20)
	for at := w.from; at < w.to; at++ { // each offset class of a record: length, checksum, position, event
		flip(t, path, at*8+at%8)
		got := pair[0].take(10, "earliest", "t0")
		if got[4] != "payload 20" {
			t.Fatalf("byte %d was damaged: got %q", at-w.from, got)
		}
		if now, _ := os.ReadFile(path); !bytes.Equal(now, good) {
			t.Fatalf("byte %d was damaged, and is not mended", at-w.from)
		}
	}
}

func TestWithoutAnotherReplicaADamagedEventIsRefused(t *testing.T) {
	pair := replicas(t, Options{ScrubRate: -1})
	pair[0].fill(50) // the other has nothing
	pair[0].cutSegment()
	p := pair[0].logs[0].partition
	flip(t, p.segments[0].path, (p.segments[0].span(20).from+12)*8)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	s := pair[0].subscribe("earliest", "t0")
	for {
		b, err := s.Next(ctx, 100)
		if err != nil {
			if protocol.CodeOf(err) != protocol.Internal {
				t.Errorf("got %v, want a refusal that says to read elsewhere", err)
			}
			return
		}
		if len(b.Items) > 4 {
			t.Fatalf("got %d events, one of them damaged", len(b.Items))
		}
	}
}

func TestScrubbingFindsDamageThatNobodyReads(t *testing.T) {
	pair := replicas(t, Options{ScrubRate: -1})
	pair[0].fill(50)
	pair[1].follow(pair[0], 50)
	for _, f := range pair {
		f.cutSegment()
		if err := f.logs[0].partition.tend(); err != nil {
			t.Fatal(err)
		}
	}
	pair[0].scrubRate = 1 << 30
	p := pair[0].logs[0].partition
	s := p.segments[0]
	flip(t, s.path, s.span(20).from*8)
	flip(t, s.path, (s.span(49).to-1)*8)
	if read := pair[0].scrubSegment(p, s); read == 0 {
		t.Fatal("nothing was read")
	}
	for i := range s.len() {
		if _, err := s.span(i).read(); err != nil {
			t.Errorf("record %d: %v", i, err)
		}
	}
}

func TestAnIndexFileWithAnyBitWrongIsMadeAnew(t *testing.T) {
	p := bare(t) // which nobody tidies meanwhile
	for i := range 20 {
		p.Apply(uint64(i+1), entryOf(fmt.Sprint("t", i%5), time.Now().UnixNano(), i))
	}
	s := p.growing()
	if err := s.flush(); err != nil {
		t.Fatal(err)
	}
	next, err := createSegment(p.dir+"/"+segmentName(p.position+1), p.position+1)
	if err != nil {
		t.Fatal(err)
	}
	p.segments = append(p.segments, next)
	if err := p.tend(); err != nil || !s.sealed() {
		t.Fatalf("not sealed: %v", err)
	}
	for bit := range 8 * s.imageSize() {
		flip(t, indexPath(s.path), bit)
		again, err := openSegment(s.path, s.size, p.topics.slotOf)
		if err != nil {
			t.Fatalf("bit %d: %v", bit, err)
		}
		if again.sealed() || again.len() != s.len() {
			t.Fatalf("bit %d of the index file was wrong, and it was used", bit)
		}
		again.close()
		flip(t, indexPath(s.path), bit)
	}
}

func TestASegmentWithABitWrongAnywhereIsNotOpenedWithoutItsIndex(t *testing.T) {
	p := bare(t) // which nobody seals meanwhile
	for i := range 10 {
		p.Apply(uint64(i+1), entryOf("a", time.Now().UnixNano(), i))
	}
	s := p.growing()
	if err := s.flush(); err != nil {
		t.Fatal(err)
	}
	for bit := range 8 * s.size {
		flip(t, s.path, bit)
		again, err := openSegment(s.path, s.size, p.topics.slotOf)
		if err == nil && again.first == s.first {
			t.Fatalf("bit %d (byte %d) was wrong, and the segment was opened", bit, bit/8)
		}
		flip(t, s.path, bit)
	}
}

func TestARestartWithIndexFilesGivesTheSame(t *testing.T) {
	f := newFixture(t, 1)
	for range 3 {
		f.fill(40)
		f.cutSegment()
	}
	p := f.logs[0].partition
	if err := p.tend(); err != nil {
		t.Fatal(err)
	}
	want := f.take(120, "earliest", "**")
	snap, err := p.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	var state bytes.Buffer
	if err := snap.Persist(&state); err != nil {
		t.Fatal(err)
	}
	if err := p.Restore(&state, ""); err != nil {
		t.Fatal(err)
	}
	for i, s := range p.segments {
		if !s.sealed() || s.live != 40 {
			t.Errorf("segment %d: sealed %v, %d live, want true and 40", i, s.sealed(), s.live)
		}
	}
	if got := f.take(120, "earliest", "**"); !slices.Equal(got, want) {
		t.Errorf("got %d events, want the %d from before", len(got), len(want))
	}
}

func TestCompactionKeepsWhatIsRetained(t *testing.T) {
	f := newFixture(t, 1, protocol.Policy{Pattern: "t1", MaxEvents: 1}, protocol.Policy{Pattern: "t2", MaxEvents: 1},
		protocol.Policy{Pattern: "t3", MaxEvents: 1}, protocol.Policy{Pattern: "t4", MaxEvents: 1})
	f.fill(100)
	f.cutSegment()
	f.fill(5)
	p := f.logs[0].partition
	before := p.segments[0].size
	old := p.segments[0].path
	if err := p.tend(); err != nil {
		t.Fatal(err)
	}
	if s := p.segments[0]; !s.sparse() || s.size*compactBelow > before || s.live != 20 {
		t.Fatalf("got %d of %d bytes, %d events, sparse %v; want less than a quarter with 20", s.size, before, s.live, s.sparse())
	}
	if _, err := os.Stat(old); err != nil {
		t.Errorf("the file that a snapshot may name is gone: %v", err)
	}
	if got := f.take(21, "earliest", "t0"); got[19] != "payload 95" {
		t.Errorf("got %q, want all 21 events of t0", got)
	}
	var state bytes.Buffer
	for committed := range 2 {
		if _, err := os.Stat(old); err != nil {
			t.Errorf("the file that the snapshot in place names is gone: %v", err)
		}
		snap, err := p.Snapshot()
		state.Reset()
		if err == nil {
			err = snap.Persist(&state)
		}
		if err != nil {
			t.Fatal(err)
		}
		if committed == 1 { // the first one came to nothing
			snap.Committed()
		}
	}
	if _, err := os.Stat(old); !os.IsNotExist(err) {
		t.Errorf("the replaced file is still there: %v", err)
	}
	if err := p.Restore(&state, ""); err != nil {
		t.Fatal(err)
	}
	if got := f.take(4, "-3", "t0", "t4"); strings.Join(got, ",") != "payload 90,payload 95,payload 0,payload 4" {
		t.Errorf("after a restart: got %q", got)
	}
}

func TestAReplicaWhoseSegmentDiffersIsReported(t *testing.T) {
	reported := make(chan string, 1)
	pair := replicas(t, Options{ScrubRate: -1, Damaged: func(_ uint16, reason string) { reported <- reason }})
	pair[1].SetCatalog(&Catalog{ClusterID: testCluster, Partitions: [][]string{{"n0", "n0", "n1"}}}) // as if two had what n0 has
	pair[0].fill(50)
	pair[1].follow(pair[0], 49)
	pair[0].cutSegment()
	pair[1].cutSegment()
	sums := pair[0].logs[0].partition.unagreed()
	if len(sums) != 1 {
		t.Fatalf("got %d sums to tell, want 1", len(sums))
	}
	for _, f := range pair {
		_, _ = f.logs[0].Propose(context.Background(), encodeSum(1, sums[0]))
	}
	select {
	case reason := <-reported:
		if !strings.Contains(reason, "the other replicas' has") {
			t.Errorf("got %q", reason)
		}
	case <-time.After(10 * time.Second):
		t.Error("nothing was reported")
	}
	if d := pair[0].logs[0].partition.takeDivergences(); len(d) > 0 {
		t.Errorf("the leader differs from itself: %v", d)
	}
}

func TestATopicThatIsEmptyForAnHourIsForgotten(t *testing.T) {
	f := newFixture(t, 1, protocol.Policy{Pattern: "short", MaxAge: "1s"})
	f.publish("short", "1")
	f.publish("long", "1")
	cursor := f.subscribe("earliest", "short").Cursor()
	p := f.logs[0].partition
	at := time.Now()
	for _, later := range []time.Duration{2 * time.Second, time.Minute, time.Hour, 2 * time.Hour} {
		p.trimAll(at.Add(min(later, time.Hour)))
		f.forgetUseless(p, at.Add(later))
	}
	if p.topics.find("short") != nil || p.topics.find("long") == nil {
		t.Fatalf("%d topics are left, want long alone", p.topics.len())
	}
	f.want(f.subscribe(cursor, "short"), "gap short 1-1 expired")
	again := f.publish("short", "2")
	if again.Offset != 1 || again.Epoch == 1 {
		t.Errorf("it came back as %+v, want a new epoch", again)
	}
	f.want(f.subscribe(cursor, "short"), "gap short 1-1 expired", "2")
	f.want(f.subscribe("earliest", "short"), "2")
}

func TestWhoComesFromBeforeWhatIsRememberedIsTold(t *testing.T) {
	f := newFixture(t, 1)
	f.publish("a", "1")
	cursor := f.subscribe("earliest", "a", "b").Cursor()
	p := f.logs[0].partition
	f.forgetForGood("a")
	if p.tombs.byName["a"] != nil || p.forgotten == 0 {
		t.Fatalf("a is remembered still")
	}
	f.publish("a", "2")
	f.want(f.subscribe(cursor, "a"), "gap a 0-0 epoch_changed", "2")
	f.want(f.subscribe("earliest", "a"), "2")
}

func TestADiskThatFailsEndsTheNodeInWords(t *testing.T) {
	p := bare(t)
	ended := make(chan error, 1)
	p.fatal = func(err error) { ended <- err }
	p.Apply(1, entryOf("a", 1, 1))
	_ = p.growing().file.Close() // writes fail from now on
	go func() {
		for i := uint64(2); ; i++ {
			p.Apply(i, appendProposal(appendPublishHead(nil, 1, 1), &proposal{event: protocol.Event{Topic: "a", ID: "x", Data: make([]byte, flushBytes)}}))
		}
	}()
	if err := <-ended; !strings.Contains(err.Error(), "append to") {
		t.Errorf("got %v, want what could not be written", err)
	}
}
