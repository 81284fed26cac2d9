package integration

import (
	"context"
	"testing"
	"time"

	"github.com/pushd/pushd/protocol/client"
)

// TestAnEdgeNodeFeedsItsReadersOverTheDeathOfALeader reads at a node without
// replicas over every transport, while the node that its feeds come from is
// killed and comes back.
func TestAnEdgeNodeFeedsItsReadersOverTheDeathOfALeader(t *testing.T) {
	nodes := startCluster(t, 3)
	edge := startNode(t, "edge", "join", nodes[0].gossip, "--role", "edge")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	load := startLoad(t, ctx, nodes, 4)
	readers := newTally()
	for _, via := range []client.Via{client.WebSocket, client.SSE, client.LongPoll, client.Poll, client.WebSocket, client.SSE} {
		readers.follow(t, ctx, []*process{edge}, 0, via, "rolling.*")
	}
	load.waitFor(100)
	for _, topic := range []string{"rolling.0", "rolling.1"} {
		leader := leaderOf(t, nodes, topic)
		leader.kill()
		load.waitFor(load.acked.Load() + 100)
		leader.serve()
		leader.waitReplicas(3)
	}
	load.waitFor(load.acked.Load() + 100)
	published := load.stop()
	readers.want(t, published)
	t.Logf("%d events published, slowest publish %v", total(published), load.worst.Round(time.Millisecond))
}
