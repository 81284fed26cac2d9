package node

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/cluster"
	"github.com/pushd/pushd/protocol"
	"github.com/pushd/pushd/raftstore"
)

// report is how one node's replicas are, as that node sees them.
type report struct {
	Node   string        `json:"node"`           // id
	Keys   []string      `json:"keys,omitempty"` // fingerprints of the cluster keys that it accepts, the one that it uses first
	Groups []groupReport `json:"groups"`
}

type groupReport struct {
	Group    uint16          `json:"group"`
	Term     uint64          `json:"term"`
	Leader   string          `json:"leader"` // node id, "" if unknown
	Position uint64          `json:"position"`
	Current  bool            `json:"current"` // it has caught up since it was opened
	Replicas []replicaReport `json:"replicas"`
}

type replicaReport struct {
	Node  string `json:"node"` // id
	Voter bool   `json:"voter"`
	LagMS int64  `json:"lag_ms"` // known to the leader alone
}

// report describes this node's open groups.
func (n *Node) report() report {
	r := report{Node: n.home.NodeID, Keys: n.fingerprints()}
	r.Groups = append(r.Groups, describe(n.metaGroup, n.home.NodeID, n.metaGroup.Applied(), true))
	for _, p := range n.groups.ids() {
		if g, ok := n.groups.get(p); ok {
			r.Groups = append(r.Groups, describe(g.Group, n.home.NodeID, n.broker.Position(p), g.current.Load()))
		}
	}
	return r
}

func describe(g *raftstore.Group, self string, position uint64, current bool) groupReport {
	leader, _ := g.Leader()
	r := groupReport{Group: g.ID(), Term: g.Term(), Leader: leader, Position: position, Current: current}
	progress := g.Progress()
	for _, replica := range g.Replicas() {
		var lag time.Duration
		if p, ok := progress[replica.NodeID]; ok && leader == self && p.Acked < g.LastIndex() {
			lag = time.Since(p.At)
		}
		r.Replicas = append(r.Replicas, replicaReport{replica.NodeID, replica.Voter, lag.Milliseconds()})
	}
	return r
}

// Status is the cluster as this node and those that answer within a second see
// it. It serves GET /v1/cluster.
func (n *Node) Status(ctx context.Context) protocol.ClusterStatus {
	catalog := n.meta.Catalog()
	s := protocol.ClusterStatus{ClusterID: catalog.ClusterID, Nodes: []protocol.NodeStatus{}, Partitions: []protocol.PartitionStatus{}}
	for _, peer := range n.gossip.Nodes() {
		if peer.State.Alive() || !slices.Contains(catalog.Removed, peer.ID) {
			s.Nodes = append(s.Nodes, n.nodeStatus(catalog, peer))
		}
	}
	for id, entry := range catalog.Nodes {
		if _, seen := n.gossip.Node(id); !seen {
			peer := cluster.Node{ID: id, Name: entry.Name, Role: entry.Role, Zone: entry.Zone, State: cluster.StateDead}
			s.Nodes = append(s.Nodes, n.nodeStatus(catalog, peer))
		}
	}
	slices.SortFunc(s.Nodes, func(a, b protocol.NodeStatus) int { return cmp.Compare(a.Name, b.Name) })
	reports := n.reports(ctx)
	noteKeys(s.Nodes, reports)
	leader, replicas := n.merge(reports, metaGroup)
	s.Meta = protocol.MetaStatus{Leader: leader, Replicas: replicas}
	for id := range catalog.Partitions {
		leader, replicas := n.merge(reports, groupOf(uint16(id)))
		s.Partitions = append(s.Partitions, protocol.PartitionStatus{ID: uint16(id), Leader: leader, Replicas: replicas})
	}
	return s
}

func (n *Node) nodeStatus(catalog *broker.Catalog, peer cluster.Node) protocol.NodeStatus {
	state := peer.State
	if state.Alive() && (catalog.Nodes[peer.ID].Leaving || n.draining.has(peer)) {
		state = cluster.StateDraining
	}
	return protocol.NodeStatus{
		ID: peer.ID, Name: peer.Name, State: string(state), Role: peer.Role, Zone: peer.Zone,
		ClientAddr: peer.ClientAddr, PeerAddr: peer.PeerAddr, GossipAddr: peer.GossipAddr,
		Version: peer.Version, Started: peer.Started.UTC(),
	}
}

// reports asks every living node, this one included. The replicas of one that
// does not answer show no position, which is the truth about what is known.
func (n *Node) reports(ctx context.Context) []report {
	all := []report{n.report()}
	for _, answer := range n.askAll(ctx, statusTimeout, methodReport, nil) {
		var r report
		if json.Unmarshal(answer, &r) == nil {
			all = append(all, r)
		}
	}
	return all
}

// noteKeys says of each node that answered which cluster keys it has.
func noteKeys(nodes []protocol.NodeStatus, reports []report) {
	for i := range nodes {
		for _, r := range reports {
			if r.Node == nodes[i].ID {
				nodes[i].ClusterKeys = r.Keys
			}
		}
	}
}

// leaderReport is what the newest leader of a group says of it.
func leaderReport(reports []report, group uint16) (best groupReport, led bool) {
	for _, r := range reports {
		for _, g := range r.Groups {
			if g.Group == group && g.Leader == r.Node && g.Term > best.Term {
				best, led = g, true
			}
		}
	}
	return best, led
}

// merge takes the newest leader's word for who the replicas are, and each
// replica's own for its position.
func (n *Node) merge(reports []report, group uint16) (leader string, replicas []protocol.ReplicaStatus) {
	replicas = []protocol.ReplicaStatus{}
	own := map[string]groupReport{}
	var best groupReport
	for _, r := range reports {
		for _, g := range r.Groups {
			if g.Group != group {
				continue
			}
			own[r.Node] = g
			if len(g.Replicas) > 0 && (g.Term > best.Term || g.Term == best.Term && g.Leader == r.Node) {
				best = g
			}
		}
	}
	for _, r := range best.Replicas {
		replicas = append(replicas, protocol.ReplicaStatus{Node: n.nodeName(r.Node), Voter: r.Voter, Current: own[r.Node].Current, Position: own[r.Node].Position, LagMS: r.LagMS})
	}
	if best.Leader != "" && n.reachable(best.Leader) {
		leader = n.nodeName(best.Leader)
	}
	slices.SortFunc(replicas, func(a, b protocol.ReplicaStatus) int { return cmp.Compare(a.Node, b.Node) })
	return leader, replicas
}
