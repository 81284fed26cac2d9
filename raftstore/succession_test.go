package raftstore

import (
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// slowly is a cluster of three whose time-outs come too late to help, and its
// followers.
func slowly(t *testing.T) (c *cluster, leader *testNode, followers []*Group) {
	t.Helper()
	c = newCluster(t, 3, func(o *Options) { o.HeartbeatTimeout, o.ElectionTimeout = 3*time.Second, 3*time.Second })
	for _, id := range []string{"node-3", "node-2", "node-1"} { // the first in the list stands at once: it comes last
		c.open(id, 1, c.ids())
	}
	c.propose(1, "a")
	leader = c.leader(1)
	for _, id := range c.ids() {
		if n := c.nodes[id]; n != leader {
			n.machines[1].wait(t, 1)
			followers = append(followers, n.groups[1])
		}
	}
	return c, leader, followers
}

const beforeTimeOuts = 2 * time.Second

func TestWhoHasMoreStandsInThePlaceOfASuccessorThatItTurnedDown(t *testing.T) {
	t.Parallel()
	_, _, followers := slowly(t)
	behind, better := followers[0], followers[1]
	q := &raft.RequestVoteRequest{RPCHeader: header(behind.port.id()), Term: better.raft.CurrentTerm() + 1, LeadershipTransfer: true}
	var a raft.RequestVoteResponse
	if err := behind.port.RequestVote(raft.ServerID(better.port.id()), "", q, &a); err != nil || a.Granted {
		t.Fatalf("vote for who has nothing: got %v, granted %v, want none", err, a.Granted)
	}
	for late := time.After(beforeTimeOuts); !better.IsLeader(); {
		select {
		case <-better.Changes():
		case <-late:
			t.Fatal("who turned it down does not lead")
		}
	}
}

// TestASplitVoteIsOverAtOnce has two candidates that have both voted for
// themselves, while the leader is gone.
func TestASplitVoteIsOverAtOnce(t *testing.T) {
	t.Parallel()
	c, leader, followers := slowly(t)
	for _, g := range followers { // each has voted for itself before it hears of the other
		_ = g.log.SetUint64([]byte("LastVoteTerm"), g.raft.CurrentTerm()+1)
		_ = g.log.Set([]byte("LastVoteCand"), []byte(g.port.id()))
	}
	c.stop(leader.id)
	began := time.Now()
	for _, g := range followers {
		g.port.inject()
	}
	c.leader(1)
	if took := time.Since(began); took > beforeTimeOuts {
		t.Errorf("a leader after %v, want one before any time-out", took)
	}
}
