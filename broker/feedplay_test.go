package broker

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pushd/pushd/protocol"
)

// play is three nodes that replicate two partitions, one of which leads, and one
// that has none of it, whose readers are held against what was published.
type play struct {
	t     *testing.T
	rand  *rand.Rand
	nodes []*playNode
	edge  *Broker
	link  *playLink

	mu      sync.Mutex // guards what follows
	entries [2][][]byte

	leader atomic.Int64 // -1: none; asked under the brokers' locks

	topics  map[string]*playTopic
	readers []*playReader
}

type playNode struct {
	play    *play
	id      int
	broker  *Broker
	applied [2]int // entries; guarded by play.mu
}

// playLog is a node's replica of one partition's log. A follower applies when the
// play says so.
type playLog struct {
	node      *playNode
	partition int
}

func (l playLog) Propose(_ context.Context, entry []byte) (any, error) {
	p := l.node.play
	p.mu.Lock()
	defer p.mu.Unlock()
	if int(p.leader.Load()) != l.node.id {
		return nil, ErrNotLeader
	}
	p.entries[l.partition] = append(p.entries[l.partition], entry)
	return l.node.catchUp(l.partition, 1<<30), nil
}

func (l playLog) Leader() (string, bool) {
	leader := l.node.play.leader.Load()
	return fmt.Sprint("n", leader), leader >= 0
}

func (l playLog) IsLeader() bool {
	return int(l.node.play.leader.Load()) == l.node.id
}

func (l playLog) Current() bool   { return true }
func (l playLog) Writable() error { return nil }

// catchUp applies at most n entries more. play.mu is held.
func (n *playNode) catchUp(partition, most int) (result any) {
	for ; most > 0 && n.applied[partition] < len(n.play.entries[partition]); most-- {
		n.applied[partition]++
		at := n.applied[partition]
		result = n.broker.Partition(uint16(partition)).Apply(uint64(at), n.play.entries[partition][at-1])
	}
	return result
}

// playTopic is all that was published to a topic.
type playTopic struct {
	epoch, last uint64
	exists      bool
	ended       map[uint64]uint64 // deleted epoch: its last offset
}

// playReader is a reader at the edge node that goes on until it leaves.
type playReader struct {
	play    *play
	sub     *Subscription
	topics  []string
	done    chan struct{}
	leave   context.CancelFunc
	whole   bool                 // began at the beginning
	begun   map[string]playTopic // what there was when it began,
	settled bool                 // if it did before it was let go

	mu sync.Mutex // guards at
	at map[string]place
}

type place struct{ epoch, offset uint64 }

func newPlay(t *testing.T, seed uint64) *play {
	p := &play{t: t, rand: rand.New(rand.NewPCG(seed, 1)), topics: map[string]*playTopic{}}
	p.link = &playLink{nodes: map[string]*Broker{}, down: map[string]context.CancelFunc{}, up: map[string]context.Context{}, gate: make(chan struct{})}
	close(p.link.gate)
	c := &Catalog{ClusterID: testCluster, Partitions: [][]string{{"n0", "n1", "n2"}, {"n0", "n1", "n2"}}}
	tail := []int{500, 5000, 0}[p.rand.IntN(3)]
	for id := range 3 {
		name := fmt.Sprint("n", id)
		b := p.open(name, tail, nil)
		n := &playNode{play: p, id: id, broker: b}
		for partition := range c.Partitions {
			b.Partition(uint16(partition))
			b.OpenPartition(uint16(partition), playLog{n, partition})
		}
		b.SetCatalog(c)
		p.nodes, p.link.nodes[name] = append(p.nodes, n), b
		p.link.up[name], p.link.down[name] = context.WithCancel(context.Background())
	}
	p.edge = p.open("edge", tail, p.link)
	p.edge.SetCatalog(c)
	return p
}

func (p *play) open(name string, tail int, peers Peers) *Broker {
	b, err := New(Options{Self: name, Dir: p.t.TempDir(), TailBytes: tail, Peers: peers, ScrubRate: -1})
	if err != nil {
		p.t.Fatal(err)
	}
	return b
}

func (p *play) close() {
	for _, r := range p.readers {
		r.leave()
		<-r.done
		r.sub.Close()
	}
	_ = p.edge.Close()
	for _, n := range p.nodes {
		_ = n.broker.Close()
		p.link.down[fmt.Sprint("n", n.id)]()
	}
}

var playTopics = []string{"a", "b", "c.x", "c.y", "d.1.2"}

// publish stores one event, if somebody leads.
func (p *play) publish() {
	name := playTopics[p.rand.IntN(len(playTopics))]
	leader := p.leaderBroker()
	if leader == nil {
		return
	}
	got, err := leader.Publish(context.Background(), &protocol.Publish{Event: protocol.Event{Topic: name, Data: make([]byte, p.rand.IntN(100))}})
	if err != nil {
		p.t.Fatalf("publish: %v", err)
	}
	t := p.topics[name]
	if t == nil {
		t = &playTopic{ended: map[uint64]uint64{}}
		p.topics[name] = t
	}
	t.epoch, t.last, t.exists = got.Epoch, got.Offset, true
}

func (p *play) delete() {
	name := playTopics[p.rand.IntN(len(playTopics))]
	t, leader := p.topics[name], p.leaderBroker()
	if leader == nil || t == nil || !t.exists {
		return
	}
	if err := leader.DeleteTopic(context.Background(), name); err != nil {
		p.t.Fatalf("delete: %v", err)
	}
	t.ended[t.epoch], t.exists = t.last, false
}

func (p *play) leaderBroker() *Broker {
	if leader := p.leader.Load(); leader >= 0 {
		return p.nodes[leader].broker
	}
	return nil
}

// follow lets followers come a little nearer to the leader.
func (p *play) followers() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range p.nodes {
		for partition := range p.entries {
			n.catchUp(partition, p.rand.IntN(4))
		}
	}
}

// lead makes another node the leader, or none. A leader has all that there is.
func (p *play) lead(id int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.leader.Store(int64(id)); id >= 0 {
		for partition := range p.entries {
			p.nodes[id].catchUp(partition, 1<<30)
		}
	}
}

func (p *play) subscribe() {
	if len(p.readers) >= 12 {
		return
	}
	sets := [][]string{{"a"}, {"b"}, {"a", "b"}, {"c.*"}, {"**"}, {"a", "c.x", "d.**"}, {"d.1.2"}, {"a", "**"}}
	r := &playReader{play: p, topics: sets[p.rand.IntN(len(sets))], whole: p.rand.IntN(3) == 0, at: map[string]place{}, begun: map[string]playTopic{}}
	start := protocol.Start{Kind: protocol.StartLatest}
	if r.whole {
		start.Kind = protocol.StartEarliest
	}
	for name, t := range p.topics {
		r.begun[name] = *t
	}
	r.open(start)
	settled, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for !r.settled && settled.Err() == nil {
		r.sub.Settle(settled)
		r.settled = r.sub.hasBegun()
		time.Sleep(50 * time.Millisecond)
	}
	p.readers = append(p.readers, r)
	r.run()
}

// hasBegun says whether the reader's start has become a place.
func (s *Subscription) hasBegun() (begun bool) {
	s.use(func(r *reading) { begun = r.begun })
	return begun
}

func (r *playReader) open(start protocol.Start) {
	selectors, err := protocol.ParseSelectors(r.topics)
	if err == nil {
		r.sub, err = r.play.edge.Subscribe(selectors, start, SubscribeOptions{})
	}
	if err != nil {
		r.play.t.Fatal(err)
	}
}

func (r *playReader) run() {
	ctx, cancel := context.WithCancel(context.Background())
	r.leave, r.done = cancel, make(chan struct{})
	limit := 1 + r.play.rand.IntN(20)
	go func() {
		defer close(r.done)
		for {
			b, err := r.sub.Next(ctx, limit)
			if err != nil {
				return
			}
			for i := range b.Items {
				r.item(&b.Items[i])
			}
		}
	}()
}

func (r *playReader) item(item *Item) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if g := item.Gap; g != nil {
		at := r.at[g.Topic]
		if g.Reason != protocol.GapDeleted || at.epoch == g.Epoch && g.From > at.offset+1 {
			r.play.t.Errorf("reader of %v: gap %+v behind %+v", r.topics, *g, at)
		}
		r.at[g.Topic] = place{g.Epoch, g.To}
		return
	}
	e := item.Event
	at, seen := r.at[e.Topic]
	switch {
	case at.epoch == e.Epoch && e.Offset != at.offset+1,
		at.epoch > e.Epoch,
		seen && at.epoch < e.Epoch && e.Offset != 1,
		!seen && r.whole && e.Offset != 1:
		r.play.t.Errorf("reader of %v: event %d of %s (epoch %d) behind %+v", r.topics, e.Offset, e.Topic, e.Epoch, at)
	}
	r.at[e.Topic] = place{e.Epoch, e.Offset}
}

// comeBack has a reader go on with its cursor, as another one.
func (p *play) comeBack() {
	if len(p.readers) == 0 {
		return
	}
	r := p.readers[p.rand.IntN(len(p.readers))]
	r.leave()
	<-r.done
	cursor := r.sub.Cursor()
	r.sub.Close()
	time.Sleep(p.pause())
	start, err := protocol.ParseStart(cursor, time.Now())
	if err != nil {
		p.t.Fatal(err)
	}
	r.open(start)
	r.run()
}

func (p *play) gone() {
	if len(p.readers) == 0 {
		return
	}
	i := p.rand.IntN(len(p.readers))
	r := p.readers[i]
	r.leave()
	<-r.done
	r.sub.Close()
	p.readers = slices.Delete(p.readers, i, i+1)
}

func (p *play) pause() time.Duration {
	return []time.Duration{0, 0, 0, time.Millisecond, time.Millisecond, 100 * time.Millisecond, time.Second, 15 * time.Second}[p.rand.IntN(8)]
}

func (p *play) step() {
	node := fmt.Sprint("n", p.rand.IntN(3))
	switch n := p.rand.IntN(100); {
	case n < 50:
		for range 1 + p.rand.IntN(8) {
			p.publish()
		}
	case n < 60:
		p.followers()
	case n < 70:
		p.subscribe()
	case n < 76:
		p.comeBack()
	case n < 80:
		p.gone()
	case n < 84:
		p.delete()
	case n < 87:
		p.lead(p.rand.IntN(3))
	case n < 88:
		p.lead(-1)
	case n < 91:
		p.link.set(node, false)
	case n < 95:
		p.link.set(node, true)
	case n < 97:
		p.link.slow(true)
	default:
		p.link.slow(false)
	}
	time.Sleep(p.pause())
}

// heal brings everything back and gives it time.
func (p *play) heal() {
	p.link.slow(false)
	for id := range 3 {
		p.link.set(fmt.Sprint("n", id), true)
	}
	if p.leaderBroker() == nil {
		p.lead(p.rand.IntN(3))
	}
	for range 50 {
		p.followers()
	}
	time.Sleep(30 * time.Second)
}

// check wants every reader to be where its topics are.
func (p *play) check() {
	for _, r := range p.readers {
		r.mu.Lock()
		for name, t := range p.topics {
			at, seen := r.at[name]
			began := r.begun[name]
			if !slices.ContainsFunc(r.sub.selectors, func(sel protocol.Selector) bool { return sel.Match(name) }) || !t.exists || !seen && !r.whole && (!r.settled || began.exists && began.epoch == t.epoch && began.last == t.last) {
				continue // nothing has come since it began
			}
			if at != (place{t.epoch, t.last}) {
				p.t.Errorf("reader of %v has %s up to %+v, want epoch %d, offset %d (began at %+v)", r.topics, name, at, t.epoch, t.last, began)
			}
		}
		r.mu.Unlock()
	}
}

// TestReadersOfAFeedGetEachEventOnceInOrderWhateverHappens runs random plays;
// PUSHD_CHAOS=long makes it 2,000.
func TestReadersOfAFeedGetEachEventOnceInOrderWhateverHappens(t *testing.T) {
	seeds := 60
	if os.Getenv("PUSHD_CHAOS") == "long" {
		seeds = 2000
	}
	for seed := range uint64(seeds) {
		synctest.Test(t, func(t *testing.T) {
			p := newPlay(t, seed)
			for range 120 {
				p.step()
			}
			p.heal()
			p.check()
			p.close()
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		})
	}
}
