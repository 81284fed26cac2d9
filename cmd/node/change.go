package node

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/cluster"
	"github.com/pushd/pushd/protocol"
)

// Change does what an operator asks of the cluster. It serves POST
// /v1/cluster/….
func (n *Node) Change(ctx context.Context, c protocol.ClusterChange) (changed protocol.ClusterChanged, err error) {
	if c.Kind == protocol.LeaveItself {
		c.Kind, c.Node = protocol.RemoveNode, n.home.NodeID
	}
	req, err := json.Marshal(c)
	if err != nil {
		return changed, fmt.Errorf("encode a change of the cluster: %w", err)
	}
	answer, err := n.askMeta(ctx, methodChange, req)
	if err != nil {
		return changed, err
	}
	if err := json.Unmarshal(answer, &changed); err != nil {
		return changed, fmt.Errorf("read the catalog leader's answer: %w", err)
	}
	return changed, nil
}

// changeHere decides it, at the meta group's leader.
func (n *Node) changeHere(ctx context.Context, c protocol.ClusterChange) (protocol.ClusterChanged, error) {
	none := protocol.ClusterChanged{Partitions: []protocol.PartitionTarget{}}
	if err := n.metaGroup.VerifyLeader(ctx); err != nil {
		return none, fmt.Errorf("%w: %w", broker.ErrNotLeader, err)
	}
	if !n.beginPlacing(ctx) {
		return none, ctx.Err()
	}
	defer n.endPlacing()
	catalog := n.meta.Catalog()
	if c.Kind == protocol.RemoveNode {
		detail, err := n.beginLeaving(ctx, catalog, c)
		none.Detail = detail
		return none, err
	}
	nodes, parts, unfit := n.view(catalog, n.gone(catalog))
	switch c.Kind {
	case protocol.Transfer:
		to, err := n.replicaOf(catalog, c.Partition, c.To)
		if err != nil {
			return none, err
		}
		return n.putParts(ctx, catalog, cluster.Transfer(nodes, parts, unfit, c.Partition, to))
	case protocol.Move:
		moved, err := n.moved(catalog, unfit, c)
		if err != nil {
			return none, err
		}
		return n.putParts(ctx, catalog, []cluster.PartitionView{moved})
	case protocol.Rebalance:
		return n.putParts(ctx, catalog, cluster.Rebalance(nodes, parts, unfit))
	}
	return none, protocol.BadRequest.Errorf("%q is no change of the cluster that this version of pushd knows", c.Kind)
}

// putParts writes decided placements, and tells them by name.
func (n *Node) putParts(ctx context.Context, catalog *broker.Catalog, parts []cluster.PartitionView) (protocol.ClusterChanged, error) {
	changed := protocol.ClusterChanged{Partitions: []protocol.PartitionTarget{}, Detail: "nothing had to be changed"}
	for _, part := range parts {
		if err := n.proposeHere(ctx, broker.SetReplicas{Partition: part.ID, Replicas: part.Replicas}.Encode()); err != nil {
			return changed, err
		}
		target := protocol.PartitionTarget{ID: part.ID}
		for _, id := range part.Replicas {
			target.Replicas = append(target.Replicas, catalog.Nodes[id].Name)
		}
		changed.Partitions = append(changed.Partitions, target)
		changed.Detail = fmt.Sprintf("%d partitions are to change", len(changed.Partitions))
	}
	return changed, nil
}

// moved is the partition with one replica elsewhere.
func (n *Node) moved(catalog *broker.Catalog, unfit map[string]bool, c protocol.ClusterChange) (cluster.PartitionView, error) {
	part := cluster.PartitionView{ID: c.Partition}
	from, err := n.replicaOf(catalog, c.Partition, c.From)
	if err != nil {
		return part, err
	}
	to, err := findNode(catalog, c.To)
	if err != nil {
		return part, err
	}
	part.Replicas = slices.Clone(catalog.Partitions[c.Partition])
	switch {
	case slices.Contains(part.Replicas, to):
		return part, protocol.Conflict.Errorf("node %s has a replica of partition %d already", c.To, c.Partition)
	case unfit[to]:
		return part, protocol.Conflict.Errorf("node %s takes no replicas: it serves clients only, or is to leave, or has been away for long", c.To)
	case !n.reachable(to):
		return part, protocol.Conflict.Errorf("node %s is not up; start it first", c.To)
	}
	part.Replicas[slices.Index(part.Replicas, from)] = to
	return part, nil
}

// replicaOf finds a node, by name or id, that is to hold the partition.
func (n *Node) replicaOf(catalog *broker.Catalog, partition uint16, name string) (string, error) {
	if int(partition) >= len(catalog.Partitions) {
		return "", protocol.BadRequest.Errorf("there is no partition %d: they go from 0 to %d", partition, len(catalog.Partitions)-1)
	}
	id, err := findNode(catalog, name)
	if err == nil && !slices.Contains(catalog.Partitions[partition], id) {
		err = protocol.Conflict.Errorf("node %s has no replica of partition %d; those that have: %s", name, partition, namesOf(catalog, catalog.Partitions[partition]))
	}
	return id, err
}

// findNode finds a registered node by name or id.
func findNode(catalog *broker.Catalog, name string) (id string, err error) {
	var names []string
	for id, entry := range catalog.Nodes {
		if entry.Name == name || id == name {
			return id, nil
		}
		names = append(names, entry.Name)
	}
	slices.Sort(names)
	return "", protocol.NoSuchNode.Errorf("there is no node %q in this cluster; there are %v", name, names)
}

func namesOf(catalog *broker.Catalog, ids []string) (names []string) {
	for _, id := range ids {
		names = append(names, catalog.Nodes[id].Name)
	}
	return names
}
