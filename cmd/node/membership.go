package node

import (
	"context"
	"slices"
	"time"

	"github.com/pushd/pushd/cluster"
	"github.com/pushd/pushd/raftstore"
)

// membership is who a group ought to consist of.
type membership struct {
	group  *raftstore.Group
	want   []string             // nodes; the first voters of them are to vote
	voters int                  // how many
	mayAdd func(id string) bool // nil: each that is reachable
}

// leadPartition takes the group one step nearer to its replicas in the catalog.
func (n *Node) leadPartition(ctx context.Context, p uint16, r *replica) {
	catalog := n.meta.Catalog()
	if int(p) >= len(catalog.Partitions) {
		return
	}
	want := catalog.Partitions[p]
	m := membership{r.Group, want, len(want), func(id string) bool { return !r.releases.recent(id) }}
	if !n.converge(ctx, m) {
		n.preferLeader(ctx, p, r.Group, want)
	}
}

// converge does one change: learners first, a vote when they have caught up,
// removals last, so that the group never has fewer voters than wanted by our own
// doing. It says whether it changed, or still waits for, something.
func (n *Node) converge(ctx context.Context, m membership) (busy bool) {
	if n.retire(ctx, m.group) {
		return true
	}
	votes, have := votesOf(m.group)
	voting := 0
	for _, id := range m.want[:min(m.voters, len(m.want))] {
		if votes[id] {
			voting++
		}
	}
	for _, id := range m.want {
		switch {
		case !have[id] && n.reachable(id) && (m.mayAdd == nil || m.mayAdd(id)):
			return n.change(ctx, m.group, "add replica", id, m.group.AddLearner)
		case have[id] && !votes[id] && voting < m.voters:
			if n.caughtUp(m.group, id) {
				return n.change(ctx, m.group, "promote replica", id, m.group.Promote)
			}
			busy = true
		}
	}
	return n.removeOne(ctx, m, voting) || busy
}

// removeOne removes a replica that is not wanted, once all that are to vote do:
// those without a vote first. A leader that is to go hands over first.
func (n *Node) removeOne(ctx context.Context, m membership, voting int) bool {
	if voting < min(m.voters, len(m.want)) {
		return false
	}
	var extra []raftstore.Replica
	for _, r := range m.group.Replicas() {
		if !slices.Contains(m.want, r.NodeID) {
			extra = append(extra, r)
		}
	}
	if len(extra) == 0 {
		return false
	}
	id := extra[max(0, slices.IndexFunc(extra, func(r raftstore.Replica) bool { return !r.Voter }))].NodeID
	if id == n.home.NodeID {
		return n.change(ctx, m.group, "hand over", m.want[0], n.transfer(m.group))
	}
	return n.change(ctx, m.group, "remove replica", id, m.group.Remove)
}

// preferLeader hands the group to the first replica in the catalog, so that
// leaders are spread as the placement spread them.
func (n *Node) preferLeader(ctx context.Context, p uint16, g *raftstore.Group, want []string) {
	first := want[0]
	if first == n.home.NodeID || !n.mayLead(first) || !n.caughtUp(g, first) || !n.transferred.due(time.Now()) {
		return
	}
	if n.change(ctx, g, "hand over", first, n.transfer(g)) {
		n.log.Info("leadership handed to the preferred replica", "partition", p, "node", n.nodeName(first))
	}
}

// mayLead says whether a node can be given leaders: not one that gives its own
// away.
func (n *Node) mayLead(id string) bool {
	peer, ok := n.gossip.Node(id)
	return ok && peer.State == cluster.StateAlive && !n.draining.has(peer)
}

// caughtUp says whether a follower answered just now and lacks nothing that was
// there when it did, or so little that it is on its way.
func (n *Node) caughtUp(g *raftstore.Group, id string) bool {
	const entries = 16
	progress, ok := g.Progress()[id]
	return ok && time.Since(progress.At) < caughtUpWithin && progress.Acked+entries >= g.LastIndex()
}

// change does one change to a group's replicas. A failure is not final: the
// next pass starts from what is there then.
func (n *Node) change(ctx context.Context, g *raftstore.Group, what, id string, do func(context.Context, string) error) bool {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	if err := do(ctx, id); err != nil {
		n.log.Debug("change to a group's replicas failed", "what", what, "group", g.ID(), "node", n.nodeName(id), "err", err)
		return false
	}
	return true
}

func (n *Node) reachable(id string) bool {
	if id == n.home.NodeID {
		return true
	}
	peer, ok := n.gossip.Node(id)
	return ok && peer.State.Alive()
}

func (n *Node) nodeName(id string) string {
	if peer, ok := n.gossip.Node(id); ok {
		return peer.Name
	}
	if entry, ok := n.meta.Catalog().Nodes[id]; ok {
		return entry.Name
	}
	return id
}
