package cluster

import (
	"encoding/binary"
	"errors"
	"net"
	"time"
)

// State is what gossip thinks of a node.
type State string

// The states of a node. One that left has stopped on purpose, and may come back
// unless its cluster has removed it. memberlist tells nobody whom it suspects, so that
// StateSuspect is never seen here; it is for what others make of silence.
const (
	StateAlive    State = "alive"
	StateSuspect  State = "suspect"
	StateDead     State = "dead"
	StateLeft     State = "left"
	StateDraining State = "draining"
)

// Alive says whether the node is up, draining or not.
func (s State) Alive() bool { return s == StateAlive || s == StateDraining || s == StateSuspect }

// Node is one member of the cluster, as it describes itself.
type Node struct {
	ID, Name, ClusterID  string
	State                State
	Role, Zone, Version  string
	ClientAddr, PeerAddr string
	GossipAddr           string // where memberlist reaches it
	Started              time.Time
	Gone                 time.Time // when it died or left, as far as is known; zero while it is alive
	Protocols            Protocols

	// settled says that it has been a member for a while, so that of two nodes
	// with one name the other is the newcomer, whatever the clocks say.
	settled bool
}

// before says whether a node was a member before another one, which decides of
// two nodes with one name or one id who gives way. Clocks may be wrong, so that
// they count only between equals.
func (n *Node) before(other *Node) bool {
	if n.settled != other.settled {
		return n.settled
	}
	if !n.Started.Equal(other.Started) {
		return n.Started.Before(other.Started)
	}
	return n.ID+n.GossipAddr < other.ID+other.GossipAddr
}

// reachFrom gives addresses without a host that of the gossip address: who binds
// all addresses is reached at the one that answers.
func (n *Node) reachFrom(gossip string) {
	own, _, err := net.SplitHostPort(gossip)
	if err != nil {
		return
	}
	for _, addr := range []*string{&n.ClientAddr, &n.PeerAddr} {
		host, port, err := net.SplitHostPort(*addr)
		if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
			*addr = net.JoinHostPort(own, port)
		}
	}
}

const (
	metaVersion  = 1
	flagDraining = 1
	flagLeaving  = 2
	flagSettled  = 4
)

var errMeta = errors.New("malformed node metadata")

// appendMeta writes what a node gossips of itself: version, flags, start in
// nanoseconds, then texts with a byte for their length, then the protocols'
// versions. [Options] keeps all of it within 512 bytes.
func appendMeta(dst []byte, n *Node) []byte {
	var flags byte
	switch n.State {
	case StateDraining:
		flags = flagDraining
	case StateLeft:
		flags = flagLeaving
	}
	if n.settled {
		flags |= flagSettled
	}
	dst = append(dst, metaVersion, flags)
	dst = binary.AppendVarint(dst, n.Started.UnixNano())
	for _, s := range []string{n.Name, n.ClusterID, n.Role, n.Zone, n.Version, n.ClientAddr, n.PeerAddr} {
		dst = append(append(dst, byte(len(s))), s...)
	}
	return append(dst, n.Protocols.Min, n.Protocols.Max, n.Protocols.Speaks)
}

// decodeMeta reads a node's metadata. More may follow what this version knows.
func decodeMeta(b []byte) (n Node, err error) {
	if len(b) < 3 || b[0] != metaVersion || len(b) > maxMetaBytes {
		return n, errMeta
	}
	n.State, n.settled = StateAlive, b[1]&flagSettled != 0
	switch {
	case b[1]&flagLeaving != 0:
		n.State = StateLeft
	case b[1]&flagDraining != 0:
		n.State = StateDraining
	}
	started, k := binary.Varint(b[2:])
	if k <= 0 {
		return n, errMeta
	}
	n.Started = time.Unix(0, started)
	rest := b[2+k:]
	for _, s := range []*string{&n.Name, &n.ClusterID, &n.Role, &n.Zone, &n.Version, &n.ClientAddr, &n.PeerAddr} {
		if len(rest) < 1 || len(rest) < 1+int(rest[0]) {
			return n, errMeta
		}
		*s, rest = string(rest[1:1+int(rest[0])]), rest[1+int(rest[0]):]
	}
	n.Protocols = Protocols{1, 1, 1} // of nodes from before there were others
	if len(rest) >= 3 {
		n.Protocols = Protocols{rest[0], rest[1], rest[2]}
	}
	return n, nil
}
