package cluster

import (
	"errors"
	"fmt"

	"github.com/pushd/pushd/protocol"
)

// A cluster that lost its quorum and carried on by force has another id than
// before. Nodes that were given up, and come back, have the old one: what they
// hold may contradict what the cluster has acknowledged since.

// errFromBefore says that the other node was given up.
var errFromBefore = errors.New("the other node was given up when the cluster was recovered")

// recovered says in words what two ids of one cluster mean; nil if they are of two.
func recovered(own string, other Node) error {
	mine, ours := protocol.Recoveries(own)
	its, theirs := protocol.Recoveries(other.ClusterID)
	switch {
	case mine != its:
		return nil
	case ours < theirs:
		return fmt.Errorf("%w: its cluster %s lost the quorum of its nodes and was recovered without it, and is %s since; what this node holds is of no use there. "+
			"Move its --data-dir away and join anew: pushd agent join %s", ErrGivenUp, own, other.ClusterID, other.GossipAddr)
	case ours > theirs:
		return fmt.Errorf("%w: node %s at %s still has the data of cluster %s, which is %s since; stop it, move its --data-dir away, and have it join anew",
			errFromBefore, other.Name, other.GossipAddr, other.ClusterID, own)
	}
	return fmt.Errorf("%w: cluster %s was recovered twice, each time without the other's nodes: as %s with this node, and as %s with node %s at %s. Only one of the two may live on: "+
		"stop the nodes of the other, move their --data-dirs away, and have them join anew", ErrOtherCluster, mine, own, other.ClusterID, other.Name, other.GossipAddr)
}

// noteRecovered stops this node if the cluster gave it up, unless it serves with
// others: a cluster that runs is not ended by what somebody did to a part of it.
// Whoever stays says so in the log, once. Called by callbacks.
func (c *Cluster) noteRecovered(n Node, refusal error) {
	givenUp := errors.Is(refusal, ErrGivenUp)
	if !givenUp && !errors.Is(refusal, errFromBefore) {
		return
	}
	c.mu.Lock()
	serves := c.self.settled && !c.sawOther.IsZero()
	again := c.turnedDown == refusal.Error()
	c.turnedDown = refusal.Error()
	c.mu.Unlock()
	switch {
	case givenUp && !serves:
		c.fail(refusal)
	case !again:
		c.log.Error("node refused", "node", n.Name, "addr", n.GossipAddr, "err", refusal)
	}
}
