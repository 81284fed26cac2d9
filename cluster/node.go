package cluster

import (
	"encoding/binary"
	"errors"
	"time"
)

// State is what gossip thinks of a node.
type State string

// The states of a node.
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
}

const (
	metaVersion  = 1
	flagDraining = 1
	flagLeaving  = 2
)

var errMeta = errors.New("malformed node metadata")

// appendMeta writes what a node gossips of itself: version, flags, start, then
// length-prefixed texts.
func appendMeta(dst []byte, n *Node) []byte {
	var flags byte
	switch n.State {
	case StateDraining:
		flags = flagDraining
	case StateLeft:
		flags = flagLeaving
	}
	dst = append(dst, metaVersion, flags)
	dst = binary.AppendVarint(dst, n.Started.UnixNano())
	for _, s := range []string{n.Name, n.ClusterID, n.Role, n.Zone, n.Version, n.ClientAddr, n.PeerAddr} {
		dst = append(append(dst, byte(len(s))), s...)
	}
	return dst
}

// decodeMeta reads a node's metadata.
func decodeMeta(b []byte) (n Node, err error) {
	if len(b) < 3 || b[0] != metaVersion || len(b) > maxMetaBytes {
		return n, errMeta
	}
	n.State = StateAlive
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
		*s, rest = string(rest[1:1+rest[0]]), rest[1+rest[0]:]
	}
	return n, nil
}
