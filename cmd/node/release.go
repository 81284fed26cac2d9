package node

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/cluster"
)

// A replica that the catalog gives to another node is dropped by the node that
// has it, once the group's leader says that the group does without it. The
// leader then does not add the node again for a while: what is dropped late must
// not be what it has just been sent.

// releases are the nodes that a leader told to drop their replicas.
type releases struct {
	mu sync.Mutex // guards at
	at map[string]time.Time
}

func (r *releases) note(node string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.at == nil {
		r.at = map[string]time.Time{}
	}
	r.at[node] = time.Now()
}

// recent says whether the node may be dropping its replica just now.
func (r *releases) recent(node string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Since(r.at[node]) < releaseFor
}

// dropStrays drops replicas that are others' now, until ctx ends.
func (n *Node) dropStrays(ctx context.Context) {
	for broker.Pause(ctx, reconcilePeriod) {
		for _, p := range n.strays(time.Now()) {
			began := time.Now()
			if n.released(ctx, p) && time.Since(began) < releaseFor/2 {
				n.dropPartition(p)
			}
		}
	}
}

// strays lists the open partitions that the catalog has given to others for a
// while: a node that has just come back may get its replicas back, too.
func (n *Node) strays(now time.Time) (list []uint16) {
	catalog := n.meta.Catalog()
	since := map[uint16]time.Time{}
	for _, p := range n.groups.ids() {
		if int(p) >= len(catalog.Partitions) || slices.Contains(catalog.Partitions[p], n.home.NodeID) {
			continue
		}
		since[p] = now
		if at, ok := n.strayed[p]; ok {
			since[p] = at
		}
		if now.Sub(since[p]) > strayFor {
			list = append(list, p)
		}
	}
	n.strayed = since
	return list
}

// released asks the partition's nodes, of which one leads, whether its group
// does without this node.
func (n *Node) released(ctx context.Context, p uint16) bool {
	for _, id := range n.meta.Catalog().Partitions[p] {
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		_, err := n.link.Call(ctx, id, methodRelease, []byte{byte(p), byte(p >> 8)})
		cancel()
		if err == nil {
			return true
		}
	}
	return false
}

// release answers such a question.
func (n *Node) release(ctx context.Context, from string, req []byte) error {
	if len(req) != 2 {
		return &cluster.RemoteError{Code: "bad_request", Text: "a partition has two bytes"}
	}
	p := uint16(req[0]) | uint16(req[1])<<8
	r, open := n.groups.get(p)
	catalog := n.meta.Catalog()
	switch {
	case !open || r.VerifyLeader(ctx) != nil:
		return toLink(broker.ErrNotLeader)
	case slices.Contains(catalog.Partitions[p], from):
		return &cluster.RemoteError{Code: "conflict", Text: "the replica is wanted"}
	}
	r.releases.note(from)
	if _, have := votesOf(r.Group); have[from] {
		return &cluster.RemoteError{Code: "conflict", Text: "the replica is not removed yet"}
	}
	return nil
}

// dropPartition forgets this node's replica. It counts as open until it is gone,
// so that it is not opened meanwhile.
func (n *Node) dropPartition(p uint16) {
	err := n.store.DropGroup(groupOf(p))
	n.broker.ClosePartition(p)
	n.groups.delete(p)
	if err != nil {
		n.log.Error("a replica that went to another node could not be removed from the disk", "partition", p, "err", err)
		return
	}
	n.log.Info("replica removed from this node", "partition", p)
}
