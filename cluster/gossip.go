package cluster

import (
	"fmt"
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
	what eventKind
	node Node
	at   time.Time // when a relayed node went
}

type eventKind byte

const (
	eventUp       eventKind = iota // joined or changed
	eventGone                      // died or left
	eventRelayed                   // another member says that this one is gone
	eventForeign                   // turned out to be of another cluster
	eventConflict                  // this node's id at another address
)

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

func (d delegate) NotifyMsg(b []byte)            { d.c.presencePacket(b) }
func (delegate) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState gives the other side how much is known of presence, and the nodes
// that are gone: memberlist forgets them within a minute, and with them whose
// name is whose.
func (d delegate) LocalState(bool) []byte {
	return appendGone(d.c.appendPresence(nil), d.c.gone(), time.Now())
}

func (d delegate) MergeRemoteState(state []byte, _ bool) {
	gone, err := decodeGone(d.c.takePresence(state), time.Now())
	if err != nil {
		d.c.log.Debug("a member's list of nodes that are gone is malformed", "err", err)
		return
	}
	for _, g := range gone {
		if d.c.admit(g.node) != nil || d.c.checkName(g.node) != nil {
			continue
		}
		d.c.events.push(event{eventRelayed, g.node, g.at})
	}
}

func (d delegate) NotifyJoin(n *memberlist.Node)   { d.push(eventUp, n) }
func (d delegate) NotifyUpdate(n *memberlist.Node) { d.push(eventUp, n) }
func (d delegate) NotifyLeave(n *memberlist.Node)  { d.push(eventGone, n) }

// NotifyConflict tells that one id is used at two addresses: by copies of a
// data directory, or by a node that moved and is not yet held to be dead.
func (d delegate) NotifyConflict(_, other *memberlist.Node) {
	if other.Name == d.c.options.ID {
		d.push(eventConflict, other)
	}
}

func (d delegate) push(what eventKind, n *memberlist.Node) {
	if node, err := fromMemberlist(n); err == nil {
		d.c.events.push(event{what, node, time.Now()})
	}
}

func fromMemberlist(n *memberlist.Node) (Node, error) {
	node, err := decodeMeta(n.Meta)
	node.ID, node.GossipAddr = strings.Clone(n.Name), n.Address()
	node.reachFrom(node.GossipAddr)
	return node, err
}

// NotifyAlive keeps another cluster's nodes out of this one's view, and those
// that have a name which another member had before or speak what a member does not understand. It refuses nodes one by one,
// where refusing a whole merge could keep a split open.
func (d delegate) NotifyAlive(n *memberlist.Node) error {
	node, err := fromMemberlist(n)
	if err != nil {
		return fmt.Errorf("node %s: %w", n.Name, err)
	}
	if node.ID == d.c.options.ID {
		return nil
	}
	if err := d.admit(node); err != nil {
		return err
	}
	if err := d.c.checkProtocol(node); err != nil {
		return err
	}
	return d.c.nameIsFree(node)
}

// admit refuses another cluster's node, and drops it if it was taken for one of
// ours while it had not adopted a cluster.
func (d delegate) admit(n Node) error {
	err := d.c.admit(n)
	if err != nil {
		d.c.events.push(event{eventForeign, n, time.Now()})
		d.c.noteRecovered(n, err)
	}
	return err
}

// NotifyMerge is asked before a join takes effect, on both sides. It looks at all
// of them, since each may have to be dropped.
func (d delegate) NotifyMerge(peers []*memberlist.Node) (refusal error) {
	for _, p := range peers {
		node, err := fromMemberlist(p)
		if err != nil || p.State != memberlist.StateAlive || node.ID == d.c.options.ID {
			continue
		}
		if err = d.admit(node); err == nil {
			err = d.c.checkProtocol(node)
		}
		if err == nil {
			err = d.c.checkName(node)
		}
		if refusal == nil {
			refusal = err
		}
	}
	return refusal
}
