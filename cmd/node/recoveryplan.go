package node

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/protocol"
	"github.com/pushd/pushd/raftstore"
)

// NodeName is a node by both its names.
type NodeName struct {
	ID   string `json:"id"`
	Name string `json:"node"`
}

// Inspection is what a node that does not run has. All survivors' together decide
// which of them each group carries on from.
type Inspection struct {
	NodeName
	Role       string     `json:"role"`
	ClusterID  string     `json:"cluster_id"`
	Nodes      []NodeName `json:"nodes"` // of the cluster, as this one knows it
	Catalog    Held       `json:"catalog"`
	Partitions []Held     `json:"partitions"` // by number
}

// Held is what a node has of a group; the zero value is nothing.
type Held struct {
	Index    uint64    `json:"index"` // of the newest entry
	Term     uint64    `json:"term"`  // of that entry
	Newest   time.Time `json:"newest,omitzero"`
	Replicas []string  `json:"replicas"`          // ids of the nodes that share the group, as far as this one knows
	Damaged  bool      `json:"damaged,omitempty"` // what there is can't be trusted, and counts as nothing
}

func (h Held) survey() raftstore.Survey { return raftstore.Survey{Index: h.Index, Term: h.Term} }

// RecoveryPlan is what a recovery does, and the record of it.
type RecoveryPlan struct {
	Was        string          `json:"was"`        // the cluster's id before
	ClusterID  string          `json:"cluster_id"` // and behind it
	Survivors  []NodeName      `json:"survivors"`
	GivenUp    []NodeName      `json:"given_up"`
	Catalog    NodeName        `json:"catalog_from"`
	Partitions []PartitionFrom `json:"partitions"`
	Lost       []uint16        `json:"lost"` // partitions that no survivor has
	Begun      time.Time       `json:"begun,omitzero"`
	Finished   time.Time       `json:"finished,omitzero"`
}

// PartitionFrom says which survivor's replica a partition carries on from.
type PartitionFrom struct {
	Partition uint16    `json:"partition"`
	From      NodeName  `json:"from"`
	Newest    time.Time `json:"newest,omitzero"` // of its newest event
	Lost      bool      `json:"lost"`            // begun anew, empty
}

// planRecovery decides for all survivors, whichever of them asks: from the same
// inspections follows the same plan.
func planRecovery(all []Inspection) (RecoveryPlan, error) {
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b Inspection) int { return strings.Compare(a.ID, b.ID) })
	all = slices.CompactFunc(all, func(a, b Inspection) bool { return a.ID == b.ID }) // its own is often given, too
	best := all[0]
	for _, in := range all {
		if in.ClusterID != all[0].ClusterID {
			return RecoveryPlan{}, fmt.Errorf("node %s belongs to cluster %s, node %s to %s; only nodes of one cluster can be recovered together", in.Name, in.ClusterID, all[0].Name, all[0].ClusterID)
		}
		if in.Catalog.survey().After(best.Catalog.survey()) {
			best = in
		}
	}
	plan := RecoveryPlan{Was: best.ClusterID, ClusterID: protocol.RecoveredID(best.ClusterID, markOf(all)), Catalog: best.NodeName, Lost: []uint16{}, GivenUp: []NodeName{}}
	for _, in := range all {
		plan.Survivors = append(plan.Survivors, in.NodeName)
	}
	for _, n := range best.Nodes {
		if !slices.ContainsFunc(plan.Survivors, func(s NodeName) bool { return s.ID == n.ID }) {
			plan.GivenUp = append(plan.GivenUp, n)
		}
	}
	full := slices.IndexFunc(all, func(in Inspection) bool { return in.Role != roleEdge })
	if full < 0 {
		return plan, errors.New("only nodes of the role edge have survived, which hold no events; found a new cluster instead")
	}
	for p := range best.Partitions {
		plan.Partitions = append(plan.Partitions, fromBest(uint16(p), all, all[full].NodeName))
		if plan.Partitions[p].Lost {
			plan.Lost = append(plan.Lost, uint16(p))
		}
	}
	return plan, nil
}

// fromBest chooses the replica that has most, by Raft's own rule.
func fromBest(p uint16, all []Inspection, otherwise NodeName) PartitionFrom {
	from := PartitionFrom{Partition: p, From: otherwise, Lost: true}
	var most Held
	for _, in := range all {
		if int(p) < len(in.Partitions) && in.Partitions[p].survey().After(most.survey()) {
			most = in.Partitions[p]
			from = PartitionFrom{Partition: p, From: in.NodeName, Newest: most.Newest}
		}
	}
	return from
}

// markOf tells this recovery from any other of the cluster: two survivors that are
// recovered one without the other must never meet as one cluster.
func markOf(all []Inspection) string {
	all = slices.Clone(all)
	for i := range all { // the node itself puts damage aside before it looks
		all[i].Partitions = slices.Clone(all[i].Partitions)
		for p := range all[i].Partitions {
			all[i].Partitions[p].Damaged = false
		}
	}
	text, err := json.Marshal(all)
	if err != nil {
		panic("node: encoding inspections: " + err.Error())
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:4])
}

// catalogChange is what the plan is for the catalog.
func (p *RecoveryPlan) catalogChange() broker.Recover {
	c := broker.Recover{ClusterID: p.ClusterID}
	for _, n := range p.Survivors {
		c.Survivors = append(c.Survivors, n.ID)
	}
	for _, part := range p.Partitions {
		c.Partitions = append(c.Partitions, []string{part.From.ID})
	}
	return c
}

// recoveryFile is where the plan for a cluster's id is kept.
func recoveryFile(clusterID string) string {
	_, number := protocol.Recoveries(clusterID)
	return fmt.Sprintf("recovery-%d.json", number)
}

func (p *RecoveryPlan) write(h *home) error {
	text, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the recovery's record: %w", err)
	}
	return writeDurably(h.path(recoveryFile(p.ClusterID)), append(text, '\n'))
}

// begun reads the plan of a recovery that was cut short.
func (r *rest) begun() (plan RecoveryPlan, err error) {
	path := r.home.path(recoveryFile(r.home.Recovering))
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, &plan)
	}
	if err != nil || plan.ClusterID != r.home.Recovering {
		return plan, fmt.Errorf("a recovery was begun here, and its record %s is no use (%v); put the data directory back from a backup", path, err)
	}
	return plan, nil
}

// newest finds the time of a partition's newest entry.
type newest int64

// Apply looks at entries.
func (n *newest) Apply(entries []raftstore.Entry) []any {
	for _, e := range entries {
		*n = max(*n, newest(broker.EntryTime(e.Data)))
	}
	return nil
}

// Restore looks at a snapshot.
func (n *newest) Restore(state io.Reader, _ string) error {
	at, err := broker.StateTime(bufio.NewReader(state))
	*n = newest(at)
	return err
}
