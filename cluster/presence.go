package cluster

import (
	"container/heap"
	"context"
	"log/slog"
	"maps"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pushd/pushd/protocol"
)

// PresenceOptions configure a [Presence].
type PresenceOptions struct {
	Cluster *Cluster
	Calls   Calls
	Log     *slog.Logger // nil discards
}

// Calls asks other nodes; a [Link] is one.
type Calls interface {
	Call(ctx context.Context, nodeID string, method uint8, req []byte) ([]byte, error)
}

// Methods of [Calls], answered by [Presence.ServeCall].
const (
	MethodPresenceTally   uint8 = 190 + iota // how many members a node has in each topic
	MethodPresenceMembers                    // a node's members of some topics
)

// Presence is who is in which topic, at all nodes. See DESIGN.md for how it
// spreads.
type Presence struct {
	cluster *Cluster
	calls   Calls
	log     *slog.Logger
	wake    chan struct{} // capacity 1: there is something to do
	started time.Time
	stop    context.CancelFunc
	running context.Context
	wg      sync.WaitGroup
	asks    atomic.Uint64 // questions to other nodes
	unheard atomic.Uint64 // those without an answer

	mu        sync.Mutex // guards what follows
	closed    bool
	self      *replica
	replicas  map[uint64]*replica // the others, those that died not long ago too
	roster    roster
	audiences map[string]*audience
	byKey     map[uint64]*audience
	touched   map[*audience]struct{} // those with something to tell
	lingers   lingers
	spread    spread
}

// StartPresence begins to gossip about members. A cluster has one at most.
func StartPresence(o PresenceOptions) *Presence {
	p := &Presence{
		cluster: o.Cluster, calls: o.Calls, log: o.Log, wake: make(chan struct{}, 1), started: time.Now(),
		replicas: map[uint64]*replica{}, roster: roster{}, audiences: map[string]*audience{}, byKey: map[uint64]*audience{},
		touched: map[*audience]struct{}{}, spread: spread{dirty: map[uint64]tallyItem{}},
	}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	self := o.Cluster.Self()
	p.self = &replica{id: replicaID(&self), node: self.ID, name: self.Name, tally: newTally()}
	p.running, p.stop = context.WithCancel(context.Background())
	o.Cluster.presence.Store(p)
	p.wg.Go(p.run)
	return p
}

// Close ends it without a word: the others learn of it as of any death.
func (p *Presence) Close() {
	p.cluster.presence.Store(nil)
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.stop()
	p.wg.Wait()
}

// Attendance is one connection's presence in a topic.
type Attendance struct {
	presence *Presence
	member   *localMember
	watcher  *watcher
	topic    string
	once     sync.Once
}

// Join makes a member present in topics by one more connection, or with the id
// "" nobody. tell, if it is not nil, gets what changes from then on, one change
// at a time; it must not block; then the first members of each topic, itself
// among them, are returned, too. info nil keeps what another connection said, by
// way of whichever node.
func (p *Presence) Join(ctx context.Context, topics []string, id string, info []byte, tell func(*protocol.PresenceChange)) ([]*Attendance, []protocol.PresenceList) {
	joined := make([]*Attendance, len(topics))
	p.mu.Lock()
	for i, topic := range topics {
		joined[i] = &Attendance{presence: p, topic: topic}
		if id != "" {
			joined[i].member = p.connect(topic, id, info, time.Now())
		}
	}
	p.mu.Unlock()
	if tell == nil {
		return joined, nil
	}
	p.settle(ctx, topics...)
	lists := make([]protocol.PresenceList, len(topics))
	for i, topic := range topics {
		joined[i].watcher, lists[i] = p.watch(topic, protocol.DefaultPageEvents, tell)
	}
	return joined, lists
}

// watch begins to tell of changes behind the list that it returns.
func (p *Presence) watch(topic string, limit int, tell func(*protocol.PresenceChange)) (*watcher, protocol.PresenceList) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w, now := &watcher{tell: tell}, time.Now()
	a := p.audience(topic, now)
	a.watch(w, now, p.names)
	p.touch(a)
	return w, a.list("", limit, p.names)
}

// Update replaces what the member says of itself.
func (a *Attendance) Update(info []byte) {
	p := a.presence
	if a.member == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	a.member.presence.say(info, time.Now())
	p.changed(a.member)
}

// Leave ends the presence, or lets it linger for a time in which the member may
// come back unnoticed. More calls than one do nothing.
func (a *Attendance) Leave(grace time.Duration) { a.once.Do(func() { a.presence.leave(a, grace) }) }

func (p *Presence) leave(a *Attendance, grace time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.unwatch(a.topic, a.watcher, now)
	if a.member == nil {
		return
	}
	if grace <= 0 {
		p.disconnect(a.member)
		return
	}
	l := &linger{at: now.Add(grace), member: a.member}
	a.member.lingering = append(a.member.lingering, l)
	heap.Push(&p.lingers, l)
	p.signal()
}

func (p *Presence) unwatch(topic string, w *watcher, now time.Time) {
	a := p.audiences[topic]
	if a == nil || w == nil {
		return
	}
	if a.unwatch(w); len(a.watchers) == 0 {
		a.idle = now
	}
}

// Watch tells of changes in a topic without a member, until stop.
func (p *Presence) Watch(ctx context.Context, topic string, tell func(*protocol.PresenceChange)) (list protocol.PresenceList, stop func()) {
	p.settle(ctx, topic)
	w, list := p.watch(topic, math.MaxInt32, tell)
	return list, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.unwatch(topic, w, time.Now())
	}
}

// List is a page of a topic's members behind an id.
func (p *Presence) List(ctx context.Context, topic, after string, limit int) protocol.PresenceList {
	p.settle(ctx, topic)
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.audience(topic, time.Now()).list(after, limit, p.names)
}

// Count is how many members a topic has. Where only one node has any, gossip
// says it; else their lists are compared.
func (p *Presence) Count(ctx context.Context, topic string) int {
	p.mu.Lock()
	key := topicKey(topic)
	nodes, count := 0, 0
	all := true // who counts is known by name, or can be asked
	for r := range p.alive {
		if n := r.tally.count(key); n > 0 {
			nodes, count = nodes+1, n
			all = all && r.left.IsZero()
		}
	}
	p.mu.Unlock()
	if nodes < 2 && all {
		return count
	}
	return p.List(ctx, topic, "", 0).Count
}

// Topics lists the topics with members by way of this node, in no order.
func (p *Presence) Topics() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Keys(p.roster))
}

// PresenceStats are figures of this node's.
type PresenceStats struct {
	Topics, Members int    // with members by way of this node; members once per topic
	Followed        int    // topics whose members at all nodes are followed
	Behind          int    // nodes of which something is missing here
	Changes         uint64 // of members by way of this node, since it started
	Asked, Unheard  uint64 // questions to other nodes; those without an answer
}

// Stats counts.
func (p *Presence) Stats() PresenceStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := PresenceStats{
		Topics: len(p.roster), Followed: len(p.audiences), Changes: p.self.tally.have,
		Asked: p.asks.Load(), Unheard: p.unheard.Load(),
	}
	for _, t := range p.roster {
		s.Members += len(t.members)
	}
	for _, r := range p.replicas {
		if r.reachable() && !r.behind.IsZero() {
			s.Behind++
		}
	}
	return s
}

// RollCall is a topic's members, and what their list is good for. listed: who was
// in it while it was followed, and is not any more, is nowhere: this node has had
// time to find the others, has heard from all that live, and has their members.
// all: who was never in it is nowhere, either: it has been followed for so long
// that whoever was moving from a node that stopped before has arrived.
func (p *Presence) RollCall(ctx context.Context, topic string) (list protocol.PresenceList, listed, all bool) {
	p.settle(ctx, topic)
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	a := p.audience(topic, now)
	listed = p.complete(a) && now.Sub(p.started) >= settleAfter
	for _, r := range p.replicas {
		listed = listed && (!r.reachable() || r.heard == r.lives && r.tally.fresh == nil)
	}
	return a.list("", math.MaxInt32, p.names), listed, listed && now.Sub(a.began) >= farewellGrace
}

// connect is called with mu held, as is everything below. Who is new here may
// come from another node, which is asked then.
func (p *Presence) connect(topic, id string, info []byte, now time.Time) *localMember {
	m, news := p.roster.connect(topic, p.self.tally.have, id, info, now)
	if m.version == 0 && p.elsewhere(m.topic.key) {
		p.audience(topic, now)
	}
	if p.adopt(m) || news {
		p.changed(m)
	}
	return m
}

// elsewhere says whether a topic has members by way of other nodes.
func (p *Presence) elsewhere(key uint64) bool {
	for r := range p.alive {
		if r != p.self && r.tally.count(key) > 0 {
			return true
		}
	}
	return false
}

// adopt lets a member go on here with what it said by way of other nodes, and
// since when it is there, since these may lose it any time; it says whether that
// is news.
func (p *Presence) adopt(m *localMember) (news bool) {
	a := p.audiences[m.topic.name]
	if a == nil {
		return false
	}
	at, ok := a.find(m.presence.id)
	return ok && m.presence.adopt(a.members[at].sources)
}

func (p *Presence) disconnect(m *localMember) {
	p.roster.disconnect(m)
	p.changed(m)
}

// changed makes a change of a member here known.
func (p *Presence) changed(m *localMember) {
	it := p.self.tally.set(m.topic.key, uint32(len(m.topic.members)))
	p.spread.dirty[it.key] = it
	m.touched(it.version)
	if a := p.audiences[m.topic.name]; a != nil {
		if m.presence.connections > 0 {
			a.put(p.self.id, m.presence, p.names)
		} else {
			a.drop(p.self.id, m.presence.id, p.names)
		}
		p.touch(a)
	}
	p.signal()
}

// audience is that of a topic, made if need be.
func (p *Presence) audience(topic string, now time.Time) *audience {
	if a := p.audiences[topic]; a != nil {
		a.idle = now
		return a
	}
	a := newAudience(topic, topicKey(topic), now)
	p.audiences[topic], p.byKey[a.key] = a, a
	if t := p.roster[topic]; t != nil {
		for _, m := range t.members {
			a.put(p.self.id, m.presence, p.names)
		}
	}
	for _, r := range p.replicas {
		p.want(r, a)
	}
	return a
}

// touch lets the watchers be told what is pending.
func (p *Presence) touch(a *audience) {
	if a.schedule(time.Now()); len(a.pending) > 0 || len(a.closed) > 0 {
		p.touched[a] = struct{}{}
		p.signal()
	}
}

func (p *Presence) names(replica uint64) string {
	if replica == p.self.id {
		return p.self.name
	}
	if r := p.replicas[replica]; r != nil {
		return r.name
	}
	return ""
}

// signal wakes the goroutine that does what is to be done.
func (p *Presence) signal() {
	select {
	case p.wake <- struct{}{}:
	default: // it is signalled already
	}
}

// lingers is a heap of the connections that may come back, soonest first.
type lingers []*linger

func (l lingers) Len() int           { return len(l) }
func (l lingers) Less(i, j int) bool { return l[i].at.Before(l[j].at) }
func (l lingers) Swap(i, j int)      { l[i], l[j] = l[j], l[i] }
func (l *lingers) Push(x any)        { *l = append(*l, x.(*linger)) }
func (l *lingers) Pop() any {
	last := len(*l) - 1
	x := (*l)[last]
	(*l)[last], *l = nil, (*l)[:last]
	return x
}
