package node

import (
	"maps"
	"sync"
	"time"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/cluster"
)

// absences remembers since when registered nodes have been away. Gossip knows it
// of those that it has seen; one that never came back after this node's own
// start is away since then.
type absences struct {
	mu    sync.Mutex // guards since
	since map[string]time.Time
}

// update notes who is there and who is not.
func (a *absences) update(catalog *broker.Catalog, known []cluster.Node, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	before := a.since
	a.since = map[string]time.Time{}
	for id := range catalog.Nodes {
		a.since[id] = now
		if at, ok := before[id]; ok {
			a.since[id] = at
		}
	}
	for _, peer := range known {
		at, registered := a.since[peer.ID]
		switch {
		case !registered:
		case peer.State.Alive():
			delete(a.since, peer.ID)
		case !peer.Gone.IsZero() && peer.Gone.Before(at): // zero while it is not settled that it went
			a.since[peer.ID] = peer.Gone
		}
	}
}

// longer lists the nodes that have been away for longer than a grace.
func (a *absences) longer(grace time.Duration, now time.Time) map[string]bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	gone := map[string]bool{}
	for id, at := range a.since {
		if now.Sub(at) > grace {
			gone[id] = true
		}
	}
	return gone
}

// gone lists the nodes that nobody waits for: those that were away for too long,
// and those that are to leave.
func (n *Node) gone(catalog *broker.Catalog) map[string]bool {
	gone := n.absent.longer(n.cfg.ReplaceAfter, time.Now())
	for id, entry := range catalog.Nodes {
		if entry.Leaving {
			gone[id] = true
		}
	}
	return gone
}

// noteGone tells the operator of nodes that are replaced from now on, once.
func (n *Node) noteGone(catalog *broker.Catalog, gone map[string]bool) {
	for id := range gone {
		if !n.reported[id] && !catalog.Nodes[id].Leaving {
			n.log.Warn("node is away for too long; its replicas go to others where there are any", "node", n.nodeName(id), "after", n.cfg.ReplaceAfter.String())
		}
	}
	n.reported = maps.Clone(gone)
}
