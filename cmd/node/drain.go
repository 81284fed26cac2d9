package node

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

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
	mu sync.Mutex // guards at
	at map[string]time.Time
}

func (d *drainers) note(node string, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.at == nil {
		d.at = map[string]time.Time{}
	}
	d.at[node] = now
}

// has says whether the node drains. Behind a while, gossip knows.
func (d *drainers) has(node string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return time.Since(d.at[node]) < gossipKnows
}

// Stop drains: readiness ends, leaders are handed over, clients are told to
// move, and then everything is closed. It stays a member.
func (n *Node) Stop(ctx context.Context) {
	n.once.Do(func() {
		n.gossip.SetDraining(true)
		n.askAll(ctx, askTimeout, methodDraining, nil)
		n.handOver(ctx)
		n.drainWebhooks(ctx)
		_ = n.edge.Shutdown(ctx)
		if ctx.Err() != nil {
			n.close()
			return
		}
		if err := n.gossip.Leave(ctx); err != nil {
			n.log.Debug("the others were not told that this node stops", "err", err)
		}
		n.close()
	})
}

// handOver gives away what this node leads, so that publishing goes on without
// an election by time-out.
func (n *Node) handOver(ctx context.Context) {
	led := []*raftstore.Group{n.metaGroup}
	for _, p := range n.groups.ids() {
		if g, ok := n.groups.get(p); ok {
			led = append(led, g.Group)
		}
	}
	var wg sync.WaitGroup
	for _, g := range led {
		if g.IsLeader() && len(g.Replicas()) > 1 {
			wg.Go(func() { n.change(ctx, g, "hand over", "", n.transfer(g)) })
		}
	}
	wg.Wait()
}
