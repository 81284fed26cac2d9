package broker

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pushd/pushd/protocol"
)

// quiet is a play in which nothing happens by itself: n0 leads.
func quiet(t *testing.T, f func(p *play)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := newPlay(t, 2)
		f(p)
		p.close()
	})
}

func (p *play) say(topic, data string) protocol.Published {
	p.t.Helper()
	got, err := p.nodes[0].broker.Publish(context.Background(), &protocol.Publish{Event: protocol.Event{Topic: topic, Data: []byte(data)}})
	if err != nil {
		p.t.Fatal(err)
	}
	return got
}

// streams is how many sources a replica has.
func (p *Partition) streams() int {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return len(p.sources)
}

// fixture is the edge node as other tests know a broker.
func (p *play) fixture() *fixture { return &fixture{Broker: p.edge, t: p.t} }

// waits has a reader come to its end, and wait there.
func (p *play) waits(s *Subscription) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if b, err := s.Next(ctx, 10); len(b.Items) != 0 {
		p.t.Fatalf("got %d items, %v, want none", len(b.Items), err)
	}
}

func TestManyReadersOfATopicCostOneCopy(t *testing.T) {
	quiet(t, func(p *play) {
		f := p.fixture()
		readers := make([]*Subscription, 100)
		for i := range readers {
			readers[i] = f.subscribe("latest", "a")
			p.waits(readers[i])
		}
		for i := range 10 {
			p.say("a", fmt.Sprint(i))
			p.say("b", "for nobody here")
		}
		for _, s := range readers {
			if got := f.read(s, 100); len(got) != 10 {
				t.Fatalf("got %q, want ten events", got)
			}
		}
		if n := p.link.records(); n != 10 {
			t.Errorf("%d records came over the link, want 10", n)
		}
	})
}

func TestWhatNobodyReadsAnyMoreIsNotSent(t *testing.T) {
	quiet(t, func(p *play) {
		f := p.fixture()
		stays, goes := f.subscribe("latest", "a"), f.subscribe("latest", "d.*.*", "c.x")
		p.waits(stays)
		p.waits(goes)
		goes.Close()
		time.Sleep((feedLinger + 2) * feedTick)
		for range 5 {
			p.say("d.1.2", "x")
			p.say("c.x", "x")
		}
		time.Sleep(time.Second)
		if n := p.link.records(); n != 0 {
			t.Errorf("%d records came over the link, want none", n)
		}
		stays.Close()
		time.Sleep((feedLinger + 2) * feedTick)
		for id := range uint16(2) {
			if p.edge.feeds.get(id) != nil {
				t.Errorf("got a feed of partition %d, want none without readers", id)
			}
		}
		for _, n := range p.nodes {
			for id := range uint16(2) {
				if got := n.broker.Partition(id).streams(); got != 0 {
					t.Errorf("got %d sources at n%d, want none", got, n.id)
				}
			}
		}
	})
}

func TestAReaderThatComesBackIsServedByTheFeed(t *testing.T) {
	quiet(t, func(p *play) {
		f := p.fixture()
		stays, goes := f.subscribe("latest", "a"), f.subscribe("latest", "a")
		p.waits(stays)
		p.waits(goes)
		cursor := goes.Cursor()
		goes.Close()
		p.say("a", "1")
		p.say("a", "2")
		time.Sleep(time.Second)
		for id := range p.nodes {
			p.link.set(fmt.Sprint("n", id), false) // nobody can be asked
		}
		if got := f.read(f.subscribe(cursor, "a"), 10); !slices.Equal(got, []string{"1", "2"}) {
			t.Errorf("with its cursor: got %q, want what it has missed", got)
		}
	})
}

func TestWhatWasDeletedIsNotGivenByTheFeed(t *testing.T) {
	quiet(t, func(p *play) {
		f := p.fixture()
		s := f.subscribe("latest", "a")
		p.waits(s)
		cursor := s.Cursor()
		p.say("a", "1")
		p.say("a", "2")
		time.Sleep(time.Second)
		if err := p.nodes[0].broker.DeleteTopic(context.Background(), "a"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if got := f.read(f.subscribe(cursor, "a"), 10); !slices.Equal(got, []string{"gap a 1-2 deleted"}) {
			t.Errorf("got %q, want the gap", got)
		}
	})
}

func TestAReaderOfADeletedTopicEndsAtTheFeed(t *testing.T) {
	quiet(t, func(p *play) {
		f := p.fixture()
		p.say("a", "1")
		s := f.subscribe("earliest", "a")
		if got := f.read(s, 10); !slices.Equal(got, []string{"1"}) || s.Done() {
			t.Fatalf("got %q, done %v, want one event of a topic that goes on", got, s.Done())
		}
		if err := p.nodes[0].broker.DeleteTopic(context.Background(), "a"); err != nil {
			t.Fatal(err)
		}
		p.waits(s)
		if !s.Done() {
			t.Errorf("the topic is deleted: got not done")
		}
	})
}

// TestNodesWithoutStreamsAreAsked has nodes that answer questions only.
func TestNodesWithoutStreamsAreAsked(t *testing.T) {
	quiet(t, func(p *play) {
		p.edge.peers = noStreams{p.link}
		f := p.fixture()
		s := f.subscribe("latest", "a")
		for range 3 {
			p.waits(s)
		}
		p.say("a", "1")
		if got := f.read(s, 10); !slices.Equal(got, []string{"1"}) {
			t.Errorf("got %q, want the event", got)
		}
	})
}

type noStreams struct{ *playLink }

func (noStreams) Stream(context.Context, string, uint8, []byte, func([]byte) error) error {
	return protocol.BadRequest.Errorf("stream 10 is not known to this node")
}

func TestTheLeaderIsTheSourceWhereverItGoes(t *testing.T) {
	quiet(t, func(p *play) {
		f := p.fixture()
		s := f.subscribe("latest", "a")
		p.waits(s)
		for _, id := range []int{1, 2, 0} {
			p.lead(id)
			time.Sleep(2 * feedLead)
			for _, n := range p.nodes {
				sources := n.broker.Partition(p.edge.catalog.Load().partitionOf("a")).streams()
				if want := n.id == id; (sources > 0) != want {
					t.Errorf("n%d leads: got %d streams from n%d", id, sources, n.id)
				}
			}
		}
	})
}

func TestTooManyTopicsAreAskedForTogether(t *testing.T) {
	var in interests
	for i := range maxFeedSelectors {
		in.take(fmt.Sprint("t.", i))
	}
	if !in.full() {
		t.Errorf("got room beside %d topics, want none", maxFeedSelectors)
	}
	quiet(t, func(p *play) {
		f := p.fixture()
		s := f.subscribe("latest", "a")
		fd := p.edge.feeds.open(p.edge.catalog.Load().partitionOf("a"))
		fd.mu.Lock()
		fd.interests.text = maxFeedText
		fd.mu.Unlock()
		p.waits(s)
		fd.mu.Lock()
		if fd.interests.all[everyTopic] == nil || fd.interests.all["a"] != nil {
			t.Errorf("got interests %v, want the one in everything", fd.interests.all)
		}
		fd.mu.Unlock()
		p.say("a", "1")
		if got := f.read(s, 10); !slices.Equal(got, []string{"1"}) {
			t.Errorf("got %q, want the event", got)
		}
	})
}

func TestADeletedTopicEndsAReaderThatIsFedFromEverything(t *testing.T) {
	quiet(t, func(p *play) {
		f := p.fixture()
		s := f.subscribe("latest", "a")
		fd := p.edge.feeds.open(p.edge.catalog.Load().partitionOf("a"))
		fd.mu.Lock()
		fd.interests.text = maxFeedText
		fd.mu.Unlock()
		p.waits(s)
		p.say("a", "1")
		if got := f.read(s, 10); !slices.Equal(got, []string{"1"}) || s.Done() {
			t.Fatalf("got %q, done %v, want one event of a topic that goes on", got, s.Done())
		}
		if err := p.nodes[0].broker.DeleteTopic(context.Background(), "a"); err != nil {
			t.Fatal(err)
		}
		p.waits(s)
		if !s.Done() {
			t.Error("the reader's topic is deleted, and it is not told so")
		}
		time.Sleep(2 * feedKeep) // the feed has forgotten the deletion
		if p.waits(s); !s.Done() {
			t.Error("the topic is still deleted, and the reader is told that it is not")
		}
		p.say("a", "2")
		if got := f.read(s, 10); len(got) == 0 || got[len(got)-1] != "2" || s.Done() {
			t.Errorf("got %q, done %v, want an event of the topic that was made again", got, s.Done())
		}
	})
}

func TestAReaderAheadOfTheReplicaIsAnswered(t *testing.T) {
	f := newFixture(t, 1)
	for range 3 {
		f.publish("a", "x")
	}
	c := protocol.Cursor{Lanes: []protocol.Lane{{Position: 3, Marks: 1}, {Position: 9, Marks: 2}}}
	for _, topic := range []string{"a", "b"} {
		c.Marks = append(c.Marks, protocol.Mark{Fingerprint: protocol.TopicFingerprint(topic)})
	}
	slices.SortFunc(c.Marks, func(a, b protocol.Mark) int { return cmp.Compare(a.Fingerprint, b.Fingerprint) })
	s := f.subscribe(c.Text(*f.salt.Load()), "a", "b")
	if b, err := s.Pull(10); err != nil || b.UpToDate {
		t.Errorf("got %+v, %v, want nothing yet, and not up to date", b, err)
	}
}

func TestWhatAnotherNodeAnsweredIsGivenInPages(t *testing.T) {
	answer := &fetch{answer: remoteFound{found: found{upTo: 9, end: true, gaps: []lostRange{{at: 2}, {at: 5}}}}}
	for at := range uint64(4) {
		answer.answer.records = append(answer.answer.records, &Record{Position: 3 + at})
	}
	l := &lane{remote: answer}
	for i, want := range []struct {
		upTo          uint64
		records, gaps int
		end           bool
	}{{4, 2, 1, false}, {9, 2, 1, true}} {
		q := l.remote
		l.remote = nil
		f := q.part(l, 2)
		if f.upTo != want.upTo || len(f.records) != want.records || len(f.gaps) != want.gaps || f.end != want.end || (l.remote != nil) == want.end {
			t.Errorf("page %d: got %+v, want %+v", i, f, want)
		}
	}
}

// feedFrames are frames of one event each, for a feed with one reader's interest.
func feedFrames(n int) (*feed, []feedFrame) {
	b := &Broker{tail: 1 << 20, readers: newReaders()}
	b.catalog.Store(&Catalog{Partitions: [][]string{{"self"}}})
	fd := &feed{broker: b}
	fd.interests.take("orders.eu.4711")
	fd.interests.askAll()
	frames := make([]feedFrame, n)
	for i := range frames {
		e := sampleEvent
		e.Topic, e.Offset = "orders.eu.4711", uint64(i+1)
		frames[i] = feedFrame{from: uint64(i), upTo: uint64(i + 1), records: []*Record{{Event: e, Position: uint64(i + 1)}}}
	}
	return fd, frames
}

func TestAnEventThatAFeedTakesCostsFewAllocations(t *testing.T) {
	fd, frames := feedFrames(2000)
	now, room, i := time.Unix(1, 0), []byte(nil), 0
	n := testing.AllocsPerRun(1500, func() {
		room = frames[i].append(room[:0])
		i++
		f, err := decodeFeedFrame(room)
		w, ok := fd.take(&f, now)
		if fd.wake(&w); err != nil || !ok {
			t.Fatalf("frame %d: %v", i, err)
		}
	})
	if n > 8 {
		t.Errorf("got %v allocations for an event, want at most 8", n)
	}
}

// BenchmarkFeedTake is one event in a frame of its own: written, read, copied.
func BenchmarkFeedTake(b *testing.B) {
	fd, frames := feedFrames(1)
	now, room := time.Unix(1, 0), []byte(nil)
	b.ReportAllocs()
	for i := uint64(0); b.Loop(); i++ {
		frames[0].from, frames[0].upTo, frames[0].records[0].Position = i, i+1, i+1
		room = frames[0].append(room[:0])
		f, err := decodeFeedFrame(room)
		w, ok := fd.take(&f, now)
		if fd.wake(&w); err != nil || !ok {
			b.Fatal(err)
		}
	}
}
