package node

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/cluster"
	"github.com/pushd/pushd/protocol"
)

// leadMeta is what the meta group's leader does for the whole cluster: found
// it, register who gossips, give the catalog's own group its replicas, and
// place the partitions'. What partitions' leaders do about it is theirs.
func (n *Node) leadMeta(ctx context.Context) {
	catalog := n.meta.Catalog()
	if catalog.ClusterID == "" {
		n.found(ctx)
		return
	}
	known := n.gossip.Nodes()
	for _, peer := range known {
		if entry, ok := catalog.Nodes[peer.ID]; peer.State.Alive() && (!ok || entry.Name != peer.Name) {
			n.propose(ctx, "register node", broker.PutNode{ID: peer.ID, Name: peer.Name, Zone: peer.Zone, Role: peer.Role})
		}
	}
	n.converge(ctx, n.metaGroup, n.metaMembers(known), metaVoters)
	n.place(ctx, catalog, known)
}

// found makes the catalog of a new cluster.
func (n *Node) found(ctx context.Context) {
	if !n.home.Founder {
		return
	}
	n.propose(ctx, "found cluster", broker.CreateCluster{
		ClusterID: n.home.ClusterID, Partitions: n.cfg.Partitions,
		Node: broker.PutNode{ID: n.home.NodeID, Name: n.cfg.NodeName, Zone: n.cfg.Zone, Role: n.cfg.Role},
	})
}

// metaMembers are all nodes that live, since each needs the catalog; those that
// vote already come first, so that votes do not wander.
func (n *Node) metaMembers(known []cluster.Node) []string {
	votes := map[string]bool{}
	for _, r := range n.metaGroup.Replicas() {
		votes[r.NodeID] = r.Voter
	}
	var voters, others []string
	for _, peer := range known {
		switch {
		case votes[peer.ID]:
			voters = append(voters, peer.ID)
		case peer.State.Alive():
			others = append(others, peer.ID)
		}
	}
	slices.Sort(others)
	return append(voters, others...)
}

// place writes the replicas that partitions ought to have into the catalog.
func (n *Node) place(ctx context.Context, catalog *broker.Catalog, known []cluster.Node) {
	var nodes []cluster.Candidate
	for _, peer := range known {
		if _, registered := catalog.Nodes[peer.ID]; registered {
			nodes = append(nodes, cluster.Candidate{
				ID: peer.ID, Zone: peer.Zone, Role: peer.Role,
				Alive: peer.State.Alive(), Draining: peer.State == cluster.StateDraining,
			})
		}
	}
	parts := make([]cluster.PartitionView, len(catalog.Partitions))
	for i, replicas := range catalog.Partitions {
		parts[i] = cluster.PartitionView{ID: uint16(i), Replicas: replicas}
	}
	for _, part := range cluster.Place(nodes, parts, nil, n.cfg.Replicas) {
		n.propose(ctx, "place partition", broker.SetReplicas{Partition: part.ID, Replicas: part.Replicas})
	}
}

// propose changes the catalog. A failure is logged and left to the next pass.
func (n *Node) propose(ctx context.Context, what string, command broker.MetaCommand) {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	if err := n.proposeHere(ctx, command.Encode()); err != nil {
		n.log.Warn("catalog change was refused", "what", what, "err", err)
	}
}

func (n *Node) proposeHere(ctx context.Context, entry []byte) error {
	result, err := propose(ctx, n.metaGroup, entry)
	if refused, ok := result.(error); ok && err == nil {
		return refused
	}
	return err
}

// proposeAnywhere changes the catalog for a client: here if this node leads the
// meta group, else at the node that does.
func (n *Node) proposeAnywhere(ctx context.Context, command broker.MetaCommand) error {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	entry := command.Encode()
	for {
		err := n.proposeHere(ctx, entry)
		if leader, known := n.metaGroup.Leader(); errors.Is(err, broker.ErrNotLeader) && known && leader != n.home.NodeID {
			_, err = n.link.Call(ctx, leader, methodCatalog, entry)
			err = fromLink(err)
		}
		if !errors.Is(err, broker.ErrNotLeader) && !errors.Is(err, broker.ErrUnreachable) {
			return err
		}
		select {
		case <-ctx.Done():
			return protocol.NoLeader.Errorf("the catalog has no leader that answers, so nothing was changed; try again (%v)", err)
		case <-time.After(retryPause):
		}
	}
}
