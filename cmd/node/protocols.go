package node

import (
	"github.com/pushd/pushd/cluster"
	"github.com/pushd/pushd/protocol"
)

// recoveredSince is the version of the protocol from which on nodes can read the
// logs of a cluster that was recovered.
const recoveredSince = 2

// protocols are the versions that this node speaks to others.
func (n *Node) protocols() cluster.Protocols {
	p := cluster.BuildProtocols()
	if n.cfg.Protocols != [2]uint8{} {
		p.Min, p.Max = n.cfg.Protocols[0], n.cfg.Protocols[1]
	}
	if _, recoveries := protocol.Recoveries(n.home.ClusterID); recoveries > 0 {
		p.Min = min(p.Max, max(p.Min, recoveredSince))
	}
	return p
}
