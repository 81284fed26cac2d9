package raftstore

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// A leadership transfer first asks the follower's replication to send all that it lacks. hashicorp/raft v1.8.0 leaves
// that request behind when it gives up waiting for it, and blocks on the next one until the first is taken: meanwhile this
// replica refuses whatever is proposed to it, and if its lead ends in between, in any later term, too. So a follower whose
// replication has not answered is not asked again before that has gone its round so often that it has found the request:
// it chooses by chance between that and entries to send.

// handovers are the followers that a leader has asked and got no answer for.
type handovers struct {
	mu    sync.Mutex // guards what follows
	term  uint64
	asked map[string]uint64 // by replica id: rounds of its replication before
}

// begin takes note that a follower is asked; false if it still owes an answer.
func (h *handovers) begin(term uint64, id string, rounds uint64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.owed(term, id, rounds) {
		return false
	}
	if h.term != term || h.asked == nil {
		h.term, h.asked = term, map[string]uint64{}
	}
	h.asked[id] = rounds
	return true
}

// gaveUp notes that no answer came.
func (h *handovers) gaveUp(term uint64, id string, rounds uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.term == term {
		h.asked[id] = rounds
	}
}

func (h *handovers) answered(term uint64, id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.term == term {
		delete(h.asked, id)
	}
}

// owes says whether a follower still has to answer.
func (h *handovers) owes(term uint64, id string, rounds uint64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.owed(term, id, rounds)
}

// owed is owes; h.mu is held.
func (h *handovers) owed(term uint64, id string, rounds uint64) bool {
	before, asked := h.asked[id]
	return h.term == term && asked && rounds < before+handoverRounds
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
		var again bool
		if again, err = g.handOver(ctx, nodeID); !again || g.refuse(ctx) != nil {
			return err
		}
	}
	return err
}

// handOver tries once, and says whether trying again may help.
func (g *Group) handOver(ctx context.Context, nodeID string) (again bool, err error) {
	term := g.Term()
	id, ok := g.successor(term, nodeID)
	if !ok || !g.handovers.begin(term, id, g.port.rounds(term, id)) {
		return false, fmt.Errorf("group %d: no voter that could lead answers just now", g.id)
	}
	began := time.Now()
	err = g.plain(g.await(ctx, g.raft.LeadershipTransferToServer(raft.ServerID(id), raft.ServerAddress(id))))
	// hashicorp/raft waits for ElectionTimeout: whatever it says earlier is the follower's answer.
	if time.Since(began) >= g.store.opts.ElectionTimeout || g.refuse(ctx) != nil {
		g.handovers.gaveUp(term, id, g.port.rounds(term, id))
		return false, err
	}
	g.handovers.answered(term, id)
	return err != nil, err
}

// successor is the replica to hand over to: a node's or, if that is empty, of the voters that answer the one that has most.
func (g *Group) successor(term uint64, nodeID string) (id string, ok bool) {
	progress, recent := g.port.progress(term), time.Now().Add(-2*g.store.opts.HeartbeatTimeout)
	better := func(a, b Progress) bool {
		if answers := a.At.After(recent); answers != b.At.After(recent) {
			return answers
		}
		return a.Acked > b.Acked
	}
	for _, r := range g.Replicas() {
		switch {
		case r.ID == g.port.id() || !r.Voter || g.handovers.owes(term, r.ID, g.port.rounds(term, r.ID)):
		case nodeID != "" && r.NodeID == nodeID:
			return r.ID, true
		case nodeID == "" && (!ok || better(progress[r.ID], progress[id])):
			id, ok = r.ID, true
		}
	}
	return id, ok
}
