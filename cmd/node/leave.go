package node

import (
	"context"
	"errors"
	"fmt"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/protocol"
)

// errRemoved ends a node that the cluster has removed.
var errRemoved = errors.New("this node was removed from its cluster for good")

// beginLeaving decides that a node goes. Its replicas are given to others by the
// passes that follow, and then it is removed.
func (n *Node) beginLeaving(ctx context.Context, catalog *broker.Catalog, c protocol.ClusterChange) (detail string, err error) {
	id, err := findNode(catalog, c.Node)
	if err != nil {
		return "", err
	}
	name, alive := catalog.Nodes[id].Name, n.reachable(id)
	if c.Force && alive {
		return "", protocol.Conflict.Errorf("node %s is up; to have it give its replicas away and leave: pushd cluster rm %s", name, name)
	}
	if err := n.mayLeave(catalog, id); err != nil {
		return "", err
	}
	if err := n.proposeHere(ctx, broker.LeaveNode{ID: id}.Encode()); err != nil {
		return "", err
	}
	n.log.Info("node is to leave the cluster for good", "node", name)
	if alive {
		return fmt.Sprintf("node %s gives its replicas away, and then leaves for good", name), nil
	}
	return fmt.Sprintf("node %s, which is down, is replaced and removed for good", name), nil
}

// mayLeave refuses where nobody would be left to hold what the node holds.
func (n *Node) mayLeave(catalog *broker.Catalog, leaving string) error {
	gone := n.gone(catalog)
	for id, entry := range catalog.Nodes {
		if id != leaving && entry.Role != roleEdge && !gone[id] && n.reachable(id) {
			return nil
		}
	}
	return protocol.Conflict.Errorf("no other node that holds replicas is up, so the data would be lost with this one; add a node first")
}

// sendAway tells a node that it was removed. One that was away while it happened
// is told when it comes back.
func (n *Node) sendAway(ctx context.Context, id string) {
	n.wg.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, statusTimeout)
		defer cancel()
		if _, err := n.link.Call(ctx, id, methodRemoved, nil); err != nil {
			n.log.Debug("removed node could not be told", "node", n.nodeName(id), "err", err)
		}
	})
}

// removed ends this node for good: it remembers not to come back.
func (n *Node) removed() error {
	n.home.Left = true
	if err := n.home.save(); err != nil {
		return err
	}
	n.fail(errRemoved)
	return nil
}

// forgetRemoved frees the names of nodes that will not come back.
func (n *Node) forgetRemoved(catalog *broker.Catalog) {
	for _, id := range catalog.Removed {
		n.gossip.Forget(id)
	}
}
