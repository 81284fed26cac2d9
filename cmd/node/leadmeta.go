package node

import (
	"context"
	"crypto/rand"
	"slices"
	"strings"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/cluster"
	"github.com/pushd/pushd/raftstore"
)

// leadMeta is what the meta group's leader does for the whole cluster: found
// it, register who gossips, give the catalog's own group its replicas, and
// place the partitions'. What partitions' leaders do about it is theirs.
func (n *Node) leadMeta(ctx context.Context) {
	if n.meta.Catalog().ClusterID == "" {
		n.found(ctx)
		return
	}
	known := n.gossip.Nodes()
	n.register(ctx, known)
	catalog := n.meta.Catalog()
	gone := n.gone(catalog)
	n.noteGone(catalog, gone)
	n.place(ctx, gone)
	if gone[n.home.NodeID] && n.handMetaOver(ctx, gone) {
		return
	}
	n.finishLeaving(ctx, gone)
	members, voters := n.metaMembers(n.meta.Catalog(), gone)
	n.converge(ctx, membership{group: n.metaGroup, want: members, voters: voters})
}

// found makes the catalog of a new cluster.
func (n *Node) found(ctx context.Context) {
	if !n.home.Founder || n.home.Founded {
		return // the catalog is there, and only has to be read yet
	}
	key := make([]byte, cursorKeyBytes)
	_, _ = rand.Read(key) // which never fails
	n.propose(ctx, "found cluster", broker.CreateCluster{
		ClusterID: n.home.ClusterID, CursorKey: key, Partitions: n.cfg.Partitions,
		Node: broker.PutNode{ID: n.home.NodeID, Name: n.cfg.NodeName, Zone: n.cfg.Zone, Role: n.cfg.Role},
	})
}

// register writes who gossips into the catalog, and sends away who was removed.
func (n *Node) register(ctx context.Context, known []cluster.Node) {
	catalog := n.meta.Catalog()
	for _, peer := range known {
		entry, ok := catalog.Nodes[peer.ID]
		switch {
		case !peer.State.Alive():
		case slices.Contains(catalog.Removed, peer.ID):
			n.sendAway(ctx, peer.ID)
		case !ok || entry.Name != peer.Name || entry.Zone != peer.Zone || entry.Role != peer.Role:
			n.propose(ctx, "register node "+peer.Name, broker.PutNode{ID: peer.ID, Name: peer.Name, Zone: peer.Zone, Role: peer.Role})
		}
	}
}

// metaMembers are all nodes that live or will be back, since each needs the
// catalog, and how many of the first are to vote. Those that vote already come
// first, so that votes do not wander; then votes are spread over zones. Those that
// are down and will be back count, too: the vote of one that leaves is not given up for want of theirs.
func (n *Node) metaMembers(catalog *broker.Catalog, gone map[string]bool) (members []string, voters int) {
	var voting, full, down, others []cluster.Node
	votes, have := votesOf(n.metaGroup)
	for _, peer := range n.registered(catalog) {
		switch {
		case gone[peer.ID] && !peer.State.Alive():
		case votes[peer.ID] && !gone[peer.ID]:
			voting = append(voting, peer)
		case peer.Role == roleEdge || gone[peer.ID]:
			if peer.State.Alive() || have[peer.ID] {
				others = append(others, peer)
			}
		case !peer.State.Alive():
			down = append(down, peer)
		default:
			full = append(full, peer)
		}
	}
	voters = metaVotes(len(voting) + len(full) + len(down))
	for len(full) > 0 && len(voting) < voters {
		at := nextZone(voting, full)
		voting = append(voting, full[at])
		full = slices.Delete(full, at, at+1)
	}
	later := max(0, min(len(down), voters-len(voting)))
	voting = append(voting, down[:later]...)
	down = slices.DeleteFunc(down[later:], func(peer cluster.Node) bool { return !have[peer.ID] })
	for _, peer := range slices.Concat(voting, full, down, others) {
		members = append(members, peer.ID)
	}
	return members, voters
}

// registered are the nodes of the catalog. One that gossip has not seen since
// this node's own start is down, for all that is known: not one to be removed.
func (n *Node) registered(catalog *broker.Catalog) (nodes []cluster.Node) {
	for id, entry := range catalog.Nodes {
		peer, seen := n.gossip.Node(id)
		if !seen {
			peer = cluster.Node{ID: id, Name: entry.Name, Role: entry.Role, Zone: entry.Zone, State: cluster.StateDead}
		}
		nodes = append(nodes, peer)
	}
	slices.SortFunc(nodes, func(a, b cluster.Node) int { return strings.Compare(a.ID, b.ID) })
	return nodes
}

// metaVotes is how many of so many nodes vote: an even number above two bears no
// more deaths than one fewer.
func metaVotes(nodes int) int {
	switch {
	case nodes <= 2:
		return nodes
	case nodes < metaVoters:
		return 3
	}
	return metaVoters
}

// nextZone is the candidate whose zone has fewest of the nodes.
func nextZone(nodes, candidates []cluster.Node) (best int) {
	inZone := map[string]int{}
	for _, peer := range nodes {
		inZone[peer.Zone]++
	}
	for i, peer := range candidates {
		if inZone[peer.Zone] < inZone[candidates[best].Zone] {
			best = i
		}
	}
	return best
}

// votesOf tells the voters, and all replicas, of a group.
func votesOf(g *raftstore.Group) (votes, have map[string]bool) {
	votes, have = map[string]bool{}, map[string]bool{}
	for _, r := range g.Replicas() {
		votes[r.NodeID], have[r.NodeID] = r.Voter, true
	}
	return votes, have
}

// place writes the replicas that partitions ought to have into the catalog.
func (n *Node) place(ctx context.Context, gone map[string]bool) {
	if !n.beginPlacing(ctx) {
		return
	}
	defer n.endPlacing()
	catalog := n.meta.Catalog()
	nodes, parts, gone := n.view(catalog, gone)
	var reports []report
	for _, part := range cluster.Place(nodes, parts, gone, n.cfg.Replicas) {
		if len(part.Replicas) < len(catalog.Partitions[part.ID]) {
			if reports == nil {
				reports = n.reports(ctx)
			}
			if !allVote(reports, part) {
				continue // who is to go is still needed, if only to be named
			}
		}
		n.propose(ctx, "place partition", broker.SetReplicas{Partition: part.ID, Replicas: part.Replicas})
	}
}

// view is the catalog as placement sees it. Who serves clients only is treated
// like one that is gone: replicas from before it had that role go elsewhere.
func (n *Node) view(catalog *broker.Catalog, gone map[string]bool) (nodes []cluster.Candidate, parts []cluster.PartitionView, unfit map[string]bool) {
	unfit = map[string]bool{}
	for id, entry := range catalog.Nodes {
		peer, _ := n.gossip.Node(id)
		unfit[id] = gone[id] || entry.Role == roleEdge
		nodes = append(nodes, cluster.Candidate{
			ID: id, Zone: entry.Zone, Role: entry.Role,
			Alive: peer.State.Alive(), Draining: peer.State == cluster.StateDraining,
		})
	}
	for i, replicas := range catalog.Partitions {
		parts = append(parts, cluster.PartitionView{ID: uint16(i), Replicas: replicas})
	}
	return nodes, parts, unfit
}

// beginPlacing keeps two changes of the placement from undoing each other: each
// is made from what the one before left.
func (n *Node) beginPlacing(ctx context.Context) bool {
	select {
	case n.placing <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (n *Node) endPlacing() { <-n.placing }

// allVote says whether the partition has a leader, and all nodes that it is to
// have already vote there.
func allVote(reports []report, part cluster.PartitionView) bool {
	g, led := leaderReport(reports, groupOf(part.ID))
	for _, id := range part.Replicas {
		if !slices.ContainsFunc(g.Replicas, func(r replicaReport) bool { return r.Node == id && r.Voter }) {
			return false
		}
	}
	return led
}

// finishLeaving removes leaving nodes that hold nothing any more, nor a vote on the
// catalog that another is to have and has not got yet.
func (n *Node) finishLeaving(ctx context.Context, gone map[string]bool) {
	catalog := n.meta.Catalog()
	var reports []report
	for id, entry := range catalog.Nodes {
		if !entry.Leaving || id == n.home.NodeID || n.keepsVote(catalog, gone, id) {
			continue
		}
		if reports == nil {
			reports = n.reports(ctx)
		}
		if holdsNothing(catalog, reports, id) {
			n.propose(ctx, "remove node "+entry.Name, broker.RemoveNode{ID: id})
			n.log.Info("node removed from the cluster", "node", entry.Name)
		}
	}
}

// keepsVote says whether a leaving node votes on the catalog, and not all who are
// to vote in the end do yet.
func (n *Node) keepsVote(catalog *broker.Catalog, gone map[string]bool, id string) bool {
	votes, _ := votesOf(n.metaGroup)
	if !votes[id] {
		return false
	}
	members, voters := n.metaMembers(catalog, gone)
	return slices.ContainsFunc(members[:voters], func(id string) bool { return !votes[id] })
}

// holdsNothing says whether neither the catalog nor a partition's leader counts
// on the node.
func holdsNothing(catalog *broker.Catalog, reports []report, id string) bool {
	for p, replicas := range catalog.Partitions {
		g, led := leaderReport(reports, groupOf(uint16(p)))
		if !led || slices.Contains(replicas, id) || slices.ContainsFunc(g.Replicas, func(r replicaReport) bool { return r.Node == id }) {
			return false
		}
	}
	return true
}

// handMetaOver gives the catalog's lead away before this node leaves: who leads
// can't remove itself and tell the end of it.
func (n *Node) handMetaOver(ctx context.Context, gone map[string]bool) bool {
	for _, r := range n.metaGroup.Replicas() {
		if r.Voter && !gone[r.NodeID] && n.caughtUp(n.metaGroup, r.NodeID) {
			return n.change(ctx, n.metaGroup, "hand over", r.NodeID, n.metaGroup.TransferLeadership)
		}
	}
	return false
}
