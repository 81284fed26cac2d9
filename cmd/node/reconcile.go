package node

import (
	"context"
	"slices"
	"time"

	"github.com/pushd/pushd/raftstore"
)

// reconcile holds the node to the catalog until ctx ends: see the package
// comment.
func (n *Node) reconcile(ctx context.Context) {
	gossip, stop := n.gossip.Watch()
	defer stop()
	tick := time.NewTicker(reconcilePeriod)
	defer tick.Stop()
	for ctx.Err() == nil {
		n.followCatalog()
		if n.metaGroup.IsLeader() {
			n.leadMeta(ctx)
		}
		for _, p := range n.groups.ids() {
			if r, ok := n.groups.get(p); ok && r.IsLeader() {
				n.leadPartition(ctx, p, r.Group)
			}
		}
		tick.Reset(reconcilePeriod)
		if n.catchUp(ctx) {
			tick.Reset(catchUpPeriod)
		}
		select {
		case <-ctx.Done():
		case <-gossip:
		case <-n.meta.Changes():
		case <-n.metaGroup.Changes():
		case <-tick.C:
		}
	}
}

// followCatalog opens the groups that the catalog gives to this node. Groups
// that it takes away are dropped when their leader says that they are removed.
func (n *Node) followCatalog() {
	catalog := n.meta.Catalog()
	if catalog.ClusterID == "" {
		return
	}
	n.broker.SetCatalog(catalog)
	for id, replicas := range catalog.Partitions {
		p := uint16(id)
		if _, open := n.groups.get(p); open || !slices.Contains(replicas, n.home.NodeID) {
			continue
		}
		if err := n.openPartition(p); err != nil {
			n.fail(err)
			return
		}
	}
	n.noteFounded(len(catalog.Partitions))
}

// openPartition starts this node's replica. Only the founder starts groups from
// nothing, and only once in the life of its data directory.
func (n *Node) openPartition(p uint16) error {
	var bootstrap []string
	if n.home.Founder && !n.home.Founded {
		bootstrap = []string{n.home.NodeID}
	}
	g, err := n.store.OpenGroup(groupOf(p), partitionMachine{n.broker.Partition(p)}, bootstrap)
	if err != nil {
		return err
	}
	r := &replica{Group: g, self: n.home.NodeID}
	n.groups.put(p, r)
	n.broker.OpenPartition(p, r)
	return nil
}

// noteFounded remembers that all groups of a new cluster exist, so that a node
// that lost them later is never taken for their first and only replica.
func (n *Node) noteFounded(partitions int) {
	if !n.home.Founder || n.home.Founded || len(n.groups.ids()) < partitions {
		return
	}
	n.home.Founded = true
	if err := n.home.save(); err != nil {
		n.fail(err)
	}
}

// catchUp looks which replicas have all that their leaders have by now, and says
// whether some still lack it.
func (n *Node) catchUp(ctx context.Context) (lacking bool) {
	stale := n.groups.stale()
	if len(stale) == 0 {
		return false
	}
	var others []report
	for _, p := range stale {
		r, ok := n.groups.get(p)
		if !ok {
			continue
		}
		if r.IsLeader() {
			ctx, cancel := context.WithTimeout(ctx, statusTimeout)
			r.current.Store(r.Barrier(ctx) == nil)
			cancel()
		} else if leader, known := r.Leader(); known {
			if others == nil {
				others = n.reports(ctx)
			}
			position, led := positionAt(others, leader, groupOf(p))
			r.current.Store(led && n.broker.Position(p) >= position)
		}
		lacking = lacking || !r.current.Load()
	}
	return lacking
}

// positionAt is how far a node is that says itself that it leads the group.
func positionAt(reports []report, node string, group uint16) (position uint64, led bool) {
	for _, r := range reports {
		for _, g := range r.Groups {
			if r.Node == node && g.Group == group && g.Leader == node {
				return g.Position, true
			}
		}
	}
	return 0, false
}

// dropPartition forgets a replica that its leader removed.
func (n *Node) dropPartition(p uint16) error {
	if catalog := n.meta.Catalog(); int(p) < len(catalog.Partitions) && slices.Contains(catalog.Partitions[p], n.home.NodeID) {
		return nil // given back meanwhile
	}
	if _, open := n.groups.get(p); !open {
		return nil
	}
	n.groups.delete(p)
	err := n.store.DropGroup(groupOf(p))
	n.broker.ClosePartition(p)
	n.log.Info("replica removed from this node", "partition", p)
	return err
}

// leadPartition takes the group one step nearer to its replicas in the catalog:
// learners first, a vote when they have caught up, removals last, so that the
// group never has fewer voters than wanted by our own doing.
func (n *Node) leadPartition(ctx context.Context, p uint16, g *raftstore.Group) {
	catalog := n.meta.Catalog()
	if int(p) >= len(catalog.Partitions) {
		return
	}
	want := catalog.Partitions[p]
	if n.converge(ctx, g, want, len(want)) {
		return
	}
	if removed := n.removeOne(ctx, g, want); removed != "" {
		n.tellDropped(ctx, removed, p)
		return
	}
	n.preferLeader(ctx, p, g, want)
}

// converge adds or promotes one replica and says whether it changed, or still
// waits for, something.
func (n *Node) converge(ctx context.Context, g *raftstore.Group, want []string, voters int) (busy bool) {
	have := map[string]bool{} // node: has a vote
	votes := 0
	for _, r := range g.Replicas() {
		have[r.NodeID] = r.Voter
		if r.Voter {
			votes++
		}
	}
	for _, id := range want {
		voter, member := have[id]
		switch {
		case !member && n.reachable(id):
			return n.change(ctx, g, "add replica", id, g.AddLearner)
		case member && !voter && votes < voters:
			if n.caughtUp(g, id) {
				return n.change(ctx, g, "promote replica", id, g.Promote)
			}
			busy = true
		}
	}
	return busy
}

// removeOne removes a replica that the catalog does not list, once all that it
// lists have their votes. A leader that is to go hands over first.
func (n *Node) removeOne(ctx context.Context, g *raftstore.Group, want []string) string {
	voters := map[string]bool{}
	for _, r := range g.Replicas() {
		voters[r.NodeID] = r.Voter
	}
	for _, id := range want {
		if !voters[id] {
			return ""
		}
	}
	for id := range voters {
		if slices.Contains(want, id) {
			continue
		}
		if id == n.home.NodeID {
			n.change(ctx, g, "hand over", want[0], g.TransferLeadership)
			return ""
		}
		if n.change(ctx, g, "remove replica", id, g.Remove) {
			return id
		}
		return ""
	}
	return ""
}

// preferLeader hands the group to the first replica in the catalog, so that
// leaders are spread as the placement spread them.
func (n *Node) preferLeader(ctx context.Context, p uint16, g *raftstore.Group, want []string) {
	first := want[0]
	if first == n.home.NodeID || !n.reachable(first) || !n.caughtUp(g, first) || time.Since(n.transferred) < transferPeriod {
		return
	}
	n.transferred = time.Now()
	if n.change(ctx, g, "hand over", first, g.TransferLeadership) {
		n.log.Info("leadership handed to the preferred replica", "partition", p, "node", n.nodeName(first))
	}
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

// tellDropped lets a node forget a replica that was removed from its group,
// which itself no longer tells it anything.
func (n *Node) tellDropped(ctx context.Context, id string, p uint16) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	if _, err := n.link.Call(ctx, id, methodDrop, []byte{byte(p), byte(p >> 8)}); err != nil {
		n.log.Debug("removed replica could not be told", "partition", p, "node", n.nodeName(id), "err", err)
	}
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
