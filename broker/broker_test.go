package broker

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pushd/pushd/protocol"
)

// memoryLog is a log of one replica: what is proposed is applied.
type memoryLog struct {
	mu        sync.Mutex // guards what follows
	partition *Partition
	entries   [][]byte
	down      atomic.Bool
}

func (l *memoryLog) Propose(_ context.Context, entry []byte) (any, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down.Load() {
		return nil, ErrNotLeader
	}
	l.entries = append(l.entries, entry)
	return l.partition.Apply(uint64(len(l.entries)), entry), nil
}

func (l *memoryLog) Leader() (string, bool) { return "self", !l.down.Load() }
func (l *memoryLog) IsLeader() bool         { return !l.down.Load() }
func (l *memoryLog) Current() bool          { return true }
func (l *memoryLog) Writable() error        { return nil }

// bench is a broker of one node with its logs.
type fixture struct {
	*Broker
	t    testing.TB
	logs []*memoryLog
}

const testCluster = "c1"

func newFixture(t testing.TB, partitions int, policies ...protocol.Policy) *fixture {
	t.Helper()
	b, err := New(Options{Self: "self", Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{Broker: b, t: t}
	c := &Catalog{ClusterID: testCluster, Policies: policies}
	for id := range partitions {
		c.Partitions = append(c.Partitions, []string{"self"})
		log := &memoryLog{partition: b.Partition(uint16(id))}
		f.logs = append(f.logs, log)
		b.OpenPartition(uint16(id), log)
	}
	b.SetCatalog(c)
	t.Cleanup(func() { _ = b.Close() })
	return f
}

func (f *fixture) publish(topic, data string) protocol.Published {
	f.t.Helper()
	p, err := f.try(protocol.Publish{Event: protocol.Event{Topic: topic, Data: []byte(data)}})
	if err != nil {
		f.t.Fatalf("publish %q to %s: %v", data, topic, err)
	}
	return p
}

func (f *fixture) try(p protocol.Publish) (protocol.Published, error) {
	return f.Publish(context.Background(), &p)
}

func (f *fixture) subscribe(after string, topics ...string) *Subscription {
	f.t.Helper()
	start, err := protocol.ParseStart(after, time.Now())
	if err != nil {
		f.t.Fatal(err)
	}
	selectors, err := protocol.ParseSelectors(topics)
	if err != nil {
		f.t.Fatal(err)
	}
	s, err := f.Subscribe(selectors, start, SubscribeOptions{Default: protocol.StartEarliest, Live: true})
	if err != nil {
		f.t.Fatalf("subscribe to %v after %q: %v", topics, after, err)
	}
	f.t.Cleanup(s.Close)
	return s
}

// drain pulls all there is: payloads, and gaps as "gap topic from-to reason".
func drain(t testing.TB, s *Subscription, limit int) (got []string, cursor string) {
	t.Helper()
	for {
		b, err := s.Pull(limit)
		if err != nil {
			t.Fatalf("pull: %v", err)
		}
		for _, item := range b.Items {
			if item.Gap != nil {
				got = append(got, fmt.Sprintf("gap %s %d-%d %s", item.Gap.Topic, item.Gap.From, item.Gap.To, item.Gap.Reason))
				continue
			}
			got = append(got, string(item.Event.Data))
		}
		cursor = b.Cursor
		if b.UpToDate {
			return got, cursor
		}
	}
}

func (f *fixture) want(s *Subscription, want ...string) string {
	f.t.Helper()
	got, cursor := drain(f.t, s, 3)
	if !slices.Equal(got, want) {
		f.t.Errorf("got %q, want %q", got, want)
	}
	return cursor
}

func TestOffsetsAreDenseAndReadersGetEveryEventOnce(t *testing.T) {
	f := newFixture(t, 1)
	for i := range 10 {
		for _, topic := range []string{"a", "b.x"} {
			if p := f.publish(topic, fmt.Sprint(topic, i)); p.Offset != uint64(i+1) {
				t.Errorf("%s: got offset %d, want %d", topic, p.Offset, i+1)
			}
		}
	}
	f.want(f.subscribe("earliest", "a"), "a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7", "a8", "a9")
	f.want(f.subscribe("-2", "a"), "a8", "a9")
	f.want(f.subscribe("-1", "**"), "a9", "b.x9")
	f.want(f.subscribe("-1", "a", "b.x"), "a9", "b.x9")
	f.want(f.subscribe("latest", "a", "b.*"))
	f.want(f.subscribe("@2100-01-01T00:00:00Z", "a"))
}

func TestACursorGoesOnExactlyWhereItWasGiven(t *testing.T) {
	f := newFixture(t, 4)
	for i := range 5 {
		f.publish("a", fmt.Sprint("a", i))
		f.publish("b", fmt.Sprint("b", i))
	}
	seen := map[string]int{}
	cursor := "earliest"
	for range 20 {
		s := f.subscribe(cursor, "a", "b")
		b, err := s.Pull(1)
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range b.Items {
			seen[string(item.Event.Data)]++
			if item.Cursor == cursor {
				t.Errorf("the cursor did not move with %s", item.Event.Data)
			}
		}
		cursor = b.Cursor
	}
	for i := range 5 {
		for _, topic := range []string{"a", "b"} {
			if name := fmt.Sprint(topic, i); seen[name] != 1 {
				t.Errorf("%s was given %d times over polls of one event, want once", name, seen[name])
			}
		}
	}
}

func TestTopicsThatACursorWasNotIssuedForStartAtEarliest(t *testing.T) {
	for _, partitions := range []int{1, 8} {
		f := newFixture(t, partitions)
		for i := range 5 {
			f.publish("a", fmt.Sprint("a", i))
			f.publish("b", fmt.Sprint("b", i))
		}
		cursor := f.want(f.subscribe("earliest", "a"), "a0", "a1", "a2", "a3", "a4")
		f.publish("a", "a5")
		s := f.subscribe(cursor, "a", "b")
		got, both := drain(t, s, 2)
		slices.Sort(got)
		if want := []string{"a5", "b0", "b1", "b2", "b3", "b4"}; !slices.Equal(got, want) {
			t.Errorf("%d partitions: got %q, want %q", partitions, got, want)
		}
		f.publish("b", "b5")
		f.want(f.subscribe(both, "a", "b"), "b5")
	}
}

func TestAPublishersCursorStartsRightBehindItsEvent(t *testing.T) {
	f := newFixture(t, 2)
	f.publish("a", "1")
	cursor := f.publish("a", "2").Cursor
	f.publish("a", "3")
	f.want(f.subscribe(cursor, "a"), "3")
}

func TestManySelectorsShareOneCursorOfBoundedSize(t *testing.T) {
	f := newFixture(t, 8)
	var topics []string
	for i := range 100 {
		topics = append(topics, fmt.Sprint("t", i))
		f.publish(topics[i], topics[i])
	}
	got, cursor := drain(t, f.subscribe("earliest", topics...), 7)
	if len(got) != 100 || len(cursor) > 200 {
		t.Errorf("got %d events and a cursor of %d characters, want 100 and at most 200", len(got), len(cursor))
	}
	f.publish("t5", "again")
	f.want(f.subscribe(cursor, topics...), "again")
}

func TestTheSameIDIsStoredOnce(t *testing.T) {
	f := newFixture(t, 1)
	e := protocol.Publish{Event: protocol.Event{Topic: "a", ID: "x", Data: []byte("1")}}
	first, _ := f.try(e)
	second, err := f.try(e)
	if err != nil || !second.Duplicate || second.Offset != first.Offset || second.Time != first.Time || second.Cursor != first.Cursor {
		t.Errorf("second publish of id x: got %+v, %v, want the first's %+v as a duplicate", second, err, first)
	}
	zero := uint64(0)
	e.IfMatch = &zero
	if again, err := f.try(e); err != nil || !again.Duplicate {
		t.Errorf("known id with a stale If-Match: got %+v, %v, want a duplicate", again, err)
	}
	e.Event.Topic, e.IfMatch = "b", nil
	if other, err := f.try(e); err != nil || other.Duplicate {
		t.Errorf("the id in another topic: got %+v, %v, want it stored", other, err)
	}
}

func TestIfMatchComparesTheLastOffset(t *testing.T) {
	f := newFixture(t, 1)
	zero, one := uint64(0), uint64(1)
	e := protocol.Publish{Event: protocol.Event{Topic: "a"}, IfMatch: &one}
	if _, err := f.try(e); protocol.CodeOf(err) != protocol.OffsetMismatch {
		t.Errorf("If-Match 1 on no events: got %v, want %s", err, protocol.OffsetMismatch)
	}
	e.IfMatch = &zero
	if _, err := f.try(e); err != nil {
		t.Errorf("If-Match 0 on no events: %v", err)
	}
	if _, err := f.try(e); protocol.CodeOf(err) != protocol.OffsetMismatch {
		t.Errorf("If-Match 0 on one event: got %v, want %s", err, protocol.OffsetMismatch)
	}
}

func TestWhatRetentionRemovedIsReportedAsAGap(t *testing.T) {
	f := newFixture(t, 1, protocol.Policy{Pattern: "a", MaxEvents: 5})
	for i := 1; i <= 3; i++ {
		f.publish("a", fmt.Sprint(i))
		f.publish("b", "other")
	}
	cursor := f.want(f.subscribe("earliest", "a"), "1", "2", "3")
	for i := 4; i <= 12; i++ {
		f.publish("a", fmt.Sprint(i))
	}
	f.want(f.subscribe(cursor, "a"), "gap a 4-7 expired", "8", "9", "10", "11", "12")
	f.want(f.subscribe("earliest", "a"), "8", "9", "10", "11", "12")
	f.want(f.subscribe("-9", "a"), "8", "9", "10", "11", "12")
	s := f.subscribe(cursor, "a")
	s.options.OnGapError = true
	if _, err := s.Pull(10); protocol.CodeOf(err) != protocol.EventsGone {
		t.Errorf("on_gap=error: got %v, want %s", err, protocol.EventsGone)
	}
}

func TestADeletedTopicIsAGapOnlyForWhoHadNotSeenItAll(t *testing.T) {
	f := newFixture(t, 1)
	f.publish("a", "1")
	early := f.want(f.subscribe("earliest", "a"), "1")
	f.publish("a", "2")
	late := f.want(f.subscribe("earliest", "a"), "1", "2")
	if err := f.DeleteTopic(context.Background(), "a"); err != nil {
		t.Fatal(err)
	}
	if s := f.subscribe(late, "a"); !s.Done() {
		t.Errorf("a reader of a deleted topic: got not done, want done")
	}
	f.want(f.subscribe(early, "a"), "gap a 2-2 deleted")
	p := f.publish("a", "new")
	if p.Offset != 1 || p.Epoch == 1 {
		t.Errorf("first event of the new epoch: got offset %d of epoch %d, want 1 of another epoch", p.Offset, p.Epoch)
	}
	f.want(f.subscribe(early, "a"), "gap a 2-2 deleted", "new")
	f.want(f.subscribe(late, "a"), "new")
	f.want(f.subscribe("earliest", "a"), "new")
	if err := f.DeleteTopic(context.Background(), "nope"); protocol.CodeOf(err) != protocol.NoSuchTopic {
		t.Errorf("deleting an unknown topic: got %v, want %s", err, protocol.NoSuchTopic)
	}
}

func TestAReaderIsWokenOnceByWhatItFollows(t *testing.T) {
	f := newFixture(t, 2)
	for _, topics := range [][]string{{"a"}, {"*"}, {"a", "b"}} {
		s := f.subscribe("latest", topics...)
		woken := 0
		if !s.Arm(func() { woken++ }) {
			t.Fatalf("%v: arming with nothing there: got false, want true", topics)
		}
		f.publish("c.other", "")
		f.publish("a", "x")
		f.publish("a", "y")
		if woken != 1 {
			t.Errorf("%v: got %d wake-ups, want 1", topics, woken)
		}
		if s.Arm(func() {}) {
			t.Errorf("%v: arming with events there: got true, want false", topics)
		}
		f.want(s, "x", "y")
	}
}

func TestNextWaitsForTheFirstEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, 1)
		s := f.subscribe("latest", "a")
		time.AfterFunc(time.Minute, func() { f.publish("a", "late") })
		b, err := s.Next(context.Background(), 10)
		if err != nil || len(b.Items) != 1 {
			t.Errorf("Next: got %d items, %v, want 1", len(b.Items), err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if b, err := s.Next(ctx, 10); err != context.DeadlineExceeded || len(b.Items) != 0 {
			t.Errorf("Next with nothing coming: got %d items, %v, want %v", len(b.Items), err, context.DeadlineExceeded)
		}
		_ = f.Close()
	})
}

func TestEventsThatAreNeverStoredReachLiveReadersOnly(t *testing.T) {
	f := newFixture(t, 1)
	s := f.subscribe("latest", "a")
	p, err := f.try(protocol.Publish{Event: protocol.Event{Topic: "a", Data: []byte("typing")}, Ack: protocol.AckNone})
	if err != nil || p.Offset != 0 || p.Cursor != "" {
		t.Errorf("got %+v, %v, want no offset and no cursor", p, err)
	}
	f.want(s, "typing")
	f.want(f.subscribe("earliest", "a"))
}

func TestARestoredReplicaGoesOnByteForByte(t *testing.T) {
	f := newFixture(t, 1, protocol.Policy{Pattern: "a", MaxEvents: 5})
	for i := range 20 {
		_, _ = f.try(protocol.Publish{Event: protocol.Event{Topic: "a", ID: fmt.Sprint(i), Data: fmt.Append(nil, i)}})
		f.publish("b", "x")
	}
	log := f.logs[0]
	state, received := sentBy(t, log.partition)
	other := newFixture(t, 1, protocol.Policy{Pattern: "a", MaxEvents: 5})
	if err := other.logs[0].partition.Restore(state, received); err != nil {
		t.Fatal(err)
	}
	other.logs[0].entries = slices.Clone(log.entries)
	for _, g := range []*fixture{f, other} {
		if p, err := g.try(protocol.Publish{Event: protocol.Event{Topic: "a", ID: "3"}}); err != nil || !p.Duplicate || p.Offset != 4 {
			t.Errorf("id 3 again: got %+v, %v, want the duplicate of offset 4", p, err)
		}
		g.publish("a", "last")
		g.want(g.subscribe("earliest", "a"), "16", "17", "18", "19", "last")
	}
}

func TestADamagedEventIsNeverGiven(t *testing.T) {
	f := newFixture(t, 1)
	for i := range 100 {
		f.publish("a", fmt.Sprint("payload", i))
	}
	p := f.logs[0].partition
	if _, err := p.Snapshot(); err != nil { // writes what is in memory
		t.Fatal(err)
	}
	p.tail.evict(0)
	path := p.segments[0].path
	clean, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := int(u32(p.segments[0].at, 50))
	for bit := range 8 * (int(u32(p.segments[0].at, 51)) - at) {
		hit := slices.Clone(clean)
		hit[at+bit/8] ^= 1 << (bit % 8)
		if err := os.WriteFile(path, hit, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := p.segments[0].span(50).read(); err == nil {
			t.Fatalf("bit %d of the record was flipped, and it was given", bit)
		}
	}
}

func TestBehindAnEventThatFailedItsTopicsLaterOnesAreNotAttempted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, 1)
		f.logs[0].down.Store(true)
		list := make([]protocol.Publish, 2*maxBatchEvents)
		for i := range list {
			list[i].Event = protocol.Event{Topic: "a", ID: fmt.Sprint(i)}
		}
		// The leader is back only after the first batch has given up: the second must not be stored without it.
		time.AfterFunc(publishTimeout+retryPause/2, func() {
			f.logs[0].down.Store(false)
		})
		for i, r := range f.PublishBatch(context.Background(), list) {
			if protocol.CodeOf(r.Err) != protocol.NoLeader {
				t.Fatalf("event %d: got %+v, %v, want %s", i, r.Published, r.Err, protocol.NoLeader)
			}
		}
		for i, r := range f.PublishBatch(context.Background(), list) {
			if r.Err != nil || r.Offset != uint64(i+1) || r.Duplicate {
				t.Fatalf("event %d sent again: got %+v, %v, want it stored at offset %d", i, r.Published, r.Err, i+1)
			}
		}
		_ = f.Close()
	})
}
