package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/broker/webhook"
	"github.com/pushd/pushd/protocol"
	"github.com/pushd/pushd/raftstore"
)

// webhooks is the node as package webhook needs it, and the key that seals
// secrets: a file of its own, so that neither logs nor snapshots tell them.
type webhooks struct {
	n   *Node
	key atomic.Pointer[[]byte]
}

// openWebhooks starts the dispatcher.
func (n *Node) openWebhooks(run context.Context) error {
	w := &webhooks{n: n}
	key, err := os.ReadFile(n.home.path(webhookKeyFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read the key for webhook secrets: %w", err)
	}
	if len(key) == webhook.KeyBytes {
		w.key.Store(&key)
	}
	n.webhooks = webhook.New(webhook.Options{
		Broker: n.broker, Node: w, Log: n.log, Tracer: n.telemetry.tracer(), Own: n.ownAddress,
		AllowPrivate: n.cfg.WebhookAllowPrivate, AllowHTTP: n.cfg.WebhookAllowHTTP, NoVerify: n.cfg.WebhookNoVerify,
	})
	n.link.Handle(methodWebhooks, func(_ context.Context, _ string, req []byte) ([]byte, error) {
		answer, err := n.webhooks.Answer(req)
		return answer, toLink(err)
	})
	n.link.Handle(methodWebhookKey, func(context.Context, string, []byte) ([]byte, error) { return w.Key(), nil })
	n.wg.Go(func() { w.keepKey(run) })
	return nil
}

// ownAddress says whether an address is one of a node: a webhook there would
// feed the cluster with its own events.
func (n *Node) ownAddress(at netip.AddrPort) bool {
	for _, peer := range n.gossip.Nodes() {
		for _, addr := range []string{peer.ClientAddr, peer.PeerAddr, peer.GossipAddr} {
			if own, err := netip.ParseAddrPort(addr); err == nil && own.Port() == at.Port() && (own.Addr() == at.Addr() || own.Addr().IsUnspecified() && ofThisHost(at.Addr())) {
				return true
			}
		}
	}
	return false
}

// ofThisHost says whether an address is one of this host's interfaces.
func ofThisHost(addr netip.Addr) bool {
	list, _ := net.InterfaceAddrs() // none that can't be listed
	for _, a := range list {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Unmap() == addr {
			return true
		}
	}
	return addr.IsLoopback() || addr.IsUnspecified()
}

func (w *webhooks) Catalog() *broker.Catalog { return w.n.meta.Catalog() }

// Change returns when the catalog here has the change, too.
func (w *webhooks) Change(ctx context.Context, c broker.MetaCommand) error {
	_, err := w.n.askMeta(ctx, methodCatalog, c.Encode())
	if errors.Is(err, broker.ErrOutcomeUnknown) {
		return protocol.OutcomeUnknown.Errorf("the catalog's leader was lost before it answered: the change may be made or not; look, and try again (%v)", err)
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	for !seen(w.n.meta.Catalog(), c) && broker.Pause(ctx, seenPause) {
	}
	return nil
}

func seen(catalog *broker.Catalog, c broker.MetaCommand) bool {
	switch c := c.(type) {
	case broker.PutWebhook:
		w := catalog.Webhook(c.Webhook.ID)
		return w != nil && w.Revision >= c.Webhook.Revision
	case broker.DeleteWebhook:
		return catalog.Webhook(c.ID) == nil
	}
	return true
}

func (w *webhooks) Leading() map[uint16]uint64 {
	led := map[uint16]uint64{}
	for _, p := range w.n.groups.ids() {
		if r, ok := w.n.groups.get(p); ok && r.IsLeader() {
			led[p] = r.Term()
		}
	}
	return led
}

func (w *webhooks) Barrier(ctx context.Context, partition uint16) error {
	r, ok := w.n.groups.get(partition)
	if !ok {
		return broker.ErrNotLeader
	}
	return r.Barrier(ctx)
}

func (w *webhooks) Ask(ctx context.Context, req []byte) [][]byte {
	return w.n.askAll(ctx, askTimeout, methodWebhooks, req)
}

func (w *webhooks) Key() []byte {
	if key := w.key.Load(); key != nil && webhook.Fingerprint(*key) == w.n.meta.Catalog().WebhookKey {
		return *key
	}
	return nil
}

// keepKey makes the cluster's key, if this node is the first to, or gets it
// from a node that has it.
func (w *webhooks) keepKey(ctx context.Context) {
	for broker.Pause(ctx, keyPeriod) {
		catalog := w.n.meta.Catalog()
		switch {
		case catalog.ClusterID == "" || w.Key() != nil:
		case catalog.WebhookKey != "":
			for _, key := range w.n.askAll(ctx, askTimeout, methodWebhookKey, nil) {
				if w.Key() == nil && len(key) == webhook.KeyBytes && webhook.Fingerprint(key) == catalog.WebhookKey {
					w.keep(key)
				}
			}
		case w.n.metaGroup.IsLeader():
			key := webhook.NewKey()
			w.keep(key) // before anybody relies on it
			w.n.propose(ctx, "name the key for webhook secrets", broker.SetWebhookKey{Fingerprint: webhook.Fingerprint(key)})
		}
	}
}

func (w *webhooks) keep(key []byte) {
	if err := writeDurably(w.n.home.path(webhookKeyFile), key); err != nil {
		w.n.log.Error("the key for webhook secrets could not be written", "err", err)
		return
	}
	w.key.Store(&key)
}

// transfer hands a group's leadership over when its webhooks rest, so that the
// next leader sends nothing twice.
func (n *Node) transfer(g *raftstore.Group) func(ctx context.Context, to string) error {
	return func(ctx context.Context, to string) error {
		if g.ID() == metaGroup || n.webhooks == nil {
			return g.TransferLeadership(ctx, to)
		}
		rest, cancel := context.WithTimeout(ctx, changeTimeout/2)
		n.webhooks.Drain(rest, g.ID()-groupOf(0))
		cancel()
		err := g.TransferLeadership(ctx, to)
		if err != nil {
			n.webhooks.Reopen(g.ID() - groupOf(0))
		}
		return err
	}
}

// drainWebhooks lets what this node still leads come to rest.
func (n *Node) drainWebhooks(ctx context.Context) {
	var wg sync.WaitGroup
	for _, p := range n.groups.ids() {
		wg.Go(func() { n.webhooks.Drain(ctx, p) })
	}
	wg.Wait()
}
