package raftstore

import (
	"context"
	"fmt"

	"github.com/hashicorp/raft"
)

// Replica is a node's replica in a group's configuration.
type Replica struct {
	NodeID string
	Voter  bool
	ID     string // Raft's server id: the node, and an incarnation if the replica joined a running group
}

// Replicas returns the newest configuration in the log here, which may not be committed yet.
func (g *Group) Replicas() []Replica {
	return replicasOf(g.raft.GetConfiguration().Configuration())
}

func replicasOf(c raft.Configuration) (replicas []Replica) {
	for _, s := range c.Servers {
		node, _ := splitReplicaID(string(s.ID))
		replicas = append(replicas, Replica{NodeID: node, Voter: s.Suffrage == raft.Voter, ID: string(s.ID)})
	}
	return replicas
}

// member returns the id of a node's replica in the configuration.
func (g *Group) member(nodeID string) (id string, ok bool) {
	for _, r := range g.Replicas() {
		if r.NodeID == nodeID {
			return r.ID, true
		}
	}
	return "", false
}

// rank returns this replica's place among the voters without the dead node.
func (g *Group) rank(dead string) (rank int, voter bool) {
	for _, r := range g.Replicas() {
		switch {
		case r.ID == g.port.id():
			return rank, r.Voter
		case r.Voter && r.NodeID != dead:
			rank++
		}
	}
	return 0, false
}

// before says whether this replica stands before another one in the configuration.
func (g *Group) before(other string) bool {
	for _, r := range g.Replicas() {
		switch r.ID {
		case g.port.id():
			return true
		case other:
			return false
		}
	}
	return false
}

// AddLearner adds a node's replica without a vote. Only the leader can, and only when the node has the group open.
func (g *Group) AddLearner(ctx context.Context, nodeID string) error {
	id, err := g.identify(ctx, nodeID)
	if err != nil {
		return err
	}
	return g.change(ctx, func() raft.Future {
		return g.raft.AddNonvoter(raft.ServerID(id), raft.ServerAddress(id), 0, timeout(ctx))
	})
}

// Promote gives a node's replica a vote, adding it if it is new. Only the leader can.
func (g *Group) Promote(ctx context.Context, nodeID string) error {
	id, ok := g.member(nodeID)
	if !ok {
		var err error
		if id, err = g.identify(ctx, nodeID); err != nil {
			return err
		}
	}
	return g.change(ctx, func() raft.Future {
		return g.raft.AddVoter(raft.ServerID(id), raft.ServerAddress(id), 0, timeout(ctx))
	})
}

// identify asks a node which replica it has of the group.
func (g *Group) identify(ctx context.Context, nodeID string) (string, error) {
	if err := g.refuse(ctx); err != nil {
		return "", err
	}
	if old, ok := g.member(nodeID); ok {
		return "", fmt.Errorf("node %s has the replica %s in group %d already", nodeID, old, g.id)
	}
	id, err := g.port.who(ctx, nodeID)
	if err != nil {
		return "", fmt.Errorf("ask %s for its replica of group %d: %w", nodeID, g.id, err)
	}
	return id, nil
}

// Remove removes a node's replica. Only the leader can. The node is told by whoever removes it: it calls DropGroup.
func (g *Group) Remove(ctx context.Context, nodeID string) error {
	id, ok := g.member(nodeID)
	if !ok {
		return nil
	}
	return g.remove(ctx, id)
}

func (g *Group) remove(ctx context.Context, id string) error {
	return g.change(ctx, func() raft.Future { return g.raft.RemoveServer(raft.ServerID(id), 0, timeout(ctx)) })
}

// Retire removes one replica whose node began anew with an empty one: its vote is gone for good, and the new replica
// can only be added as a learner once the old one is out. It returns the node, "" if there is none. Only the leader can.
func (g *Group) Retire(ctx context.Context) (nodeID string, err error) {
	if !g.IsLeader() {
		return "", nil
	}
	for _, r := range g.Replicas() {
		if now, gone := g.port.replacedBy(r.ID); gone {
			if err := g.remove(ctx, r.ID); err != nil {
				return r.NodeID, fmt.Errorf("remove replica %s, which began anew as %s: %w", r.ID, now, err)
			}
			return r.NodeID, nil
		}
	}
	return "", nil
}

func (g *Group) change(ctx context.Context, begin func() raft.Future) error {
	if err := g.refuse(ctx); err != nil {
		return err
	}
	if err := g.await(ctx, begin()); err != nil {
		return g.outcome(err)
	}
	return nil
}
