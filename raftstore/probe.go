package raftstore

import (
	"context"
	"errors"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
)

// probe finds out, after a node's connection broke, whether its process is dead, and has the groups it led elect a
// new leader at once instead of after HeartbeatTimeout. Only a refused connection counts: slowness never does.
func (m *mux) probe(node string) {
	m.mu.Lock()
	busy := m.probing[node]
	m.probing[node] = true
	m.mu.Unlock()
	if busy {
		return
	}
	defer func() {
		m.mu.Lock()
		delete(m.probing, node)
		m.mu.Unlock()
	}()
	if !m.leads(node) || !m.refused(node) {
		return
	}
	m.succeedAll(node)
}

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

// refused redials until the node answers or refuses. Between the reset of its connections and the closing of its
// listener a dying process may still seem to accept, so only time tells.
func (m *mux) refused(node string) bool {
	ctx, cancel := context.WithTimeout(m.ctx, probeFor)
	defer cancel()
	again := time.NewTicker(probeEvery)
	defer again.Stop()
	accepted := 0
	for {
		conn, err := m.dialPeer(ctx, node)
		if err == nil {
			_ = conn.Close()
			if accepted++; accepted > 2 {
				return false
			}
		}
		if errors.Is(err, syscall.ECONNREFUSED) {
			return true
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return false
		}
	}
}

// succeed stands for election when its turn comes, unless somebody before it did.
func (m *mux) succeed(p *port, dead string, rank int, term uint64) {
	turn := time.NewTimer(time.Duration(rank) * rankStep)
	defer turn.Stop()
	select {
	case <-turn.C:
	case <-p.ctx.Done():
		return
	}
	if _, now, ok := p.succession(dead); ok && now == term {
		p.inject()
	}
}

// outdo stands for election in the place of a replica that came forward to succeed a leader, and that this one had to
// turn down because it has more. Nobody else can win, and this one had given way to it, by rank: without that the group
// waits for one's HeartbeatTimeout, after a death, and for up to two. If others gave the candidate enough votes, it is
// heard of within outdoAfter.
func (p *port) outdo(q *raft.RequestVoteRequest, a *raft.RequestVoteResponse) {
	if a.Granted || !q.LeadershipTransfer || !p.log.beyond(q.LastLogIndex, q.LastLogTerm) {
		return
	}
	p.mux.spawn(func() {
		pause := time.NewTimer(outdoAfter)
		defer pause.Stop()
		select {
		case <-pause.C:
		case <-p.ctx.Done():
			return
		}
		if term, ok := p.replica.leaderless(); ok && term == q.Term {
			p.inject()
		}
	})
}
