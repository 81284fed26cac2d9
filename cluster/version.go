package cluster

import (
	"errors"
	"fmt"
)

// Protocols are the versions of what nodes say to each other, on all ports
// between them: what a node understands, from Min to Max, and the one it Speaks.
type Protocols struct{ Min, Max, Speaks uint8 }

// What came with each version.
const (
	versionChecked = 2 // frames of calls have a checksum, unless TLS has
)

// BuildProtocols are those of this build. A version may be dropped from it once no
// node of the release before speaks it.
func BuildProtocols() Protocols { return Protocols{Min: 1, Max: versionChecked} }

// ErrTooFarApart says that two nodes have no version of the protocol in common.
var ErrTooFarApart = errors.New("the nodes' versions are too far apart")

// understands says whether two nodes have a version in common.
func (p Protocols) understands(other Protocols) bool {
	return p.Min <= other.Max && other.Min <= p.Max
}

// with is the version that two nodes speak to each other.
func (p Protocols) with(other Protocols) uint8 { return max(p.Min, min(p.Max, other.Max)) }

func (p Protocols) String() string {
	if p.Min == p.Max {
		return fmt.Sprint("version ", p.Min)
	}
	return fmt.Sprintf("versions %d to %d", p.Min, p.Max)
}

// checkProtocol refuses a node that does not understand each of the members, so
// that there are never two that hear of each other and can't talk. If it was here
// before this node, this node stops.
func (c *Cluster) checkProtocol(n Node) error {
	other, ok := c.misunderstood(n)
	if ok {
		return nil
	}
	err := fmt.Errorf("%w: %s runs pushd %s, which speaks protocol %v, and %s runs pushd %s, which speaks protocol %v; upgrade by way of a release between them",
		ErrTooFarApart, n.Name, n.Version, n.Protocols, other.Name, other.Version, other.Protocols)
	if other.ID == c.options.ID && c.newcomer(n) {
		c.fail(err)
		return err
	}
	c.mu.Lock()
	again := c.turnedDown == err.Error()
	c.turnedDown = err.Error()
	c.mu.Unlock()
	if !again {
		c.log.Warn("node refused", "node", n.Name, "addr", n.GossipAddr, "err", err)
	}
	return err
}

// misunderstood finds a living member that has no version in common with a node,
// this one first.
func (c *Cluster) misunderstood(n Node) (other Node, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.self.Protocols.understands(n.Protocols) {
		return c.self, false
	}
	for _, member := range c.nodes {
		if member.ID != n.ID && member.State.Alive() && !member.Protocols.understands(n.Protocols) {
			return member, false
		}
	}
	return Node{}, true
}

// speak goes over to the newest version that all nodes understand, those that are
// gone and may come back included. A newcomer speaks its oldest: it does not know
// yet who there is.
func (c *Cluster) speak() {
	c.mu.Lock()
	p := c.self.Protocols
	before := p.Speaks
	if p.Speaks = p.Min; c.self.settled {
		p.Speaks = p.Max
		for _, n := range c.nodes {
			p.Speaks = max(p.Min, min(p.Speaks, n.Protocols.Max))
		}
	}
	c.self.Protocols = p
	c.mu.Unlock()
	if p.Speaks != before {
		c.log.Info("protocol between nodes changed", "from", before, "to", p.Speaks)
		c.announce(noWait)
	}
}
