package memnet

import (
	"context"
	"fmt"
	"net"
	"sync"
	"syscall"
)

// Network is hosts that reach each other, unless cut. Use [New].
type Network struct {
	mu         sync.Mutex // guards what follows
	transports map[string]*Transport
	listeners  map[string]*listener
	cuts       map[[2]string]bool // from one host to another
	paused     map[string]bool    // hosts
	late       []latePacket       // in order
	moved      chan struct{}      // closed and renewed when something may come through again
	conns      map[*conn]struct{} // one end of each connection
}

// New makes a network without hosts: they come with their first listener.
func New() *Network {
	return &Network{
		transports: map[string]*Transport{}, listeners: map[string]*listener{},
		cuts: map[[2]string]bool{}, paused: map[string]bool{}, moved: make(chan struct{}), conns: map[*conn]struct{}{},
	}
}

// Cut parts the hosts of one side from those of the other, by IP.
func (n *Network) Cut(one, other []string) {
	n.mu.Lock()
	for _, a := range one {
		for _, b := range other {
			n.cuts[[2]string{a, b}], n.cuts[[2]string{b, a}] = true, true
		}
	}
	var broken []*conn
	for c := range n.conns {
		if n.cuts[[2]string{c.local.host(), c.remote.host()}] {
			broken = append(broken, c)
		}
	}
	n.mu.Unlock()
	for _, c := range broken {
		_ = c.Close()
	}
}

// Heal ends all cuts.
func (n *Network) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.cuts)
	n.release()
}

// parted says whether two hosts can't make a connection.
func (n *Network) parted(a, b addr) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	one, other := a.host(), b.host()
	return n.cuts[[2]string{one, other}] || n.cuts[[2]string{other, one}] || n.paused[one] || n.paused[other]
}

// Listen takes connections at an address.
func (n *Network) Listen(address string) (net.Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.listeners[address] != nil {
		return nil, fmt.Errorf("listen at %s: %w", address, syscall.EADDRINUSE)
	}
	l := &listener{network: n, addr: addr(address), conns: make(chan net.Conn), closed: make(chan struct{})}
	n.listeners[address] = l
	return l, nil
}

// Dial connects a host with a listener. Where nobody listens it is refused, with
// ECONNREFUSED; across a cut it hangs until ctx ends.
func (n *Network) Dial(ctx context.Context, fromHost, to string) (net.Conn, error) {
	n.mu.Lock()
	l := n.listeners[to]
	n.mu.Unlock()
	var conns chan net.Conn
	var closed chan struct{}
	if l != nil {
		conns, closed = l.conns, l.closed
	}
	return n.connect(ctx, addr(net.JoinHostPort(fromHost, "0")), addr(to), conns, closed)
}

func (n *Network) connect(ctx context.Context, from, to addr, conns chan<- net.Conn, closed <-chan struct{}) (net.Conn, error) {
	if n.parted(from, to) {
		<-ctx.Done()
		return nil, fmt.Errorf("dial %s: %w", to, ctx.Err())
	}
	if conns == nil {
		return nil, fmt.Errorf("dial %s: %w", to, syscall.ECONNREFUSED)
	}
	here, there := n.pair(from, to)
	select {
	case conns <- there:
		return here, nil
	case <-closed:
		_ = here.Close()
		return nil, fmt.Errorf("dial %s: %w", to, syscall.ECONNREFUSED)
	case <-ctx.Done():
		_ = here.Close()
		return nil, fmt.Errorf("dial %s: %w", to, ctx.Err())
	}
}

func (n *Network) pair(from, to addr) (here, there *conn) {
	a, b := net.Pipe()
	here, there = &conn{Conn: a, network: n, local: from, remote: to, in: newArrivals()}, &conn{Conn: b, network: n, local: to, remote: from, in: newArrivals()}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.conns[here], n.conns[there] = struct{}{}, struct{}{}
	return here, there
}

// conn is one end of a connection.
type conn struct {
	net.Conn
	network       *Network
	local, remote addr
	in            arrivals
	once          sync.Once
}

// Close ends both directions.
func (c *conn) Close() error {
	c.network.mu.Lock()
	delete(c.network.conns, c)
	c.network.mu.Unlock()
	c.once.Do(func() { close(c.in.closed) })
	return c.Conn.Close()
}

// LocalAddr is this end's address.
func (c *conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr is the other end's address.
func (c *conn) RemoteAddr() net.Addr { return c.remote }

// addr is host:port.
type addr string

func (addr) Network() string  { return "memnet" }
func (a addr) String() string { return string(a) }

func (a addr) host() string {
	host, _, err := net.SplitHostPort(string(a))
	if err != nil {
		return string(a)
	}
	return host
}

type listener struct {
	network *Network
	addr    addr
	conns   chan net.Conn
	closed  chan struct{}
	once    sync.Once
}

// Accept waits for a connection.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close frees the address.
func (l *listener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.network.mu.Lock()
		defer l.network.mu.Unlock()
		delete(l.network.listeners, string(l.addr))
	})
	return nil
}

// Addr is the address that it listens at.
func (l *listener) Addr() net.Addr { return l.addr }
