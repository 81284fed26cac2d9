package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// eventQueue takes what memberlist's callbacks say. They run under its locks,
// so they may only copy and go.
type eventQueue struct {
	mu    sync.Mutex // guards list
	list  []event
	ready chan struct{} // capacity 1
}

// event is a copy of what a callback was told.
type event struct {
	node Node
	gone bool
}

func (q *eventQueue) push(e event) {
	q.mu.Lock()
	q.list = append(q.list, e)
	q.mu.Unlock()
	select {
	case q.ready <- struct{}{}:
	default: // it is signalled already
	}
}

func (q *eventQueue) take() []event {
	q.mu.Lock()
	defer q.mu.Unlock()
	list := q.list
	q.list = nil
	return list
}

// workEvents turns the callbacks' words into the view of the cluster.
func (c *Cluster) workEvents(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.events.ready:
		}
		for _, e := range c.events.take() {
			c.work(e)
		}
		c.tell()
		c.remember()
	}
}

func (c *Cluster) work(e event) {
	n := e.node
	if n.ID == c.options.ID {
		return
	}
	if e.gone && n.State != StateLeft {
		n.State = StateDead
	}
	c.mu.Lock()
	c.nodes[n.ID] = n
	first := !c.sawOther && !e.gone
	if first {
		c.sawOther = true
		close(c.joined)
	}
	if n.State.Alive() {
		delete(c.died, n.ID)
	} else {
		c.died[n.ID] = time.Now()
	}
	adopt := c.self.ClusterID == "" && n.ClusterID != "" && n.State.Alive()
	if adopt {
		c.self.ClusterID = n.ClusterID
	}
	self := c.self
	c.mu.Unlock()
	if adopt {
		c.announce()
	}
	if n.State.Alive() && n.Name == self.Name && n.Started.Before(self.Started) {
		c.fail(nameTaken(n))
	}
}

// remember writes down where the others are, for the next start.
func (c *Cluster) remember() {
	var known []string
	for _, n := range c.Nodes() {
		if n.ID != c.options.ID && n.State != StateLeft && n.GossipAddr != "" {
			known = append(known, n.GossipAddr)
		}
	}
	if len(known) == 0 {
		return
	}
	if err := saveKnown(c.options.KnownPath, known); err != nil {
		c.log.Warn("members' addresses could not be saved", "path", c.options.KnownPath, "err", err)
	}
}

func (c *Cluster) delegates() (memberlist.Delegate, memberlist.EventDelegate, memberlist.ConflictDelegate, memberlist.MergeDelegate, memberlist.AliveDelegate) {
	d := delegate{c}
	return d, d, d, d, d
}

// delegate is the callbacks. None of them calls memberlist.
type delegate struct{ c *Cluster }

func (d delegate) NodeMeta(limit int) []byte {
	self := d.c.Self()
	meta := appendMeta(nil, &self)
	if len(meta) > limit {
		panic(fmt.Sprintf("cluster: %d bytes of metadata, at most %d", len(meta), limit))
	}
	return meta
}

func (delegate) NotifyMsg([]byte)                {}
func (delegate) GetBroadcasts(int, int) [][]byte { return nil }
func (delegate) LocalState(bool) []byte          { return nil }
func (delegate) MergeRemoteState([]byte, bool)   {}

func (d delegate) NotifyJoin(n *memberlist.Node)   { d.push(n, false) }
func (d delegate) NotifyUpdate(n *memberlist.Node) { d.push(n, false) }
func (d delegate) NotifyLeave(n *memberlist.Node)  { d.push(n, true) }

func (d delegate) push(n *memberlist.Node, gone bool) {
	if node, err := fromMemberlist(n); err == nil {
		d.c.events.push(event{node, gone})
	}
}

func fromMemberlist(n *memberlist.Node) (Node, error) {
	node, err := decodeMeta(n.Meta)
	node.ID, node.GossipAddr = strings.Clone(n.Name), n.Address()
	return node, err
}

// NotifyAlive keeps another cluster's nodes out of this one's view.
func (d delegate) NotifyAlive(n *memberlist.Node) error {
	node, err := fromMemberlist(n)
	if err != nil {
		return fmt.Errorf("node %s: %w", n.Name, err)
	}
	return d.c.sameCluster(node)
}

// NotifyMerge is asked before a join takes effect, on both sides.
func (d delegate) NotifyMerge(peers []*memberlist.Node) error {
	for _, p := range peers {
		node, err := fromMemberlist(p)
		if err != nil || p.State != memberlist.StateAlive || node.ID == d.c.options.ID {
			continue
		}
		err = d.c.sameCluster(node)
		if self := d.c.Self(); err == nil && node.Name == self.Name && node.State.Alive() {
			err = nameTaken(node)
			if self.Started.Before(node.Started) {
				d.c.log.Warn("a second node with this node's name was turned away", "node", node.Name, "addr", node.GossipAddr)
				return err
			}
		}
		if err != nil {
			d.c.mu.Lock()
			d.c.refusal = err
			d.c.mu.Unlock()
			return err
		}
	}
	return nil
}

// NotifyConflict tells that one id is used at two addresses: by copies of a
// data directory. The newcomer gives way.
func (d delegate) NotifyConflict(_, other *memberlist.Node) {
	node, err := fromMemberlist(other)
	if err == nil && node.ID == d.c.options.ID && node.Started.Before(d.c.options.Started) {
		d.c.fail(fmt.Errorf("%w: at %s; two processes must never share a copied data directory: give this one an empty --data-dir", ErrTwice, node.GossipAddr))
	}
}

func (c *Cluster) sameCluster(n Node) error {
	self := c.Self()
	if self.ClusterID == "" || n.ClusterID == "" || self.ClusterID == n.ClusterID {
		return nil
	}
	return fmt.Errorf("%w: this node's data directory belongs to cluster %s, the node at %s to cluster %s; join a member of the right cluster, or start with an empty --data-dir", ErrOtherCluster, self.ClusterID, n.GossipAddr, n.ClusterID)
}

func nameTaken(n Node) error {
	return fmt.Errorf("%w: %s is the node at %s; start this one with another --node-name", ErrNameTaken, n.Name, n.GossipAddr)
}

// logWriter passes memberlist's log on, all of it at debug: what an operator
// acts on is said by the events.
type logWriter struct{ log *slog.Logger }

func (w logWriter) Write(line []byte) (int, error) {
	w.log.Debug("gossip", "text", strings.TrimSpace(string(line)))
	return len(line), nil
}
