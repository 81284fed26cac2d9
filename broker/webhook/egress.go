package webhook

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"
)

// errBlocked says that an endpoint's address is none that requests may go to.
var errBlocked = errors.New("address not allowed")

// refused are the IPv4 ranges of IANA's special-purpose registry that are not
// the open internet.
var refused = prefixes("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
	"192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16",
	"192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4")

// Of IPv6 only 2000::/3 is the open internet, without these: IETF protocol
// assignments (Teredo among them), documentation, 6to4, documentation again.
var (
	global6  = netip.MustParsePrefix("2000::/3")
	refused6 = prefixes("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
)

func prefixes(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// openInternet says whether an address is a host of the open internet. An
// IPv4 address inside an IPv6 one is judged as what it is.
func openInternet(addr netip.Addr) bool {
	if addr.Zone() != "" {
		return false
	}
	addr = addr.Unmap()
	list := refused
	if addr.Is6() {
		if !global6.Contains(addr) {
			return false
		}
		list = refused6
	}
	for _, p := range list {
		if p.Contains(addr) {
			return false
		}
	}
	return addr.IsValid()
}

// guard decides where requests may go.
type guard struct {
	private bool                      // any address may be dialled
	own     func(netip.AddrPort) bool // but never these; nil: none
}

func (g guard) check(at netip.AddrPort) error {
	at = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	if g.own != nil && g.own(at) {
		return fmt.Errorf("%w: %s is a node of this cluster", errBlocked, at)
	}
	if !g.private && !openInternet(at.Addr()) {
		return fmt.Errorf("%w: %s is not on the open internet (a node may allow it with --webhook-allow-private)", errBlocked, at)
	}
	return nil
}

// control looks at the address that is about to be dialled: behind name
// resolution, so that what was looked at is what is connected to, whatever the
// name says the next time.
func (g guard) control(_ context.Context, _, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %q", errBlocked, address)
	}
	return g.check(at)
}

// transport makes requests to endpoints: no proxy, since the guard would see
// nothing but the proxy; no redirects, since it is used without a client; no
// decompression, since a small answer may unfold without end.
func (g guard) transport(resolver *net.Resolver, secure *tls.Config) *http.Transport {
	if secure == nil {
		secure = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	dialer := &net.Dialer{Timeout: connectTimeout, KeepAlive: 30 * time.Second, ControlContext: g.control, Resolver: resolver}
	return &http.Transport{
		Proxy: nil, DialContext: dialer.DialContext, TLSHandshakeTimeout: connectTimeout, TLSClientConfig: secure.Clone(),
		MaxIdleConns: 4 * maxPerNode, MaxIdleConnsPerHost: idlePerHost, IdleConnTimeout: idleTimeout,
		DisableCompression: true, ForceAttemptHTTP2: true, MaxResponseHeaderBytes: maxAnswerHead,
	}
}
