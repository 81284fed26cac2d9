package cluster

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// join asks once, and all at a time: the seeds, and members that are not alive.
// What it learns arrives by the callbacks.
func (c *Cluster) join(ctx context.Context) {
	var wg sync.WaitGroup
	var asked sync.Map // seeds and last-known addresses are often the same
	ask := func(addr string, seed bool) {
		if _, again := asked.LoadOrStore(addr, true); !again {
			wg.Go(func() { c.ask(addr, seed) })
		}
	}
	for _, seed := range c.options.Seeds {
		wg.Go(func() {
			for _, addr := range c.some(resolveSeed(ctx, seed)) {
				ask(addr, true)
			}
		})
	}
	for _, addr := range c.some(c.lastKnown()) {
		ask(addr, false)
	}
	wg.Wait()
}

// ask exchanges all that is known with one address.
func (c *Cluster) ask(addr string, seed bool) {
	_, err := c.list.Join([]string{addr})
	if err == nil {
		return
	}
	refusal := otherClusterIn(err)
	switch {
	case keyTrouble(err, len(c.options.Keys) > 0) != "":
		c.mu.Lock()
		c.trouble = addr + ": " + keyTrouble(err, len(c.options.Keys) > 0)
		c.mu.Unlock()
	case refusal == nil:
		c.log.Debug("member did not answer", "addr", addr, "err", err)
	case seed && !c.seen():
		c.fail(refusal)
	default: // an address that has changed hands is no reason to stop a member
		c.log.Debug("address belongs to another cluster now", "addr", addr, "err", refusal)
	}
}

// otherClusterIn finds our own refusal in what memberlist made of it: it passes
// errors on as text only.
func otherClusterIn(err error) error {
	text := err.Error()
	at := strings.Index(text, ErrOtherCluster.Error())
	if at < 0 {
		return nil
	}
	text, _, _ = strings.Cut(text[at+len(ErrOtherCluster.Error()):], "\n")
	return fmt.Errorf("%w%s", ErrOtherCluster, text)
}

// keepJoining looks for members that are not there: memberlist forgets a split
// that lasted, and never asks a seed twice.
func (c *Cluster) keepJoining(ctx context.Context) {
	pause := firstJoin
	wait := time.NewTimer(pause)
	defer wait.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-wait.C:
		}
		if c.Self().State != StateLeft {
			c.join(ctx)
		}
		c.forgetOld(time.Now())
		c.settle(time.Now())
		pause = min(pause*3/2, rejoinEvery)
		if c.seen() {
			pause = rejoinEvery
		}
		wait.Reset(pause)
	}
}

func (c *Cluster) seen() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.sawOther.IsZero()
}

// settle ends this node's time as a newcomer, once it has been with others for
// long enough to hear of whoever has its name or its id.
func (c *Cluster) settle(now time.Time) {
	c.mu.Lock()
	ripe := !c.self.settled && c.reason == nil && !c.sawOther.IsZero() && now.Sub(c.sawOther) > settleAfter && now.Sub(c.contested) > contestedFor
	if ripe {
		c.self.settled = true
	}
	c.mu.Unlock()
	if ripe {
		c.announce(noWait)
		c.speak()
	}
}

// worthAsking says whether an address may tell something new: it is not this
// node's nor, unless the members hold this node to be elsewhere, a living one's.
func (c *Cluster) worthAsking(addr string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if addr == c.self.GossipAddr {
		return false
	}
	if time.Since(c.contested) < contestedFor {
		return true
	}
	for _, n := range c.nodes {
		if n.GossipAddr == addr && n.State.Alive() {
			return n.ClusterID != c.self.ClusterID // it may have adopted another one since
		}
	}
	return true
}

func (c *Cluster) lastKnown() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Values(c.known))
}

// some is those addresses that are worth asking in one round, chosen by chance:
// all get their turn.
func (c *Cluster) some(addrs []string) []string {
	addrs = slices.DeleteFunc(addrs, func(addr string) bool { return !c.worthAsking(addr) })
	rand.Shuffle(len(addrs), func(i, j int) { addrs[i], addrs[j] = addrs[j], addrs[i] })
	return addrs[:min(len(addrs), joinTries)]
}

// checkTwice finds out whether the other holder of this node's id lives. The
// members may only not yet know that this node has moved: then they are asked
// again until they do. Of two that live the newcomer gives way.
func (c *Cluster) checkTwice(other Node) {
	addr, err := gossipUDP(other.GossipAddr)
	if err == nil {
		_, err = c.list.Ping(c.options.ID, addr)
	}
	if err != nil {
		c.mu.Lock()
		c.contested = time.Now()
		c.mu.Unlock()
		return
	}
	if !c.newcomer(other) {
		c.log.Warn("a copy of this node's data directory was started elsewhere", "addr", other.GossipAddr)
		return
	}
	c.fail(fmt.Errorf("%w: at %s; two processes must never share a copied data directory: give this one an empty --data-dir", ErrTwice, other.GossipAddr))
}

// newcomer says whether this node is the one to give way.
func (c *Cluster) newcomer(other Node) bool {
	self := c.Self()
	return other.before(&self)
}

// admit refuses nodes of another cluster, and adopts the cluster's id at once:
// a node without one must not become a bridge between two.
func (c *Cluster) admit(n Node) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case n.ClusterID == "" || n.ClusterID == c.self.ClusterID:
		return nil
	case c.self.ClusterID == "":
		c.self.ClusterID = n.ClusterID
		return nil
	}
	if err := recovered(c.self.ClusterID, n); err != nil {
		return err
	}
	return fmt.Errorf("%w: this node's data directory belongs to cluster %s, the node at %s to cluster %s; join a member of the right cluster with --join, or start with an empty --data-dir", ErrOtherCluster, c.self.ClusterID, n.GossipAddr, n.ClusterID)
}

// checkName stops this node if the other one, alive or dead, had its name before.
func (c *Cluster) checkName(n Node) error {
	self := c.Self()
	if n.Name != self.Name || n.ID == self.ID {
		return nil
	}
	if !c.newcomer(n) {
		c.log.Warn("another node was started with this node's name and has to go", "node", n.Name, "addr", n.GossipAddr)
		return nil
	}
	text := "node name %s is already taken by the node at %s; start this one with another --node-name"
	if !n.State.Alive() {
		text = "node name %s belongs to a member that is down, last seen at %s; start that one from its own --data-dir, or this one with another --node-name"
	}
	err := taken{fmt.Sprintf(text, n.Name, n.GossipAddr)}
	c.fail(err)
	return err
}

// taken is an [ErrNameTaken] that says it in one sentence.
type taken struct{ text string }

func (t taken) Error() string { return t.text }

func (t taken) Is(target error) bool { return target == ErrNameTaken }
