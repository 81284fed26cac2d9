package cluster

import (
	"context"
	"fmt"
	"time"
)

// workEvents turns the callbacks' words into the view of the cluster.
func (c *Cluster) workEvents(ctx context.Context) {
	announced := c.options.ClusterID
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.events.ready:
		}
		for _, e := range c.events.take() {
			c.work(e)
		}
		c.remember()
		c.speak()
		if id := c.ClusterID(); id != announced {
			announced = id
			c.announce(noWait)
		}
		c.tell()
	}
}

func (c *Cluster) work(e event) {
	if e.what == eventConflict {
		c.checkTwice(e.node)
		return
	}
	if e.node.ID == c.options.ID {
		return
	}
	switch e.what {
	case eventUp:
		c.up(e.node)
		_ = c.checkName(e.node) // it has told [Cluster.Fatal]
	case eventGone:
		c.down(e.node, e.at)
	case eventForeign:
		c.forget(e.node.ID)
	case eventRelayed:
		if _, known := c.Node(e.node.ID); !known {
			c.down(e.node, e.at)
		}
	}
}

func (c *Cluster) up(n Node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes[n.ID] = n
	delete(c.died, n.ID)
	if c.sawOther.IsZero() {
		c.sawOther = time.Now()
		close(c.joined)
	}
}

// down keeps a node that is gone in view, and its name with it. One that had
// another's name was never more than a mistake, and one that never had the
// cluster's id never belonged to it: both are forgotten.
func (c *Cluster) down(n Node, at time.Time) {
	if n.State != StateLeft {
		n.State = StateDead
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.nodes, n.ID)
	delete(c.died, n.ID)
	if n.ClusterID != c.self.ClusterID || c.nameHeld(n.Name) || len(c.died) >= maxKnown {
		return
	}
	n.Gone = at
	c.nodes[n.ID] = n
	c.died[n.ID] = at
}

// Forget frees the name of a node that is gone and will not come back. Others
// may still tell of it, so it is to be called again until they have forgotten it.
func (c *Cluster) Forget(id string) {
	if n, ok := c.Node(id); ok && !n.State.Alive() {
		c.forget(id)
	}
}

// nameIsFree refuses a node whose name another one, alive or dead, had before.
func (c *Cluster) nameIsFree(n Node) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if holds(c.self, n) {
		return fmt.Errorf("%w: %s is this node", ErrNameTaken, n.Name)
	}
	for _, other := range c.nodes {
		if holds(other, n) {
			return fmt.Errorf("%w: %s is the node at %s", ErrNameTaken, n.Name, other.GossipAddr)
		}
	}
	return nil
}

// holds says whether one node has the other's name, and had it first.
func holds(one, other Node) bool {
	return one.Name == other.Name && one.ID != other.ID && one.before(&other)
}

func (c *Cluster) nameHeld(name string) bool {
	if name == c.self.Name {
		return true
	}
	for _, n := range c.nodes {
		if n.Name == name {
			return true
		}
	}
	return false
}

// forgetOld drops nodes that have been gone for days.
func (c *Cluster) forgetOld(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, at := range c.died {
		if now.Sub(at) > keepDead {
			c.forgetLocked(id)
		}
	}
}

// forget drops a node, as if it had never been seen.
func (c *Cluster) forget(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forgetLocked(id)
}

func (c *Cluster) forgetLocked(id string) {
	delete(c.died, id)
	delete(c.nodes, id)
	delete(c.known, id)
}

// gone lists the nodes that died or left, in no order.
func (c *Cluster) gone() []goneNode {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []goneNode
	for id, at := range c.died {
		all = append(all, goneNode{c.nodes[id], at})
	}
	return all
}
