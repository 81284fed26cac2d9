package edge

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"github.com/pushd/pushd/protocol"
)

// believing has a site believe proxies of a network.
func believing(network string, each int) func(*Options) {
	return func(o *Options) {
		o.Proxies = []netip.Prefix{netip.MustParsePrefix(network)}
		o.Limits.ConnectionsPerAddress = each
	}
}

// asks sends a request and wants a status.
func (r *raw) asks(request string, status int) answer {
	r.t.Helper()
	r.write(request)
	return r.answer().want(status)
}

// wantRoom connects until there is room again, as ends take a moment to be seen.
func (s *site) wantRoom(request string, status int) *raw {
	s.t.Helper()
	for {
		r := s.raw()
		r.write(request)
		if a := r.answer(); a.Status == status {
			return r
		} else if a.Status != http.StatusTooManyRequests {
			s.t.Fatalf("got %d, want %d or 429", a.Status, status)
		}
	}
}

const followA = "/v1/events?topic=a"

func TestConnectionsOfOneAddressAreBounded(t *testing.T) {
	s := newSite(t, limited(Limits{ConnectionsPerAddress: 2}))
	first, second, third := s.raw(), s.raw(), s.raw()
	first.asks(upgradeTo(followA), 101)
	second.asks(upgradeTo(followA), 101)
	a := third.asks(upgradeTo(followA), http.StatusTooManyRequests)
	a.wantProblem(protocol.TooManyConnections).wantHeader("Retry-After", "1")
	third.wantEnd()
	_ = first.conn.Close()
	s.wantRoom(upgradeTo(followA), 101)
	if got := s.reached[boundAddress].Load(); got == 0 {
		t.Error("the limit is not counted")
	}
}

func TestAConnectionStaysCountedInNetHTTP(t *testing.T) {
	s := newSite(t, limited(Limits{Connections: 1}))
	const get, late = "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", http.StatusTooManyRequests
	r := s.raw()
	for range 3 {
		r.asks(get, 200)
		s.raw().asks(get, late)
		r.asks(getAt(followA+"&wait=1ms&after=latest", ""), 200)
		s.raw().asks(get, late)
	}
	r.asks(upgradeTo(followA), 101)
	s.raw().asks(upgradeTo(followA), late)
	_ = r.conn.Close()
	r = s.wantRoom(get, 200)
	_ = r.conn.Close() // by net/http this time
	s.wantRoom(upgradeTo(followA), 101)
}

func TestTooManyConnectionsOverTLSAreClosed(t *testing.T) {
	h := newHouse(t, true, false, limited(Limits{Connections: 1}))
	r := h.secure(h.knock(""), &tls.Config{})
	c := h.socketOver(r, followA)
	c.push()
	h.knock("").wantEnd()
	if n := h.reached[boundConnections].Load(); n != 1 {
		t.Errorf("got %d connections at the limit, want 1", n)
	}
	h.wantTurnedAway(0)
}

func TestReadersOfANodeAreBounded(t *testing.T) {
	s := newSite(t, limited(Limits{Readers: 1}))
	s.raw().asks(upgradeTo(followA), 101)
	s.raw().asks(upgradeTo(followA), http.StatusServiceUnavailable).wantProblem(protocol.TooManyReaders)
	s.wantReached(boundReaders)
}

func TestAnAddressCountsAsItsNetwork(t *testing.T) {
	for from, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1",
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::", "fe80::1%eth0": "fe80::",
	} {
		if got := place(netip.MustParseAddr(from)); got.String() != want {
			t.Errorf("%s: got %v, want %s", from, got, want)
		}
	}
}

func TestClientsOfAProxyCountByTheirOwnAddress(t *testing.T) {
	h := newHouse(t, false, true, believing("127.0.0.0/8", 1))
	const one, other = "PROXY TCP4 192.0.2.1 192.0.2.9 1 2\r\n", "PROXY TCP4 192.0.2.2 192.0.2.9 1 2\r\n"
	h.knock(one).asks(upgradeTo(followA), 101)
	h.knock(one).asks(upgradeTo(followA), http.StatusTooManyRequests)
	h.knock(other).asks(upgradeTo(followA), 101)
}

func TestAStrangersPROXYHeaderIsNotBelieved(t *testing.T) {
	for _, secure := range []bool{false, true} {
		h := newHouse(t, secure, true, believing("10.0.0.0/8", 0))
		h.knock(proxyHeaders[0].header).wantEnd()
		h.wantTurnedAway(1)
	}
}

func TestReadersByAnHTTPProxyCountWhereTheyAre(t *testing.T) {
	s := newSite(t, believing("127.0.0.0/8", 1))
	by := func(request, list string) string {
		return strings.Replace(request, "\r\n", "\r\nX-Forwarded-For: "+list+"\r\n", 1)
	}
	s.raw().asks(by(upgradeTo(followA), "192.0.2.1"), 101)
	r := s.raw()
	for _, list := range []string{"192.0.2.1", "192.0.2.1:4711", "198.51.100.7, 192.0.2.1", "192.0.2.1, 127.0.0.1"} {
		r.asks(by(upgradeTo(followA), list), http.StatusTooManyRequests).wantProblem(protocol.TooManyConnections)
	}
	for range 3 { // a poll counts until it is answered
		r.asks(by(getAt(followA+"&wait=1ms&after=latest", ""), "[2001:db8::1]:80"), 200)
	}
	s.raw().asks(by(upgradeTo(followA), "2001:db8::2"), 101)
	s.raw().asks(by(upgradeTo(followA), "2001:db8::3"), http.StatusTooManyRequests)
	for range 3 { // the proxy itself, and what it does not know, count nowhere
		s.raw().asks(by(upgradeTo(followA), "unknown"), 101)
		s.raw().asks(upgradeTo(followA), 101)
	}
}

func TestNetHTTPIsToldTheClientsAddress(t *testing.T) {
	client := netip.MustParseAddrPort("192.0.2.1:4711")
	here, there := net.Pipe()
	_, _ = here.Close(), there.Close()
	s := newServer(Options{}, nil)
	if got := (&prefixConn{Conn: here, from: s.originOf(netip.Addr{}, client)}).RemoteAddr().String(); got != client.String() {
		t.Errorf("got %s, want %s", got, client)
	}
	if got := (&prefixConn{Conn: here}).RemoteAddr(); got != here.RemoteAddr() {
		t.Errorf("without a proxy: got %s, want the other end's", got)
	}
}

func FuzzForwarded(f *testing.F) {
	for _, s := range []string{"192.0.2.1", "[2001:db8::1]:80", "10.0.0.1, 192.0.2.1:1", "fe80::1%a, unknown", ",,"} {
		f.Add(s)
	}
	s := newServer(Options{Proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}, nil)
	f.Fuzz(func(t *testing.T, list string) {
		a := s.forwarded(http.Header{"X-Forwarded-For": {list}})
		if a.IsValid() && (s.believes(a) || !strings.Contains(list, a.WithZone("").String()) && a.Is4()) {
			t.Errorf("%q: got %v", list, a)
		}
	})
}

func TestWithoutDescriptorsConnectionsAreClosedNotLeftHanging(t *testing.T) {
	s := newServer(Options{}, nil)
	s.startDrain()
	here, there := net.Pipe()
	defer there.Close()
	over := errors.New("over")
	steps := []struct {
		in  incoming
		err error
	}{{err: syscall.EMFILE}, {in: incoming{conn: here}}, {err: over}}
	entered := 0
	err := s.acceptAll(func() (incoming, error) {
		step := steps[0]
		steps = steps[1:]
		return step.in, step.err
	}, func(incoming) error { entered++; return nil })
	if !errors.Is(err, over) || entered != 1 {
		t.Errorf("got %v and %d connections, want the one that came when there was a descriptor again", err, entered)
	}
}
