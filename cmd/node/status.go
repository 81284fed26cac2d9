package node

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/pushd/pushd/protocol"
	"github.com/pushd/pushd/raftstore"
)

// report is how one node's replicas are, as that node sees them.
type report struct {
	Node   string        `json:"node"` // id
	Groups []groupReport `json:"groups"`
}

type groupReport struct {
	Group    uint16          `json:"group"`
	Term     uint64          `json:"term"`
	Leader   string          `json:"leader"` // node id, "" if unknown
	Position uint64          `json:"position"`
	Replicas []replicaReport `json:"replicas"`
}

type replicaReport struct {
	Node  string `json:"node"` // id
	Voter bool   `json:"voter"`
	LagMS int64  `json:"lag_ms"` // known to the leader alone
}

// report describes this node's open groups.
func (n *Node) report() report {
	r := report{Node: n.home.NodeID}
	r.Groups = append(r.Groups, describe(n.metaGroup, n.home.NodeID, n.metaGroup.Applied()))
	for _, p := range n.groups.ids() {
		if g, ok := n.groups.get(p); ok {
			r.Groups = append(r.Groups, describe(g.Group, n.home.NodeID, n.broker.Position(p)))
		}
	}
	return r
}

func describe(g *raftstore.Group, self string, position uint64) groupReport {
	leader, _ := g.Leader()
	r := groupReport{Group: g.ID(), Term: g.Term(), Leader: leader, Position: position}
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
		s.Nodes = append(s.Nodes, protocol.NodeStatus{
			ID: peer.ID, Name: peer.Name, State: string(peer.State), Role: peer.Role, Zone: peer.Zone,
			ClientAddr: peer.ClientAddr, PeerAddr: peer.PeerAddr, GossipAddr: peer.GossipAddr,
			Version: peer.Version, Started: peer.Started.UTC(),
		})
	}
	slices.SortFunc(s.Nodes, func(a, b protocol.NodeStatus) int { return cmp.Compare(a.Name, b.Name) })
	reports := n.reports(ctx)
	leader, replicas := n.merge(reports, metaGroup)
	s.Meta = protocol.MetaStatus{Leader: leader, Replicas: replicas}
	for id := range catalog.Partitions {
		leader, replicas := n.merge(reports, groupOf(uint16(id)))
		s.Partitions = append(s.Partitions, protocol.PartitionStatus{ID: uint16(id), Leader: leader, Replicas: replicas})
	}
	return s
}

// reports asks every living node, this one included.
func (n *Node) reports(ctx context.Context) []report {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	var (
		mu  sync.Mutex // guards all
		all = []report{n.report()}
		wg  sync.WaitGroup
	)
	for _, peer := range n.gossip.Nodes() {
		if peer.ID == n.home.NodeID || !peer.State.Alive() {
			continue
		}
		wg.Go(func() {
			answer, err := n.link.Call(ctx, peer.ID, methodReport, nil)
			var r report
			if err != nil || json.Unmarshal(answer, &r) != nil {
				return // its replicas show no position, which is the truth about what is known
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, r)
		})
	}
	wg.Wait()
	return all
}

// merge takes the newest leader's word for who the replicas are, and each
// replica's own for its position.
func (n *Node) merge(reports []report, group uint16) (leader string, replicas []protocol.ReplicaStatus) {
	replicas = []protocol.ReplicaStatus{}
	positions := map[string]uint64{}
	var best groupReport
	for _, r := range reports {
		for _, g := range r.Groups {
			if g.Group != group {
				continue
			}
			positions[r.Node] = g.Position
			if len(g.Replicas) > 0 && (g.Term > best.Term || g.Term == best.Term && g.Leader == r.Node) {
				best = g
			}
		}
	}
	for _, r := range best.Replicas {
		replicas = append(replicas, protocol.ReplicaStatus{Node: n.nodeName(r.Node), Voter: r.Voter, Position: positions[r.Node], LagMS: r.LagMS})
	}
	if best.Leader != "" && n.reachable(best.Leader) {
		leader = n.nodeName(best.Leader)
	}
	slices.SortFunc(replicas, func(a, b protocol.ReplicaStatus) int { return cmp.Compare(a.Node, b.Node) })
	return leader, replicas
}
