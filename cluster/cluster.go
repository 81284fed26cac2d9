package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// Errors that stop a node.
var (
	// ErrNameTaken says that another living node has this node's name.
	ErrNameTaken = errors.New("node name is taken")
	// ErrOtherCluster says that the node met a cluster that it does not belong to.
	ErrOtherCluster = errors.New("the other node belongs to another cluster")
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
	ClientAddr, PeerAddr string   // told to the others
	GossipAddr           string   // host:port to bind; port 0: any
	Seeds                []string // gossip addresses of members; host names count as all their addresses
	KnownPath            string   // file of last-known addresses; "": none
	Log                  *slog.Logger
	Transport            memberlist.Transport // nil: the network
}

// Cluster is this node's view of its cluster.
type Cluster struct {
	options Options
	log     *slog.Logger
	list    *memberlist.Memberlist
	events  eventQueue
	fatal   chan error
	joined  chan struct{} // closed once another member was seen
	stop    context.CancelFunc
	wg      sync.WaitGroup

	mu       sync.Mutex // guards what follows
	self     Node
	nodes    map[string]Node
	died     map[string]time.Time
	watchers map[chan struct{}]struct{}
	refusal  error // why the last join was refused by ourselves
	sawOther bool
}

// Start begins to gossip and tries its seeds once. It fails where this node may
// not be a member; that nobody answers is no failure: it keeps trying.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	run, stop := context.WithCancel(context.Background())
	c := &Cluster{
		options: o, log: o.Log, fatal: make(chan error, 1), joined: make(chan struct{}), stop: stop,
		nodes: map[string]Node{}, died: map[string]time.Time{}, watchers: map[chan struct{}]struct{}{},
		self: Node{
			ID: o.ID, Name: o.Name, ClusterID: o.ClusterID, State: StateAlive, Role: o.Role, Zone: o.Zone,
			Version: o.Version, ClientAddr: o.ClientAddr, PeerAddr: o.PeerAddr, Started: o.Started,
		},
	}
	c.events.ready = make(chan struct{}, 1)
	if err := c.listen(); err != nil {
		stop()
		return nil, err
	}
	c.wg.Go(func() { c.workEvents(run) })
	if err := c.join(ctx); err != nil {
		_ = c.Close()
		return nil, err
	}
	c.wg.Go(func() { c.keepJoining(run) })
	return c, nil
}

func (c *Cluster) listen() error {
	host, port, err := net.SplitHostPort(c.options.GossipAddr)
	if err != nil {
		return fmt.Errorf("gossip address %q: %w", c.options.GossipAddr, err)
	}
	ip, err := net.ResolveIPAddr("ip", host)
	if err != nil {
		return fmt.Errorf("gossip address %q: %w", c.options.GossipAddr, err)
	}
	number, _ := strconv.Atoi(port)
	c.list, err = memberlist.Create(c.config(ip.String(), number))
	if err != nil {
		if strings.Contains(err.Error(), "address already in use") {
			return fmt.Errorf("%w: %s; stop the process that has it, or choose another with --gossip-addr or --port-offset", ErrAddressInUse, c.options.GossipAddr)
		}
		return fmt.Errorf("start gossip at %s: %w", c.options.GossipAddr, err)
	}
	c.mu.Lock()
	c.self.GossipAddr = c.list.LocalNode().Address()
	c.mu.Unlock()
	return nil
}

// config holds what was measured: a death is seen in 2 to 4 s, and bursts of
// joins converge in about one.
func (c *Cluster) config(ip string, port int) *memberlist.Config {
	m := memberlist.DefaultLANConfig()
	m.Name = c.options.ID // never the human name: memberlist lets a second one "join" and see only itself
	m.BindAddr, m.BindPort, m.AdvertisePort = ip, port, port
	m.ProbeInterval, m.ProbeTimeout = probeInterval, probeTimeout
	m.SuspicionMult, m.SuspicionMaxTimeoutMult = suspicionMult, suspicionMax
	m.GossipInterval, m.RetransmitMult, m.PushPullInterval = gossipInterval, retransmitMult, pushPull
	m.EnableCompression = false
	m.DeadNodeReclaimTime = reclaim
	m.Transport = c.options.Transport
	m.LogOutput = logWriter{c.log}
	m.Delegate, m.Events, m.Conflict, m.Merge, m.Alive = c.delegates()
	return m
}

// Nodes lists every node that is known, this one included, in order of name.
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

// SetClusterID gives this node the id of the cluster that it founds.
func (c *Cluster) SetClusterID(id string) {
	c.mu.Lock()
	c.self.ClusterID = id
	c.mu.Unlock()
	c.announce()
}

// SetDraining tells the others whether this node is about to stop.
func (c *Cluster) SetDraining(draining bool) {
	state := StateAlive
	if draining {
		state = StateDraining
	}
	c.setState(state)
}

func (c *Cluster) setState(state State) {
	c.mu.Lock()
	changed := c.self.State != state
	c.self.State = state
	c.mu.Unlock()
	if changed {
		c.announce()
	}
}

// announce gossips this node's changed metadata. Never called by a callback.
func (c *Cluster) announce() {
	if err := c.list.UpdateNode(leaveTimeout); err != nil {
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
	defer c.mu.Unlock()
	for ch := range c.watchers {
		select {
		case ch <- struct{}{}:
		default: // it has a signal already
		}
	}
}

// Fatal yields why this node must stop.
func (c *Cluster) Fatal() <-chan error { return c.fatal }

func (c *Cluster) fail(err error) {
	select {
	case c.fatal <- err:
	default: // the first reason is the one that counts
	}
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

// Leave tells the others that this node goes on purpose: not a crash.
func (c *Cluster) Leave(context.Context) error {
	c.setState(StateLeft)
	if err := c.list.Leave(leaveTimeout); err != nil {
		return fmt.Errorf("leave the cluster: %w", err)
	}
	return nil
}

// Close ends gossip without a word.
func (c *Cluster) Close() error {
	c.stop()
	err := c.list.Shutdown()
	c.wg.Wait()
	return err
}

// join tries the seeds and the last-known members once.
func (c *Cluster) join(ctx context.Context) error {
	for _, addr := range c.candidates(ctx) {
		c.mu.Lock()
		c.refusal = nil
		c.mu.Unlock()
		_, err := c.list.Join([]string{addr})
		c.mu.Lock()
		refusal := c.refusal
		c.mu.Unlock()
		if refusal != nil {
			return refusal
		}
		if err != nil {
			c.log.Debug("member did not answer", "addr", addr, "err", err)
		}
	}
	return nil
}

// keepJoining looks for members that are not there: memberlist forgets a split
// that lasted, and never asks a seed twice.
func (c *Cluster) keepJoining(ctx context.Context) {
	wait := time.NewTimer(firstJoin)
	defer wait.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-wait.C:
		}
		if err := c.join(ctx); err != nil && ctx.Err() == nil {
			c.fail(err)
			return
		}
		c.forgetOld()
		next := rejoinEvery
		if !c.seen() && len(c.options.Seeds) > 0 {
			next = firstJoin
		}
		wait.Reset(next)
	}
}

func (c *Cluster) seen() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sawOther
}

// candidates are addresses worth asking: seeds, and members not alive now, but
// none that is.
func (c *Cluster) candidates(ctx context.Context) (out []string) {
	alive := map[string]bool{c.Self().GossipAddr: true}
	var dead []string
	c.mu.Lock()
	for _, n := range c.nodes {
		if n.State.Alive() {
			alive[n.GossipAddr] = true
		} else if n.State == StateDead {
			dead = append(dead, n.GossipAddr)
		}
	}
	fresh := !c.sawOther
	c.mu.Unlock()
	if fresh {
		dead = append(dead, loadKnown(c.options.KnownPath)...)
	}
	slices.Sort(dead)
	if start := int(time.Now().UnixNano()); len(dead) > joinTries && !fresh {
		start = int(uint(start) % uint(len(dead)))
		dead = append(dead[start:], dead[:start]...)[:joinTries]
	}
	for _, addr := range append(resolveSeeds(ctx, c.options.Seeds), dead...) {
		if !alive[addr] && !slices.Contains(out, addr) {
			out = append(out, addr)
		}
	}
	return out
}

// forgetOld drops nodes that have been gone for days.
func (c *Cluster) forgetOld() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, at := range c.died {
		if time.Since(at) > keepDead {
			delete(c.died, id)
			delete(c.nodes, id)
		}
	}
}
