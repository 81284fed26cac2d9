package node

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"syscall"

	"github.com/pushd/pushd/edge"
)

// checkClients refuses settings of the client port and socket that can't work.
func (c *Config) checkClients() error {
	switch {
	case c.TLSCertFile == "" && c.TLSKeyFile != "":
		return &ConfigError{"tls-cert-file", "name the certificate of the key in --tls-key-file, too"}
	case c.TLSKeyFile == "" && c.TLSCertFile != "":
		return &ConfigError{"tls-key-file", "name the key of the certificate in --tls-cert-file, too"}
	case len(c.ClientSocket) > maxSocketPath:
		return &ConfigError{"client-socket", fmt.Sprintf("the path has %d bytes, and the system takes %d; choose a shorter one", len(c.ClientSocket), maxSocketPath)}
	}
	if _, err := c.proxies(); err != nil {
		return err
	}
	_, err := c.clientDoor()
	return err
}

// proxies are who is believed about others.
func (c *Config) proxies() (list []netip.Prefix, err error) {
	for _, text := range c.TrustedProxies {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			var a netip.Addr
			if a, err = netip.ParseAddr(text); err == nil {
				p, err = a.Prefix(a.BitLen())
			}
		}
		if err != nil {
			return nil, &ConfigError{"trusted-proxies", fmt.Sprintf("%q is no address and no network such as 10.0.0.0/8", text)}
		}
		list = append(list, p.Masked())
	}
	if c.ProxyProtocol && len(list) == 0 {
		if !loopback(c.ClientAddr) {
			return nil, &ConfigError{"trusted-proxies", "with --proxy-protocol, name the proxies' addresses or networks, such as 10.0.0.0/8: a PROXY header can say that it is anybody"}
		}
		list = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	}
	return list, nil
}

// clientDoor is what clients of the port pass first.
func (c *Config) clientDoor() (edge.Door, error) {
	d := edge.Door{ProxyProtocol: c.ProxyProtocol}
	if c.TLSCertFile == "" {
		return d, nil
	}
	certificate, err := edge.LoadCertificate(c.TLSCertFile, c.TLSKeyFile, c.Log)
	if err != nil {
		return d, &ConfigError{"tls-cert-file", err.Error()}
	}
	d.TLS = certificate.TLS()
	return d, nil
}

// openClients opens what clients connect to.
func (n *Node) openClients() (err error) {
	if n.door, err = n.cfg.clientDoor(); err != nil {
		return err
	}
	if n.proxies, err = n.cfg.proxies(); err != nil {
		return err
	}
	if n.clients, err = n.cfg.listen(n.cfg.ClientAddr, "client-addr"); err != nil {
		return err
	}
	if n.cfg.ClientSocket != "" {
		n.socket, err = listenUnix(n.cfg.ClientSocket)
	}
	return err
}

// serveClients serves the port and the socket until the edge is shut down.
func (n *Node) serveClients() {
	serve := func(l net.Listener, d edge.Door) {
		n.wg.Go(func() {
			if err := n.edge.ServeDoor(l, d); err != nil {
				n.fail(fmt.Errorf("serve clients: %w", err))
			}
		})
	}
	serve(n.clients, n.door)
	if n.socket != nil {
		serve(n.socket, edge.Door{})
	}
}

// ClientURL is where clients reach this node.
func (n *Node) ClientURL() string {
	scheme := "http://"
	if n.door.TLS != nil {
		scheme = "https://"
	}
	return scheme + n.clients.Addr().String()
}

// listenUnix listens at a path. A socket that nobody listens at any more, as a
// killed node leaves it, is replaced; anything else is not.
func listenUnix(path string) (net.Listener, error) {
	l, err := net.Listen("unix", path)
	if !errors.Is(err, syscall.EADDRINUSE) {
		return l, unixError(err)
	}
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() != fs.ModeSocket {
		return nil, &ConfigError{"client-socket", path + " is no socket; remove it, or choose another path"}
	}
	c, err := net.Dial("unix", path)
	if err == nil {
		_ = c.Close()
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return nil, fmt.Errorf("%s is in use by another process; stop that one, or choose another path with --client-socket", path)
	}
	if err := os.Remove(path); err != nil {
		return nil, unixError(err)
	}
	l, err = net.Listen("unix", path)
	return l, unixError(err)
}

func unixError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("--client-socket: %w", err)
}
