package raftstore

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestALeaderTakesEntriesHoweverOftenAHandOverFailed(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	c.openAll(1)
	c.propose(1, "a")
	lead := c.leader(1)
	silent := c.besides(lead)
	c.silence(silent)
	defer c.unsilence()
	c.propose(1, "b") // the silent one lacks it
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		if err := lead.groups[1].TransferLeadership(ctx, silent); err == nil {
			t.Error("the lead went to a node that says nothing")
		}
		cancel()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	_, err := lead.groups[1].Propose(ctx, []byte("c"))
	for errors.Is(err, ErrNotLeader) && ctx.Err() == nil { // hashicorp/raft answers a hand-over a moment before it ends it
		<-time.After(time.Millisecond)
		_, err = lead.groups[1].Propose(ctx, []byte("c"))
	}
	if err != nil {
		t.Errorf("got %v, want the leader to take entries", err)
	}
	if err := lead.groups[1].TransferLeadership(ctx, ""); err != nil {
		t.Errorf("to the one that answers: got %v", err)
	}
}
