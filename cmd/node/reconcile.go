package node

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"
)

// reconcile holds the node to the catalog until ctx ends: see the package
// comment.
func (n *Node) reconcile(ctx context.Context) {
	gossip, stop := n.gossip.Watch()
	defer stop()
	tick := time.NewTicker(reconcilePeriod)
	defer tick.Stop()
	for ctx.Err() == nil {
		n.resetRotten()
		n.followCatalog()
		if !n.stopping.Load() { // then it only gives away what it leads
			if n.metaGroup.IsLeader() {
				n.leadMeta(ctx)
			}
			n.leadPartitions(ctx)
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

// leadPartitions does what leaders do, for all at once: one group's change may
// take its time without holding up the others.
func (n *Node) leadPartitions(ctx context.Context) {
	var wg sync.WaitGroup
	for _, p := range n.groups.ids() {
		if r, ok := n.groups.get(p); ok && r.IsLeader() {
			wg.Go(func() { n.leadPartition(ctx, p, r) })
		}
	}
	wg.Wait()
}

// followCatalog opens the groups that the catalog gives to this node, and those
// that are on its disk: they may still be counted on. Those that it takes away are
// dropped by dropStrays.
func (n *Node) followCatalog() {
	catalog := n.meta.Catalog()
	if catalog.ClusterID == "" {
		return
	}
	n.broker.SetCatalog(catalog)
	n.absent.update(catalog, n.gossip.Nodes(), time.Now())
	n.forgetRemoved(catalog)
	stored := n.store.Groups()
	for id, replicas := range catalog.Partitions {
		p := uint16(id)
		if _, open := n.groups.get(p); open || !slices.Contains(replicas, n.home.NodeID) && !slices.Contains(stored, groupOf(p)) {
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
	r := &replica{Group: g, store: n.store, self: n.home.NodeID}
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
	following := map[string][]uint16{} // by leader
	for _, p := range n.groups.stale() {
		lacking = true
		r, ok := n.groups.get(p)
		if !ok {
			continue
		}
		if r.IsLeader() {
			ctx, cancel := context.WithTimeout(ctx, statusTimeout)
			r.current.Store(r.Barrier(ctx) == nil)
			cancel()
		} else if goal := r.goal.Load(); goal > 0 {
			r.current.Store(n.broker.Position(p) >= goal-1)
		} else if leader, known := r.Leader(); known {
			following[leader] = append(following[leader], p)
		}
	}
	var wg sync.WaitGroup
	for leader, partitions := range following {
		wg.Go(func() { n.compare(ctx, leader, partitions) })
	}
	wg.Wait()
	return lacking
}

// compare asks a leader how far its partitions are: this node's replicas are
// current once they are as far.
func (n *Node) compare(ctx context.Context, leader string, partitions []uint16) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	answer, err := n.link.Call(ctx, leader, methodReport, nil)
	var theirs report
	if err != nil || json.Unmarshal(answer, &theirs) != nil {
		return
	}
	for _, p := range partitions {
		r, ok := n.groups.get(p)
		position, led := positionAt(theirs, groupOf(p))
		if ok && led {
			r.goal.Store(position + 1)
			r.current.Store(n.broker.Position(p) >= position)
		}
	}
}

// positionAt is how far a node is that says itself that it leads the group.
func positionAt(r report, group uint16) (position uint64, led bool) {
	for _, g := range r.Groups {
		if g.Group == group && g.Leader == r.Node {
			return g.Position, true
		}
	}
	return 0, false
}
