package node

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/pushd/pushd/cluster"
)

// A leader whose process is frozen, or that is cut off, is found by Raft only
// when all followers have waited for it one after the other: a second and more.
// A node that leads sends something every few dozen milliseconds, so that its
// silence shows much earlier. Who notices it calls the leader, and asks the
// others whether they hear it: one that is cut off from this node alone keeps
// its lead, or two that can't reach each other would take it from one another
// for ever.

// silence is for how long a node has heard nothing from another.
type silence struct {
	For   time.Duration `json:"for"`
	Known bool          `json:"known"`
}

// watchSilence replaces leaders that say nothing, until ctx ends.
func (n *Node) watchSilence(ctx context.Context) {
	tick := time.NewTicker(silenceLook)
	defer tick.Stop()
	next := map[string]time.Time{} // when a node may be called again
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, peer := range n.gossip.Nodes() {
			silent, known := n.store.Silence(peer.ID)
			if !known || silent < silentFor || time.Now().Before(next[peer.ID]) || !n.store.Leads(peer.ID) {
				continue
			}
			lost := n.lost(ctx, peer.ID)
			next[peer.ID] = time.Now().Add(silenceLook)
			if lost {
				next[peer.ID] = time.Now().Add(silenceRest)
				n.log.Warn("leader says nothing and does not answer; others take over", "node", peer.Name, "silent", silent.Round(time.Millisecond).String())
				n.store.Succeed(peer.ID)
				n.askAll(ctx, callFor, methodSucceed, []byte(peer.ID))
			}
		}
	}
}

// lost says whether a silent node does not answer, and nobody else hears it.
func (n *Node) lost(ctx context.Context, id string) bool {
	ctx, cancel := context.WithTimeout(ctx, callFor)
	defer cancel()
	answers := make(chan bool, 1)
	go func() { answers <- n.othersHear(ctx, id) }()
	conn, err := n.link.Dial(ctx, id, cluster.KindRaft)
	if err == nil {
		_ = conn.Close()
		return false
	}
	silent, _ := n.store.Silence(id)
	return !<-answers && silent >= silentFor
}

// othersHear says whether another node has heard from that one lately. Without
// the word of most nodes it is taken for so. Those of the role edge are not asked:
// most leaders say nothing to them at all.
func (n *Node) othersHear(ctx context.Context, id string) bool {
	full := slices.DeleteFunc(n.gossip.Nodes(), func(peer cluster.Node) bool { return peer.Role == roleEdge })
	agree := 1
	for _, answer := range n.ask(ctx, callFor, full, methodSilence, []byte(id)) {
		var s silence
		if json.Unmarshal(answer, &s) != nil {
			continue
		}
		if s.Known && s.For < heardLately {
			return true
		}
		agree++
	}
	known := 0
	for _, entry := range n.meta.Catalog().Nodes {
		if entry.Role != roleEdge {
			known++
		}
	}
	return agree <= known/2
}

// succeed is asked by a node that has found a leader to be lost: so all stand in
// their turn, and not each when its own call has ended, which may be another's turn.
func (n *Node) succeed(id string) {
	if silent, known := n.store.Silence(id); known && silent >= heardLately {
		n.store.Succeed(id)
	}
}
