package node

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/cluster"
	"github.com/pushd/pushd/raftstore"
)

// pacer lets something happen once per transferPeriod.
type pacer struct{ last atomic.Int64 }

func (p *pacer) due(now time.Time) bool {
	last := p.last.Load()
	return now.UnixNano()-last >= int64(transferPeriod) && p.last.CompareAndSwap(last, now.UnixNano())
}

// drainers are nodes that said themselves that they give their leaders away:
// gossip takes its time, and leaders given back meanwhile would be lost.
type drainers struct {
	mu      sync.Mutex           // guards started
	started map[string]time.Time // node: the start of the process that drains
}

func (d *drainers) note(node cluster.Node) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.started == nil {
		d.started = map[string]time.Time{}
	}
	d.started[node.ID] = node.Started
}

// has says whether the node drains: not any more once it has been started anew.
func (d *drainers) has(node cluster.Node) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	started, ok := d.started[node.ID]
	return ok && started.Equal(node.Started)
}

// probes is what a node knows of who looks at its readiness.
type probes struct {
	mu      sync.Mutex // guards what follows
	last    time.Time
	gap     time.Duration // between the last two
	refused int           // since the node is stopping
}

func (p *probes) note(refused bool, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.last.IsZero() {
		p.gap = now.Sub(p.last)
	}
	p.last = now
	if refused {
		p.refused++
	}
}

// waiting says whether somebody who probes regularly has yet to believe that
// the node stops.
func (p *probes) waiting(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.refused < noticeProbes && now.Sub(p.last) < 3*p.gap
}

// Stop drains: readiness ends, leaders are handed over, clients are told to
// move, and then everything is closed. It stays a member. Once ctx has ended,
// nobody is waited for.
func (n *Node) Stop(ctx context.Context) {
	n.once.Do(func() {
		n.stopping.Store(true)
		n.gossip.SetDraining(true)
		drained, done := context.WithCancel(ctx)
		var wg sync.WaitGroup
		if ctx.Err() == nil {
			n.log.Info("node drains", "node", n.cfg.NodeName)
			n.askAll(ctx, askTimeout, methodDraining, nil)
			n.handAllOver(ctx)
			wg.Go(func() { n.keepHandingOver(drained) })
			n.giveNotice(ctx)
			n.drainWebhooks(ctx)
		}
		if err := n.edge.Shutdown(ctx); err != nil && !errors.Is(err, context.Canceled) {
			n.log.Warn("clients that had not moved in time were cut", "err", err)
		}
		done()
		wg.Wait()
		n.sayGoodbye(ctx)
		n.close()
	})
}

// sayGoodbye has the others know that this node stops on purpose.
func (n *Node) sayGoodbye(ctx context.Context) {
	if ctx.Err() != nil {
		return
	}
	if err := n.gossip.Leave(ctx); err != nil {
		n.log.Debug("the others were not told that this node stops", "err", err)
	}
}

// giveNotice serves on until those who probe the node's readiness have seen that
// it ends: a load balancer goes on sending clients until then.
func (n *Node) giveNotice(ctx context.Context) {
	limit, cancel := context.WithTimeout(ctx, noticeLimit)
	defer cancel()
	tick := time.NewTicker(catchUpPeriod)
	defer tick.Stop()
	for n.probes.waiting(time.Now()) {
		select {
		case <-limit.Done():
			return
		case <-tick.C:
		}
	}
}

// drainWindow is how long to take over telling so many readers to move. Each
// other node takes so many a second, whoever they come from: nodes that drain at
// the same time share that.
func (n *Node) drainWindow(readers int) time.Duration {
	draining, staying := 1, 0
	for _, peer := range n.gossip.Nodes() {
		switch {
		case peer.ID == n.home.NodeID:
		case peer.State == cluster.StateDraining || peer.State.Alive() && n.draining.has(peer):
			draining++
		case peer.State.Alive():
			staying++
		}
	}
	if staying == 0 {
		return 0 // there is nowhere to go
	}
	window := time.Duration(readers) * time.Second * time.Duration(draining) / time.Duration(moveRate*staying)
	return min(window, n.cfg.DrainTimeout*3/4)
}

// handAllOver gives away what this node leads, so that publishing goes on
// without an election by time-out.
func (n *Node) handAllOver(ctx context.Context) {
	var wg sync.WaitGroup
	for _, g := range n.led() {
		wg.Go(func() { n.change(ctx, g, "hand over", "", n.transfer(g)) })
	}
	wg.Wait()
}

// keepHandingOver gives away what this node comes to lead again, until ctx ends.
func (n *Node) keepHandingOver(ctx context.Context) {
	for broker.Pause(ctx, retryPause) {
		n.handAllOver(ctx)
	}
}

// led lists the groups that this node leads and others could.
func (n *Node) led() (list []*raftstore.Group) {
	groups := []*raftstore.Group{n.metaGroup}
	for _, p := range n.groups.ids() {
		if r, ok := n.groups.get(p); ok {
			groups = append(groups, r.Group)
		}
	}
	for _, g := range groups {
		others := slices.ContainsFunc(g.Replicas(), func(r raftstore.Replica) bool { return r.Voter && r.NodeID != n.home.NodeID })
		if others && g.IsLeader() {
			list = append(list, g)
		}
	}
	return list
}
