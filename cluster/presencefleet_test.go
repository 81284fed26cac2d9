package cluster

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

// fleet is nodes with presence on loopback, in one process.
type fleet struct {
	nodes  []*Presence
	keys   Keys
	wire   *wiretap     // nil: nobody listens in
	peers  sync.Map     // addresses of links, by node id: for those, too, whom the cluster does not let in
	gossip atomic.Int64 // bytes
	calls  atomic.Int64
}

func newFleet(tb testing.TB, n int) *fleet {
	tb.Helper()
	f := &fleet{}
	f.grow(tb, n)
	return f
}

// grow starts nodes until there are n, and waits until all see all.
func (f *fleet) grow(tb testing.TB, n int) {
	tb.Helper()
	for len(f.nodes) < n {
		var seeds []string
		if len(f.nodes) > 0 {
			seeds = []string{f.nodes[0].cluster.Self().GossipAddr}
		}
		p, _ := f.start(tb, len(f.nodes), f.keys, seeds...)
		f.nodes = append(f.nodes, p)
	}
	for deadline := time.Now().Add(time.Minute); ; {
		full := 0
		for _, p := range f.nodes {
			if countState(p.cluster, StateAlive) == n {
				full++
			}
		}
		if full == n {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatalf("%d of %d nodes see all", full, n)
		}
		runtime.Gosched()
	}
}

func (f *fleet) start(tb testing.TB, i int, keys Keys, seeds ...string) (*Presence, *Link) {
	tb.Helper()
	gossip, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{BindAddrs: []string{"127.0.0.1"}})
	if err != nil {
		tb.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	if f.wire != nil {
		l = tappedListener{l, f.wire}
	}
	c, err := Start(tb.Context(), Options{
		ID: nodeID(i), Name: fmt.Sprint("n", i), ClusterID: "c", Started: time.Now(), Seeds: seeds, Keys: keys,
		PeerAddr: l.Addr().String(), Transport: countedTransport{gossip, &f.gossip, f.wire},
	})
	if err != nil {
		tb.Fatal(err)
	}
	o := LinkOptions{Self: nodeID(i), ClusterID: c.ClusterID, Listener: l, Resolve: func(id string) (string, bool) {
		addr, ok := f.peers.Load(id)
		return fmt.Sprint(addr), ok
	}}
	f.peers.Store(nodeID(i), l.Addr())
	if keys != nil {
		if o.TLS, err = keys.TLS(); err != nil {
			tb.Fatal(err)
		}
	}
	link := NewLink(o)
	p := StartPresence(PresenceOptions{Cluster: c, Calls: countedCalls{link, &f.calls}})
	for _, m := range []uint8{MethodPresenceTally, MethodPresenceMembers} {
		link.Handle(m, func(ctx context.Context, from string, req []byte) ([]byte, error) {
			return p.ServeCall(ctx, from, m, req)
		})
	}
	tb.Cleanup(func() {
		p.Close()
		_ = link.Close()
		_ = c.Close()
	})
	return p, link
}

// countedTransport counts the bytes of packets that a node gossips.
type countedTransport struct {
	memberlist.NodeAwareTransport
	bytes *atomic.Int64
	wire  *wiretap
}

func (c countedTransport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	c.bytes.Add(int64(len(b)))
	c.wire.note(b)
	return c.NodeAwareTransport.WriteToAddress(b, a)
}

func (c countedTransport) WriteTo(b []byte, a string) (time.Time, error) {
	return c.WriteToAddress(b, memberlist.Address{Addr: a})
}

func (c countedTransport) DialAddressTimeout(a memberlist.Address, t time.Duration) (net.Conn, error) {
	conn, err := c.NodeAwareTransport.DialAddressTimeout(a, t)
	if err != nil || c.wire == nil {
		return conn, err
	}
	return tappedConn{conn, c.wire}, nil
}

// countedCalls counts the bytes of questions and answers.
type countedCalls struct {
	*Link
	bytes *atomic.Int64
}

func (c countedCalls) Call(ctx context.Context, node string, method uint8, req []byte) ([]byte, error) {
	answer, err := c.Link.Call(ctx, node, method, req)
	c.bytes.Add(int64(len(req) + len(answer) + 2*callHead))
	return answer, err
}

// wiretap hears all that nodes send each other. A nil one hears nothing.
type wiretap struct {
	mu  sync.Mutex // guards all
	all []byte
}

func (w *wiretap) note(b []byte) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, b...)
}

func (w *wiretap) heard(what []byte) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return bytes.Contains(w.all, what)
}

type tappedListener struct {
	net.Listener
	wire *wiretap
}

func (l tappedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return tappedConn{conn, l.wire}, nil
}

// tappedConn is one end of a connection: what is read there was sent by the
// other one.
type tappedConn struct {
	net.Conn
	wire *wiretap
}

func (c tappedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.wire.note(b[:n])
	return n, err
}

func (c tappedConn) Write(b []byte) (int, error) {
	c.wire.note(b)
	return c.Conn.Write(b)
}
