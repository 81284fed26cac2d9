package broker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pushd/pushd/protocol"
)

func snapOf(t *testing.T, p *Partition) *bytes.Buffer {
	s, err := p.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := s.Persist(&b); err != nil {
		t.Fatal(err)
	}
	return &b
}

// sentBy is a snapshot's state, and a folder with its files, as a follower
// receives them.
func sentBy(t *testing.T, p *Partition) (state *bytes.Buffer, received string) {
	t.Helper()
	s, err := p.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	state, received = new(bytes.Buffer), t.TempDir()
	if err := s.Persist(state); err != nil {
		t.Fatal(err)
	}
	for _, file := range s.Files() {
		text, err := os.ReadFile(file.Path)
		if err == nil {
			err = os.WriteFile(filepath.Join(received, file.Name), text[:file.Size], 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return state, received
}

func entryOf(topic string, now int64, data int) []byte {
	return appendProposal(appendPublishHead(nil, now, 1), &proposal{event: protocol.Event{Topic: topic, ID: "x", Data: make([]byte, data)}})
}

func bare(t *testing.T, policies ...protocol.Policy) *Partition {
	c := &Catalog{ClusterID: testCluster, Partitions: [][]string{{"self"}}, Policies: policies}
	return newPartition(0, t.TempDir(), defaultTailBytes, func() *Catalog { return c })
}

func TestARestoreBetweenTwoStepsOfRetentionIsHarmless(t *testing.T) {
	f := newFixture(t, 1)
	p := f.logs[0].partition
	for i := range 10 {
		f.publish("a", fmt.Sprint(i))
	}
	state := snapOf(t, p)
	p.trimChanged(time.Now().UnixNano())
	due := p.trimDue(time.Now().Add(48 * time.Hour))
	if err := p.Restore(state, ""); err != nil { // InstallSnapshot
		t.Fatal(err)
	}
	defer func() {
		if r := recover(); r != nil {
			t.Errorf("panic: %v", r)
		}
	}()
	for age := range due {
		p.trimAge(age, time.Now().UnixNano())
	}
}

func TestARestartKeepsWhatIsRetained(t *testing.T) {
	f := newFixture(t, 1)
	p := f.logs[0].partition
	f.publish("keep", "0") // segment 1: alive
	f.cutSegment()
	f.publish("x", "1") // segment 2: x's oldest
	f.cutSegment()
	f.publish("x", "2")
	f.publish("x", "3") // segment 3: x, retained
	f.cutSegment()
	f.publish("y", "1") // segment 4: y's
	f.cutSegment()
	f.publish("keep", "9")
	state := snapOf(t, p)
	cat := &Catalog{ClusterID: testCluster, Partitions: [][]string{{"self"}}, Policies: []protocol.Policy{{Pattern: "x", MaxEvents: 2}}}
	f.SetCatalog(cat)
	if _, err := f.logs[0].Propose(context.Background(), encodeDelete(time.Now().UnixNano(), "y")); err != nil {
		t.Fatal(err)
	}
	p.trimAll(time.Now())
	f.want(f.subscribe("earliest", "x"), "2", "3")
	n := len(f.logs[0].entries)
	if err := p.Restore(state, ""); err != nil {
		t.Fatal(err)
	}
	p.Apply(uint64(n), f.logs[0].entries[n-1])
	f.want(f.subscribe("earliest", "x"), "2", "3")
}

func TestAPatternsReaderIsToldOfWhatWasForgotten(t *testing.T) {
	f := newFixture(t, 1)
	f.publish("old.a", "1")
	cursor := f.subscribe("earliest", "old.*").Cursor()
	f.forgetForGood("old.a")
	got, _ := drain(t, f.subscribe(cursor, "old.*"), 3)
	if len(got) == 0 {
		t.Errorf("event 1 of old.a is gone and the reader was told nothing")
	}
	f.want(f.subscribe("earliest", "old.*")) // who begins now has missed nothing
}

func TestATakeoverThatSendsAgainFencesTheOneBefore(t *testing.T) {
	f := newFixture(t, 1)
	send := func(id string, epoch, seq uint64) (protocol.Published, error) {
		return f.try(protocol.Publish{Event: protocol.Event{Topic: "a", ID: id}, Producer: &protocol.Producer{ID: "p", Epoch: epoch, Seq: seq}})
	}
	if _, err := send("x", 1, 0); err != nil {
		t.Fatal(err)
	}
	if again, err := send("x", 2, 0); err != nil || !again.Duplicate || again.Offset != 1 { // the new instance sends its outbox again
		t.Errorf("got %+v, %v, want the first event's place", again, err)
	}
	if _, err := send("y", 2, 1); err != nil {
		t.Errorf("next of the new instance: %v", err)
	}
	if _, err := send("z", 1, 1); err == nil {
		t.Errorf("the old instance was not fenced off")
	}
}

// eventsOf are the events of a page of two.
func eventsOf(t *testing.T, s *Subscription) (list []protocol.Event) {
	t.Helper()
	b, err := s.Pull(2)
	if err != nil {
		t.Fatal(err)
	}
	for _, it := range b.Items {
		if it.Event != nil {
			list = append(list, it.Event.Event)
		}
	}
	return list
}

func TestASnapshotTakenWhileRetentionWorkedIsRestored(t *testing.T) {
	f := newFixture(t, 1, protocol.Policy{Pattern: "a", MaxEvents: 5})
	for i := 1; i <= 5; i++ {
		f.publish("a", fmt.Sprint(i))
	}
	s := f.subscribe("earliest", "**")
	var file []protocol.Event
	page := func() { file = append(file, eventsOf(t, s)...) }
	page()
	for i := 6; i <= 10; i++ {
		f.publish("a", fmt.Sprint(i))
	}
	for range 5 {
		page()
	}
	into := newFixture(t, 1)
	if got, err := into.Restore(context.Background(), 7, file); err != nil || got.Restored != len(file) {
		t.Errorf("got %+v, %v, want %d events", got, err, len(file))
	}
	into.want(into.subscribe("earliest", "a"), "6", "7", "8", "9", "10")
}

func TestASnapshotTakenWhileATopicWasMadeAnewIsNotMixed(t *testing.T) {
	f := newFixture(t, 1)
	f.publish("a", "old1")
	f.publish("a", "old2")
	s := f.subscribe("earliest", "**")
	var file []protocol.Event
	page := func() { file = append(file, eventsOf(t, s)...) }
	page()
	if err := f.DeleteTopic(context.Background(), "a"); err != nil {
		t.Fatal(err)
	}
	for i := 1; i <= 3; i++ {
		f.publish("a", fmt.Sprint("new", i))
	}
	for range 5 {
		page()
	}
	into := newFixture(t, 1)
	if _, err := into.Restore(context.Background(), 7, file); err != nil {
		t.Fatal(err)
	}
	have, _ := drain(t, into.subscribe("earliest", "a"), 10)
	if strings.Join(have, " ") != "new1 new2 new3" {
		t.Errorf("restored %q, want the new epoch", have)
	}
}

func TestTombsOfARestoredReplicaAreThoseOfTheOther(t *testing.T) {
	f := newFixture(t, 1)
	p := f.logs[0].partition
	bg := context.Background()
	for range 2 { // a comes, is forgotten, comes again
		f.logs[0].Propose(bg, entryOf("a", 1, 1))
		f.forget("a")
	}
	for i := range 10 {
		f.logs[0].Propose(bg, entryOf(fmt.Sprint("b", i), 1, 1))
		f.forget(fmt.Sprint("b", i))
	}
	state := snapOf(t, p)
	q := newPartition(0, p.dir, 0, f.catalog.Load)
	if _, err := q.decodeState(state.Bytes()); err != nil {
		t.Fatal(err)
	}
	for i := range maxTombstones - 11 {
		for _, x := range []*Partition{p, q} {
			x.tombs.bury(&topic{name: fmt.Sprint("c", i), past: &past{deleted: 1}})
		}
	}
	if (p.tombs.byName["a"] == nil) != (q.tombs.byName["a"] == nil) {
		t.Errorf("a is remembered by one and not by the other: %v %v", p.tombs.byName["a"], q.tombs.byName["a"])
	}
}

func TestPollsComeToAllPartitions(t *testing.T) {
	f := newFixture(t, 2)
	var hot, cold string
	for i := range 20 {
		name := fmt.Sprint("t", i)
		if f.catalog.Load().partitionOf(name) == 1 {
			hot = name
		} else {
			cold = name
		}
	}
	f.publish(cold, "cold")
	after := "earliest"
	for range 50 {
		for range 10 {
			f.publish(hot, "hot")
		}
		s := f.subscribe(after, "**") // a short poll
		b, err := s.Pull(10)
		if err != nil {
			t.Fatal(err)
		}
		after = b.Cursor
		s.Close()
		for _, it := range b.Items {
			if it.Event.Topic == cold {
				return
			}
		}
	}
	t.Errorf("in 50 polls of 10 events the other partition's event never came")
}

func TestAProducersBatchMayComeAgain(t *testing.T) {
	p := bare(t)
	e := appendPublishHead(nil, 1, 20)
	for i := range 20 {
		e = appendProposal(e, &proposal{event: protocol.Event{Topic: "a", ID: fmt.Sprint(i)}, producer: &protocol.Producer{ID: "p", Seq: uint64(i)}})
	}
	p.Apply(1, e)
	bad := 0
	for _, r := range p.Apply(2, e).([]stored) { // the outcome was unknown, and it was sent again
		if r.err != nil {
			bad++
		}
	}
	if bad > 0 {
		t.Errorf("%d of 20 events that were stored are refused as out of sequence", bad)
	}
}

func TestARestoreThatTheReplicaRefusesFails(t *testing.T) {
	f := newFixture(t, 1)
	f.logs[0].partition.index = 1000 // Apply answers nil
	got, err := f.Restore(context.Background(), 7, kept("a", 1, 3))
	if err == nil && got.Restored+got.Known != 3 {
		t.Errorf("got %+v and no error for 3 events", got)
	}
}

func TestASegmentThatIsTooShortIsDamaged(t *testing.T) {
	f := newFixture(t, 1)
	p := f.logs[0].partition
	for i := range 20 {
		f.publish("a", fmt.Sprint(i))
	}
	f.cutSegment()
	f.publish("a", "last")
	if err := p.tend(); err != nil {
		t.Fatal(err)
	}
	state := snapOf(t, p)
	if err := os.Truncate(p.segments[0].path, 100); err != nil {
		t.Fatal(err)
	}
	if err := p.Restore(state, ""); !errors.Is(err, ErrDamaged) {
		t.Errorf("a segment cut to 100 bytes: got %v, want %v", err, ErrDamaged)
	}
}

func TestARottenIndexGivesNobodyAnothersEvents(t *testing.T) {
	f := newFixture(t, 1)
	p := f.logs[0].partition
	f.publish("a", "1")
	f.publish("secret", "2")
	f.cutSegment()
	f.publish("a", "3")
	if err := p.tend(); err != nil {
		t.Fatal(err)
	}
	s := p.segments[0]
	n := s.len()
	file, err := os.OpenFile(indexPath(s.path), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	owners := int64(indexHead + 12*n)
	var b [4]byte
	if _, err := file.ReadAt(b[:], owners); err != nil { // a's owner
		t.Fatal(err)
	}
	if _, err := file.WriteAt(b[:], owners+4); err != nil {
		t.Fatal(err)
	}
	_ = file.Close()
	r, err := f.subscribe("earliest", "a", "b.*").Pull(10)
	if err != nil {
		t.Fatal(err)
	}
	for _, it := range r.Items {
		if it.Event != nil && it.Event.Topic == "secret" {
			t.Errorf("a reader of a and b.* was given an event of %s", it.Event.Topic)
		}
	}
}

func TestARecordThatTheDiskCanNotReadIsRepaired(t *testing.T) {
	pair := replicas(t, Options{ScrubRate: -1})
	pair[0].fill(50)
	pair[1].follow(pair[0], 50)
	for _, f := range pair {
		f.cutSegment()
	}
	p := pair[0].logs[0].partition
	s := p.segments[0]
	was := s.file
	s.file, _ = os.OpenFile(s.path, os.O_WRONLY, 0) // ReadAt fails with an errno that is no EOF, as EIO would
	defer func() { s.file = was }()
	if _, err := pair[0].subscribe("earliest", "t0").Pull(5); err != nil {
		t.Errorf("the reader is refused and nothing is repaired: %v", err)
	}
}

func TestARestoreDoesNotMoveTheClock(t *testing.T) {
	f := newFixture(t, 1)
	e := kept("a", 1, 1)
	e[0].Time = time.Now().Add(365 * 24 * time.Hour).UnixNano()
	if _, err := f.Restore(context.Background(), 7, e); err != nil {
		t.Fatal(err)
	}
	got := f.publish("b", "1")
	if d := time.Until(time.Unix(0, got.Time)); d > time.Hour {
		t.Errorf("another topic's events now are %v in the future", d)
	}
}

func TestADamagedRecordDoesNotKeepOtherSegmentsFromCompaction(t *testing.T) {
	f := newFixture(t, 1)
	p := f.logs[0].partition
	for seg := range 2 {
		f.publish(fmt.Sprint("keep", seg), "kept")
		for range 50 {
			f.publish("x", "............................................................................")
		}
		f.cutSegment()
	}
	if err := p.tend(); err != nil {
		t.Fatal(err)
	}
	w, _ := p.spanOf(1)
	flip(t, w.segment.path, (w.from+20)*8)
	if err := f.DeleteTopic(context.Background(), "x"); err != nil {
		t.Fatal(err)
	}
	if err := p.tend(); err != nil {
		t.Fatal(err)
	}
	if len(p.retired) == 0 {
		t.Errorf("the second segment, which is whole, was not compacted either")
	}
}

func TestATopicThatEndsOverAndOverComesBackFromASnapshot(t *testing.T) {
	f := newFixture(t, 1)
	p := f.logs[0].partition
	for range maxOldEpochs + 5 {
		f.publish("a", "1")
		if err := f.DeleteTopic(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 { // forgotten while it has events: that epoch is remembered, too
		f.publish("a", "1")
		f.forget("a")
	}
	if err := p.Restore(snapOf(t, p), ""); err != nil {
		t.Errorf("the snapshot can't be read: %v", err)
	}
}
