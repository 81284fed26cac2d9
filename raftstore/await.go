package raftstore

import (
	"context"
	"time"
)

// awaitPeer holds an append to a node that can't be reached back until it can be. hashicorp/raft would pause after
// each failure for twice as long, up to 10 s, whether the node has come back meanwhile or not. It gives up when this
// replica no longer leads in the term, and after holdFor, so that a replication that has ended notices it.
func (p *port) awaitPeer(follower string, term uint64) {
	node, _ := p.to(follower)
	ctx, cancel := context.WithTimeout(p.ctx, holdFor)
	defer cancel()
	again := time.NewTicker(redialAfter)
	defer again.Stop()
	l := p.mux.link(node, purposeData)
	for first := true; ; first = false {
		if _, err := l.ready(ctx); err == nil || ctx.Err() != nil || !p.leadsIn(term) {
			return
		}
		if first {
			p.lose(func(other string) bool { return other == follower })
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return
		}
	}
}

// leadsIn reports whether this replica may still lead in the term.
func (p *port) leadsIn(term uint64) bool {
	if _, _, follows := p.replica.following(); follows {
		return false
	}
	p.lead.mu.Lock()
	defer p.lead.mu.Unlock()
	return p.lead.term <= term
}
