package raftstore

import (
	"context"

	"github.com/hashicorp/raft"
)

// Replica is a node in a group's configuration.
type Replica struct {
	NodeID string
	Voter  bool
}

// Replicas returns the newest configuration in the log here, which may not be committed yet.
func (g *Group) Replicas() []Replica {
	var replicas []Replica
	for _, s := range g.raft.GetConfiguration().Configuration().Servers {
		replicas = append(replicas, Replica{NodeID: string(s.ID), Voter: s.Suffrage == raft.Voter})
	}
	return replicas
}

// rank returns this replica's place among the voters without the dead one.
func (g *Group) rank(dead string) (rank int, voter bool) {
	for _, r := range g.Replicas() {
		switch {
		case r.NodeID == g.store.opts.NodeID:
			return rank, r.Voter
		case r.Voter && r.NodeID != dead:
			rank++
		}
	}
	return 0, false
}

// AddLearner adds a replica without a vote. Only the leader can.
func (g *Group) AddLearner(ctx context.Context, nodeID string) error {
	return g.change(ctx, func() raft.Future {
		return g.raft.AddNonvoter(raft.ServerID(nodeID), raft.ServerAddress(nodeID), 0, timeout(ctx))
	})
}

// Promote gives a replica a vote, adding it if it is new. Only the leader can.
func (g *Group) Promote(ctx context.Context, nodeID string) error {
	return g.change(ctx, func() raft.Future {
		return g.raft.AddVoter(raft.ServerID(nodeID), raft.ServerAddress(nodeID), 0, timeout(ctx))
	})
}

// Demote takes a replica's vote. Only the leader can.
func (g *Group) Demote(ctx context.Context, nodeID string) error {
	return g.change(ctx, func() raft.Future { return g.raft.DemoteVoter(raft.ServerID(nodeID), 0, timeout(ctx)) })
}

// Remove removes a replica. Only the leader can. The removed node is told by whoever removes it: it calls DropGroup.
func (g *Group) Remove(ctx context.Context, nodeID string) error {
	return g.change(ctx, func() raft.Future { return g.raft.RemoveServer(raft.ServerID(nodeID), 0, timeout(ctx)) })
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

// TransferLeadership hands the group to another voter, the most advanced if nodeID is empty. Only the leader can.
func (g *Group) TransferLeadership(ctx context.Context, nodeID string) error {
	if err := g.refuse(ctx); err != nil {
		return err
	}
	var err error
	for range transferAttempts {
		if !g.IsLeader() {
			return cmpErr(err, ErrNotLeader)
		}
		// Replication that had just fallen back from its pipeline fails a transfer that would do a moment later.
		if err = g.plain(g.await(ctx, g.transfer(nodeID))); err == nil || g.refuse(ctx) != nil {
			return err
		}
	}
	return err
}

func (g *Group) transfer(nodeID string) raft.Future {
	if nodeID == "" {
		return g.raft.LeadershipTransfer()
	}
	return g.raft.LeadershipTransferToServer(raft.ServerID(nodeID), raft.ServerAddress(nodeID))
}
