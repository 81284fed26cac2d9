package cluster

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"

	"github.com/hashicorp/memberlist"
)

// check refuses what would not fit into the metadata, in words.
func (o *Options) check() error {
	for _, field := range []struct {
		name, value string
		most        int
	}{
		{"node id", o.ID, maxIDBytes},
		{"node name", o.Name, maxNameBytes},
		{"cluster id", o.ClusterID, maxClusterIDBytes},
		{"role", o.Role, maxRoleBytes},
		{"zone", o.Zone, maxNameBytes},
		{"version", o.Version, maxNameBytes},
		{"client address", o.ClientAddr, maxAddrBytes},
		{"peer address", o.PeerAddr, maxAddrBytes},
	} {
		if len(field.value) > field.most {
			return fmt.Errorf("the %s has %d bytes, at most %d", field.name, len(field.value), field.most)
		}
	}
	if o.ID == "" || o.Name == "" {
		return errors.New("a node needs an id and a name")
	}
	for _, seed := range o.Seeds {
		if _, _, err := net.SplitHostPort(seed); err != nil {
			return fmt.Errorf("%q is no gossip address to join: host:port is wanted", seed)
		}
	}
	return nil
}

// listen starts memberlist.
func (c *Cluster) listen() error {
	config, err := c.config()
	if err != nil {
		return fmt.Errorf("gossip address %q: %w", c.options.GossipAddr, err)
	}
	c.list, err = memberlist.Create(config)
	if err != nil {
		if strings.Contains(err.Error(), "address already in use") {
			return fmt.Errorf("%w: %s; stop the process that has it, or choose another with --gossip-addr or --port-offset", ErrAddressInUse, c.options.GossipAddr)
		}
		return fmt.Errorf("start gossip at %s: %w", c.options.GossipAddr, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.self.GossipAddr = c.list.LocalNode().Address()
	c.self.reachFrom(c.self.GossipAddr)
	return nil
}

// config holds what was measured: a death is seen in 2 to 4 s, and bursts of
// joins converge in about one.
func (c *Cluster) config() (*memberlist.Config, error) {
	m := memberlist.DefaultLANConfig()
	m.Name = c.options.ID // never the human name: memberlist lets a second one "join" and see only itself
	m.ProbeInterval, m.ProbeTimeout = probeInterval, probeTimeout
	m.SuspicionMult, m.SuspicionMaxTimeoutMult = suspicionMult, suspicionMax
	m.GossipInterval, m.RetransmitMult, m.PushPullInterval = gossipInterval, retransmitMult, pushPull
	m.TCPTimeout = streamTimeout
	m.EnableCompression = false
	m.DeadNodeReclaimTime = reclaim
	m.LogOutput = logWriter{c.log}
	m.Delegate, m.Events, m.Conflict, m.Merge, m.Alive = c.delegates()
	if len(c.options.Keys) > 0 {
		keyring, err := c.options.Keys.gossip()
		if err != nil {
			return nil, err
		}
		m.Keyring, c.keyring = keyring, keyring
	}
	if m.Transport = c.options.Transport; m.Transport != nil {
		return m, nil
	}
	return m, c.bind(m)
}

func (c *Cluster) bind(m *memberlist.Config) error {
	host, port, err := net.SplitHostPort(c.options.GossipAddr)
	if err != nil {
		return err
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return fmt.Errorf("port %q is no number up to 65535", port)
	}
	ip := &net.IPAddr{IP: net.IPv4zero}
	if host != "" {
		if ip, err = net.ResolveIPAddr("ip", host); err != nil {
			return err
		}
	}
	m.BindAddr, m.BindPort, m.AdvertisePort = ip.String(), int(number), int(number)
	if ip.IP.IsUnspecified() {
		m.AdvertiseAddr = ownAddress().String()
	}
	return nil
}

// ownAddress is an address of this host that others may reach: memberlist gives
// up where there is no private one.
func ownAddress() net.IP {
	own := net.IPv4(127, 0, 0, 1)
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return own
	}
	for _, addr := range addrs {
		if ipNet, ok := addr.(*net.IPNet); ok && ipNet.IP.IsGlobalUnicast() && ipNet.IP.To4() != nil {
			if own = ipNet.IP; own.IsPrivate() {
				return own
			}
		}
	}
	return own
}

// logWriter passes memberlist's log on, all of it at debug: what an operator
// acts on is said by the events.
type logWriter struct{ log *slog.Logger }

func (w logWriter) Write(line []byte) (int, error) {
	w.log.Debug("gossip", "text", strings.TrimSpace(string(line)))
	return len(line), nil
}
