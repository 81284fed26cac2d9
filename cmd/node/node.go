package node

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/broker/webhook"
	"github.com/pushd/pushd/cluster"
	"github.com/pushd/pushd/edge"
	"github.com/pushd/pushd/raftstore"
)

// Node is one running pushd.
type Node struct {
	cfg  Config
	log  *slog.Logger
	home *home

	gossip    *cluster.Cluster
	link      *cluster.Link
	presence  *cluster.Presence
	recorder  *recorder
	store     *raftstore.Store
	broker    *broker.Broker
	meta      *broker.Meta
	metaGroup *raftstore.Group
	groups    groups
	edge      *edge.Server
	webhooks  *webhook.Dispatcher
	telemetry telemetry

	clients, peerListener net.Listener
	socket                net.Listener // of clients on this host; nil: there is none
	door                  edge.Door    // of clients
	proxies               []netip.Prefix
	transferred           pacer // hand-overs to preferred leaders
	absent                absences
	probes                probes
	strayed               map[uint16]time.Time // replicas that are others' now, since when; dropStrays' own
	stopping              atomic.Bool
	draining              drainers
	reported              map[string]bool              // nodes that the log says are gone; the reconciler's own
	refusal               atomic.Value                 // the catalog's last one in the log, a string
	placing               chan struct{}                // capacity 1: held while the placement is changed
	keys                  atomic.Pointer[cluster.Keys] // nil: none
	keyTrouble            string                       // why the key file is no use, in the log already; watchKeys' own

	fatal  chan error // capacity 1
	cancel context.CancelFunc
	wg     sync.WaitGroup
	once   sync.Once // guards the stop
}

// Start opens the data directory and the listeners, and returns a node that is
// on its way to being ready: see [Node.Ready]. Errors say what to change.
func Start(ctx context.Context, cfg Config) (*Node, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	use := homeFounds
	if len(cfg.Join) > 0 {
		use = homeJoins
	}
	home, err := openHome(cfg.DataDir, use)
	if err != nil {
		return nil, err
	}
	n := &Node{cfg: cfg, log: cfg.Log, home: home, fatal: make(chan error, 1), groups: groups{open: map[uint16]*replica{}}, placing: make(chan struct{}, 1)}
	run, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	if err := n.open(ctx, run); err != nil {
		n.close()
		return nil, err
	}
	return n, nil
}

// open starts the parts from the bottom up.
func (n *Node) open(ctx, run context.Context) (err error) {
	if err := n.openClients(); err != nil {
		return err
	}
	if n.peerListener, err = n.cfg.listen(n.cfg.PeerAddr, "peer-addr"); err != nil {
		return err
	}
	if err := n.openTelemetry(ctx); err != nil {
		return err
	}
	if err := n.openCluster(ctx); err != nil {
		return err
	}
	if err := n.openStore(); err != nil {
		return err
	}
	n.startPresence(run)
	if err := n.openWebhooks(run); err != nil {
		return err
	}
	if err := n.openEdge(run); err != nil {
		return err
	}
	n.wg.Go(func() { n.reconcile(run) })
	n.wg.Go(func() { n.watchFatal(run) })
	n.wg.Go(func() { n.dropStrays(run) })
	n.wg.Go(func() { n.watchSilence(run) })
	if n.cfg.ClusterKeyFile != "" {
		n.wg.Go(func() { n.watchKeys(run) })
	}
	if len(n.cfg.Join) > 0 {
		n.wg.Go(func() { n.remindOfJoin(run) })
	}
	return nil
}

func (n *Node) openCluster(ctx context.Context) (err error) {
	keys, err := n.cfg.keys()
	if err != nil {
		return err
	}
	var secure *tls.Config
	if keys != nil {
		if secure, err = keys.TLS(); err != nil {
			return err
		}
		n.keys.Store(&keys)
	}
	n.gossip, err = cluster.Start(ctx, cluster.Options{
		ID: n.home.NodeID, Name: n.cfg.NodeName, ClusterID: n.home.ClusterID,
		Role: n.cfg.Role, Zone: n.cfg.Zone, Version: n.cfg.Version, Started: time.Now(),
		ClientAddr: n.clients.Addr().String(), PeerAddr: n.peerListener.Addr().String(), GossipAddr: n.cfg.GossipAddr,
		Protocols: n.protocols(), Seeds: n.cfg.Join, KnownPath: n.home.path(peersFile), Keys: keys, Transport: n.cfg.transport(), Log: n.log,
	})
	if err != nil {
		return err
	}
	n.link = cluster.NewLink(cluster.LinkOptions{
		Self: n.home.NodeID, ClusterID: n.gossip.ClusterID, Listener: n.peerListener, TLS: secure, Dial: n.cfg.dialer(), Log: n.log,
		Protocols: n.protocols(), Theirs: func(id string) (cluster.Protocols, bool) {
			peer, ok := n.gossip.Node(id)
			return peer.Protocols, ok
		},
		Resolve: func(id string) (string, bool) {
			peer, ok := n.gossip.Node(id)
			return peer.PeerAddr, ok
		},
	})
	return nil
}

func (n *Node) openStore() (err error) {
	n.meta = broker.NewMeta()
	n.broker, err = broker.New(broker.Options{
		Self: n.home.NodeID, Dir: n.home.path("part"), Peers: peers{n.link, n.gossip}, Log: n.log, Damaged: n.partitionDamaged, Fatal: n.segmentFailed,
	})
	if err != nil {
		return err
	}
	n.store, err = raftstore.Open(raftstore.Options{
		Dir: n.home.dir, NodeID: n.home.NodeID, Log: n.log, Fatal: n.diskFailed, Rebuild: n.mayRebuild, MinFree: int64(n.cfg.MinFreeMiB) << 20, SegmentBytes: n.cfg.segmentBytes(), TransferRate: int64(n.cfg.TransferMiB) << 20,
		Listener: n.link.Listen(cluster.KindRaft),
		Dial: func(ctx context.Context, id string) (net.Conn, error) {
			return n.link.Dial(ctx, id, cluster.KindRaft)
		},
	})
	if err != nil {
		return err
	}
	var bootstrap []string
	if n.home.Founder && !n.home.Founded {
		bootstrap = []string{n.home.NodeID}
	}
	if n.metaGroup, err = n.store.OpenGroup(metaGroup, metaMachine{n.meta}, bootstrap); err != nil {
		return err
	}
	n.handlePeers() // which asks for the groups: until here others are told that nothing was done
	return nil
}

// handlePeers answers what other nodes ask on the peer link.
func (n *Node) handlePeers() {
	for _, method := range []uint8{broker.MethodPublish, broker.MethodRead, broker.MethodLive, broker.MethodTopics, broker.MethodConsumer, broker.MethodLeader, broker.MethodFeedChange} {
		n.link.Handle(method, func(ctx context.Context, from string, req []byte) ([]byte, error) {
			answer, err := n.broker.ServeCall(ctx, from, method, req)
			return answer, toLink(err)
		})
	}
	n.link.HandleStream(broker.MethodFeed, func(ctx context.Context, from string, req []byte, send func([]byte) error) error {
		return toLink(n.broker.ServeStream(ctx, from, broker.MethodFeed, req, send))
	})
	n.link.Handle(methodReport, func(context.Context, string, []byte) ([]byte, error) {
		return json.Marshal(n.report())
	})
	for _, method := range []uint8{methodCatalog, methodChange} {
		n.link.Handle(method, func(ctx context.Context, _ string, req []byte) ([]byte, error) {
			answer, err := n.serveMeta(ctx, method, req)
			return answer, toLink(err)
		})
	}
	n.link.Handle(methodRelease, func(ctx context.Context, from string, req []byte) ([]byte, error) {
		return nil, n.release(ctx, from, req)
	})
	n.link.Handle(methodRemoved, func(context.Context, string, []byte) ([]byte, error) { return nil, n.removed() })
	n.link.Handle(methodReaders, func(_ context.Context, _ string, req []byte) ([]byte, error) {
		answer, err := n.countReaders(req)
		return answer, toLink(err)
	})
	n.link.Handle(methodSilence, func(_ context.Context, _ string, req []byte) ([]byte, error) {
		silent, known := n.store.Silence(string(req))
		return json.Marshal(silence{silent, known})
	})
	n.link.Handle(methodSucceed, func(_ context.Context, _ string, req []byte) ([]byte, error) {
		n.succeed(string(req))
		return nil, nil
	})
	n.link.Handle(methodDraining, func(_ context.Context, from string, _ []byte) ([]byte, error) {
		if peer, ok := n.gossip.Node(from); ok {
			n.draining.note(peer)
		}
		return nil, nil
	})
}

func (n *Node) openEdge(run context.Context) error {
	auth, err := openAuth(n.cfg.auth())
	if err != nil {
		return err
	}
	n.edge = edge.New(edge.Options{
		Broker: clientBroker{n.broker, n}, Cluster: n, Policies: policies{n}, Presence: presence{n}, Metrics: n.appendMetrics, Webhooks: n.webhooks,
		Health: n, Log: n.log, Tracer: n.telemetry.tracer(), DrainWindow: n.drainWindow, Deflate: n.cfg.WSDeflate, Limits: n.cfg.Limits,
		Auth: auth, NodeID: n.home.NodeID, Redeem: n.redeem, Origins: n.cfg.AllowOrigin, AnyHost: n.cfg.InsecureNoAuth, Proxies: n.proxies,
	})
	n.link.Handle(methodTicket, func(_ context.Context, _ string, req []byte) ([]byte, error) {
		credential, err := n.edge.TakeTicket(string(req))
		return []byte(credential), toLink(err)
	})
	if auth != nil {
		n.wg.Go(func() { auth.Run(run) })
	}
	n.serveClients()
	return nil
}

// Ready is nil when the node can serve any client: it knows the cluster, every
// partition has a leader, and it is not about to stop. Otherwise it says what is
// missing. It answers probes from outside, and learns from them.
func (n *Node) Ready() error {
	stopping := n.stopping.Load()
	n.probes.note(stopping, time.Now())
	if stopping {
		return errors.New("this node is about to stop")
	}
	return n.ready()
}

func (n *Node) ready() error {
	catalog := n.meta.Catalog()
	switch {
	case n.gossip.ClusterID() == "":
		return errors.New("no member of the cluster has answered yet; check --join and that the other node runs")
	case catalog.ClusterID == "":
		return errors.New("the cluster's catalog has not arrived yet")
	}
	for p, replicas := range catalog.Partitions {
		if _, open := n.groups.get(uint16(p)); !open && slices.Contains(replicas, n.home.NodeID) {
			return fmt.Errorf("partition %d is not open yet", p)
		}
		if _, known := n.broker.Leader(uint16(p)); !known {
			return fmt.Errorf("partition %d has no leader just now", p)
		}
	}
	if stale := n.groups.stale(); len(stale) > 0 {
		return fmt.Errorf("%d replicas of this node still catch up", len(stale))
	}
	return nil
}

// GossipAddr is what another node joins.
func (n *Node) GossipAddr() string { return n.gossip.Self().GossipAddr }

// Fatal yields why the node can't go on.
func (n *Node) Fatal() <-chan error { return n.fatal }

// fail ends the node, once.
func (n *Node) fail(err error) {
	select {
	case n.fatal <- err:
	default: // the first reason is the one that counts
	}
}

// watchFatal stops the node when gossip finds that it must not go on, and
// remembers the cluster that a new node has joined.
func (n *Node) watchFatal(ctx context.Context) {
	changed, stop := n.gossip.Watch()
	defer stop()
	for {
		if id := n.gossip.ClusterID(); n.home.ClusterID == "" && id != "" {
			n.home.ClusterID = id
			if err := n.home.save(); err != nil {
				n.fail(err)
			}
			n.log.Info("joined the cluster", "cluster", id)
		}
		select {
		case <-ctx.Done():
			return
		case err := <-n.gossip.Fatal():
			n.fail(err)
		case <-changed:
		}
	}
}

// remindOfJoin says that the node still waits, for as long as it does.
func (n *Node) remindOfJoin(ctx context.Context) {
	for {
		wait, cancel := context.WithTimeout(ctx, joinReminder)
		err := n.gossip.WaitJoined(wait)
		cancel()
		if err == nil || ctx.Err() != nil {
			return
		}
		n.log.Warn("no member answers yet; still trying", "join", n.cfg.Join, "err", orElse(n.gossip.JoinTrouble(), "no answer"))
	}
}

// close ends whatever was started, from the top down.
func (n *Node) close() {
	n.cancel()
	if n.edge == nil && n.clients != nil {
		_ = n.clients.Close()
		if n.socket != nil {
			_ = n.socket.Close()
		}
	}
	if n.webhooks != nil {
		n.webhooks.Close()
	}
	if n.presence != nil {
		n.presence.Close()
	}
	if n.gossip != nil {
		_ = n.gossip.Close()
	}
	if n.store != nil {
		_ = n.store.Close()
	}
	if n.broker != nil {
		_ = n.broker.Close()
	}
	if n.link != nil {
		_ = n.link.Close()
	} else if n.peerListener != nil {
		_ = n.peerListener.Close()
	}
	n.wg.Wait()
	n.home.close()
	n.telemetry.close()
}
