package raftstore

import (
	"time"

	"github.com/hashicorp/raft"
)

// succeedAll has all groups that the node leads stand for election here, each when its turn comes.
func (m *mux) succeedAll(node string) {
	for _, p := range m.allPorts() {
		if rank, term, ok := p.succession(node); ok {
			m.spawn(func() { m.succeed(p, node, rank, term) })
		}
	}
}

func (m *mux) leads(node string) bool {
	for _, p := range m.allPorts() {
		if _, _, ok := p.succession(node); ok {
			return true
		}
	}
	return false
}

// succession returns this replica's place among those that may follow the node, if the node leads the group.
func (p *port) succession(node string) (rank int, term uint64, ok bool) {
	leader, term, ok := p.replica.following()
	if !ok || leader != node {
		return 0, 0, false
	}
	rank, voter := p.replica.rank(node)
	return rank, term, voter
}

// succeed stands for election when its turn comes, unless somebody before it did.
func (m *mux) succeed(p *port, dead string, rank int, term uint64) {
	if !p.pause(time.Duration(rank) * rankStep) {
		return
	}
	if _, now, ok := p.succession(dead); ok && now == term {
		p.inject()
	}
}

// outdo stands for election in the place of a candidate that this replica did not vote for, and before which it comes:
//
//   - It is a follower that has more. Nobody else can win then, but it had given way to the candidate by rank, and would
//     wait for its HeartbeatTimeout.
//   - It is a candidate itself, and both have voted for themselves. Both would wait for their ElectionTimeout.
//
// A candidate that others gave enough votes is heard of within outdoAfter.
func (p *port) outdo(q *raft.RequestVoteRequest, a *raft.RequestVoteResponse) {
	more, same := p.log.beyond(q.LastLogIndex, q.LastLogTerm)
	if a.Granted || !more && (!same || !p.replica.before(string(q.ID))) {
		return
	}
	p.mux.spawn(func() {
		if !p.pause(outdoAfter) {
			return
		}
		term, state := p.replica.leaderless()
		switch {
		case term != q.Term:
		case state == raft.Follower && more && q.LeadershipTransfer:
			p.inject()
		case state == raft.Candidate:
			p.withdraw(q)
			p.inject()
		}
	})
}

// withdraw ends a candidacy, which hashicorp/raft does for a newer term only: the other candidate might as well have
// begun one, and have been turned down.
func (p *port) withdraw(other *raft.RequestVoteRequest) {
	q := &raft.RequestVoteRequest{RPCHeader: other.RPCHeader, Term: other.Term + 1, LeadershipTransfer: true}
	p.deliver(raft.RPC{Command: q, RespChan: make(chan raft.RPCResponse, 1)})
}

// pause waits, and is false if the replica was closed meanwhile.
func (p *port) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-p.ctx.Done():
		return false
	}
}
