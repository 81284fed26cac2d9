package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/raftstore"
)

// peersFile has the other nodes' gossip addresses, by id, as they were last.
const peersFile = "peers.json"

// mayRebuild decides what becomes of replicas whose stored data is damaged:
// where other nodes have them too they begin anew, empty, and are filled by
// their leaders. The only replica is never thrown away by itself.
func (n *Node) mayRebuild(damage error) error {
	if !n.hasPeers() {
		return fmt.Errorf("%w\nThis node is the only one of its cluster, so there is no other copy to rebuild from, and it does not start on data it can't trust. "+
			"Nothing was changed in %s. Put back a backup of that directory; or, if its events may be lost, move it away and start a new cluster",
			damage, n.home.dir)
	}
	// Its groups exist elsewhere: it must never start them again from nothing.
	if n.home.Founder && !n.home.Founded {
		n.home.Founded = true
		return n.home.save()
	}
	return nil
}

// hasPeers says whether other nodes have what this one has: it knows of any,
// now or from before, and partitions have more than one replica.
func (n *Node) hasPeers() bool {
	if n.cfg.Replicas < 2 {
		return false
	}
	known := n.home.peers()
	for _, peer := range n.gossip.Nodes() {
		known[peer.ID] = peer.GossipAddr
	}
	delete(known, n.home.NodeID)
	return len(known) > 0 || len(n.cfg.Join) > 0
}

// peers are the nodes that this one knew last.
func (h *home) peers() map[string]string {
	known := map[string]string{}
	if text, err := os.ReadFile(h.path(peersFile)); err == nil {
		_ = json.Unmarshal(text, &known) // damaged, it names nobody
	}
	return known
}

// resetRotten drops replicas that were found damaged while they ran;
// followCatalog then opens them anew. The catalog's own begins anew when the
// node starts again.
func (n *Node) resetRotten() {
	if err := n.metaGroup.Quarantined(); err != nil {
		n.fail(fmt.Errorf("the catalog's replica on this node is damaged: %w\nStart the node again: it will get the catalog from the other nodes", errors.Join(err, n.store.Reset(n.metaGroup))))
		return
	}
	for _, p := range n.groups.ids() {
		r, ok := n.groups.get(p)
		if !ok || r.Quarantined() == nil {
			continue
		}
		n.groups.delete(p)
		n.broker.ClosePartition(p)
		if err := n.store.Reset(r.Group); err != nil {
			n.fail(err)
			return
		}
	}
}

// retire removes a replica whose node began anew with an empty one, which is
// then added like any other.
func (n *Node) retire(ctx context.Context, g *raftstore.Group) bool {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	id, err := g.Retire(ctx)
	if id != "" {
		n.log.Info("replica began anew on its node: its old vote was removed", "group", g.ID(), "node", n.nodeName(id), "err", err)
	}
	return id != ""
}

// partitionDamaged stops a replica that is not what the others are; resetRotten
// then has it begin anew.
func (n *Node) partitionDamaged(partition uint16, reason string) {
	if r, ok := n.groups.get(partition); ok {
		r.Quarantine(fmt.Errorf("%w: %s", raftstore.ErrDamaged, reason))
	}
}

// Held is where the partition keeps a segment: one that it has already is not
// sent again.
func (m partitionMachine) Held(name string) string { return m.Partition.SegmentPath(name) }

// Restore gives damage the meaning that it has for the log.
func (m partitionMachine) Restore(state io.Reader, dir string) error {
	return storeDamage(m.Partition.Restore(state, dir))
}

func storeDamage(err error) error {
	if errors.Is(err, broker.ErrDamaged) {
		return fmt.Errorf("%w: %w", raftstore.ErrDamaged, err)
	}
	return err
}
