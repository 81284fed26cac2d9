package cluster

import (
	"context"
	"encoding/json"
	"maps"
	"net"
	"os"
	"strconv"
)

// resolveSeed gives every address of a seed: a name of several hosts is all of
// them. What can't be resolved now is tried again next time.
func resolveSeed(ctx context.Context, seed string) (addrs []string) {
	host, port, err := net.SplitHostPort(seed)
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	ips, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		return nil
	}
	for _, ip := range ips[:min(len(ips), maxSeedAddrs)] {
		addrs = append(addrs, net.JoinHostPort(ip, port))
	}
	return addrs
}

func gossipUDP(addr string) (*net.UDPAddr, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, err
	}
	return &net.UDPAddr{IP: net.ParseIP(host), Port: int(number)}, nil
}

// loadKnown reads the gossip addresses, by node id, that this node knew last. A
// missing or damaged file only costs the shortcut.
func loadKnown(path string) map[string]string {
	var known map[string]string
	text, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(text, &known) != nil || known == nil {
		return map[string]string{}
	}
	return known
}

// saveKnown replaces the file.
func saveKnown(path string, known map[string]string) error {
	text, err := json.Marshal(known)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".tmp", text, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}

// remember writes down where the others are, for the next start.
func (c *Cluster) remember() {
	c.mu.Lock()
	before := maps.Clone(c.known)
	for id, n := range c.nodes {
		if _, ok := c.known[id]; ok || len(c.known) < maxKnown {
			c.known[id] = n.GossipAddr
		}
	}
	known := maps.Clone(c.known)
	c.mu.Unlock()
	if c.options.KnownPath == "" || maps.Equal(before, known) {
		return
	}
	if err := saveKnown(c.options.KnownPath, known); err != nil {
		c.log.Warn("members' addresses could not be saved", "path", c.options.KnownPath, "err", err)
	}
}
