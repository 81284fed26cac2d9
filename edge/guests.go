package edge

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/pushd/pushd/protocol"
)

// guests counts who is connected, in all and by address: on loops, in net/http,
// and behind a door.
type guests struct {
	most, each int // 0: any number
	count      atomic.Int64
	refusing   atomic.Int64 // those that are about to be told that there are too many

	mu sync.Mutex // guards by
	by map[netip.Addr]int
}

// origin is where a connection comes from. One of which nothing need be known
// has none.
type origin struct {
	addr   net.Addr   // the client's, if a proxy has told it; nil: the socket's other end
	at     netip.Addr // where it counts; the zero address: nowhere
	via    bool       // by a proxy, which says of each request whose it is
	asking netip.Addr // where the present request of a proxy counts
	beyond bound      // it is one too many, counts nowhere, and is to be told so
}

// refused is the limit that a connection is beyond, boundNone if it is welcome.
func (o *origin) refused() bound {
	if o == nil {
		return boundNone
	}
	return o.beyond
}

// of is the client's address.
func (o *origin) of(c net.Conn) net.Addr {
	if o != nil && o.addr != nil {
		return o.addr
	}
	return c.RemoteAddr()
}

// place is what an address counts as: who has one of IPv6 has 2^64 of them.
func place(a netip.Addr) netip.Addr {
	if a = a.Unmap().WithZone(""); a.Is6() {
		p, _ := a.Prefix(64) // no zone, and not too long
		return p.Addr()
	}
	return a
}

// addrOf is a connection's other end, the zero address if that has no IP.
func addrOf(a net.Addr) netip.Addr {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// originOf notes what has to be known of a connection from peer. told is who a
// PROXY header says that it is.
func (s *Server) originOf(peer netip.Addr, told netip.AddrPort) *origin {
	each := s.guests.each > 0
	switch {
	case told.IsValid():
		o := &origin{addr: net.TCPAddrFromAddrPort(told)}
		if each {
			o.at = place(told.Addr())
		}
		return o
	case !each:
		return nil
	case s.believes(peer):
		return &origin{via: true}
	}
	return &origin{at: place(peer)}
}

// believes says whether to believe what an address says of others. Who comes by
// a Unix socket has none, and was let in by its file's mode.
func (s *Server) believes(a netip.Addr) bool {
	return !a.IsValid() || slices.ContainsFunc(s.options.Proxies, func(p netip.Prefix) bool { return p.Contains(a.Unmap()) })
}

// enter counts a connection, or gives the limit that it is beyond.
func (g *guests) enter(o *origin) bound {
	if n := g.count.Add(1); g.most > 0 && n > int64(g.most) {
		g.count.Add(-1)
		return boundConnections
	}
	if o != nil && !g.enterAt(o.at) {
		g.count.Add(-1)
		return boundAddress
	}
	return boundNone
}

func (g *guests) enterAt(a netip.Addr) bool {
	if !a.IsValid() {
		return true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.by[a] >= g.each {
		return false
	}
	g.by[a]++
	return true
}

// leave is the end of a connection that has entered.
func (g *guests) leave(o *origin) {
	g.count.Add(-1)
	if o != nil {
		g.leaveAt(o.at)
		g.answered(o)
	}
}

func (g *guests) leaveAt(a netip.Addr) {
	if !a.IsValid() {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.by[a]--; g.by[a] == 0 {
		delete(g.by, a)
	}
}

// ask counts a reader that comes by a proxy where its client is, until it is
// answered: the proxy's own address says nothing.
func (s *Server) ask(o *origin, r *http.Request) error {
	if o == nil || !o.via || o.asking.IsValid() {
		return nil
	}
	at := place(s.forwarded(r.Header))
	if !s.guests.enterAt(at) {
		s.reached.add(boundAddress)
		return s.guests.refusal(boundAddress)
	}
	o.asking = at
	return nil
}

// answered is the end of what ask counted.
func (g *guests) answered(o *origin) {
	if o != nil && o.asking.IsValid() {
		g.leaveAt(o.asking)
		o.asking = netip.Addr{}
	}
}

// forwarded is the client that X-Forwarded-For names, as far as it is believed:
// each proxy puts behind the others whom it has the request from.
func (s *Server) forwarded(h http.Header) netip.Addr {
	list := strings.Split(strings.Join(h.Values("X-Forwarded-For"), ","), ",")
	for _, text := range slices.Backward(list) {
		a, err := parseForwarded(strings.TrimSpace(text))
		if err != nil {
			return netip.Addr{}
		}
		if !s.believes(a) {
			return a
		}
	}
	return netip.Addr{}
}

// parseForwarded reads an address, with or without a port.
func parseForwarded(text string) (netip.Addr, error) {
	if at, err := netip.ParseAddrPort(text); err == nil {
		return at.Addr(), nil
	}
	return netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"))
}

// refusal says what a limit of connections is, and what to do.
func (g *guests) refusal(b bound) *protocol.Error {
	if b == boundAddress {
		return protocol.TooManyConnections.Errorf("your address has %d connections to this node, as many as it may; close some, or follow several topics over one", g.each)
	}
	return protocol.TooManyConnections.Errorf("this node has %d connections, as many as it may; try another node, or later", g.most)
}

// refuseConnection counts a refusal; false if so many are being told already
// that this one is just closed.
func (s *Server) refuseConnection(b bound) bool {
	s.reached.add(b)
	if s.guests.refusing.Add(1) > maxRefusing {
		s.guests.refusing.Add(-1)
		return false
	}
	return true
}

// gone is the end of a connection of a loop.
func (s *Server) gone(o *origin) {
	if o.refused() != boundNone {
		s.guests.refusing.Add(-1)
		return
	}
	s.guests.leave(o)
}

// turnAway answers the first bytes of a connection that is one too many.
func (l *loop) turnAway(c *conn) {
	w := &response{header: http.Header{"Connection": {"close"}}}
	refusal := l.server.guests.refusal(c.from.beyond)
	l.server.metrics.refused(refusal.Code)
	writeProblem(w, refusal)
	l.send(c, w.append(nil))
	if !c.closed() {
		l.linger(c)
	}
}
