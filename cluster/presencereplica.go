package cluster

import (
	"strconv"
	"time"

	"github.com/pushd/pushd/protocol"
)

// replica is one run of one node: the writer of a tally.
type replica struct {
	id    uint64
	node  string // its id
	name  string
	addr  string // where it gossips
	tally *tally

	down    time.Time              // since when the node is held to be dead; zero: it lives
	left    time.Time              // since when it is stopped or replaced, while its members may come back; zero: it is not
	lives   uint64                 // how often it was found alive: answers from before its death don't count
	heard   uint64                 // in which of its lives it has told all that it had to
	behind  time.Time              // since when something is missing; zero: nothing is
	pulling bool                   // a goroutine asks for what is missing
	wanted  map[*audience]struct{} // whose members are to be asked for
	asking  bool                   // a goroutine asks for them
	pause   time.Time              // until when it is not asked: it did not answer
}

// topicKey is what gossip calls a topic. Two of a million topics have the same
// key with odds of 3 in 100 million.
func topicKey(topic string) uint64 { return protocol.TopicHash(topic) }

// replicaID tells the runs of a node apart.
func replicaID(n *Node) uint64 {
	return protocol.TopicHash(n.ID + "@" + strconv.FormatInt(n.Started.UnixNano(), 36))
}

// alive gives the replicas whose members count, this node's own too.
func (p *Presence) alive(yield func(*replica) bool) {
	if !yield(p.self) {
		return
	}
	for _, r := range p.replicas {
		if r.down.IsZero() && !yield(r) {
			return
		}
	}
}

// follow takes over who lives and who does not. mu is not held.
func (p *Presence) follow(now time.Time) {
	nodes := p.cluster.Nodes()
	p.mu.Lock()
	defer p.mu.Unlock()
	seen := make(map[uint64]struct{}, len(nodes))
	for i := range nodes {
		n := &nodes[i]
		if n.ID == p.self.node {
			continue
		}
		id := replicaID(n)
		seen[id] = struct{}{}
		r := p.replicas[id]
		if r != nil {
			r.addr = n.GossipAddr
		}
		switch {
		case n.State.Alive() && (r == nil || !r.reachable()):
			p.up(n, id, now)
		case n.State == StateLeft && r != nil && r.reachable():
			p.farewell(r, now)
		case !n.State.Alive() && r != nil && r.reachable():
			p.down(r, now)
		}
	}
	for id, r := range p.replicas {
		if _, ok := seen[id]; !ok && r.reachable() {
			p.farewell(r, now) // a new run of the node has taken its place
		}
		if !r.down.IsZero() && now.Sub(r.down) > keepDown {
			delete(p.replicas, id)
		}
	}
}

// up is a node that is new, or was not dead after all: then its members are
// back, and what it did meanwhile is asked for.
func (p *Presence) up(n *Node, id uint64, now time.Time) {
	r := p.replicas[id]
	if r == nil {
		if len(p.replicas) >= maxReplicas {
			return
		}
		r = &replica{id: id, node: n.ID, addr: n.GossipAddr, tally: newTally(), wanted: map[*audience]struct{}{}}
		p.replicas[id] = r
	}
	r.name, r.down, r.left, r.lives = n.Name, time.Time{}, time.Time{}, r.lives+1
	r.behind = now.Add(-pullAfter) // at once: what its newest version is will turn out
	for _, a := range p.audiences {
		p.want(r, a)
	}
	p.signal()
}

// reachable says whether there is anybody to talk to.
func (r *replica) reachable() bool { return r.down.IsZero() && r.left.IsZero() }

// farewell is a node that stopped: its members stay for a moment, in which they
// come back by way of others. For one that was found dead that moment is over.
func (p *Presence) farewell(r *replica, now time.Time) {
	r.left = now
	clear(r.wanted)
	for _, a := range p.audiences {
		p.caughtUp(a)
	}
	p.signal()
}

// down is a node that died: its members leave.
func (p *Presence) down(r *replica, now time.Time) {
	r.down = now
	clear(r.wanted)
	for _, a := range p.audiences {
		if a.sources[r.id] != nil {
			a.forget(r.id, p.names)
			p.touch(a)
		}
		p.caughtUp(a)
	}
}

// want asks a node for its members of a topic, if it has any that are not here.
func (p *Presence) want(r *replica, a *audience) {
	e := r.tally.entries[a.key]
	v := a.sources[r.id]
	switch {
	case !r.reachable():
	case e.count == 0:
		delete(r.wanted, a)
		if v != nil && v.have < e.version {
			a.forget(r.id, p.names)
			p.touch(a)
		}
		p.caughtUp(a)
	case v == nil || v.have < e.version || v.started > 0:
		r.wanted[a] = struct{}{}
		p.signal()
	}
}

// complete says whether all that the others have told of is here.
func (p *Presence) complete(a *audience) bool {
	for r := range p.alive {
		if r == p.self || !r.reachable() {
			continue
		}
		if _, waiting := r.wanted[a]; waiting {
			return false
		}
		if e, v := r.tally.entries[a.key], a.sources[r.id]; e.count > 0 && (v == nil || v.have < e.version || v.started > 0) {
			return false
		}
	}
	return true
}

// caughtUp lets those go on who wait for an audience to be complete.
func (p *Presence) caughtUp(a *audience) {
	if a.moved != nil && p.complete(a) {
		close(a.moved)
		a.moved = nil
	}
}
