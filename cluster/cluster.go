package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// Errors that stop a node.
var (
	// ErrNameTaken says that another node has this node's name.
	ErrNameTaken = errors.New("node name is taken")
	// ErrOtherCluster says that the node met a cluster that it does not belong to.
	ErrOtherCluster = errors.New("the other node belongs to another cluster")
	// ErrGivenUp says that this node's cluster carried on without it, by force.
	ErrGivenUp = errors.New("this node was given up")
	// ErrAddressInUse says that the gossip address can't be bound.
	ErrAddressInUse = errors.New("gossip address is in use")
	// ErrTwice says that two processes run with copies of one data directory.
	ErrTwice = errors.New("another process runs with this node's id")
)

// Options configure a [Cluster].
type Options struct {
	ID, Name, ClusterID  string // ClusterID "": adopt that of the first member met
	Role, Zone, Version  string
	Started              time.Time
	ClientAddr, PeerAddr string    // told to the others; an unspecified host becomes the gossip address's
	GossipAddr           string    // host:port to bind; port 0: any
	Seeds                []string  // gossip addresses of members; host names count as all their addresses
	KnownPath            string    // file of last-known addresses; "": none
	Keys                 Keys      // gossip is encrypted with the first; none: not at all
	Protocols            Protocols // versions that this node understands; zero: those of this build
	Log                  *slog.Logger
	Transport            memberlist.Transport // nil: the network
}

// Cluster is this node's view of its cluster.
type Cluster struct {
	options Options
	log     *slog.Logger
	list    *memberlist.Memberlist
	keyring *memberlist.Keyring // nil: gossip is in the clear
	events  eventQueue
	fatal   chan error    // capacity 1
	joined  chan struct{} // closed once another member was seen
	stop    context.CancelFunc
	wg      sync.WaitGroup

	presence atomic.Pointer[Presence] // nil: none was started

	mu         sync.Mutex // guards what follows
	self       Node
	nodes      map[string]Node      // the others, by id
	died       map[string]time.Time // when those not alive went
	known      map[string]string    // last-known gossip addresses, by id
	watchers   map[chan struct{}]struct{}
	trouble    string    // why a seed that was asked is no use, in words
	turnedDown string    // the last node that was refused for its version, and why
	reason     error     // why this node must stop; the first one counts
	sawOther   time.Time // when the first was seen since the start
	contested  time.Time // when members last held this node to be elsewhere
}

// Start begins to gossip and tries its seeds once. It fails where this node may
// not be a member; that nobody answers is no failure: it keeps trying.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	run, stop := context.WithCancel(context.Background())
	c := newCluster(o, stop)
	if err := c.listen(); err != nil {
		stop()
		return nil, err
	}
	c.wg.Go(func() { c.workEvents(run) })
	c.join(ctx)
	c.speak()
	if err := c.mustStop(); err != nil {
		_ = c.Close()
		return nil, err
	}
	c.wg.Go(func() { c.keepJoining(run) })
	return c, nil
}

func newCluster(o Options, stop context.CancelFunc) *Cluster {
	c := &Cluster{
		options: o, log: o.Log, fatal: make(chan error, 1), joined: make(chan struct{}), stop: stop,
		nodes: map[string]Node{}, died: map[string]time.Time{}, known: loadKnown(o.KnownPath),
		watchers: map[chan struct{}]struct{}{},
		self: Node{
			ID: o.ID, Name: o.Name, ClusterID: o.ClusterID, State: StateAlive, Role: o.Role, Zone: o.Zone,
			Version: o.Version, ClientAddr: o.ClientAddr, PeerAddr: o.PeerAddr, Started: o.Started,
		},
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if c.self.Protocols = o.Protocols; o.Protocols == (Protocols{}) {
		c.self.Protocols = BuildProtocols()
	}
	c.self.Protocols.Speaks = c.self.Protocols.Min
	c.self.settled = len(o.Seeds) == 0 && len(c.known) == 0 // a founder is nobody's newcomer
	c.events.ready = make(chan struct{}, 1)
	return c
}

// Nodes lists every node that is known, this one included, in order of name.
// Those that died or left stay in it for 72 h.
func (c *Cluster) Nodes() []Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := append(slices.Collect(maps.Values(c.nodes)), c.self)
	slices.SortFunc(all, func(a, b Node) int { return strings.Compare(a.Name+a.ID, b.Name+b.ID) })
	return all
}

// Node is one node by its id.
func (c *Cluster) Node(id string) (Node, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if id == c.self.ID {
		return c.self, true
	}
	n, ok := c.nodes[id]
	return n, ok
}

// Self is this node.
func (c *Cluster) Self() Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.self
}

// ClusterID is the cluster's id, "" while it is unknown.
func (c *Cluster) ClusterID() string { return c.Self().ClusterID }

// SetDraining tells the others whether this node is about to stop.
func (c *Cluster) SetDraining(draining bool) {
	state := StateAlive
	if draining {
		state = StateDraining
	}
	c.setState(state, noWait)
}

func (c *Cluster) setState(state State, wait time.Duration) {
	c.mu.Lock()
	changed := c.self.State != state && c.self.State != StateLeft
	if changed {
		c.self.State = state
	}
	c.mu.Unlock()
	if changed {
		c.announce(wait)
	}
}

// announce gossips this node's changed metadata, and waits for so long until it
// has been sent. Never called by a callback.
func (c *Cluster) announce(wait time.Duration) {
	if err := c.list.UpdateNode(wait); err != nil {
		c.log.Debug("new metadata not yet gossiped", "err", err)
	}
	c.tell()
}

// Watch returns a channel that gets a signal after something changed, and the
// function that ends it.
func (c *Cluster) Watch() (<-chan struct{}, func()) {
	ch := make(chan struct{}, 1)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watchers[ch] = struct{}{}
	return ch, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.watchers, ch)
	}
}

func (c *Cluster) tell() {
	c.mu.Lock()
	watchers := slices.Collect(maps.Keys(c.watchers))
	c.mu.Unlock()
	for _, ch := range watchers {
		select {
		case ch <- struct{}{}:
		default: // it has a signal already
		}
	}
}

// Fatal yields why this node must stop.
func (c *Cluster) Fatal() <-chan error { return c.fatal }

// fail may be called by callbacks.
func (c *Cluster) fail(err error) {
	c.mu.Lock()
	first := c.reason == nil
	if first {
		c.reason = err
	}
	c.mu.Unlock()
	if first {
		c.fatal <- err // capacity 1, and this is the only one: never blocks
	}
}

func (c *Cluster) mustStop() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reason
}

// WaitJoined returns once another member has been seen.
func (c *Cluster) WaitJoined(ctx context.Context) error {
	select {
	case <-c.joined:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// JoinTrouble says in words why seeds that answer are no use, "" if nothing is
// known.
func (c *Cluster) JoinTrouble() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.trouble
}

// Leave tells the others that this node stops on purpose, before it does:
// memberlist's callbacks can't tell a leave from a crash. Close comes after.
func (c *Cluster) Leave(ctx context.Context) error {
	if !c.hasOthers() {
		return nil
	}
	c.setState(StateLeft, leaveTimeout)
	timeout := leaveTimeout
	if deadline, ok := ctx.Deadline(); ok {
		timeout = max(time.Millisecond, min(timeout, time.Until(deadline)))
	}
	if err := c.list.Leave(timeout); err != nil {
		return fmt.Errorf("leave the cluster: %w", err)
	}
	return nil
}

// hasOthers says whether there is anybody to tell something.
func (c *Cluster) hasOthers() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.nodes {
		if n.State.Alive() {
			return true
		}
	}
	return false
}

// Close ends gossip without a word.
func (c *Cluster) Close() error {
	c.stop()
	err := c.list.Shutdown()
	c.wg.Wait()
	return err
}
